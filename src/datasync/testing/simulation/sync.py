"""A DataSync in a simulation: the clock on the wall and its random numbers
are not those of the machine."""

from __future__ import annotations

import asyncio
import functools
import random
from typing import Any

import msgspec

from datasync.layers import Layer
from datasync.source import Source
from datasync.sync import DataSync
from datasync.syncbase.engine import Engine

__all__ = ["SimulatedSync"]


class SimulatedSync(DataSync):
    """Made in a running simulated loop, whose time it takes for Unix time.

    ahead: seconds that its clock on the wall is ahead of that.
    """

    def __init__(
        self,
        *sources: str | Source | Layer,
        rng: random.Random,
        ahead: float = 0.0,
        **options: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._rng, self._ahead = rng, ahead
        self._make_engine = functools.partial(Engine, rng=rng, wall=lambda: loop.time() + ahead)
        super().__init__(*sources, **options)

    def _another(self, layer: Layer) -> DataSync:
        options = msgspec.structs.asdict(self._options)
        return SimulatedSync(layer, rng=self._rng, ahead=self._ahead, **options)
