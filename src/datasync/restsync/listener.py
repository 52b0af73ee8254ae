"""The HTTP server of an agent, on one address: uvicorn's protocol, with bounds on how a request may come."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

__all__ = ["Listener"]

_HEAD_TIME = 10.0
"""Seconds within which the head of a request has to be here, from the first byte or the connection on."""
_BODY_TIME = 60.0
"""Seconds within which the rest of it has to be here."""
_HEAD_BYTES = 64 << 10
_KEEP_ALIVE = 30
_LAST_ANSWERS = 2.0
"""Seconds that requests under way are given at the end."""


class Listener:
    """Serves an ASGI application on a socket, within the event loop that is running."""

    def __init__(self, app: Any, tls: ssl.SSLContext | None = None) -> None:
        self._config = Config(
            app, http=_Protocol, ws="none", lifespan="off", log_config=None, log_level="critical", access_log=False,
            server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=_KEEP_ALIVE, loop="none",
        )  # fmt: skip
        self._tls = tls
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one where 0 was asked for. Raises `OSError`."""
        self._config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Protocol(self._config, self._state, {}, loop), host, port, ssl=self._tls, backlog=1024
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def aclose(self) -> None:
        """Take nothing more, let requests end within a short time, and cut what remains."""
        if self._server is None:
            return
        # closed at once, asyncio would leave open what it has just accepted; two turns later that is a connection
        with contextlib.suppress(NotImplementedError):  # not every kind of loop does it that way
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening)
            for _ in range(2):
                await asyncio.sleep(0)
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._end(self._state.tasks, _LAST_ANSWERS)
        for connection in list(self._state.connections):
            connection.transport.abort()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await self._end(tasks, _LAST_ANSWERS)
        with contextlib.suppress(TimeoutError):  # G12: a client may take its time in the handshake of TLS
            async with asyncio.timeout(_LAST_ANSWERS):
                await self._server.wait_closed()
        self._server = None

    async def _end(self, tasks: Any, seconds: float) -> None:
        if tasks:
            await asyncio.wait(list(tasks), timeout=seconds)


class _Protocol(HttpToolsProtocol):
    """Cuts connections whose request does not come, or does not end: they would hold memory for nothing."""

    def __init__(self, config: Config, state: ServerState, app_state: dict[str, Any], loop: Any = None) -> None:
        super().__init__(config, state, app_state, loop)
        self._coming = True
        """Whether a request is not complete; at first one is waited for."""
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEAD_TIME, self._cut)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _HEAD_BYTES:
            self._cut()
        elif not self._coming:
            self._stop_timer()  # most requests come as a whole, and cost no timer
        elif self._timer is None:
            self._timer = self.loop.call_later(_HEAD_TIME if self._head_bytes >= 0 else _BODY_TIME, self._cut)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._coming = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_bytes >= 0:  # what comes behind the body is no header, though it may be called like one
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

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()
