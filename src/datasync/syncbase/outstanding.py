"""The one event of a watch that it has not settled: what it was made of, how far it has come,
and what becomes of it.

```text
                    delivered         accepted: settled, its refused keys are dirty from now on
    of the mailbox ─► READY ─────► OUT ─► failed: given back to the mailbox, all of it dirty
                       ▲ │          │
                       │ │          └ not received, or some of it does not decode: READY again
                       │ └ a RESYNC is due, which makes up for it: given back
```

What that means for a key of it, and what the watch may say of the key later:

```text
               applied            refused                      open: PENDING or FAILED
    held as    accepted           as before, and dirty         accepted
    later      by an event only   by an event only             applied, refused, open again
```
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from datasync.errors import DecodeError
from datasync.events import ChangeEvent, Decode, Event, KeyVal, Record, ResyncEvent
from datasync.outcome import NO_OUTCOMES, KeyOutcome, Verdict
from datasync.syncbase.mailbox import Batch, Mailbox
from datasync.syncbase.resync import leave_out

__all__ = ["OPEN", "Outstanding", "Stage"]

OPEN = (Verdict.PENDING, Verdict.FAILED)
"""Of a key: the watch took over its value, and says later what became of it."""

_NONE: Mapping[str, DecodeError] = MappingProxyType({})


class Stage(enum.Enum):
    """How far an event has come."""

    READY = "ready"
    """Made, and with nobody yet, or no longer."""
    OUT = "out"
    """With the handler, or with the reader of the stream."""


class Outstanding(msgspec.Struct, eq=False):
    """An event that is made and not settled, of one `batch` of the mailbox."""

    event: Event[Any]
    batch: Batch
    stage: Stage = Stage.READY

    answered: bool = False
    """The publishers, and the round, have heard an outcome already;
    it may still be accepted, or fail.
    """
    undecodable: Mapping[str, DecodeError] = _NONE
    """Keys that the event leaves out, for their values do not decode."""
    whole: Event[Any] | None = None
    """The event with those keys, where there are any."""
    base: Mapping[str, Record | None] = MappingProxyType({})
    """Of a RESYNC: the record before, by key, of what it changes."""
    was_never_accepted: bool = False
    """Of a RESYNC: the watch had accepted nothing before."""

    def receive(self) -> None:
        """The handler is given it."""
        assert self.stage is Stage.READY
        self.stage = Stage.OUT

    def take_back(self) -> None:
        """Nobody has received it."""
        assert self.stage is Stage.OUT
        self.stage = Stage.READY

    def skip(self) -> None:
        """Nobody waits for its outcome any longer."""
        self.answered = True
        self.batch.answer(Verdict.OVERDUE, NO_OUTCOMES)

    def leave_out(self, error: DecodeError, decode: Decode[Any]) -> None:
        """Make it again, without any of the keys whose values do not decode;
        nobody has that yet.
        """
        assert self.stage is Stage.OUT
        event, bad = self.event, {**self.undecodable, error.key: error}
        is_change = isinstance(event, ChangeEvent)
        for item in self.batch.changes(decode) if is_change else _pairs(event):
            try:
                item.value  # noqa: B018 - decoded only to see whether it can be
            except DecodeError as found:
                bad[item.key] = found

        # G7: each delivery decodes again, for the handler may have edited what it was given
        again: Event[Any]
        if isinstance(event, ResyncEvent):
            again = leave_out(event, bad)
        else:
            assert isinstance(event, ChangeEvent)
            kept = [change for change in self.batch.changes(decode) if change.key not in bad]
            undecodable = MappingProxyType(bad)
            again = msgspec.structs.replace(
                event, changes=kept, undecodable=undecodable, _deferred=False
            )

        self.whole = self.whole or event
        self.event, self.undecodable, self.stage = again, bad, Stage.READY

    def all_keys(self) -> set[str]:
        """All keys that it is about."""
        keys = {diff[0] for diff in self.batch.diffs}
        if isinstance(self.event, ResyncEvent):
            whole = self._whole_resync()
            keys.update(change.key for change in whole._make_changes())
            keys.update(kv.key for kv in _pairs(whole))
        return keys

    def accept(
        self, box: Mailbox, known: dict[str, KeyOutcome], outcomes: Mapping[str, KeyOutcome]
    ) -> None:
        """The watch has settled it. Its keys were applied, but for those in `outcomes`: of these
        the refused ones become dirty in its mailbox, the others open.

        known: the keys that it has refused so far, with what it said.
        """
        refused = {k: said for k, said in outcomes.items() if said.verdict is Verdict.REFUSED}
        if isinstance(self.event, ResyncEvent):
            self._accept_resync(box, refused)
            known.clear()  # of the keys that were refused before, it has settled all others
            box.open.clear()
        elif box.dirty or box.open:
            # one by one, for many other keys may be dirty, refused, and open
            for key, _, _ in self.batch.diffs:
                box.dirty.pop(key, None)
                known.pop(key, None)
                box.open.pop(key, None)
        if outcomes:
            box.dirty.update({key: old for key, old, _ in self.batch.diffs if key in refused})
            known.update(refused)
            box.open.update({key: said for key, said in outcomes.items() if said.verdict in OPEN})

    def _accept_resync(self, box: Mailbox, refused: Iterable[str]) -> None:
        were_dirty, box.dirty = box.dirty, {}
        shown: dict[str, Record] = {}
        if refused:
            shown = {kv.key: kv._record for kv in _pairs(self._whole_resync())}
        for key in refused:
            if key in were_dirty:
                box.dirty[key] = were_dirty[key]
            elif self.was_never_accepted or key in self.base:
                box.dirty[key] = self.base.get(key)
            else:
                box.dirty[key] = shown.get(key)

    def before(self, key: str, now: Record | None) -> Record | None:
        """The record of a key before this event; `now` is the one before all that came after it."""
        if isinstance(self.event, ResyncEvent):
            return self.base.get(key, now)
        written = (old for at, old, _ in self.batch.diffs if at == key)
        return next(written, now)

    def requeue(self, box: Mailbox, *, dirty: bool) -> None:
        """Put what was not accepted back into the mailbox, folded with all that came after it.

        dirty: it was delivered, so that the handler may have applied any part of it.
        """
        box.requeue(self.batch, dirty=dirty)
        if isinstance(self.event, ResyncEvent):
            assert box.folded is not None
            if self.was_never_accepted:
                box.never_accepted = True
                box.folded.clear()
            box.folded.update(self.base)
            if dirty:
                for change in self._whole_resync()._make_changes():
                    box.dirty.setdefault(change.key, change._old)

    def _whole_resync(self) -> ResyncEvent[Any]:
        """The RESYNC as it was before undecodable keys were left out."""
        whole = self.whole or self.event
        assert isinstance(whole, ResyncEvent)
        return whole


def _pairs(event: Event[Any]) -> Iterable[KeyVal[Any]]:
    assert isinstance(event, ResyncEvent)
    return (kv for values in event.values.values() for kv in values)
