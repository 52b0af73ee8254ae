"""The planner of reconcile: objects with ten needs each, and handlers that do nothing.

Beside it stands the plainest loop that calls the same handlers in a right order, which somebody has
worked out before, and the reconciler of EVE (Go), by the time of all its threads: it is given
objects, and makes its graph of them, as the planner does. All needs lead to objects in front, as if
by chance; the objects come in random order. Time is that of this thread on the processor; what is
measured is planning alone, without a store and without tasks, but for one row, where a `Reconciler`
follows a store in memory.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.go_programs import built, seconds
from bench.rows import Row
from bench.turns import Measure, best_of
from datasync import DataSync
from datasync.reconcile import Kind, Reconciler
from datasync.reconcile.needs import Needs
from datasync.reconcile.planner import Planner

Objects = list[tuple[str, tuple[Needs, ...]]]

_NEEDS = 10
PLAIN = "plain loop in a right order"


def run(quick: bool) -> Iterator[Row]:
    """All figures."""
    sizes, rounds = ((100, 1_000), 1) if quick else ((100, 1_000, 10_000, 100_000), 3)
    eve = built("reconciler")
    for size in sizes:
        yield _all_at_once(size, rounds, eve)
        yield _one_change(size)
    for size in sizes[:3]:
        yield _from_a_store(size, rounds)
    yield _memory(1_000 if quick else 100_000)


class Nothing:
    """A kind whose values are the needs themselves, and which does nothing."""

    name = "nothing"
    limit = 64
    is_derived = False
    can_retrieve = False

    def __init__(self) -> None:
        self.calls = 0

    def validate(self, key: str, value: Any) -> None: ...

    def needs(self, key: str, value: Any) -> Iterable[Needs]:
        needs: Iterable[Needs] = value
        return needs

    def derive(self, key: str, value: Any) -> Mapping[str, Any]:
        return {}

    def equal(self, key: str, old: Any, new: Any) -> bool:
        return bool(old == new)

    def needs_recreate(self, key: str, old: Any, new: Any) -> bool:
        return False

    def create(self, key: str, value: Any) -> None:
        self.calls += 1


def _objects(size: int, needs: int) -> Objects:
    """In a right order."""
    rng = random.Random(7)
    return [
        (
            f"config/object/{number:06}",
            tuple(
                Needs.key(f"config/object/{rng.randrange(number):06}")
                for _ in range(min(number, needs))
            ),
        )
        for number in range(size)
    ]


def _carry_out(planner: Planner, kind: Nothing) -> None:
    while operations := planner.start():
        for op in operations:
            kind.create(op.key, op.new)
            planner.done(op)


def _planned(objects: Objects) -> tuple[Planner, Nothing]:
    kind = Nothing()
    planner = Planner(lambda key: kind, float)
    for key, value in objects:
        planner.put(key, value)
    _carry_out(planner, kind)
    assert kind.calls == len(objects)
    return planner, kind


def _all_at_once(size: int, rounds: int, eve: Path | None) -> Row:
    ordered = _objects(size, _NEEDS)
    shuffled = random.Random(8).sample(ordered, size)
    others: dict[str, Measure] = {PLAIN: lambda: _timed(lambda: _one_by_one(ordered))}
    if eve is not None:
        others["EVE's reconciler, with its graph"] = lambda: seconds(eve, size)
    best = best_of(rounds, {"": lambda: _timed(lambda: _planned(shuffled)), **others})
    return _row("all objects planned and applied", size, best)


def _timed(work: Callable[[], object]) -> float:
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def _one_by_one(ordered: Objects) -> None:
    kind, there = Nothing(), {}
    for key, value in ordered:
        kind.create(key, value)
        there[key] = value


def _row(what: str, size: int, best: dict[str, float]) -> Row:
    taken = {name: one * 1e3 for name, one in best.items()}
    return Row(
        what=what, unit="ms", ours=taken.pop(""), beside=taken,
        case={"objects": size, "needs": _NEEDS},
    )  # fmt: skip


class AsyncNothing(Kind[list[str], None]):
    """The same, as an application would write it; the values are the keys that are needed."""

    limit = 64

    def __init__(self, size: int) -> None:
        self.left = size
        self.done = asyncio.Event()

    def needs(self, key: str, value: list[str]) -> list[Needs]:
        return [Needs.key(one) for one in value]

    async def create(self, key: str, value: list[str]) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()

    async def delete(self, key: str, value: list[str], handle: None) -> None: ...


def _from_a_store(size: int, rounds: int) -> Row:
    ordered = [
        (key, [need.keys[0] for need in needs]) for key, needs in _objects(size, _NEEDS)
    ]  # fmt: skip
    best = best_of(
        rounds,
        {
            "": lambda: asyncio.run(_followed(ordered)),
            PLAIN: lambda: asyncio.run(_awaited_one_by_one(ordered)),
        },
    )
    return _row("all objects applied from a store in memory", size, best)


async def _followed(ordered: list[tuple[str, list[str]]]) -> float:
    async with DataSync("memory://") as sync:
        for begin in range(0, len(ordered), 500):
            txn = sync.txn()
            for key, value in ordered[begin : begin + 500]:
                txn.put(key, value)
            await txn.commit()

        kind = AsyncNothing(len(ordered))
        rec = Reconciler(sync, ack_timeout=600.0)
        rec.add("config/object/", kind, type=list[str])
        gc.collect()
        started = time.thread_time()
        async with rec:
            await kind.done.wait()
            return time.thread_time() - started


async def _awaited_one_by_one(ordered: list[tuple[str, list[str]]]) -> float:
    kind, there = AsyncNothing(len(ordered)), {}
    started = time.thread_time()
    for key, value in ordered:
        await kind.create(key, value)
        there[key] = value
    return time.thread_time() - started


def _one_change(size: int) -> Row:
    planner, kind = _planned(_objects(size, _NEEDS))
    looks, changes = planner.looks, 50
    begin = time.thread_time()
    for number in range(changes):
        needs = tuple(Needs.key(f"config/object/{one:06}") for one in range(_NEEDS))
        planner.put(f"config/more/{number}", needs)
        _carry_out(planner, kind)
    took = time.thread_time() - begin
    return Row(
        what="one object more", unit="µs", ours=took / changes * 1e6,
        case={"objects": size, "needs": _NEEDS},
        also={"objects looked at": (planner.looks - looks) / changes},
    )  # fmt: skip


def _memory(size: int) -> Row:
    objects = _objects(size, 2)
    tracemalloc.start()
    planner, _ = _planned(objects)
    planner.changes()
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return Row(
        what="memory beside key and value", unit="B/object", ours=taken / size,
        case={"objects": size, "needs": 2},
    )  # fmt: skip
