"""What a reconciler shows of itself: the objects that are not applied, counts, the last plans."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec
import pytest

from datasync import Backoff, DataSync, NotApplied, UsageError
from datasync.reconcile import (
    Found,
    Kind,
    KindStatus,
    Needs,
    ObjectChange,
    ObjectStatus,
    Reconciler,
    ReconcilerStatus,
    State,
    Verb,
)
from datasync.reconcile.changes import Changes
from datasync.testing.contract import eventually


class Thing(msgspec.Struct, frozen=True):
    needs: list[str] = []
    bad: str = ""


class Things(Kind[Thing, None]):
    """Fails, or refuses, where it is told to."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.release.set()

    async def create(self, key: str, value: Thing) -> None:
        await self.release.wait()
        if value.bad == "fails":
            raise OSError("no such device")

    async def delete(self, key: str, value: Thing, handle: None) -> None: ...

    def needs(self, key: str, value: Thing) -> list[Needs]:
        return [Needs.key(other) for other in value.needs]

    def validate(self, key: str, value: Thing) -> None:
        if value.bad == "invalid":
            raise ValueError("it is bad")


@contextlib.asynccontextmanager
async def agent(**options: Any) -> AsyncIterator[tuple[DataSync, Reconciler, Things]]:
    async with DataSync("memory://") as sync:
        rec = Reconciler(sync, ack_timeout=20.0, retry=Backoff(600, 600), **options)
        things = Things()
        rec.add("x/", things, type=Thing)
        rec.add("y/", Things(), type=Thing)
        async with rec:
            await sync.ready(60)
            yield sync, rec, things


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def put(sync: DataSync, **values: Thing) -> None:
    txn = sync.txn()
    for name, value in values.items():
        txn.put(name.replace("_", "/"), value)
    with contextlib.suppress(NotApplied):  # which says so of those that are not applied
        await txn.commit(confirm=60)


def test_what_is_not_applied_is_shown_with_its_reason_and_the_rest_is_counted() -> None:
    async def main() -> None:
        async with agent() as (sync, rec, _):
            await put(
                sync, x_a=Thing(), x_b=Thing(), x_waits=Thing(["x/gone", "x/a", "y/gone"]),
                x_bad=Thing(bad="invalid"), y_fails=Thing(bad="fails"),
            )  # fmt: skip
            now = rec.status()
        assert now.answered
        assert now.kinds == [
            KindStatus("Things", "x/", {"pending": 1, "applied": 2, "invalid": 1}),
            KindStatus("Things", "y/", {"failed": 1}),
        ]
        bad, waits, fails = now.objects
        assert bad == ObjectStatus("x/bad", "x/", State.INVALID, "it is bad")
        assert waits == ObjectStatus(
            "x/waits", "x/", State.PENDING, "waits for x/gone, y/gone", ["x/gone", "y/gone"]
        )
        assert (fails.key, fails.kind, fails.state) == ("y/fails", "y/", State.FAILED)
        assert fails.reason == "create: OSError: no such device"
        assert fails.attempts == 1
        assert fails.retry_at is not None
        assert 300 < fails.retry_at - time.time() < 900
        assert now.in_state(State.PENDING) == [waits]
        assert now.in_state(State.REMOVING) == []

        # plain data, that goes through JSON, and stays as it is
        assert msgspec.json.decode(msgspec.json.encode(now), type=ReconcilerStatus) == now
        with pytest.raises(AttributeError):
            now.objects = []  # type: ignore[misc]

    run(main())


def test_what_has_gone_is_counted_no_more() -> None:
    async def main() -> None:
        async with agent() as (sync, rec, _):
            await put(sync, x_a=Thing(), x_b=Thing(["x/c"]))
            await sync.txn().delete("x/a").delete("x/b").commit(confirm=60)
            await rec.wait("x/a", None, 60)
            assert rec.status().kinds[0].objects == {}
            assert rec.status().objects == []

    run(main())


