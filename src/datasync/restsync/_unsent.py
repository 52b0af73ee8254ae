"""Answers that clients are slow to take: in parts, each with a deadline, and bounded in sum."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator

__all__ = ["PART", "Unsent", "parts"]

Write = Callable[[bytes, bool], Awaitable[None]]

PART = 64 << 10
"""Bytes that are handed to the server at a time: it keeps what it was given until it is taken."""


def parts(data: bytes) -> Iterator[bytes]:
    """Data as a server is to be given it."""
    return (data[at : at + PART] for at in range(0, len(data), PART))


class Unsent:
    """Knows the large answers under way; those first whose clients have taken nothing for longest.

    most: bytes that they may hold together; beyond, the first of them is let go. stalled: seconds
    within which a client has to take a part.
    """

    def __init__(self, most: int, stalled: float) -> None:
        self._most = most
        self._stalled = stalled
        self._size = 0
        self._answers: OrderedDict[asyncio.Timeout, int] = OrderedDict()

    async def send(self, head: Awaitable[None], write: Write, body: bytes) -> None:
        """Send the head of an answer, then its body, part by part, with whether more follows.

        Raises `TimeoutError` where the answer is let go.
        """
        left = len(body)
        async with asyncio.timeout(None) as patience:
            self._begin(patience, left)
            try:
                await head  # it may wait already, behind the answer before it
                for part in parts(body):
                    self._taken(patience)
                    left -= len(part)
                    await write(part, left > 0)
            finally:
                self._end(patience)

    def _begin(self, patience: asyncio.Timeout, size: int) -> None:
        now = asyncio.get_running_loop().time()
        while self._answers and self._size + size > self._most:
            slowest = next(iter(self._answers))
            if not slowest.expired():  # else its own time has just run out
                slowest.reschedule(now)
            self._end(slowest)
        self._answers[patience] = size
        self._size += size
        patience.reschedule(now + self._stalled)

    def _taken(self, patience: asyncio.Timeout) -> None:
        if patience in self._answers:  # else it is let go, at the next turn of the loop
            self._answers.move_to_end(patience)
            patience.reschedule(asyncio.get_running_loop().time() + self._stalled)

    def _end(self, patience: asyncio.Timeout) -> None:
        self._size -= self._answers.pop(patience, 0)
