"""The wall clock as this process sees it: it can be set, without rights,
while a key with a TTL is there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections.abc import Iterator

from datasync.errors import DataSyncError
from datasync.sync import DataSync
from datasync.testing.chaos.store import Fault

__all__ = ["clock_faults", "stepped"]

_STEPS = (-86_400.0, -3_600.0, -2.0, 2.0, 3_600.0, 86_400.0)
_TTL = 2.0
_LATE = 30.0
"""Seconds behind its end within which a key is gone, also on a busy machine."""
_numbers = itertools.count()
_log = logging.getLogger("datasync.testing.chaos")  # of which a round tells all errors


@contextlib.contextmanager
def stepped(seconds: float) -> Iterator[None]:
    """Within the block the wall clock of this process is off by so much;
    what runs on counts as before."""
    real = time.time
    time.time = lambda: real() + seconds
    try:
        yield
    finally:
        time.time = real


def clock_faults(direct: str, lane: str) -> dict[str, Fault]:
    """A clock that is set, and set right again, makes no key of `direct` end early or late."""

    async def step(rng: random.Random, seconds: float) -> None:
        loop, key = asyncio.get_running_loop(), f"clock/{next(_numbers)}"
        async with DataSync(direct) as sync:
            began = loop.time()
            try:
                await sync.put(key, b"1", ttl=_TTL)
            except DataSyncError:
                # other writers hold it up; that it is honest is looked at elsewhere
                return
            written = loop.time()

            with stepped(rng.choice(_STEPS)):
                there = True
                while there and loop.time() - written < _TTL + _LATE:
                    await asyncio.sleep(0.05)
                    there = await sync.get(key) is not None
                taken = loop.time() - began
                await asyncio.sleep(max(0.0, seconds - taken))

        if there:
            _log.error(
                "%r with a TTL of %g s is there after %.1f s, the clock having been set",
                key,
                _TTL,
                taken,
            )
        elif taken < _TTL:
            _log.error(
                "%r with a TTL of %g s is gone after %.1f s, the clock having been set",
                key,
                _TTL,
                taken,
            )

    return {"clock step": Fault(lane, 2, step)}
