"""Servers that speak datasync's protocol in bad faith: bounded, told by typed errors,
and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from datasync import AnswerTooLarge, BadUrl, DataSync, Disconnected, OutcomeUnknown, open_url
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync.wire import FrameReader
from datasync.source import Put
from datasync.testing.contract import eventually
from tests.helpers.load import QUICK, lost_because
from tests.helpers.logs import logged
from tests.helpers.memory import memory_below
from tests.helpers.raw_grpc import answering

_MIB = 1 << 20
_LIMIT = f"max_answer={_MIB}"


def _piece(number: int) -> bytes:
    commit = pb.Commit(
        position="x.1", revision=5, keys=[f"a/{number}"], values=[bytes(50_000)], more=True
    )
    return pb.WatchReply(frames=[pb.Frame(commit=commit)]).SerializeToString()


def _services() -> str:
    [service] = pb.DESCRIPTOR.services_by_name.values()
    return f"/{service.full_name}/"


def test_one_answer_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        answers = {
            _services() + "Get": lambda _: pb.GetReply(value=bytes(2 * _MIB)).SerializeToString()
        }
        async with answering(answers) as port, asyncio.timeout(60):
            source = open_url(f"grpc://127.0.0.1:{port}?{_LIMIT}")
            with pytest.raises(AnswerTooLarge, match=r"more than 1048576 bytes.*max_answer="):
                await source.get("a/1")
            await source.aclose()
        async with (
            answering({_services() + "Get": lambda _: b"\xff" * 9}) as port,
            asyncio.timeout(60),
        ):
            source = open_url(f"grpc://127.0.0.1:{port}?{_LIMIT}")
            with pytest.raises(
                Disconnected, match=r"a message is not understood.*check the address"
            ):
                await source.get("a/1")
            await source.aclose()

    asyncio.run(main())
    assert not logged(caplog)  # who answers in bad faith does not fill the log


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


def test_what_is_no_message_is_named_and_tried_again() -> None:
    """It does not look like the end of the stream, which is nothing out of the ordinary."""
    broken = [2]
    frames = [
        pb.Frame(begin=pb.SnapshotBegin(scopes=["a/"])),
        pb.Frame(end=pb.SnapshotEnd(position="x.1", revision=1)),
    ]

    async def watch(_: bytes) -> AsyncIterator[bytes]:
        if broken[0]:
            yield b"\xff" * 9
        yield pb.WatchReply(frames=frames).SerializeToString()
        await asyncio.sleep(60)

    async def main() -> None:
        async with (
            answering({_services() + "Watch": watch}) as port,
            DataSync(f"grpc+watch://127.0.0.1:{port}", **QUICK) as sync,
        ):
            view = sync.view("a/")
            await eventually(lambda: lost_because(sync, "a message is not understood"), 60)
            broken[0] = 0
            await sync.ready(60)
            assert not view

    asyncio.run(main())


def test_a_write_whose_answer_is_no_message_is_unknown() -> None:
    async def noise(_: bytes) -> AsyncIterator[bytes]:
        yield b"\xff" * 9

    async def main() -> None:
        answers = {
            _services() + "Commit": noise, _services() + "Replace": noise,
            _services() + "List": noise,
            "/msg.DataMsgService/ping": lambda _: b"",
        }  # fmt: skip
        async with answering(answers) as port, asyncio.timeout(60):
            source = open_url(f"grpc://127.0.0.1:{port}")
            with pytest.raises(OutcomeUnknown, match=r"a message is not understood.*read the key"):
                await source.commit([Put("a/1", b"1")])
            with pytest.raises(
                OutcomeUnknown, match=r"a message is not understood.*send the RESYNC again"
            ):
                await source.replace([("a/1", b"1")])
            with pytest.raises(Disconnected, match="a message is not understood"):
                await source.page("a/", None, 10)
            await source.aclose()

    asyncio.run(main())


def test_answers_to_what_nobody_asked_give_a_write_no_time() -> None:
    async def other(_: bytes) -> AsyncIterator[bytes]:
        while True:
            yield pb.CommitReplies(replies=[pb.CommitReply(id=99)]).SerializeToString()
            await asyncio.sleep(0.02)

    async def main() -> None:
        answers = {_services() + "Commit": other, "/msg.DataMsgService/ping": lambda _: b""}
        async with answering(answers) as port, asyncio.timeout(60):
            source = open_url(f"grpc://127.0.0.1:{port}?timeout=0.5")
            with pytest.raises(OutcomeUnknown, match="no answer within"):
                await source.commit([Put("a/1", b"1")])
            await source.aclose()

    asyncio.run(main())


def test_columns_of_different_lengths() -> None:
    commit = pb.Commit(position="x.1", revision=5, keys=["a", "b"], values=[b"1"])
    chunk = pb.Items(keys=["a"], values=[b"1"], revisions=[1, 2])
    for frame in (pb.Frame(commit=commit), pb.Frame(chunk=chunk)):
        with pytest.raises(Disconnected, match="not an answer of datasync"):
            FrameReader("the server").frames(pb.WatchReply(frames=[frame]))


def test_a_page_whose_columns_have_different_lengths() -> None:
    items = pb.Items(keys=["a", "b"], values=[b"1"], revisions=[1, 2])
    given_up = asyncio.Event()

    async def pages(_: bytes) -> AsyncIterator[bytes]:
        try:
            yield pb.ListReply(items=items, more=True).SerializeToString()
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async def main() -> None:
        async with (
            answering({_services() + "List": pages}) as port,
            asyncio.timeout(60),
            contextlib.aclosing(open_url(f"grpc+watch://127.0.0.1:{port}")) as source,
        ):
            with pytest.raises(Disconnected, match="not an answer of datasync"):
                await source.page("", None, 10)
            await given_up.wait()  # nobody will ask for the next one

    asyncio.run(main())


def test_a_bound_that_is_none() -> None:
    with pytest.raises(BadUrl, match="max_answer= takes a number of bytes >= 65536"):
        open_url("grpc://127.0.0.1:1?max_answer=1")
