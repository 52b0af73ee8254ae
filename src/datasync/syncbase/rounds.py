"""The order of RESYNCs: a round goes through the watches one after another,
in the order of registration.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["Rounds"]

W = TypeVar("W")


class Rounds(Generic[W]):
    """At most one round at a time; a newer one replaces it.

    A watch that waits for no turn may be resynced at any time.
    """

    __slots__ = ("_line", "current")

    def __init__(self) -> None:
        self.current: W | None = None
        """The watch whose turn it is; None while no round is under way."""
        # the watches that wait for a turn, in order; one that settles early leaves from the middle
        self._line: OrderedDict[W, None] = OrderedDict()

    def start(self, watches: Iterable[W]) -> W | None:
        """Begin a new round; returns the watch whose turn it is."""
        self._line = OrderedDict.fromkeys(watches)
        return self._next()

    def join(self, watch: W) -> None:
        """A watch registered while a round is under way comes last in it."""
        if self.current is not None:
            self._line[watch] = None

    def allows(self, watch: W) -> bool:
        """Whether `watch` may be resynced now: it is its turn, or it waits for none."""
        return watch not in self._line

    def settled(self, watch: W) -> W | None:
        """`watch` has settled, is passed by or closed.

        Returns the watch whose turn it is now, if that has changed.
        """
        self._line.pop(watch, None)
        return self._next() if watch is self.current else None

    def _next(self) -> W | None:
        self.current = self._line.popitem(last=False)[0] if self._line else None
        return self.current
