"""The contract suite on Redis."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import ContractSuite, Store
from tests.helpers.redis.redis_server import RedisServer


class TestRedis(ContractSuite):
    """One server for all tests of a worker; each test finds it empty."""

    server: ClassVar[RedisServer]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def running(cls) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as directory:
            server = cls.server = RedisServer(Path(directory))
            try:
                asyncio.run(server.start())
                yield
            finally:
                server.end()

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        server = self.server
        await server.clear()
        async with proxy_to(server.port) as proxy:

            async def expire_session() -> None:
                await server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

            async def put_raw(key: bytes, value: bytes) -> None:
                await server.do("SET", key, value, database=3)

            async def has_raw(key: bytes) -> bool:
                return bool(await server.do("EXISTS", key, database=3))

            yield Store(
                url=f"redis://127.0.0.1:{proxy.port}/3",
                direct=f"{server.url}/3",
                shortest_ttl=0.05,
                empty=server.empty,
                expire_session=expire_session,
                odd_keys=[b"", b"a/\xff"],
                put_raw=put_raw,
                has_raw=has_raw,
                **proxy.hooks(),
            )


del ContractSuite  # so that it is not collected itself
