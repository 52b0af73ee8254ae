"""How far the watches are, for agents elsewhere that want to know: the newest positions that all of
them have settled, and the keys that are not simply applied, each with the value that this is about.

The core tells it what is rare, and it looks at the rest when it is asked: a watch that just follows
costs nothing here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from datasync.events import ChangeEvent, Record, ResyncEvent
from datasync.outcome import KeyOutcome, Verdict, worse_than
from datasync.report import KeyReport, LayerReport, WatchReport
from datasync.scopes import Scopes
from datasync.status import WatchState
from datasync.syncbase.core import Core
from datasync.syncbase.layer import Layer
from datasync.syncbase.mirror import Diff
from datasync.syncbase.outstanding import Outstanding
from datasync.syncbase.subscriber import Subscriber

__all__ = ["Picture", "Standing"]

_MOST = 1000
"""Keys of an event that failed, or is overdue, that are named one by one, at most; its watch is
named in any case."""
_HEARD = 1000
"""Commits that may wait to be looked at."""


class Picture(msgspec.Struct, frozen=True):
    """How it all stands.

    complete: each watch has followed since the start, so that no key that is left out is open.
    """

    layers: list[LayerReport]
    scopes: list[str]
    watches: list[WatchReport]
    keys: dict[str, KeyReport]
    complete: bool


_Position = tuple[int, int, str]
"""The number of something taken over, its revision, and the history that this belongs to."""


class _Note(msgspec.Struct, frozen=True):
    """What a key's last outcome at a watch was about. `failed`: its whole event has failed."""

    digest: str | None
    since: float
    failed: bool


