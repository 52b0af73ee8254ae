"""Commits within the event loop: only while they are quick, and as durable as those of the thread."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite.jobs import Job
from datasync.kvdbsync.sqlite.pace import Pace, Place
from datasync.source import Delete, Put
from tests.helpers.sqlite.sqlite_tools import (
    DEADLINE,
    copy,
    finish,
    line,
    process,
    put,
    stored,
    until,
    within_loop,
)

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

SLOW = 0.25
"""Seconds that a commit takes at least on the slow disk, where each of its writes takes 50 ms."""


def writer_of(source: SqliteSource) -> Any:
    file = source._file
    assert file is not None
    return file.writer


def test_a_quick_commit_takes_no_turn_of_the_loop(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await within_loop(source)
        job = writer_of(source).submit([Put("k", b"v")], 1)
        assert job.future.done()
        assert await source.get("k") == (b"v", job.future.result().revision)
        await source.aclose()

    run(main())


def test_callers_of_one_turn_share_a_commit(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        writer = writer_of(await within_loop(source))
        groups: list[int] = []
        write = writer._write_at_once

        def noting(jobs: list[Job]) -> bool:
            groups.append(len(jobs))
            done: bool = write(jobs)
            return done

        writer._write_at_once = noting

        async def caller(own: int) -> None:
            for turn in range(10):
                await source.commit([Put(f"{own}/{turn}", b"v")])

        async with asyncio.timeout(DEADLINE):
            while max(groups, default=0) <= 10:  # a slow one in between has the thread take over
                writer._pace.place = Place.LOOP
                await asyncio.gather(*(caller(own) for own in range(20)))
        assert len(await stored(source, "1")) == 110
        await source.aclose()

    run(main())


def test_one_after_the_other_lets_the_loop_turn(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await within_loop(source)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        for n in range(1_000):
            await source.commit([Put("k", b"%d" % n)])
        counting.cancel()
        assert turns > 5
        await source.aclose()

    run(main())


@pytest.mark.parametrize(
    "operations",
    [
        [Put(f"k/{n}", b"v") for n in range(300)],
        [Put("k", b"v" * 100_000)],
        [Delete("k/", prefix=True)],
    ],
    ids=["many", "big", "prefix"],
)
def test_what_may_take_long_is_the_threads(make: Make, run: Run, operations: list[Any]) -> None:
    async def main() -> None:
        source = make()
        writer = writer_of(await within_loop(source))
        writer._write_at_once = None  # it would raise
        await source.commit(operations)
        await source.aclose()

    run(main())


LOCK = """
import apsw, sqlite3
holder = (
    apsw.Connection(path) if library == "apsw" else sqlite3.connect(path, isolation_level=None)
)
holder.execute("BEGIN IMMEDIATE")
say("locked")
sys.stdin.read(1)
holder.execute("ROLLBACK")
"""


def test_the_lock_of_another_process_does_not_hold_the_loop(
    make: Make, run: Run, path: Path, library: str
) -> None:
    async def main() -> None:
        source = make(lock_timeout=600)
        await put(source, k=b"0")
        holder = process(path, library, LOCK, stdin=subprocess.PIPE)
        assert await line(holder) == "locked"
        writer = writer_of(source)
        writer._pace.place = Place.LOOP
        writing = asyncio.create_task(put(source, k=b"1"))
        await until(lambda: writer._pace.place is Place.THREAD)
        await asyncio.sleep(0)
        assert not writing.done()
        await asyncio.to_thread(holder.communicate, "\n", DEADLINE)
        async with asyncio.timeout(DEADLINE):
            assert await writing == 2
        await source.aclose()

    run(main())


def test_the_wal_is_written_back_all_the_same(make: Make, run: Run, path: Path) -> None:
    """Checkpoints and the pruning of the log are the thread's, which is asked for them in time."""

    async def main() -> None:
        source = make(keep=100)
        await within_loop(source)
        for n in range(4_000):
            await source.commit([Put(f"k/{n % 50}", b"v" * 5_000)])
        assert os.stat(f"{path}-wal").st_size < 40 << 20  # all of it is 60 MiB
        file = source._file
        assert file is not None
        entries = await file.follower.call(
            lambda connection: connection.all("SELECT count(*) FROM log")[0][0]
        )
        assert entries < 2_000
        await source.aclose()

    run(main())


