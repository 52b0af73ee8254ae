"""Closing beside writes and reads that wait on a store that hangs: nothing is begun afterwards,
and nobody waits.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync.errors import OutcomeUnknown, WatchClosed
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.source import Put
from tests.helpers.sqlite.sqlite_tools import DEADLINE, end, line, process, put, stored, until

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

LOCK = """
import contextlib, sqlite3
with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
    for statement in sys.argv[3:]:
        holder.execute(statement).fetchall()
    say("locked")
    sys.stdin.read(1)
"""


def open_files(path: Path) -> list[str]:
    """Those beside `path` that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if name.startswith(str(path)):
            found.append(name)
    return found


async def waiting(source: SqliteSource, key: str) -> asyncio.Task[Any]:
    """A write that the writer's thread has begun to wait for the lock with."""
    file = source._file
    assert file is not None
    writer: Any = file.writer
    begin = writer._begin
    asked = threading.Event()

    def noting(*args: Any) -> None:
        asked.set()
        begin(*args)

    writer._begin = noting
    task = asyncio.create_task(source.commit([Put(key, b"v")]))
    await until(asked.is_set)
    return task


def test_writes_that_wait_for_a_lock_are_never_carried_out(
    make: Make, run: Run, path: Path, library: str
) -> None:
    async def main() -> None:
        source = make(lock_timeout=600)
        await put(source, k=b"1")
        holder = process(path, library, LOCK, "BEGIN IMMEDIATE", stdin=subprocess.PIPE)
        await line(holder)
        writes = [await waiting(source, "first")]
        writes += [asyncio.create_task(source.commit([Put(f"k/{n}", b"v")])) for n in range(10)]
        await asyncio.sleep(0)
        began = time.monotonic()
        await source.aclose()
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert time.monotonic() - began < 4
        assert [type(outcome) for outcome in outcomes] == [WatchClosed] * 11
        assert "nothing was written" in str(outcomes[0])
        await until(lambda: not open_files(path))
        await asyncio.to_thread(holder.communicate, "\n", DEADLINE)
        again = make()
        assert set(await stored(again)) == {"k"}
        await again.aclose()

    run(main())


def test_others_that_share_the_file_still_get_theirs(
    make: Make, run: Run, path: Path, library: str
) -> None:
    async def main() -> None:
        source, other = make(lock_timeout=600), make(lock_timeout=600)
        await put(source, k=b"1")
        await put(other, k=b"2")
        holder = process(path, library, LOCK, "BEGIN IMMEDIATE", stdin=subprocess.PIPE)
        await line(holder)
        mine = await waiting(source, "mine")
        theirs = asyncio.create_task(other.commit([Put("theirs", b"v")]))
        await asyncio.sleep(0.01)
        await source.aclose()
        with pytest.raises(WatchClosed):
            await mine
        await asyncio.to_thread(holder.communicate, "\n", DEADLINE)
        await theirs
        assert set(await stored(other)) == {"k", "theirs"}
        await other.aclose()

    run(main())


def test_a_commit_that_hangs_is_told_as_unknown(make: Make, run: Run, path: Path) -> None:
    """As on a disk that does not answer."""

    async def main() -> None:
        source, other = make(), make()
        await put(source, k=b"1")
        await put(other, k=b"2")
        file = source._file
        assert file is not None
        writer: Any = file.writer
        statement = writer._committer._connection.run
        hangs, goes_on = threading.Event(), threading.Event()

        def hanging(sql: str, args: Any = ()) -> Any:
            if sql == "COMMIT":
                hangs.set()
                goes_on.wait(DEADLINE)
            return statement(sql, args)

        writer._committer._connection.run = hanging
        begun = asyncio.create_task(source.commit([Put("begun", b"v")]))
        await until(hangs.is_set)
        behind = asyncio.create_task(source.commit([Put("behind", b"v")]))
        await asyncio.sleep(0)
        began = time.monotonic()
        await source.aclose()
        outcomes = await asyncio.gather(begun, behind, return_exceptions=True)
        assert time.monotonic() - began < 4
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown, WatchClosed]
        goes_on.set()
        assert set(await stored(other)) <= {"k", "begun"}
        await put(other, last=b"v")
        assert set(await stored(other)) == {"k", "begun", "last"}
        await other.aclose()
        await until(lambda: not open_files(path))

    run(main())


def test_whoever_waits_for_the_file_to_open(make: Make, run: Run, path: Path, library: str) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"1")
        await source.aclose()
        statements = ("PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE", "SELECT * FROM kv")
        holder = process(path, library, LOCK, *statements, stdin=subprocess.PIPE)
        await line(holder)
        source = make(lock_timeout=600)
        calls = [
            asyncio.create_task(call)
            for call in (
                source.commit([Put("never", b"v")]),
                source.get("k"),
                source.page("", None, 10),
            )
        ]
        await until(lambda: source._file is not None and source._file._connections)
        began = time.monotonic()
        await source.aclose()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < 4
        assert [type(outcome) for outcome in outcomes] == [WatchClosed] * 3
        await until(lambda: not open_files(path))
        await asyncio.to_thread(end, holder)
        again = make()
        assert set(await stored(again)) == {"k"}
        await again.aclose()

    run(main())
