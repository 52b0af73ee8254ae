"""`DataSync.watches`, the way to the watch of a handler; and what may be asked of a watch,
and what may not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import datasync
from datasync import ChangeEvent, DataSync, ResyncEvent, Watch, WatchState
from datasync.testing import FaultySource, run_simulated
from datasync.testing.contract import eventually
from datasync.testing.simulation.sync import SimulatedSync

Run = Callable[[Coroutine[Any, Any, None]], None]
Event = ResyncEvent[bytes] | ChangeEvent[bytes]


class Reader:
    """Iterates a watch in a task of its own, and keeps what it got."""

    def __init__(self, watch: Watch[bytes]) -> None:
        self.events: list[Event] = []
        self.task = asyncio.ensure_future(self._read(watch))

    async def _read(self, watch: Watch[bytes]) -> None:
        async for event in watch:
            self.events.append(event)


def test_the_watch_of_a_handler_can_be_widened_and_closed_by_its_name(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        seen: list[list[str]] = []

        @sync.watcher("a/")
        async def part(event: Event) -> None:
            seen.append([change.key for change in event.changes])

        sync.watch("stream", "c/")
        assert list(sync.watches) == ["part", "stream"]
        async with sync:
            await sync.ready(60)
            await sync.put("b/1", b"1")
            watch = sync.watches["part"]
            watch.add_prefix("b/")
            await sync.ready(60)
            assert seen == [[], ["b/1"]]
            watch.close()
            assert watch.state is WatchState.CLOSED
            assert list(sync.watches) == ["stream"]
            with pytest.raises(datasync.NotApplied, match="unwatched"):
                await sync.put("b/1", b"2", confirm=60)
            sync.watch("part", "a/")
            assert list(sync.watches) == ["stream", "part"]

    run(main())


def test_a_closed_watch_is_not_widened_and_votes_no_more(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        watch = sync.watch("w", "a/")
        async with sync:
            watch.close()
            with pytest.raises(datasync.WatchClosed, match="register"):
                watch.add_prefix("b/")
            with pytest.raises(datasync.WatchClosed, match="register"):
                watch.remove_prefix("a/")
            with pytest.raises(datasync.NotApplied, match="unwatched"):
                await sync.put("b/1", b"1", confirm=60)

    run(main())


def test_a_watch_is_closed_in_its_own_loop(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        watch = sync.watch("w", "a/")
        async with sync:
            with pytest.raises(datasync.WrongLoop):
                await asyncio.to_thread(watch.close)
            assert watch.state is not WatchState.CLOSED
        watch.close()  # it has been closed with the DataSync

    run(main())


def test_a_second_reader_does_not_disturb_the_first(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        watch = sync.watch("w", "a/")
        async with sync:
            reader = Reader(watch)
            await eventually(lambda: len(reader.events) == 1)
            with pytest.raises(datasync.WatchClosed, match="one reader"):
                aiter(watch)
            await sync.put("a/1", b"1", confirm=60)
            await sync.put("a/2", b"1", confirm=60)
            await eventually(lambda: len(reader.events) == 3)
            reader.task.cancel()

    run(main())


@pytest.mark.parametrize("written", [False, True])
def test_a_reader_may_follow_one_that_is_just_being_cancelled(run: Run, written: bool) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        watch = sync.watch("w", "a/")
        async with sync:
            first = Reader(watch)
            await eventually(lambda: len(first.events) == 1)
            if written:
                await sync.put("a/1", b"1")  # on its way to the first
            first.task.cancel()
            events = aiter(watch)
            if written:
                assert isinstance(await anext(events), ChangeEvent)
            writing = asyncio.ensure_future(sync.put("a/2", b"1"))
            async with asyncio.timeout(60):
                assert [change.key for change in (await anext(events)).changes] == ["a/2"]
            await writing

    run(main())


def test_a_resync_makes_up_for_an_event_that_its_reader_never_received() -> None:
    async def main() -> None:
        source = FaultySource(push=True)
        sync = DataSync(source)
        watch = sync.watch("w", "a/", "b/")
        async with sync:
            first = Reader(watch)
            await asyncio.sleep(0.1)
            source.write({"b/1": b"1"})
            watch.remove_prefix("b/")
            first.task.cancel()
            await asyncio.sleep(0.1)
            second = Reader(watch)
            await asyncio.sleep(0.1)
            assert [type(event) for event in second.events] == [ResyncEvent]
            assert second.events[0].changes == []
            second.task.cancel()

    run_simulated(main())


def test_status_tells_a_reader_from_a_handler_that_does_not_return() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"})
        sync = SimulatedSync(source, rng=random.Random(1), ack_timeout=1)

        @sync.watcher("a/")
        async def part(event: Event) -> None:
            event.done()
            await asyncio.sleep(50)

        sync.watch("stream", "a/")
        async with sync:
            await asyncio.sleep(3)
            source.write({"a/1": b"2"})
            await asyncio.sleep(3)
            handler, stream = sync.status().watches
            assert (handler.state, stream.state) == ("overdue", "unattended")
            assert handler.failing is not None
            assert handler.failing.why == "reported, but has not returned"
            assert round(handler.failing.since, 3) == 4
            assert stream.failing is None

    run_simulated(main())


def test_status_calls_nothing_following_that_has_not_accepted_its_resync() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"}, push=True)
        sync = DataSync(source)
        watch = sync.watch("w", "a/")
        async with sync:
            reader = Reader(watch)
            await asyncio.sleep(0.1)
            sync.resync()
            reader.task.cancel()  # before it receives the RESYNC
            await asyncio.wait([reader.task])
            assert len(reader.events) == 1
            assert watch.state is WatchState.WAITING

    run_simulated(main())


def test_options_of_a_watch_are_checked_as_those_of_the_datasync() -> None:
    sync = DataSync("memory://", prefix="x/")
    wrong: list[dict[str, Any]] = [
        {"ack_timeout": 0}, {"ack_timeout": "2"}, {"resync_timeout": float("nan")}, {"backlog": 0},
        {"backlog": 1.5},
    ]  # fmt: skip
    for given in wrong:
        with pytest.raises(datasync.UsageError, match=r"must be .*, got"):
            sync.watch("w", "a/", **given)
        with pytest.raises(datasync.UsageError, match=r"must be .*, got"):
            DataSync("memory://", **given)
    assert list(sync.watches) == []


def test_no_prefix_below_a_prefix_begins_with_a_slash(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://", prefix="x/")
        watch = sync.watch("w", "a/")
        async with sync:
            with pytest.raises(datasync.BadPrefix, match="'b/'"):
                watch.add_prefix("/b/")
            with pytest.raises(datasync.BadPrefix, match="'b/'"):
                sync.view("/b/")
            with pytest.raises(datasync.BadPrefix, match="'b/'"):
                await anext(aiter(sync.list("/b/")))

    run(main())
