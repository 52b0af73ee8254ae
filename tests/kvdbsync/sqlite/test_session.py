"""Sessions: snapshot and follow, resume, added scopes, pruning, slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync.errors import Disconnected, HistoryLost
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite.driver import Connection
from datasync.source import (
    Commit,
    Delete,
    Frame,
    Progress,
    Put,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)
from tests.helpers.sqlite.sqlite_tools import (
    DEADLINE,
    Copy,
    copy,
    finish,
    process,
    put,
    stored,
    until,
)

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_snapshot_then_the_changes_behind_it(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await put(source, a__x=b"1", b__y=b"2")
        made = await copy(source, "a/")
        assert made.data == {"a/x": (b"1", 1)}
        assert await put(source, a__x=b"3", a__z=b"4", b__y=b"5") == 2
        await source.commit([Delete("a/x")])
        await made.reach(3)
        assert [(c.revision, c.changes) for c in made.commits] == [
            (2, [("a/x", b"3"), ("a/z", b"4")]),
            (3, [("a/x", None)]),
        ]
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_what_is_out_of_scope_moves_the_position(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        made = await copy(source, "a/", "key")
        await put(source, b__y=b"2", keyed=b"no")
        await made.reach(1)
        assert isinstance(made.frames[-1], Progress)
        assert not made.commits
        await put(source, key=b"yes")
        await made.reach(2)
        assert made.data == {"key": (b"yes", 2)}
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_overlapping_scopes_and_many_chunks(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put(f"a/b/{number:05}", b"%d" % number) for number in range(5000)])
        await put(source, a__c=b"", b__x=b"", other=b"", ax=b"")
        made = await copy(source, "a/b/", "a/", "a/c", "other", "missing")
        assert len([f for f in made.frames if isinstance(f, SnapshotChunk)]) > 2
        assert set(made.data) == {"a/c", "other"} | {f"a/b/{number:05}" for number in range(5000)}
        assert made.data["a/b/00001"] == (b"1", 1)
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_resume_continues_behind_the_position(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await put(source, a__x=b"1")
        made = await copy(source, "a/")
        await made.session.aclose()
        for number in range(1500):
            await put(source, a__x=b"%d" % number)
        kept = json.loads(json.dumps(made.position))
        again = await copy(source, "a/", resume=kept)
        await again.reach(1501)
        assert [commit.revision for commit in again.commits] == list(range(2, 1502))
        assert not any(isinstance(frame, SnapshotBegin) for frame in again.frames)
        await again.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize("included", [True, False])
def test_added_scopes_come_in_their_place(make: Make, run: Run, included: bool) -> None:
    async def main() -> None:
        source = make()
        await put(source, a__x=b"1", b__x=b"1")
        made = await copy(source, "a/")
        await made.session.aclose()
        await put(source, a__x=b"2", b__x=b"2")
        await put(source, a__x=b"3")
        again = await copy(
            source, *(["a/", "b/"] if included else ["a/"]), resume=made.position, added=["b/"]
        )
        kinds = [type(frame) for frame in again.frames]
        assert kinds == [Commit, Commit, SnapshotBegin, SnapshotChunk, SnapshotEnd]
        assert again.commits[0].changes == [("a/x", b"2")]
        assert again.data == {"a/x": (b"3", 3), "b/x": (b"2", 2)}
        await put(source, a__x=b"4", b__x=b"4")
        await again.reach(4)
        assert again.data == {"a/x": (b"4", 4), "b/x": (b"4", 4)}
        await again.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize(
    "position",
    ["nonsense", ["other", 0, 1], 5, [1, 2], ["x", None, None], ["x", 1e999, 0], ["x", -1, 0]],
)
def test_a_foreign_position_is_another_history(make: Make, run: Run, position: Any) -> None:
    async def main() -> None:
        source = make()
        await put(source, a__x=b"1")
        with pytest.raises(HistoryLost) as lost:
            await source.open([""], position)
        assert lost.value.changed
        await source.aclose()

    run(main())


def test_a_position_that_was_pruned(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make(keep=100)
        made = await copy(source, "")
        await made.session.aclose()
        for _ in range(20):
            await asyncio.gather(
                *(source.commit([Put(f"k{number}", b"v")]) for number in range(50))
            )
        with pytest.raises(HistoryLost, match="pruned") as lost:
            await source.open([""], made.position)
        assert not lost.value.changed
        # what is kept can be resumed from
        newer = await copy(source, "")
        await asyncio.gather(*(source.commit([Put(f"k{number}", b"w")]) for number in range(50)))
        await newer.session.aclose()
        again = await copy(source, "", resume=newer.position)
        await again.reach(1050)
        await again.session.aclose()
        await source.aclose()

    run(main())


def test_the_log_is_bounded_in_bytes(make: Make, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        source = make()
        for _ in range(40):
            await put(source, k=b"x" * 500_000)
        file = source._file
        assert file is not None
        rows = await file.follower.call(
            lambda connection: connection.all("SELECT count(*), sum(length(changes)) FROM log")
        )
        assert rows[0][0] < 12
        assert rows[0][1] < 6_000_000
        await source.aclose()

    monkeypatch.setattr(
        "datasync.kvdbsync.sqlite.store.Transactions.__init__.__defaults__", (4_000_000,)
    )
    run(main())


def test_a_damaged_log_costs_a_snapshot(make: Make, run: Run, path: Path) -> None:
    """Trying the same position again would end in the same way for ever."""

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        await made.session.aclose()
        for value in (b"1", b"2", b"3"):
            await put(source, k=value)
        await source.aclose()
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("UPDATE log SET changes = x'c1' WHERE revision = 2")
            other.commit()
        source = make()
        again = await copy(source, "", resume=made.position)
        with pytest.raises(HistoryLost, match=r"revision 2 .*damaged") as lost:
            await again.reach(3)
        await again.session.aclose()
        assert not lost.value.changed
        made = await copy(source, "")
        await put(source, k=b"4")
        await made.reach(4)
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_what_is_out_of_scope_does_not_fill_the_memory_either(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        slow, quick = await copy(source, "a/"), await copy(source, "")
        for _ in range(60):
            await source.commit([Put("b/big", b"x" * 1_000_000)])
        await quick.reach(60)
        session: Any = slow.session
        assert len(session._waiting) < 20
        await put(source, a__x=b"1")
        await slow.reach(61)
        assert slow.data == {"a/x": (b"1", 61)}
        await slow.session.aclose()
        await quick.session.aclose()
        await source.aclose()

    run(main())


def test_a_session_that_nobody_reads_is_not_read_for(make: Make, run: Run) -> None:
    """What waits for it is bounded, and it still gets everything, or is told that it was pruned."""

    async def main() -> None:
        source = make()
        slow, quick = await copy(source, ""), await copy(source, "")
        for _ in range(60):
            await source.commit([Put("big", b"x" * 1_000_000)])
        await quick.reach(60)
        session: Any = slow.session
        assert 0 < sum(size for _, size, _ in session._waiting) < 20_000_000
        await slow.reach(60)
        assert [commit.revision for commit in slow.commits] == list(range(1, 61))
        await slow.session.aclose()
        await quick.session.aclose()
        await source.aclose()

    run(main())


def test_a_snapshot_is_read_as_it_is_taken(make: Make, run: Run) -> None:
    """Some chunks ahead, portion by portion, and others have their turn of the loop in between."""

    async def main() -> None:
        source = make()
        await source.commit([Put(f"k/{number:06}", b"v") for number in range(60_000)])
        session: Any = await source.open([""])
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        portions, ahead = [], 0
        async for frames in session:
            portions.append(sum(len(f.items) for f in frames if isinstance(f, SnapshotChunk)))
            ahead = max(ahead, len(session._waiting))
            if isinstance(frames[-1], SnapshotEnd):
                break
        counting.cancel()
        assert sum(portions) == 60_000
        assert max(portions) <= 2_000
        assert ahead <= 10
        assert turns >= len(portions) - 1
        await session.aclose()
        await source.aclose()

    run(main())


def test_a_snapshot_that_nobody_takes_is_read_all_the_same(make: Make, run: Run) -> None:
    """It is held in memory then, for an open read would let the WAL grow."""

    async def main() -> None:
        source = make()
        await source.commit([Put(f"k/{number:06}", b"v") for number in range(60_000)])
        session: Any = await source.open([""])
        await until(session._reading.done)
        made = Copy(session)
        while made.revision is None:
            await made.step()
        assert len(made.data) == 60_000
        await session.aclose()
        await source.aclose()

    run(main())


def test_a_slow_reader_that_was_overtaken_by_pruning(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make(keep=64)
        slow = await copy(source, "")
        for _ in range(40):
            await source.commit([Put("big", b"x" * 1_000_000)])
        file = source._file
        assert file is not None

        def first(connection: Connection) -> int:
            return int(connection.all("SELECT min(revision) FROM log")[0][0])

        async with asyncio.timeout(DEADLINE):
            while await file.follower.call(first) <= 40:
                last = await put(source, small=b"x")
        assert last < 1_000
        with pytest.raises(HistoryLost) as lost:
            await slow.reach(last)
        assert not lost.value.changed
        await slow.session.aclose()
        await source.aclose()

    run(main())


def test_many_sessions_at_different_places(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        copies: list[Copy] = []
        for number in range(10):
            await put(source, **{f"k{number}": b"v"})
            copies.append(await copy(source, ""))
        await put(source, last=b"v")
        expected = await stored(source)
        for made in copies:
            await made.reach(11)
            assert made.data == expected
            await made.session.aclose()
        await source.aclose()

    run(main())


def test_closing_ends_the_iteration_and_may_come_twice(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        session = await source.open([""])
        brought: list[Frame] = []

        async def read() -> None:
            async for frames in session:
                brought.extend(frames)

        reading = asyncio.create_task(read())
        await until(lambda: any(isinstance(frame, SnapshotEnd) for frame in brought))
        await asyncio.gather(session.aclose(), session.aclose())
        await asyncio.wait_for(reading, 60)
        await session.aclose()
        await source.aclose()

    run(main())


def test_opening_may_be_cancelled_at_any_time(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put(f"k{number}", b"v") for number in range(10_000)])
        for turns in range(30):
            opening = asyncio.create_task(source.open([""]))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await opening).aclose()
        await source.aclose()

    run(main())


def test_an_open_session_outlives_its_source(make: Make, run: Run) -> None:
    """A source may serve two DataSyncs; the first one to close must not end the
    session of the other.
    """

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        await source.aclose()
        await put(source, a=b"1")
        await made.reach(1)
        await made.session.ping()
        await source.aclose()
        await made.session.aclose()

    run(main())


OTHERS = """
for n in range(30):
    await source.commit([Put("other/%d" % n, b"v")])
"""


def test_caught_up_means_with_other_processes_too(
    make: Make, run: Run, path: Path, library: str
) -> None:
    async def main() -> None:
        source = make(inotify=False)
        made = await copy(source, "")

        async def follow() -> None:
            while True:
                await made.step()

        following = asyncio.create_task(follow())
        for turn in range(5):
            await asyncio.to_thread(finish, process(path, library, OTHERS))
            await made.session.caught_up()
            assert made.revision == 30 * (turn + 1)
        await made.session.caught_up()
        # who waits while nobody takes over anything hears of the end
        following.cancel()
        await asyncio.wait([following])
        await put(source, last=b"1")
        waiting = asyncio.create_task(made.session.caught_up())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await made.session.aclose()
        with pytest.raises(Disconnected):
            await waiting
        await source.aclose()

    run(main())


def test_under_uvloop(make: Make) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        await asyncio.gather(*(source.commit([Put(f"k{number}", b"v")]) for number in range(200)))
        await made.reach(200)
        assert made.data == await stored(source)
        await made.session.aclose()
        await source.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
