"""Sources in this process push their frames, and the handlers that run by that may write:
nothing overtakes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from datasync import Backoff, ChangeEvent, DataSync, ResyncEvent
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.inbox import Inbox
from datasync.source import Put, Session
from datasync.testing.contract import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]
Event = ResyncEvent[bytes] | ChangeEvent[bytes]


class Part:
    """Keeps what it saw; on the value 1 it writes 2."""

    def __init__(self, source: MemorySource, *, reacts: bool = False) -> None:
        self.seen: list[tuple[bytes | None, int]] = []
        self.reasons: list[str] = []
        self._source = source
        self._reacts = reacts

    async def __call__(self, event: Event) -> None:
        if isinstance(event, ResyncEvent):
            self.reasons.append(event.reason)
        for change in event.changes:
            self.seen.append((change.raw, change.revision))
            if self._reacts and change.raw == b"1":
                await self._source.commit([Put("a/1", b"2")])


def test_what_a_handler_writes_comes_behind_what_it_was_given_in_every_datasync(run: Run) -> None:
    async def main() -> None:
        store = MemorySource()
        one, two = DataSync(store), DataSync(store)
        first, second = Part(store, reacts=True), Part(store)
        one.watcher("a/", name="part")(first)
        two.watcher("a/", name="part")(second)
        async with one, two:
            await one.ready(60)
            await two.ready(60)
            await one.put("a/1", b"1", confirm=60)
            await eventually(lambda: len(second.seen) == 2)
            assert first.seen == second.seen == [(b"1", 1), (b"2", 2)]

    run(main())


def test_the_same_for_a_state_that_a_client_pushes(run: Run) -> None:
    async def main() -> None:
        store = Inbox("inbox", empty=True)
        one, two = DataSync(store), DataSync(store)
        first, second = Part(store, reacts=True), Part(store)
        one.watcher("a/", name="part")(first)
        two.watcher("a/", name="part")(second)
        async with one, two:
            await one.ready(60)
            await two.ready(60)
            await store.replace([("a/1", b"1")])
            await eventually(lambda: len(second.seen) == 2)
            assert [raw for raw, _ in first.seen] == [raw for raw, _ in second.seen] == [b"1", b"2"]

    run(main())


class Held(MemorySource):
    """Waits with the next session until it may come."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.may.set()

    async def open(self, *args: Any) -> Session:
        await self.may.wait()
        return await super().open(*args)


def test_what_a_handler_writes_comes_behind_what_was_missed_while_away(run: Run) -> None:
    async def main() -> None:
        store = Held()
        sync = DataSync(store, reconnect=Backoff(initial=0.001, maximum=0.001))
        part = Part(store, reacts=True)
        sync.watcher("a/", name="part")(part)
        async with sync:
            await sync.ready(60)
            store.may.clear()
            await store._sessions[0].aclose()
            await store.commit([Put("a/1", b"1")])
            await store.commit([Put("a/1", b"in between")])
            store.may.set()
            await eventually(lambda: len(part.seen) == 3)
            assert part.seen == [(b"1", 1), (b"in between", 2), (b"2", 3)]
            assert part.reasons == ["start"]

    run(main())
