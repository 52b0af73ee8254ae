"""Closing beside handlers that do not end, and writes that wait."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from datasync import ChangeEvent, DataSync, Layer, ResyncEvent, WatchClosed
from datasync.testing import FaultySource
from datasync.testing.contract import eventually


async def keeps_no_write_waiting() -> None:
    source = FaultySource()
    sync = DataSync(source, close_timeout=60)
    busy, release = asyncio.Event(), asyncio.Event()

    @sync.watcher("a/")
    async def stubborn(event: ResyncEvent[bytes] | ChangeEvent[bytes]) -> None:
        while not release.is_set():
            busy.set()
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    await sync.start()
    await busy.wait()
    source.hang()
    put = asyncio.ensure_future(sync.put("a/1", b"1"))
    get = asyncio.ensure_future(sync.get("a/1"))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(sync.aclose())

    for waiting in (put, get):
        with pytest.raises(WatchClosed):
            await asyncio.wait_for(waiting, 60)
    assert not closing.done()

    source.heal()
    release.set()
    await closing
    await eventually(lambda: source.sessions == 0)
    assert source.state == {}  # G10: what was not sent is never sent


def test_g12_a_handler_that_takes_its_time_keeps_no_write_waiting() -> None:
    asyncio.run(keeps_no_write_waiting())


class HangsAtItsEnd(FaultySource):
    closing = False

    async def aclose(self) -> None:
        self.closing = True
        await asyncio.Event().wait()


async def closes_each_source() -> None:
    first, second = HangsAtItsEnd(), HangsAtItsEnd()
    sync = DataSync(Layer(first, name="first"), Layer(second, name="second"), close_timeout=0.1)
    await sync.start()
    closing = asyncio.ensure_future(sync.aclose())
    await eventually(lambda: first.closing)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert second.closing


def test_g12_each_source_is_closed_though_closing_is_cancelled() -> None:
    asyncio.run(closes_each_source())


async def names_what_goes_on() -> None:
    sync = DataSync("memory://", close_timeout=0.05)
    busy, release = threading.Event(), threading.Event()

    @sync.watcher("a/")
    def stubborn(event: ResyncEvent[bytes] | ChangeEvent[bytes]) -> None:
        busy.set()
        release.wait()

    try:
        async with sync:
            await asyncio.to_thread(busy.wait)
    finally:
        release.set()


def test_a_handler_that_does_not_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "datasync"):
        asyncio.run(names_what_goes_on())
    assert caplog.messages == ["closed, though the handler of 'stubborn' does not end"]
