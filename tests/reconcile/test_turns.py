"""Turns in portions: what is decided does not depend on them, and nobody waits for long."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Collection, Iterator, Mapping

import msgspec
import pytest

from datasync import DataSync, WatchClosed
from datasync.reconcile import Found, Kind, Needs, Reconciler, State, turns
from datasync.reconcile.planner import Planner
from datasync.reconcile.plans import Plan
from datasync.reconcile.turns import Turns
from datasync.testing.contract import eventually
from datasync.testing.reconcile import Harness
from tests.helpers.reconcile.things import Thing, Things
from tests.helpers.reconcile.watched import Watched
from tests.helpers.reconcile.world import Things as Rules
from tests.helpers.reconcile.world import Value

_KEYS = [f"x/{number}" for number in range(12)]


class Part(msgspec.Struct, frozen=True):
    number: int = 0
    needs: list[str] = []
    either: list[str] = []


class Parts(Kind[Part, int]):
    limit = 4

    async def create(self, key: str, value: Part) -> int:
        raise NotImplementedError

    async def update(self, key: str, old: Part, new: Part, handle: int) -> int:
        raise NotImplementedError

    async def delete(self, key: str, value: Part, handle: int) -> None: ...

    async def retrieve(
        self, expected: Mapping[str, Part], keys: Collection[str] | None
    ) -> list[Found[Part, int]]:
        raise NotImplementedError

    def needs(self, key: str, value: Part) -> Iterator[Needs]:
        for one in value.needs:
            yield Needs.key(one, recreate_on_change=value.number == 1)
        if value.either:
            yield Needs.any_of(*value.either, goes_with=value.number == 2)


def played(seed: int) -> list[object]:
    """A game with transactions, failures, drift and crashes; all that was done, in order."""
    rng = random.Random(seed)

    def value(key: str) -> Part:
        others = [other for other in _KEYS if other != key]
        return Part(
            rng.randrange(4), rng.sample(others, rng.choice([0, 1, 1, 2])),
            rng.sample(others, rng.choice([0, 0, 2])),
        )  # fmt: skip

    with Harness() as harness:
        harness.add("x/", Parts(), type=Part)
        done: list[object] = [harness.put("x/0", Part())]
        for _ in range(12):
            happens = rng.random()
            key = rng.choice(_KEYS)
            if happens < 0.15:
                harness.fail(f"{rng.choice(['create', 'update', 'delete'])} {key}", OSError("no"))
            elif happens < 0.3:
                harness.lose(key)
                done.append(harness.refresh())
            elif happens < 0.35:
                done.append(harness.restart())
            put = {one: value(one) for one in rng.sample(_KEYS, rng.randint(1, 8))}
            gone = [one for one in rng.sample(_KEYS, 3) if one not in put]
            done.append(harness.apply(put, gone))
            done.append(harness.advance(rng.choice([0.05, 1.0])))
            done.append([(one, harness.state(one)) for one in _KEYS])
        done.append(harness.advance(60.0))
        assert harness.check() == []
    return done


@pytest.mark.parametrize("seed", range(12))
def test_portions_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = played(seed)
    assert sum(map(len, whole)) > 100  # type: ignore[arg-type]
    for portion in (1, 3):
        monkeypatch.setattr(turns, "PORTION", portion)
        assert played(seed) == whole


class Counted(Things):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def needs(self, key: str, value: Thing) -> list[Needs]:
        self.asked += 1
        return super().needs(key, value)


@pytest.mark.parametrize("first", ["stored", "found"])
def test_the_loop_turns_while_many_objects_are_decided(first: str) -> None:
    size = 3_000

    async def main() -> None:
        async with DataSync("memory://") as sync:
            txn = sync.txn()
            for number in range(size):
                needs = [f"x/{number - 1}"] if number % 100 else []
                txn.put(f"x/{number}", Thing(needs=needs))
            if first == "stored":
                await txn.commit()
            kind = Counted()
            rec = Reconciler(sync, ack_timeout=60.0)
            rec.add("x/", kind, type=Thing)
            planner = rec._planner
            watched = Watched(lambda: planner.looks, lambda: kind.asked)
            async with watched, rec:
                if first == "found":
                    await sync.ready(60)
                    await txn.commit(confirm=60)
                await eventually(lambda: rec.state(f"x/{size - 1}") is State.APPLIED)
                await eventually(lambda: not rec._turns.is_busy and planner.is_quiet)
            looks, asked = watched.most
            assert 0 < looks <= turns.PORTION
            assert 0 < asked <= turns.PORTION
            assert watched.turns > size // turns.PORTION

    asyncio.run(main())


def most_calls(planner: Planner) -> int:
    """The calls in the longest step of a turn, whose operations succeed."""
    calls = most = 0

    def count(frame: object, event: str, called: object) -> None:
        nonlocal calls
        calls += event == "call"

    begun = []
    steps = planner.steps()
    sys.setprofile(count)
    try:
        for op in steps:
            most, calls = max(most, calls), 0
            if op is not None:
                begun.append(op)
    finally:
        sys.setprofile(None)
    for op in begun:
        planner.done(op)
    return max(most, calls)


@pytest.mark.parametrize(
    "need",
    [
        Needs.key("if"),
        Needs.key("if", goes_with=True),
        Needs.key("if", recreate_on_change=True),
        Needs.any_of("if", "bond"),
        Needs.any_of("if", "bond", goes_with=True),
    ],
    ids=str,
)
def test_no_step_is_longer_where_many_need_the_same(need: Needs) -> None:
    size = 600
    kind = Rules("things", limit=10 * size)
    planner = Planner(lambda key: kind, float)
    for number in range(size):
        planner.put(f"x/{number}", Value(0, (need,)))
    most = 0
    for goal in (Value(0), Value(1), None, Value(0)):
        if goal is None:
            planner.delete("if")
        else:
            planner.put("if", goal)
        while planner.running or planner._dirty:
            most = max(most, most_calls(planner))
        assert all(
            planner.graph.nodes[f"x/{number}"].state
            is (State.PENDING if goal is None else State.APPLIED)
            for number in range(size)
        )
    assert 0 < most < size / 2


def test_the_loop_turns_while_many_short_turns_follow_each_other() -> None:
    size = 200

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=60.0)
            kind = Things()
            kind.limit = size
            rec.add("x/", kind, type=Thing)
            async with rec:
                await sync.ready(60)
                async with Watched(lambda: rec._planner.looks) as watched:
                    txn = sync.txn()
                    for number in range(size):
                        txn.put(f"x/{number}", Thing())
                        for user in range(5):
                            txn.put(f"x/{number}/{user}", Thing(needs=[f"x/{number}"]))
                    await txn.commit(confirm=60)
                assert 0 < watched.most[0] <= turns.PORTION

    asyncio.run(main())


def test_nobody_hears_of_what_is_decided_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PORTION", 1)

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=60.0)
            rec.add("x/", Things(), type=Thing)
            async with rec:
                await sync.ready(60)
                await sync.put("x/a", Thing(), confirm=60)
                txn = sync.txn()
                # what comes last is needed by what comes first
                txn.put("x/a", Thing(needs=["x/b"]))
                txn.put("x/b", Thing(needs=["x/c"]))
                txn.put("x/c", Thing(needs=["x/d"]))
                txn.put("x/d", Thing())
                waiting = asyncio.create_task(rec.wait("x/a", State.APPLIED, 60))
                await asyncio.sleep(0)
                await txn.commit(confirm=60)
                assert [rec.state(f"x/{one}") for one in "abcd"] == [State.APPLIED] * 4
                await waiting

    asyncio.run(main())


def told_nothing(planner: Planner) -> Turns:
    return Turns(planner, lambda op, plan: None, lambda: None, lambda plan: None)


def test_what_is_not_told_before_the_end_says_so() -> None:
    async def main() -> None:
        it = told_nothing(Planner(lambda key: None, float))

        def long() -> Iterator[None]:
            for _ in range(3 * turns.PORTION):
                yield

        waiting = asyncio.create_task(it.told(long))
        await asyncio.sleep(0)
        assert it.is_half_way
        it.close()
        with pytest.raises(WatchClosed, match="the reconciler has been closed"):
            await waiting
        with pytest.raises(WatchClosed, match="the reconciler has been closed"):
            await it.told(long)
        it.tell(long)
        assert not it.is_busy

    asyncio.run(main())


def test_news_that_raise_hold_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        it = told_nothing(Planner(lambda key: None, float))

        def bad() -> Iterator[None]:
            for _ in range(turns.PORTION):
                yield
            raise KeyError("unheard of")

        it.tell(bad)
        with pytest.raises(KeyError, match="unheard of"):
            await it.told(bad)
        await it.told(lambda: None, Plan("after it", 0.0))
        assert not it.is_busy

    asyncio.run(main())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]
