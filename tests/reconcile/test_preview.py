"""What values would change on a running agent, without changing it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datasync import (
    Backoff,
    BadKey,
    BadPrefix,
    DataSync,
    NotApplied,
    NotReady,
    Refused,
    UsageError,
)
from datasync.documents import BadFile
from datasync.reconcile import Found, Kind, Needs, Preview, Reconciler, State, Unapplied, Verb
from datasync.reconcile.planner import Planner
from datasync.reconcile.slots import Node
from datasync.reconcile.turns import PORTION
from datasync.testing.contract import eventually
from tests.helpers.reconcile.watched import Watched


class Thing(msgspec.Struct, frozen=True):
    number: int = 0
    needs: list[str] = []
    bad: str = ""
    parts: list[str] = []


class Things(Kind[Thing, None]):
    """`log` is what was really done."""

    def __init__(self, there: dict[str, Thing], log: list[str]) -> None:
        self.there, self.log = there, log

    async def create(self, key: str, value: Thing) -> None:
        self.log.append(f"create {key}")
        if value.bad == "fails":
            raise OSError("no such device")
        if value.bad == "refused":
            raise Refused("the kernel says no")
        self.there[key] = value

    async def update(self, key: str, old: Thing, new: Thing, handle: None) -> None:
        self.log.append(f"update {key}")
        self.there[key] = new

    async def delete(self, key: str, value: Thing, handle: None) -> None:
        self.log.append(f"delete {key}")
        del self.there[key]

    async def retrieve(self, expected: Mapping[str, Thing], keys: Any) -> Iterable[Found[Any, Any]]:
        return [
            Found(key, value, None, ours=key != "x/foreign")
            for key, value in self.there.items()
            if key.startswith("x/")
        ]

    def needs(self, key: str, value: Thing) -> list[Needs]:
        return [Needs.key(other) for other in value.needs]

    def derive(self, key: str, value: Thing) -> dict[str, Thing]:
        return {f"part/{key}/{name}": Thing(value.number) for name in value.parts}

    def validate(self, key: str, value: Thing) -> None:
        if value.bad == "invalid":
            raise ValueError("it is bad")

    def needs_recreate(self, key: str, old: Thing, new: Thing) -> bool:
        return new.number >= 100


class Parts(Things):
    retrieve = Kind.retrieve  # type: ignore[assignment]  # it cannot be read


class Agent:
    def __init__(self, sync: DataSync, rec: Reconciler, there: dict[str, Thing]) -> None:
        self.sync, self.rec, self.there = sync, rec, there
        self.log: list[str] = []

    async def put(self, values: Mapping[str, Thing | None]) -> None:
        txn = self.sync.txn()
        for key, value in values.items():
            txn.delete(key) if value is None else txn.put(key, value)
        with contextlib.suppress(NotApplied):
            await txn.commit(confirm=60)


@contextlib.asynccontextmanager
async def agent(
    stored: Mapping[str, Thing], there: dict[str, Thing] | None = None
) -> AsyncIterator[Agent]:
    async with DataSync("memory://") as sync:
        rec = Reconciler(sync, ack_timeout=20.0, retry=Backoff(600, 600))
        it = Agent(sync, rec, {} if there is None else there)
        rec.add("x/", Things(it.there, it.log), type=Thing)
        rec.add("part/", Parts(it.there, it.log), type=Thing, derived=True)
        async with rec:
            await sync.ready(60)
            if stored:
                await it.put(stored)
            yield it


def told(preview: Preview) -> list[str]:
    return [f"{one.verb.value} {one.key}" for one in preview.operations]


STORED = {
    "x/a": Thing(),
    "x/b": Thing(needs=["x/a"]),
    "x/waits": Thing(needs=["x/gone"]),
    "x/fails": Thing(bad="fails"),
    "x/refused": Thing(bad="refused"),
    "x/invalid": Thing(bad="invalid"),
    "x/parent": Thing(parts=["ip"]),
}


def test_it_says_what_would_be_done_and_does_nothing() -> None:
    async def main() -> None:
        async with agent(STORED) as it:
            before = it.rec.status()
            log, there = [*it.log], {**it.there}
            preview = await it.rec.plan({"x/a": Thing(1), "x/new": Thing(needs=["x/a"])})
            assert told(preview) == ["update x/a", "create x/new"]
            update = preview.operations[0]
            assert update.verb is Verb.UPDATE
            assert msgspec.json.decode(update.old or b"", type=Thing) == Thing()
            assert msgspec.json.decode(update.new or b"", type=Thing) == Thing(1)
            assert preview.operations[1].old is None
            assert preview.unapplied == []
            assert not preview.changes_nothing
            assert (it.log, it.there) == (log, there)
            after = it.rec.status()
            assert (after.kinds, after.plans) == (before.kinds, before.plans)
            assert await it.sync.get("x/new") is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("values", "operations", "unapplied"),
    [
        # as it is stored already, however it stands
        (STORED, [], []),
        # what stands on it goes first, and comes again
        (
            {"x/a": Thing(100)},
            ["delete x/b", "delete x/a", "create x/a", "create x/b"], [],
        ),
        ({"x/a": None}, ["delete x/b", "delete x/a"], ["x/b pending waits for x/a"]),
        # it brings with it what waited
        ({"x/gone": Thing()}, ["create x/gone", "create x/waits"], []),
        # what failed is tried again only with another value
        ({"x/fails": Thing(1)}, ["create x/fails"], []),
        ({"x/refused": Thing(1)}, ["create x/refused"], []),
        ({"x/invalid": Thing()}, ["create x/invalid"], []),
        ({"x/a": Thing(bad="invalid")}, [], ["x/a invalid it is bad"]),
        ({"x/c": Thing(needs=["x/nowhere"])}, [], ["x/c pending waits for x/nowhere"]),
        ({"x/c": Thing(needs=["x/waits"])}, [], ["x/c pending waits for x/waits"]),
        # parts come and go with what they are derived from
        (
            {"x/parent": Thing(1, parts=["ip"])}, ["update x/parent", "update part/x/parent/ip"],
            [],
        ),
        ({"x/nowhere": None}, [], []),
    ],
)  # fmt: skip
def test_each_case(values: dict[str, object], operations: list[str], unapplied: list[str]) -> None:
    async def main() -> None:
        async with agent(STORED) as it:
            preview = await it.rec.plan(values)
            assert told(preview) == operations
            said = [f"{one.key} {one.state.value} {one.reason}" for one in preview.unapplied]
            assert said == unapplied

    asyncio.run(main())


def test_what_was_found_and_is_stored_by_nobody_is_known() -> None:
    async def main() -> None:
        there = {"x/foreign": Thing()}
        async with agent({}, there) as it:
            await it.rec.wait("x/foreign", State.UNMANAGED, 60)
            preview = await it.rec.plan({"x/c": Thing(needs=["x/foreign"])})
            assert told(preview) == ["create x/c"]
            assert (await it.rec.plan({"x/foreign": Thing()})).changes_nothing
            assert told(await it.rec.plan({"x/foreign": Thing(1)})) == ["update x/foreign"]

    asyncio.run(main())


def test_a_whole_state_deletes_what_it_lacks() -> None:
    async def main() -> None:
        async with agent(STORED) as it:
            kept = {key: value for key, value in STORED.items() if key not in ("x/b", "x/waits")}
            assert told(await it.rec.plan(kept, prune="x/")) == ["delete x/b"]
            assert (await it.rec.plan(kept, prune="x/z/")).changes_nothing
            with pytest.raises(BadPrefix, match="write 'x/'"):
                await it.rec.plan(kept, prune="x")
            with pytest.raises(BadKey, match="a key is text, not int"):
                await it.rec.plan({5: b""})  # type: ignore[dict-item]
            assert (await it.rec.plan(kept)).changes_nothing

    asyncio.run(main())


def test_bytes_are_decoded_and_what_is_of_no_kind_is_said() -> None:
    async def main() -> None:
        async with agent(STORED) as it:
            preview = await it.rec.plan(
                {"x/a": b'{"number": 1}', "x/b": b"nonsense", "other/a": b"", "part/a": b"{}"}
            )
            assert told(preview) == ["update x/a"]
            assert list(preview.undecodable) == ["x/b"]
            assert preview.ignored == ["other/a", "part/a"]
            assert (await it.rec.plan({"other/a": b""})).changes_nothing

    asyncio.run(main())


def test_a_file(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "a.json").write_text('{"x/a": {"number": 1}}')
        (tmp_path / "bad.json").write_text("{")
        async with agent(STORED) as it:
            assert told(await it.rec.plan(tmp_path / "a.json")) == ["update x/a"]
            assert told(await it.rec.plan(str(tmp_path / "a.json"))) == ["update x/a"]
            with pytest.raises(BadFile):
                await it.rec.plan(tmp_path / "bad.json")
            with pytest.raises(UsageError, match="does not tell the format"):
                await it.rec.plan(tmp_path / "bad.txt")
            with pytest.raises(FileNotFoundError):
                await it.rec.plan(tmp_path / "missing.json")

    asyncio.run(main())


def test_it_has_to_run_and_to_know_what_is_stored() -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        rec = Reconciler(sync)
        rec.add("x/", Things({}, []), type=Thing)
        with pytest.raises(UsageError, match="does not run"):
            await rec.plan({})
        await rec.start()
        with pytest.raises(NotReady, match="not said yet"):
            await rec.plan({})
        await rec.aclose()
        await sync.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(25))
def test_what_is_foretold_is_what_is_done(seed: int) -> None:
    """Of random graphs and transactions, with values that fail, are refused or invalid already."""
    rng = random.Random(seed)
    keys = [f"x/{number}" for number in range(8)]

    def value(bad: list[str]) -> Thing:
        needs = sorted({rng.choice(keys) for _ in range(rng.choice([0, 0, 1, 2]))})
        how = rng.choice(bad)
        # nobody knows that a value will fail before that was tried
        return Thing(rng.choice([0, 1, 2, 100]), [] if how in ("fails", "refused") else needs, how)

    def values(bad: list[str]) -> dict[str, Thing]:
        found = {key: value(bad) for key in keys if rng.random() < 0.6}
        return {
            key: msgspec.structs.replace(one, needs=[other for other in one.needs if other != key])
            for key, one in found.items()
        }

    async def main() -> None:
        async with agent(values(["", "", "", "fails", "refused", "invalid"])) as it:
            for _ in range(3):
                update: dict[str, Thing | None] = dict(values(["", "", "", "invalid"]))
                for key in keys:
                    if key not in update and rng.random() < 0.3:
                        update[key] = None
                preview = await it.rec.plan(update)
                del it.log[:]
                if update:
                    await it.put(update)
                await eventually(lambda: not it.rec._planner.running)
                # what is independent may begin in another order, once operations take their time
                assert sorted(it.log) == sorted(told(preview))
                for one in preview.unapplied:
                    state, reason = it.rec.state(one.key), it.rec.reason(one.key)
                    assert one == Unapplied(one.key, state or State.PENDING, reason)

    asyncio.run(main())


def test_others_have_their_turn_and_several_are_made_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, look = 0, Planner._look

    def counted(planner: Planner, node: Node) -> None:
        nonlocal looks
        looks += 1
        look(planner, node)

    monkeypatch.setattr(Planner, "_look", counted)

    async def main() -> None:
        stored = {f"x/{number}": Thing(needs=["x/0"] if number else []) for number in range(1000)}
        async with agent(stored) as it:
            values = {key: Thing(1) for key in stored}
            async with Watched(lambda: looks) as watched:
                previews = await asyncio.gather(it.rec.plan(values), it.rec.plan({"x/0": Thing(1)}))
            assert [len(one.operations) for one in previews] == [1000, 1]
            assert 0 < watched.most[0] <= PORTION
            assert not it.rec._planning.locked()

    asyncio.run(main())
