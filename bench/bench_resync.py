"""RESYNC: from the frames of a snapshot to a handler that accepted it,
and what a key costs in memory.

The source hands out a snapshot in chunks of 1,000, sorted or in random order. The plain loop beside
it, in the same run and in turn with ours, puts the chunks into a dict of (value, revision), sorts
the keys, makes a list of the pairs and calls the handler. Time is that of this thread on the
processor, for nothing waits.

Memory is measured in a process of its own. All keys and values exist before; what is counted is
what comes on top of them, revisions included: by tracemalloc (blocks in use), and again without it
as growth of the resident set, which includes what the allocator keeps of the memory that was needed
while the RESYNC was on its way.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from bench.rows import Row
from datasync import Capabilities, ChangeEvent, DataSync, ResyncEvent
from datasync.source import (
    Committed,
    Frame,
    Item,
    Operation,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Source,
)

Event = ResyncEvent[bytes] | ChangeEvent[bytes]

_CHUNK = 1_000


def run(quick: bool) -> Iterator[Row]:
    """All figures."""
    count, rounds = (4_000, 3) if quick else (100_000, 5)
    for order in ("sorted", "random"):
        keys, values = _data(count, order)
        for reads in (False, True):
            yield _compare(keys, values, rounds, order, reads=reads)
    for watches in (1, 10):
        for by in ("tracemalloc", "resident"):
            plain, ours = (_memory_apart(count, what, by) for what in ("plain", str(watches)))
            yield Row(
                what="memory beside key and value", unit="B/key", ours=ours,
                beside={"dict of (value, revision)": plain},
                case={"watches": watches, "keys": count, "by": by},
            )  # fmt: skip


class Snapshot(Source):
    """A source that is nothing but one snapshot."""

    name = "snapshot://"
    capabilities = Capabilities(
        order="total", atomic=True, snapshot="exact", every_value=True, revisions=True,
        resume=False, ttl=False,
        cas=False, reply=False, durable=False, writable=False,
    )  # fmt: skip

    def __init__(self, keys: Sequence[str], values: Sequence[bytes]) -> None:
        self._keys = keys
        self._values = values

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        return _SnapshotSession(scopes, self._keys, self._values)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        raise NotImplementedError

    async def get(self, key: str) -> tuple[bytes, int] | None:
        raise NotImplementedError

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        raise NotImplementedError


class _SnapshotSession(Session):
    def __init__(self, scopes: Sequence[str], keys: Sequence[str], values: Sequence[bytes]) -> None:
        self._scopes = scopes
        self._keys = keys
        self._values = values

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        yield [SnapshotBegin(self._scopes)]
        for chunk in _chunks(self._keys, self._values):
            yield [SnapshotChunk(chunk)]
        yield [SnapshotEnd(1, len(self._keys), "one")]
        await asyncio.Event().wait()  # until it is closed


def _chunks(keys: Sequence[str], values: Sequence[bytes]) -> Iterator[list[tuple[str, bytes, int]]]:
    """As a client of a store makes them; a revision is an object of its own."""
    for start in range(0, len(keys), _CHUNK):
        end = start + _CHUNK
        yield list(
            zip(keys[start:end], values[start:end], range(1000 + start, 1000 + end), strict=False)
        )


def _data(count: int, order: str) -> tuple[list[str], list[bytes]]:
    keys = [f"config/interface/{number:06}" for number in range(count)]
    if order == "random":
        random.Random(7).shuffle(keys)
    return keys, [b"%0190d" % number for number in range(count)]


def _read(event: Event) -> int:
    """Read every pair, as a handler does that replaces its state."""
    assert isinstance(event, ResyncEvent)
    state = {pair.key: pair.raw for values in event.values.values() for pair in values}
    return len(state)


def _count(event: Event) -> int:
    assert isinstance(event, ResyncEvent)
    return sum(map(len, event.values.values()))


async def _ours(
    keys: Sequence[str], values: Sequence[bytes], look: Callable[[Event], int]
) -> float:
    """Seconds from the start to the accepted RESYNC."""
    seen = 0
    sync = DataSync(Snapshot(keys, values))

    @sync.watcher("config/")
    async def everything(event: Event) -> None:
        nonlocal seen
        seen = look(event)

    start = time.thread_time()
    async with sync:
        await sync.ready(60)
        taken = time.thread_time() - start
    assert seen == len(keys)
    return taken


def _plain(keys: Sequence[str], values: Sequence[bytes], *, reads: bool) -> float:
    start = time.thread_time()
    state: dict[str, tuple[bytes, int]] = {}
    for chunk in _chunks(keys, values):
        for key, value, revision in chunk:
            state[key] = (value, revision)
    pairs = [(key, state[key]) for key in sorted(state)]
    seen = len({key: value for key, (value, _) in pairs}) if reads else len(pairs)
    taken = time.thread_time() - start
    assert seen == len(keys)
    return taken


def _compare(
    keys: Sequence[str], values: Sequence[bytes], rounds: int, order: str, *, reads: bool
) -> Row:
    ours = plain = float("inf")
    for _ in range(rounds):
        gc.collect()
        ours = min(ours, asyncio.run(_ours(keys, values, _read if reads else _count)))
        gc.collect()
        plain = min(plain, _plain(keys, values, reads=reads))
    return Row(
        what="RESYNC", unit="keys/s", ours=len(keys) / ours,
        beside={"plain loop": len(keys) / plain},
        case={"keys": len(keys), "order": order,
              "handler": "reads every pair" if reads else "counts"},
    )  # fmt: skip


def _memory_apart(count: int, what: str, by: str) -> float:
    """Bytes a key, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.bench_resync", str(count), what, by],
        capture_output=True,
        text=True,
        check=True,
    )
    bytes_in_all: int = json.loads(done.stdout)
    return bytes_in_all / count


def _resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _memory(count: int, what: str, by: str) -> int:
    """Bytes that a mirror of `count` keys takes beside them."""
    now: Callable[[], int] = _resident
    if by == "tracemalloc":
        tracemalloc.start()
        now = lambda: tracemalloc.get_traced_memory()[0]  # noqa: E731
    await _hold(10, what, lambda: 0)  # what is imported and cached at the first use does not count
    keys, values = _data(count, "random")
    return await _hold(count, what, now, (keys, values))


async def _hold(
    count: int, what: str, now: Callable[[], int], data: tuple[list[str], list[bytes]] | None = None
) -> int:
    keys, values = data or _data(count, "random")
    gc.collect()
    before = now()
    if what == "plain":
        state = {
            key: (value, revision)
            for chunk in _chunks(keys, values)
            for key, value, revision in chunk
        }
        gc.collect()
        assert len(state) == count
        return now() - before
    sync = DataSync(Snapshot(keys, values))
    seen = [0] * int(what)

    def register(number: int) -> None:
        @sync.watcher("config/", name=str(number))
        async def everything(event: Event) -> None:
            seen[number] = _count(event)

    for number in range(len(seen)):
        register(number)
    async with sync:
        await sync.ready(60)
        gc.collect()
        taken = now() - before
    assert seen == [count] * len(seen)
    return taken


if __name__ == "__main__":
    print(asyncio.run(_memory(int(sys.argv[1]), sys.argv[2], sys.argv[3])))
