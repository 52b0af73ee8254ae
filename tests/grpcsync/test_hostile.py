"""Oversized and malformed messages, and connections that come and go: the agent works on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc.aio
import pytest

from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync import server, service
from datasync.serving import cursors
from tests.helpers.grpc.agents import Agent, agent, change, changes, client, resync
from tests.helpers.logs import logged

Run = Callable[[Coroutine[Any, Any, None]], None]
METHODS = [
    *(f"/msg.DataMsgService/{name}" for name in ("dataChanges", "dataResyncs", "ping")),
    *(f"/datasync.v1.DataSync/{name}" for name in ("Commit", "Replace", "Get", "List", "Watch")),
    *(f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch")),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]


async def works(one: Agent) -> None:
    """The agent still takes a change."""
    async with client(one.address) as stub:
        number = os.urandom(4)
        [reply] = await changes(stub, [change("config/works", number)])
        assert (reply.result, one.state["config/works"]) == (0, number)


async def send(channel: grpc.aio.Channel, method: str, *messages: bytes) -> grpc.StatusCode:
    """Send bytes as they are; the status that the call ends with."""
    call: Any = channel.stream_stream(method)(timeout=20)
    try:
        for message in messages:
            await call.write(message)
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return await call.code()  # type: ignore[no-any-return]


async def end_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """Read all of an answer: how it ends."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError:
        pass  # the status says it as well
    return await call.code(), await call.details()


