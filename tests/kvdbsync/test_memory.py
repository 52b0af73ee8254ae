"""The store in this process: the order of writers, its log, and the event loops that it meets."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import tracemalloc
import uuid
from typing import Any

import pytest

import datasync
from datasync import (
    DataSync,
    Event,
    HistoryLost,
    NotApplied,
    Refused,
    ResyncEvent,
    Verdict,
    WrongLoop,
)
from datasync.kvdbsync import memory
from datasync.kvdbsync.memory import MemorySource
from datasync.source import (
    Commit,
    Delete,
    Frame,
    Item,
    Operation,
    PushSession,
    Put,
    Session,
    SnapshotChunk,
    SnapshotEnd,
)


def frames_due(session: Session) -> list[Frame]:
    """What a session brings at once."""
    frames: list[Frame] = []
    assert isinstance(session, PushSession)
    session.attach(frames.extend)
    return frames


def test_writes_are_done_in_the_order_of_their_calls() -> None:
    """Also where the store lets others have their turn of the loop."""

    async def main() -> None:
        source = MemorySource()
        done = await asyncio.gather(*(source.commit([Put("k", b"%d" % n)]) for n in range(1000)))
        assert [committed.revision for committed in done] == list(range(1, 1001))
        assert await source.get("k") == (b"999", 1000)

    asyncio.run(main())


def test_a_writer_that_never_waits_lets_others_have_their_turn() -> None:
    async def main() -> None:
        source = MemorySource()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        waiting = asyncio.create_task(other())
        for _ in range(1000):
            await source.commit([Put("k", b"v")])
        waiting.cancel()

    asyncio.run(main())


def test_the_log_is_bounded_in_bytes() -> None:
    async def main() -> None:
        source = MemorySource()
        for _ in range(100):
            await source.commit([Put("k", b"x" * 1_000_000)])
        kept = frames_due(await source.open([""], (source._history, 90)))
        assert [frame.revision for frame in kept if isinstance(frame, Commit)] == list(
            range(91, 101)
        )
        with pytest.raises(HistoryLost) as lost:
            await source.open([""], (source._history, 50))
        assert not lost.value.changed
        assert (
            sum(len(raw or b"") for changes in source._older + source._log for _, raw in changes)
            < 40_000_000
        )

    asyncio.run(main())


def test_the_log_is_bounded_in_transactions() -> None:
    async def main() -> None:
        source = MemorySource()
        for _ in range(5000):
            await source.commit([Put("k", b"v")])
        assert 1000 <= len(source._older + source._log) <= 2048
        kept = frames_due(await source.open([""], (source._history, 4000)))
        assert [frame.revision for frame in kept if isinstance(frame, Commit)] == list(
            range(4001, 5001)
        )

    asyncio.run(main())


def test_a_store_in_use_is_not_used_from_another_loop() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    caught: list[BaseException] = []
    threads = set()

    def elsewhere() -> None:
        async def use() -> None:
            async with datasync.DataSync(url) as sync:
                await sync.put("k", b"from elsewhere")

        try:
            asyncio.run(use())
        except datasync.DataSyncError as error:
            caught.append(error)

    async def main() -> None:
        sync = datasync.DataSync(url)

        @sync.watcher("")
        async def handler(event: datasync.ResyncEvent[bytes] | datasync.ChangeEvent[bytes]) -> None:
            threads.add(threading.current_thread())

        async with sync:
            await sync.ready(60)
            await asyncio.to_thread(elsewhere)
            await sync.put("k", b"from here", confirm=True)

    asyncio.run(main())
    assert [type(error) for error in caught] == [WrongLoop]
    assert threads == {threading.current_thread()}
    # once it is free, another loop may have it
    caught.clear()
    elsewhere()
    assert not caught


def test_a_ttl_ends_in_the_next_loop_too() -> None:
    source = MemorySource()

    async def write() -> None:
        await source.commit([Put("k", b"v", ttl=1), Put("long", b"v", ttl=60)])

    async def read() -> None:
        session = await source.open([""])
        ended = asyncio.Event()
        assert isinstance(session, PushSession)
        session.attach(lambda frames: ended.set() if isinstance(frames[-1], Commit) else None)
        async with asyncio.timeout(60):
            await ended.wait()
        assert await source.get("k") is None
        assert await source.get("long") is not None

    asyncio.run(write())
    asyncio.run(read())


def test_a_key_that_is_written_as_it_expires_stays() -> None:
    """By a handler that is shown, just before, what a session covers from now on."""

    async def main() -> None:
        source = MemorySource()
        await source.commit([Put("k", b"old", ttl=0.05)])

        def write() -> None:
            source._commit([Put("k", b"new")], reply=False)

        asyncio.get_running_loop().call_later(0.01, source.widenings.call, write)
        time.sleep(0.1)  # noqa: ASYNC251 - so that both are due in the same turn of the loop
        for _ in range(3):
            await asyncio.sleep(0)
        assert await source.get("k") == (b"new", 2)

    asyncio.run(main())


def test_a_name_that_moves_the_cursor_is_shown_escaped() -> None:
    assert datasync.open_url("memory://a\x85\udcff").name == "memory://a\\x85\\udcff"


def test_what_has_expired_is_listed_no_more() -> None:
    """Also where the keys were in order before."""

    async def main() -> None:
        source = MemorySource()
        await source.commit([Put("a/1", b"v", ttl=1), Put("a/2", b"v")])
        assert len((await source.page("a/", None, 10))[0]) == 2
        session, ended = await source.open([""]), asyncio.Event()
        assert isinstance(session, PushSession)
        session.attach(lambda frames: ended.set() if isinstance(frames[-1], Commit) else None)
        async with asyncio.timeout(60):
            await ended.wait()
        assert [key for key, _, _ in (await source.page("a/", None, 10))[0]] == ["a/2"]
        assert isinstance(frames_due(await source.open([""]))[-1], SnapshotEnd)

    asyncio.run(main())


def test_a_watch_is_there_for_the_next_write() -> None:
    """Also where a handler registers it, and writes, in the midst of its own event."""

    async def main() -> None:
        verdicts: list[Verdict] = []
        async with DataSync(f"memory://{uuid.uuid4().hex}") as sync:

            async def refuses(event: Any) -> None:
                raise Refused(dict.fromkeys((change.key for change in event.changes), "no"))

            async def publish(key: str) -> None:
                try:
                    await sync.put(key, b"1", confirm=True)
                except NotApplied as error:
                    verdicts.append(error.verdict)

            @sync.watcher("a/")
            async def nests(event: Any) -> None:
                sync.watcher(f"{len(verdicts)}/", name=f"watch {len(verdicts)}")(refuses)
                await publish(f"{len(verdicts)}/key")

            await sync.ready(60)
            sync.watcher("b/", name="b")(refuses)
            await publish("b/key")
            await sync.put("a/1", b"1", confirm=True)
            assert len(verdicts) == 3
            assert Verdict.UNWATCHED not in verdicts

    asyncio.run(main())


async def filled(keys: int) -> MemorySource:
    source = MemorySource()
    await source.commit([Put(f"k/{number:06}", b"old") for number in range(keys)])
    return source


def test_a_long_snapshot_leaves_others_their_turns() -> None:
    """And what is written meanwhile comes behind it, with its verdict (G2, G7)."""

    async def main() -> None:
        source = await filled(5 * memory._STEP)
        seen: list[tuple[str, int, int]] = []

        async def on(event: Event[bytes]) -> None:
            kind = type(event).__name__
            count = len(event.values["k/"]) if isinstance(event, ResyncEvent) else 1
            seen.append((kind, event.revision, count))

        sync = DataSync(source)
        sync.watcher("k/")(on)
        async with sync:
            for _ in range(3):
                await asyncio.sleep(0)
            assert not seen  # it is on its way
            revision = await sync.put("k/000000", b"new", confirm=True)

        assert revision is not None
        assert seen == [
            ("ResyncEvent", revision - 1, 5 * memory._STEP),
            ("ChangeEvent", revision, 1),
        ]

    asyncio.run(main())


def test_keys_are_sorted_while_others_have_their_turns() -> None:
    async def main() -> None:
        source = await filled(50_000)
        opening = asyncio.ensure_future(source.open([""]))
        turns = 0
        while not opening.done():
            await source.commit([Put(f"{turns}", b"")])
            await asyncio.sleep(0)
            turns += 1
        assert turns > 5
        session, due = await opening, list[Frame]()
        session.attach(due.extend)  # type: ignore[attr-defined]
        async for frames in session:
            due += frames
            if isinstance(frames[0], SnapshotEnd):
                break
        names = [
            item[0] for frame in due if isinstance(frame, SnapshotChunk) for item in frame.items
        ]
        assert names == sorted(source._items)
        await session.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_a_long_snapshot_shows_nothing_of_what_is_written_meanwhile(seed: int) -> None:
    """G4: neither new values nor deletes, whether their keys have been shown yet or not."""
    rng = random.Random(seed)

    def operation() -> Operation:
        key = f"k/{rng.randrange(4 * memory._STEP):06}"  # some of them are there, some are not
        return Delete(key) if rng.random() < 0.5 else Put(key, b"new")

    async def main() -> None:
        source = await filled(3 * memory._STEP)
        there = [(key, *item) for key, item in sorted(source._items.items())]
        session = await source.open([""])
        await source.commit([Put("k/000000", b"new"), Delete("k/000001")])
        shown = list[Item]()
        assert isinstance(session, PushSession)
        session.attach(lambda frames: None)

        frames = aiter(session)
        while not shown or shown[-1] != there[-1]:
            (frame,) = await anext(frames)
            if isinstance(frame, SnapshotChunk):
                shown += frame.items
            for _ in range(500):
                await source.commit([operation()])
            if rng.random() < 0.3:
                await source.commit([Delete(f"k/00{rng.randrange(10)}", prefix=True)])

        assert shown == there
        assert isinstance((await anext(frames))[0], SnapshotEnd)
        behind = asyncio.ensure_future(anext(frames, None))
        await session.caught_up()
        assert not source._snapshots  # it is done with, though the session goes on
        await session.aclose()
        assert await behind is None

    asyncio.run(main())


def test_a_long_snapshot_is_not_a_copy() -> None:
    """To copy a million keys in one go would hold the loop. What is kept is the list of the keys,
    and what is written before it has been shown."""

    async def main() -> None:
        source = await filled(20 * memory._STEP)
        await (await source.open(["k/"])).aclose()  # the keys are in order from now on

        tracemalloc.start()
        session = await source.open(["k/"])
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert held < 12 * 20 * memory._STEP

        assert isinstance(session, PushSession)
        session.attach(lambda frames: None)
        frames = aiter(session)
        for _ in range(2):
            await anext(frames)
        (snapshot,) = (reference() for reference in source._snapshots)
        assert snapshot is not None
        written = (0, memory._STEP, memory._STEP)  # the first of them has been shown
        for number in written:
            await source.commit([Put(f"k/{number:06}", b"new")])
        assert [*snapshot._kept] == [f"k/{memory._STEP:06}"]
        await anext(frames)
        assert not snapshot._kept
        await session.aclose()

    asyncio.run(main())


def test_closed_while_a_long_snapshot_is_on_its_way() -> None:
    async def main() -> None:
        source = await filled(3 * memory._STEP)
        session = await source.open([""])
        assert isinstance(session, PushSession)
        session.attach(lambda frames: None)
        frames = aiter(session)
        await anext(frames)
        level = asyncio.ensure_future(session.caught_up())
        await asyncio.sleep(0)
        assert not level.done()
        await session.aclose()
        async with asyncio.timeout(60):
            await level
            assert [step async for step in frames] == []

    asyncio.run(main())
