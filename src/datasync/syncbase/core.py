"""The core: fed with frames, reports and the time, it says what to deliver,
to answer and to reopen.

A synchronous state machine without I/O or tasks. Frames go through the mirror and the router into
the mailboxes here; `Delivery` brings them from there to the handlers.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from datasync.errors import DataSyncError, HistoryLost
from datasync.frames import Commit, Frame, Progress, SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.options import Options
from datasync.outcome import Tally, Verdict, Vote, tally_of
from datasync.scopes import Scopes
from datasync.syncbase.confirmer import Confirmer
from datasync.syncbase.coverage import Coverage
from datasync.syncbase.delivery import NEW_HISTORY, Delivery
from datasync.syncbase.effects import Onlooker, Request
from datasync.syncbase.layer import Layer
from datasync.syncbase.mailbox import Group
from datasync.syncbase.mirror import Diff, Lock, Mirror, Staging
from datasync.syncbase.router import Router
from datasync.syncbase.subscriber import Subscriber

__all__ = ["Core", "Layer"]


class Core:
    """All of one DataSync but its I/O.

    Its methods return at once; what is to be done then lies in `effects`.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        options: Options,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
        lock: Lock,
    ) -> None:
        self.layers = list(layers)
        self.mirror = Mirror([layer.name for layer in layers], lock)
        self.subscribers: dict[Subscriber, None] = {}
        """In the order of registration; those that stand aside too."""
        self.coverage = Coverage(self.layers)
        self.slowest = 0.0
        """Seconds: the longest that a watch was ever given for a RESYNC and a CHANGE after it."""
        self.delivery = Delivery(self.mirror, clock, wall, rng, self.coverage)
        self.effects = self.delivery.effects
        self.requests: deque[Request] = deque()
        """What it asks of the feeds.

        The engine sees to it at once, even while it carries out effects.
        """
        self.onlookers: list[Onlooker] = []
        """Hear what becomes known, and have no say in it: a status page."""
        self._resync_always = options.recovery == "resync"
        self._router: Router[Subscriber] = Router()
        self.confirmer = Confirmer(self.layers, self.mirror, self._router, self.delivery)
        self._held_scopes: Counter[str] = Counter()
        # what `_needed` returns, as long as nothing of it may be gone
        self._wanted: Scopes | None = None
        self._unjoined: list[str] = []  # what was registered, and is in no set of scopes yet
        self._order = 0
        self._registered = 0

    @property
    def started(self) -> bool:
        """Whether the first state of all layers that the start waits for is known."""
        return self.coverage.started

    @property
    def watches(self) -> list[Subscriber]:
        """Those of the application, in the order of registration."""
        return [sub for sub in self.subscribers if not sub.aside]

    def watched(self, key: str) -> tuple[Subscriber, ...]:
        """The watches that a key concerns, in their order."""
        return self._router.match(key)

    # -- watches -----------------------------------------------------------------------------------

    def add(self, sub: Subscriber) -> None:
        """Register a watch; it comes last in the order."""
        self._order += 1
        sub.order = self._order
        self.slowest = max(self.slowest, sub.spec.resync_timeout + sub.spec.ack_timeout)
        self.subscribers[sub] = None
        for other in sub.after:
            other.dependents[sub] = None
        for scope in sub.scopes:
            self._router.add(scope, sub)
        sub.mailbox.fold()
        if self.started:
            sub.need_resync("registered")
            self.delivery.rounds.join(sub)
        sub.registered = self._register(sub.scopes)
        if self.started:
            self.delivery.pump(sub)

    def close(self, sub: Subscriber) -> None:
        """Forget a watch, which is open."""
        del self.subscribers[sub]
        self._wanted = None
        for scope in sub.scopes:
            self._router.remove(scope, sub)
        self.delivery.close(sub)

    def narrow(self) -> None:
        """G9: forget what neither a watch nor a view needs any more;
        what a session brings of it is left aside.
        """
        self.confirmer.forget_unwatched()
        self._wanted = None  # the only place where the loop hears that a view was released
        needed = self._needed()
        for layer in self.layers:
            self._narrow(layer, needed)

    def add_scope(self, sub: Subscriber, scope: str) -> None:
        """Widen a watch, which is resynced as a whole."""
        self.delivery.need_resync(sub, "prefix added")
        folded = sub.mailbox.folded
        assert folded is not None
        if not sub.mailbox.never_accepted:
            for key, _ in self.mirror.under(scope):
                if key not in sub.scopes:
                    folded.setdefault(key, None)
        sub.scopes.add(scope)
        self._router.add(scope, sub)
        sub.registered = self._register([scope])
        self.delivery.pump(sub)

    def remove_scope(self, sub: Subscriber, scope: str) -> None:
        """Take a scope from a watch; what it no longer sees shows as deletes in its RESYNC,
        to be pumped.
        """
        self.delivery.need_resync(sub, "prefix removed")
        folded = sub.mailbox.folded
        assert folded is not None
        sub.scopes.remove(scope)
        self._wanted = None
        self._router.remove(scope, sub)
        if not sub.mailbox.never_accepted:
            for key, record in self.mirror.under(scope):
                if key not in sub.scopes:
                    folded.setdefault(key, record)

    def hold(self, scope: str) -> int:
        """Keep a scope in the mirror though no watch needs it (for views).

        Returns what `covers` wants to know.
        """
        self.mirror.share()
        self._held_scopes[scope] += 1
        return self._register([scope])

    def release(self, scope: str) -> None:
        """Undo one `hold`."""
        self._held_scopes[scope] -= 1
        if not self._held_scopes[scope]:
            del self._held_scopes[scope]

    @property
    def views_filled(self) -> bool:
        """Whether all is known that views show."""
        return all(map(self.coverage.covers, self._held_scopes))

    def resync(self, sub: Subscriber | None) -> None:
        """Resync one watch, or all in a round, because the application asks for it."""
        if sub is None:
            if self.started:
                self._round("requested", (), None)
        else:
            self.delivery.need_resync(sub, "requested")
            self.delivery.pump(sub)

    # -- sessions ----------------------------------------------------------------------------------

    def opening(self, layer: Layer) -> tuple[list[str], Any, list[str]]:
        """What to open the next session with: scopes, position to resume at,
        and scopes added to those known.
        """
        needed = self._needed()
        complete = self._known(layer, needed)
        self._keep(layer, complete)
        layer.staging = layer.next = None
        layer.covers_more = False
        resume = layer.position if layer.can_resume and layer.ready else None
        layer.round_reason = None if resume is not None else layer.fault
        layer.loading, layer.opened_at = True, layer.registered
        if resume is None:
            return list(needed), None, []
        # such a snapshot tells nothing of what is known already
        layer.opened_at = 0
        added = needed.without(complete)
        layer.adds = layer.loading = bool(added)
        return list(complete.union(added)), resume, added

    def widening(self, layer: Layer) -> tuple[list[str], list[str]]:
        """What a session has to cover by now: all its scopes, and those that nothing is known of
        yet.
        """
        needed = self._needed()
        # what is not needed now, that session will not follow: if it is registered again, it has to
        # be read again
        self._narrow(layer, needed)
        added = needed.without(layer.complete)
        layer.widening = bool(added)
        layer.next = layer.complete.union(added)
        return list(layer.next), added

    def switched(self, layer: Layer, scopes: Sequence[str]) -> None:
        """Another session, over these scopes, has taken over from the one that was followed;
        its frames come next, and then that it has `caught_up`.
        """
        covered, needed = Scopes(scopes), self._needed()
        layer.staging = layer.next = None
        layer.covers_more = covered.minimal() != needed
        # G1: what the one before it had caught up with tells nothing of the scopes that are new
        layer.fresh = 0
        self._keep(layer, self._known(layer, covered))

    def caught_up(self, layer: Layer, registered: int) -> None:
        """All that the source had acknowledged when so much was registered has been taken over."""
        layer.fresh = max(layer.fresh, registered)
        self._pump_waiting()

    def opened(self, layer: Layer, *, resumed: bool) -> None:
        """A session is open."""
        if resumed:
            layer.fault = None
            layer.lost = layer.lost and layer.adds

    def lost(self, layer: Layer, error: Exception) -> None:
        """The session of this layer is gone."""
        layer.staging, layer.lost = None, True
        if isinstance(error, HistoryLost):
            layer.position = None
            layer.fault = f"history lost: {error}"
            layer.history_changed |= error.changed
        elif layer.ready:
            layer.fault = layer.fault or "reconnected"
            # G8: after an unexpected error nobody knows what has been taken over
            if self._resync_always or not isinstance(error, DataSyncError):
                layer.position = None
        # what needs more than is known does not wait for an optional source
        self._pump_waiting()

    def frame(self, layer: Layer, frame: Frame) -> None:
        """Take over the next frame of the layer's session."""
        if type(frame) is Commit:
            self.commit(layer, frame)
        elif type(frame) is SnapshotChunk and layer.staging is not None:
            self.mirror.stage(layer.index, layer.staging, frame.items)
        elif type(frame) is SnapshotBegin and layer.staging is None:
            layer.staging, layer.staging_scopes = Staging(), Scopes(frame.scopes)
        elif type(frame) is SnapshotEnd and layer.staging is not None:
            self._snapshot(layer, frame, layer.staging)
        elif type(frame) is Progress and layer.staging is None:
            layer.position = frame.position
            if frame.revision > layer.revision:
                layer.revision = frame.revision
                # G1: a RESYNC tells how far what it shows is known, even where the last commits did
                # not concern us
                self.delivery.latest = layer
            if layer.confirmations.active and layer.revisions:  # else it tells nothing of any key
                self.confirmer.overtake(layer)
        else:
            raise TypeError(
                f"{layer.name}: {type(frame).__name__} in the wrong place; a session must follow "
                "source.py"
            )

    def commit(self, layer: Layer, frame: Commit) -> None:
        """Take over a commit; what `frame` does with one."""
        if layer.staging is not None:
            raise TypeError(
                f"{layer.name}: Commit within a snapshot; a session must follow source.py"
            )

        revision, changes = frame.revision, frame.changes
        if layer.covers_more:
            # G5: what was forgotten is not taken over in parts, though it may be wanted again: a
            # snapshot brings it
            changes = layer.complete.keep(changes)

        diffs, same = self.mirror.apply(layer.index, changes, revision)
        layer.position = frame.position
        if revision > layer.revision:
            layer.revision = revision
        self.delivery.latest = layer

        tally = None if frame.reply is None else tally_of(frame.reply, frame.final)

        if layer.confirmations.active:
            tally = tally or Tally()
            if layer.revisions:
                layer.confirmations.committed([revision], tally, layer.complete)
                self.confirmer.overtake(layer)
            else:
                keys = [key for key, _ in frame.changes]
                # G7: what is not taken over is not shown to anybody yet: it waits for the snapshot,
                # with its writer
                shown = keys if changes is frame.changes else [key for key, _ in changes]
                layer.confirmations.committed(keys, tally, Scopes(shown), revision)

        self._distribute(diffs, same, revision, layer.name, tally)
        if self.onlookers:
            for onlooker in self.onlookers:
                onlooker.committed((*diffs, *same), revision)

    # -- within ------------------------------------------------------------------------------------

    def _distribute(
        self, diffs: list[Diff], same: list[Diff], revision: int, source: str, tally: Tally | None
    ) -> None:
        """Bring each watch its part of one commit; each has one vote."""
        delivery, router = self.delivery, self._router
        delivery.seq += 1
        if not same and (subs := router.match_all(diffs)):
            if tally is not None and len(subs) > 1:
                tally.expected += len(subs) - 1  # the last one casts the vote that is held
            for sub in subs:
                delivery.give(sub, diffs, revision, source, tally)
            return

        runs: list[tuple[tuple[Subscriber, ...], list[Diff]]] = []
        last: tuple[Subscriber, ...] | None = None
        for diff in diffs:
            found = router.match(diff[0])
            if found is not last:
                last = found
                run: list[Diff] = []
                runs.append((found, run))
            run.append(diff)
        parts: dict[Subscriber, list[Diff]] = {}
        for concerned, run in runs:
            for sub in concerned:
                parts.setdefault(sub, []).extend(run)
        mixed = set()
        for diff in same:
            for sub in router.match(diff[0]):
                if tally is not None:
                    tally.note(Verdict.ACCEPTED)
                # what is out, or waits, may yet be refused, and a dirty key is always delivered
                if sub.outstanding is not None or sub.mailbox or diff[0] in sub.mailbox.dirty:
                    parts.setdefault(sub, []).append(diff)
                    mixed.add(sub)
                elif tally is not None and diff[0] in sub.mailbox.open:
                    # G7: it was not applied, and this does not change that
                    tally.note_keys(sub.said_of([diff[0]]))
        if tally is not None:
            tally.expected += len(parts)
        for sub in sorted(parts, key=_by_order):
            delivery.give(sub, parts[sub], revision, source, tally, sub in mixed)
        if tally is not None:
            tally.close()

    def _snapshot(self, layer: Layer, frame: SnapshotEnd, staging: Staging) -> None:
        """A snapshot is complete: take it over, then begin a round or resync
        those who waited for it.
        """
        layer.staging = None
        diffs = self.mirror.replace(layer.index, layer.staging_scopes, staging)

        changed = layer.ready and (
            layer.history_changed
            or frame.history != layer.history
            or (layer.revisions and frame.revision < layer.revision)
        )
        layer.history_changed = False
        layer.epoch += changed

        reason, layer.round_reason = layer.round_reason, "resync by the source"
        if frame.same_history:
            reason = None
        if self.started and reason == "start":
            reason = f"{layer.name} joined"
        if changed:
            reason = NEW_HISTORY

        layer.complete = layer.complete.joined(layer.staging_scopes)
        if layer.next is not None:
            # G2: what the next session will not follow is not known: a watch that needs it waits
            # for the session after that
            self._keep(layer, self._known(layer, layer.next))
        if layer.widening:
            layer.widening = bool(self._needed().without(layer.complete))

        layer.position, layer.revision, layer.history = (
            frame.position,
            frame.revision,
            frame.history,
        )
        layer.ready, layer.lost, layer.fault, layer.loading = True, False, None, False
        layer.fresh = max(layer.fresh, layer.opened_at)
        self.delivery.latest = layer

        tally = None if frame.reply is None else tally_of(frame.reply, frame.final)

        if not self.started:
            self.coverage.started = all(other.ready or other.optional for other in self.layers)
            if self.started:
                self._round("start", (), tally)
        else:
            # asking each watch costs less than looking at more keys than there are watches
            few = len(staging.records) <= len(self.subscribers)
            if not (few or tally is not None or self._have_accepted(layer.staging_scopes)):
                diffs = ()
            if reason is not None:
                self._round(reason, diffs, tally)
            else:
                self._catch_up(diffs, layer, tally)
                self._pump_waiting()

        if tally is not None:
            tally.close()
        if layer.confirmations.active:
            self.confirmer.remember(layer, layer.staging_scopes)
            self.confirmer.overtake(layer)

        if layer.covers_more:
            self.narrow()
        for onlooker in self.onlookers:
            onlooker.replaced()

    def _have_accepted(self, scopes: Scopes) -> bool:
        """Whether a watch of something in these scopes has accepted anything: others begin with a
        RESYNC, and need not be told of each key.
        """
        return any(
            not sub.mailbox.never_accepted
            and (
                any(scope in scopes for scope in sub.scopes)
                or any(scope in sub.scopes for scope in scopes)
            )
            for sub in self.subscribers
        )

    def _catch_up(self, diffs: Iterable[Diff], layer: Layer, tally: Tally | None) -> None:
        """Bring each watch, as one fold, what a snapshot of wider scopes shows to have changed."""
        self.delivery.seq += 1
        parts: dict[Subscriber, list[Diff]] = {}
        for diff in diffs:
            for sub in self._router.match(diff[0]):
                parts.setdefault(sub, []).append(diff)
        for sub in sorted(parts, key=_by_order):
            if tally is not None:
                tally.expected += 1
            sub.fast = False
            sub.mailbox.catch_up(
                Group(self.delivery.seq, layer.revision, layer.name, parts[sub], tally)
            )
            if sub.is_overdue:
                sub.mailbox.overdue()
            self.delivery.pump(sub)

    def _round(self, reason: str, diffs: Iterable[Diff], tally: Tally | None) -> None:
        """Resync all watches in order; `diffs` is what changed unseen,
        `tally` hears what they make of it.
        """
        self.delivery.seq += 1
        for sub in self.subscribers:
            self.delivery.need_resync(sub, reason)
        for diff in diffs:
            for sub in self._router.match(diff[0]):
                if not sub.mailbox.never_accepted and sub.mailbox.folded is not None:
                    sub.mailbox.folded.setdefault(diff[0], diff[1])
        if tally is not None:
            for sub in self.watches:
                tally.expected += 1
                sub.mailbox.add_pending_vote(Vote(tally), self.delivery.seq, *self.delivery.newest)
                if sub.is_overdue:
                    sub.mailbox.overdue()
        self.delivery.start_round(self.subscribers)

    def _pump_waiting(self) -> None:
        waiting, self.delivery.waiting = self.delivery.waiting, {}
        for sub in sorted(waiting, key=_by_order):
            self.delivery.pump(sub)

    def _needed(self) -> Scopes:
        """What the watches and views want to know."""
        self._join()
        if self._wanted is None:
            watched = (scope for sub in self.subscribers for scope in sub.scopes)
            self._wanted = Scopes([*self._held_scopes, *watched]).minimal()
        return self._wanted

    def _known(self, layer: Layer, needed: Scopes) -> Scopes:
        if needed.contains_all_of(layer.complete):
            return layer.complete
        # what a wider scope takes in stays known, and followed, until the snapshot of that scope
        # replaces it
        known = layer.complete.but(layer.complete.without(needed))
        return known.joined(scope for scope in needed.others(known) if scope in layer.complete)

    def _narrow(self, layer: Layer, needed: Scopes) -> None:
        known = self._known(layer, needed)
        if known != layer.complete or layer.covers_more or layer.loading:
            layer.covers_more = True
            self._keep(layer, known)

    def _keep(self, layer: Layer, scopes: Scopes) -> None:
        """Of what is known of a layer, keep what is needed."""
        if scopes != layer.complete:
            layer.complete = scopes
            self.mirror.prune(layer.index, scopes)
            for onlooker in self.onlookers:
                onlooker.replaced()

    def _register(self, scopes: Iterable[str]) -> int:
        """Ask for what is new to a source, and how it stands now.

        Returns the number of the registration.

        Before the first snapshot is complete as well: the session that brings it may be open
        already.
        """
        self._registered += 1
        self._unjoined += scopes
        for layer in self.layers:
            layer.registered = self._registered
            wider = not all(scope in layer.complete for scope in scopes)
            layer.widening = layer.widening or wider
            self.requests.append(Request(layer.index, wider))
        return self._registered

    def _join(self) -> None:
        """Take in what was registered, all together: each costs as much as there are scopes."""
        if self._unjoined:
            new, self._unjoined = self._unjoined, []
            if self._wanted is not None:
                self._wanted = self._wanted.joined(new)


def _by_order(sub: Subscriber) -> int:
    return sub.order
