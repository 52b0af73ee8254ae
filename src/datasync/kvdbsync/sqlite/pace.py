"""Where the next group of transactions is written: by the thread, or within the event loop, which
spares two changes of threads.

Within the loop only while commits have lately been quick there, since the loop stands still
meanwhile: a disk that becomes slow holds it up once, for one commit, and then not again for a
second. What may take long by its nature stays with the thread: large groups, checkpoints,
the pruning of the log, and the wait for another process. Only the sync with which the WAL begins
from its start, after a checkpoint, may come within the loop. What is acknowledged has been
committed in the same way in either place (G10).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

from datasync.kvdbsync.sqlite.jobs import Job

__all__ = ["Pace", "Place"]

_QUICK = 0.004
"""Seconds that a commit may take to be a quick one: as long as the loop may stand still."""
_PROOF = 8
"""How many quick ones in a row the thread makes before the loop makes them."""
_DOUBT = 3
"""How many slow ones in a row, within the loop, make the thread take over again."""
_SLOW = 0.04
"""Seconds after which a single commit does so, ..."""
_PAUSE = 1.0
"""... and then for so many seconds at least."""
_TURN = 0.002
"""Seconds of commits after which a caller who makes one after the other lets the loop turn."""
_OPERATIONS, _BYTES = 256, 64 << 10
"""What a group within the loop has at most."""
_ROUND_GROUPS, _ROUND_OPERATIONS = 512, 4_096
"""What is written within the loop until the thread is to tidy up: to checkpoint, and to prune."""


class Place(enum.Enum):
    """Where groups are written at present."""

    THREAD = "thread"
    LOOP = "loop"


class Pace:
    """Where the groups of one connection are written, by what the latest ones took. What tells it
    of them is called by who holds the connection."""

    def __init__(self) -> None:
        self.place = Place.THREAD
        self._row = 0
        """Commits in a row that speak for the other place."""
        self._not_before = -math.inf
        self._groups = self._operations = 0
        self._turn = 0.0
        self._alone = True

    def fits(self, jobs: Sequence[Job]) -> bool:
        """Whether this group is to be written within the loop."""
        if self.place is not Place.LOOP:
            return False
        operations = 0
        size = 0.0
        for job in jobs:
            operations += len(job.operations)
            size += job.size
        return operations <= _OPERATIONS and size <= _BYTES

    def fits_now(self, job: Job) -> bool:
        """Whether this one is, and without waiting for others of the same turn of the loop."""
        return self._alone and self._turn < _TURN and self.fits([job])

    def turned(self, group: int) -> None:
        """At the end of a turn of the loop, in which as many have come together."""
        self._alone = group == 1
        self._turn = 0.0

    def took_within_loop(self, jobs: Sequence[Job], seconds: float, now: float) -> None:
        """A group was written within the loop, which stood still for that long."""
        self._turn += seconds
        self._groups += 1
        for job in jobs:
            self._operations += len(job.operations)
        self._row = self._row + 1 if seconds > _QUICK else 0
        if seconds > _SLOW:
            self._not_before = now + _PAUSE

        if seconds > _SLOW or self._row >= _DOUBT:
            self.place, self._row = Place.THREAD, 0

    def ends_round(self) -> bool:
        """Whether the thread is to tidy up; then the next round begins."""
        if self._groups < _ROUND_GROUPS and self._operations < _ROUND_OPERATIONS:
            return False
        self._groups = self._operations = 0
        return True

    def took_in_thread(self, seconds: float, now: float) -> None:
        """The thread has written a group."""
        if self.place is Place.THREAD:
            self._row = self._row + 1 if seconds <= _QUICK else 0
            if self._row >= _PROOF and now >= self._not_before:
                self.place, self._row = Place.LOOP, 0

    def failed(self) -> None:
        """A group could not be written within the loop, because of a lock of
        another process or an error."""
        self.place, self._row = Place.THREAD, 0
