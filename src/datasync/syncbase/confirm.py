"""Confirmations: a writer of this process waits for the watches of this process, over a source without replies.

A write and the commit that comes back through the session find each other by a *mark*: the revision, or each key
where the source has no revisions, or has them by key; then the commit is the one at the revision of the write, or one
behind it. The commit may come back before the write has returned, so commits are remembered while any write is under
way.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Sequence

from datasync.syncbase.verdicts import Listener, Tally

__all__ = ["Confirmations"]


class Confirmations:
    """What the writers over one layer wait for."""

    __slots__ = ("_awaited", "_clock", "_revisions", "_seen", "_writers", "active")

    def __init__(self) -> None:
        self.active = False
        """Some writer cares about the next commit."""
        self._clock = 0  # counts the writes begun and the commits seen
        self._writers: dict[int, None] = {}  # by when they began, oldest first
        self._seen: dict[Hashable, tuple[int, Tally, int]] = {}  # with when, oldest first, and the revision
        self._awaited: dict[Hashable, list[tuple[Sequence[str], Listener, int]]] = {}
        self._revisions: list[int] = []  # a heap of the marks in _awaited, answered ones included

    def begin(self) -> int:
        """A write starts. Returns what to `end` it with."""
        self._clock += 1
        self._writers[self._clock] = None
        self.active = True
        return self._clock

    def end(self, began: int) -> None:
        """A write has returned, or failed. What only it cared about is forgotten."""
        del self._writers[began]
        oldest = next(iter(self._writers), math.inf)
        while self._seen:
            mark, (when, *_) = next(iter(self._seen.items()))
            if when > oldest:
                break
            del self._seen[mark]
        self._update()

    def committed(self, marks: Sequence[Hashable], tally: Tally, revision: int = 0) -> None:
        """A commit with these marks goes to the watches; `tally` will have its outcome."""
        if self._writers:
            self._clock += 1
            for mark in marks:
                self._seen.pop(mark, None)
                self._seen[mark] = (self._clock, tally, revision)
        if self._awaited:
            for mark in marks:
                later = []
                for waiting in self._awaited.pop(mark, ()):
                    if waiting[2] <= revision:
                        tally.listen(waiting[1])
                    else:
                        later.append(waiting)
                if later:
                    self._awaited[mark] = later
            self._update()

    def seen(self, mark: Hashable, least: int = 0) -> Tally | None:
        """The tally of the commit with that mark, if it came since the write began and is at revision `least`."""
        found = self._seen.get(mark)
        return None if found is None or found[2] < least else found[1]

    def wait_for(self, mark: Hashable, keys: Sequence[str], listener: Listener, least: int = 0) -> None:
        """Call `listener` with the outcome of the commit of `keys` with that mark, at revision `least` or behind it,
        which has not come yet."""
        if isinstance(mark, int) and mark not in self._awaited:
            heapq.heappush(self._revisions, mark)
        self._awaited.setdefault(mark, []).append((keys, listener, least))
        self.active = True

    def overtaken(self, revision: int | None) -> list[tuple[Sequence[str], Listener]]:
        """A snapshot at `revision` (None: without revisions) holds what these wait for: written keys and listener."""
        marks: list[Hashable] = []
        if revision is None:
            marks.extend(self._awaited)
        else:
            while self._revisions and self._revisions[0] <= revision:
                marks.append(heapq.heappop(self._revisions))
        overtaken = [waiting[:2] for mark in marks for waiting in self._awaited.pop(mark, ())]
        self._update()
        return overtaken

    def _update(self) -> None:
        self.active = bool(self._writers or self._awaited)
