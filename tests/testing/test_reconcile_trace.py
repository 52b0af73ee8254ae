"""Traces of operations, held against what a reconciler promises."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec
import pytest

from datasync.reconcile import Found, Kind, Needs, State
from datasync.reconcile.operations import Verb
from datasync.reconcile.planner import Planner
from datasync.reconcile.slots import Node, Operation
from datasync.testing.reconcile import RULES, Checker, Harness, check
from datasync.testing.reconcile.trace import Began, Ended, Gone, Known, Object, Record, There


def there(key: str, *needs: str | Needs, handle: int = 1, part_of: str | None = None) -> There:
    return There(key, thing(*needs), handle, part_of)


def thing(*needs: str | Needs, value: object = 0) -> Object:
    return Object(value, tuple(Needs.key(one) if isinstance(one, str) else one for one in needs))


def create(number: int, key: str, *needs: str | Needs, limit: int = 9) -> Began:
    return Began(number, Verb.CREATE, key, thing(*needs), kind="things", limit=limit)


def update(number: int, key: str, *needs: str | Needs, handle: int = 1) -> Began:
    return Began(number, Verb.UPDATE, key, thing(*needs), handle=handle)


def delete(number: int, key: str) -> Began:
    return Began(number, Verb.DELETE, key, handle=1)


AGAIN = Needs.key("if", recreate_on_change=True)

BROKEN: list[tuple[str, str, list[Record]]] = [
    ("one-at-a-time", "beside create if", [create(1, "if"), delete(2, "if")]),
    ("neighbours", "beside update if, on which it depends or that needs it", [
        there("if"), update(1, "if"), create(2, "route", "if")
    ]),
    ("limit", "beyond the limit of things, which is 1", [
        create(1, "if", limit=1), create(2, "other", limit=1)
    ]),
    ("handle", "with the handle 2, not 1", [there("if"), update(1, "if", handle=2)]),
    ("presence", "it is there", [there("if"), create(1, "if")]),
    ("presence", "it is not there", [there("if"), Gone("if"), delete(1, "if")]),
    ("needs-first", "before if", [create(1, "route", "if")]),
    ("needs-first", "before any of a, b", [there("if"), update(1, "if", Needs.any_of("a", "b"))]),
    ("parts-first", "if/x is there, of which it says nothing", [
        there("if"), there("if/x", part_of="if"), update(1, "if")
    ]),
    ("not-while-needed", "route needs if", [there("if"), there("route", "if"), delete(1, "if")]),
    ("not-while-needed", "route needs any under if/", [
        there("if/a"), there("route", Needs.under("if/")), delete(1, "if/a")
    ]),
    ("made-again", "route is there, made for the old if", [
        there("if"), there("route", AGAIN), update(1, "if")
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "why", "trace"), BROKEN)
def test_each_rule_is_held_against_the_trace(rule: str, why: str, trace: list[Record]) -> None:
    found = {(one.rule, one.why): one for one in check(trace)}
    assert (rule, why) in found
    assert found[rule, why].at == len(trace) - 1
    assert str(found[rule, why]) == f"{rule}: {trace[-1]}: {why} (record {len(trace) - 1})"


def test_every_rule_but_that_of_the_end_is_broken_above() -> None:
    assert {rule for rule, _, _ in BROKEN} == {*RULES} - {"end"}


RIGHT: list[list[Record]] = [
    [create(1, "if"), there("if"), Ended(1), create(2, "route", "if")],
    [there("if"), there("route", Needs.key("if", goes_with=True)), delete(1, "if")],
    [there("a"), there("b"), there("route", Needs.any_of("a", "b")), delete(1, "a")],
    # what stands on each other alone can be taken down in no right order
    [there("a", "b"), there("b", "a"), delete(1, "a")],
    [there("if"), there("if/x", part_of="if"), Known("if/", is_known=False), update(1, "if")],
    [there("if"), update(1, "if"), Began(2, Verb.RETRIEVE, "other")],
]


@pytest.mark.parametrize("trace", RIGHT)
def test_what_is_right_breaks_nothing(trace: list[Record]) -> None:
    assert check(trace) == []


def test_where_others_change_things_meanwhile_only_what_runs_is_held_against_them() -> None:
    trace: list[Record] = [create(1, "route", "if"), create(2, "route", "if")]
    assert [one.rule for one in check(trace, alone=False)] == ["one-at-a-time"]


def test_the_end_is_what_can_be_applied_beside_what_nobody_stores() -> None:
    def end(*records: Record) -> list[str]:
        checker = Checker()
        for record in records:
            checker.take(record)
        return [f"{one.where} {one.why}" for one in checker.end(goals)]

    goals = {"if": thing(), "route": thing("if", "foreign"), "waits": thing("gone")}
    assert end(there("if")) == []
    assert end(there("if"), there("foreign")) == ["route is not there; it is to be 0"]
    assert end(there("if"), there("foreign"), there("route")) == []
    assert end(there("if"), there("waits")) == ["waits is there, without gone"]
    assert end(There("if", thing(value=1))) == ["if is 1, not 0"]


# -- with a harness --------------------------------------------------------------------------------


class Thing(msgspec.Struct, frozen=True):
    number: int = 0
    needs: tuple[str, ...] = ()


class Things(Kind[Thing, int]):
    async def create(self, key: str, value: Thing) -> int:
        raise NotImplementedError

    async def update(self, key: str, old: Thing, new: Thing, handle: int) -> int:
        raise NotImplementedError

    async def delete(self, key: str, value: Thing, handle: int) -> None: ...

    async def retrieve(
        self, expected: Mapping[str, Thing], keys: Collection[str] | None
    ) -> Iterable[Found[Thing, int]]:
        raise NotImplementedError

    def needs(self, key: str, value: Thing) -> list[Needs]:
        return [Needs.key(one) for one in value.needs]


def played() -> Harness:
    """Objects are made, changed, lost and taken down, and some of that fails."""
    harness = Harness()
    harness.add("x/", Things(), type=Thing)
    with harness:
        harness.apply({"x/a": Thing(), "x/b": Thing(0, ("x/a",)), "x/c": Thing(0, ("x/b",))})
        harness.apply({"x/a": Thing(1)}, ["x/c"])
        harness.lose("x/a")
        harness.fail("create x/a", OSError("no"))
        harness.refresh()
        harness.advance(10.0)
        harness.apply({}, ["x/a", "x/b"])
    return harness


def test_what_a_harness_has_seen_breaks_nothing() -> None:
    harness = played()
    assert check(harness.trace) == []
    began = [str(record) for record in harness.trace if isinstance(record, Began)]
    assert began[:4] == ["create x/a", "create x/b", "create x/c", "delete x/c"]
    assert {type(record) for record in harness.trace} == {There, Gone, Began, Ended}


def test_a_mistake_of_the_planner_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Planner._begin

    def too_early(
        planner: Planner, node: Node, verb: Verb, *, freed: bool = False
    ) -> Operation | None:
        leaning, node.leaning = node.leaning, 0
        try:
            return begin(planner, node, verb, freed=freed)
        finally:
            node.leaning += leaning

    monkeypatch.setattr(Planner, "_begin", too_early)
    found = check(played().trace)
    assert ("not-while-needed", "delete x/a") in [(one.rule, one.where) for one in found]


def test_a_kind_that_says_something_else_each_time_is_found() -> None:
    class Fickle(Things):
        asked = 0

        def needs(self, key: str, value: Thing) -> list[Needs]:
            self.asked += 1
            return [Needs.key("x/later")] if self.asked > 3 else []

    with Harness() as harness:
        harness.add("x/", Fickle(), type=Thing)
        harness.put("x/a", Thing())
        [violation] = harness.check()
        assert (violation.rule, violation.why) == ("end", "is there, without x/later")


def test_what_is_under_way_is_not_held_against_the_end() -> None:
    with Harness() as harness:
        harness.add("x/", Things(), type=Thing)
        harness.hang("create x/a")
        assert harness.put("x/a", Thing()) == ["create x/a hangs"]
        assert harness.check() == []
        harness.advance(60.0)
        assert harness.state("x/a") is State.APPLIED
        assert harness.check() == []
