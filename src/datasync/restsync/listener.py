"""The HTTP server of an agent, on one address: uvicorn's protocol, with
bounds on how a request may come."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from datasync.restsync._acceptor import Acceptor
from datasync.restsync._requests import ABORT, STREAMS

__all__ = ["Listener"]

_HEAD_TIME = 10.0
"""Seconds within which the head of a request has to be here, from the first
byte or the connection on."""
_BODY_TIME = 60.0
"""Seconds within which the rest of it has to be here."""
_HEAD_BYTES = 64 << 10
_KEEP_ALIVE = 30
_LAST_ANSWERS = 2.0
"""Seconds that requests under way are given at the end."""
_STALLED = 60.0
_RESET = struct.pack("ii", 1, 0)
"""Lingering for no time at all."""
_UNSENT = 128 << 10
"""Bytes that the system keeps unsent: with more, a client that reads slowly seems not to read."""


class Listener:
    """Serves an ASGI application on a socket, within the event loop that is running.

    tls: what makes the context of each connection; None to serve without TLS.
    stalled: seconds within which a client has to take what it was sent; then its connection is cut.
    """

    def __init__(
        self,
        app: Any,
        tls: Callable[[], ssl.SSLContext] | None = None,
        *,
        stalled: float = _STALLED,
    ) -> None:
        self._config = Config(
            app, http=_Protocol, ws="none", lifespan="off", log_config=None, log_level="critical",
            access_log=False,
            server_header=False, date_header=False, proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE, loop="none",
        )  # fmt: skip
        self._tls = tls
        self._stalled = stalled
        self._state = ServerState()
        self._acceptor: Acceptor | None = None
        self.port = 0
        """Where it listens; 0 before the start."""

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one where 0 was asked for. Raises `OSError`."""
        self._config.load()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        sockets = [socket.socket(fileno=os.dup(bound.fileno())) for bound in server.sockets]
        server.close()
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # those that it accepts have it, too
            for listening in sockets:
                with contextlib.suppress(OSError):
                    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        self._acceptor = Acceptor(
            sockets, lambda: _Protocol(self._config, self._state, loop, self._stalled), self._tls
        )
        await self._acceptor.start()
        self.port = int(sockets[0].getsockname()[1])
        return self.port

    async def aclose(self) -> None:
        """Take nothing more, let requests end within a short time, and cut what remains."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is None:
            return
        await acceptor.stop()
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._end(self._state.tasks, _LAST_ANSWERS)
        for connection in list(self._state.connections):
            connection.transport.abort()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await self._end(tasks, _LAST_ANSWERS)
        await acceptor.aclose()
        for _ in range(2):  # until the loop has closed what was cut
            await asyncio.sleep(0)

    async def _end(self, tasks: Any, seconds: float) -> None:
        if tasks:
            await asyncio.wait(list(tasks), timeout=seconds)


class _Protocol(HttpToolsProtocol):
    """Cuts connections whose request does not come, or does not end, or whose answer is not taken.

    They would hold memory for nothing.
    """

    def __init__(self, config: Config, state: ServerState, loop: Any, stalled: float) -> None:
        super().__init__(config, state, {}, loop)
        self._stalled = stalled
        self._unread: asyncio.TimerHandle | None = None
        """Runs while something waits to be sent."""
        self._coming = True
        """Whether a request is not complete; at first one is waited for."""
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._answering: _Answering | None = None

    def connection_made(self, transport: Any) -> None:
        transport = _Joining(transport, self.loop)
        super().connection_made(transport)
        # whatever waits is told: a close, too, waits until all is sent
        transport.set_write_buffer_limits(high=1)
        self.app_state[ABORT] = functools.partial(_abort, transport)
        self._answering = _Answering(transport)
        self.app_state[STREAMS] = self._answering.begin_stream
        self._timer = self.loop.call_later(_HEAD_TIME, self._cut)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_unread()
        self._unread = self.loop.call_later(self._stalled, _abort, self.transport)

    def resume_writing(self) -> None:
        self._stop_unread()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _HEAD_BYTES:
            self._cut()
        elif not self._coming:
            self._stop_timer()  # most requests come as a whole, and cost no timer
        elif self._timer is None:
            self._timer = self.loop.call_later(
                _HEAD_TIME if self._head_bytes >= 0 else _BODY_TIME, self._cut
            )

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection, as a client may that has said all it wants to say,
        until what it asked is answered.

        Whether it has gone altogether shows only then, so a stream ends at once. TLS
        knows no half of a connection.
        """
        assert self._answering is not None
        if self.scheme == "https" or self._answering.streams or not self._owes_answers():
            return False
        self._answering.last = True
        self._stop_timer()
        return True

    def _owes_answers(self) -> bool:
        """Whether a request that has come as a whole is not answered yet; one
        that never will is forgotten."""
        if self._coming and self._head_bytes < 0:
            if not self.pipeline:
                return False
            self.pipeline.popleft()  # the newest; others are answered before it
            return True
        return self.cycle is not None and not self.cycle.response_complete

    def on_response_complete(self) -> None:
        more = bool(self.pipeline)
        super().on_response_complete()
        assert self._answering is not None
        self._answering.end(more=more)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._coming = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_bytes >= 0:
            # what comes after the body is not a header, though it may have the name of one
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_bytes = -1  # what follows is the body, whose size the application bounds
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._coming = False
        super().on_message_complete()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


class _Joining:
    """A transport that sends the head of an answer together with the body: uvicorn writes one
    after the other, and each by itself would be a system call and a packet.

    Nothing else depends on that: a head that comes with its body is sent at the end of the turn.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.is_closing = transport.is_closing
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        """Send it; a head with what follows, at the latest at the end of this turn of the loop."""
        if self.is_closing():  # the client has gone: asyncio would log each further piece
            return
        if self._head:
            self._send_head(data)
        elif data.startswith(b"HTTP/1."):
            self._head = data
            self._loop.call_soon(self._send_head)
        else:
            self._transport.write(data)

    def _send_head(self, body: bytes = b"") -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head + body)

    def close(self) -> None:
        """Close once all is sent."""
        self._send_head()
        self._transport.close()

    def abort(self) -> None:
        """Close now, whatever is not sent."""
        self._head = b""
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Answering:
    """What a connection is still used for; knows nothing of its protocol,
    which requests would keep (G9)."""

    def __init__(self, transport: _Joining) -> None:
        self._transport = transport
        self.streams = False
        """Whether the answer under way has no end."""
        self.last = False
        """Whether the client has ended its side, and only waits for answers."""

    def begin_stream(self) -> None:
        """The answer under way has no end."""
        self.streams = True
        if self.last:
            self._transport.close()

    def end(self, *, more: bool) -> None:
        """An answer is complete. more: another request waits for its own."""
        self.streams = False
        if self.last and not more:
            self._transport.close()


def _abort(transport: asyncio.Transport) -> None:
    """Reset the connection: what the system has for it is let go, too."""
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
