"""Holds a trace of operations against what a reconciler promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from datasync.reconcile import Needs
from datasync.reconcile.operations import Verb
from datasync.testing.reconcile.trace import Began, Ended, Gone, Known, Object, Record, There

__all__ = ["RULES", "Checker", "Violation", "applicable", "check", "met"]

RULES = (
    "one-at-a-time", "neighbours", "limit", "handle", "presence", "needs-first", "parts-first",
    "not-while-needed", "made-again", "end",
)  # fmt: skip
"""The names of all rules."""


class Violation(msgspec.Struct, frozen=True):
    """What does not hold: the name of the rule, what broke it, and why.

    at: the index of the record at which it shows; the length of the trace for what shows at its
        end.
    """

    rule: str
    where: str
    why: str
    at: int

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.why} (record {self.at})"


class Checker:
    """Follows a trace, record by record.

    alone: whether nothing but operations changes anything while they run, so that each can be held
        against what is there; default True. Else only `one-at-a-time` and `limit` are asked for.
    """

    def __init__(self, *, alone: bool = True) -> None:
        self.there: dict[str, There] = {}
        self._alone = alone
        self._running: dict[int, Began] = {}
        self._unknown: set[str] = set()
        self._at = 0

    def take(self, record: Record) -> list[Violation]:
        """The next record; what it breaks."""
        found: list[Violation] = []
        match record:
            case There():
                self.there[record.key] = record
            case Gone():
                self.there.pop(record.key, None)
            case Known():
                change = self._unknown.discard if record.is_known else self._unknown.add
                change(record.prefix)
            case Began():
                broken = self._broken_by(record)
                found = [Violation(rule, str(record), why, self._at) for rule, why in broken]
                self._running[record.number] = record
            case Ended():
                self._running.pop(record.number, None)
        self._at += 1
        return found

    def end(
        self,
        goals: Mapping[str, Object],
        equal: Callable[[str, Any, Any], bool] = lambda key, one, other: one == other,
    ) -> list[Violation]:
        """What is not as it must be once nothing is left to do: that is there which is stored, as
        far as it can be applied, beside what nobody stores.

        goals: what is stored, by key, with the parts.
        equal: whether two values of that key are the same for its kind; default ==.
        """
        others = {key: one.object for key, one in self.there.items() if key not in goals}
        applied = applicable(goals, others)
        found = []
        for key, goal in goals.items():
            there = self.there.get(key)
            if there is None:
                why = f"is not there; it is to be {goal.value!r}" if key in applied else ""
            elif key not in applied:
                missing = [need for need in goal.needs if not met(need, {**others, **applied})]
                why = f"is there, without {', '.join(map(str, missing))}"
            else:
                same = equal(key, there.object.value, goal.value)
                why = "" if same else f"is {there.object.value!r}, not {goal.value!r}"
            if why:
                found.append(Violation("end", key, why, self._at))
        return found

    # -- the rules ---------------------------------------------------------------------------------

    def _broken_by(self, op: Began) -> Iterator[tuple[str, str]]:
        """The rules that an operation breaks by beginning now, each with why."""
        for other in self._running.values():
            if other.key == op.key:
                yield "one-at-a-time", f"beside {other}"
        beside = sum(other.kind == op.kind for other in self._running.values())
        if op.limit is not None and beside >= op.limit:
            yield "limit", f"beyond the limit of {op.kind}, which is {op.limit}"

        if not self._alone or op.verb is Verb.RETRIEVE:
            return
        for other in self._running.values():
            if other.verb is not Verb.RETRIEVE and (_leads(op, other) or _leads(other, op)):
                yield "neighbours", f"beside {other}, on which it depends or that needs it"
        if op.verb is Verb.CREATE:
            yield from self._made(op)
        else:
            yield from self._changed(op)

    def _made(self, op: Began) -> Iterator[tuple[str, str]]:
        if op.key in self.there and not op.is_blind:
            yield "presence", "it is there"
        assert op.new is not None
        yield from self._needs_first(op, op.new, self._objects())

    def _changed(self, op: Began) -> Iterator[tuple[str, str]]:
        """An update or a delete."""
        before = self.there.get(op.key)
        if before is None:
            yield "presence", "it is not there"
        elif before.handle != op.handle:
            yield "handle", f"with the handle {op.handle!r}, not {before.handle!r}"
        objects = self._objects()
        after = dict(objects)
        if op.verb is Verb.DELETE:
            after.pop(op.key, None)
        else:
            assert op.new is not None
            after[op.key] = op.new
            for key, one in self.there.items():
                if one.part_of == op.key and key not in op.parts and self._is_known(key):
                    yield "parts-first", f"{key} is there, of which it says nothing"
            yield from self._needs_first(op, op.new, after)
        if before is not None:
            yield from self._needed(op, before.object.value, objects, after)

    def _needs_first(
        self, op: Began, new: Object, there: Mapping[str, Object]
    ) -> Iterator[tuple[str, str]]:
        for need in new.needs:
            if not met(need, there):
                yield "needs-first", f"before {need}"

    def _needed(
        self, op: Began, old: Any, before: dict[str, Object], after: dict[str, Object]
    ) -> Iterator[tuple[str, str]]:
        # what stands on nothing but what stands on it in turn can be taken down in no right order
        founded = applicable(before, {})
        for key, one in founded.items():
            if key == op.key or not self._is_known(key):
                continue
            for need in one.needs:
                left = met(need, after)
                if not need.goes_with and not left and met(need, before):
                    yield "not-while-needed", f"{key} needs {need}"
                changes = need.recreate_on_change and op.verb is Verb.UPDATE
                if changes and _concerns(need, op.key) and _fits(need, old) and (
                    left or not need.goes_with
                ):  # fmt: skip
                    yield "made-again", f"{key} is there, made for the old {need}"

    def _objects(self) -> dict[str, Object]:
        return {key: one.object for key, one in self.there.items()}

    def _is_known(self, key: str) -> bool:
        return not any(map(key.startswith, self._unknown))


def check(trace: Iterable[Record], *, alone: bool = True) -> list[Violation]:
    """All that does not hold in a trace, in its order; empty where everything does.

    alone: as for `Checker`.
    """
    checker = Checker(alone=alone)
    return [violation for record in trace for violation in checker.take(record)]


def met(need: Needs, there: Mapping[str, Object]) -> bool:
    """Whether something that is there will do."""
    if need.prefix is None:
        return any(key in there and _fits(need, there[key].value) for key in need.keys)
    return any(key.startswith(need.prefix) and _fits(need, one.value) for key, one in there.items())


def applicable(goals: Mapping[str, Object], others: Mapping[str, Object]) -> dict[str, Object]:
    """Those of the goals that can be applied, one after the other, beside what nobody stores."""
    there: dict[str, Object] = {}
    while True:
        all_there = {**others, **there}
        more = {
            key: goal
            for key, goal in goals.items()
            if key not in there and all(met(need, all_there) for need in goal.needs)
        }
        if not more:
            return there
        there.update(more)


def _leads(one: Began, other: Began) -> bool:
    """Whether one depends on the other by a need of one key; for all other needs there may be
    something else to stand on."""
    return any(
        need.is_plain and other.key in need.keys
        for of in (one.old, one.new)
        if of is not None
        for need in of.needs
    )


def _concerns(need: Needs, key: str) -> bool:
    return key in need.keys or (need.prefix is not None and key.startswith(need.prefix))


def _fits(need: Needs, value: Any) -> bool:
    return need.satisfies is None or need.satisfies(value)
