"""A trace, put in order for the validators: logs of the sources, watches
with their events, outcomes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from datasync.capabilities import Capabilities
from datasync.source import Scopes
from datasync.testing.trace import records as t
from datasync.testing.trace.history import History, SourceLog

__all__ = ["SLACK", "DeliveredEvent", "TraceIndex", "WatchTrace"]

SLACK = 1e-6
"""Two moments of the clock that count as one, in seconds."""
_BURST = 0.25
"""Seconds that a loop which stood still may take over what came due meanwhile."""


class DeliveredEvent:
    """One event that a watch was given, with its outcome.

    `settled` is when (position in the trace, time) the publisher and the round heard of it: at the
    first report, or when it was overdue; infinite if neither came. `outcome` is what the first
    report came to, None without a report; `first` is the first outcome, "overdue" included.
    """

    def __init__(self, entry: t.Delivered, timeout: float) -> None:
        self.entry = entry
        self.timeout = timeout
        self.report: t.Reported | None = None
        self.outcome: str | None = None
        self.first: str | None = None
        self.settled: tuple[float, float] = (math.inf, math.inf)
        self.keys = {step.key for step in entry.changes} | set(entry.undecodable)
        self.values: dict[str, tuple[bytes, int, str]] = {}
        for items in (entry.values or {}).values():
            self.values.update(
                (key, (raw, revision, source)) for key, raw, revision, source in items
            )
        self.keys |= self.values.keys()

    @property
    def is_resync(self) -> bool:
        """Whether it is a RESYNC."""
        return self.entry.values is not None

    @property
    def reasons(self) -> Mapping[str, str]:
        """What was refused, and why."""
        return self.report.reasons if self.report is not None and self.outcome == "refused" else {}

    @property
    def opened(self) -> Mapping[str, t.Said]:
        """What is pending or failed of it, and why; a key that does not decode is refused."""
        if self.report is None or self.outcome not in ("accepted", "refused"):
            return {}
        bad = self.entry.undecodable
        return {
            key: said
            for key, said in self.report.outcomes.items()
            if key not in bad and said[0] != "accepted"
        }

    @property
    def said(self) -> Mapping[str, t.Said]:
        """What was refused, pending or failed of it, and why; why a key does not decode is not in
        the trace."""
        bad: dict[str, t.Said] = dict.fromkeys(self.entry.undecodable, ("refused", ""))
        reasons: dict[str, t.Said] = {key: ("refused", why) for key, why in self.reasons.items()}
        return {**self.opened, **bad, **reasons}

    @property
    def overdue_at(self) -> float:
        """When it was, or would be, overdue."""
        return self.entry.at + self.timeout

    def hear(self, report: t.Reported) -> None:
        """The first report counts, whatever comes after it."""
        if self.report is not None:
            return
        self.report = report
        self.outcome = report.outcome
        named = report.reasons.keys() | report.outcomes.keys()
        foreign = not named <= self.keys
        again = report.outcome == "undecodable" and not named.isdisjoint(self.entry.undecodable)
        if again or foreign:
            self.outcome = "failed"

    def __str__(self) -> str:
        kind = f"RESYNC ({self.entry.reason})" if self.is_resync else "CHANGE"
        return f"event {self.entry.event}, {kind} at revision {self.entry.revision}"


class WatchTrace:
    """One watch: its records in order, and its events."""

    def __init__(self, entry: t.Registered, order: int) -> None:
        self.entry = entry
        self.name = entry.watch
        self.order = order
        self.records: list[t.Record] = []
        self.events: list[DeliveredEvent] = []
        self.by_number: dict[int, DeliveredEvent] = {}
        self.closed: t.Closed | None = None

    def add(self, record: t.Record) -> None:
        """Take in the next record."""
        self.records.append(record)
        if isinstance(record, t.Delivered):
            event = DeliveredEvent(
                record,
                self.entry.ack_timeout if record.values is None else self.entry.resync_timeout,
            )
            self.events.append(event)
            self.by_number[record.event] = event
        elif isinstance(record, t.Reported) and record.event in self.by_number:
            self.by_number[record.event].hear(record)
        elif isinstance(record, t.Closed):
            self.closed = self.closed or record

    def scopes_at(self, seq: float) -> Scopes:
        """What it watches, by its own last word before `seq`."""
        scopes = self.entry.scopes
        for record in self.records:
            if isinstance(record, t.Scoped) and record.seq < seq:
                scopes = record.scopes
        return Scopes(scopes)

    def events_between(self, after: float, before: float) -> list[DeliveredEvent]:
        """Its events at these positions in the trace, both left out."""
        return [event for event in self.events if after < event.entry.seq < before]


class TraceIndex:
    """The whole trace. `latency` is how long, in seconds, a watch that waits for
    nothing may wait all the same."""

    def __init__(self, trace: t.Trace, latency: float = 0.0) -> None:
        self.trace = trace
        self.latency = max(latency, SLACK)
        self.tells_late = latency > SLACK
        """It is of a real machine, where the store tells later of what was written."""

        self.sources: dict[str, SourceLog] = {}
        self.watches: dict[str, WatchTrace] = {}
        self.stored: dict[str, t.Stored] = {}

        self.answers: list[t.Answered] = []
        self.offsets: list[t.OffsetStored] = []
        self.views: list[t.Viewed] = []
        self.requests: list[t.Requested] = []
        self.sessions: dict[int, tuple[t.SessionOpened, list[t.SessionFrame]]] = {}
        self.reads: list[t.Read] = []
        self.snapshots: list[t.SessionFrame] = []
        """Those that completed one."""
        self.compactions: list[t.Compacted] = []
        self.stalls: list[t.Stalled] = []
        self.agents: dict[str, t.AgentDeclared] = {}

        self._entered: dict[str, int] = {}
        self._taken_over: dict[int, int] = {}
        self._ended: dict[int, float] = {}
        self.quiet: t.Quiet | None = None

        for record in trace:
            self._take(record)
        self._times = [record.at for record in trace]

        for watch in self.watches.values():
            for event in watch.events:
                self._settle(event)

            # an event that comes again without its undecodable keys is still the same one
            for event, again in zip(
                reversed(watch.events[:-1]), reversed(watch.events[1:]), strict=True
            ):
                if event.outcome == "undecodable" and again.entry.attempt == event.entry.attempt:
                    event.settled, event.first = again.settled, again.first

    @property
    def in_order(self) -> Sequence[WatchTrace]:
        """The watches in the order of their registration."""
        return list(self.watches.values())

    @property
    def only(self) -> SourceLog | None:
        """The one source, where there is only one."""
        return next(iter(self.sources.values())) if len(self.sources) == 1 else None

    @property
    def exact(self) -> SourceLog | None:
        """The one source, where it promises enough for every event to be foretold from its log."""
        source = self.only
        return (
            source
            if source is not None and source.histories and _foretold(source.capabilities)
            else None
        )

    @property
    def merged(self) -> Mapping[str, bytes] | None:
        """What the stores hold at the end, later layers before earlier ones, if it is known."""
        if self.stored.keys() != self.sources.keys():
            return None
        return {key: raw for name in self.sources for key, raw in self.stored[name].values.items()}

    def seq_at(self, at: float) -> int:
        """The last record before that time; -1 where there is none."""
        return bisect_left(self._times, at) - 1

    def entered(self, history: History) -> float:
        """From which record on the engine follows that history."""
        return self._entered.get(history.name, math.inf) if self.sessions else history.seq

    def taken_over(self, revision: int) -> int:
        """The record with which a session first brought the commit at that revision; -1 if none."""
        return self._taken_over.get(revision, -1)

    def ended_at(self, session: int) -> float:
        """When the session with this number ended."""
        return self._ended.get(session, math.inf)

    def _take(self, record: t.Record) -> None:
        match record:
            case t.SourceDeclared():
                self.sources[record.source] = SourceLog(record.source, record.capabilities)
            case t.HistoryStarted():
                self.sources[record.source].started(
                    record.history, record.revision, record.items, record.seq
                )
            case t.Compacted():
                self.compactions.append(record)
            case t.Committed():
                self.sources[record.source].committed(record.changes, record.revision)
            case t.Stored():
                self.stored[record.source] = record

            case t.Registered():
                self.watches[record.watch] = WatchTrace(record, len(self.watches))
            case t.Scoped(watch=name) if name not in self.watches:
                # widened by a handler that ran as it was registered, which tells what it watches
                # then
                pass
            case (
                t.Scoped() | t.Closed() | t.Asked() | t.Delivered() | t.Reported()
                | t.KeysReported() | t.OpenShown()
            ):  # fmt: skip
                self.watches[record.watch].add(record)

            case t.Read():
                self.reads.append(record)
            case t.Requested():
                self.requests.append(record)
            case t.Answered():
                self.answers.append(record)
            case t.OffsetStored():
                self.offsets.append(record)
            case t.Viewed():
                self.views.append(record)

            case t.SessionOpened():
                self.sessions[record.session] = (record, [])
            case t.SessionFrame():
                self.sessions[record.session][1].append(record)
                if record.kind == "commit":
                    self._taken_over.setdefault(record.revision, record.seq)
                elif record.kind == "end":
                    self.snapshots.append(record)
                    self._entered.setdefault(record.history, record.seq)

            case t.Stalled():
                self.stalls.append(record)
            case t.Quiet():
                self.quiet = record
            case t.AgentDeclared():
                self.agents[record.agent] = record
            case t.SessionEnded():
                self._ended[record.session] = record.at

    def _settle(self, event: DeliveredEvent) -> None:
        overdue_at, report = event.overdue_at, event.report
        noticed_at = max(
            (stall.at + _BURST for stall in self.stalls if stall.since <= overdue_at <= stall.at),
            default=0.0,
        )

        in_time = report is not None and report.at < max(overdue_at + SLACK, noticed_at)

        if report is not None and event.outcome != "undecodable" and in_time:
            event.settled, event.first = (report.seq, report.at), event.outcome
        elif (
            (report is None or report.at >= overdue_at)
            and self._times
            and self._times[-1] >= overdue_at
        ):
            event.settled = (bisect_left(self._times, overdue_at) - 0.5, overdue_at)
            event.first = "overdue"


def _foretold(can: Capabilities) -> bool:
    return (
        can.order == "total"
        and can.snapshot == "exact"
        and can.atomic
        and can.every_value
        and can.revisions
    )
