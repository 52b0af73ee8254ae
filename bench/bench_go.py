"""Changes in memory, decoded and accepted, beside Go: the package v1.0.5 and client-go's informer.

One writes and waits until its change was handled before it writes the next one. The Go programs are
run in turn with ours, the best of several rounds each, by the clock: goroutines and the garbage
collector use more than one core, as they would elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec

from bench.go_programs import built, seconds
from bench.rows import Row
from bench.turns import Measure, best_of
from datasync import ChangeEvent, DataSync, ResyncEvent

KEYS = 100
SAFE = 5
"""Changes in one transaction of the Go package: it drops the verdicts of more than that."""


class Interface(msgspec.Struct):
    """What the values are decoded to."""

    name: str
    mtu: int


def run(quick: bool) -> Iterator[Row]:
    """The rows: one change a transaction, and a hundred."""
    count, rounds = (500, 1) if quick else (100_000, 5)
    package, informer = built("cninfra"), built("informer")

    others: dict[str, Measure] = {}
    if package is not None:
        others["Go package v1.0.5"] = lambda: seconds(package, count, 1)
    if informer is not None:
        others["client-go's informer"] = lambda: seconds(informer, count)
    yield _row("one change a transaction", count, 1, rounds, others)

    others = {}
    if package is not None:
        others[f"Go package v1.0.5, {SAFE} a transaction"] = lambda: seconds(package, count, SAFE)
    yield _row("100 changes a transaction", count, 100, rounds, others)


def _row(what: str, count: int, size: int, rounds: int, others: dict[str, Measure]) -> Row:
    best = best_of(rounds, {"": lambda: asyncio.run(_ours(count, size)), **others})
    rates = {name: count / taken for name, taken in best.items()}
    return Row(
        what=f"{what}, decoded, verdict awaited", unit="changes/s", ours=rates.pop(""),
        beside=rates,
    )  # fmt: skip


async def _ours(count: int, size: int) -> float:
    """Seconds for all changes."""
    seen = 0
    sync = DataSync("memory://")

    @sync.watcher("config/", type=Interface)
    async def handler(event: ResyncEvent[Interface] | ChangeEvent[Interface]) -> None:
        nonlocal seen
        for change in event.changes:
            assert change.value is not None
            seen += 1

    async with sync:
        await sync.ready(60)
        began = time.perf_counter()
        if size == 1:
            for number in range(count):
                await sync.put(*_pair(number), confirm=True)
        else:
            for first in range(0, count, size):
                txn = sync.txn()
                for number in range(first, first + size):
                    txn.put(*_pair(number))
                await txn.commit(confirm=True)
        taken = time.perf_counter() - began
    assert seen == count
    return taken


def _pair(number: int) -> tuple[str, bytes]:
    return f"config/{number % KEYS}", b'{"name":"eth0","mtu":%d}' % number
