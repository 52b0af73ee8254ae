"""The mailbox of a watch: what it has not been given yet, commit by commit,
or folded beyond its limit.

Two forms. *Commits*: each waits as it came, and its records chain, so that what a change replaced
is its `prev`. *Folded* (`folded` is a dict): only the record before the first change of each key is
kept; the new value is that of the mirror when the fold is taken. A fold thus always ends at the
newest position, and costs memory by key.
"""

from __future__ import annotations

import math
from collections import ChainMap, deque
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, cast

import msgspec

from datasync.events import Change, Decode, Record
from datasync.outcome import KeyOutcome, Tally, Verdict, Vote, Votes
from datasync.syncbase.mirror import Diff, differ

__all__ = ["Batch", "Group", "Mailbox"]


class Batch(msgspec.Struct, gc=False):
    """What becomes one ChangeEvent.

    Its outcome is that of `tally`, whole, and of `votes`, each in part.
    """

    diffs: Sequence[Diff]
    first_seq: float
    last_seq: int
    revision: int
    source: str
    tally: Tally | None = None
    votes: Sequence[Vote] = ()
    commits: int = 1

    def changes(self, decode: Decode[Any]) -> list[Change[Any]]:
        """What a handler is given; the batch stays as it is, whatever that does to it (G7)."""
        revision = self.revision
        # a value that a deleted override brings back has the revision of its own source
        return [
            Change(key, revision if new is None else new.revision, new, old, decode)
            for key, old, new in self.diffs
        ]

    def answer(
        self,
        verdict: Verdict,
        outcomes: Mapping[str, KeyOutcome],
        said: Sequence[Mapping[str, KeyOutcome]] = (),
    ) -> None:
        """Settle what it owes; only a tally that waits for a final outcome is still owed one then.

        outcomes: those of keys of the event.
        said: those of all keys that are refused, or open: a vote may be about keys that the event
            left out, since nothing differs.
        """
        tally = self.tally
        if tally is not None and (not tally.final or tally.counts(verdict, outcomes)):
            tally.vote(verdict, outcomes)
            self.tally = None
        if self.votes:
            if any(said):
                known = (outcomes, *said)
                outcomes = ChainMap(*cast("tuple[MutableMapping[str, KeyOutcome], ...]", known))
            self.votes = [vote for vote in self.votes if not vote.cast(verdict, outcomes)]

    def abandon(self) -> None:
        """Do not vote any more: the watch is closed."""
        if self.tally is not None:
            self.tally.close()
        for vote in self.votes:
            vote.tally.close()


class Group(msgspec.Struct, gc=False):
    """What one commit holds for one watch. `mixed`: some of it may turn out to change nothing."""

    seq: int
    revision: int
    source: str
    diffs: Sequence[Diff]
    tally: Tally | None = None
    mixed: bool = False

    @property
    def replaced(self) -> list[str]:
        """The keys that have another value from this commit on."""
        if not self.mixed:
            return [diff[0] for diff in self.diffs]
        # G7: the same once more replaces nothing, and leaves open what becomes of the write before
        return [key for key, old, new in self.diffs if differ(old, new)]


