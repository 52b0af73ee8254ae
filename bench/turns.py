"""Several that do the same work, measured in turn."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

__all__ = ["Measure", "best_of"]

Measure = Callable[[], float]
"""Does the work once; returns the seconds that it took."""


def best_of(rounds: int, measures: Mapping[str, Measure]) -> dict[str, float]:
    """The shortest time of each, by name."""
    best = dict.fromkeys(measures, float("inf"))
    for _ in range(rounds):
        for name, measure in measures.items():
            gc.collect()
            best[name] = min(best[name], measure())
    return best
