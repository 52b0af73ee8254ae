"""A world in which the operations of a planner take place, and which sees whether they may."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from datasync.reconcile.needs import Needs
from datasync.reconcile.operations import Seen, Verb
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import Operation
from datasync.testing.reconcile.checker import Checker, met
from datasync.testing.reconcile.trace import Began, Ended, Gone, Known, Object, Record, There


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
        self.checker = Checker(alone=strict)
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
        old, new = (self._object(op.key, value) for value in (op.old, op.new))
        parts = frozenset(dict(op.new.parts)) if isinstance(op.new, Value) else frozenset()
        self._take(
            Began(
                op.number, op.verb, op.key, new, old, op.handle, parts, op.kind.name,
                op.kind.limit, not op.kind.can_retrieve,
            )
        )  # fmt: skip
        self.running[op.key] = op

    def _take(self, record: Record) -> None:
        for violation in self.checker.take(record):
            raise Violated(str(violation))

    def _object(self, key: str, value: object) -> Object | None:
        if not isinstance(value, Value):
            return None
        return Object(value, (*value.needs, *self._of_parent(key)))

    def _tell(self, key: str) -> None:
        """What is there of it by now."""
        there = self._object(key, self.there.get(key))
        if there is None:
            self._take(Gone(key))
        else:
            part_of = parent_of(key) if self._of_parent(key) else None
            self._take(There(key, there, self.handles[key], part_of))

    def cannot_read(self, kind: Rules) -> None:
        """Nobody can find out for now what is there of that kind."""
        self.unread.add(kind)
        self._take(Known(f"{kind.name[:-1]}/", is_known=False))

    def can_read(self) -> None:
        """All kinds."""
        for kind in self.unread:
            self._take(Known(f"{kind.name[:-1]}/", is_known=True))
        self.unread.clear()

    def can_be_done(self, op: Operation) -> bool:
        """Whether nobody has come in between."""
        return op.verb is Verb.DELETE or (op.verb is Verb.UPDATE) == (op.key in self.there)

    def is_ours(self, key: str) -> bool:
        return key in self.ours

    def finish(self, op: Operation, *, done: bool) -> int | None:
        """Carry it out, or leave all as it was. Returns the handle."""
        self.log.append(f"end {op.verb.value} {op.key} done={done}")
        del self.running[op.key]
        self._take(Ended(op.number))
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
        adopted = self.orphans & {key, *dict(value.parts)}
        self.orphans -= adopted
        if ours:
            self.ours.add(key)
        for one in {key, *adopted}:
            self._tell(one)
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
        self._tell(key)

    def forget(self) -> None:
        """A new process begins: it knows no more than what is there."""
        before = self.orphans
        self.orphans = {
            key for key in self.there
            if key.startswith("part/") and key not in self._parts_of(parent_of(key))
        }  # fmt: skip
        for key in before ^ self.orphans:
            self._tell(key)

    def _parts_of(self, key: str) -> dict[str, Value]:
        return dict(self.there[key].parts) if key in self.there else {}

    def _of_parent(self, key: str) -> tuple[Needs, ...]:
        """A part needs what it is a part of."""
        is_part = key.startswith("part/") and key not in self.orphans
        return (Needs.key(parent_of(key)),) if is_part else ()

    def _vanish(self, before: Mapping[str, Value]) -> None:
        """What goes with what has gone."""
        objects = {key: Object(value) for key, value in before.items()}
        for key, value in list(self.there.items()):
            if key in self.there and any(
                need.goes_with and met(need, objects) and not met(need, self._objects())
                for need in value.needs
            ):
                was = dict(self.there)
                del self.there[key]
                self._forget(key)
                self._vanish(was)

    def _objects(self) -> dict[str, Object]:
        return {key: Object(value) for key, value in self.there.items()}

    def seen(self, key: str) -> Seen | None:
        if key not in self.there:
            return None
        return Seen(self.there[key], self.handles[key], self.is_ours(key))


def parent_of(part: str) -> str:
    """`part/a/1/x` is one of `a/1`."""
    return part.removeprefix("part/")[:3]
