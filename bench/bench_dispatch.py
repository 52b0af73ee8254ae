"""Dispatch on memory://: from a write to the handlers, and the verdict back.

Beside each figure stands the plainest loop that does the same without the library, in the same run
and in turn with ours, the best of several rounds each: a dict of the values, an object with the
previous and the new value for each change, and a call of the handler.

Nothing here waits for anything but the processor, so time is that of this thread on the processor:
other work on the machine counts as little as possible. Only the slow watch beside a fast one is
measured by the clock.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from bench.instructions import Work
from bench.rows import Row
from datasync import ChangeEvent, DataSync, ResyncEvent, Txn


class Interface(msgspec.Struct):
    """What the values are decoded to where they are."""

    name: str
    mtu: int


Event = ResyncEvent[bytes] | ChangeEvent[bytes]
Pairs = Sequence[tuple[str, bytes]]
Measure = Callable[[], Awaitable[float]]

_KEYS = 10_000


def run(quick: bool) -> Iterator[Row]:
    """All figures."""
    changes, rounds = (_KEYS, 2) if quick else (100_000, 5)
    for confirm in (True, False):
        yield asyncio.run(_singles(changes, rounds, confirm=confirm))
    for size in (100, 10_000):
        yield asyncio.run(_transactions(size, max(changes, 2 * size), rounds))
    yield from _many_watches(*((3, 500, 1) if quick else (5, 20_000, 3)))
    yield asyncio.run(_slow_beside_fast(500 if quick else 10_000))


class Handler:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.changes = 0
        self.commits = 0
        self.revision = 0
        self.arrived = asyncio.Event()
        self.awaited = sys.maxsize

    async def __call__(self, event: Event) -> None:
        if type(event) is ChangeEvent:
            self.changes += len(event.changes)
            self.commits += event.commits
            self.revision = event.revision
            if event.revision >= self.awaited:
                self.arrived.set()

    async def until(self, revision: int) -> None:
        """Wait for the event that holds `revision`."""
        self.awaited = revision
        if self.revision < revision:
            self.arrived.clear()
            await self.arrived.wait()


@dataclass(slots=True)
class PlainChange:
    key: str
    value: bytes
    prev: bytes | None
    revision: int


class Plain:
    """The loop without the library."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.revision = 0
        self.changes = 0

    async def handle(self, changes: Sequence[PlainChange]) -> None:
        self.changes += len(changes)

    async def commit(
        self, pairs: Pairs, handle: Callable[[Sequence[PlainChange]], Awaitable[None]]
    ) -> None:
        values = self.values
        self.revision += 1
        changes = []
        for key, value in pairs:
            changes.append(PlainChange(key, value, values.get(key), self.revision))
            values[key] = value
        await handle(changes)


def _pairs(count: int, watches: int = 1) -> list[tuple[str, bytes]]:
    """That many writes of a fixed set of keys, spread over the watches in turn;
    no value twice in a row.
    """
    keys = [f"config/part{number % watches}/{number:05}" for number in range(_KEYS)]
    return [(keys[number % _KEYS], b"%0190d" % number) for number in range(count)]


async def _best(rounds: int, *measures: Measure) -> list[float]:
    """The shortest time of each, taken in turn."""
    best = [float("inf")] * len(measures)
    for _ in range(rounds):
        for index, measure in enumerate(measures):
            gc.collect()
            best[index] = min(best[index], await measure())
    return best


async def _timed(work: Awaitable[None]) -> float:
    start = time.thread_time()
    await work
    return time.thread_time() - start


def _row(
    what: str, count: int, ours: float, plain: float, also: dict[str, float], **case: str | int
) -> Row:
    return Row(
        what=what, unit="changes/s", ours=count / ours, beside={"plain loop": count / plain},
        case=case, also=also,
    )  # fmt: skip


