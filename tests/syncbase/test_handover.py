"""G9: while a session that covers more is slow to come,
the watches that are there are served by the one before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest

from datasync import ChangeEvent, DataSync, ResyncEvent
from datasync.errors import Disconnected, HistoryLost
from datasync.source import Commit, Frame, Session, SnapshotBegin, SnapshotEnd
from datasync.syncbase.handover import Handover
from datasync.testing import EXACT, FaultySource, run_simulated
from datasync.testing.faults.store import Position
from tests.helpers.core import Bench

Event = ResyncEvent[bytes] | ChangeEvent[bytes]

KINDS = {
    "exact": EXACT,
    "no resume": msgspec.structs.replace(EXACT, resume=False),
    "order by key": msgspec.structs.replace(
        EXACT, order="key", atomic=False, transactions=False, cas=False
    ),
}


class SlowSession(Session):
    """Hands over commits late, and is late to catch up, until some moment."""

    def __init__(self, inner: Session, until: float) -> None:
        self._inner = inner
        self._until = until

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        async for frames in self._inner:
            if any(isinstance(frame, Commit) for frame in frames):
                await self._linger()
            yield frames

    async def ping(self) -> None:
        await self._inner.ping()

    async def caught_up(self) -> None:
        await self._linger()
        await self._inner.caught_up()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _linger(self) -> None:
        if asyncio.get_running_loop().time() < self._until:
            await asyncio.sleep(0.3)


class SlowlyWidened(FaultySource):
    """All sessions but the first are slow for some seconds."""

    slow = 1.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._came = asyncio.Condition()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        session = await super().open(scopes, resume, added)
        async with self._came:
            self._came.notify_all()
        return (
            session
            if self.opened == 1
            else SlowSession(session, asyncio.get_running_loop().time() + self.slow)
        )

    async def has_opened(self, count: int) -> None:
        """Wait until so many sessions have been opened."""
        async with asyncio.timeout(60), self._came:
            await self._came.wait_for(lambda: self.opened >= count)


class Shown:
    """A handler that keeps what it was shown, and when."""

    def __init__(self, sync: DataSync, name: str, *prefixes: str) -> None:
        self.resyncs = 0
        self.values: dict[str, bytes | None] = {}
        self.at: dict[bytes, float] = {}
        register: Callable[[Any], Any] = sync.watcher(*prefixes, name=name, type=bytes)
        register(self._handle)

    async def _handle(self, event: Event) -> None:
        if isinstance(event, ResyncEvent):
            self.resyncs += 1
            self.values = {kv.key: kv.raw for items in event.values.values() for kv in items}
        for change in event.changes:
            self.values[change.key] = change.raw
            if change.raw is not None:
                self.at[change.raw] = asyncio.get_running_loop().time()


async def writes(source: FaultySource, count: int, every: float) -> dict[bytes, float]:
    """Write a key again and again. Returns when each of its values was written."""
    written = {}
    for number in range(count):
        source.write({"a/1": b"%d" % number})
        written[b"%d" % number] = asyncio.get_running_loop().time()
        await asyncio.sleep(every)
    return written


@contextlib.asynccontextmanager
async def followed(
    kind: str, b: bytes = b"-", make: type[SlowlyWidened] = SlowlyWidened
) -> AsyncIterator[tuple[SlowlyWidened, DataSync, Shown]]:
    """A source with a/1 and b/1, and a DataSync with one watch, of a/, that has had its RESYNC."""
    source = make({"a/1": b"-", "b/1": b}, capabilities=KINDS[kind])
    sync = DataSync(source)
    always = Shown(sync, "always", "a/")
    async with sync:
        await sync.ready(60)
        yield source, sync, always


class Unproven(SlowlyWidened):
    """Can never prove that nothing is missing behind a position, as a topic of Kafka whose settings
    the user may not read.
    """

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        if resume is not None:
            raise HistoryLost("nothing tells whether something is missing; take a snapshot")
        return await super().open(scopes, added=added)


@pytest.mark.parametrize("kind", KINDS)
def test_more_is_watched_though_no_session_can_resume(kind: str) -> None:
    """G8: what the one that is followed has shown is not shown again, and nothing is missed."""

    async def main() -> None:
        async with followed(kind, make=Unproven) as (source, sync, always):
            for turn, prefix in enumerate(("b/", "c/"), 1):
                added = Shown(sync, f"added {turn}", "a/", prefix)
                await writes(source, 20, 0.1)
                source.write({"a/2": b"%d" % turn, f"{prefix}2": b"1"})
                await sync.ready(60)
                await asyncio.sleep(5)
                shared = {"a/1": b"19", "a/2": b"%d" % turn}
                assert always.values == shared
                assert added.values == shared | {
                    key: b for key, b in source.values.items() if key.startswith(prefix)
                }
            assert always.resyncs == 1
            assert sync.status().sources[0].reconnects == 0

    run_simulated(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_successor_holds_up_no_watch_that_is_there(kind: str) -> None:
    async def main() -> None:
        async with followed(kind) as (source, sync, always):
            added = Shown(sync, "added", "a/", "b/")
            written = await writes(source, 20, 0.1)
            await asyncio.sleep(5)
            assert [
                value for value, at in written.items() if always.at.get(value, at + 9) > at + 0.05
            ] == []
            assert (always.resyncs, always.values) == (1, {"a/1": b"19"})
            assert added.values == {"a/1": b"19", "b/1": b"-"}

    run_simulated(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_successor_that_never_draws_level_takes_over_all_the_same(kind: str) -> None:
    async def main() -> None:
        async with followed(kind) as (source, sync, always):
            source.slow = math.inf
            added = Shown(sync, "added", "b/")
            writing = asyncio.create_task(writes(source, 200, 0.05))
            await asyncio.sleep(6)
            assert added.values == {"b/1": b"-"}  # within a bound, though much goes on
            await writing
            await asyncio.sleep(60)
            assert (always.resyncs, always.values) == (1, {"a/1": b"199"})

    run_simulated(main())


@pytest.mark.parametrize("kind", KINDS)
def test_what_only_the_session_before_it_still_follows_holds_up_no_successor(kind: str) -> None:
    async def main() -> None:
        source = SlowlyWidened({"a/1": b"-", "b/1": b"-"}, capabilities=KINDS[kind])
        sync = DataSync(source)
        always = Shown(sync, "always", "a/")
        everything = sync.watch("everything", "")
        async with sync:
            await sync.ready(60)
            everything.close()
            await asyncio.sleep(0.1)
            added = Shown(sync, "added", "b/")
            await asyncio.sleep(0.1)  # by now the session over a/ and b/ has begun
            source.write({"c/1": b"of no concern to it"})
            await sync.ready(60)
            assert (always.resyncs, added.values) == (1, {"b/1": b"-"})

    run_simulated(main())


@pytest.mark.parametrize("kind", KINDS)
def test_who_registers_during_a_handover_is_shown_what_was_acknowledged_before(kind: str) -> None:
    async def main() -> None:
        async with followed(kind, b"old") as (source, sync, _):
            Shown(sync, "added", "b/")
            await asyncio.sleep(0.1)  # by now the session over a/ and b/ has read b/1
            source.write({"b/1": b"new"})
            late = Shown(sync, "late", "b/")
            await sync.ready(60)
            assert (late.values, list(late.at)) == ({"b/1": b"new"}, [b"new"])

    run_simulated(main())


class Forgetful(FaultySource):
    """The session that is to take over begins too late,
    and lacks what the other one has shown meanwhile.
    """

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        if self.opened == 1:
            self.write({"a/1": b"missed"})
            await asyncio.sleep(1)
            resume = Position(resume.history, tuple(at + 1 for at in resume.at)) if resume else None
        return await super().open(scopes, resume, added)


def test_a_successor_that_lacks_something_stops_no_watch_for_good() -> None:
    async def main() -> None:
        source = Forgetful({"a/1": b"-", "b/1": b"-"}, capabilities=KINDS["order by key"])
        sync = DataSync(source, connect_timeout=2)
        always = Shown(sync, "always", "a/")
        async with sync:
            await sync.ready(60)
            added = Shown(sync, "added", "b/")
            await sync.ready(60)
            assert (always.values, added.values) == ({"a/1": b"missed"}, {"b/1": b"-"})
            source.write({"b/1": b"behind"})
            await asyncio.sleep(1)
            assert added.values == {"b/1": b"behind"}

    run_simulated(main())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_successor_brings_though_nobody_needs_it_any_more_is_read_anew_when_it_is(
    kind: str,
) -> None:
    async def main() -> None:
        async with followed(kind) as (source, sync, always):
            first = sync.watch("first", "b/")
            Shown(sync, "more", "c/")
            await source.has_opened(2)
            first.close()
            await sync.ready(60)
            Shown(sync, "most", "d/")
            await source.has_opened(3)  # and that one leaves out b/
            again = Shown(sync, "again", "b/")
            await sync.ready(9)
            source.write({"b/1": b"new"})
            await asyncio.sleep(1)
            assert (again.values, again.resyncs, always.resyncs) == ({"b/1": b"new"}, 1, 1)

    run_simulated(main())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_anew_beside_a_successor_that_lacks_it_is_shown_once(kind: str) -> None:
    async def main() -> None:
        source = SlowlyWidened({"a/1": b"-", "b/1": b"-"}, capabilities=KINDS[kind])
        sync = DataSync(source)
        Shown(sync, "always", "a/")
        Shown(sync, "first", "b/")
        seen: list[Event] = []
        async with sync:
            await sync.ready(60)
            sync.watches["first"].close()
            Shown(sync, "more", "c/")
            await source.has_opened(2)  # and that one leaves out b/

            @sync.watcher("b/", name="again", type=bytes)
            async def again(event: Event) -> None:
                seen.append(event)

            source.resync()
            await sync.ready(60)
            source.write({"b/1": b"new"})
            await asyncio.sleep(5)
            shown = [
                (type(event), [(c.prev and c.prev.raw, c.raw) for c in event.changes])
                for event in seen
            ]
            assert shown == [(ResyncEvent, [(None, b"-")]), (ChangeEvent, [(b"-", b"new")])]

    run_simulated(main())


class SlowlyClosed(FaultySource):
    """Its sessions take their time to end."""

    closed = 0

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        session = await super().open(scopes, resume, added)

        class Closing(SlowSession):
            async def aclose(this) -> None:  # noqa: N805 - `self` is the source
                await asyncio.sleep(0.5)
                await super().aclose()
                self.closed += 1

        return Closing(session, 0)


def test_closing_while_the_session_before_it_ends_leaves_none_open() -> None:
    async def main() -> None:
        source = SlowlyClosed({"a/1": b"-", "b/1": b"-"})
        sync = DataSync(source)
        Shown(sync, "always", "a/")
        async with sync:
            await sync.ready(60)
            Shown(sync, "added", "b/")
            await sync.ready(60)
            await asyncio.sleep(0.1)  # the first one is about to end
            assert (source.opened, source.closed) == (2, 0)
        assert (source.opened, source.closed) == (2, 2)

    run_simulated(main())


def test_a_successor_with_another_history_cannot_take_over() -> None:
    bench = Bench()
    bench.start()
    handover = Handover(bench.layer, ["a/", "b/"], ["b/"])
    handover.bring(SnapshotBegin(["b/"]))
    with pytest.raises(Disconnected, match="another history"):
        handover.bring(SnapshotEnd(9, 9, "of another store"))
    assert not handover.loaded