class Standing:
    """Looks on, and is told of outcomes that are not ACCEPTED."""

    def __init__(self, core: Core, wall: Callable[[], float]) -> None:
        self._core = core
        self._wall = wall
        self._notes: dict[Subscriber, dict[str, _Note]] = {}
        self._newest: dict[Layer, _Position] = {}
        """By layer, the last thing that concerned a watch."""
        self._awaited: dict[Layer, _Position] = {}
        """The same at an earlier picture, when it was not settled yet: under steady traffic the
        newest one never is."""
        self._settled: dict[Layer, _Position] = {}
        self._complete = False
        self._heard: list[tuple[Layer, _Position, Sequence[Diff]]] = []
        """Commits that have not been looked at."""

    # -- what the core tells -----------------------------------------------------------------------

    def committed(self, diffs: Sequence[Diff], revision: int) -> None:
        """A commit is known. It is looked at later: this is called for every one."""
        delivery, heard = self._core.delivery, self._heard
        assert delivery.latest is not None
        heard.append((delivery.latest, (delivery.seq, revision, delivery.latest.history), diffs))
        if len(heard) >= _HEARD:
            self._take_heard()

    def replaced(self) -> None:
        """A snapshot is known."""
        self._take_heard()
        delivery = self._core.delivery
        assert delivery.latest is not None
        layer = delivery.latest
        self._newest[layer] = delivery.seq, layer.revision, layer.history
        if layer in self._awaited and self._awaited[layer][2] != layer.history:
            del self._awaited[layer]  # what another history has brought in its place was not seen

    def settled(
        self, sub: Subscriber, out: Outstanding, outcomes: Mapping[str, KeyOutcome]
    ) -> None:
        """A watch has settled an event, but not simply applied these keys."""
        values: dict[str, Record | None] = {key: new for key, _, new in out.batch.diffs}
        event = out.whole or out.event
        if isinstance(event, ResyncEvent):
            values = {kv.key: kv._record for pairs in event.values.values() for kv in pairs}
        self._note(sub, ((key, values.get(key)) for key in outcomes), failed=False)

    def failed(self, sub: Subscriber, out: Outstanding) -> None:
        """An event of a watch has failed. A RESYNC stands for all keys: its watch says that, and
        why it failed is not said of the values that an earlier event had.
        """
        if isinstance(out.event, ChangeEvent):
            diffs = out.batch.diffs[:_MOST]
            self._note(sub, ((key, new) for key, _, new in diffs), failed=True)
        else:
            notes = self._notes.get(sub, {})
            self._notes[sub] = {key: note for key, note in notes.items() if not note.failed}

    # -- what reporters ask ------------------------------------------------------------------------

    def picture(self) -> Picture:
        """How it stands now."""
        subs = self._core.watches
        self._take_heard()
        self._settle(subs)
        scopes = Scopes(scope for sub in subs for scope in sub.scopes).minimal()
        return Picture(
            [self._layer(layer) for layer in self._core.layers],
            list(scopes),
            [watch for watch in map(_watch, subs) if watch is not None],
            self._keys(subs),
            self._complete,
        )

    def outcome(self, key: str, digest: str | None) -> KeyOutcome | None:
        """What became of this value of a key, which is known to have been shown here; None while
        that is not settled.
        """
        subs = self._watches_of(key)
        if not subs:
            return KeyOutcome(Verdict.UNWATCHED, "no watch looks at it")
        if not self._core.coverage.covers(key):
            return None
        if _digest(self._core.mirror.get(key)) != digest:
            return KeyOutcome(Verdict.SUPERSEDED, "another value stood there by then")
        worst = KeyOutcome(Verdict.ACCEPTED)
        for sub in subs:
            said = self._outcome_at(sub, key, digest)
            if said is None:
                return None
            if worse_than(said.verdict, worst.verdict):
                worst = said
        return worst

    # -- within ------------------------------------------------------------------------------------

    def _watches_of(self, key: str) -> Sequence[Subscriber]:
        return [sub for sub in self._core.watched(key) if not sub.aside]

    def _outcome_at(self, sub: Subscriber, key: str, digest: str | None) -> KeyOutcome | None:
        """What it said of the value of a key that is the newest one; None where it has not."""
        if not sub.follows or sub.has_unsettled(key):
            note = self._notes.get(sub, {}).get(key)
            # a failure of an older value says nothing of this one, which comes with the next try
            if note is not None and note.failed and note.digest == digest and sub.trouble.why:
                return KeyOutcome(Verdict.FAILED, sub.trouble.why)
            if sub.is_overdue:
                return KeyOutcome(Verdict.OVERDUE, "no report in time")
            return None
        if key in sub.refused:
            return sub.refused[key]
        return sub.mailbox.open.get(key, KeyOutcome(Verdict.ACCEPTED))

    def _take_heard(self) -> None:
        """Find the newest commit of each layer that concerned a watch. What concerns none moves
        nothing: reports are such, our own and those of others, or two agents on one store would
        never come to rest.
        """
        watched, found = self._core.watched, set()
        for layer, position, diffs in reversed(self._heard):
            if layer in found:
                continue
            if any(not sub.aside for diff in diffs for sub in watched(diff[0])):
                self._newest[layer] = position
                found.add(layer)
        self._heard.clear()

    def _settle(self, subs: Iterable[Subscriber]) -> None:
        oldest = min(map(_oldest_unsettled, subs), default=math.inf)
        self._complete = self._complete or oldest > 0
        for layer, newest in self._newest.items():
            if newest[0] < oldest:
                self._settled[layer] = newest
                self._awaited.pop(layer, None)
                continue
            awaited = self._awaited.setdefault(layer, newest)
            if awaited[0] < oldest:
                self._settled[layer], self._awaited[layer] = awaited, newest

    def _layer(self, layer: Layer) -> LayerReport:
        settled = self._settled.get(layer)
        if settled is None:
            return LayerReport(layer.name)
        _, revision, history = settled
        return LayerReport(layer.name, revision if layer.revisions else None, history)

    def _note(
        self, sub: Subscriber, values: Iterable[tuple[str, Record | None]], *, failed: bool
    ) -> None:
        notes = self._notes.setdefault(sub, {})
        for key, record in values:
            digest, before = _digest(record), notes.get(key)
            same = before is not None and before.digest == digest and before.failed is failed
            if before is None or not same:
                notes[key] = _Note(digest, self._wall(), failed)

    def _keys(self, subs: Sequence[Subscriber]) -> dict[str, KeyReport]:
        self._notes = {sub: self._notes[sub] for sub in subs if sub in self._notes}
        worst: dict[str, KeyReport] = {}
        for sub in subs:
            for report in self._keys_of(sub):
                other = worst.get(report.key)
                if other is None or worse_than(Verdict(report.verdict), Verdict(other.verdict)):
                    worst[report.key] = report
        return worst

    def _keys_of(self, sub: Subscriber) -> Iterator[KeyReport]:
        notes = self._notes.get(sub, {})
        for key, note in list(notes.items()):
            told = self._noted(sub, key, note)
            if told is None:
                del notes[key]
            else:
                yield told
        if sub.state is WatchState.OVERDUE and sub.is_out:
            assert sub.outstanding is not None
            event, since = sub.outstanding.event, sub.trouble.since
            diffs = sub.outstanding.batch.diffs if isinstance(event, ChangeEvent) else ()
            for key, _, new in diffs[:_MOST]:
                yield KeyReport(key, "overdue", "no report in time", _digest(new), since, sub.name)

    def _noted(self, sub: Subscriber, key: str, note: _Note) -> KeyReport | None:
        """What is to be said of it; None where it has been settled meanwhile."""
        trouble = sub.trouble
        if note.failed:
            if trouble.why is None or key not in sub.mailbox.dirty:
                return None
            return KeyReport(
                key, "failed", trouble.why, note.digest, note.since, sub.name, trouble.attempt
            )
        said = sub.refused.get(key) or sub.mailbox.open.get(key)
        if said is None:
            return None
        return KeyReport(key, said.verdict.value, said.reason, note.digest, note.since, sub.name)


def _oldest_unsettled(sub: Subscriber) -> float:
    """The number of the oldest thing taken over that it has not said the outcome of."""
    if not sub.follows:
        return 0
    oldest = sub.mailbox.first_seq
    if sub.outstanding is not None:
        oldest = min(oldest, sub.outstanding.batch.first_seq)
    return oldest


def _watch(sub: Subscriber) -> WatchReport | None:
    """What is to be said of a watch; None where it just follows."""
    state, trouble = sub.state, sub.trouble
    if state is WatchState.FOLLOWING:
        return None
    in_trouble = state in (WatchState.FAILING, WatchState.OVERDUE, WatchState.UNATTENDED)
    return WatchReport(
        sub.name,
        state.value,
        sub.scopes.in_order()[:_MOST],
        trouble.why or "",
        trouble.since if in_trouble else 0.0,
        trouble.attempt,
    )


def _digest(record: Record | None) -> str | None:
    return None if record is None else hashlib.sha256(record.raw).hexdigest()
