"""Connections that come in at the sockets of a listener; also while there are
no descriptors left for them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Sequence

from datasync.texts import logger

__all__ = ["Acceptor"]

log = logger("datasync.rest")

_BACKLOG = 1024
_AT_ONCE = 64
_PAUSE = 1.0
"""Seconds after which it is tried again where there was nothing left to
accept a connection with."""
_SAID = 60.0
"""Seconds within which that is said once."""
_NOTHING_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Takes what comes at sockets that are bound. asyncio's own would log a thousand errors each
    second that there are no descriptors, and is used only in loops that cannot watch sockets."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        protocol: Callable[[], asyncio.Protocol],
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self._sockets = sockets
        self._protocol = protocol
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._taking: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._closed = False
        self._said_at = -_SAID

    async def start(self) -> None:
        """Begin."""
        for listening in self._sockets:
            listening.setblocking(False)
            listening.listen(_BACKLOG)
            try:
                self._loop.add_reader(listening, self._accept, listening)
            except NotImplementedError:
                server = await self._loop.create_server(
                    self._protocol, sock=listening, ssl=self._one_context(), backlog=_BACKLOG
                )
                self._servers.append(server)

    async def stop(self) -> None:
        """Take nothing more. What has been accepted is a connection when this
        returns, or in its handshake."""
        self._closed = True
        for listening in self._sockets:
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_reader(listening)
        for _ in range(2):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        for listening in self._sockets:
            listening.close()

    async def aclose(self) -> None:
        """End the handshakes, which a client may draw out. To be called after `stop`."""
        for task in self._taking:
            task.cancel()
        if self._taking:
            await asyncio.wait(self._taking)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NOTHING_LEFT:
                    raise
                self._pause(listening, error)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._take(connection))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Leave the connections where they are for a while: they would be
        reported again at once."""
        now = self._loop.time()
        if now - self._said_at >= _SAID:
            where = "{}:{}".format(*listening.getsockname()[:2])
            text = (
                "%s: no more connections can be accepted now (%s); raise the limit of open files, "
                "see ulimit -n"
            )
            log.warning(text, where, error.strerror)
        self._said_at = now
        self._loop.remove_reader(listening)
        self._loop.call_later(_PAUSE, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listening, self._accept, listening)

    async def _take(self, connection: socket.socket) -> None:
        try:
            context = None if self._tls is None else self._tls()
            await self._loop.connect_accepted_socket(self._protocol, connection, ssl=context)
        except (OSError, TimeoutError):  # also of TLS: the client is told, and the log need not be
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise

    def _one_context(self) -> ssl.SSLContext | None:
        """For asyncio's own, which takes one: each handshake goes on with that of its moment."""
        if (tls := self._tls) is None:
            return None

        def renew(
            handshake: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
        ) -> None:
            handshake.context = tls()

        context = tls()
        context.sni_callback = renew  # which is called without a name, too
        return context
