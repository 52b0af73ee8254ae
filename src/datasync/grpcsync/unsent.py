"""Messages that clients are slow to take: each has its time, and all of
them together are bounded."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from datasync.grpcsync.connections import cut
from datasync.serving.unsent import Unsent

__all__ = ["STALLED", "Message", "Messages"]

STALLED = 60.0
"""Seconds within which a client has to make room for a message, by reading those before it."""
_ENDED = 60.0
"""Seconds that it has then to read that its call has ended."""
_SLOW = 5.0
"""Seconds that it has where others wait for the room."""
_MOST = 256 << 20
"""Bytes of messages that wait at a time, for all clients; one message may be larger."""


class Message:
    """One on its way to a client. connection: what it goes over. since: when it was
    begun, by the loop's clock."""

    __slots__ = ("connection", "since", "timer")

    def __init__(self, connection: _Connection, since: float) -> None:
        self.connection = connection
        self.since = since
        self.timer: asyncio.TimerHandle | None = None


class _Connection:
    """One on which something waits."""

    __slots__ = ("messages", "moved", "peer")

    def __init__(self, peer: str, moved: float) -> None:
        self.peer = peer
        self.messages: set[Message] = set()
        self.moved = moved
        """When the client last took anything."""


class Messages:
    """The messages of one server that grpc keeps for its clients.

    grpc does not give back what it was given, and ends no call before that is read: what may not
    stay goes with its connection. port: where the server listens.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._unsent: Unsent[Message] = Unsent(_MOST)
        self._connections: dict[str, _Connection] = {}
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()

    def has_room(self, size: int) -> bool:
        """Whether a message of that size may begin; those who have read nothing
        for too long make room for it."""
        return self._unsent.make_room(size, self._let_go)

    def _let_go(self, oldest: Message) -> bool:
        waits = asyncio.get_running_loop().time() - oldest.since
        return waits >= _SLOW and self._cut(oldest.connection)

    def begin(self, context: Any, size: int) -> Message:
        """A message is about to be sent; 0: nothing but how its call ends."""
        now, peer = asyncio.get_running_loop().time(), context.peer()
        connection = self._connections.setdefault(peer, _Connection(peer, now))
        message = Message(connection, now)
        connection.messages.add(message)
        self._unsent.begin(message, size)
        return message

    async def begin_in_turn(self, context: Any, size: int) -> Message:
        """The same, as soon as there is room."""
        async with self._turn:
            while not self.has_room(size):
                self._room.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SLOW):
                        await self._room.wait()
            return self.begin(context, size)

    def end(self, message: Message) -> None:
        """It was taken, or is not wanted any more."""
        if message.timer is not None:
            message.timer.cancel()
        if self._forget(message):
            message.connection.moved = asyncio.get_running_loop().time()

    def end_with_task(self, message: Message, *, unread: bool = False) -> None:
        """The same once the running task is done: nothing is left for it to do but to wait for the
        client. unread: it has waited in vain before."""
        task = asyncio.current_task()
        assert task is not None
        self._look_at(message, message.since + STALLED + (_ENDED if unread else 0))
        task.add_done_callback(lambda _: self.end(message))

    def _look_at(self, message: Message, at: float) -> None:
        message.timer = asyncio.get_running_loop().call_at(at, self._look, message)

    def _look(self, message: Message) -> None:
        """Cut the connection of a message that waits for too long, unless
        its client still takes others."""
        due = message.connection.moved + STALLED
        if asyncio.get_running_loop().time() < due:
            self._look_at(message, due)
        else:
            self._cut(message.connection)

    def _cut(self, connection: _Connection) -> bool:
        """Whether it was found."""
        if not cut(connection.peer, self._port):
            return False
        for message in list(connection.messages):
            self._forget(message)
        return True

    def _forget(self, message: Message) -> bool:
        """Whether it was still known."""
        if not self._unsent.end(message):
            return False
        connection = message.connection
        connection.messages.discard(message)
        if not connection.messages:
            del self._connections[connection.peer]
        self._room.set()
        return True
