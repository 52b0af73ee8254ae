"""What lies where the bell should hang: nobody's file is written to,
and commits are noticed all the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite import bell as _sqlite_bell
from tests.helpers.sqlite.sqlite_tools import copy, finish, process, put

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

CONTENT = b"dear to somebody"
IN_THE_PLACE: dict[str, Callable[[Path, Path], object]] = {
    "hard link": lambda bell, dear: os.link(dear, bell),
    "symbolic link": lambda bell, dear: bell.symlink_to(dear),
    "dangling link": lambda bell, dear: bell.symlink_to(dear.with_name("nothing")),
    "file": lambda bell, dear: bell.write_bytes(CONTENT),
    "long file": lambda bell, dear: bell.write_bytes(b"!".ljust(1000)),
    "directory": lambda bell, dear: bell.mkdir(),
    "pipe": lambda bell, dear: os.mkfifo(bell),
}


@pytest.mark.parametrize("kind", IN_THE_PLACE)
def test_what_is_no_bell_is_left_alone(
    make: Make, run: Run, path: Path, library: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    _sqlite_bell._say_once.cache_clear()
    bell, dear = Path(f"{path}-bell"), path.with_name("dear")
    dear.write_bytes(CONTENT)
    dear.chmod(0o640)
    IN_THE_PLACE[kind](bell, dear)
    before = bell.lstat()

    async def main() -> None:
        source = make()
        made = await copy(source)
        await put(source, a=b"1")
        await made.reach(1)
        finish(process(path, library, "await source.commit([Put('b', b'2')])"))
        await made.reach(2)
        assert set(made.data) == {"a", "b"}
        await made.session.aclose()
        await source.aclose()

    run(main())
    after = bell.lstat()
    assert (after.st_ino, after.st_mode, after.st_size, after.st_mtime_ns) == (
        before.st_ino, before.st_mode, before.st_size, before.st_mtime_ns,
    )  # fmt: skip
    assert dear.read_bytes() == CONTENT
    assert stat.S_IMODE(dear.stat().st_mode) == 0o640
    assert not dear.with_name("nothing").exists()
    said = [
        record.getMessage()
        for record in caplog.records
        if "not a bell of datasync" in record.getMessage()
    ]
    assert len(said) == 1
    assert str(bell) in said[0]


def test_the_store_is_not_its_own_bell(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        source = make()
        await put(source, a=b"1")
        await source.aclose()
        Path(f"{path}-bell").unlink()
        os.link(path, f"{path}-bell")
        source = make()
        assert await source.get("a") == (b"1", 1)
        assert await put(source, a=b"2") == 2
        await source.aclose()
        source = make()
        assert await source.get("a") == (b"2", 2)
        await source.aclose()

    run(main())
