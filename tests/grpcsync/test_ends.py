"""How servers and clients end: no call is left, and nothing of grpc,
whose thread lives as long as its objects, waits for the garbage collection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import grpc.aio
import pytest

from datasync import DataSync, OutcomeUnknown, open_url
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync.server import Server
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.source import Committed, Operation
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import eventually
from tests.helpers.grpc.agents import Agent, agent, change
from tests.helpers.grpc.plain import msg_pb2 as msg
from tests.helpers.servers import free_ports

Run = Callable[[Coroutine[Any, Any, None]], None]
COMMIT, WATCH = "/datasync.v1.DataSync/Commit", "/datasync.v1.DataSync/Watch"
CHANGES = "/msg.DataMsgService/dataChanges"


@pytest.fixture(autouse=True)
def forgetful_log(caplog: pytest.LogCaptureFixture) -> None:
    """A record that is kept would keep the error of a handler, and all that it came through."""
    caplog.set_level(logging.ERROR, "datasync.watch")


def leaves_nothing(run: Run, main: Callable[[], Coroutine[Any, Any, None]], *kinds: str) -> None:
    """Run it without garbage collection; no object of grpc of these kinds may be left."""

    def kept() -> dict[int, str]:
        return {
            id(one): type(one).__name__ for one in gc.get_objects() if type(one).__name__ in kinds
        }

    gc.collect()
    before = kept()
    gc.disable()
    try:
        run(main())
        left = [name for one, name in kept().items() if one not in before]
    finally:
        gc.enable()
    assert not left


async def send(channel: grpc.aio.Channel, method: str, *messages: Any) -> Any:
    """A call with these messages, which stays open."""
    call: Any = channel.stream_stream(method)()
    for message in messages:
        await call.write(message if isinstance(message, bytes) else message.SerializeToString())
    return call


async def malformed(one: Agent, channel: grpc.aio.Channel) -> None:
    for method in (COMMIT, CHANGES):
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await (await send(channel, method, b"\xff" * 100)).read()


async def calls_were_turned_down(one: Agent, channel: grpc.aio.Channel) -> None:
    for method, message in (
        (WATCH, pb.WatchRequest(scopes=[""], resume="x")),
        ("/datasync.v1.DataSync/List", pb.ListRequest(prefix="")),
        ("/datasync.v1.DataSync/Get", pb.GetRequest(key="a")),
        ("/msg.DataMsgService/ping", msg.PingRequest()),
    ):
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await (await send(channel, method, message)).read()


async def a_handler_has_failed(one: Agent, channel: grpc.aio.Channel) -> None:
    call = await send(channel, CHANGES, change("broken/a", b"1"))
    assert msg.DataChangeReply.FromString(await call.read()).result == 2


async def changes_wait_for_their_verdicts(one: Agent, channel: grpc.aio.Channel) -> None:
    await send(channel, CHANGES, *(change(f"slow/{number}", bytes(1000)) for number in range(400)))
    await eventually(lambda: one.sync.status().watches[2].backlog)


async def commits_wait_for_their_verdicts(one: Agent, channel: grpc.aio.Channel) -> None:
    commits = [
        pb.CommitRequest(id=number, keys=["slow/0"], values=[b""], reply=True)
        for number in range(2000)
    ]
    await (await send(channel, COMMIT, pb.CommitRequests(commits=commits))).read()


async def a_watch_is_open(one: Agent, channel: grpc.aio.Channel) -> None:
    await (await send(channel, WATCH, pb.WatchRequest(scopes=[""]))).read()


@pytest.mark.parametrize(
    ("query", "scenario"),
    [
        ("?initial=empty", malformed),
        ("", calls_were_turned_down),
        ("?token=another", calls_were_turned_down),
        ("?initial=empty", a_handler_has_failed),
        ("?initial=empty", changes_wait_for_their_verdicts),
        ("?initial=empty", commits_wait_for_their_verdicts),
        ("?initial=empty", a_watch_is_open),
    ],
)
def test_a_server_ends_with_its_calls(
    run: Run, query: str, scenario: Callable[[Agent, grpc.aio.Channel], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            async with agent(query) as one:
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(one.address))
                await scenario(one, channel)
            assert not [
                task
                for task in asyncio.all_tasks()
                if task.get_name().startswith("HandleExceptions")
            ]

    leaves_nothing(run, main, "AioServer", "RPCState")


def test_a_server_that_is_closed_waits_for_the_writes_that_it_began(run: Run) -> None:
    """The source is closed next; a write must not meet that."""
    begun, ended = asyncio.Event(), asyncio.Event()

    class Slow(MemorySource):
        async def commit(
            self, operations: Sequence[Operation], *, reply: bool = False
        ) -> Committed:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(10):  # rolling back takes a while
                    await asyncio.sleep(0)
                ended.set()
            raise AssertionError

    async def main() -> None:
        [port] = free_ports(1)
        async with Hub(Slow()) as hub, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            async with Server(Access("server", "127.0.0.1", port), hub):
                commit = pb.CommitRequest(id=1, keys=["a"], values=[b""])
                call = await send(channel, COMMIT, pb.CommitRequests(commits=[commit]))
                await begun.wait()
            assert ended.is_set()
            del call

    run(main())


def test_closing_that_is_cancelled_leaves_nothing_either(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one, proxy_to(one.port) as proxy:
            client = open_url(f"grpc://127.0.0.1:{proxy.port}")
            sync = DataSync(client)
            await sync.start()
            await sync.put("config/a", b"1")
            proxy.pause()
            writing = asyncio.create_task(sync.put("config/a", b"2"))
            await eventually(
                lambda: any(pending.sent for pending in client._commits._pending.values())  # type: ignore[attr-defined]
            )
            closing = asyncio.create_task(sync.aclose())
            await asyncio.sleep(0.05)  # it waits for the answer now
            assert not closing.done()
            closing.cancel()
            await asyncio.wait([closing])
            assert not [
                task
                for task in asyncio.all_tasks()
                if task.get_name().startswith("datasync commits")
            ]
            with pytest.raises(OutcomeUnknown):
                await writing
            proxy.resume()

    leaves_nothing(run, main, "AioChannel")


def test_a_list_that_is_given_up_ends_its_call(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one, proxy_to(one.port) as proxy:
            source = open_url(f"grpc://127.0.0.1:{proxy.port}")
            assert (await source.page("", None, 10))[1] is None
            proxy.pause()
            asking = asyncio.create_task(source.page("", None, 10))
            await asyncio.sleep(0.05)
            asking.cancel()
            await asyncio.wait([asking])
            proxy.resume()
            await source.aclose()

    leaves_nothing(run, main, "AioChannel", "_AioCall")
