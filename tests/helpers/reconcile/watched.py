"""How much is done between two turns of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Watched"]


class Watched:
    """The most that was counted between two turns of the loop, within the block."""

    def __init__(self, *counts: Callable[[], int]) -> None:
        self._counts = counts
        self.turns = 0
        self.most = [0] * len(counts)

    async def __aenter__(self) -> Watched:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        before = [count() for count in self._counts]
        while True:
            await asyncio.sleep(0)
            self.turns += 1
            now = [count() for count in self._counts]
            self.most = [
                max(most, one - other)
                for most, one, other in zip(self.most, now, before, strict=True)
            ]
            before = now
