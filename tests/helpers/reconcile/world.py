"""A world in which the operations of a planner take place, and which sees whether they may."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from datasync.reconcile.needs import Needs
from datasync.reconcile.operations import Seen, Verb
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import Operation


class Fate(enum.Enum):
    """What becomes of a value when it is applied, each time."""

    MADE = "made"
    REFUSED = "refused"
    """The kind finds out only now that it is invalid."""
    DOOMED = "doomed"
    """It fails, for good."""


@dataclasses.dataclass(frozen=True)
class Value:
    """A value that says by itself what its kind is to make of it."""

    number: int
    needs: tuple[Needs, ...] = ()
    parts: tuple[tuple[str, Value], ...] = ()
    shape: int = 0
    bad: bool = False
    fate: Fate = Fate.MADE


def even(value: Value) -> bool:
    return value.number % 2 == 0


class Things:
    """The rules of a kind."""

    def __init__(self, name: str, limit: int = 3, *, can_retrieve: bool = True) -> None:
        self.name = name
        self.limit = limit
        self.can_retrieve = can_retrieve
        self.is_derived = False

    def validate(self, key: str, value: Value) -> None:
        if value.bad:
            raise ValueError("bad")

    def needs(self, key: str, value: Value) -> Iterable[Needs]:
        return value.needs

    def derive(self, key: str, value: Value) -> Mapping[str, Value]:
        return dict(value.parts)

    def equal(self, key: str, old: Value, new: Value) -> bool:
        return old == new

    def needs_recreate(self, key: str, old: Value, new: Value) -> bool:
        return old.shape != new.shape


class Violated(AssertionError):
    """An operation that must not be."""


class World:
    """What is there, and what runs on it.

    strict: whether nothing but operations changes anything while they run, so that each can be held
        against what is there.
    ours: the keys that were made here, not found.
    """

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.there: dict[str, Value] = {}
        self.ours: set[str] = set()
        self.running: dict[str, Operation] = {}
        self.handles: dict[str, int] = {}
        self.log: list[str] = []
        self.orphans: set[str] = set()
        """The parts of which nothing says to a new process what they are parts of."""
        self.unread: set[Rules] = set()
        """The kinds of which nobody could find out what is there, and that hold up nobody."""
        self._made = 0

    def start(self, op: Operation) -> None:
        """Raises `Violated`."""
        self.log.append(f"start {op.verb.value} {op.key} {op.old} -> {op.new}")
        if op.key in self.running:
            raise Violated(f"{op} beside {self.running[op.key]}")
        if op.verb is not Verb.RETRIEVE and self.strict:
            for other in self.running.values():
                if other.verb is not Verb.RETRIEVE and self._concern(op, other):
                    raise Violated(f"{op} beside {other}, on which it depends or that needs it")
        if len([1 for one in self.running.values() if one.kind is op.kind]) >= op.kind.limit:
            raise Violated(f"{op} beyond the limit of {op.kind.name}")
        if self.strict:
            if op.verb in (Verb.DELETE, Verb.UPDATE) and op.handle != self.handles.get(op.key):
                raise Violated(f"{op} with the handle {op.handle}, not {self.handles.get(op.key)}")
            self._check(op)
        self.running[op.key] = op

    def _concern(self, op: Operation, other: Operation) -> bool:
        def leads(one: Operation, key: str) -> bool:
            values = [value for value in (one.old, one.new) if isinstance(value, Value)]
            return any(
                need.is_plain and key in need.keys for value in values for need in value.needs
            )

        if leads(op, other.key):
            return True
        # one may be made beside a user that has something else to stand on; plain needs alone
        return leads(other, op.key)

    def _check(self, op: Operation) -> None:
        after = dict(self.there)
        if op.verb is Verb.CREATE:
            if op.key in self.there and op.kind.can_retrieve:
                raise Violated(f"{op}: it is there")
            for need in op.new.needs:
                if not met(need, self.there):
                    raise Violated(f"{op} before {need}")
            return
        if op.verb is Verb.DELETE:
            if op.key not in self.there:
                raise Violated(f"{op}: it is not there")
            del after[op.key]
        elif op.verb is Verb.UPDATE:
            after[op.key] = op.new
            for part in self._parts_left(op):
                raise Violated(f"{op}, and {part}, of which it says nothing, is there")
            for need in op.new.needs:
                if not met(need, after):
                    raise Violated(f"{op} before {need}")
        else:
            return
        for key, value in self._founded().items():
            if key in after and key != op.key and not self._is_unread(key):
                for need in value.needs:
                    if met(need, self.there) and not met(need, after) and not need.goes_with:
                        raise Violated(f"{op}, and {key} needs {need}")
                    if (
                        need.recreate_on_change and op.verb is Verb.UPDATE
                        and _concerns(need, op.key) and _fits(need, self.there[op.key])
                        and (met(need, after) or not need.goes_with)
                    ):  # fmt: skip
                        raise Violated(f"{op}, and {key} is there, made for the old {need}")

    def _founded(self) -> dict[str, Value]:
        """What stands, and not only on what stands on it in turn. Where somebody else takes away
        all but that, no order is right."""
        return applicable(
            {
                key: dataclasses.replace(value, needs=(*value.needs, *self._of_parent(key)))
                for key, value in self.there.items()
            },
            {},
        )

    def _is_unread(self, key: str) -> bool:
        return any(key.startswith(kind.name[:-1]) for kind in self.unread)

    def can_be_done(self, op: Operation) -> bool:
        """Whether nobody has come in between."""
        return op.verb is Verb.DELETE or (op.verb is Verb.UPDATE) == (op.key in self.there)

    def is_ours(self, key: str) -> bool:
        return key in self.ours

    def finish(self, op: Operation, *, done: bool) -> int | None:
        """Carry it out, or leave all as it was. Returns the handle."""
        self.log.append(f"end {op.verb.value} {op.key} done={done}")
        del self.running[op.key]
        if not done:
            return None
        if op.verb is Verb.DELETE:
            self.remove(op.key)
            return None
        return self.set(op.key, op.new, ours=True)

    def set(self, key: str, value: Value, *, ours: bool) -> int:
        before = dict(self.there)
        if key not in self.handles:
            self._made += 1
            self.handles[key] = self._made
        self.there[key] = value
        self.orphans -= {key, *dict(value.parts)}
        if ours:
            self.ours.add(key)
        self._vanish(before)
        return self.handles[key]

    def remove(self, key: str) -> None:
        before = dict(self.there)
        if self.there.pop(key, None) is not None:
            self._forget(key)
            self._vanish(before)

    def _forget(self, key: str) -> None:
        self.ours.discard(key)
        self.orphans.discard(key)
        del self.handles[key]

    def forget(self) -> None:
        """A new process begins: it knows no more than what is there."""
        self.orphans = {
            key for key in self.there
            if key.startswith("part/") and key not in self._parts_of(parent_of(key))
        }  # fmt: skip

    def _parts_left(self, op: Operation) -> list[str]:
        return [
            key for key in self.there
            if self._of_parent(key) and parent_of(key) == op.key and key not in dict(op.new.parts)
            and not self._is_unread(key)
        ]  # fmt: skip

    def _parts_of(self, key: str) -> dict[str, Value]:
        return dict(self.there[key].parts) if key in self.there else {}

    def _of_parent(self, key: str) -> tuple[Needs, ...]:
        """A part needs what it is a part of."""
        is_part = key.startswith("part/") and key not in self.orphans
        return (Needs.key(parent_of(key)),) if is_part else ()

    def _vanish(self, before: Mapping[str, Value]) -> None:
        """What goes with what has gone."""
        for key, value in list(self.there.items()):
            if key in self.there and any(
                need.goes_with and met(need, before) and not met(need, self.there)
                for need in value.needs
            ):
                was = dict(self.there)
                del self.there[key]
                self._forget(key)
                self._vanish(was)

    def seen(self, key: str) -> Seen | None:
        if key not in self.there:
            return None
        return Seen(self.there[key], self.handles[key], self.is_ours(key))


def parent_of(part: str) -> str:
    """`part/a/1/x` is one of `a/1`."""
    return part.removeprefix("part/")[:3]


def _concerns(need: Needs, key: str) -> bool:
    return key in need.keys or (need.prefix is not None and key.startswith(need.prefix))


def _fits(need: Needs, value: Value) -> bool:
    return need.satisfies is None or need.satisfies(value)


def met(need: Needs, there: Mapping[str, Value]) -> bool:
    return any(_fits(need, value) for key, value in there.items() if _concerns(need, key))


def applicable(goals: Mapping[str, Value], others: Mapping[str, Value]) -> dict[str, Value]:
    """Those of the goals that can be applied, one after the other, beside what nobody stores."""
    there: dict[str, Value] = {}
    while True:
        more = {
            key: value
            for key, value in goals.items()
            if key not in there and all(met(need, {**others, **there}) for need in value.needs)
        }
        if not more:
            return there
        there.update(more)
