"""Answers that clients are slow to take: in parts, each with a deadline, and bounded in sum."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from datasync.serving.unsent import Unsent

__all__ = ["PART", "Answers", "parts"]

Write = Callable[[bytes, bool], Awaitable[None]]

PART = 64 << 10
"""Bytes that are handed to the server at a time: it keeps what it was given until it is taken."""


def parts(data: bytes) -> Iterator[bytes]:
    """Data as a server is to be given it."""
    return (data[at : at + PART] for at in range(0, len(data), PART))


class Answers:
    """The large answers under way.

    most: bytes that they may hold together; beyond, the first of them is let go.
    stalled: seconds within which a client has to take a part.
    """

    def __init__(self, most: int, stalled: float) -> None:
        self._stalled = stalled
        self._unsent: Unsent[asyncio.Timeout] = Unsent(most)

    async def send(self, head: Awaitable[None], write: Write, body: bytes) -> None:
        """Send the head of an answer, then its body, part by part, with whether more follows.

        Raises `TimeoutError` where the answer is let go.
        """
        left = len(body)
        async with asyncio.timeout(None) as patience:
            self._unsent.make_room(left, self._let_go)
            self._unsent.begin(patience, left)
            self._wait(patience)
            try:
                await head  # it may wait already, behind the answer before it
                for part in parts(body):
                    if self._unsent.taken(patience):
                        # else it is let go, at the next turn of the loop
                        self._wait(patience)
                    left -= len(part)
                    await write(part, left > 0)
            finally:
                self._unsent.end(patience)

    def _let_go(self, slowest: asyncio.Timeout) -> bool:
        if not slowest.expired():  # else its own time has just run out
            slowest.reschedule(asyncio.get_running_loop().time())
        return self._unsent.end(slowest)

    def _wait(self, patience: asyncio.Timeout) -> None:
        patience.reschedule(asyncio.get_running_loop().time() + self._stalled)
