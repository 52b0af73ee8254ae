"""What would happen, without doing it: a second planner that knows what the first one knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from datasync.reconcile.facts import is_stored, stored_value
from datasync.reconcile.operations import Seen, Verb
from datasync.reconcile.planner import Planner
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import ABSENT, Node, Operation
from datasync.reconcile.states import State

__all__ = ["Rehearsal", "same", "stored_of"]

_PORTION = 200
"""Objects that are taken over at a time."""


class Rehearsal:
    """Operations are carried out by saying that they were.

    What has failed, or was refused, is so here as well, until it is to have another value. The
    other planner is looked at when this one is made, and never touched.
    """

    def __init__(self, live: Planner, kinds: Iterable[Rules]) -> None:
        nodes = list(live.graph.nodes.values())
        self.planner = Planner(live.graph.kind_of, lambda _: 0.0)
        self._unread = {kind: why for kind in kinds if (why := live.why_unread(kind))}
        self._stored = [put for node in nodes for put in _puts(node)]
        self._there = [
            (node.kind, node.key, Seen(node.have, node.handle, node.owned))
            for node in nodes
            if node.have is not ABSENT and node.kind is not None
        ]
        self._failed = {
            node.key: (node.trouble, node.goal) for node in nodes if node.trouble is not None
        }
        self._refused = {node.key: node.problem for node in nodes if node.problem is not None}

    def take_over(self) -> Iterator[None]:
        """Come to know what the other knows; yields after each portion, so that others have their
        turn. It takes as long as the start with as many objects."""
        planner = self.planner
        for kind, why in self._unread.items():
            planner.unread(kind, why)
            planner.still_unread(kind, why)  # the others do what they will have to do once it is
        for number, (key, value) in enumerate(self._stored):
            planner.put(key, value)
            if number % _PORTION == 0:
                yield
        found: dict[Rules, dict[str, Seen]] = {}
        for kind, key, seen in self._there:
            if kind not in self._unread:
                found.setdefault(kind, {})[key] = seen
        planner.read(planner.begin_reading(), found)
        yield
        for _ in self._carry_out():
            yield
        planner.changes()

    def play(self, put: Mapping[str, Any], delete: Iterable[str]) -> Iterator[Operation]:
        """One transaction: what is done, in order."""
        for key in delete:
            self.planner.delete(key)
        for key, value in put.items():
            self.planner.put(key, value)
        yield from self._carry_out()

    def unapplied(self, put: Iterable[str]) -> list[Node]:
        """The objects that were put, or have changed, and are not as they are to be."""
        nodes = self.planner.graph.nodes
        touched = sorted({*put, *(change.key for change in self.planner.changes())})
        fine = (None, State.APPLIED, State.UNMANAGED)
        return [nodes[key] for key in touched if key in nodes and nodes[key].state not in fine]

    def _carry_out(self) -> Iterator[Operation]:
        planner = self.planner
        while started := planner.start():
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


def stored_of(node: Node) -> Any:
    """The value that the store has for it, or ABSENT."""
    if not is_stored(node):
        return ABSENT
    return stored_value(node) if node.family is None else node.family.stored


def _puts(node: Node) -> Iterator[tuple[str, Any]]:
    """What the store has said of an object: the last valid value, too, where the newest is not."""
    stored = stored_of(node)
    if stored is not ABSENT:
        if node.problem is not None and node.goal is not ABSENT:
            yield node.key, node.goal
        yield node.key, stored
