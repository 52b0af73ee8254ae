"""G12: whatever opens and closes leaves nothing behind, however often: no descriptor, task or thread, and no object.

Objects are counted by their type, without a garbage collection: what would wait for one counts as left behind. What the
libraries of the network leave in cycles of their own is collected first.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from datasync import DataSync, open_url
from datasync.source import Put
from datasync.testing.contract import eventually
from datasync.testing.contract.waiting import without_collector
from tests.grpc.agents import agent as grpc_agent
from tests.rest.served import served
from tests.servers import listening

Run = Callable[[Any], None]
Once = Callable[[int], Awaitable[object]]
"""Opens and closes one of them; the number is another one each time."""

pytestmark = pytest.mark.once


async def ignore(_: Any) -> None:
    """A handler."""


@asynccontextmanager
async def running() -> AsyncIterator[DataSync]:
    """A DataSync over a store in memory with a few keys, and a watch of all of it."""
    async with DataSync("memory://") as sync:
        sync.watcher("", name="all")(ignore)
        for number in range(10):
            await sync.put(f"a/{number}", b"1")
        await sync.ready(60)
        yield sync


@asynccontextmanager
async def streams() -> AsyncIterator[Once]:
    async with running() as sync:

        async def once(number: int) -> None:
            watch = sync.watch(f"w{number}", f"w/{number}/")
            if number % 100 == 0:
                await anext(aiter(watch))
            watch.close()

        yield once


@asynccontextmanager
async def handlers() -> AsyncIterator[Once]:
    async with running() as sync:

        async def once(number: int) -> None:
            sync.watcher(f"w/{number}/", name=f"w{number}", after=["all"])(ignore)
            if number % 100 == 0:
                await sync.ready(60)
            sync.watches[f"w{number}"].close()

        yield once


@asynccontextmanager
async def views() -> AsyncIterator[Once]:
    async with running() as sync:

        async def once(number: int) -> None:
            with sync.view(f"v/{number}/"):
                pass
            if number % 100 == 0:
                await asyncio.sleep(0)

        yield once


@asynccontextmanager
async def prefixes() -> AsyncIterator[Once]:
    async with running() as sync:
        watch = sync.watches["all"]

        async def once(number: int) -> None:
            watch.add_prefix(f"p/{number}/")
            if number % 100 == 0:
                await asyncio.sleep(0)
            watch.remove_prefix(f"p/{number}/")

        yield once


@asynccontextmanager
async def writes() -> AsyncIterator[Once]:
    async with running() as sync:
        yield lambda number: sync.put(f"a/{number % 10}", b"2", confirm=60)


@asynccontextmanager
async def refused_conditions() -> AsyncIterator[Once]:
    async with running() as sync:

        async def once(number: int) -> None:
            with pytest.raises(Exception, match="is not to be absent any more"):
                await sync.put("a/1", b"2", if_revision=0)

        yield once


@asynccontextmanager
async def lists_that_are_left() -> AsyncIterator[Once]:
    async with running() as sync:

        async def once(number: int) -> None:
            items = sync.list("a/")
            await anext(aiter(items))
            await items.aclose()  # type: ignore[attr-defined]

        yield once


@asynccontextmanager
async def data_syncs() -> AsyncIterator[Once]:
    async with running():

        async def once(number: int) -> None:
            sync = DataSync("memory://leaks")
            sync.watcher("a/")(ignore)
            async with sync:
                await sync.ready(60)

        yield once


@asynccontextmanager
async def cursors_of_rest() -> AsyncIterator[Once]:
    async with served() as server:
        await server.source.commit([Put(f"a/{number}", b"1") for number in range(10)])
        source = open_url(server.url)

        async def once(number: int) -> None:
            _, token = await source.page("a/", None, 5)
            await source.page("a/", token, 5)

        try:
            yield once
        finally:
            await source.aclose()


async def _stream_of(url: str) -> None:
    source = open_url(url)
    try:
        session = await source.open(["a/"])
        await anext(aiter(session))
        await session.aclose()
    finally:
        await source.aclose()


@asynccontextmanager
async def streams_of_rest() -> AsyncIterator[Once]:
    async with served() as server:
        yield lambda number: _stream_of(server.url)


@asynccontextmanager
async def streams_of_grpc() -> AsyncIterator[Once]:
    async with grpc_agent("?initial=empty") as one:
        yield lambda number: _stream_of(f"grpc+watch://{one.address}")


@asynccontextmanager
async def connections() -> AsyncIterator[Once]:
    """To both servers, which are closed before they have said anything."""
    async with AsyncExitStack() as stack:
        rest = (await stack.enter_async_context(served())).access.port
        grpc = (await stack.enter_async_context(grpc_agent("?initial=empty"))).port

        async def once(number: int) -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", grpc if number % 2 else rest)
            writer.transport.abort()

        yield once


@asynccontextmanager
async def sources_that_find_nobody() -> AsyncIterator[Once]:
    async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with listening(hangs_up) as port:

        async def once(number: int) -> None:
            source = open_url(f"redis://127.0.0.1:{port}")
            with pytest.raises(Exception, match=r"127\.0\.0\.1"):
                await source.get("a/1")
            await source.aclose()

        yield once


class Held:
    """What this process has just now."""

    def __init__(self, *, collected: bool) -> None:
        if collected:
            gc.collect()
        self.objects = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
        self.counts = {
            "descriptors": len(os.listdir("/proc/self/fd")),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
        }

    def more_than(self, before: Held, rounds: int) -> dict[str, int]:
        """What has grown: by more than a few, of which the libraries keep some."""
        grown = {name: count - before.counts[name] for name, count in self.counts.items()}
        objects = {name: count - before.objects[name] for name, count in self.objects.items()}
        return {name: more for name, more in grown.items() if more > 3} | {
            name: more for name, more in objects.items() if more > max(40, rounds // 20)
        }


@pytest.mark.parametrize(
    ("opened", "rounds", "collected"),
    [
        (streams, 10_000, False),
        (handlers, 10_000, False),
        (views, 10_000, False),
        (prefixes, 10_000, False),
        (writes, 10_000, False),
        (refused_conditions, 10_000, False),
        (lists_that_are_left, 10_000, False),
        # those that take more than a millisecond each
        (data_syncs, 500, True),
        (connections, 500, True),
        (cursors_of_rest, 300, True),
        (streams_of_rest, 200, True),
        (streams_of_grpc, 200, True),
        (sources_that_find_nobody, 300, True),
    ],
)
def test_what_opens_and_closes_leaves_nothing(run: Run, opened: Any, rounds: int, collected: bool) -> None:
    async def main() -> None:
        async with opened() as once:
            numbers = itertools.count()
            for number in itertools.islice(numbers, min(rounds, 2500)):
                await once(number)  # caches are full by then, and logs
            await settled()
            before = Held(collected=collected)
            for number in itertools.islice(numbers, rounds):
                await once(number)
            await settled()
            await eventually(lambda: not Held(collected=collected).more_than(before, rounds), what=opened.__name__)

    with without_collector():
        run(main())


async def settled() -> None:
    """What was begun has its end."""
    for _ in range(20):
        await asyncio.sleep(0)
