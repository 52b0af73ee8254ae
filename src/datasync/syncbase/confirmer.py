"""The confirmer: finds, for a write of this process, the events that bring it to the watches,
and so its verdict.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType

from datasync.events import Record
from datasync.outcome import Listener, Tally, Verdict, Vote
from datasync.scopes import Scopes
from datasync.syncbase.confirm import Shown, Waiting, Write
from datasync.syncbase.delivery import Delivery
from datasync.syncbase.layer import Layer
from datasync.syncbase.mirror import Mirror
from datasync.syncbase.router import Router
from datasync.syncbase.subscriber import Subscriber

__all__ = ["Confirmer"]

_NOTHING = Scopes()
_NO_REVISIONS: Mapping[str, int] = MappingProxyType({})


class Confirmer:
    """Brings writes that have been done together with the frames that show them."""

    def __init__(
        self,
        layers: Sequence[Layer],
        mirror: Mirror,
        router: Router[Subscriber],
        delivery: Delivery,
    ) -> None:
        self._layers = layers
        self._mirror = mirror
        self._router = router
        self._delivery = delivery

    def wanted(self, keys: Iterable[str], *, but: Scopes = _NOTHING) -> list[str]:
        """Those of the keys that some watch wants; without those in `but`."""
        return [key for key in keys if key not in but and self._router.match(key)]

    def confirm(
        self,
        layer: Layer,
        write: Write,
        revision: int | None,
        reply: Listener,
        by_key: Mapping[str, int] = _NO_REVISIONS,
        vain: Container[str] = (),
    ) -> None:
        """Answer `reply` with what the watches make of a write that has been done, at `revision`.

        by_key: the revisions of the keys, where each is ordered for itself.
        vain: keys that were deleted, but were not there: no frame brings them, and what others
            wrote does not concern this, so they wait for no revision at all.
        """
        total = Tally()
        total.listen(reply)

        # nobody here will hear of the other keys
        keys = [key for key in write.values if self._router.match(key)]
        if layer.revisions:
            found = [key for key in keys if key not in vain]
            written = revision or 0
            self._confirm_revision(layer, write, found, written, written, total)
            self._confirm_revision(
                layer, write, [key for key in keys if key in vain], 0, written, total
            )
        else:
            for key in keys:
                self._confirm_key(
                    layer, write, key, 0 if key in vain else by_key.get(key, 0), total
                )
        total.close()

    def _confirm_revision(
        self,
        layer: Layer,
        write: Write,
        keys: list[str],
        revision: int,
        written: int,
        total: Tally,
    ) -> None:
        """The frames that bring a revision: its commit,
        or else snapshots and bookmarks after it.

        written: the revision of the write, also where it waits for none.
        """
        if not keys:
            return

        seen = layer.confirmations.seen(revision)
        if seen is not None:
            # the commit does not show what was not followed then: a snapshot does, before or
            # after it
            tally, followed = seen
            total.expected += 1
            tally.listen(total.add)
            keys = [key for key in keys if key not in followed]

        left = []
        for key in keys:
            tally_shown = write.first_shown(key, lambda shown: shown.revision >= revision)
            if tally_shown is None:
                left.append(key)
            else:
                total.expected += 1
                tally_shown.listen(total.add)
        if not left:
            return

        total.expected += 1
        rest: Waiting | None = Waiting(left, total)
        if layer.ready and layer.revision >= revision:
            here, rest = Waiting(left, total).split(layer.complete.__contains__)
            if here is not None:
                self._join(here.keys, total.add, written)
        if rest is not None:
            layer.confirmations.wait_for(revision, rest)

    def _confirm_key(self, layer: Layer, write: Write, key: str, least: int, total: Tally) -> None:
        """The frame that brings a key at revision `least`, or after it."""
        raw = write.values[key]
        total.expected += 1
        seen = layer.confirmations.seen(key, least)
        shown = write.first_shown(key, lambda shown: _is_written(shown.record, raw, least))
        if shown is None and not layer.has_revisions:
            # written by somebody else since: nothing tells it from the write itself
            shown = write.last_shown(key)
        if seen is not None and key in seen[1]:
            seen[0].listen(total.add)
        elif shown is not None:
            shown.listen(total.add)
        elif key in layer.complete and _is_written(self._mirror.records.get(key), raw, least):
            self._join([key], total.add)
        else:
            layer.confirmations.wait_for(key, Waiting([key], total, least))

    def overtake(self, layer: Layer) -> None:
        """Answer those whose commit will not come by itself any more,
        for the layer is beyond it.
        """

        def arrived(least: int, key: str) -> bool:
            if key not in layer.complete:
                return False
            record = self._mirror.records.get(key)
            return layer.revisions or record is None or record.revision >= least

        revision = layer.revision if layer.revisions else None
        for waiting in layer.confirmations.overtaken(revision, arrived):
            self._join(waiting.keys, waiting.total.add)

    def remember(self, layer: Layer, scopes: Scopes) -> None:
        """G7: a write under way may be in this snapshot,
        and its verdict heard before the write has returned.
        """
        for write in layer.confirmations.writes.values():
            for key in write.values:
                if key in scopes and self._router.match(key):
                    tally = Tally()
                    self._join([key], tally.add)  # the one vote that it expects
                    shown = Shown(layer.revision, self._mirror.records.get(key), tally)
                    write.shown.setdefault(key, []).append(shown)

    def forget_unwatched(self) -> None:
        """Nobody watches some keys any more, and no session may bring them:
        answer those who wait for it.
        """

        def unwatched(_: int, key: str) -> bool:
            return not self._router.match(key)

        for layer in self._layers:
            if layer.confirmations.active:
                for waiting in layer.confirmations.overtaken(None, unwatched):
                    waiting.total.close()

    def _join(self, keys: Iterable[str], reply: Listener, written: int = 0) -> None:
        """Answer with the outcome of whatever the watches of these keys have not settled yet."""
        tally = Tally()
        tally.listen(reply)

        owed: dict[Subscriber, set[str]] = {}
        for key in keys:
            for sub in self._router.match(key):
                tally.note(Verdict.ACCEPTED)
                owed.setdefault(sub, set()).add(key)

        for sub, mine in owed.items():
            if sub.mailbox or sub.resync_reason is not None:
                tally.expected += 1
                sub.mailbox.add_pending_vote(
                    Vote(tally, mine, written), self._delivery.seq, *self._delivery.newest
                )
                if sub.is_overdue:
                    sub.mailbox.overdue()
            elif sub.outstanding is not None and not sub.outstanding.answered:
                tally.expected += 1
                batch = sub.outstanding.batch
                batch.votes = (*batch.votes, Vote(tally, mine))
            elif sub.outstanding is not None:
                tally.note(Verdict.OVERDUE)
            else:
                tally.note_keys(sub.said_of(mine))

        tally.close()


def _is_written(record: Record | None, raw: bytes | None, least: int) -> bool:
    """Whether a key has been written by now: these bytes (None: deleted) at revision `least`,
    or after it.
    """
    return raw is None if record is None else record.raw == raw and record.revision >= least