class Mailbox:
    """`dirty` maps keys whose last delivery was refused or failed to the record that the watch
    accepted last; `open` those that it accepted and has not applied to what it said of them last.
    """

    __slots__ = (
        "_answered_seq",
        "_commits",
        "_first_seq",
        "_last",
        "_size",
        "_votes",
        "dirty",
        "folded",
        "groups",
        "limit",
        "never_accepted",
        "open",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.groups: deque[Group] = deque()
        self.folded: dict[str, Record | None] | None = None
        self.dirty: dict[str, Record | None] = {}
        self.open: dict[str, KeyOutcome] = {}
        self.never_accepted = True
        """Nothing was ever accepted: the state before is empty, whatever the key."""
        self._size = 0
        # up to that commit, all that wait have been answered as far as it counts
        self._answered_seq = 0
        self._commits = 0
        self._votes = Votes()
        self._first_seq = math.inf  # the oldest commit in the fold that has no outcome yet
        # seq, revision, source of the newest commit in it
        self._last: tuple[int, int, str] = (0, 0, "")

    def __bool__(self) -> bool:
        return bool(self.groups) or self.folded is not None

    def __len__(self) -> int:
        """The number of changes that wait."""
        return self._size if self.folded is None else len(self.folded)

    def __contains__(self, key: str) -> bool:
        """Whether a change of this key waits."""
        if self.folded is not None and key in self.folded:
            return True
        return any(diff[0] == key for group in self.groups for diff in group.diffs)

    @property
    def first_seq(self) -> float:
        """The sequence number of the oldest commit in it that has had no outcome yet;
        infinite where there is none.
        """
        return self.groups[0].seq if self.groups else self._first_seq

    def add(self, group: Group) -> None:
        """Take in one commit; fold everything when that exceeds the limit."""
        self.groups.append(group)
        if self.folded is not None:
            self.fold()
            return
        self._size += len(group.diffs)
        if self._size > self.limit and len(self.groups) > 1:
            self.fold()

    def fold(self) -> None:
        """Turn the waiting commits into the folded form, or add them to it."""
        folded = self.folded
        if folded is None:
            folded = self.folded = {}
        if self.groups:
            self._first_seq = min(self._first_seq, self.groups[0].seq)
        for group in self.groups:
            if self._votes:
                self._votes.overwritten(group.replaced, group.revision)
            self._fold_in(group, folded)
        self.groups.clear()
        self._size = 0

    def catch_up(self, group: Group) -> None:
        """Take in, folded, what a snapshot shows to have changed.

        G7: these may be the very writes whose votes are owed here, so none of them counts as
        overwritten.
        """
        self.fold()
        assert self.folded is not None
        self._first_seq = min(self._first_seq, group.seq)
        self._fold_in(group, self.folded)

    def _fold_in(self, group: Group, folded: dict[str, Record | None]) -> None:
        if not self.never_accepted:
            for key, old, _ in group.diffs:
                folded.setdefault(key, old)
        if group.tally is not None:
            self._votes.add(Vote(group.tally, {diff[0] for diff in group.diffs}))
        self._commits += 1
        self._last = (group.seq, group.revision, group.source)

    def add_pending_vote(self, vote: Vote, seq: int, revision: int, source: str) -> None:
        """Let the outcome of the next event be the answer to `vote` as well."""
        self.fold()
        self._votes.add(vote)
        self._last = (seq, revision, source)

    def requeue(self, batch: Batch, *, dirty: bool) -> None:
        """Fold an event that was not accepted (`dirty`), or never delivered,
        with all that came after it.
        """
        self.fold()
        folded = self.folded
        assert folded is not None
        for key, old, _ in batch.diffs:
            if dirty:
                self.dirty.setdefault(key, old)
            folded[key] = old
        if not dirty:
            self._first_seq = min(self._first_seq, batch.first_seq)
        if self._last[0] < batch.last_seq:
            self._last = (batch.last_seq, batch.revision, batch.source)
        self._commits += batch.commits
        votes = [*batch.votes]
        if batch.tally is not None:
            votes.append(Vote(batch.tally, {diff[0] for diff in batch.diffs}))
        for vote in [*votes, *self._votes.take()]:
            self._votes.add(vote)

    def take(self, records: Mapping[str, Record]) -> Batch:
        """The next commit, or the whole fold; empty where nothing differs after all."""
        if self.folded is None:
            return self._take_commit()
        diffs: list[Diff] = []
        dirty = self.dirty
        for key, before in self.folded.items():
            new, old = records.get(key), before
            if key in dirty:
                old = dirty[key]
            elif not differ(old, new):
                continue
            diffs.append((key, old, new))
        return self._close_fold(diffs)

    def take_for_resync(self) -> tuple[dict[str, Record | None], Batch]:
        """What a RESYNC makes up for: the record before, by key, of all that changed since,
        and a batch of nothing.
        """
        self.fold()
        assert self.folded is not None
        return self.folded, self._close_fold(())

    def _close_fold(self, diffs: Sequence[Diff]) -> Batch:
        votes, commits = self._votes.take(), self._commits
        batch = Batch(diffs, self._first_seq, *self._last, votes=votes, commits=commits)
        self.folded, self._commits, self._first_seq = None, 0, math.inf
        return batch

    def before(self, key: str, now: Record | None) -> Record | None:
        """The record of a key before all that waits here; `now` is its newest one."""
        if self.folded is not None:
            return self.folded.get(key, now)
        written = (old for group in self.groups for at, old, _ in group.diffs if at == key)
        return next(written, now)

    def overdue(self) -> None:
        """The watch is overdue: settle all votes owed by what waits here, which itself stays."""
        for group in reversed(self.groups):
            if group.seq <= self._answered_seq:
                break
            if group.tally is not None and Vote(group.tally).cast(Verdict.OVERDUE):
                group.tally = None
        if self.groups:
            self._answered_seq = max(self._answered_seq, self.groups[-1].seq)
        self._votes.overdue()

    def clear(self) -> None:
        """Forget everything: the watch is closed, and does not vote any more."""
        for tally in [
            *(group.tally for group in self.groups),
            *(vote.tally for vote in self._votes.take()),
        ]:
            if tally is not None:
                tally.close()
        self.groups.clear()
        self.dirty.clear()
        self.open.clear()
        self.folded, self._first_seq = None, math.inf

    def _take_commit(self) -> Batch:
        group, dirty = self.groups.popleft(), self.dirty
        self._size -= len(group.diffs)
        self._last = (group.seq, group.revision, group.source)
        if dirty or group.mixed:
            written = group.diffs
            group.diffs = [
                (key, dirty.get(key, old), new)
                for key, old, new in written
                if key in dirty or differ(old, new)
            ]
            if group.tally is not None and self.open and len(group.diffs) < len(written):
                # G7: what changes nothing of an open key is answered with what was last said of it
                left = {diff[0] for diff in written}.difference(diff[0] for diff in group.diffs)
                open_keys = sorted(left & self.open.keys())
                group.tally.note_keys({key: self.open[key] for key in open_keys})
        return Batch(group.diffs, group.seq, *self._last, group.tally)
