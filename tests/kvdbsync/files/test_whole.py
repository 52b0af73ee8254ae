"""A file is read as a whole, or not at all."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from datasync.kvdbsync.files.place import mark_of
from datasync.kvdbsync.files.whole import BeingWritten, read_whole


@pytest.fixture
def file(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "net.yaml"
    path.write_text("mtu: 1500\n")
    return str(path)


def test_what_nobody_writes_is_read(file: str) -> None:
    with open(file, "rb"):
        assert read_whole(file, mark_of(os.stat(file))) == b"mtu: 1500\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who writes a file")
@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_what_somebody_has_open_for_writing_is_not(file: str, mode: str) -> None:
    program = f"file = open({file!r}, {mode!r}); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(BeingWritten):
            read_whole(file, mark_of(os.stat(file)))
        writer.communicate(b"\n")
    assert read_whole(file, mark_of(os.stat(file))) == b"mtu: 1500\n"


def test_what_differs_from_what_was_looked_at_is_not(file: str) -> None:
    mark = mark_of(os.stat(file))
    pathlib.Path(file).write_text("mtu: 9000\n")
    with pytest.raises(BeingWritten):
        read_whole(file, mark)


def test_what_is_no_file_is_an_error_and_hangs_nobody(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_whole(str(tmp_path / "pipe"), ())
