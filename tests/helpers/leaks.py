"""Whether what opens and closes leaves something behind: a descriptor, task, thread, connection,
or an object.

Objects are counted by their type, without a garbage collection: what would wait for one counts as
left behind. What the libraries of the network leave in cycles of their own is collected first.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from datasync import DataSync, Unauthorized
from datasync.testing.contract import eventually
from datasync.testing.contract.waiting import without_collector

__all__ = ["Once", "leaves_nothing", "refused", "undisturbed"]

Once = Callable[[int], Awaitable[object]]
"""Opens and closes one of them; the number is another one each time."""


async def leaves_nothing(once: Once, rounds: int, *, collected: bool, what: str) -> None:
    """So many rounds leave nothing. collected: what is in cycles does not count.

    To be run `undisturbed`.

    What is left but once is a cache that something has filled meanwhile; a leak grows each time.
    """
    numbers = itertools.count()
    for number in itertools.islice(numbers, min(rounds, 2500)):
        await once(number)  # caches are full by then, and logs

    async def leave_nothing() -> None:
        await _settled()
        before = _Held(collected=collected)
        for number in itertools.islice(numbers, rounds):
            await once(number)
        await _settled()

        def nothing_left() -> bool:
            left = _Held(collected=collected).more_than(before, rounds)
            assert not left, f"left behind: {left}"
            return True

        await eventually(nothing_left, 20, what=what)

    for last in (False, False, True):
        try:
            await leave_nothing()
        except AssertionError:
            if last:
                raise
        else:
            break


def refused(urls: Sequence[str]) -> Once:
    """Starts a DataSync at one of the URLs after the other, none of which is let in."""

    async def handler(_: Any) -> None:
        """Hears nothing."""

    async def once(number: int) -> None:
        sync = DataSync(urls[number % len(urls)])
        sync.watcher("a/")(handler)
        with pytest.raises(Unauthorized):
            await sync.start()
        await sync.aclose()

    return once


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Neither a garbage collection hides what is left, nor does pytest keep all that is logged."""
    logging.disable()
    try:
        with without_collector():
            yield
    finally:
        logging.disable(logging.NOTSET)


class _Held:
    """What this process has just now."""

    def __init__(self, *, collected: bool) -> None:
        if collected:
            gc.collect()
        self.objects = Counter(
            f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects()
        )
        self.counts = {
            "descriptors": len(os.listdir("/proc/self/fd")),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
        }

    def more_than(self, before: _Held, rounds: int) -> dict[str, int]:
        """What has grown: by more than a few, of which the libraries keep some."""
        grown = {name: count - before.counts[name] for name, count in self.counts.items()}
        objects = {name: count - before.objects[name] for name, count in self.objects.items()}
        return {name: more for name, more in grown.items() if more > 3} | {
            name: more for name, more in objects.items() if more > max(40, rounds // 20)
        }


async def _settled() -> None:
    """What was begun has its end."""
    for _ in range(20):
        await asyncio.sleep(0)
