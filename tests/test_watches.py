"""`DataSync.watches`: the way to the watch of a handler."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import datasync
from datasync import ChangeEvent, DataSync, ResyncEvent, WatchState

Run = Callable[[Coroutine[Any, Any, None]], None]
Event = ResyncEvent[bytes] | ChangeEvent[bytes]


def test_the_watch_of_a_handler_can_be_widened_and_closed_by_its_name(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        seen: list[list[str]] = []

        @sync.watcher("a/")
        async def part(event: Event) -> None:
            seen.append([change.key for change in event.changes])

        sync.watch("stream", "c/")
        assert list(sync.watches) == ["part", "stream"]
        async with sync:
            await sync.ready(10)
            await sync.put("b/1", b"1")
            watch = sync.watches["part"]
            watch.add_prefix("b/")
            await sync.ready(10)
            assert seen == [[], ["b/1"]]
            watch.close()
            assert watch.state is WatchState.CLOSED
            assert list(sync.watches) == ["stream"]
            with pytest.raises(datasync.NotApplied, match="unwatched"):
                await sync.put("b/1", b"2", confirm=5)
            sync.watch("part", "a/")
            assert list(sync.watches) == ["stream", "part"]

    run(main())
