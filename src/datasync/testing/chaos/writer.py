"""A process that writes to a store until it is ended: `python -m
datasync.testing.chaos.writer URL`."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys

from datasync.errors import DataSyncError
from datasync.sync import DataSync
from datasync.testing.simulation.schedule import KEYS

__all__ = ["main"]


async def write(url: str) -> None:
    """Write without an end, as fast as a busy program would."""
    rng = random.Random()
    async with DataSync(url) as sync:
        for number in itertools.count():
            txn = sync.txn()
            for key in rng.sample(KEYS, rng.choice([1, 1, 2, 4])):
                if rng.random() < 0.1:
                    txn.delete(key)
                else:
                    txn.put(key, b"p%d/%d" % (os.getpid(), number))
            try:
                await txn.commit()
            except DataSyncError:
                await asyncio.sleep(0.1)
            await asyncio.sleep(rng.choice([0.0, 0.02, 0.1]))


def main() -> None:
    """Run it; its parent process ends it with a signal."""
    asyncio.run(write(sys.argv[1]))


if __name__ == "__main__":
    main()