async def _singles(count: int, rounds: int, *, confirm: bool) -> Row:
    """One key a transaction, with or without waiting for the verdict."""
    pairs, handler, plain = _pairs(count), Handler(), Plain()
    again = [(key, value + b"!") for key, value in pairs]
    sync = DataSync("memory://")
    sync.watcher("config/", name="all")(handler)

    async def ours(pairs: Pairs) -> None:
        revision = None
        for key, value in pairs:
            revision = await sync.put(key, value, confirm=confirm)
        assert revision is not None
        await handler.until(revision)

    async def theirs(pairs: Pairs) -> None:
        for pair in pairs:
            await plain.commit((pair,), plain.handle)

    async with sync:
        await sync.ready(10)
        best, floor = await _best(
            rounds,
            lambda: _timed(_twice(ours, pairs, again)),
            lambda: _timed(_twice(theirs, pairs, again)),
        )
        assert handler.commits == plain.revision == 2 * count * rounds
    return _row("transactions of 1", 2 * count, best, floor, {}, confirm=confirm)


async def _twice(work: Callable[[Pairs], Awaitable[None]], pairs: Pairs, again: Pairs) -> None:
    await work(pairs)
    await work(again)


async def _transactions(size: int, count: int, rounds: int) -> Row:
    """Many keys a transaction; beside it the part that is spent on putting the
    transaction together.
    """
    handler, plain = Handler(), Plain()
    sync = DataSync("memory://")
    sync.watcher("config/", name="all")(handler)
    pairs = _pairs(2 * count)
    groups = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    making = [0.0]

    async def ours() -> None:
        for group in groups:
            start = time.thread_time()
            txn = _txn(sync, group)
            making[-1] += time.thread_time() - start
            await txn.commit(confirm=True)

    async def theirs() -> None:
        for group in groups:
            await plain.commit(group, plain.handle)

    def measure() -> Awaitable[float]:
        making.append(0.0)
        return _timed(ours())

    async with sync:
        await sync.ready(10)
        best, floor = await _best(rounds, measure, lambda: _timed(theirs()))
        assert handler.changes == plain.changes == len(pairs) * rounds
    dispatch = best - min(making[1:])
    return _row(
        f"transactions of {size}", len(pairs), best, floor,
        {"without making the transaction, changes/s": len(pairs) / dispatch}, confirm=True,
    )  # fmt: skip


def _txn(sync: DataSync, pairs: Pairs) -> Txn:
    txn = sync.txn()
    for key, value in pairs:
        txn.put(key, value)
    return txn


def _many_watches(steps: int, count: int, rounds: int) -> Iterator[Row]:
    """One key a transaction to one of many watches, each on a prefix of its own;
    always over the same keys.
    """
    one: dict[bool, float] = {}
    for watches in (10**step for step in range(steps)):
        for shuffled in (False, True):
            ours, plain = asyncio.run(_watches(watches, count, rounds, shuffled))
            one.setdefault(shuffled, ours)
            yield _row(
                "watches on prefixes of their own", count, ours, plain,
                {"cost against one watch": ours / one[shuffled]},
                watches=watches, order="shuffled" if shuffled else "in turn",
            )  # fmt: skip


async def _watches(watches: int, count: int, rounds: int, shuffled: bool) -> tuple[float, float]:
    sync = DataSync("memory://")
    handlers = [Handler() for _ in range(watches)]
    plain = Plain()
    routes = {}
    for number, handler in enumerate(handlers):
        sync.watcher(f"config/part{number}/", name=str(number))(handler)
        routes[f"config/part{number}"] = plain.handle
    pairs = _pairs(count, watches)
    if shuffled:
        random.Random(7).shuffle(pairs)

    async def ours() -> None:
        for key, value in pairs:
            await sync.put(key, value, confirm=True)

    async def theirs() -> None:
        for pair in pairs:
            await plain.commit((pair,), routes[pair[0].rpartition("/")[0]])

    async with sync:
        await sync.ready(60)
        best, floor = await _best(rounds, lambda: _timed(ours()), lambda: _timed(theirs()))
    assert plain.changes == count * rounds
    # where a key is written once only, each round writes the same bytes again, which is not a
    # change
    assert sum(handler.changes for handler in handlers) > count // 2
    return best, floor


