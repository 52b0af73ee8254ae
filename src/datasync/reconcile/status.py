"""What `Reconciler.status` returns: plain data, for people, scripts and dashboards."""

from __future__ import annotations

from typing import Literal

import msgspec

from datasync.reconcile.operations import Verb
from datasync.reconcile.states import State

__all__ = [
    "KindStatus",
    "ObjectChange",
    "ObjectStatus",
    "OperationStatus",
    "Outcome",
    "PlanStatus",
    "ReconcilerStatus",
]

Outcome = Literal["running", "done", "refused", "failed", "cancelled"]


class ObjectChange(msgspec.Struct, frozen=True):
    """An object that has come into another state.

    old, new: None is the state of an object that is neither stored nor there.
    reason: why it is there, as `Reconciler.reason` has it.
    """

    key: str
    old: State | None
    new: State | None
    reason: str = ""


class KindStatus(msgspec.Struct, frozen=True):
    """A kind of object.

    name: of its class.
    prefix: where its objects are stored.
    objects: how many there are, by the value of their state: `{"applied": 12, "pending": 1}`.
    unread: why nobody knows yet what there is; empty where that is known.
    """

    name: str
    prefix: str
    objects: dict[str, int]
    unread: str = ""


class ObjectStatus(msgspec.Struct, frozen=True):
    """An object that is not applied.

    kind: the prefix of its kind; empty where there is none.
    reason: as `Reconciler.reason` has it.
    waits_for: what a pending object needs and has not got; at most 20.
    attempts: how often it has failed, one time after the other.
    retry_at: when a failed one is tried again, in seconds since the epoch; None: not by itself, or
        it is about to be.
    """

    key: str
    kind: str
    state: State
    reason: str = ""
    waits_for: list[str] = []
    attempts: int = 0
    retry_at: float | None = None


class OperationStatus(msgspec.Struct, frozen=True):
    """An operation of a plan.

    began: seconds after the plan began.
    duration: in seconds; None while it runs.
    reason: why it was refused, or failed.
    old, new: the beginnings of the value that was there, as far as was known, and of the one that
        it was to have; empty where there is none. So a repair shows what others had made of it.
    """

    key: str
    verb: Verb
    began: float
    duration: float | None
    outcome: Outcome
    reason: str = ""
    old: str = ""
    new: str = ""


class PlanStatus(msgspec.Struct, frozen=True):
    """What was done because of one transaction, one RESYNC, one look at what is there, or one
    retry.

    number: of the plan, from 1 on.
    cause: what it was begun for.
    began: in seconds since the epoch.
    duration: in seconds, until its last operation ended; None while one runs.
    outcomes: how many operations ended in which way, those that run included.
    operations: the first of them, in the order in which they began; at most 200.
    """

    number: int
    cause: str
    began: float
    duration: float | None
    outcomes: dict[Outcome, int]
    operations: list[OperationStatus]


class ReconcilerStatus(msgspec.Struct, frozen=True):
    """A picture of one Reconciler at one moment.

    answered: whether the store has said what is stored; nothing is read or changed before.
    kinds: in the order of registration.
    objects: those that are not applied, in the order of their keys; how many are applied the kinds
        tell.
    plans: the last plans that brought any operation, the oldest first; at most 50.
    """

    answered: bool
    kinds: list[KindStatus]
    objects: list[ObjectStatus]
    plans: list[PlanStatus]

    def in_state(self, state: State) -> list[ObjectStatus]:
        """Those of `objects` that are in that state."""
        return [one for one in self.objects if one.state is state]
