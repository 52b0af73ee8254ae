"""What is to be written: one transaction each that somebody waits for, and the answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from datasync.errors import OutcomeUnknown, WatchClosed
from datasync.kvdbsync.sqlite.store import DeleteRaw
from datasync.source import Committed, Operation

__all__ = ["Job", "answer", "settle"]


class Job:
    """One transaction that somebody waits for. Its `future` is done after the
    COMMIT, or once it was withdrawn.

    `size` are the bytes that it writes; infinity where nobody can tell how much it changes.
    """

    __slots__ = ("_begun", "_lock", "_withdrawn", "future", "loop", "operations", "size")

    def __init__(
        self,
        operations: Sequence[Operation | DeleteRaw],
        size: float,
        loop: asyncio.AbstractEventLoop,
        lock: threading.Lock,
    ) -> None:
        self.operations = operations
        self.size = size
        self.loop = loop
        self.future: asyncio.Future[Committed] = loop.create_future()
        self._lock = lock
        self._begun = self._withdrawn = False

    def begin(self) -> bool:
        """Where it is written: False if nobody wants it any more; else it can
        only be withdrawn as begun."""
        with self._lock:
            self._begun = not (self._withdrawn or self.future.cancelled())
            return self._begun

    @property
    def wanted(self) -> bool:
        """Whether it is still to be done."""
        return not (self._withdrawn or self.future.cancelled())

    def undone(self) -> None:
        """Where it is written: it was rolled back."""
        with self._lock:
            self._begun = False

    def withdraw(self, what: str) -> bool:
        """In its loop: whether it is being carried out. Otherwise it never will be,
        and who waits hears so now."""
        with self._lock:
            self._withdrawn = True
            begun = self._begun
        if not begun and not self.future.done():
            self.future.set_exception(
                WatchClosed(f"{what} was closed, nothing was written; open it again")
            )
        return begun

    def give_up(self, what: str) -> None:
        """In its loop: have nobody wait for it any longer."""
        if not self.future.done():
            self.future.set_exception(
                OutcomeUnknown(
                    f"{what} was closed while it wrote; read it again to see whether the write "
                    "is there"
                )
            )

    def settle(self, outcome: Committed | Exception) -> None:
        """In its loop: give who waits the result or the error."""
        if self.future.done():
            return  # its caller was cancelled
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


def answer(outcomes: Sequence[tuple[Job, Committed | Exception]]) -> None:
    """Tell those who wait, each in its loop, from another thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Any]]] = {}
    for job, outcome in outcomes:
        by_loop.setdefault(job.loop, []).append((job, outcome))
    for loop, pairs in by_loop.items():
        try:
            loop.call_soon_threadsafe(settle, pairs)
        except RuntimeError:  # nobody waits any more: the loop was closed
            continue


def settle(outcomes: Sequence[tuple[Job, Committed | Exception]]) -> None:
    """In their loop: tell those who wait."""
    for job, outcome in outcomes:
        job.settle(outcome)
