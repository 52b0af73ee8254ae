"""What the simulation has found in the engine, each reduced to the shortest
schedule that shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from datasync import Backoff, Change, ChangeEvent, DataSync, Refused, ResyncEvent
from datasync.testing import EXACT, FaultySource, run_simulated

Event = ResyncEvent[bytes] | ChangeEvent[bytes]


class Handler:
    """Keeps its events; while `gate` is cleared it sits on the one it was given."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        await self.gate.wait()
        if self.fails:
            raise RuntimeError("it was told to")

    @property
    def last(self) -> Event:
        return self.events[-1]

    def changes(self) -> list[tuple[str, bytes | None, bytes | None]]:
        """Of the last event: key, previous value, value."""
        return [(change.key, _raw(change.prev), change.raw) for change in self.last.changes]


def _raw(pair: Any) -> bytes | None:
    return None if pair is None else bytes(pair.raw)


def watch(sync: DataSync, name: str, *prefixes: str, **options: Any) -> Handler:
    handler = Handler()
    register: Callable[[Handler], Any] = sync.watcher(*prefixes, name=name, type=bytes, **options)
    register(handler)
    return handler


def test_a_wider_watch_beside_it_shows_a_narrow_one_nothing() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"})
        sync = DataSync(source)
        narrow = watch(sync, "narrow", "a/")
        async with sync:
            await sync.ready(60)
            wide = watch(sync, "wide", "")
            await sync.ready(60)
            assert len(wide.events) == 1
            assert len(narrow.events) == 1
            source.write({"a/1": b"2"})
            await asyncio.sleep(1)
            assert narrow.changes() == [("a/1", b"1", b"2")]

    run_simulated(main())


def test_a_commit_stays_whole_while_another_watch_is_widened() -> None:
    async def main() -> None:
        source = FaultySource({"a/b/1": b"1", "d/1": b"1"})
        sync = DataSync(source)
        both = watch(sync, "both", "a/b/", "d/")
        async with sync:
            await sync.ready(60)
            source.disconnect()
            source.write({"a/b/1": b"2", "d/1": b"2"})
            watch(sync, "wide", "a/")
            await sync.ready(60)
            assert [len(event.changes) for event in both.events] == [2, 2]

    run_simulated(main())


def test_a_change_seen_by_a_wider_snapshot_has_the_revision_of_its_write() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"})
        sync = DataSync(source)
        narrow = watch(sync, "narrow", "a/")
        async with sync:
            await sync.ready(60)
            source.compact()
            source.disconnect()
            written = source.write({"a/1": b"2"})
            source.write({"b/1": b"1"})
            watch(sync, "wide", "")
            await sync.ready(60)
            await asyncio.sleep(1)
            revisions = [change.revision for change in narrow.last.changes]
            assert revisions == [written]

    run_simulated(main())


def test_a_new_history_is_said_though_something_else_asks_for_a_resync_on_top() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"})
        sync = DataSync(source, ack_timeout=0.5)
        handler = watch(sync, "h", "a/")
        async with sync:
            await sync.ready(60)
            handler.gate.clear()
            source.write({"a/1": b"2"})
            await asyncio.sleep(1)  # it is overdue
            source.new_history({"a/1": b"3"})
            await asyncio.sleep(1)
            sync.resync()
            handler.gate.set()
            await asyncio.sleep(1)
            assert isinstance(handler.last, ResyncEvent)
            assert handler.last.reason.startswith("new history")

    run_simulated(main())


def test_a_value_brought_back_from_a_lower_layer_has_its_own_revision() -> None:
    async def main() -> None:
        lower, upper = FaultySource(name="lower"), FaultySource(name="upper")
        for _ in range(5):
            lower.write({"other": b"x"})
        written = lower.write({"a/1": b"low"})
        upper.write({"a/1": b"high"})
        sync = DataSync(lower, upper)
        handler = watch(sync, "h", "a/")
        async with sync:
            await sync.ready(60)
            upper.write({"a/1": None})
            await asyncio.sleep(1)
            change: Change[bytes] = handler.last.changes[0]
            assert (change.raw, change.source, change.revision) == (b"low", "lower", written)

    run_simulated(main())


def test_an_event_is_as_new_as_its_newest_value() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1", "a/2": b"1"})
        sync = DataSync(source, retry=Backoff(initial=1.0))
        handler = watch(sync, "h", "a/")
        async with sync:
            await sync.ready(60)
            handler.fails = True
            source.write({"a/2": b"2"})
            await asyncio.sleep(0.1)  # now it waits for the next try
            source.write({"a/1": b"new"})
            source.write({"a/1": b"new"})
            handler.fails = False
            await asyncio.sleep(2)
            assert len(handler.last.changes) == 2
            assert (
                handler.last.revision
                == max(change.revision for change in handler.last.changes)
                == source.revision
            )

    run_simulated(main())


