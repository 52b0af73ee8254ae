"""Holds a trace against the guarantees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from datasync.testing.trace import records as t
from datasync.testing.trace.crosschecks import ACROSS
from datasync.testing.trace.index import DeliveredEvent, TraceIndex, WatchTrace
from datasync.testing.trace.model import Position, WatchModel
from datasync.testing.trace.validators import BY_LOG, BY_WATCH, open_keys

__all__ = ["VALIDATORS", "Violation", "check"]

VALIDATORS: Sequence[str] = (*BY_WATCH, *BY_LOG, *ACROSS, "open-keys")
"""The names of all validators."""


class Violation(msgspec.Struct, frozen=True):
    """What does not hold: the name of the validator, where (a watch, a session, a write), and why.

    `seq` is the record of the trace at which it shows; the end of the trace
    for what shows only there.
    """

    validator: str
    where: str
    why: str
    seq: int

    def __str__(self) -> str:
        return f"{self.validator}: {self.where}: {self.why} (record {self.seq})"


def check(trace: t.Trace, *, latency: float = 0.0) -> list[Violation]:
    """All that does not hold in the trace, in its order; empty where everything does.

    What the sources do not promise (see `Capabilities`) is not asked for. `latency` is how long,
    in seconds, a change may take to a watch that waits for nothing: nothing at all in a
    simulation, more on a real machine.
    """
    index = TraceIndex(trace, latency)
    found: list[Violation] = []
    models = {}
    for watch in index.in_order:
        models[watch.name] = model = WatchModel(index, watch)
        found.extend(_follow(index, watch, model))

    end = trace[-1].seq if trace else 0
    for name, across in ACROSS.items():
        found.extend(Violation(name, where, why, end) for where, why in across(index, models))
    return sorted(found, key=lambda violation: violation.seq)


def _follow(index: TraceIndex, watch: WatchTrace, model: WatchModel) -> Iterator[Violation]:
    disturbances = [request for request in index.requests if request.watch in ("", watch.name)]
    records: list[t.Record] = sorted([*watch.records, *disturbances], key=_seq)

    for record in records:
        match record:
            case t.Delivered():
                event = watch.by_number[record.event]
                for validator, why in _event(model, event):
                    yield Violation(validator, watch.name, f"{event}: {why}", record.seq)
            case t.Reported():
                reported = watch.by_number.get(record.event)
                if reported is not None and reported.report is record:
                    model.report(reported)
            case t.KeysReported():
                model.report_keys(record)
            case t.OpenShown():
                for why in open_keys(model, record):
                    yield Violation("open-keys", watch.name, why, record.seq)
            case t.Asked():
                model.busy = False
            case t.Scoped() | t.Requested():
                if record.seq > watch.entry.seq:
                    model.disturb(record)
            case _:
                pass


def _event(model: WatchModel, event: DeliveredEvent) -> list[tuple[str, str]]:
    """Ask all validators; of the histories that the event may be in, the
    one that fits best counts."""
    lines = [(name, why) for name, validate in BY_WATCH.items() for why in validate(model, event)]
    best: list[tuple[str, str]] | None = None
    fitting: list[Position] = []
    for where in model.positions(event):
        wrong = [
            (name, why)
            for name, validate in BY_LOG.items()
            for why in validate(model, event, where)
        ]
        if best is None or len(wrong) < len(best):
            fitting = []
        if best is None or len(wrong) <= len(best):
            best = wrong  # of two histories that fit equally badly, the newer one
            fitting.append(where)
    model.show(event, fitting)
    return lines + (best or [])


def _seq(record: t.Record) -> int:
    return record.seq
