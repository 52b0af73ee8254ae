"""What a DataSync measures of itself, named once: for `/metrics`, for
Prometheus clients, for OpenTelemetry.

A key is never a label: their number has no bound.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Literal, TypeVar

import msgspec

from datasync.status import LATENCIES, Latency, PanelStatus, SourceStatus, Status, WatchStatus

__all__ = ["FAMILIES", "Family", "Labels", "Sample", "distinct", "families_of", "parts"]

T = TypeVar("T", SourceStatus, WatchStatus, PanelStatus)

Labels = Mapping[str, str]
Sample = tuple[Labels, float | Latency]


class Family(msgspec.Struct, frozen=True):
    """One metric: its name as Prometheus has it, its kind, what it tells,
    and its values at one moment."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    about: str
    samples: Callable[[Status], Iterable[Sample]]


FAMILIES = (
    Family(
        "datasync_source_up",
        "gauge",
        "Whether the source is followed (1) or not (0).",
        lambda now: (
            ({"source": source.name}, source.state == "following") for source in now.sources
        ),
    ),
    Family(
        "datasync_source_reconnects_total",
        "counter",
        "Successful reconnects of the source.",
        lambda now: (({"source": source.name}, source.reconnects) for source in now.sources),
    ),
    Family(
        "datasync_watch_state",
        "gauge",
        "Current state of the watch: 1 for that state.",
        lambda now: (({"watch": watch.name, "state": watch.state}, 1) for watch in now.watches),
    ),
    Family(
        "datasync_watch_failing",
        "gauge",
        "Whether the watch has data that it could not apply (1) or not (0).",
        lambda now: (({"watch": watch.name}, watch.failing is not None) for watch in now.watches),
    ),
    Family(
        "datasync_watch_backlog_changes",
        "gauge",
        "Changes waiting to be delivered to the watch.",
        lambda now: (({"watch": watch.name}, watch.backlog) for watch in now.watches),
    ),
    Family(
        "datasync_watch_events_total",
        "counter",
        "Events that the watch has reported on.",
        lambda now: (({"watch": watch.name}, watch.events) for watch in now.watches),
    ),
    Family(
        "datasync_watch_changes_total",
        "counter",
        "Changes that the watch has accepted.",
        lambda now: (({"watch": watch.name}, watch.changes) for watch in now.watches),
    ),
    Family(
        "datasync_watch_failures_total",
        "counter",
        "Tries of events that the watch has failed.",
        lambda now: (({"watch": watch.name}, watch.failures) for watch in now.watches),
    ),
    Family(
        "datasync_watch_refused_keys",
        "gauge",
        "Keys whose last value the watch has refused.",
        lambda now: (
            ({"watch": watch.name}, 0 if watch.failing is None else len(watch.failing.keys))
            for watch in now.watches
        ),
    ),
    Family(
        "datasync_watch_open_keys",
        "gauge",
        "Keys that are pending, or failed and are tried again by the watch itself.",
        lambda now: (
            ({"watch": watch.name}, len(watch.open) + watch.more_open) for watch in now.watches
        ),
    ),
    Family(
        "datasync_watch_handler_seconds",
        "histogram",
        "Time from the delivery of an event to the report on it.",
        lambda now: (
            ({"watch": watch.name}, watch.latency)
            for watch in now.watches
            if watch.latency is not None
        ),
    ),
    Family(
        "datasync_watch_last_accepted_age_seconds",
        "gauge",
        "Time since the watch last accepted an event.",
        lambda now: (
            ({"watch": watch.name}, max(0.0, time.time() - watch.accepted))
            for watch in now.watches
            if watch.accepted is not None
        ),
    ),
    Family(
        "datasync_watch_last_resync_duration_seconds",
        "gauge",
        "Duration of the last RESYNC of the watch.",
        lambda now: (
            ({"watch": watch.name}, watch.resync.duration)
            for watch in now.watches
            if watch.resync is not None
        ),
    ),
    Family(
        "datasync_watch_last_resync_keys",
        "gauge",
        "Keys in the last RESYNC of the watch.",
        lambda now: (
            ({"watch": watch.name}, watch.resync.keys)
            for watch in now.watches
            if watch.resync is not None
        ),
    ),
)


_OWN = frozenset(family.name for family in FAMILIES)


def families_of(now: Status) -> list[Family]:
    """All metrics that a status has: ours, and those that its panels add to them. A measure with
    the name of one of ours, or of another kind than an earlier one of its name, is left out."""
    added: dict[str, Family] = {}
    for panel in now.panels:
        for measure in panel.measures:
            name, kind = measure.name, measure.kind
            if name not in _OWN:
                samples = partial(_samples_of, name, kind)
                added.setdefault(name, Family(name, kind, measure.about, samples))
    return [*FAMILIES, *added.values()]


def _samples_of(name: str, kind: str, now: Status) -> Iterator[Sample]:
    for panel in now.panels:
        for measure in panel.measures:
            if measure.name == name and measure.kind == kind:
                for labels, value in measure.samples:
                    yield {"panel": panel.name, **labels}, value


def parts(family: Family, now: Status) -> Iterator[tuple[str, Labels, float]]:
    """The values of a family, each with what is to be added to its name. A histogram has one for
    each bound (the label `le`), which counts all below it too, then their number and their sum."""
    for labels, value in family.samples(now):
        if not isinstance(value, Latency):
            yield "", labels, float(value)
            continue
        bounds = [*map(str, LATENCIES), "+Inf"]
        counts = list(itertools.accumulate(value.counts))
        for bound, count in zip(bounds, counts, strict=True):
            yield "_bucket", {**labels, "le": bound}, float(count)
        yield "_count", labels, float(counts[-1])
        yield "_sum", labels, value.total


def distinct(now: Status) -> Status:
    """The same status, with no name twice: several DataSyncs may use one, and two samples with
    the same labels make the whole answer invalid."""
    return Status(_numbered(now.sources), _numbered(now.watches), _numbered(now.panels))


def _numbered(things: Iterable[T]) -> list[T]:
    numbered: list[T] = []
    known: Counter[str] = Counter()
    for thing in things:
        known[thing.name] += 1
        nth = known[thing.name]
        numbered.append(
            thing if nth == 1 else msgspec.structs.replace(thing, name=f"{thing.name} ({nth})")
        )
    return numbered
