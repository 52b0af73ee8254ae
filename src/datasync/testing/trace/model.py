"""What a watch has accepted so far, by its own reports: the state that its
next event is held against."""

from __future__ import annotations

import msgspec

from datasync.source import Scopes
from datasync.testing.trace import records as t
from datasync.testing.trace.history import History, SourceLog
from datasync.testing.trace.index import DeliveredEvent, TraceIndex, WatchTrace

__all__ = ["Position", "WatchModel"]


class Position(msgspec.Struct):
    """Where an event stands in the log of a source that foretells it: after `base`, which the
    watch has accepted, up to `position`. `number` counts the histories, `seen` is how far in this
    one anything was shown; `entered` says that the event would be the first of it."""

    number: int
    history: History
    base: int
    position: int
    seen: int
    entered: bool


class WatchModel:
    """Follows one watch through the trace. Validators look at it before an event changes it."""

    def __init__(self, index: TraceIndex, watch: WatchTrace) -> None:
        self.index = index
        self.watch = watch

        self.accepted: dict[str, bytes] = {}
        self.dirty: set[str] = set()
        """Nobody knows what the handler left behind: their next state is always delivered."""
        self.doubtful: set[str] = set()
        """Perhaps dirty: they may be delivered again."""

        self.bases: dict[int, int] = {}
        """The histories that the watch may be in, by number, and how much
        of each it has accepted."""
        self.seen: dict[int, int] = {}
        """How far in each of them it has been shown anything."""
        self.moments: dict[tuple[str, str], tuple[int, int]] = {}
        """For sources that foretell less: the earliest moment, by source and key,
        that fits what was shown last."""
        self.taken: dict[tuple[str, str], tuple[int, int]] = {}
        """The same for what was accepted last."""

        self.open: dict[str, t.Said] = {}
        """Keys of which it has taken over the value, and not applied it, to what it said last."""
        self.refused_late: dict[str, int] = {}
        """Dirty for all that is taken over after that record, and only perhaps for what was
        before."""
        self.said: dict[str, list[tuple[int, t.Said | None]]] = {}
        """By key each record from which on it is open or refused, or (None) neither."""

        self.scopes = Scopes(watch.entry.scopes)
        """What it watched at its last RESYNC."""
        self.gate_open = False
        """Its last RESYNC was accepted."""
        self.first_change = False
        """No CHANGE has been accepted since."""

        self.base_seq = -1
        """The record of the event that was accepted last."""
        self.last: DeliveredEvent | None = None
        self.busy = False
        """The handler has not returned, or nobody waits in the stream."""

        self.disturbed: t.Record | None = None
        """Why the next event has to be a RESYNC: widened, narrowed or asked for."""
        self.left: set[str] = set()
        """Keys that it no longer watched at some time since the last RESYNC that it accepted."""

    def disturb(self, record: t.Scoped | t.Requested) -> None:
        """It is widened, narrowed, or to be resynced."""
        self.disturbed = record
        if isinstance(record, t.Scoped):
            scopes = Scopes(record.scopes)
            self.left |= {key for _, key in self.moments if key not in scopes}

    def positions(self, event: DeliveredEvent) -> list[Position]:
        """Where the event may stand, if the log can tell; the histories in
        question, oldest first."""
        source = self.index.exact
        if source is None:
            return []

        entry = event.entry
        found = []
        for number, history in enumerate(source.histories):
            if history.seq > entry.seq:
                break
            position = history.position(entry.revision) if entry.revision >= history.start else -1
            if number in self.bases:
                found.append(
                    Position(
                        number, history, self.bases[number], position, self.seen[number], False
                    )
                )
            else:
                # a backup was put back that holds what the watch has been
                # shown: there is nothing to be told
                known = [n for n in self.bases if self.seen[n] <= history.shared.get(n, -1)]
                found += [
                    Position(number, history, self.bases[n], position, self.seen[n], False)
                    for n in known
                ]

            if event.is_resync and (not self.bases or number > min(self.bases)):
                found.append(Position(number, history, 0, position, 0, True))
        return found

    def show(self, event: DeliveredEvent, positions: list[Position]) -> None:
        """The event is given to the watch, and stands at one of these positions."""
        self.last = event
        self.busy = True
        if event.is_resync:
            self.gate_open = False
            self.scopes = Scopes(event.entry.values or {})
            self.disturbed = None

        if positions:
            # of two ways to the same history, the one that has shown less
            positions = sorted(positions, key=lambda where: where.seen, reverse=True)
            self.bases = {where.number: where.base for where in positions}
            self.seen = {where.number: max(where.seen, where.position) for where in positions}

        for source, key, raw, revision in self.shown(event):
            log = self.index.sources.get(source)
            moment = (
                None
                if log is None or key not in self.scopes
                else self.moment(log, key, raw, revision)
            )
            if moment is not None:
                self.moments[source, key] = moment

    def report(self, event: DeliveredEvent) -> None:
        """The first report on the event."""
        if event is not self.last:
            return
        if event.outcome == "failed":
            self.dirty |= {step.key for step in event.entry.changes}
            self.doubtful |= event.keys
        elif event.outcome == "undecodable":
            self.doubtful |= event.keys
        else:
            self._accept(event)

    def _accept(self, event: DeliveredEvent) -> None:
        kept = event.reasons.keys() | set(event.entry.undecodable)
        if event.is_resync:
            self._accept_resync(event, kept)
        else:
            self._accept_change(event, kept)

        settled, said = set(event.keys), event.said
        if event.is_resync:
            settled.update(key for key, log in self.said.items() if log[-1][1] is not None)
        for key in settled:
            self._say(key, said.get(key), event)
            self.refused_late.pop(key, None)

        self.base_seq = event.entry.seq
        self.bases = {number: max(base, self.seen[number]) for number, base in self.bases.items()}
        for source, key, _, _ in self.shown(event):
            if key not in kept and (source, key) in self.moments:
                self.taken[source, key] = self.moments[source, key]

    def _accept_resync(self, event: DeliveredEvent, kept: set[str]) -> None:
        stay = {key: raw for key, raw in self.accepted.items() if key in kept}
        shown = {key: value[0] for key, value in event.values.items() if key not in kept}
        self.accepted = shown | stay
        self.dirty, self.doubtful = set(kept), set()
        self.gate_open = self.first_change = True
        self.left.clear()

    def _accept_change(self, event: DeliveredEvent, kept: set[str]) -> None:
        steps = event.entry.changes
        for step in steps:
            if step.key in kept:
                continue
            if step.raw is None:
                self.accepted.pop(step.key, None)
            else:
                self.accepted[step.key] = step.raw

        touched = {step.key for step in steps}
        self.dirty = (self.dirty - touched) | kept
        self.doubtful -= touched
        self.first_change = False

    def report_keys(self, report: t.KeysReported) -> None:
        """What it says later of keys that are open."""
        for key, (verdict, reason) in report.outcomes.items():
            if key not in self.open:
                continue
            self._say(key, None if verdict == "accepted" else (verdict, reason), report)
            if verdict == "refused":
                self.doubtful.add(key)
                self.refused_late[key] = report.seq

    def outcomes(self, key: str, since: float, until: float) -> set[t.Said | None]:
        """What the key was open or refused with in that part of the trace; None where it was
        neither."""
        found: set[t.Said | None] = set()
        last: t.Said | None = None
        for seq, said in self.said.get(key, ()):
            if seq > until:
                break
            if seq > since:
                found.add(last)
            last = said
        return found | {last}

    def _say(self, key: str, said: t.Said | None, by: t.Record | DeliveredEvent) -> None:
        record = by.report if isinstance(by, DeliveredEvent) else by
        assert record is not None
        self.said.setdefault(key, []).append((record.seq, said))
        self.open.pop(key, None)
        if said is not None and said[0] != "refused":
            self.open[key] = said

    def shown(self, event: DeliveredEvent) -> list[tuple[str, str, bytes | None, int]]:
        """Everything that the event shows: source, key, value, revision. Deletes
        without a source tell nothing; nor do those of keys that were not watched for
        a while: what an optional layer had of them was forgotten, and if that is lost
        by now, nobody knows what it has."""
        found: list[tuple[str, str, bytes | None, int]] = [
            (source, key, raw, revision) for key, (raw, revision, source) in event.values.items()
        ]
        found += [
            (step.source, step.key, step.raw, step.revision)
            for step in event.entry.changes
            if step.key not in event.values
            and step.source
            and not (event.is_resync and step.raw is None and step.key in self.left)
        ]
        return found

    def moment(
        self, log: SourceLog, key: str, raw: bytes | None, revision: int
    ) -> tuple[int, int] | None:
        """The earliest moment, not before what was shown already, at which
        the key had that value."""
        earliest = self.moments.get((log.name, key), (0, 0))
        return next((found for found in log.moments(key, raw, revision) if found >= earliest), None)
