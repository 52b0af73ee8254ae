"""The contract suite over HTTP: an agent that clients push to, and a client of a served source."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from datasync.restsync.agent import RestSource
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import ContractSuite, Store
from tests.helpers.rest.served import access_of, served
from tests.helpers.servers import free_ports


class TestAgent(ContractSuite):
    """DataSync("rest://...") and another process that writes over HTTP."""

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        address = f"127.0.0.1:{free_ports(1)[0]}"
        source = RestSource(access_of(f"rest://{address}"), empty=True)
        await source.start()  # a writer may come before the agent's DataSync
        try:
            yield Store(url=source, direct=f"http://{address}")
        finally:
            await source.stop()


class TestClient(ContractSuite):
    """DataSync("http://...") on a served store."""

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        async with served() as server, proxy_to(server.access.port) as proxy:

            async def freeze() -> None:
                proxy.pause()

            async def thaw() -> None:
                proxy.resume()

            async def expire_session() -> None:
                proxy.cut()

            yield Store(
                url=f"http://127.0.0.1:{proxy.port}?timeout=5",
                direct=server.url,
                lose=proxy.refuse,
                restore=proxy.start,
                freeze=freeze,
                thaw=thaw,
                empty=server.empty,
                compact=server.compact,
                expire_session=expire_session,
            )


del ContractSuite  # so that it is not collected itself
