"""The contract suite on grpc://, where a client pushes,
and on grpc+watch:// over what `datasync serve` shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from datasync import DataSync, open_url
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import ContractSuite, Store
from datasync.testing.contract.harness import Writer
from tests.helpers.servers import free_ports
from tests.helpers.serving.serve_process import ServeProcess


class TestGrpcAgent(ContractSuite):
    """The DataSync under test is one of two that share an agent;
    the independent writer is a client that pushes to it.

    The other keeps the agent listening when the suite writes before the DataSync under test is
    there.
    """

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        [port] = free_ports(1)
        agent = open_url(f"grpc://127.0.0.1:{port}?initial=empty")

        @contextlib.asynccontextmanager
        async def writer() -> AsyncIterator[Writer]:
            async with DataSync(f"grpc://127.0.0.1:{port}") as client:
                yield client

        keeper = DataSync(agent)
        keeper.watch("keeper", keys=["keeper"])
        async with keeper:
            yield Store(url=agent, writer=writer)


class Served(ContractSuite):
    """One process for all tests of a worker, reached through a proxy; each test finds it empty."""

    source: ClassVar[str]
    server: ClassVar[ServeProcess]
    directory: ClassVar[Path]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def running(cls) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as directory:
            cls.directory = Path(directory)
            server = cls.server = ServeProcess(
                cls.source.format(directory=directory), cls.directory
            )
            try:
                asyncio.run(server.start())
                yield
            finally:
                server.end()

    def hooks(self) -> dict[str, object]:
        """What a restart of the server means."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        server = self.server
        direct = f"grpc+watch://127.0.0.1:{server.port}"
        async with DataSync(direct) as sync:
            await sync.delete("", prefix=True)
        async with proxy_to(server.port) as proxy:

            async def freeze() -> None:
                proxy.pause()

            async def thaw() -> None:
                proxy.resume()

            async def expire_session() -> None:
                proxy.cut()

            yield Store(
                url=f"grpc+watch://127.0.0.1:{proxy.port}",
                direct=direct,
                lose=proxy.refuse,
                restore=proxy.start,
                freeze=freeze,
                thaw=thaw,
                expire_session=expire_session,
                **self.hooks(),  # type: ignore[arg-type]
            )


class TestGrpcServedMemory(Served):
    source = "memory://"

    def hooks(self) -> dict[str, object]:
        return {"empty": self.server.restart}


class TestGrpcServedSqlite(Served):
    source = "sqlite:///{directory}/served.db"

    def hooks(self) -> dict[str, object]:
        return {"compact": self.server.restart}  # the log of a new process begins with its start


del Served, ContractSuite  # so that they are not collected themselves
