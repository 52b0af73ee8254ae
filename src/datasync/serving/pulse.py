"""How many changes a second went by in the last minutes; counted as they come, without a timer."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pulse"]

_STEP = 2.0
_STEPS = 300


class Pulse:
    """Counts changes in steps of two seconds, and forgets those older than ten minutes."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._counts = [0] * _STEPS
        self._newest = int(wall() / _STEP)

    def add(self, changes: int) -> None:
        """That many changes just went by."""
        self._advance()
        self._counts[self._newest % _STEPS] += changes

    def rates(self) -> tuple[float, float, list[float]]:
        """The seconds of a step, when the last complete one ended (Unix time), and
        changes a second in each of them."""
        self._advance()
        oldest = self._newest - _STEPS + 1
        counts = [self._counts[step % _STEPS] for step in range(oldest, self._newest)]
        return _STEP, self._newest * _STEP, [count / _STEP for count in counts]

    def _advance(self) -> None:
        now = int(self._wall() / _STEP)
        for step in range(max(self._newest, now - _STEPS) + 1, now + 1):
            self._counts[step % _STEPS] = 0
        self._newest = max(self._newest, now)
