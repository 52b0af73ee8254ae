"""Confirmations: a writer of this process waits for the watches of this process,
over a source without replies.

A write and the frame that brings it back through the session find each other by a *mark*: the
revision, or each key where the source has no revisions, or has them by key; then the frame is one
at the revision of the write, or one after it. The frame may come back before the write has
returned, so commits are remembered while any write is under way, and what a snapshot shows of the
keys that are being written.

What lies outside the scopes that the session follows comes with the snapshot of those scopes, never
with the commit. So a write waits on for its keys there.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import msgspec

from datasync.events import Record
from datasync.outcome import Tally
from datasync.scopes import Scopes

__all__ = ["Confirmations", "Shown", "Waiting", "Write"]


class Shown(msgspec.Struct, frozen=True):
    """What a snapshot at `revision` showed of a key; the watches settle it with `tally`."""

    revision: int
    record: Record | None
    tally: Tally


class Write(msgspec.Struct, eq=False):
    """A write that is under way: the new bytes by key,
    and what snapshots have shown of these keys since it began.
    """

    began: int
    values: Mapping[str, bytes | None]
    shown: dict[str, list[Shown]] = msgspec.field(default_factory=dict)

    def first_shown(self, key: str, contains: Callable[[Shown], bool]) -> Tally | None:
        """The tally of the first snapshot that holds the write of `key`."""
        return next((shown.tally for shown in self.shown.get(key, ()) if contains(shown)), None)

    def last_shown(self, key: str) -> Tally | None:
        """The tally of the last snapshot that shows `key`."""
        found = self.shown.get(key)
        return found[-1].tally if found else None


class Waiting(msgspec.Struct):
    """A part of a write that no frame has brought yet: its keys,
    and one vote of `total` for their outcome.
    """

    keys: Sequence[str]
    total: Tally
    least: int = 0

    def split(self, has_arrived: Callable[[str], bool]) -> tuple[Waiting | None, Waiting | None]:
        """The part that has arrived, and the one that has not, each with a vote of its own."""
        here = list(filter(has_arrived, self.keys))
        if not here or len(here) == len(self.keys):
            return (self, None) if here else (None, self)

        self.total.expected += 1
        rest = list(itertools.filterfalse(has_arrived, self.keys))
        return Waiting(here, self.total, self.least), Waiting(rest, self.total, self.least)


class Confirmations:
    """What the writers over one layer wait for."""

    __slots__ = ("_awaited", "_clock", "_revisions", "_seen", "active", "writes")

    def __init__(self) -> None:
        self.active = False
        """Some writer cares about the next commit."""
        self.writes: dict[int, Write] = {}
        """Those under way, by when they began, oldest first."""
        self._clock = 0  # counts the writes begun and the commits seen
        # with when, oldest first, the revision, and what the session followed then
        self._seen: dict[Hashable, tuple[int, Tally, int, Scopes]] = {}
        self._awaited: dict[Hashable, list[Waiting]] = {}
        self._revisions: list[int] = []  # a heap of the marks in _awaited, answered ones included

    def begin(self, values: Mapping[str, bytes | None]) -> Write:
        """A write of these keys starts. Returns what to `end` it with."""
        self._clock += 1
        write = self.writes[self._clock] = Write(self._clock, values)
        self.active = True
        return write

    def end(self, write: Write) -> None:
        """A write has returned, or failed. What only it cared about is forgotten."""
        del self.writes[write.began]
        oldest = next(iter(self.writes), math.inf)
        while self._seen:
            mark, (when, *_) = next(iter(self._seen.items()))
            if when > oldest:
                break
            del self._seen[mark]
        self._update()

    def committed(
        self, marks: Sequence[Hashable], tally: Tally, followed: Scopes, revision: int = 0
    ) -> None:
        """A commit with these marks goes to the watches; `tally` will have its outcome.

        followed: the scopes whose keys it would show. revision: where the marks are keys, that of
            the commit.
        """
        if self.writes:
            self._clock += 1
            for mark in marks:
                self._seen.pop(mark, None)
                self._seen[mark] = (self._clock, tally, revision, followed)
        if not self._awaited:
            return

        for mark in marks:
            for waiting in self._awaited.pop(mark, ()):
                if waiting.least > revision:
                    self._awaited.setdefault(mark, []).append(waiting)
                    continue
                here, rest = waiting.split(followed.__contains__)
                if here is not None:
                    tally.listen(here.total.add)
                if rest is not None:
                    self._awaited.setdefault(mark, []).append(rest)
        self._update()

    def seen(self, mark: Hashable, least: int = 0) -> tuple[Tally, Scopes] | None:
        """The tally of the commit with that mark, if it came since the write began and is at
        revision `least`, and what the session followed then.
        """
        found = self._seen.get(mark)
        return None if found is None or found[2] < least else (found[1], found[3])

    def wait_for(self, mark: Hashable, waiting: Waiting) -> None:
        """Answer `waiting` with the outcome of the commit with that mark,
        which has not come yet.
        """
        if isinstance(mark, int) and mark not in self._awaited:
            heapq.heappush(self._revisions, mark)
        self._awaited.setdefault(mark, []).append(waiting)
        self.active = True

    def overtaken(self, revision: int | None, arrived: Callable[[int, str], bool]) -> list[Waiting]:
        """What has come with another frame than its commit, at `revision` (None:
        without revisions).

        arrived: whether that holds the key, written at this revision or after it.
        """
        reached: dict[int, None] = {}
        if revision is not None:
            while self._revisions and self._revisions[0] <= revision:
                reached[heapq.heappop(self._revisions)] = None
        marks: Sequence[Hashable] = list(self._awaited if revision is None else reached)

        overtaken: list[Waiting] = []
        for mark in marks:
            for waiting in self._awaited.pop(mark, ()):
                here, rest = waiting.split(functools.partial(arrived, waiting.least))
                if here is not None:
                    overtaken.append(here)
                if rest is not None:
                    self._awaited.setdefault(mark, []).append(rest)
        for number in reached.keys() & self._awaited.keys():
            heapq.heappush(self._revisions, number)
        self._update()
        return overtaken

    def _update(self) -> None:
        self.active = bool(self.writes or self._awaited)
