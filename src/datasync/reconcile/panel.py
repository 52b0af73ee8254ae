"""What a reconciler shows of itself on the status page, and among the metrics."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from datasync.codec.shared import UNDECODABLE
from datasync.errors import BadValue
from datasync.panels import (
    Arrow,
    Bar,
    Block,
    Box,
    Drawing,
    Measure,
    Panel,
    Row,
    Table,
    Timeline,
    Tone,
    UnknownQuestion,
)
from datasync.reconcile.drawing import DrawnGraph, DrawnObject
from datasync.reconcile.handlers import Handlers
from datasync.reconcile.operations import Verb
from datasync.reconcile.picture import Picture
from datasync.reconcile.plans import Plans
from datasync.reconcile.preview import PlanRequest, Preview
from datasync.reconcile.states import State
from datasync.reconcile.status import OperationStatus, Outcome, PlanStatus

__all__ = ["ReconcilerPanel"]

_OBJECTS, _PLANS, _BARS, _TEXT = 50, 5, 30, 300
"""Objects, plans and operations of each that are shown, and characters of each text, at most: the
page asks for all this every second."""

_TONES: dict[State | None, Tone] = {
    None: "idle",
    State.PENDING: "work",
    State.RUNNING: "work",
    State.APPLIED: "good",
    State.INVALID: "bad",
    State.FAILED: "bad",
    State.UNMANAGED: "idle",
    State.REMOVING: "work",
}
_ENDS: dict[Outcome, Tone] = {
    "running": "work", "done": "good", "refused": "bad", "failed": "bad", "cancelled": "idle"
}  # fmt: skip


class ReconcilerPanel(Panel):
    """Objects by state, what is pending and for what, the graph around one object, the last plans.

    draw: the graph around the object with that key; None where there is no such object.
    plan: what values would change; the prefix under which what they lack would be deleted.
    """

    def __init__(
        self,
        name: str,
        kinds: Sequence[Handlers],
        picture: Picture,
        plans: Plans,
        draw: Callable[[str], DrawnGraph | None],
        plan: Callable[[Mapping[str, bytes], str | None], Awaitable[Preview]],
    ) -> None:
        self.name = name
        self._kinds = kinds
        self._picture = picture
        self._plans = plans
        self._draw = draw
        self._plan = plan

    def measures(self) -> Iterable[Measure]:
        """Objects by kind and state, the durations of plans, operations by kind and outcome."""
        counts = [(kind.prefix, self._picture.count(kind)) for kind in self._kinds]
        yield Measure(
            "datasync_reconcile_objects",
            "gauge",
            "Objects of the kind that are in the state.",
            [
                ({"kind": prefix, "state": state.value}, objects.get(state, 0))
                for prefix, objects in counts
                for state in State
            ],
        )
        yield Measure(
            "datasync_reconcile_plan_seconds",
            "histogram",
            "Time from the beginning of a plan to the end of its last operation.",
            [({}, self._plans.durations())],
        )
        yield Measure(
            "datasync_reconcile_operations_total",
            "counter",
            "Operations that have ended, by what they did and how they ended.",
            [
                ({"kind": kind.prefix, "operation": verb.value, "outcome": outcome}, number)
                for (kind, verb, outcome), number in self._plans.operations.copy().items()
                if isinstance(kind, Handlers)
            ],
        )

    def blocks(self, about: str) -> Iterator[Block]:
        """What the page shows. about: the key of an object."""
        yield Table(
            "Objects by state",
            ["kind", *(state.value for state in State)],
            [self._kind_row(kind) for kind in self._kinds],
        )
        objects = self._picture.gravest(_OBJECTS)
        rows = [
            Row([one.key, one.state.value, _short(one.reason)], _TONES[one.state], one.key)
            for one in objects
        ]
        if rows:
            more = self._picture.waiting - len(rows)
            yield Table("Not applied", ["object", "state", "why"], rows, more)
        graph = self._draw(about or (objects[0].key if objects else ""))
        if graph is not None:
            yield _drawing(graph)
        for plan in reversed(self._plans.status(_PLANS)):
            yield _timeline(plan)

    async def answer(self, question: str, body: bytes) -> Preview:
        """`plan`: what would these values change?"""
        if question != "plan":
            raise UnknownQuestion(question)
        try:
            asked = msgspec.json.decode(body, type=PlanRequest)
        except UNDECODABLE as error:
            raise BadValue(f"this is not what plan takes: {error}") from None
        return await self._plan(asked.put, asked.prune)

    def _kind_row(self, kind: Handlers) -> Row:
        objects = self._picture.count(kind)
        bad = objects.get(State.FAILED) or objects.get(State.INVALID)
        return Row(
            [kind.prefix, *(f"{objects.get(state, 0):,}" for state in State)],
            "bad" if bad else "good",
        )


def _drawing(graph: DrawnGraph) -> Drawing:
    boxes = [_box(one) for one in graph.objects]
    arrows = [Arrow(need.user, need.needed, not need.met) for need in graph.needs]
    return Drawing(f"Around {graph.about}", boxes, arrows, graph.more)


def _box(one: DrawnObject) -> Box:
    if one.is_choice:
        return Box(one.name, one.column)
    state = "absent" if one.state is None else one.state.value
    return Box(one.name, one.column, _TONES[one.state], state, one.name)


def _timeline(plan: PlanStatus) -> Timeline:
    length = plan.duration if plan.duration is not None else max(0.0, time.time() - plan.began)
    said = ", ".join(f"{number:,} {outcome}" for outcome, number in plan.outcomes.items())
    bars = [
        Bar(
            f"{step.verb.value} {step.key}",
            step.began,
            max(0.0, length - step.began) if step.duration is None else step.duration,
            _ENDS[step.outcome],
            _short(step.reason or _change(step) or step.outcome),
        )
        for step in plan.operations[:_BARS]
    ]
    more = sum(plan.outcomes.values()) - len(bars)
    return Timeline(f"Plan {plan.number:,}: {_short(plan.cause)}; {said}", length, bars, more)


def _change(step: OperationStatus) -> str:
    """From what to what."""
    return f"{step.old} → {step.new}" if step.verb is Verb.UPDATE else ""


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
