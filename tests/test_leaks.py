"""G12: whatever opens and closes leaves nothing behind, however often: no descriptor,
task or thread, and no object.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from datasync import DataSync, open_url
from datasync.source import Put
from tests.helpers.etcd.etcd_server import DEBIAN, etcd_server
from tests.helpers.grpc.agents import agent as grpc_agent
from tests.helpers.leaks import Once, leaves_nothing, refused, undisturbed
from tests.helpers.redis.redis_server import redis_server
from tests.helpers.rest.agents import agent as rest_agent
from tests.helpers.rest.served import served
from tests.helpers.servers import listening

Run = Callable[[Any], None]

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
async def status_pages() -> AsyncIterator[Once]:
    """Each with a client that has asked for something, and is still connected at the end."""
    async with running():

        async def once(number: int) -> None:
            async with DataSync("memory://leaks") as sync:
                sync.watcher("a/", name="a")(ignore)
                await sync.ready(60)
                page = await sync.serve_status("127.0.0.1:0", health="127.0.0.1:0")
                port = int(page.url.rpartition(":")[2])
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /v1/keys HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert b" 200 " in await reader.readline()
            writer.transport.abort()

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


@asynccontextmanager
async def refused_by_agents() -> AsyncIterator[Once]:
    """Starts, by both servers of ours, which want another token."""
    async with AsyncExitStack() as stack:
        rest = await stack.enter_async_context(rest_agent(query="?token=right"))
        grpc = await stack.enter_async_context(grpc_agent("?initial=empty&token=right"))
        yield refused(
            [f"http://{rest.address}?token=wrong", f"grpc+watch://{grpc.address}?token=wrong"]
        )


# of Kafka, whose broker takes the longest to start, `msgsync/kafka/test_security.py` says the same


@asynccontextmanager
async def refused_by_redis() -> AsyncIterator[Once]:
    async with redis_server(extra=["--requirepass", "right"]) as server:
        address = f"127.0.0.1:{server.port}"
        yield refused([f"redis://:wrong@{address}", f"redis://{address}"])


@asynccontextmanager
async def refused_by_etcd() -> AsyncIterator[Once]:
    async with etcd_server(DEBIAN, extra=["--bcrypt-cost", "4"]) as server:
        await server.ask_for_passwords({"agent": "right"})
        address = f"127.0.0.1:{server.port}"
        yield refused([f"etcd://agent:wrong@{address}", f"etcd://{address}"])


@pytest.mark.parametrize(
    ("opened", "rounds", "collected"),
    [
        (streams, 3_000, False),
        (handlers, 3_000, False),
        (views, 3_000, False),
        (prefixes, 3_000, False),
        (writes, 3_000, False),
        (refused_conditions, 3_000, False),
        (lists_that_are_left, 3_000, False),
        # those that take more than a millisecond each
        (data_syncs, 500, True),
        (connections, 500, True),
        (status_pages, 100, True),
        (cursors_of_rest, 300, True),
        (streams_of_rest, 200, True),
        (streams_of_grpc, 200, True),
        (sources_that_find_nobody, 300, True),
        (refused_by_agents, 200, True),
        (refused_by_redis, 200, True),
        (refused_by_etcd, 50, True),
    ],
)
def test_what_opens_and_closes_leaves_nothing(
    run: Run, opened: Any, rounds: int, collected: bool
) -> None:
    async def main() -> None:
        async with opened() as once:
            await leaves_nothing(once, rounds, collected=collected, what=opened.__name__)

    with undisturbed():
        run(main())
