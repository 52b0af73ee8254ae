"""Servers that speak HTTP in bad faith: bounded, told by typed errors,
and tried again like any lost one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from datasync import AnswerTooLarge, BadUrl, DataSync, Disconnected, OutcomeUnknown, open_url
from datasync.restsync._problems import MARK, STREAMED
from datasync.source import Put
from datasync.testing.contract import eventually
from tests.helpers.load import QUICK, lost_because, state_of, watched
from tests.helpers.memory import memory_below
from tests.helpers.rest.served import served
from tests.helpers.servers import drip, listening

Run = Callable[[Any], None]

_MIB = 1 << 20
_LIMIT = f"max_answer={_MIB}"
_STREAM = (
    f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{MARK}: {STREAMED}\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
).encode()
_PIECE = b"x" * 65_536


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@contextlib.asynccontextmanager
async def saying(head: bytes, piece: bytes = b"") -> AsyncIterator[str]:
    """The URL of a server that says `head` to every request, and `piece` for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        while piece:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}?{_LIMIT}"


_ANSWERS = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**60, b""),
    "a body": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", _PIECE),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", _chunk(_PIECE)),
    "one chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", _PIECE),
}


@pytest.mark.parametrize("answer", _ANSWERS)
def test_one_answer_is_bounded(run: Run, answer: str) -> None:
    async def main() -> None:
        async with saying(*_ANSWERS[answer]) as url, asyncio.timeout(60):
            source = open_url(f"{url}&timeout=30")
            with memory_below(8 * _MIB):
                for read in (source.get("a/1"), source.page("a/", None, 10)):
                    with pytest.raises(
                        AnswerTooLarge, match=r"more than 1048576 bytes.*max_answer="
                    ):
                        await read
                with pytest.raises(OutcomeUnknown, match="max_answer="):
                    await source.commit([Put("a/1", b"1")])
            await source.aclose()

    run(main())


@pytest.mark.parametrize("piece", [b"x", b"\n", b"data: ", b"data: x\ndata: y\n"])
def test_one_event_is_bounded(run: Run, piece: bytes) -> None:
    """It drops the connection, shows why, and is tried again."""

    async def main() -> None:
        begin = _chunk(b"event: commit\ndata: ")
        endless = (
            _chunk((piece.replace(b"\n\n", b"\n") * 65_536)[:65_536])
            if piece != b"\n"
            else _chunk(b"x\n" * 32_768)
        )
        async with saying(_STREAM + begin, endless) as url, DataSync(url, **QUICK) as sync:
            with memory_below(8 * _MIB):
                sync.watch("all", "")
                await eventually(lambda: lost_because(sync, "max_answer="))

    run(main())


_DRIPS = {
    "a head": b"HTTP/1.1 200 OK\r\nX-Long: ",
    "an answer": b"HTTP/1.1 200 OK\r\n%s: 99999\r\nContent-Length: 99999\r\n\r\n" % MARK.encode(),
    "one of something else": b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
}


@pytest.mark.parametrize("head", _DRIPS)
def test_an_answer_that_drips_is_given_up(run: Run, head: str) -> None:
    """However little time passes between its bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await drip(writer, _DRIPS[head])

    async def main() -> None:
        async with listening(serve) as port, asyncio.timeout(60):
            source = open_url(f"http://127.0.0.1:{port}?timeout=0.2")
            reads: list[Any] = [source.get("a/1"), source.page("a/", None, 10)]
            if head == "an answer":  # to who would follow, too
                reads.append(source.open(["a/"]))
            for read in reads:
                with pytest.raises(Disconnected, match="no answer in time"):
                    await read
            with pytest.raises(OutcomeUnknown, match="no answer in time"):
                await source.commit([Put("a/1", b"1")])
            await source.aclose()

    run(main())


def test_heads_without_an_end(run: Run) -> None:
    async def main() -> None:
        continued = b"HTTP/1.1 100 Continue\r\n\r\n" * 100
        for head, piece in ((b"", continued), (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1_000)):
            async with saying(head, piece) as url, asyncio.timeout(60):
                source = open_url(f"{url}&timeout=1")
                with pytest.raises(Disconnected):
                    await source.get("a/1")
                with pytest.raises(OutcomeUnknown):
                    await source.commit([Put("a/1", b"1")])
                await source.aclose()

    run(main())


def _answer(body: bytes) -> bytes:
    head = (
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{MARK}: {len(body)}\r\n"
        "Connection: close"
    )
    return f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"items":' + b"[" * 100_000,
        b'{"revision":"","items":[{"key":"a","value_base64":"A"}]}',
        b"\xff",
    ],
)
def test_bodies_that_are_not_understood(run: Run, body: bytes) -> None:
    async def main() -> None:
        async with saying(_answer(body)) as url, asyncio.timeout(60):
            source = open_url(url)
            with pytest.raises(Disconnected):
                await source.page("a/", None, 10)
            with pytest.raises(OutcomeUnknown):
                await source.commit([Put("a/1", b"1")])
            await source.aclose()

    run(main())


_BEGIN = b'event: snapshot-begin\ndata: {"scopes":[""]}\n\n'
_END = b'event: snapshot-end\nid: x.1\ndata: {"revision":10,"history":"h"}\n\n'
_EVENTS = {
    "no JSON": b"event: commit\nid: x.2\ndata: {\n\n",
    "deep": b'event: commit\nid: x.2\ndata: {"x":' + b"[" * 100_000 + b"\n\n",
    "no text": b'event: commit\nid: \xff\ndata: {"revision":11,"changes":[]}\n\n',
    "no base64": b"event: commit\nid: x.2\ndata: "
    b'{"revision":11,"changes":[{"op":"","key":"","value_base64":"A"}]}\n\n',
    "revisions that go back": b"event: commit\nid: x.2\ndata: "
    b'{"revision":5,"changes":[{"op":"put","key":"a"}]}\n\n',
}


@pytest.mark.parametrize("event", _EVENTS)
def test_events_that_are_not_understood(run: Run, event: str) -> None:
    async def main() -> None:
        head = _STREAM + _chunk(_BEGIN + _END + _EVENTS[event])
        async with (
            saying(head) as url,
            watched(url, "", ping_interval=30, ping_timeout=30) as (sync, probe),
        ):
            await eventually(
                lambda: state_of(sync) == "lost" and bool(sync.status().sources[0].error)
            )
            text = sync.status().sources[0].error or ""
            assert "go back" in text or "not an event of datasync" in text
            assert not probe.changes

    run(main())


def test_a_value_that_is_too_large_is_read_once_it_is_allowed(run: Run) -> None:
    """With a server of ours: its snapshot has the value in one event."""

    async def main() -> None:
        async with served() as server:
            await server.source.commit([Put("a/1", b"1"), Put("a/huge", b"x" * 2 * _MIB)])
            async with watched(f"{server.url}?{_LIMIT}", "a/") as (sync, _):
                await eventually(lambda: "max_answer=" in (sync.status().sources[0].error or ""))
            async with watched(f"{server.url}?max_answer={4 * _MIB}", "a/") as (sync, probe):
                await sync.ready(60)
                assert len(probe.state["a/huge"]) == 2 * _MIB

    run(main())


def test_a_bound_that_is_none() -> None:
    with pytest.raises(BadUrl, match="max_answer= takes a number of bytes >= 65536"):
        open_url("http://127.0.0.1:1?max_answer=1")
