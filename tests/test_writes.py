"""Writes through a DataSync: what they check before, and how long they wait after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import datasync
from datasync import ChangeEvent, DataSync, ResyncEvent
from datasync.kvdbsync.memory import MemorySource
from datasync.testing import FaultySource, run_simulated

Run = Callable[[Coroutine[Any, Any, None]], None]
Event = ResyncEvent[bytes] | ChangeEvent[bytes]


def test_a_transaction_is_not_committed_after_the_end(run: Run) -> None:
    async def main() -> None:
        store = MemorySource()
        async with DataSync(store) as sync:
            txn = sync.txn().put("a", b"1")
        with pytest.raises(datasync.WatchClosed):
            await txn.commit()
        assert await store.get("a") is None

    run(main())


def test_a_publisher_waits_as_long_as_the_slowest_watch_may_take() -> None:
    async def main() -> None:
        source = FaultySource()
        sync = DataSync(source, ack_timeout=1, resync_timeout=1)

        @sync.watcher("a/", ack_timeout=60)
        async def slow(event: Event) -> None:
            if isinstance(event, ChangeEvent):
                await asyncio.sleep(20)

        async with sync:
            await sync.ready(60)
            assert await sync.put("a/1", b"1", confirm=True) == source.revision
            with pytest.raises(datasync.NotApplied, match="overdue"):
                await sync.put("a/1", b"2", confirm=5)

    run_simulated(main())
