"""The status, from what the planner knows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Set

from datasync.reconcile.handlers import Handlers
from datasync.reconcile.operations import Changed
from datasync.reconcile.planner import Planner
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import Node
from datasync.reconcile.states import State
from datasync.reconcile.status import KindStatus, ObjectStatus

__all__ = ["AT_WORK", "NOT_RIGHT", "Picture", "reason_of"]


AT_WORK = (State.RUNNING, State.REMOVING)
"""They come into another state by themselves."""
NOT_RIGHT = (State.FAILED, State.INVALID, State.PENDING, State.REMOVING, State.RUNNING)
"""What is to be otherwise, the gravest first."""


class Picture:
    """Counts the objects as they change, so that a look at those that are not applied costs no
    more than there are of them."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._counts: dict[tuple[Rules | None, State], int] = {}
        self._open: dict[State, dict[str, None]] = {
            state: {} for state in State if state is not State.APPLIED
        }
        """The keys of the objects that are not applied, by state."""

    def note(self, changes: Iterable[Changed]) -> None:
        """These have come into other states."""
        counts, kind_of = self._counts, self._planner.graph.kind_of
        for change in changes:
            kind = kind_of(change.key)
            if change.old is not None:
                counts[kind, change.old] -= 1
                if change.old is not State.APPLIED:
                    del self._open[change.old][change.key]
            if change.new is not None:
                counts[kind, change.new] = counts.get((kind, change.new), 0) + 1
                if change.new is not State.APPLIED:
                    self._open[change.new][change.key] = None

    def among(self, keys: Set[str], states: Iterable[State]) -> set[str]:
        """The keys of those of these objects that are in one of the states, which is not APPLIED.
        It takes as long as there are of the fewer."""
        return {key for state in states for key in self._open[state].keys() & keys}

    def count(self, kind: Rules) -> dict[State, int]:
        """How many objects of a kind there are, by state."""
        return {state: n for state in State if (n := self._counts.get((kind, state), 0))}

    def kind(self, kind: Handlers) -> KindStatus:
        """One kind."""
        objects = {state.value: number for state, number in self.count(kind).items()}
        return KindStatus(kind.name, kind.prefix, objects, self._planner.why_unread(kind))

    def objects(self, since_epoch: Callable[[float], float]) -> list[ObjectStatus]:
        """Those that are not applied, in the order of their keys.

        since_epoch: makes a time of the planner's clock one that others understand.
        """
        keys = itertools.chain.from_iterable(self._open.values())
        return [self._object(key, since_epoch) for key in sorted(keys)]

    @property
    def waiting(self) -> int:
        """How many there are that `gravest` may show."""
        return sum(len(self._open[state]) for state in NOT_RIGHT)

    def gravest(self, most: int) -> list[ObjectStatus]:
        """Some of those that are to be otherwise: first what failed, and of those in one state
        what has been in it for longest."""
        keys = itertools.chain.from_iterable(self._open[state] for state in NOT_RIGHT)
        return [self._object(key, float) for key in itertools.islice(keys, most)]

    def _object(self, key: str, since_epoch: Callable[[float], float]) -> ObjectStatus:
        node = self._planner.graph.nodes[key]
        state = node.state
        assert state is not None
        kind = node.kind.prefix if isinstance(node.kind, Handlers) else ""
        waits_for = self._planner.outlook.unmet(node) if state is State.PENDING else []
        trouble = node.trouble
        at = None if trouble is None or trouble.permanent else trouble.retry_at
        return ObjectStatus(
            node.key, kind, state, reason_of(self._planner, node), waits_for,
            0 if trouble is None else trouble.attempts,
            None if at is None else since_epoch(at),
        )  # fmt: skip


def reason_of(planner: Planner, node: Node) -> str:
    """Why an object stands where it stands; empty where there is nothing to say."""
    if node.problem is not None:
        return node.problem.why
    if node.state is State.PENDING:
        cycle = planner.outlook.cycle(node)
        missing = "waits for " + ", ".join(planner.outlook.unmet(node))
        return f"{missing}; a cycle: {' -> '.join((*cycle, cycle[0]))}" if cycle else missing
    if node.state is State.FAILED and node.trouble is not None:
        return f"{node.trouble.verb.value}: {node.trouble.why}"
    return planner.unread_because(node) if node.state in AT_WORK else ""
