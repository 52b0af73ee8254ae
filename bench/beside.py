"""What is measured of every store, beside a plain client that does the same
work in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import socket
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from bench.bench_codec import _classes, _interface
from bench.rows import Row
from datasync import DataSync, ResyncEvent
from datasync.codec import codec_for

__all__ = ["Raw", "figures", "in_turns", "rated", "reached"]

RAW = "plain client"


class Raw(Protocol):
    """The plain client of a store.

    Loads what lies under load/, follows what happens under watch/.
    """

    async def fill(self, values: Sequence[bytes]) -> None:
        """Store all values under load/."""

    async def load(self) -> Mapping[str, Any]:
        """What is stored by key, as such a client would keep it."""

    def value(self, kept: Any) -> bytes:
        """The value in what `load` keeps of a key."""

    def follow(self) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Sequence[bytes]]]:
        """The new values from now on, as they come."""

    async def clear(self) -> None:
        """Delete what lies under watch/."""

    async def aclose(self) -> None:
        """Close its connections."""


class Store:
    """One store: the URL for datasync, the plain client,
    and the module whose main writes to it in another process.
    """

    def __init__(self, url: str, raw: Callable[[], Raw], module: str, port: int) -> None:
        self.url = url
        self.raw = raw
        self._command = [sys.executable, "-m", module, str(port)]

    def writer(self, count: int, batch: int, rate: float) -> subprocess.Popen[bytes]:
        """Writes `count` changes, `batch` at a time, at `rate` a second (0: as fast as it goes);
        the time in each.
        """
        return subprocess.Popen([*self._command, str(count), str(batch), str(rate)])


def figures(
    url: str,
    raw: Callable[[], Raw],
    module: str,
    port: int,
    *,
    keys: int,
    follow: Mapping[int, int],
    quick: bool,
) -> Iterator[Row]:
    """All figures of a store, filled with `keys` keys; `follow`: how many changes are followed,
    by size of batch.
    """
    store = Store(url, raw, module, port)
    asyncio.run(_fill(store, keys))
    yield from _load(store, keys, 1 if quick else 5)
    yield from _memory(store, keys)
    yield from _latency(store, quick)
    yield from _follow(store, follow, 1 if quick else 3)


def reached(port: int) -> None:
    """Wait until something listens."""
    for _ in range(6000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port} within a minute")


async def rated(count: int, batch: int, rate: float) -> AsyncIterator[int]:
    """The number of the first change of each batch, when it is due."""
    began = time.monotonic()
    for number in range(0, count, batch):
        if rate:
            await asyncio.sleep(began + number / rate - time.monotonic())
        yield number


# -- what is measured ------------------------------------------------------------------------------


async def _fill(store: Store, keys: int) -> None:
    client = store.raw()
    await client.fill(
        [json.dumps(_interface(number), separators=(",", ":")).encode() for number in range(keys)]
    )
    await client.aclose()


async def _datasync_load(store: Store, kind: type[Any], use: Callable[[Any], object]) -> float:
    """Seconds from the start until a handler has had all values in its hands."""
    sync = DataSync(store.url, resync_timeout=600)
    done = asyncio.Event()

    @sync.watcher("load/", type=kind)
    async def handler(event: Any) -> None:
        for kv in event.values["load/"]:
            use(kv)
        done.set()

    began = time.perf_counter()
    async with sync:
        await done.wait()
        return time.perf_counter() - began


async def _raw_load(store: Store, use: Callable[[bytes], object]) -> float:
    began = time.perf_counter()
    raw = store.raw()
    # kept, as an event keeps what was decoded
    kept = [use(raw.value(item)) for item in (await raw.load()).values()]
    took = time.perf_counter() - began
    assert kept
    await raw.aclose()
    return took


def in_turns(
    raw: Callable[[], Awaitable[Any]], ours: Callable[[], Awaitable[Any]], times: int
) -> tuple[Any, Any]:
    """The results of both, in turns."""
    first, second = [], []
    for _ in range(times):
        gc.collect()
        first.append(asyncio.run(_run(raw)))
        gc.collect()
        second.append(asyncio.run(_run(ours)))
    return first, second


async def _run(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


def _load(store: Store, keys: int, times: int) -> Iterator[Row]:
    message, _ = _classes()
    decode = codec_for(message, "json").decode
    kinds: list[tuple[str, Any, Callable[[bytes], object], Callable[[Any], object]]] = [
        ("undecoded", bytes, len, lambda kv: kv.raw),
        ("protobuf", message, lambda raw: decode("key", raw), lambda kv: kv.value),
    ]
    for name, kind, of_raw, of_ours in kinds:
        raw, ours = in_turns(
            lambda use=of_raw: _raw_load(store, use),  # type: ignore[misc]
            lambda kind=kind, use=of_ours: _datasync_load(store, kind, use),  # type: ignore[misc]
            times,
        )
        raw_s, ours_s = statistics.median(raw), statistics.median(ours)
        yield Row(
            what="load", unit="keys/s", ours=keys / ours_s, beside={RAW: keys / raw_s},
            case={"values": name, "keys": keys},
        )  # fmt: skip


async def _follow_raw(
    store: Store, count: int, batch: int, rate: float, note: Callable[[bytes], object]
) -> float:
    raw = store.raw()
    await raw.clear()
    async with raw.follow() as changes:
        writer = store.writer(count, batch, rate)
        seen, began = 0, 0.0
        while seen < count:
            values = await anext(changes)
            began = began or _written(values[0])
            for value in values:
                note(value)
            seen += len(values)
        took = time.monotonic() - began
    await raw.aclose()
    writer.wait()
    return took


async def _follow_ours(
    store: Store, count: int, batch: int, rate: float, note: Callable[[bytes], object]
) -> float:
    raw = store.raw()
    await raw.clear()
    await raw.aclose()
    sync = DataSync(store.url)
    done = asyncio.Event()
    seen, began, last = 0, 0.0, 0.0

    @sync.watcher("watch/")
    async def handler(event: Any) -> None:
        nonlocal seen, began, last
        if isinstance(event, ResyncEvent):
            return
        began = began or _written(event.changes[0].raw)
        for change in event.changes:
            note(change.raw)
        seen += len(event.changes)
        if seen >= count:
            last = time.monotonic()
            done.set()

    async with sync:
        await sync.ready()
        writer = store.writer(count, batch, rate)
        await done.wait()
    writer.wait()
    return last - began


def _written(value: bytes) -> float:
    """When it was written, by the clock that all processes share."""
    return int(value.split(b" ", 1)[0]) / 1e9


def _follow(store: Store, follow: Mapping[int, int], times: int) -> Iterator[Row]:
    for batch, count in follow.items():
        raw, ours = in_turns(
            lambda b=batch, c=count: _follow_raw(store, c, b, 0, len),  # type: ignore[misc]
            lambda b=batch, c=count: _follow_ours(store, c, b, 0, len),  # type: ignore[misc]
            times,
        )
        raw_s, ours_s = statistics.median(raw), statistics.median(ours)
        yield Row(
            what="follow a writer at full speed", unit="changes/s", ours=count / ours_s,
            beside={RAW: count / raw_s}, case={"keys at a time": batch, "changes": count},
        )  # fmt: skip


def _latency(store: Store, quick: bool) -> Iterator[Row]:
    count, rate = (200 if quick else 2_000), 200.0
    found: list[list[float]] = []
    for follow in (_follow_raw, _follow_ours):
        waits: list[float] = []

        def note(value: bytes, waits: list[float] = waits) -> None:
            waits.append(time.monotonic() - _written(value))

        gc.collect()
        asyncio.run(follow(store, count, 1, rate, note))
        found.append(sorted(waits))
    for share in (50, 99):
        raw, ours = (waits[math.ceil(len(waits) * share / 100) - 1] * 1e3 for waits in found)
        yield Row(
            what="latency put → handler", unit="ms", ours=ours, beside={RAW: raw},
            case={"percentile": share, "puts a second": round(rate)},
        )  # fmt: skip


def _memory(store: Store, keys: int) -> Iterator[Row]:
    async def raw() -> Any:
        client = store.raw()
        tracemalloc.start()
        items = await client.load()
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        await client.aclose()
        return size, sum(
            sys.getsizeof(key) + sys.getsizeof(client.value(kept)) for key, kept in items.items()
        )

    async def ours() -> int:
        sync = DataSync(store.url)

        @sync.watcher("load/")
        async def handler(event: Any) -> None:
            pass

        tracemalloc.start()
        async with sync:
            await sync.ready()
            gc.collect()
            size = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
        return size

    raw_bytes, payload = asyncio.run(raw())
    yield Row(
        what="memory beside key and value", unit="B/key",
        ours=(asyncio.run(ours()) - payload) / keys, beside={RAW: (raw_bytes - payload) / keys},
        case={"keys": keys}, also={"key and value, B": payload / keys},
    )  # fmt: skip
