"""Clients that read nothing, though they answer pings: what is kept for them is let go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import Message

from datasync import DataSync
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync import methods
from datasync.grpcsync.server import Server
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.source import Put
from datasync.testing.contract import eventually
from tests.grpc.agents import agent, change
from tests.grpc.plain import msg_pb2_grpc as stubs
from tests.servers import free_ports

Run = Callable[[Coroutine[Any, Any, None]], None]
KEYS, VALUE = 30, b"x" * 300_000


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Hub, str]]:
    """A store that is larger than what waits on the way to a client, and where it is served."""
    [port] = free_ports(1)
    source = MemorySource("large")
    await source.commit([Put(f"large/{number:02}", VALUE) for number in range(KEYS)])
    async with Hub(source) as hub, Server(Access("server", "127.0.0.1", port), hub):
        yield hub, f"127.0.0.1:{port}"


def narrow(address: str) -> grpc.aio.Channel:
    """A channel that takes little ahead of its reader; else that grows, up to all there is."""
    return grpc.aio.insecure_channel(address, options=[("grpc.http2.bdp_probe", 0)])


async def begun(channel: grpc.aio.Channel, method: str, request: Message) -> Any:
    """A call of which one message has been read."""
    start: Any = channel.unary_stream(f"/datasync.v1.DataSync/{method}")
    call = start(request.SerializeToString())
    assert await call.read()
    return call


async def end_of(call: Any) -> grpc.StatusCode:
    """How it ends, once all is read."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_watcher_that_reads_nothing_is_let_go(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_STALLED", 0.3)

    async def main() -> None:
        async with serving() as (hub, address), narrow(address) as channel:
            call = await begun(channel, "Watch", pb.WatchRequest(scopes=[""]))
            await eventually(lambda: not hub.watchers, 60)
            assert await end_of(call) is grpc.StatusCode.UNAVAILABLE

    run(main())


def test_a_list_that_nobody_reads_is_let_go(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_STALLED", 0.3)

    async def main() -> None:
        async with serving() as (_, address), narrow(address) as channel:
            # on a busy machine the server may not have come to wait before
            for pause in (0.5, 2, 8, 32):
                call = await begun(channel, "List", pb.ListRequest(prefix=""))
                await asyncio.sleep(pause)
                if (code := await end_of(call)) is not grpc.StatusCode.OK:
                    break
            assert code is grpc.StatusCode.UNAVAILABLE

    run(main())


def test_who_reads_gets_all_of_it(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, address), DataSync(f"grpc+watch://{address}") as client:
            view = client.view("large/")
            await client.ready(60)
            assert dict(view) == {f"large/{number:02}": VALUE for number in range(KEYS)}

    run(main())


@pytest.mark.parametrize("path", ["config/", "slow/"])
def test_changes_whose_answers_nobody_reads_end(run: Run, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Answers that come at once are sent by the call itself, those behind a verdict by a task of it."""
    monkeypatch.setattr(methods, "_STALLED", 0.3)

    async def flood(call: Any, enough: asyncio.Event) -> None:
        for number in itertools.takewhile(lambda _: not enough.is_set(), itertools.count()):
            await call.write(change(f"{path}{'long/' * 500}{number}", b""))
        await call.done_writing()

    async def main() -> None:
        async with agent("?initial=empty") as one, narrow(one.address) as channel:
            # on a busy machine the server may not have come to wait before
            for pause in (1, 4, 16, 32):
                call = stubs.DataMsgServiceStub(channel).dataChanges()  # type: ignore[no-untyped-call]
                enough = asyncio.Event()
                flooding = asyncio.create_task(flood(call, enough))
                await asyncio.wait([flooding], timeout=pause)
                enough.set()
                code = await end_of(call)
                await asyncio.wait([flooding])
                if code is not grpc.StatusCode.OK:
                    break
            assert code is grpc.StatusCode.UNAVAILABLE

    run(main())
