"""A full disk is called a full disk, and what is refused leaves nothing in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync.errors import Conflict
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.source import Check, Put
from tests.helpers.sqlite.sqlite_tools import put

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

FULL = """
import asyncio, os, sys
from datasync.errors import *
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.source import *
path, library = sys.argv[1:3]

async def fails(what, call):
    try:
        await call
    except DataSyncError as error:
        print(what, type(error).__name__, error, flush=True)
    else:
        print(what, "did not fail", flush=True)

def fill():
    with open(os.path.dirname(path) + "/ballast", "ab", 0) as ballast:
        for size in (65536, 512, 1):
            try:
                while ballast.write(b"x" * size) == size:
                    pass
            except OSError:
                pass

async def main():
    source = SqliteSource(path, library=library)
    await source.commit([Put("k", b"1")])
    await fails("commit", source.commit([Put("big", b"x" * 3_000_000)]))
    assert await source.get("k") == (b"1", 1)
    await fails("backup", source.backup(os.path.dirname(path) + "/" + "copy.db", lambda *_: fill()))
    fill()
    for n in range(1000):
        try:
            await source.commit([Put("k%d" % n, b"x" * 3000)])
        except DataSyncError as error:
            print("growth", type(error).__name__, error, flush=True)
            break
    other = SqliteSource(os.path.dirname(path) + "/new.db", library=library)
    await fails("open", other.commit([Put("k", b"1")]))
    await other.aclose()
    os.unlink(os.path.dirname(path) + "/ballast")
    while True:
        try:
            print("again", (await source.commit([Put("k", b"2")])).existed, flush=True)
            break
        except Disconnected as error:
            await asyncio.sleep(0.05)
    await source.aclose()

asyncio.run(main())
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, to mount a small disk"
)
def test_a_full_disk_is_called_one(tmp_path: Path, library: str) -> None:
    """Whatever needs space: a commit, the WAL and its index as they grow, a backup, a new store."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=2m none "$1" && shift && exec "$@"'
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        script,
        "sh",
        str(disk),
        sys.executable,
        "-W",
        "error",
        "-c",
        FULL,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*command, str(disk / "store.db"), library],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )
    if "mount" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr}")
    said = {words.split()[0]: words for words in done.stdout.splitlines()}
    assert set(said) == {"commit", "backup", "growth", "open", "again"}, done.stdout + done.stderr
    for what in ("commit", "backup", "growth", "open"):
        assert said[what].startswith(f"{what} Disconnected no space left for"), said[what]
    assert "copy.db" in said["backup"]


def test_what_is_refused_leaves_nothing(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"1")

        async def refused(number: int) -> None:
            for _ in range(number):
                with pytest.raises(Conflict):
                    await source.commit([Check("k", 7), Put("k", bytes(1000))])

        await refused(500)
        before = sys.getallocatedblocks()
        await refused(10_000)
        assert sys.getallocatedblocks() - before < 9_000  # not one for each
        assert not source._jobs
        await source.aclose()

    run(main())
