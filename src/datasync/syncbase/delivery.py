"""From the mailbox to the handler and back: deliveries, reports, retries, overdue handlers,
turns in a round.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from datasync.errors import DecodeError, Failed, Outcomes, Pending, Refused, Retry, UsageError
from datasync.events import ChangeEvent, Event, Record, ResyncEvent
from datasync.outcome import NO_OUTCOMES, KeyOutcome, Tally, Verdict, worst_of
from datasync.status import LastResync
from datasync.syncbase import watchlog
from datasync.syncbase.coverage import Coverage
from datasync.syncbase.effects import Tracing, Witness
from datasync.syncbase.layer import Layer
from datasync.syncbase.mailbox import Batch, Group
from datasync.syncbase.mirror import Diff, Mirror, differ
from datasync.syncbase.outstanding import OPEN, Outstanding, Stage
from datasync.syncbase.resync import make_resync
from datasync.syncbase.rounds import Rounds
from datasync.syncbase.subscriber import Progress, Skipped, Subscriber, Wait
from datasync.syncbase.timers import Timers
from datasync.texts import in_one_line, logger, printable

__all__ = ["NEW_HISTORY", "Delivery"]

log = logger("datasync")

NEW_HISTORY = "new history: the store was emptied, restored or replaced"

_OUT = Stage.OUT
_ACCEPTED = Verdict.ACCEPTED


class Delivery:
    """Moves every watch through its events. Synchronous: what is to be done lands in `effects`."""

    def __init__(
        self,
        mirror: Mirror,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
        coverage: Coverage,
    ) -> None:
        self.effects: deque[Event[Any]] = deque()
        """What it asks of the engine: each of these is to be given to its watch."""
        self.rounds: Rounds[Subscriber] = Rounds()
        self.latest: Layer | None = None
        """The one that something was taken over from last."""
        self.seq = 0
        """Counts what is taken over: commits, snapshots, rounds."""
        self.waiting: dict[Subscriber, None] = {}
        """Those whose RESYNC waits until more is known."""
        self._mirror = mirror
        self.clock = clock
        self._wall = wall
        self._rng = rng
        self._coverage = coverage
        self.tracing: Tracing | None = None
        self.witness: Witness | None = None
        self.timers = Timers()
        """When `tick` wants to be called."""

    @property
    def newest(self) -> tuple[int, str]:
        """Revision and source of what was taken over last."""
        return (0, "") if self.latest is None else (self.latest.revision, self.latest.name)

    # -- what the engine calls ---------------------------------------------------------------------

    def ask(self, sub: Subscriber) -> None:
        """The handler is idle, or somebody waits in the stream."""
        sub.idle = True
        if not sub.is_out:
            if sub.is_overdue:
                sub.skip(Skipped.NO)
            self._stop_waiting(sub)
            self.pump(sub)

    def unask(self, sub: Subscriber, event: Event[Any] | None) -> None:
        """Nobody waits in the stream any more; `event` was delivered but not received."""
        sub.idle = False
        if event is not None and sub.has(event):
            assert sub.outstanding is not None
            sub.outstanding.take_back()
            sub.deadline = None
            if sub.skipped is Skipped.HANDLER:
                sub.skip(Skipped.READER)
            sub.fast = False
            if sub.progress is Progress.NEEDS_RESYNC:
                self._take_back(sub)
            self.pump(sub)
        elif sub.deadline is not None and sub.deadline.wait is Wait.SOURCE:
            sub.wait_for(Wait.READER, sub.deadline.at)
        elif sub.skipped is Skipped.SOURCE:
            # G9: when that source is back, publishers and a round would wait for it again
            self._wait(sub, Wait.READER, sub.spec.ack_timeout)

    def delivered(self, sub: Subscriber, event: Event[Any]) -> None:
        """The handler has this event, and has not reported yet:
        from now on it may become overdue.
        """
        seconds = sub.spec.ack_timeout if type(event) is ChangeEvent else sub.spec.resync_timeout
        self._wait(sub, Wait.ACK, seconds)

    def finished(self, event: Event[Any], error: BaseException | None) -> None:
        """The handler has returned, or raised.

        Without an error that accepts the event, unless it is deferred.
        """
        sub: Subscriber = event._ticket
        out = sub.outstanding
        if (
            out is not None
            and out.event is event
            and out.stage is _OUT
            and (error is not None or not event._deferred)
        ):
            sub.idle = True
            self._take_report(sub, out, error)
        else:
            self.ask(sub)

    def report(self, event: Event[Any], error: BaseException | None) -> None:
        """What the handler says of the event.

        Reports on events that are not out any more change nothing.
        """
        sub: Subscriber = event._ticket
        out = sub.outstanding
        if out is None or out.event is not event or out.stage is not _OUT:
            return
        self._take_report(sub, out, error)

    def _take_report(self, sub: Subscriber, out: Outstanding, error: BaseException | None) -> None:
        if error is None and sub.fast:  # what follows boils down to this
            batch = out.batch
            sub.outstanding = sub.deadline = None
            sub.stats.settle(self.clock(), len(batch.diffs))
            if self.tracing is not None:
                self.tracing.settled(sub.name, Verdict.ACCEPTED, NO_OUTCOMES, None)
            batch.answer(_ACCEPTED, NO_OUTCOMES)
            if sub.dependents:
                self._pump_dependents(sub)
            return
        try:
            self._hear(sub, out, error)
        except Exception as unexpected:
            # G8: such as an error whose methods raise; the event must not be lost
            log.exception("%s: unexpected error in taking a report", sub.name)
            if not sub.has(out.event):
                raise
            self._fail(sub, out, unexpected)
        self.pump(sub)

    def _hear(self, sub: Subscriber, out: Outstanding, error: BaseException | None) -> None:
        if error is None:
            self._accept(sub, out, NO_OUTCOMES)
        elif isinstance(error, Refused | Pending | Failed | Outcomes):
            keys = out.all_keys()
            outcomes = error.by_key(keys)
            foreign = outcomes.keys() - keys
            if foreign:
                self._fail(sub, out, _foreign(error, foreign))
            else:
                self._accept(sub, out, outcomes)
        elif (
            isinstance(error, DecodeError)
            and error.key not in out.undecodable
            and error.key in out.all_keys()
        ):
            sub.fast = False
            sub.deadline = None
            out.leave_out(error, sub.spec.decode)  # to be brought again at once
        else:
            self._fail(sub, out, error)

    def report_keys(self, sub: Subscriber, said: Mapping[str, KeyOutcome]) -> None:
        """What the watch says, later, of keys that are open.

        Of all others it changes nothing: a newer event has settled them.
        """
        opened, refused = sub.mailbox.open, {}
        for key, outcome in said.items():
            if key not in opened:
                continue
            if outcome.verdict in OPEN:
                opened[key] = outcome
                continue
            del opened[key]
            if outcome.verdict is Verdict.REFUSED:
                refused[key] = outcome
        if refused:
            self._refuse(sub, refused)
        self.pump(sub)

    def tick(self) -> None:
        """See to whatever is due by the clock."""
        now = self.clock()
        for sub in self.timers.due(now):
            deadline = sub.deadline
            if deadline is None:
                continue
            if deadline.at > now:
                self.timers.arm(sub, deadline.at)
                continue
            sub.deadline = None
            try:
                self._waited_for(sub, deadline.wait)
            except Exception:  # G8: said, and tried again; the other watches do not suffer for it
                log.exception("%s: unexpected error when its time had come", sub.name)
                if sub.may_wait_for(deadline.wait):
                    self._wait(sub, deadline.wait, sub.spec.ack_timeout)

    def _waited_for(self, sub: Subscriber, wait: Wait) -> None:
        match wait:
            case Wait.RETRY:
                self.pump(sub)
            case Wait.SOURCE:  # it would go on: publishers wait for that source, others do not
                sub.skip(Skipped.SOURCE)
                if sub is self.rounds.current:
                    self._turn(self.rounds.settled(sub))
                self._pump_dependents(sub)
            case _:  # ACK, READER
                self._pass_by(sub)

    # -- what the core calls -----------------------------------------------------------------------

    def start_round(self, subs: Iterable[Subscriber]) -> None:
        """Resync these watches, which all need it, one after another;
        a round under way is replaced.
        """
        self._turn(self.rounds.start(subs))

    def need_resync(self, sub: Subscriber, reason: str) -> None:
        """From now on only a RESYNC can reach this watch."""
        if sub.resync_reason != NEW_HISTORY:  # that has to be said, whatever comes on top of it
            sub.need_resync(reason)
        self._take_back(sub)
        sub.mailbox.fold()
        self._end_retry(sub)
        sub.trouble.attempt = 1

    def close(self, sub: Subscriber) -> None:
        """The watch is gone: it does not vote any more, and nobody waits for it.

        Nothing here leads to it any more (G9).
        """
        sub.enter(Progress.CLOSED)
        if self.tracing is not None:
            self.tracing.closed(sub.name)
        sub.skip(Skipped.NO)
        if sub.outstanding is not None:
            sub.outstanding.batch.abandon()
        sub.mailbox.clear()
        sub.outstanding = sub.deadline = None
        self.timers.disarm(sub)
        self.waiting.pop(sub, None)
        for other in sub.after:
            del other.dependents[sub]
        dependents, sub.dependents, sub.after = sub.dependents, {}, {}
        for dependent in dependents:
            del dependent.after[sub]
        self._turn(self.rounds.settled(sub))
        for dependent in dependents:
            self.pump(dependent)

    def pump(self, sub: Subscriber) -> None:
        """Deliver the next event, if there is one and it may go."""
        while sub.is_free:
            if sub.outstanding is None:
                if sub.progress is Progress.NEEDS_RESYNC:
                    if not self._coverage.holds(sub):
                        self.waiting[sub] = None
                        if sub is self.rounds.current or self._coverage.misses(sub):
                            self._expect(sub)
                        return
                    if not self.rounds.allows(sub):
                        return
                elif not (box := sub.mailbox):
                    sub.fast = not (sub.after or box.dirty or box.open or sub.refused)
                    return
                if not sub.idle:
                    self._expect(sub)
                    return
                if not self._prepare(sub):
                    continue

            out = sub.outstanding
            assert out is not None
            if sub.after and not isinstance(out.event, ResyncEvent):
                last = out.batch.last_seq
                if any(other.oldest_unsettled() <= last for other in sub.after):
                    return

            if not sub.idle:
                self._expect(sub)
                return
            self._deliver(sub, out)

    def give(
        self,
        sub: Subscriber,
        diffs: list[Diff],
        revision: int,
        source: str,
        tally: Tally | None,
        mixed: bool = False,
    ) -> None:
        """Bring a watch its part of one commit: past the mailbox where nothing else concerns it."""
        if sub.fast and sub.idle and sub.outstanding is None:
            batch = Batch(diffs, self.seq, self.seq, revision, source, tally)
            event: Event[Any] = ChangeEvent(
                revision=revision,
                source=source,
                changes=batch.changes(sub.spec.decode),
                _report=sub.report,
                _ticket=sub,
            )
            sub.outstanding = Outstanding(event, batch, _OUT)
            sub.idle = False
            self.effects.append(event)
            return
        sub.fast = False
        box = sub.mailbox
        box.add(Group(self.seq, revision, source, diffs, tally, mixed))
        if sub.is_overdue:
            box.overdue()
        self.pump(sub)

    # -- within ------------------------------------------------------------------------------------

    def _prepare(self, sub: Subscriber) -> bool:
        """Make the next event. False where nothing differs after all."""
        if sub.resync_reason is not None:
            self._prepare_resync(sub, sub.resync_reason)
            return True
        batch = sub.mailbox.take(self._mirror.records)
        if not batch.diffs:
            batch.answer(Verdict.ACCEPTED, NO_OUTCOMES, (sub.mailbox.open, sub.refused))
            sub.trouble.end()
            self._pump_dependents(sub)
            return False
        event: Event[Any] = ChangeEvent(
            changes=batch.changes(sub.spec.decode),
            revision=batch.revision,
            source=batch.source,
            commits=batch.commits,
            attempt=sub.trouble.attempt,
            _report=sub.report,
            _ticket=sub,
        )
        sub.outstanding = Outstanding(event, batch)
        return True

    def _prepare_resync(self, sub: Subscriber, reason: str) -> None:
        never_accepted, dirty = sub.mailbox.never_accepted, sub.mailbox.dirty
        before, batch = sub.mailbox.take_for_resync()
        scopes = {scope: self._mirror.under(scope) for scope in sub.scopes.in_order()}

        changed: dict[str, Record | None] | None = None
        if not never_accepted or dirty:
            changed = {}
            if never_accepted:  # then only dirty keys were ever delivered, and in vain
                changed.update(dict.fromkeys(key for items in scopes.values() for key, _ in items))
            records = self._mirror.records
            for key, old in before.items():
                new = records.get(key) if key in sub.scopes else None
                if differ(old, new):
                    changed[key] = old
            changed.update(dirty)

        revision, source = self.newest
        sub.enter(Progress.RESYNCING)
        sub.mailbox.never_accepted = False  # what comes from now on follows this RESYNC
        sub.stats.resynced_at = self.clock()

        event = make_resync(
            scopes,
            changed,
            sub.spec.decode,
            reason=reason,
            revision=revision,
            source=source,
            attempt=sub.trouble.attempt,
            report=sub.report,
            ticket=sub,
        )
        sub.outstanding = Outstanding(event, batch, base=before, was_never_accepted=never_accepted)

    def _deliver(self, sub: Subscriber, out: Outstanding) -> None:
        out.receive()
        sub.idle = False
        sub.skip(Skipped.NO)
        sub.deadline = None
        self.effects.append(out.event)

    def _expect(self, sub: Subscriber) -> None:
        """Wait only so long for somebody to read, or for a source that is lost."""
        if sub.deadline is None and sub.skipped is Skipped.NO:
            self._wait(sub, Wait.SOURCE if sub.idle else Wait.READER, sub.spec.ack_timeout)

    def _wait(self, sub: Subscriber, wait: Wait, seconds: float) -> None:
        until = self.clock() + seconds
        sub.wait_for(wait, until)
        if until < sub.timer[0]:
            self.timers.arm(sub, until)

    def _stop_waiting(self, sub: Subscriber) -> None:
        """What was waited for has come; a retry has its time."""
        if sub.deadline is not None and sub.deadline.wait is not Wait.RETRY:
            sub.deadline = None

    def _end_retry(self, sub: Subscriber) -> None:
        if sub.deadline is not None and sub.deadline.wait is Wait.RETRY:
            sub.deadline = None

    def _accept(
        self, sub: Subscriber, out: Outstanding, outcomes: Mapping[str, KeyOutcome]
    ) -> None:
        outcomes = {
            key: said for key, said in outcomes.items() if said.verdict is not Verdict.ACCEPTED
        }
        for key, error in out.undecodable.items():  # the handler has not seen it
            if key not in outcomes or outcomes[key].verdict is not Verdict.REFUSED:
                why = printable(f"does not decode: {error.reason}")
                outcomes[key] = KeyOutcome(Verdict.REFUSED, why)

        box, refused, verdict = sub.mailbox, sub.refused, worst_of(outcomes.values())
        if outcomes and self.witness is not None:
            self.witness.settled(sub, out, outcomes)
        was_well = not (sub.trouble.failures or refused)
        began = not refused
        sub.trouble.end()
        out.accept(box, refused, outcomes)
        if refused and began:
            sub.trouble.begin(self._wall())
        if verdict in (Verdict.REFUSED, Verdict.FAILED):
            sub.trouble.refusals += 1
            watchlog.refused(sub, out.event, outcomes)
        elif not refused:
            sub.trouble.refusals = 0
            if not was_well and worst_of(box.open.values()) is not Verdict.FAILED:
                watchlog.accepted(sub)

        event, keys = out.event, len(out.batch.diffs)
        if isinstance(event, ResyncEvent):
            if sub.progress is Progress.RESYNCING:  # else a newer one is due
                sub.enter(Progress.FOLLOWING)
            keys = sum(map(len, event.values.values()))
            took = self.clock() - sub.stats.resynced_at
            sub.stats.last_resync = LastResync(event.reason, took, keys, self._wall())
        sub.stats.settle(self.clock(), keys)
        if self.tracing is not None:
            self.tracing.settled(sub.name, verdict, outcomes, None)
        out.batch.answer(verdict, outcomes, (box.open, refused))
        sub.outstanding = None
        self._settle(sub, its_turn=sub.progress is not Progress.NEEDS_RESYNC)

    def _refuse(self, sub: Subscriber, refused: Mapping[str, KeyOutcome]) -> None:
        """It has become known that keys which were open were left as they were."""
        if not sub.refused:
            sub.trouble.begin(self._wall())
        sub.refused.update(refused)
        for key in refused:  # G5: whatever is written next is delivered
            before = sub.mailbox.before(key, self._mirror.records.get(key))
            if sub.outstanding is not None:
                before = sub.outstanding.before(key, before)
            sub.mailbox.dirty.setdefault(key, before)
        sub.trouble.refusals += 1
        watchlog.refused(sub, None, refused)

    def _fail(self, sub: Subscriber, out: Outstanding, error: BaseException) -> None:
        sub.fast = False
        out.batch.answer(Verdict.FAILED, NO_OUTCOMES)
        sub.stats.settle(self.clock(), None)

        if self.tracing is not None:
            self.tracing.settled(sub.name, Verdict.FAILED, NO_OUTCOMES, error)
        if self.witness is not None:
            self.witness.failed(sub, out)

        trouble = sub.trouble
        trouble.fail(in_one_line(error), self._wall())
        watchlog.failed(sub, out.event, error)

        # a newer round waits already: no wait, and its turn is still to come
        superseded = sub.progress is Progress.NEEDS_RESYNC
        self._withdraw(sub, out, dirty=True)
        if not superseded:
            after = (
                error.after
                if isinstance(error, Retry)
                else sub.spec.retry.delay(trouble.attempt, self._rng)
            )
            if sub.follows and trouble.attempt >= sub.spec.retries:
                sub.mailbox.fold()
                sub.need_resync(f"{trouble.attempt} tries failed: {trouble.why}")
            trouble.attempt += 1
            self._wait(sub, Wait.RETRY, after)

        self._settle(sub, its_turn=not superseded)

    def _withdraw(self, sub: Subscriber, out: Outstanding, *, dirty: bool) -> None:
        """Put an event that was not accepted back into the mailbox."""
        out.requeue(sub.mailbox, dirty=dirty)
        event = out.event
        if isinstance(event, ResyncEvent) and (
            sub.progress is Progress.RESYNCING or event.reason == NEW_HISTORY
        ):
            sub.need_resync(event.reason)
        sub.outstanding = sub.deadline = None

    def _take_back(self, sub: Subscriber) -> None:
        """An event that is made but not delivered is not needed any more:
        the RESYNC that is due makes up for it.
        """
        out = sub.outstanding
        if out is not None and out.stage is Stage.READY:
            self._withdraw(sub, out, dirty=bool(out.undecodable))

    def _pass_by(self, sub: Subscriber) -> None:
        """The handler is overdue, or nobody reads the stream: nobody waits for it any longer."""
        watchlog.overdue(sub)
        if self.tracing is not None:
            self.tracing.overdue(sub.name)
        unread = sub.runner.is_stream and not sub.is_out
        sub.skip(Skipped.READER if unread else Skipped.HANDLER)
        sub.trouble.begin(self._wall())
        if sub.outstanding is not None:
            sub.outstanding.skip()
        sub.mailbox.overdue()
        if sub is self.rounds.current:  # a watch that reports before its turn still waits for it
            self._turn(self.rounds.settled(sub))
        self._pump_dependents(sub)

    def _settle(self, sub: Subscriber, *, its_turn: bool) -> None:
        """The event has an outcome: let the round and the dependent watches go on."""
        self._stop_waiting(sub)
        if sub.skipped is Skipped.HANDLER:
            watchlog.reported_late(sub)
        sub.skip(Skipped.NO)
        if its_turn and sub is self.rounds.current:
            self._turn(self.rounds.settled(sub))
        if sub.dependents:
            self._pump_dependents(sub)

    def _turn(self, sub: Subscriber | None) -> None:
        """Resync the watch whose turn it is; those that are passed by anyway do
        not hold up the round.
        """
        while sub is not None:
            self.pump(sub)
            # G6: what it watches is known, if perhaps not as of its registration: the source is
            # asked for that soon
            soon = self._coverage.knows(sub) and not self._coverage.misses(sub)
            if not sub.is_overdue and (soon or self._coverage.holds(sub)):
                return
            sub = self.rounds.settled(sub)

    def _pump_dependents(self, sub: Subscriber) -> None:
        for dependent in sub.dependents:
            self.pump(dependent)


def _foreign(error: Refused | Pending | Failed | Outcomes, foreign: Collection[str]) -> UsageError:
    """The mistake of a handler that says something of keys that its event does not have."""
    more = f" and {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
    mistake = UsageError(
        f"{type(error).__name__} names the key {min(foreign)!r}{more}, which the event does not "
        "have; name keys as `change.key` shows them"
    )
    mistake.__cause__ = error
    return mistake
