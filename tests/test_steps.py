"""What one change costs, in bytecodes: the same with many watches as with few, and the way of a
verdict back is a small part of it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
import pytest

from datasync import DataSync
from tests.helpers.growth import Steps

eager = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="handlers begin in a turn of the loop of their own"
)


class Interface(msgspec.Struct):
    number: int
    name: str


async def decodes(event: Any) -> None:
    for change in event.changes:
        assert change.value is not None


async def steps_of_a_change(*, watches: int = 1, confirm: bool = True) -> int:
    """Those of one change of one watch, JSON decoded."""
    sync = DataSync("memory://")
    for number in range(watches):
        sync.watcher(f"{number}/", name=str(number), type=Interface)(decodes)
    async with sync:
        await sync.ready(60)
        # Python may heed what is asked of a frame only from the next call of its function on, and
        # the first changes fill caches
        for number in range(6):
            raw = b'{"number": %d, "name": "eth0"}' % number
            steps = Steps()
            with steps:
                await sync.put("0/eth0", raw, confirm=confirm)
        assert sync.status().watches[0].changes == 6
    return steps.count


@eager
def test_a_change_costs_the_same_with_ten_watches_as_with_a_thousand() -> None:
    few = asyncio.run(steps_of_a_change(watches=10))
    # an event that takes longer than most, on a busy machine, is counted in a few steps more
    assert asyncio.run(steps_of_a_change(watches=1_000)) < 1.01 * few
    assert few < 1.03 * asyncio.run(steps_of_a_change())


@eager
def test_a_confirmed_change_takes_so_many_steps_at_most() -> None:
    assert asyncio.run(steps_of_a_change()) < 1_350


@eager
def test_to_await_the_verdict_costs_a_fifth_more_at_most() -> None:
    waited, written = (asyncio.run(steps_of_a_change(confirm=confirm)) for confirm in (True, False))
    assert waited < 1.2 * written
