"""Messages that clients are slow to take: each has its time, and all of
them together are bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message as ProtobufMessage

from datasync.grpcsync.connections import cut
from datasync.serving.unsent import Unsent

__all__ = ["STALLED", "Connection", "Message", "Messages", "Outgoing", "Unread"]

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

    def __init__(self, connection: Connection, since: float) -> None:
        self.connection = connection
        self.since = since
        self.timer: asyncio.TimerHandle | None = None


class Connection:
    """One on which something waits, or may."""

    __slots__ = ("calls", "messages", "moved", "peer")

    def __init__(self, peer: str, moved: float) -> None:
        self.peer = peer
        self.messages: set[Message] = set()
        self.calls = 0
        """How many are under way that write more than one message."""
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
        self._connections: dict[str, Connection] = {}
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._written: dict[Message, Outgoing] = {}
        """What is being written, the oldest first, and the call that writes it."""
        self._watch: asyncio.TimerHandle | None = None
        """Looks for what has been written for too long; one for all of it."""

    def has_room(self, size: int) -> bool:
        """Whether a message of that size may begin; those who have read nothing
        for too long make room for it."""
        return self._unsent.make_room(size, self._let_go)

    def _let_go(self, oldest: Message) -> bool:
        waits = asyncio.get_running_loop().time() - oldest.since
        return waits >= _SLOW and self._cut(oldest.connection)

    def connection(self, context: Any) -> Connection:
        """The one that a call came over."""
        peer = context.peer()
        connection = self._connections.get(peer)
        if connection is None:
            now = asyncio.get_running_loop().time()
            connection = self._connections[peer] = Connection(peer, now)
        return connection

    def begin(self, connection: Connection, size: int) -> Message:
        """A message is about to be sent; 0: nothing but how its call ends."""
        message = Message(connection, asyncio.get_running_loop().time())
        connection.messages.add(message)
        self._unsent.begin(message, size)
        return message

    def has_room_now(self, size: int) -> bool:
        """Whether a message of that size may begin, and nobody waits for room before it."""
        return not self._turn.locked() and self.has_room(size)

    async def until_room(self, size: int) -> None:
        """Wait in turn until one may begin, at once."""
        async with self._turn:
            while not self.has_room(size):
                self._room.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SLOW):
                        await self._room.wait()

    def begin_writing(self, call: Outgoing, size: int) -> Message:
        """A call writes a message from now on; it is stopped if that takes too long."""
        message = self.begin(call.connection, size)
        self._written[message] = call
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_at(message.since + STALLED, self._end_old)
        return message

    def _end_old(self) -> None:
        """Stop the calls whose time is over, and look again when the next one's may be."""
        self._watch, loop = None, asyncio.get_running_loop()
        while self._written:
            message, call = next(iter(self._written.items()))
            due = message.since + STALLED
            if due > loop.time():
                self._watch = loop.call_at(due, self._end_old)
                return
            del self._written[message]
            call.stop(message)

    def end_writing(self, message: Message) -> None:
        """It was taken, or its call has ended."""
        self._written.pop(message, None)
        self.end(message)

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

    def _cut(self, connection: Connection) -> bool:
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
        message.connection.messages.discard(message)
        self.leave(message.connection)
        self._room.set()
        return True

    def leave(self, connection: Connection) -> None:
        """Forget it, if nothing waits on it, or can."""
        if not connection.messages and not connection.calls:
            self._connections.pop(connection.peer, None)


class Unread(Exception):
    """The client does not read. pending: what waits for it."""

    def __init__(self, pending: Message) -> None:
        super().__init__()
        self.pending = pending


class Outgoing:
    """What one call writes, in the block. Raises `Unread` at the end of that, which ends the call,
    where a message has waited for its client for too long: what is kept for the client is let go.

    The initial metadata is sent before: grpc would send it again in front of the status, to no use.
    """

    __slots__ = ("_block", "_context", "_messages", "_unread", "connection")

    def __init__(self, messages: Messages, context: Any) -> None:
        self.connection = messages.connection(context)
        self._messages = messages
        self._context = context
        self._block = asyncio.timeout(None)
        self._unread: Message | None = None

    async def __aenter__(self) -> Self:
        self.connection.calls += 1
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.calls -= 1
        self._messages.leave(self.connection)
        try:
            await self._block.__aexit__(kind, error, trace)
        except TimeoutError:
            assert self._unread is not None
            raise Unread(self._unread) from None

    async def write(self, size: int, make: Callable[[], bytes]) -> None:
        """Write a message of that many bytes, which is made once there is room for it."""
        messages = self._messages
        if not messages.has_room_now(size):
            await messages.until_room(size)
        message = messages.begin_writing(self, size)
        try:
            await self._context.write(make())
        finally:
            if message is not self._unread:
                messages.end_writing(message)

    def send(self, message: ProtobufMessage) -> Awaitable[None]:
        """Write one that is there already."""
        raw = message.SerializeToString()  # once: its size alone would be another time
        return self.write(len(raw), lambda: raw)

    def stop(self, unread: Message) -> None:
        """End the block: its client does not take that message."""
        self._unread = unread
        self._block.reschedule(asyncio.get_running_loop().time())
