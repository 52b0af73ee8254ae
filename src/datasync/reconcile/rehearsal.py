"""What would happen, without doing it: a second planner that knows what the first one knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from datasync.reconcile.facts import is_stored, stored_value
from datasync.reconcile.operations import Problem, Seen, Trouble, Verb
from datasync.reconcile.planner import Planner
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import ABSENT, Node, Operation
from datasync.reconcile.states import State

__all__ = ["Rehearsal", "same"]


class Rehearsal:
    """Operations are carried out by saying that they were.

    What has failed, or was refused, is so here as well, until it is to have another value.

    live: the other planner, which is looked at by `copy`, and never touched.

    All is done one step at a time, and each step is short, so that others may have their turn.
    """

    def __init__(self, live: Planner, kinds: Collection[Rules]) -> None:
        self.planner = Planner(live.graph.kind_of, lambda _: 0.0)
        self.stored: dict[str, Any] = {}
        """What the store has, by key, as of the copy."""
        self._live = live
        self._kinds = kinds
        self._unread: dict[Rules, str] = {}
        self._puts: list[tuple[str, Any]] = []
        self._found: dict[Rules, dict[str, Seen]] = {}
        self._touched: set[str] = set()
        """The objects that come into other states."""
        self._failed: dict[str, tuple[Trouble, Any]] = {}
        self._refused: dict[str, Problem] = {}

    def copy(self) -> Iterator[None]:
        """See what the other knows; it must not be told anything before the last step."""
        self._unread = {kind: why for kind in self._kinds if (why := self._live.why_unread(kind))}
        for node in list(self._live.graph.nodes.values()):
            key = node.key
            if (stored := _stored_of(node)) is not ABSENT:
                self.stored[key] = stored
                if node.problem is not None and node.goal is not ABSENT:
                    self._puts.append((key, node.goal))  # the last valid value, before the newest
                self._puts.append((key, stored))
            kind = node.kind
            if node.have is not ABSENT and kind is not None and kind not in self._unread:
                seen = Seen(node.have, node.handle, node.owned)
                self._found.setdefault(kind, {})[key] = seen
            if node.trouble is not None:
                self._failed[key] = node.trouble, node.goal
            if node.problem is not None:
                self._refused[key] = node.problem
            yield

    def take_over(self) -> Iterator[None]:
        """Come to know that as well. It takes as long as the start with as many objects."""
        planner = self.planner
        for kind, why in self._unread.items():
            planner.unread(kind, why)
            planner.still_unread(kind, why)  # the others do what they will have to do once it is
        for key, value in self._puts:
            planner.put(key, value)
            yield
        number = planner.begin_reading()
        yield from planner.reading(number, self._found)
        planner.end_reading(number)
        for _ in self._carry_out():
            yield
        self._touched.clear()

    def play(self, put: Mapping[str, Any], delete: Iterable[str]) -> Iterator[Operation | None]:
        """One transaction: the operations, in order, and None after steps that bring none."""
        for key in delete:
            self.planner.delete(key)
            yield None
        for key, value in put.items():
            self.planner.put(key, value)
            yield None
        yield from self._carry_out()

    def unapplied(self, put: Iterable[str]) -> Iterator[Node | None]:
        """The objects that were put, or have changed, and are not as they are to be; None for each
        of the others."""
        nodes = self.planner.graph.nodes
        fine = (None, State.APPLIED, State.UNMANAGED)
        for key in self._touched.union(put):
            node = nodes.get(key)
            yield None if node is None or node.state in fine else node

    def _carry_out(self) -> Iterator[Operation | None]:
        planner = self.planner
        while True:
            started = []
            for begun in planner.steps():
                if begun is not None:
                    started.append(begun)
                yield None
            self._touched.update(change.key for change in planner.changes())
            if not started:
                return
            for op in started:
                node = op.node
                if op.verb is not Verb.RETRIEVE:
                    self._end(op)
                    yield op
                elif node.have is ABSENT:
                    planner.retrieved(op, None)
                else:
                    planner.retrieved(op, Seen(node.have, node.handle, node.owned))

    def _end(self, op: Operation) -> None:
        problem = self._refused.get(op.key)
        trouble, goal = self._failed.get(op.key, (None, ABSENT))
        if problem is not None and op.verb is not Verb.DELETE and same(problem.value, op.new):
            self.planner.refused(op, problem.why)
        elif trouble is not None and trouble.verb is op.verb and same(goal, op.node.goal):
            self.planner.failed(op, trouble.why, 0.0, permanent=True)
        else:
            self.planner.done(op)


def same(one: object, other: object) -> bool:
    """Whether two values are equal; a comparison that raises says no."""
    try:
        return one is other or bool(one == other)
    except Exception:
        return False


def _stored_of(node: Node) -> Any:
    """The value that the store has for it, or ABSENT."""
    if not is_stored(node):
        return ABSENT
    return stored_value(node) if node.family is None else node.family.stored
