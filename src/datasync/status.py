"""What `DataSync.status()` returns: plain data, for people, scripts and dashboards."""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

__all__ = [
    "LATENCIES",
    "Durations",
    "Failing",
    "LastResync",
    "Latency",
    "LayerState",
    "Measure",
    "OpenKey",
    "PanelStatus",
    "SourceStatus",
    "Status",
    "StatusAddress",
    "WatchState",
    "WatchStatus",
    "joined",
]


LATENCIES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds: the upper bounds of the steps in which `Latency` counts."""


class LayerState(enum.Enum):
    """Where the session of a source stands."""

    NOT_STARTED = "not started"
    """`start` has not been called."""
    CONNECTING = "connecting"
    LOADING = "loading"
    """Connected; the snapshot is not complete."""
    FOLLOWING = "following"
    LOST = "lost"
    """Not connected; it will be tried again."""
    CLOSED = "closed"


class WatchState(enum.Enum):
    """Where a watch stands; `Watch.state` and `status()` show it."""

    WAITING = "waiting"
    """Its RESYNC has not come yet: the source is not ready, or it is another watch's turn."""
    RESYNCING = "resyncing"
    """It has been given its RESYNC and has not reported."""
    FOLLOWING = "following"
    """It accepted its RESYNC and gets changes."""
    FAILING = "failing"
    """Its last event failed and will be brought again."""
    OVERDUE = "overdue"
    """It has not reported on its event, or has not returned, in time; it gets nothing new until it
    does."""
    UNATTENDED = "unattended"
    """A stream that nobody iterates."""
    CLOSED = "closed"


class SourceStatus(msgspec.Struct, frozen=True):
    """A source.

    state: a `LayerState` value.
    since: when it came to that state, in seconds since the epoch; 0 before the start.
    revision: the newest one taken over; 0 where the source has none.
    error: the last error; while connected, what is wrong with a part of the source, as a file that
        does not parse; None if nothing is.
    reconnects: successful reconnects.
    """

    name: str
    state: str
    since: float
    revision: int
    error: str | None
    reconnects: int


class LastResync(msgspec.Struct, frozen=True):
    """The last RESYNC that a watch accepted.

    reason: why it came about.
    duration: how long it took, in seconds.
    keys: how many keys it held.
    at: when it was accepted, in seconds since the epoch.
    """

    reason: str
    duration: float
    keys: int
    at: float


class Failing(msgspec.Struct, frozen=True):
    """What a watch could not apply.

    since: when it began, in seconds since the epoch.
    why: the last error.
    attempt: the number of the next try.
    keys: refused keys, each with the reason.
    """

    since: float
    why: str
    attempt: int
    keys: dict[str, str]


class OpenKey(msgspec.Struct, frozen=True):
    """A key whose value a watch took over and has not applied yet; it says later what became of it.

    verdict: "pending" or "failed".
    reason: why, as the watch said it last.
    """

    verdict: str
    reason: str


class Latency(msgspec.Struct, frozen=True):
    """How long a handler, or the reader of a stream, took for its events, from the delivery to the
    report.

    total: seconds of all together.
    counts: events for each of `LATENCIES` that took up to so long and longer than the one before,
        and last those that took longer than all of them.
    """

    total: float
    counts: list[int]


class Durations:
    """Counts how long things took."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._counts = [0] * (len(LATENCIES) + 1)

    def add(self, seconds: float) -> None:
        """One more took `seconds`."""
        self._seconds += seconds
        self._counts[bisect_left(LATENCIES, seconds)] += 1

    def taken(self) -> Latency:
        """What has been counted so far."""
        return Latency(self._seconds, [*self._counts])


class WatchStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """A watch.

    scopes: its prefixes and keys.
    state: a `WatchState` value.
    backlog: changes that wait for it.
    events: events that it has reported on.
    changes: changes that it has accepted.
    resync: the last RESYNC that it accepted; None before the first.
    failing: what it could not apply; None if there is nothing.
    more_scopes: scopes that are not listed; 0 except where a server shows it.
    failures: tries of events that have failed, in all.
    accepted: when it last accepted an event, in seconds since the epoch; None before the first.
    latency: how long its events took; None before the first.
    open: keys that are pending, or that it failed to apply and tries again itself.
    more_open: open keys that are not listed; 0 except where a server shows it.
    """

    name: str
    scopes: list[str]
    state: str
    backlog: int
    events: int
    changes: int
    resync: LastResync | None
    failing: Failing | None
    more_scopes: int = 0
    failures: int = 0
    accepted: float | None = None
    latency: Latency | None = None
    open: dict[str, OpenKey] = {}
    more_open: int = 0


class Measure(msgspec.Struct, frozen=True):
    """A metric of a part of the application.

    name: as Prometheus has it; that of a counter ends in `_total`.
    kind: what it is.
    about: what it tells, in a sentence.
    samples: its values, each with its labels; of a histogram a `Latency`.

    Raises `ValueError` for names that are none.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    about: str
    samples: list[tuple[dict[str, str], float | Latency]]

    def __post_init__(self) -> None:
        labels = {label for labels, _ in self.samples for label in labels}
        for name in (self.name, *labels):
            if not (name.isascii() and name.isidentifier()):
                raise ValueError(f"a metric and a label have names like routes_total, not {name!r}")
        if self.name.endswith("_total") is not (self.kind == "counter"):
            raise ValueError(f"counters, and they alone, end in _total; {self.name!r} does not fit")
        if "panel" in labels or "le" in labels:
            raise ValueError("the labels panel and le are taken; choose another name")


class PanelStatus(msgspec.Struct, frozen=True):
    """A part of the application that is shown with its DataSync, and its numbers."""

    name: str
    measures: list[Measure]


class Status(msgspec.Struct, frozen=True, omit_defaults=True):
    """A picture of one DataSync at one moment; the watches are in their resync order.

    panels: the parts of the application that it shows, see `DataSync.show`.
    """

    sources: list[SourceStatus]
    watches: list[WatchStatus]
    panels: list[PanelStatus] = []


class StatusAddress(msgspec.Struct, frozen=True):
    """Where `DataSync.serve_status` listens.

    url: that of the page, for a browser, `datasync status` and Prometheus (`/metrics`).
    health: that of the probes; None where none was asked for.
    """

    url: str
    health: str | None


def joined(statuses: Iterable[Callable[[], Status]]) -> Status:
    """What several DataSyncs show, one after the other."""
    pictures = [status() for status in statuses]
    return Status(
        [source for picture in pictures for source in picture.sources],
        [watch for picture in pictures for watch in picture.watches],
        [panel for picture in pictures for panel in picture.panels],
    )
