"""The order of RESYNCs: a round goes through the watches one after another, in the order of registration."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["Rounds"]

W = TypeVar("W")


class Rounds(Generic[W]):
    """At most one round at a time; a newer one replaces it. Who waits for no turn may be resynced at any time."""

    __slots__ = ("_line", "_waiting", "current")

    def __init__(self) -> None:
        self.current: W | None = None
        """The watch whose turn it is; None while no round is under way."""
        self._line: deque[W] = deque()
        self._waiting: set[W] = set()

    def start(self, watches: Iterable[W]) -> W | None:
        """Begin a new round; returns the watch whose turn it is."""
        self._line = deque(watches)
        self._waiting = set(self._line)
        return self._next()

    def join(self, watch: W) -> None:
        """A watch registered while a round is under way comes last in it."""
        if self.current is not None:
            self._line.append(watch)
            self._waiting.add(watch)

    def allows(self, watch: W) -> bool:
        """Whether `watch` may be resynced now: it is its turn, or it waits for none."""
        return watch not in self._waiting

    def settled(self, watch: W) -> W | None:
        """`watch` has settled, is passed by or closed. Returns the watch whose turn it is now, if that has changed."""
        self._waiting.discard(watch)
        return self._next() if watch is self.current else None

    def leave(self, watch: W) -> W | None:
        """`watch` is closed, and forgotten. Returns what `settled` does."""
        if watch in self._waiting:
            self._line.remove(watch)
        return self.settled(watch)

    def _next(self) -> W | None:
        self.current = None
        while self._line and self.current is None:
            watch = self._line.popleft()
            if watch in self._waiting:
                self._waiting.remove(watch)
                self.current = watch
        return self.current
