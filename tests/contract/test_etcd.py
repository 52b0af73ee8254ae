"""The contract suite on etcd, on each version of the server."""

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
from tests.helpers.etcd.etcd_server import DEBIAN, NEW, EtcdServer


class Etcd(ContractSuite):
    """One server for all tests of a worker; each test finds it empty,
    though at a revision of its own.
    """

    version: ClassVar[str]
    server: ClassVar[EtcdServer]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def running(cls) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as directory:
            # the suite has transactions of 10,000 keys; what a smaller limit does is in tests/etcd
            server = cls.server = EtcdServer(
                cls.version, Path(directory), extra=["--max-txn-ops", "20000"]
            )
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
                proxy.cut()

            yield Store(
                url=f"etcd://127.0.0.1:{proxy.port}",
                direct=server.url,
                shortest_ttl=1,
                empty=server.empty,
                compact=server.compact,
                expire_session=expire_session,
                odd_keys=[b"a/\xff", b"\xff"],
                put_raw=server.put_raw,
                has_raw=server.has_raw,
                **proxy.hooks(),
            )


class TestEtcd34(Etcd):
    version = DEBIAN


class TestEtcd36(Etcd):
    version = NEW


del Etcd, ContractSuite  # so that they are not collected themselves
