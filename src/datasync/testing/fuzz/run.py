"""The loop of a fuzzer: case after case, and now and then a look whether the door still works."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import resource
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from datasync.testing.fuzz.door import Door

__all__ = ["DEADLINE", "Found", "attack"]

DEADLINE = 60.0
"""Seconds that one case may take, on a machine that is busy."""
_BATCH = 50
_MOST_MEMORY = 512 << 10
"""KiB by which one case may raise what the process has needed at most."""
_WIDE = 4000


class Found(NamedTuple):
    """One finding: `number` leads to the case again, together with the door and the seed."""

    number: int
    text: str


async def attack(
    door: Door,
    name: str,
    seed: int,
    first: int,
    going_on: Callable[[int], bool],
    found: Callable[[Found], object],
) -> Counter[str]:
    """Run cases from `first` on, as long as `going_on` says so, which is told how many are done;
    `found` hears of each finding. Returns how often what came of them."""
    outcomes: Counter[str] = Counter()
    number = first
    with _unexpected() as unexpected:
        while going_on(number - first):
            texts = [await _one(door, random.Random(f"{name}/{seed}/{number}"), outcomes)]
            if (number - first) % _BATCH == 0:
                texts.append(await _still(door))
            for text in filter(None, texts + unexpected):
                found(Found(number, text[-_WIDE:]))
            unexpected.clear()
            number += 1
        texts = [await _still(door)]
        gc.collect()  # what was left open says so as it goes
        await asyncio.sleep(0)
        for text in filter(None, texts + unexpected):
            found(Found(number - 1, text[-_WIDE:]))
    return outcomes


async def _one(door: Door, rng: random.Random, outcomes: Counter[str]) -> str:
    """What is wrong with this case, or nothing."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        async with asyncio.timeout(DEADLINE):
            outcomes[await door.case(rng)] += 1
    except Exception as error:
        return "".join(traceback.format_exception(error))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return f"it took {grown >> 10} MiB of memory" if grown > _MOST_MEMORY else ""


async def _still(door: Door) -> str:
    try:
        async with asyncio.timeout(DEADLINE):
            await door.works()
    except Exception as error:
        return "it does not work any more:\n" + "".join(traceback.format_exception(error))
    return ""


class _Errors(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(f"logged by {record.name}: {self.format(record)}")


@contextlib.contextmanager
def _unexpected() -> Iterator[list[str]]:
    """What goes wrong where nobody can catch it: in callbacks, in what is collected, in
    what is logged as an error."""
    unexpected: list[str] = []

    def unraisable(what: Any) -> None:
        unexpected.append("unraisable: " + "".join(traceback.format_exception(what.exc_value)))

    handler, hook = _Errors(unexpected), sys.unraisablehook
    logging.getLogger().addHandler(handler)
    sys.unraisablehook = unraisable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            yield unexpected
    finally:
        sys.unraisablehook = hook
        logging.getLogger().removeHandler(handler)
