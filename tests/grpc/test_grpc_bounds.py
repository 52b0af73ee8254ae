"""Servers that speak datasync's protocol in bad faith: bounded, told by typed errors, and tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from datasync import AnswerTooLarge, BadUrl, DataSync, Disconnected, open_url
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync.wire import FrameReader
from datasync.testing.contract import eventually
from tests.load import QUICK
from tests.memory import memory_below
from tests.raw_grpc import answering

_MIB = 1 << 20
_LIMIT = f"max_answer={_MIB}"


def _piece(number: int) -> bytes:
    commit = pb.Commit(position="x.1", revision=5, keys=[f"a/{number}"], values=[bytes(50_000)], more=True)
    return pb.WatchReply(frames=[pb.Frame(commit=commit)]).SerializeToString()


def _services() -> str:
    [service] = pb.DESCRIPTOR.services_by_name.values()
    return f"/{service.full_name}/"


def test_one_answer_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        answers = {_services() + "Get": lambda _: pb.GetReply(value=bytes(2 * _MIB)).SerializeToString()}
        async with answering(answers) as port, asyncio.timeout(60):
            source = open_url(f"grpc://127.0.0.1:{port}?{_LIMIT}")
            with pytest.raises(AnswerTooLarge, match=r"more than 1048576 bytes.*max_answer="):
                await source.get("a/1")
            await source.aclose()
        async with answering({_services() + "Get": lambda _: b"\xff" * 9}) as port, asyncio.timeout(60):
            source = open_url(f"grpc://127.0.0.1:{port}?{_LIMIT}")
            with pytest.raises(Disconnected, match="not understood"):
                await source.get("a/1")
            await source.aclose()

    asyncio.run(main())
    assert not caplog.records  # who answers in bad faith does not fill the log


def test_a_transaction_in_pieces_without_an_end_is_bounded() -> None:
    async def endless(_: bytes) -> AsyncIterator[bytes]:
        for number in range(2_000):  # 100 MB
            yield _piece(number)

    async def main() -> None:
        async with (
            answering({_services() + "Watch": endless}) as port,
            DataSync(f"grpc+watch://127.0.0.1:{port}?{_LIMIT}", **QUICK) as sync,
        ):
            sync.watch("all", "a/")
            with memory_below(16 * _MIB):
                await eventually(lambda: "max_answer=" in (sync.status().sources[0].error or ""))

    asyncio.run(main())


def test_columns_of_different_lengths() -> None:
    commit = pb.Commit(position="x.1", revision=5, keys=["a", "b"], values=[b"1"])
    with pytest.raises(Disconnected, match="no event of datasync"):
        FrameReader("the server").frames(pb.WatchReply(frames=[pb.Frame(commit=commit)]))


def test_a_bound_that_is_none() -> None:
    with pytest.raises(BadUrl, match="max_answer= takes a number of bytes from 65536 on"):
        open_url("grpc://127.0.0.1:1?max_answer=1")
