"""What clients are sending: it is kept until all of it is there, so its sum is bounded."""

from __future__ import annotations

__all__ = ["Incoming"]


class Incoming:
    """Bytes that are kept for all clients together.

    most: how many that may be.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._size = 0

    def takes(self, size: int) -> bool:
        """Whether there is room for so many bytes more (G9); then they count."""
        if self._size + size > self.most:
            return False
        self._size += size
        return True

    def give_back(self, size: int) -> None:
        """So many of them are kept no more."""
        self._size -= size
