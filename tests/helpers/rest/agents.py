"""An agent in this process, and a plain HTTP client of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from datasync import DataSync
from datasync.restsync._limits import Limits
from datasync.restsync.agent import RestSource
from datasync.testing.contract import Probe
from tests.helpers.rest.served import access_of
from tests.helpers.servers import free_ports

__all__ = ["Agent", "Answer", "agent", "raw_request"]


class Answer:
    """Status, headers and body."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class Agent:
    """One that watches `config/` with a probe, unless it is told otherwise."""

    def __init__(self, sync: DataSync, probe: Probe, source: RestSource, address: str) -> None:
        self.sync = sync
        self.probe = probe
        self.source = source
        self.address = address
        self.port = int(address.rpartition(":")[2])
        self.url = f"http://{address}"
        self.client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False
        )

    async def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request; the names of headers are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(self.url + path, encoded=True)
        async with self.client.request(
            method, url, data=body, headers=named, allow_redirects=False
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())


@contextlib.asynccontextmanager
async def agent(
    *prefixes: str,
    answers: Sequence[Any] = (),
    query: str = "",
    empty: bool = True,
    limits: Limits = Limits(),  # noqa: B008
    **options: Any,
) -> AsyncIterator[Agent]:
    """An agent within the block, whose watches accept, or answer as told."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    source = RestSource(access_of(f"rest://{address}{query}"), empty=empty, limits=limits)
    sync = DataSync(source, **options)
    watched = prefixes or ("config/",)
    probe = Probe(*answers, name="probe", prefixes=watched)
    sync.watcher(*watched, name="probe")(probe)
    async with sync:
        found = Agent(sync, probe, source, address)
        try:
            yield found
        finally:
            await found.client.close()
    probe.check()


async def raw_request(port: int, data: bytes, *, limit: int = 1 << 20) -> bytes:
    """Send bytes as they are, and read what comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        return await asyncio.wait_for(reader.read(limit), 60)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
