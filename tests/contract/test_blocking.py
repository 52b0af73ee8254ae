"""The contract suite through `datasync.blocking`, on memory:// and on sqlite://."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import uuid
from collections.abc import AsyncIterator

import pytest

from datasync.kvdbsync.sqlite.driver import load_driver
from datasync.testing.contract import ContractSuite, Store
from datasync.testing.contract.scenario import scenario
from tests.contract.test_sqlite import SqliteFile
from tests.helpers.asyncio_face import BlockingStore

pytestmark = pytest.mark.once


class Suite(ContractSuite):
    @scenario()
    async def test_g12_belongs_to_one_event_loop(self, store: Store) -> None:
        """To its own, which is nobody else's: here each thread may use it, whatever runs there."""
        async with store.open() as sync:
            await asyncio.to_thread(asyncio.run, sync.put("a/1", b"1"))
            assert (await sync.get("a/1")).value == b"1"  # type: ignore[union-attr]


class TestMemory(Suite):
    # the test follows the source in a loop of its own, beside a DataSync that uses it in another
    test_g2_a_session_resumes_where_its_position_stood = None  # type: ignore[assignment]

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        yield BlockingStore(url=f"memory://{uuid.uuid4().hex}")


class TestSqlite(Suite):
    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        with tempfile.TemporaryDirectory() as directory:
            file = SqliteFile(directory, load_driver(None).name)
            yield BlockingStore(
                url=f"sqlite:///{file.link}/file.db",
                direct=f"sqlite:///{file.real}/file.db",
                lose=file.lose,
                restore=file.restore,
                empty=file.empty,
                compact=file.compact,
            )


del ContractSuite, Suite  # so that they are not collected themselves
