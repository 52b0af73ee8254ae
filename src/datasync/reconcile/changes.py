"""Those who follow the states of the objects, each at a pace of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from datasync.reconcile.status import ObjectChange

__all__ = ["Changes"]


class Changes(AsyncIterator[ObjectChange]):
    """One `async for` over the changes; it ends with the reconciler, once it has shown them all.

    bound: changes that wait one by one. Those beyond are folded by object, until all have been
        read: an object that is as it was is then left out.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._waiting: deque[ObjectChange] = deque()
        self._folded: dict[str, ObjectChange] = {}
        self._ended = False
        self._news = asyncio.Event()

    def add(self, change: ObjectChange) -> None:
        """It has happened."""
        if not self._folded and len(self._waiting) < self._bound:
            self._waiting.append(change)
        else:
            before = self._folded.pop(change.key, change)
            if before.old is not change.new:
                self._folded[change.key] = ObjectChange(
                    change.key, before.old, change.new, change.reason
                )
        self._news.set()

    def end(self) -> None:
        """Nothing happens any more."""
        self._ended = True
        self._news.set()

    async def __anext__(self) -> ObjectChange:
        while True:
            if self._waiting:
                return self._waiting.popleft()
            if self._folded:
                return self._folded.pop(next(iter(self._folded)))
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