def test_who_is_overdue_and_reports_before_its_turn_waits_for_it() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"})
        sync = DataSync(source, resync_timeout=10)
        first = watch(sync, "first", "a/", ack_timeout=9)
        second = watch(sync, "second", "a/", ack_timeout=1)
        async with sync:
            await sync.ready(60)
            first.gate.clear()
            second.gate.clear()
            source.write({"a/1": b"2"})
            await asyncio.sleep(0.1)
            sync.resync()  # first is at work, second comes behind it
            await asyncio.sleep(2)  # second is overdue
            second.gate.set()
            await asyncio.sleep(1)
            assert len(second.events) == 2  # its RESYNC, and the change
            first.gate.set()
            await asyncio.sleep(1)
            assert isinstance(first.last, ResyncEvent)
            assert isinstance(second.last, ResyncEvent)
            assert second.last is not second.events[0]

    run_simulated(main())


def test_a_refused_key_comes_again_with_a_write_of_the_same_bytes_that_waited_behind_it() -> None:
    async def main() -> None:
        source = FaultySource()
        sync = DataSync(source)
        stream = sync.watch("s", "a/")
        async with sync:
            events = aiter(stream)
            (await anext(events)).done()
            source.write({"a/1": b"1"})
            source.write({"a/1": b"1"})
            (await anext(events)).done(Refused({"a/1": "no"}))
            async with asyncio.timeout(1):
                again = await anext(events)
            assert [(change.key, change.raw, change.prev) for change in again.changes] == [
                ("a/1", b"1", None)
            ]

    run_simulated(main())


def test_a_write_that_changes_nothing_does_not_hear_the_verdict_on_another() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"}, delay=0.05)
        source.write_delay = 0.07
        sync = DataSync(source)
        watch(sync, "a", "a/")
        other = watch(sync, "b", "b/")
        async with sync:
            await sync.ready(60)
            other.fails = True
            source.write({"b/1": b"1"})  # it comes, and fails, while the write below is on its way
            assert await sync.delete("a/none", confirm=True) is False

    run_simulated(main())


def test_a_new_history_found_by_a_wider_session_is_a_round() -> None:
    async def main() -> None:
        source = FaultySource(
            {"a/1": b"1"}, capabilities=msgspec.structs.replace(EXACT, resume=False)
        )
        sync = DataSync(source)
        handler = watch(sync, "h", "a/")
        async with sync:
            await sync.ready(60)
            watch(sync, "more", "b/")
            await asyncio.sleep(0)  # the old session is being closed
            source.new_history()
            await asyncio.sleep(5)
            assert isinstance(handler.last, ResyncEvent)
            assert handler.last.reason.startswith("new history")
            assert handler.changes() == [("a/1", b"1", None)]

    run_simulated(main())


def test_a_source_tells_the_revision_of_a_write_though_handlers_write_meanwhile() -> None:
    async def main() -> None:
        source = FaultySource(push=True)
        sync = DataSync(source)

        @sync.watcher("a/")
        async def reacts(event: Event) -> None:
            if isinstance(event, ChangeEvent):
                source.write({"b/1": b"because of it"})

        async with sync:
            await sync.ready(60)
            assert source.write({"a/1": b"1"}) == 1
            await asyncio.sleep(0.1)
            assert source.revision == 2

    run_simulated(main())


class Stray(BaseException):
    """Nothing in the engine knows it."""


def test_who_waits_for_a_verdict_does_not_hear_what_a_session_raises() -> None:
    async def main() -> None:
        source = FaultySource(
            capabilities=msgspec.structs.replace(EXACT, revisions=False, resume=False)
        )
        sync = DataSync(source)
        handler = watch(sync, "h", "a/")
        async with sync:
            await sync.ready(60)
            source.fail("caught_up", Stray("unexpected"))
            await sync.put("a/1", b"1", confirm=True)
            assert handler.changes() == [("a/1", None, b"1")]

    run_simulated(main())


def test_who_registers_does_not_hear_what_a_session_raises() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1", "b/1": b"1"}, push=True)
        sync = DataSync(source)
        watch(sync, "h", "a/")
        async with sync:
            await sync.ready(60)
            source.fail("widen", Stray("unexpected"))
            late = watch(sync, "late", "b/")
            await sync.ready(60)
            assert late.changes() == [("b/1", None, b"1")]

    run_simulated(main())
