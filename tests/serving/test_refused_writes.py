"""G9: writes that are refused, conflict, or whose fate is unknown leave nothing behind,
on either side.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest

from datasync import Conflict, DataSync, NotApplied, OutcomeUnknown, Refused
from datasync.grpcsync.server import Server
from datasync.kvdbsync.memory import MemorySource
from datasync.options import Options
from datasync.serving.hub import Hub
from datasync.source import Committed, Operation, Put
from tests.helpers.faults import writes_leave_nothing
from tests.helpers.rest.served import access_of, served
from tests.helpers.servers import free_ports


class Unsure(MemorySource):
    """Nobody knows what became of a write below unknown/."""

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        if any(type(one) is Put and one.key.startswith("unknown/") for one in operations):
            raise OutcomeUnknown("the connection died; read the key")
        return await super().commit(operations, reply=reply)


@contextlib.asynccontextmanager
async def client_of(scheme: str) -> AsyncIterator[DataSync]:
    """A client, and in the same process what it writes to: a served store,
    or an agent that refuses.
    """
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    async with contextlib.AsyncExitStack() as stack:
        if scheme in ("http", "grpc+watch"):
            source = Unsure()
            if scheme == "http":
                address = (await stack.enter_async_context(served(source))).access.authority
            else:
                hub = await stack.enter_async_context(Hub(source, Options()))
                await stack.enter_async_context(Server(access_of(f"grpc://{address}"), hub))
            client = f"{scheme}://{address}"
        else:
            agent = DataSync(f"{scheme}://{address}?initial=empty")

            @agent.watcher("refused/")
            async def refuse(event: Any) -> None:
                raise Refused({change.key: "no" for change in event.changes})

            await stack.enter_async_context(agent)
            client = f"http://{address}" if scheme == "rest" else f"grpc://{address}"
        yield await stack.enter_async_context(DataSync(client))


async def refused(sync: DataSync, number: int) -> None:
    await sync.put("refused/a", b"%d" % number, confirm=True)


async def conflicting(sync: DataSync, number: int) -> None:
    await sync.put("a", b"%d" % number, if_revision=10**9)


async def unknown(sync: DataSync, number: int) -> None:
    await sync.put("unknown/a", b"%d" % number)


@pytest.mark.once
@pytest.mark.parametrize(
    ("scheme", "write", "error"),
    [
        ("rest", refused, NotApplied),
        ("grpc", refused, NotApplied),
        ("http", conflicting, Conflict),
        ("grpc+watch", conflicting, Conflict),
        ("http", unknown, OutcomeUnknown),
        ("grpc+watch", unknown, OutcomeUnknown),
    ],
)
def test_writes_in_vain_are_not_kept(
    scheme: str, write: Callable[[DataSync, int], Awaitable[None]], error: type[Exception]
) -> None:
    async def main() -> None:
        async with client_of(scheme) as sync:
            await writes_leave_nothing(partial(write, sync), error, logged=write is refused)

    asyncio.run(main())  # ten thousand writes have as long as a test may take
