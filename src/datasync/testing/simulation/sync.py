"""A DataSync in a simulation: the clock on the wall and its random numbers
are not those of the machine."""

from __future__ import annotations

import asyncio
import functools
import random
from typing import Any

from datasync.layers import Layer
from datasync.source import Source
from datasync.sync import DataSync
from datasync.syncbase.engine import Engine

__all__ = ["SimulatedSync"]


class SimulatedSync(DataSync):
    """Made in a running simulated loop, whose time it takes for Unix time."""

    def __init__(self, *sources: str | Source | Layer, rng: random.Random, **options: Any) -> None:
        self._make_engine = functools.partial(Engine, rng=rng, wall=asyncio.get_running_loop().time)
        super().__init__(*sources, **options)
