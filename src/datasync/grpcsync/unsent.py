"""Messages that clients are slow to take: each has its time, and all of
them together are bounded."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Any

from datasync.grpcsync.connections import cut
from datasync.serving.unsent import Unsent

__all__ = ["STALLED", "Message", "Messages", "Room", "Unread"]

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
        self._written: dict[Message, asyncio.Timeout] = {}
        """What is being written, the oldest first, and the block that writes it."""
        self._watch: asyncio.TimerHandle | None = None
        """Looks for what has been written for too long; one for all of it."""

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
        connection = self._connections.get(peer)
        if connection is None:
            connection = self._connections[peer] = _Connection(peer, now)
        message = Message(connection, now)
        connection.messages.add(message)
        self._unsent.begin(message, size)
        return message

    async def begin_in_turn(self, context: Any, size: int) -> Message:
        """The same, as soon as there is room."""
        if not self._turn.locked() and self.has_room(size):
            return self.begin(context, size)
        async with self._turn:
            while not self.has_room(size):
                self._room.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SLOW):
                        await self._room.wait()
            return self.begin(context, size)

    def written_in(self, block: asyncio.Timeout, message: Message) -> None:
        """The message is being written in that block, whose time is over once it has waited for
        too long."""
        self._written[message] = block
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_at(message.since + STALLED, self._end_old)

    def written(self, message: Message) -> None:
        """It is not being written any more."""
        self._written.pop(message, None)

    def _end_old(self) -> None:
        """End the blocks whose time is over, and look again when the next one's may be."""
        self._watch, loop = None, asyncio.get_running_loop()
        while self._written:
            message, block = next(iter(self._written.items()))
            due = message.since + STALLED
            if due > loop.time():
                self._watch = loop.call_at(due, self._end_old)
                return
            del self._written[message]
            block.reschedule(due)

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


class Unread(Exception):
    """The client does not read. pending: what waits for it."""

    def __init__(self, pending: Message) -> None:
        super().__init__()
        self.pending = pending


class Room:
    """Waits for room for a message, which is to be made and written in the block, and there while
    the client does not read. Raises `Unread`, which ends the call, where that lasts: what is kept
    for the client is let go.
    """

    __slots__ = ("_block", "_context", "_message", "_messages", "_size")
    _block: asyncio.Timeout
    _message: Message

    def __init__(self, messages: Messages, context: Any, size: int) -> None:
        self._messages = messages
        self._context = context
        self._size = size

    async def __aenter__(self) -> None:
        messages = self._messages
        self._message = await messages.begin_in_turn(self._context, self._size)
        self._block = asyncio.timeout(None)
        messages.written_in(self._block, self._message)
        await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._messages.written(self._message)
        try:
            await self._block.__aexit__(kind, error, trace)
        except TimeoutError:
            raise Unread(self._message) from None
        self._messages.end(self._message)