@pytest.mark.parametrize("method", METHODS)
def test_malformed_messages(run: Run, caplog: pytest.LogCaptureFixture, method: str) -> None:
    async def main() -> None:
        async with (
            agent("?initial=empty") as one,
            grpc.aio.insecure_channel(one.address) as channel,
        ):
            # no protobuf; no UTF-8
            for message in (b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x01\xff"):
                code = await send(channel, method, message)
                assert code is grpc.StatusCode.INVALID_ARGUMENT
            await works(one)

    run(main())
    assert not logged(caplog, logging.WARNING)  # any client could fill it


@pytest.mark.parametrize("method", METHODS)
def test_oversized_messages(run: Run, method: str) -> None:
    async def main() -> None:
        options = [("grpc.max_send_message_length", -1)]
        async with (
            agent("?initial=empty") as one,
            grpc.aio.insecure_channel(one.address, options=options) as channel,
        ):
            code = await send(channel, method, bytes((16 << 20) + 1))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            await works(one)

    run(main())


def test_transactions_that_make_no_sense_are_named(run: Run) -> None:
    async def main() -> None:
        async with (
            agent("?initial=empty") as one,
            grpc.aio.insecure_channel(one.address) as channel,
        ):
            wrong = [
                pb.CommitRequest(keys=["config/a", "config/a"], values=[b"", b""]),
                pb.CommitRequest(keys=["config/a"]),
                pb.CommitRequest(keys=[""], values=[b""]),
                pb.CommitRequest(keys=["config/a"], values=[b""], ttls=[-1.0]),
                pb.CommitRequest(keys=["config/a"], values=[b""], ttls=[float("nan")]),
                pb.CommitRequest(
                    keys=["config/a"], values=[b""], deletes=[pb.Delete(key="config/", prefix=True)]
                ),
                pb.CommitRequest(deletes=[pb.Delete(key="config", prefix=True)]),
                pb.CommitRequest(deletes=[pb.Delete(key="")]),
                pb.CommitRequest(keys=["config/a"], values=[b""], checks=[pb.Check(key="")]),
            ]
            for number, request in enumerate(wrong):
                request.id = number
            rpc: Any = channel.stream_stream(
                "/datasync.v1.DataSync/Commit",
                request_serializer=pb.CommitRequests.SerializeToString,
                response_deserializer=pb.CommitReplies.FromString,
            )

            async def requests() -> AsyncIterator[pb.CommitRequests]:
                yield pb.CommitRequests(commits=wrong)

            replies = [reply async for batch in rpc(requests()) for reply in batch.replies]
            names = [reply.error.name for reply in sorted(replies, key=lambda reply: int(reply.id))]
            assert names == [
                "BadKey",
                "BadValue",
                "BadKey",
                "BadValue",
                "BadValue",
                "BadKey",
                "BadPrefix",
            ] + 2 * ["BadKey"]
            reply = await channel.stream_unary(
                "/datasync.v1.DataSync/Replace",
                pb.ReplaceRequest.SerializeToString,
                pb.CommitReply.FromString,
            )(iter([pb.ReplaceRequest(keys=["config/a", "config/b"], values=[b""])]))
            assert reply.error.name == "BadValue"
            assert one.state == {}
            await works(one)

    run(main())


def test_whoever_reads_no_answers_may_not_go_on_writing(run: Run) -> None:
    async def main() -> None:
        async with (
            agent("?initial=empty") as one,
            grpc.aio.insecure_channel(one.address) as channel,
        ):
            call: Any = channel.stream_stream(
                "/datasync.v1.DataSync/Commit", pb.CommitRequests.SerializeToString
            )()
            sent = 0

            async def flood() -> None:
                nonlocal sent
                # the answer repeats it
                commits = [
                    pb.CommitRequest(deletes=[pb.Delete(key="x" * 1000, prefix=True)])
                    for _ in range(100)
                ]
                while sent < 1000:
                    await call.write(pb.CommitRequests(commits=commits))
                    sent += 1

            flooding = asyncio.create_task(flood())
            before = -1
            while before < sent < 1000:  # until it gets no further
                before = sent
                await asyncio.sleep(0.5)
                await works(one)
            assert sent < 1000
            flooding.cancel()
            call.cancel()
            await asyncio.wait([flooding])

    run(main())


def test_lists_that_are_left_open_keep_no_more_than_a_few_snapshots(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursors, "_BYTES", 1 << 20)

    async def main() -> None:
        small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
        async with (
            agent("?initial=empty") as one,
            grpc.aio.insecure_channel(one.address, options=small) as channel,
        ):
            async with client(one.address) as stub:
                await resync(stub, [(f"config/{number:04}", bytes(7000)) for number in range(2200)])

            listing: Any = channel.unary_stream(
                "/datasync.v1.DataSync/List",
                pb.ListRequest.SerializeToString,
                pb.ListReply.FromString,
            )
            calls = [listing(pb.ListRequest(), timeout=60) for _ in range(10)]
            # nothing but the start: the rest of the first page waits for the client
            for call in calls:
                assert (await call.read()).more
            await works(one)

            ends = [await end_of(call) for call in calls]
            assert ends.count((grpc.StatusCode.OK, "")) == 4
            assert (
                ends.count(
                    (grpc.StatusCode.UNAVAILABLE, "the list was read too slowly; list again")
                )
                == 6
            )
            await works(one)

    run(main())


def test_states_that_are_not_complete_are_bounded_in_sum(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_COMING", 1_000_000)
    part = pb.ReplaceRequest(keys=["config/a"], values=[b"x" * 600_000]).SerializeToString()

    async def main() -> None:
        async with (
            agent("?initial=empty") as one,
            grpc.aio.insecure_channel(one.address) as channel,
        ):
            method = "/datasync.v1.DataSync/Replace"
            for _ in range(3):  # what is refused, or complete, is counted no more
                first: Any = channel.stream_unary(method)(timeout=60)
                await first.write(part)
                second = grpc.StatusCode.OK
                # the first may come behind it
                while second is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    second = await send(channel, method, part)
                await first.done_writing()
                assert not pb.CommitReply.FromString(await first).HasField("error")
            assert one.state == {"config/a": b"x" * 600_000}
            await works(one)

    run(main())


def test_a_state_whose_next_part_does_not_come_is_let_go(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_STALLED", 0.1)

    async def main() -> None:
        async with (
            agent("?initial=empty") as one,
            grpc.aio.insecure_channel(one.address) as channel,
        ):
            call: Any = channel.stream_unary("/datasync.v1.DataSync/Replace")(timeout=60)
            await call.write(
                pb.ReplaceRequest(keys=["config/a"], values=[b"1"]).SerializeToString()
            )
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert "send it again" in await call.details()
            await works(one)

    run(main())


def test_so_many_may_ask_for_the_health_at_a_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CHECKS", 3)

    async def main() -> None:
        async with (
            agent("?initial=empty&token=secret") as one,
            grpc.aio.insecure_channel(one.address) as channel,
        ):
            watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
            open_calls = [watch(b"", timeout=60) for _ in range(3)]
            for call in open_calls:
                await call.read()
            code, details = await end_of(watch(b"", timeout=60))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "try again later" in details
            open_calls[0].cancel()

            check = "/grpc.health.v1.Health/Check"
            while await send(channel, check, b"") is grpc.StatusCode.RESOURCE_EXHAUSTED:
                pass  # the server hears of it soon
            for call in open_calls:
                call.cancel()

    run(main())


def test_connections_that_come_and_go(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one:

            async def come_and_go(number: int) -> None:
                _, writer = await asyncio.open_connection("127.0.0.1", one.port)
                preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(200)
                writer.write((preface, b"GET / HTTP/1.1\r\n\r\n", b"")[number % 3])
                await writer.drain()
                writer.transport.abort()

            async def watch_and_go() -> None:
                async with grpc.aio.insecure_channel(one.address) as channel:
                    rpc: Any = channel.unary_stream(
                        "/datasync.v1.DataSync/Watch",
                        request_serializer=pb.WatchRequest.SerializeToString,
                    )
                    await rpc(pb.WatchRequest(scopes=[""])).read()

            for start in range(0, 200, 20):
                await asyncio.gather(*map(come_and_go, range(start, start + 20)), watch_and_go())
            await works(one)

    run(main())
