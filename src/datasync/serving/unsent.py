"""What a server keeps until its clients take it: bounded in sum, and first to go is
what has waited for longest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Unsent"]

K = TypeVar("K", bound=Hashable)


class Unsent(Generic[K]):
    """The sizes of what waits for clients, in the order in which they last took anything.

    most: bytes that may wait together; one thing alone may be larger.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._waiting: OrderedDict[K, int] = OrderedDict()

    def make_room(self, size: int, let_go: Callable[[K], bool]) -> bool:
        """G9: whether `size` more bytes may wait.

        let_go: ends what has waited for longest, or says that it may stay.
        """
        while self._waiting and self._size + size > self._most:
            if not let_go(next(iter(self._waiting))):
                return False
        return True

    def begin(self, one: K, size: int) -> None:
        """It waits from now on."""
        self._waiting[one] = size
        self._size += size

    def taken(self, one: K) -> bool:
        """Its client has taken a part of it. Returns whether it still waits."""
        if one not in self._waiting:
            return False
        self._waiting.move_to_end(one)
        return True

    def end(self, one: K) -> bool:
        """It does not wait any more. Returns whether it did."""
        size = self._waiting.pop(one, None)
        self._size -= size or 0
        return size is not None
