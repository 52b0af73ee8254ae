"""What one connection sends together, and what its writes hear when it ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from datasync import Disconnected, OutcomeUnknown, open_url
from datasync.endpoints import Endpoint
from datasync.kvdbsync.redis.link import Access, Link
from datasync.source import Put
from tests.helpers.redis.redis_server import redis_server
from tests.helpers.transports import CountingTransport


def test_many_writes_at_once_are_sent_together_and_watched_by_one_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transports: list[CountingTransport] = []
    made = Link.connection_made

    def connection_made(link: Link, transport: Any) -> None:
        transports.append(CountingTransport(transport))
        made(link, cast(asyncio.BaseTransport, transports[-1]))

    monkeypatch.setattr(Link, "connection_made", connection_made)

    async def main() -> None:
        async with redis_server() as server:
            source = open_url(server.url)
            await source.commit([Put("first", b"0")])
            [transport] = transports
            loop, timers = asyncio.get_running_loop(), 0
            call_at = loop.call_at

            def counted(*args: Any, **more: Any) -> asyncio.TimerHandle:
                nonlocal timers
                timers += 1
                return call_at(*args, **more)

            monkeypatch.setattr(loop, "call_at", counted)

            transport.sent = 0
            await asyncio.gather(*(source.commit([Put(f"a/{n}", b"1")]) for n in range(1_000)))
            assert transport.sent <= 2  # the first at once, as a single one is; then all others
            assert timers <= 1
            for number in range(3):
                await source.commit([Put(f"a/{number}", b"2")])
            assert transport.sent <= 2 + 3
            await source.aclose()

    asyncio.run(main())


def test_what_was_not_handed_over_yet_is_surely_not_done() -> None:
    async def main() -> None:
        async with redis_server() as server:
            link = await Link.connect(Endpoint("127.0.0.1", server.port), Access())
            sent = asyncio.create_task(link.tell(("SET", "sent", "1")))
            corked = asyncio.create_task(link.tell(("SET", "corked", "1")))
            await asyncio.sleep(0)  # both have begun, and the turn is not over
            link.fail("it is cut")

            with pytest.raises(OutcomeUnknown, match="it is cut; read the key"):
                await sent
            with pytest.raises(Disconnected, match="it is cut") as refused:
                await corked
            assert not isinstance(refused.value, OutcomeUnknown)
            await link.aclose()
            async with server.client() as client:
                assert await client.get("corked") is None

    asyncio.run(main())