def test_a_session_follows_what_is_committed_within_the_loop(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await within_loop(source)
        made = await copy(source, "")
        for n in range(500):
            last = await put(source, **{f"k{n % 7}": b"%d" % n})
        await made.reach(last)
        assert made.data == await stored(source)
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_ctrl_c_in_the_middle_of_a_commit(make: Make, run: Run) -> None:
    """It goes through to its caller, nothing is left begun, and the next commit is the next one."""

    async def main() -> None:
        source = make()
        writer = writer_of(await within_loop(source))
        before = await put(source, k=b"0")
        connection = writer._committer._connection
        statement = connection.run

        def interrupted(sql: str, args: Any = ()) -> Any:
            if sql == "COMMIT":
                raise KeyboardInterrupt
            return statement(sql, args)

        connection.run = interrupted
        writer._pace.place = Place.LOOP
        with pytest.raises(KeyboardInterrupt):
            writer.submit([Put("k", b"never")], 5)
        connection.run = statement
        assert not connection.in_transaction()
        assert await source.get("k") == (b"0", before)
        assert await put(source, k=b"1") == before + 1
        await source.aclose()

    run(main())


ON_A_SLOW_DISK = """
import json, time
flag, sync = sys.argv[3:5]
source = SqliteSource(path, library=library, sync=sync)
await source.commit([])
writer = source._file.writer
place = lambda: writer._pace.place.value
while place() != "loop":
    await source.commit([Put("k", b"v")])
holds, write = [], writer._write_at_once
def noting(jobs):
    start = time.monotonic()
    done = write(jobs)
    holds.append((start, time.monotonic() - start))
    return done
writer._write_at_once = noting
open(flag, "w").close()
begun, commits = time.monotonic(), 0
while time.monotonic() < begun + 3:
    await source.commit([Put("k", b"v")])
    commits += 1
os.unlink(flag)
slow = [hold for hold in holds if hold[1] > 0.04]
begun = time.monotonic()
while place() != "loop":
    assert time.monotonic() < begun + 30, "never again within the loop"
    await source.commit([Put("k", b"v")])
say(json.dumps([slow, commits, (await source.get("k"))[1]]))
await source.aclose()
"""


@pytest.fixture(scope="module")
def slow_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload, compiled now."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler, such as that of: apt install gcc")
    code = Path(__file__).parents[2] / "helpers" / "sqlite" / "slow_disk.c"
    built = tmp_path_factory.mktemp("slow") / "slow_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, code, "-ldl"], check=True)
    return built


@pytest.mark.parametrize(("calls", "sync"), [("write", "normal"), ("sync", "full")])
def test_a_slow_disk_holds_the_loop_once_a_second_at_most(
    path: Path, library: str, tmp_path: Path, slow_disk: Path, calls: str, sync: str
) -> None:
    flag = tmp_path / "slow"
    env = {
        "LD_PRELOAD": str(slow_disk),
        "SLOW_DISK_FLAG": str(flag),
        "SLOW_DISK_CALLS": calls,
    }
    slow, commits, _ = json.loads(
        finish(process(path, library, ON_A_SLOW_DISK, flag, sync, env=env)).splitlines()[-1]
    )
    # the first one finds it out
    assert slow
    assert commits > len(slow)
    for (one, took), (other, _) in itertools.pairwise(slow):
        assert other - (one + took) >= 1.0


def test_the_pace() -> None:
    """The thread's commits prove that the disk is quick, one slow one within the loop that it is
    not; after some of them the thread tidies up."""
    pace = Pace()
    one: list[Any] = [SimpleNamespace(operations=[Put("k", b"v")], size=1)]

    def place() -> Place:
        return pace.place

    for _ in range(8):
        assert not pace.fits(one)
        pace.took_in_thread(0.001, 0.0)
    assert pace.fits(one)
    assert pace.fits_now(one[0])
    pace.took_within_loop(one, 0.003, 0.0)
    assert pace.fits(one)
    assert not pace.fits_now(one[0])  # the loop gets its turn
    pace.turned(1)
    assert pace.fits_now(one[0])
    pace.turned(2)
    assert not pace.fits_now(one[0])  # there are others

    for _ in range(510):
        pace.took_within_loop(one, 0.0001, 0.0)
        assert not pace.ends_round()
    pace.took_within_loop(one, 0.0001, 0.0)
    assert pace.ends_round()
    assert not pace.ends_round()

    pace.took_within_loop(one, 0.05, 10.0)
    assert place() is Place.THREAD
    for _ in range(20):
        pace.took_in_thread(0.001, 10.9)
        assert not pace.fits(one)
    pace.took_in_thread(0.001, 11.0)
    assert pace.fits(one)
    for _ in range(2):
        pace.took_within_loop(one, 0.006, 12.0)
        assert pace.fits(one)
    pace.took_within_loop(one, 0.006, 12.0)
    assert place() is Place.THREAD
