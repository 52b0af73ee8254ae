"""The plans that are carried out, and the last that were: what each did, how long that took, and
how it went.

What an operation makes possible belongs to the plan of that operation: so a plan is one transaction
with all that follows from it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from datasync.reconcile.operations import Verb
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import Operation
from datasync.reconcile.status import OperationStatus, Outcome, PlanStatus
from datasync.reconcile.values import in_short
from datasync.status import Durations, Latency

__all__ = ["Plan", "Plans"]

_KEPT = 50
_LISTED = 200
"""Operations of one plan that are listed; all are counted."""


class _Step:
    """An operation, as it is remembered."""

    __slots__ = ("began", "duration", "key", "new", "old", "outcome", "reason", "verb")

    def __init__(self, op: Operation, began: float) -> None:
        self.key, self.verb, self.began = op.key, op.verb, began
        self.old, self.new = in_short(op.key, op.old), in_short(op.key, op.new)
        self.duration: float | None = None
        self.outcome: Outcome = "running"
        self.reason = ""


class Plan:
    """One plan.

    cause: what it is begun for.
    now: the clock of the loop, in seconds.
    """

    def __init__(self, cause: str, now: float) -> None:
        self.cause = cause
        self.number = 0
        self.began, self.began_at = now, time.time()
        self.duration: float | None = None
        self.outcomes: Counter[Outcome] = Counter()
        self.steps: dict[int, _Step] = {}
        """Those that are listed, by the number of the operation."""

    def status(self) -> PlanStatus:
        """It, as plain data."""
        listed = [
            OperationStatus(
                step.key,
                step.verb,
                step.began,
                step.duration,
                step.outcome,
                step.reason,
                step.old,
                step.new,
            )
            for step in self.steps.values()
        ]
        outcomes = {outcome: number for outcome, number in self.outcomes.items() if number}
        return PlanStatus(
            self.number, self.cause, self.began_at, self.duration, outcomes, listed
        )  # fmt: skip


class Plans:
    """All of them.

    clock: that of the loop, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: deque[Plan] = deque(maxlen=_KEPT)
        self._number = 0
        self.operations: Counter[tuple[Rules, Verb, Outcome]] = Counter()
        """How many have ended, by kind, verb and outcome."""
        self._ended = Durations()

    def begin(self, cause: str) -> Plan:
        """One that is kept as soon as it has an operation."""
        return Plan(cause, self._clock())

    def started(self, plan: Plan, op: Operation) -> None:
        """The operation belongs to that plan."""
        if not plan.number:
            self._number += 1
            plan.number = self._number
            self._last.append(plan)
        plan.outcomes["running"] += 1
        if len(plan.steps) < _LISTED:
            plan.steps[op.number] = _Step(op, self._clock() - plan.began)

    def ended(self, plan: Plan, op: Operation, outcome: Outcome, reason: str = "") -> None:
        """How it went."""
        plan.outcomes["running"] -= 1
        plan.outcomes[outcome] += 1
        self.operations[op.kind, op.verb, outcome] += 1
        step = plan.steps.get(op.number)
        if step is not None:
            step.duration = self._clock() - plan.began - step.began
            step.outcome, step.reason = outcome, reason

    def settle(self, plan: Plan) -> None:
        """All that may start by now has started: where nothing runs, the plan has ended."""
        if plan.number and not plan.outcomes["running"] and plan.duration is None:
            plan.duration = self._clock() - plan.began
            self._ended.add(plan.duration)

    def cut_off(self) -> None:
        """What still runs is seen to by nobody any more."""
        for plan in self._last:
            plan.outcomes["cancelled"] += plan.outcomes.pop("running", 0)
            for step in plan.steps.values():
                if step.outcome == "running":
                    step.outcome = "cancelled"

    def status(self, most: int = _KEPT) -> list[PlanStatus]:
        """The last of them, the oldest first."""
        return [plan.status() for plan in list(self._last)[-most:]]

    def durations(self) -> Latency:
        """How long those that have ended took."""
        return self._ended.taken()