async def _slow_beside_fast(count: int) -> Row:
    """A fast watch alone, beside another fast one, and beside one that sleeps 10 ms an event;
    all on the same keys.
    """
    backlog, keys = 256, 1_000
    pairs = [(f"config/{number % keys:04}", b"%0190d" % number) for number in range(count)]
    slow = SlowHandler()
    alone = beside_fast = beside_slow = float("inf")
    highest = 0
    for _ in range(3):
        alone = min(alone, (await _fast(pairs, backlog))[0])
        beside_fast = min(beside_fast, (await _fast(pairs, backlog, Handler()))[0])
        slow = SlowHandler()
        taken, waiting = await _fast(pairs, backlog, slow)
        beside_slow, highest = min(beside_slow, taken), max(highest, waiting)
    return Row(
        what="a fast watch beside one that sleeps 10 ms an event", unit="changes/s",
        ours=count / beside_slow,
        beside={"alone": count / alone, "beside a fast one": count / beside_fast},
        case={"changes": count, "keys": keys, "backlog": backlog},
        also={"slow one's backlog at most": highest, "its events": slow.events,
              "its commits": slow.commits},
    )  # fmt: skip


class SlowHandler:
    """Sleeps 10 ms an event, and keeps the newest values."""

    def __init__(self) -> None:
        self.events = 0
        self.commits = 0
        self.values: dict[str, bytes | None] = {}

    async def __call__(self, event: Event) -> None:
        await asyncio.sleep(0.01)
        self.events += 1
        self.commits += event.commits if type(event) is ChangeEvent else 0
        self.values.update((change.key, change.raw) for change in event.changes)


async def _fast(
    pairs: Pairs,
    backlog: int,
    other: Handler | SlowHandler | None = None,
) -> tuple[float, int]:
    """Seconds until the fast watch had it all, and the highest backlog that was
    seen of the other one.
    """
    sync = DataSync("memory://", backlog=backlog)
    fast = Handler()
    sync.watcher("config/", name="fast")(fast)
    if other is not None:
        sync.watcher("config/", name="other")(other)
    highest = 0
    async with sync:
        await sync.ready(10)
        taken, revision = 0.0, None
        for start in range(0, len(pairs), 100):
            begin = time.perf_counter()
            for key, value in pairs[start : start + 100]:
                revision = await sync.put(key, value)
            await fast.until(revision or 0)
            taken += time.perf_counter() - begin
            highest = max(highest, sync.status().watches[-1].backlog)
        assert fast.commits == len(pairs)
        async with asyncio.timeout(30):
            # it has no event to wait for
            while isinstance(other, SlowHandler) and other.values != dict(pairs):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    return taken, highest


# -- instructions ----------------------------------------------------------------------------------


def _ring(watches: int) -> list[tuple[str, bytes]]:
    """Writes to go round in, so that making them does not count; no value twice in a row."""
    size = max(100, watches)
    return [
        (f"config/part{number % watches}/{number % size}", b'{"name":"eth0","mtu":%d}' % number)
        for number in range(2 * size)
    ]


def _counting(*, watches: int = 1, confirm: bool = True) -> Work:
    """One key a transaction, to one of the watches in turn."""

    def work(times: int) -> None:
        asyncio.run(
            _put(itertools.islice(itertools.cycle(_ring(watches)), times), watches, confirm)
        )

    return work


async def _put(pairs: Iterable[tuple[str, bytes]], watches: int, confirm: bool) -> None:
    sync = DataSync("memory://")
    due = seen = 0

    async def handler(event: ResyncEvent[Interface] | ChangeEvent[Interface]) -> None:
        nonlocal seen
        for change in event.changes:
            assert change.value is not None
            seen += 1

    for number in range(watches):
        sync.watcher(f"config/part{number}/", type=Interface, name=str(number))(handler)
    async with sync:
        await sync.ready(600)
        for key, value in pairs:
            await sync.put(key, value, confirm=confirm)
            due += 1
        while seen < due:  # noqa: ASYNC110 - an event for each change would count, too
            await asyncio.sleep(0)


def _plain_loop(times: int) -> None:
    async def work() -> None:
        plain = Plain()
        for pair in itertools.islice(itertools.cycle(_ring(1)), times):
            await plain.commit((pair,), plain.handle)

    asyncio.run(work())


COUNTED: dict[str, Work] = {
    "one change, decoded, verdict awaited": _counting(),
    "one change, decoded, verdict not awaited": _counting(confirm=False),
    "one change, decoded, verdict awaited, 1,000 watches": _counting(watches=1_000),
    "one change, plain loop": _plain_loop,
}
