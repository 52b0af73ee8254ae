"""From the mailbox to the handler and back: deliveries, reports, retries, overdue handlers, turns in a round."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from datasync.errors import DecodeError, Refused, Retry
from datasync.events import ChangeEvent, Event, KeyVal, Record, ResyncEvent, Verdict
from datasync.options import Options
from datasync.resync.event import leave_out, make_resync
from datasync.resync.rounds import Rounds
from datasync.syncbase.effects import Effect
from datasync.syncbase.mailbox import Batch
from datasync.syncbase.mirror import Mirror
from datasync.syncbase.subscriber import Subscriber
from datasync.syncbase.timers import Timers
from datasync.texts import logger, printable

__all__ = ["NEW_HISTORY", "Delivery"]

log = logger("datasync")

NEW_HISTORY = "new history: the store was emptied, restored or replaced"

_NO_REASONS: Mapping[str, str] = {}


class Delivery:
    """Moves every watch through its events. Synchronous: what is to be done lands in `effects`."""

    def __init__(
        self,
        mirror: Mirror,
        options: Options,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
        covered: Callable[[Subscriber], bool],
        known: Callable[[Subscriber], bool],
        out_of_reach: Callable[[Subscriber], bool],
    ) -> None:
        self.effects: deque[Effect] = deque()
        self.rounds: Rounds[Subscriber] = Rounds()
        self.newest: tuple[int, str] = (0, "")
        """Revision and source of what was taken over last."""
        self._mirror = mirror
        self._options = options
        self.clock = clock
        self._wall = wall
        self._rng = rng
        self._covered = covered
        self._known = known
        self._out_of_reach = out_of_reach
        self.timers = Timers()
        """When `tick` wants to be called."""

    # -- what the shell calls ------------------------------------------------------------------------------------

    def ask(self, sub: Subscriber) -> None:
        """The handler is idle, or somebody waits in the stream."""
        sub.asking = True
        if sub.event is None:
            sub.passed = False
            if sub.retry_at < 0:
                sub.deadline = math.inf
            self.pump(sub)

    def unask(self, sub: Subscriber, event: Event[Any] | None) -> None:
        """Nobody waits in the stream any more; `event` was delivered but not received."""
        sub.asking = False
        if event is not None and sub.event is event:
            sub.held, sub.event = event, None
            sub.deadline = math.inf
            if sub.resync is not None:
                self._take_back(sub)
            self.pump(sub)

    def delivered(self, sub: Subscriber) -> None:
        """The handler has the event of this watch, and has not reported yet: from now on it may become overdue."""
        self._arm(sub, self.clock() + (sub.ack_timeout if type(sub.event) is ChangeEvent else sub.resync_timeout))

    def report(self, event: Event[Any], error: BaseException | None) -> None:
        """What the handler says of the event. Reports on events that are not out any more change nothing."""
        sub: Subscriber = event._ticket
        if sub.event is not event:
            return
        if error is None and sub.plain:  # what follows boils down to this
            batch = sub.batch
            assert batch is not None
            sub.event = sub.batch = None
            sub.deadline = math.inf
            sub.events_settled += 1
            sub.changes_delivered += len(batch.changes)
            if batch.tally is not None or batch.votes:
                batch.answer(Verdict.ACCEPTED, _NO_REASONS)
            if sub.dependents:
                self._pump_dependents(sub)
            return
        try:
            self._hear(sub, event, error)
        except Exception as unexpected:
            # G8: an error that is not what its class says, say; the event must not be left out for ever
            log.exception("%s: unexpected error in taking a report", sub.name)
            if sub.event is not event:
                raise
            self._fail(sub, event, unexpected)
        self.pump(sub)

    def _hear(self, sub: Subscriber, event: Event[Any], error: BaseException | None) -> None:
        if error is None:
            self._accept(sub, event, _NO_REASONS)
        elif isinstance(error, Refused) and error.reasons.keys() <= _keys(sub, event):
            self._accept(sub, event, error.reasons)
        elif isinstance(error, DecodeError) and error.key not in sub.bad and error.key in _keys(sub, event):
            self._leave_out(sub, event, error)
        else:
            self._fail(sub, event, error)

    def tick(self) -> None:
        """See to whatever is due by the clock."""
        now = self.clock()
        for sub in self.timers.due(now):
            if sub.deadline == math.inf:
                continue
            try:
                self._see_to(sub, now)
            except Exception:  # G8: said, and tried again; the other watches do not suffer for it
                log.exception("%s: unexpected error when its time had come", sub.name)
                self._arm(sub, now + sub.ack_timeout)

    def _see_to(self, sub: Subscriber, now: float) -> None:
        if sub.deadline > now:
            self._arm(sub, sub.deadline)
        elif sub.event is None and sub.retry_at >= 0:
            self._end_wait(sub)
            self.pump(sub)
        else:
            self._pass_by(sub)

    # -- what the core calls -------------------------------------------------------------------------------------

    def start_round(self, subs: Iterable[Subscriber]) -> None:
        """Resync these watches, which all need it, one after another; a round under way is replaced."""
        self._turn(self.rounds.start(subs))

    def need_resync(self, sub: Subscriber, reason: str) -> None:
        """From now on only a RESYNC can reach this watch."""
        if sub.resync != NEW_HISTORY:  # that has to be said, whatever comes on top of it
            sub.resync = reason
        sub.plain = sub.accepted = False
        self._take_back(sub)
        sub.mailbox.fold()
        self._end_wait(sub)
        sub.attempt = 1

    def close(self, sub: Subscriber) -> None:
        """The watch is gone: it votes no more, and nobody waits for it. Nothing here leads to it any more (G9)."""
        sub.closed = True
        if sub.batch is not None:
            sub.batch.abandon()
        sub.mailbox.clear()
        sub.event = sub.held = sub.batch = sub.base = sub.whole = None
        sub.deadline = math.inf
        self.timers.disarm(sub)
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
        while sub.event is None and not sub.closed and sub.retry_at < 0:
            if sub.held is None:
                if sub.resync is not None:
                    if not self._covered(sub):
                        if sub is self.rounds.current or self._out_of_reach(sub):
                            self._expect(sub)
                        return
                    if not self.rounds.allows(sub):
                        return
                elif not sub.mailbox:
                    sub.plain = not (sub.after or sub.mailbox.dirty or sub.refused)
                    return
                if not sub.asking:
                    self._expect(sub)
                    return
                if not self._prepare(sub):
                    continue
            event, batch = sub.held, sub.batch
            assert event is not None and batch is not None
            if sub.after and not isinstance(event, ResyncEvent):
                last = batch.last_seq
                if any(other.oldest_unsettled() <= last for other in sub.after):
                    return
            if not sub.asking:
                self._expect(sub)
                return
            sub.held = None
            self._deliver(sub, event)

    def deliver_now(self, sub: Subscriber, batch: Batch) -> None:
        """Deliver a commit past the empty mailbox of a watch that waits for nothing else."""
        event: Event[Any] = ChangeEvent(
            revision=batch.revision, source=batch.source, changes=[*batch.changes], _report=sub.report, _ticket=sub
        )
        sub.batch, sub.event, sub.asking = batch, event, False
        self.effects.append(event)

    # -- within --------------------------------------------------------------------------------------------------

    def _prepare(self, sub: Subscriber) -> bool:
        """Make the next event, in `held`. False where nothing differs after all."""
        if sub.resync is not None:
            self._prepare_resync(sub, sub.resync)
            return True
        batch = sub.mailbox.take(self._mirror.records, sub.decode)
        if not batch.changes:
            batch.answer(Verdict.ACCEPTED, _NO_REASONS)
            sub.failing = None
            sub.attempt = 1
            self._pump_dependents(sub)
            return False
        sub.batch = batch
        sub.held = ChangeEvent(
            changes=[*batch.changes],  # the batch stays as it is, whatever a handler does to its list
            revision=batch.revision,
            source=batch.source,
            commits=batch.commits,
            attempt=sub.attempt,
            _report=sub.report,
            _ticket=sub,
        )
        return True

    def _prepare_resync(self, sub: Subscriber, reason: str) -> None:
        fresh, dirty = sub.mailbox.fresh, sub.mailbox.dirty
        before, batch = sub.mailbox.take_fold()
        scopes = {scope: self._mirror.under(scope) for scope in sub.scopes.in_order()}
        changed: dict[str, Record | None] | None = None
        if not fresh or dirty:
            changed = {}
            if fresh:  # then only dirty keys were ever delivered, and in vain
                changed.update(dict.fromkeys(key for items in scopes.values() for key, _ in items))
            records = self._mirror.records
            for key, old in before.items():
                new = records.get(key) if key in sub.scopes else None
                if old is not new and (old is None or new is None or old.raw != new.raw):
                    changed[key] = old
            changed.update(dirty)
        revision, source = self.newest
        sub.base, sub.was_fresh, sub.batch, sub.resync = before, fresh, batch, None
        sub.plain = False
        sub.mailbox.fresh = False  # what comes from now on follows this RESYNC
        sub.resynced_at = self.clock()
        sub.held = make_resync(
            scopes,
            changed,
            sub.decode,
            reason=reason,
            revision=revision,
            source=source,
            attempt=sub.attempt,
            report=sub.report,
            ticket=sub,
        )

    def _deliver(self, sub: Subscriber, event: Event[Any]) -> None:
        sub.event = event
        sub.asking = False
        sub.passed = sub.out_of_reach = False
        sub.deadline = math.inf
        self.effects.append(event)

    def _expect(self, sub: Subscriber) -> None:
        """Wait only so long for somebody to read, or for a source that is lost."""
        if sub.deadline == math.inf and not sub.passed and not sub.out_of_reach:
            self._arm(sub, self.clock() + sub.ack_timeout)

    def _arm(self, sub: Subscriber, deadline: float) -> None:
        sub.deadline = deadline
        if deadline < sub.timer:
            self.timers.arm(sub, deadline)

    def _end_wait(self, sub: Subscriber) -> None:
        if sub.retry_at >= 0:
            sub.retry_at = -math.inf
            sub.deadline = math.inf

    def _accept(self, sub: Subscriber, event: Event[Any], refused: Mapping[str, str]) -> None:
        batch, box = sub.batch, sub.mailbox
        assert batch is not None
        if sub.bad:
            refused = {**{key: f"does not decode: {error.reason}" for key, error in sub.bad.items()}, **refused}
        if refused:
            if not sub.refused:
                sub.failed_at = self._wall()
            refused = {key: printable(str(reason)) for key, reason in refused.items()}
        if isinstance(event, ResyncEvent):
            self._accept_resync(sub, event, refused)
        else:
            # one by one, for many other keys may be dirty, and refused
            if box.dirty:
                for change in batch.changes:
                    box.dirty.pop(change.key, None)
                    sub.refused.pop(change.key, None)
            if refused:
                box.dirty.update({change.key: change._old for change in batch.changes if change.key in refused})
                sub.refused.update(refused)
            sub.changes_delivered += len(batch.changes)
        sub.failing = None
        sub.attempt = 1
        self._settle(sub, Verdict.REFUSED if refused else Verdict.ACCEPTED, refused, its_turn=sub.resync is None)

    def _accept_resync(self, sub: Subscriber, event: ResyncEvent[Any], refused: Mapping[str, str]) -> None:
        box, before = sub.mailbox, sub.base
        assert before is not None
        were_dirty, box.dirty = box.dirty, {}
        shown: dict[str, Record] = {}
        if refused:
            shown = {kv.key: kv._record for kv in _pairs(_whole(sub, event))}
        for key in refused:
            if key in were_dirty:
                box.dirty[key] = were_dirty[key]
            elif sub.was_fresh or key in before:
                box.dirty[key] = before.get(key)
            else:
                box.dirty[key] = shown.get(key)
        sub.refused = dict(refused)  # of the keys that were refused before, it has settled all others
        sub.base = None
        sub.accepted = sub.resync is None
        keys = sum(map(len, event.values.values()))
        sub.changes_delivered += keys
        sub.last_resync = (event.reason, self.clock() - sub.resynced_at, keys, self._wall())

    def _leave_out(self, sub: Subscriber, event: Event[Any], error: DecodeError) -> None:
        """Bring the event again at once, without any of the keys whose values do not decode."""
        batch, bad = sub.batch, {**sub.bad, error.key: error}
        assert batch is not None
        for item in batch.changes if isinstance(event, ChangeEvent) else _pairs(event):
            try:
                item.value  # noqa: B018 - decoded only to see whether it can be
            except DecodeError as found:
                bad[item.key] = found

        # G7: each delivery decodes anew, for the handler may have edited what it was given
        again: Event[Any]
        if isinstance(event, ResyncEvent):
            again = leave_out(event, bad)
        else:
            assert isinstance(event, ChangeEvent)
            kept = [change.anew() for change in batch.changes if change.key not in bad]
            undecodable = MappingProxyType(bad)
            again = msgspec.structs.replace(event, changes=kept, undecodable=undecodable, _deferred=False)
        sub.plain = False
        sub.whole = sub.whole or event
        sub.bad = bad
        sub.held, sub.event = again, None
        sub.deadline = math.inf

    def _fail(self, sub: Subscriber, event: Event[Any], error: BaseException) -> None:
        sub.plain = False
        if sub.batch is not None:
            sub.batch.answer(Verdict.FAILED, _NO_REASONS)
        if sub.failing is None:
            sub.failed_at = self._wall()
        sub.failing = said(error)
        superseded = sub.resync is not None  # a newer round waits already: no wait, and its turn is still to come
        self._withdraw(sub, event, dirty=True)
        if not superseded:
            retry = self._options.retry
            after = error.after if isinstance(error, Retry) else retry.delay(sub.attempt, self._rng)
            if sub.resync is None and sub.attempt >= self._options.retries:
                sub.mailbox.fold()
                sub.resync, sub.accepted = f"{sub.attempt} tries failed: {sub.failing}", False
            sub.attempt += 1
            sub.retry_at = self.clock() + after
            self._arm(sub, sub.retry_at)
        self._settle(sub, Verdict.FAILED, _NO_REASONS, its_turn=not superseded)

    def _withdraw(self, sub: Subscriber, event: Event[Any], *, dirty: bool) -> None:
        """Put an event that was not accepted back into the mailbox, folded with all that came behind it."""
        batch, box = sub.batch, sub.mailbox
        assert batch is not None
        box.give_back(batch.changes, batch, dirty=dirty)
        if isinstance(event, ResyncEvent):
            assert sub.base is not None and box.behind is not None
            if sub.was_fresh:
                box.fresh = True
                box.behind.clear()
            box.behind.update(sub.base)
            if dirty:
                for change in _whole(sub, event)._make_changes():
                    box.dirty.setdefault(change.key, change._old)
            if sub.resync is None or event.reason == NEW_HISTORY:
                sub.resync = event.reason
            sub.base = None
        sub.event = sub.held = sub.batch = None
        sub.deadline = math.inf
        sub.settled = False

    def _take_back(self, sub: Subscriber) -> None:
        """An event that is made but not delivered is not needed any more: the RESYNC that is due makes up for it."""
        if sub.held is not None:
            self._withdraw(sub, sub.held, dirty=bool(sub.bad))
            sub.whole, sub.bad = None, {}

    def _pass_by(self, sub: Subscriber) -> None:
        """The handler is overdue, or nobody reads the stream: nobody waits for it any longer."""
        sub.deadline = math.inf
        if sub.event is None and sub.asking:  # it would go on, but a source is lost: publishers wait for that one
            sub.out_of_reach = True
            if sub is self.rounds.current:
                self._turn(self.rounds.settled(sub))
            self._pump_dependents(sub)
            return
        sub.plain, sub.passed = False, True
        if sub.failing is None:
            sub.failed_at = self._wall()
        sub.settled = sub.batch is not None
        if sub.batch is not None:
            sub.batch.answer(Verdict.OVERDUE, _NO_REASONS)
        sub.mailbox.answer(Verdict.OVERDUE, _NO_REASONS)
        if sub is self.rounds.current:  # whoever reports before its turn still waits for it
            self._turn(self.rounds.settled(sub))
        self._pump_dependents(sub)

    def _settle(self, sub: Subscriber, verdict: Verdict, reasons: Mapping[str, str], *, its_turn: bool) -> None:
        """The event has an outcome: tell the publishers, let the round and the dependent watches go on."""
        if sub.batch is not None:
            sub.batch.answer(verdict, reasons)
        sub.event = sub.batch = None
        sub.events_settled += 1
        if sub.bad:
            sub.whole, sub.bad = None, {}
        if sub.retry_at < 0:
            sub.deadline = math.inf
        sub.passed = sub.settled = False
        if its_turn and sub is self.rounds.current:
            self._turn(self.rounds.settled(sub))
        if sub.dependents:
            self._pump_dependents(sub)

    def _turn(self, sub: Subscriber | None) -> None:
        """Resync the watch whose turn it is; those that are passed by anyway do not hold up the round."""
        while sub is not None:
            self.pump(sub)
            # G6: what it watches is known, though perhaps not as of its registration: that is soon asked
            soon = self._known(sub) and not self._out_of_reach(sub)
            if not sub.passed and (soon or self._covered(sub)):
                return
            sub = self.rounds.settled(sub)

    def _pump_dependents(self, sub: Subscriber) -> None:
        for dependent in sub.dependents:
            self.pump(dependent)


def said(error: BaseException) -> str:
    """An error in one line: its class, and what it says, if it can say anything."""
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:
        return f"{kind} (which cannot be shown as text)"
    return printable(f"{kind}: {text}") if text else kind


def _whole(sub: Subscriber, event: ResyncEvent[Any]) -> ResyncEvent[Any]:
    """The RESYNC as it was before undecodable keys were left out."""
    return sub.whole if isinstance(sub.whole, ResyncEvent) else event


def _pairs(event: Event[Any]) -> Iterable[KeyVal[Any]]:
    assert isinstance(event, ResyncEvent)
    return (kv for values in event.values.values() for kv in values)


def _keys(sub: Subscriber, event: Event[Any]) -> set[str]:
    """All keys that the event is about."""
    keys = {change.key for change in (sub.batch.changes if sub.batch is not None else ())}
    if isinstance(event, ResyncEvent):
        whole = _whole(sub, event)
        keys.update(change.key for change in whole._make_changes())
        keys.update(kv.key for kv in _pairs(whole))
    return keys