def test_a_kind_that_cannot_be_read_says_why() -> None:
    class Unreadable(Things):
        async def retrieve(self, expected: object, keys: object) -> list[Any]:
            raise OSError("no permission")

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync)
            rec.add("x/", Unreadable(), type=Thing)
            assert not rec.status().answered
            async with rec:
                await eventually(lambda: "no permission" in rec.status().kinds[0].unread)
                assert rec.status().answered

    run(main())


def test_a_plan_is_one_transaction_with_all_that_follows_from_it() -> None:
    async def main() -> None:
        async with agent() as (sync, rec, _):
            await put(sync, x_b=Thing(["x/a"]))
            assert rec.status().plans == []  # it brought nothing to do
            await put(sync, x_a=Thing(), y_fails=Thing(bad="fails"))
            await put(sync, x_a=Thing(), x_c=Thing())
            first, second = rec.status().plans

        assert (first.number, first.cause) == (1, "change of 2 keys")
        assert abs(first.began - time.time()) < 600
        assert first.duration is not None
        told = [(one.verb, one.key, one.outcome, one.reason) for one in first.operations]
        assert told == [
            (Verb.CREATE, "x/a", "done", ""),
            (Verb.CREATE, "y/fails", "failed", "OSError: no such device"),
            (Verb.CREATE, "x/b", "done", ""),
        ]
        assert first.outcomes == {"done": 2, "failed": 1}
        a, _, b = first.operations
        assert a.duration is not None
        assert b.duration is not None
        assert 0 <= a.began <= a.began + a.duration <= b.began  # x/b needs x/a
        assert b.began + b.duration <= first.duration
        assert (second.number, second.outcomes) == (2, {"done": 1})

    run(main())


def test_a_plan_that_is_under_way_says_so_and_one_that_is_cut_off() -> None:
    async def main() -> None:
        async with agent() as (sync, rec, things):
            things.release.clear()
            await sync.put("x/a", Thing())
            await rec.wait("x/a", State.RUNNING, 60)
            [plan] = rec.status().plans
            assert (plan.duration, plan.outcomes) == (None, {"running": 1})
            assert plan.operations[0].outcome == "running"
            assert plan.operations[0].duration is None
            assert [one.key for one in rec.status().in_state(State.RUNNING)] == ["x/a"]
        [plan] = rec.status().plans
        assert plan.outcomes == {"cancelled": 1}

    run(main())


def test_plans_and_their_operations_are_bounded() -> None:
    async def main() -> None:
        async with agent() as (sync, rec, _):
            await put(sync, **{f"x_{number}": Thing() for number in range(300)})
            [plan] = rec.status().plans
            assert plan.outcomes == {"done": 300}
            assert len(plan.operations) == 200
            for number in range(60):
                await put(sync, **{f"y_{number}": Thing()})
            assert [plan.number for plan in rec.status().plans] == list(range(12, 62))

    run(main())


def test_changes_are_shown_as_they_come_with_their_reasons_and_end_with_the_reconciler() -> None:
    async def main() -> None:
        async with agent() as (sync, rec, _):
            changes = rec.changes()
            await put(sync, x_b=Thing(["x/a"]))
            assert await anext(changes) == ObjectChange("x/b", None, State.PENDING, "waits for x/a")
            await put(sync, x_a=Thing())
            others = rec.changes()
        told = [(one.key, one.old, one.new) async for one in changes]
        assert [one for one in told if one[0] == "x/a"] == [
            ("x/a", None, State.RUNNING),
            ("x/a", State.RUNNING, State.APPLIED),
        ]
        assert told[-1] == ("x/b", State.RUNNING, State.APPLIED)
        assert [one async for one in others] == []
        assert [one async for one in rec.changes()] == []

    run(main())


