"""What the HTTP server gives its sockets to send."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest

from datasync.restsync import listener
from datasync.restsync.listener import Listener
from tests.helpers.logs import logged
from tests.helpers.transports import CountingTransport

_REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
def transports(monkeypatch: pytest.MonkeyPatch) -> list[CountingTransport]:
    """Those of all connections that come in."""
    found: list[CountingTransport] = []
    made = listener._Protocol.connection_made

    def connection_made(protocol: Any, transport: Any) -> None:
        found.append(CountingTransport(transport))
        made(protocol, found[-1])

    monkeypatch.setattr(listener._Protocol, "connection_made", connection_made)
    return found


async def _start(send: Any, length: int) -> None:
    headers = [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


def test_an_answer_is_sent_at_once(transports: list[CountingTransport]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await _start(send, 5)
        await send({"type": "http.response.body", "body": b"hello"})

    async def main() -> None:
        server = Listener(app)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", await server.start("127.0.0.1", 0)
        )
        for count in range(1, 6):
            writer.write(_REQUEST)
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
            assert [transport.sent for transport in transports] == [count]  # head and body
        writer.write(_REQUEST * 3)
        for _ in range(3):
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        writer.close()
        await server.aclose()

    asyncio.run(main())


def test_a_head_does_not_wait_for_its_body(transports: list[CountingTransport]) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await _start(send, 5)
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"hello"})

        server = Listener(app)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", await server.start("127.0.0.1", 0)
        )
        async with asyncio.timeout(60):
            writer.write(_REQUEST)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            go_on.set()
            assert await reader.readexactly(5) == b"hello"
        assert [transport.sent for transport in transports] == [2]
        writer.close()
        await server.aclose()

    asyncio.run(main())


def test_what_is_sent_to_a_client_that_went_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gone = asyncio.Event()
        client = socket.socket()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await _start(send, 100)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()  # a reset, of which the server has not been told when it sends
            for _ in range(100):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            gone.set()

        server = Listener(app)
        client.connect(("127.0.0.1", await server.start("127.0.0.1", 0)))
        client.sendall(_REQUEST)
        async with asyncio.timeout(60):
            await gone.wait()
        await server.aclose()

    asyncio.run(main())
    assert not logged(caplog)


def test_a_close_behind_a_head_sends_it(transports: list[CountingTransport]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"connection", b"close"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        server = Listener(app)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", await server.start("127.0.0.1", 0)
        )
        writer.write(_REQUEST)
        async with asyncio.timeout(60):
            assert (await reader.read()).endswith(b"content-length: 0\r\n\r\n")
        writer.close()
        await server.aclose()

    asyncio.run(main())
