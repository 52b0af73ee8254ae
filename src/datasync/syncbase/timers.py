"""When each watch is to be seen to."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from datasync.syncbase.subscriber import NO_TIMER, Subscriber

__all__ = ["Timers"]

_FEW = 64


class Timers:
    """Each watch has one time at most, which `Subscriber.timer` shows.

    Nothing here leads to a watch that is disarmed (G9).
    """

    __slots__ = ("_counter", "_whose", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int]] = []
        """The first part of its first entry, by the clock, is when `due` wants to be called."""
        # by the second part of the entries; one whose number is not in here was disarmed
        self._whose: dict[int, Subscriber] = {}
        self._counter = itertools.count()

    def arm(self, sub: Subscriber, when: float) -> None:
        """See to the watch at that time, not at the one that was set before."""
        self.disarm(sub)
        sub.timer = (when, next(self._counter))
        self._whose[sub.timer[1]] = sub
        heapq.heappush(self.heap, sub.timer)

    def disarm(self, sub: Subscriber) -> None:
        """Do not see to the watch."""
        if sub.timer is NO_TIMER:
            return
        del self._whose[sub.timer[1]]
        sub.timer = NO_TIMER

        # finding an entry means looking at all of them: it stays until most are stale
        if len(self.heap) > 2 * len(self._whose) + _FEW:
            self.heap[:] = [entry for entry in self.heap if entry[1] in self._whose]
            heapq.heapify(self.heap)

    def due(self, now: float) -> Iterator[Subscriber]:
        """Those whose time has come, in order, each disarmed; they may be armed again meanwhile."""
        while self.heap and self.heap[0][0] <= now:
            sub = self._whose.pop(heapq.heappop(self.heap)[1], None)
            if sub is not None:
                sub.timer = NO_TIMER
                yield sub