def test_a_reader_that_waits_is_woken_and_one_that_is_gone_is_forgotten() -> None:
    async def main() -> None:
        async with agent() as (sync, rec, _):
            changes = rec.changes()

            async def first(changes: AsyncIterator[ObjectChange]) -> str:
                return (await anext(changes)).key

            waiting = asyncio.create_task(first(changes))
            await asyncio.sleep(0)
            await put(sync, x_a=Thing())
            assert await asyncio.wait_for(waiting, 60) == "x/a"
            assert len(rec._readers) == 1
            del changes, waiting
            await put(sync, x_b=Thing())
            assert len(rec._readers) == 0

    run(main())


def test_beyond_the_bound_changes_are_folded_by_object() -> None:
    async def main() -> None:
        slow = Changes(2)
        slow.add(ObjectChange("a", None, State.PENDING))
        slow.add(ObjectChange("a", State.PENDING, State.RUNNING))
        # from here on only the way from where it was to where it is
        slow.add(ObjectChange("a", State.RUNNING, State.FAILED, "why"))
        slow.add(ObjectChange("b", None, State.RUNNING))
        slow.add(ObjectChange("c", None, State.RUNNING))
        slow.add(ObjectChange("a", State.FAILED, State.APPLIED))
        slow.add(ObjectChange("c", State.RUNNING, None))
        read = [await anext(slow) for _ in range(4)]
        assert read == [
            ObjectChange("a", None, State.PENDING),
            ObjectChange("a", State.PENDING, State.RUNNING),
            ObjectChange("b", None, State.RUNNING),
            ObjectChange("a", State.RUNNING, State.APPLIED),
        ]
        slow.add(ObjectChange("a", State.APPLIED, State.REMOVING))
        slow.end()
        assert [one async for one in slow] == [ObjectChange("a", State.APPLIED, State.REMOVING)]

    run(main())


def test_a_slow_reader_holds_up_nobody_and_costs_no_more_than_there_are_objects() -> None:
    async def main() -> None:
        async with agent() as (sync, rec, _):
            slow = rec.changes(bound=1)
            for _ in range(50):
                await sync.put("x/a", Thing(), confirm=60)
                await sync.delete("x/a", confirm=60)
            await sync.put("x/a", Thing(), confirm=60)
        told = [one async for one in slow]
        assert len(told) == 2
        assert told[-1].new is State.APPLIED

    run(main())


def test_a_bound_is_a_number() -> None:
    async def main() -> None:
        async with agent() as (_, rec, _):
            with pytest.raises(UsageError, match="bound must be an integer >= 1, got 0"):
                rec.changes(bound=0)

    run(main())


def test_what_was_changed_by_hand_shows_from_what_to_what() -> None:
    class Seen(Kind[Thing, None]):
        """One object, which others may change."""

        def __init__(self) -> None:
            self.there: Thing | None = None

        async def create(self, key: str, value: Thing) -> None:
            self.there = value

        async def update(self, key: str, old: Thing, new: Thing, handle: None) -> None:
            self.there = new

        async def delete(self, key: str, value: Thing, handle: None) -> None:
            self.there = None

        async def retrieve(self, expected: object, keys: object) -> list[Found[Thing, None]]:
            return [] if self.there is None else [Found("x/a", self.there, None, ours=True)]

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec, kind = Reconciler(sync, ack_timeout=20.0), Seen()
            rec.add("x/", kind, type=Thing)
            async with rec:
                await sync.ready(60)
                await sync.put("x/a", Thing(bad="right"), confirm=60)
                kind.there = Thing(bad="w\u202erong" + "!" * 400)
                await rec.refresh()
                await rec.wait("x/a", State.APPLIED, 60)
                [repair] = rec.status().plans[-1].operations
        assert repair.verb is Verb.UPDATE
        assert repair.new == '{"needs":[],"bad":"right"}'
        assert repair.old.startswith('{"needs":[],"bad":"w\\u202erong!!')
        assert len(repair.old) == 301

    run(main())
