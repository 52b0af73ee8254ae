"""A TCP proxy: it cuts connections, at once or after a frame, or keeps
them and passes nothing on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypedDict

__all__ = ["Framing", "Http2", "Kafka", "Resp", "TcpProxy", "Tls"]

Alter = Callable[[bytes], bytes]
"""What is made of the bytes that come from a server."""

_CHUNK = 65_536
_BACKLOG = 1024


class Framing(Protocol):
    """Finds the ends of frames in what one connection brings."""

    def feed(self, data: bytes) -> list[int]:
        """The offsets in `data` at which frames end."""


class Prefixed:
    """Frames with a header of so many bytes, some of which are the length of the rest."""

    def __init__(self, header: int, length: slice) -> None:
        self._size = header
        self._length = length
        self._header = b""
        self._rest = 0

    def feed(self, data: bytes) -> list[int]:
        """The offsets in `data` at which frames end."""
        ends: list[int] = []
        at = 0
        while at < len(data):
            if not self._rest:
                take = data[at : at + self._size - len(self._header)]
                self._header += take
                at += len(take)
                if len(self._header) == self._size:
                    self._rest = int.from_bytes(self._header[self._length], "big")
                    self._header = b""
                    if not self._rest:
                        ends.append(at)
            else:
                step = min(self._rest, len(data) - at)
                self._rest -= step
                at += step
                if not self._rest:
                    ends.append(at)
        return ends


class Http2(Prefixed):
    """The frames of HTTP/2, as a server sends them."""

    def __init__(self) -> None:
        super().__init__(9, slice(0, 3))


class Kafka(Prefixed):
    """The answers of Kafka."""

    def __init__(self) -> None:
        super().__init__(4, slice(0, 4))


class Tls(Prefixed):
    """The records of TLS, whatever is in them."""

    def __init__(self) -> None:
        super().__init__(5, slice(3, 5))


class Resp:
    """The replies and pushes of Redis, as a server sends them: a line each, or a line
    with more values behind it."""

    def __init__(self) -> None:
        self._line = b""
        self._bulk = 0
        self._missing: list[int] = []  # values, of each aggregate that is open

    def feed(self, data: bytes) -> list[int]:
        """The offsets in `data` at which frames end."""
        ends: list[int] = []
        at = 0
        while at < len(data):
            if self._bulk:
                step = min(self._bulk, len(data) - at)
                self._bulk -= step
                at += step
                done = not self._bulk
            else:
                newline = data.find(b"\n", at) + 1
                self._line += data[at : newline or len(data)]
                at = newline or len(data)
                if not newline:
                    break
                line, self._line = self._line, b""
                done = self._begin(line)
            if done and self._complete():
                ends.append(at)
        return ends

    def _begin(self, line: bytes) -> bool:
        """Whether the value that begins with this line ends with it."""
        kind, count = line[:1], line[1:].strip()
        if kind in b"$=" and int(count) >= 0:
            self._bulk = int(count) + 2
            return False
        if kind in b"*>~%" and int(count) > 0:
            self._missing.append(int(count) * (2 if kind == b"%" else 1))
            return False
        return True

    def _complete(self) -> bool:
        """Whether the end of a value is that of the frame."""
        while self._missing:
            self._missing[-1] -= 1
            if self._missing[-1]:
                return False
            self._missing.pop()
        return True


class Hooks(TypedDict):
    """Some of what `datasync.testing.contract.Store` takes."""

    lose: Callable[[], Awaitable[None]]
    restore: Callable[[], Awaitable[None]]
    freeze: Callable[[], Awaitable[None]]
    thaw: Callable[[], Awaitable[None]]


class TcpProxy:
    """Between a client and the loopback port `target`. Listens on `port`
    between `start` and `aclose`."""

    def __init__(self, target: int, framing: Callable[[], Framing] = Http2) -> None:
        self.target = target
        self.port = 0
        self.frames = 0
        """Frames that came from the server and were passed on, all connections together."""
        self.cuts = 0
        self.rate: float | None = None
        """Bytes a second that each way of each connection carries at most; None: as they come."""
        self.latency = 0.0
        """Seconds that each way takes beside that."""
        self.lies: Callable[[], Alter] | None = None
        """Made for each connection: what is passed on in place of what comes from the server."""
        self._framing = framing
        self._cut_at: int | None = None
        self._listener: socket.socket | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen; on the same port as before, if there was one."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=_BACKLOG)
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]
            # not an asyncio.Server: closed while a connection is on its way
            # in, that one would be left open
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def refuse(self) -> None:
        """Cut all connections and refuse new ones, until `start`."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Reset all connections; new ones are accepted."""
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()
        for task in self._connections:
            task.cancel()

    def cut_at(self, frame: int | None) -> None:
        """Reset all connections as soon as `frame` more frames have come
        from the server (None: never)."""
        self._cut_at = None if frame is None else self.frames + frame

    def pause(self) -> None:
        """Keep connections, and accept new ones, but pass nothing on: half-open."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on again, beginning with what has been held back."""
        self._flowing.set()

    def hooks(self) -> Hooks:
        """What the contract suite does to a store behind this proxy."""

        async def freeze() -> None:
            self.pause()

        async def thaw() -> None:
            self.resume()

        return {"lose": self.refuse, "restore": self.start, "freeze": freeze, "thaw": thaw}

    async def aclose(self) -> None:
        """Cut and stop listening."""
        await self.refuse()
        if self._connections:
            await asyncio.wait(self._connections)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # it has gone again
            return
        client.setblocking(False)
        task = asyncio.ensure_future(self._serve(client))
        self._connections.add(task)

        def end(task: asyncio.Task[None]) -> None:
            self._connections.discard(task)
            client.close()  # one that is cancelled before it begins closes nothing

        task.add_done_callback(end)

    async def _serve(self, client: socket.socket) -> None:
        ends: list[asyncio.StreamWriter] = []
        try:
            reader, writer = await asyncio.open_connection(sock=client)
            ends.append(writer)
            self._writers.add(writer)
            await self._flowing.wait()
            answers, server = await asyncio.open_connection("127.0.0.1", self.target)
            ends.append(server)
            self._writers.add(server)
            async with asyncio.TaskGroup() as group:
                alter = None if self.lies is None else self.lies()
                group.create_task(self._pass_on(reader, server, None))
                group.create_task(self._pass_on(answers, writer, self._framing(), alter))
        except* OSError:
            pass
        finally:
            for end in ends:
                end.transport.abort()
                self._writers.discard(end)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        framing: Framing | None,
        alter: Alter | None = None,
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self.rate is not None or self.latency:
                await asyncio.sleep(self.latency + (len(data) / self.rate if self.rate else 0.0))
            await self._flowing.wait()
            if framing is not None:
                for end in framing.feed(data):
                    self.frames += 1
                    if self.frames == self._cut_at:
                        writer.write(data[:end])
                        await writer.drain()
                        self._cut_at = None
                        # soon, not now: what was written is to be read first
                        asyncio.get_running_loop().call_later(0.01, self.cut)
                        return
            writer.write(data if alter is None else alter(data))
            await writer.drain()
        raise ConnectionResetError


@contextlib.asynccontextmanager
async def proxy_to(target: int, framing: Callable[[], Framing] = Http2) -> AsyncIterator[TcpProxy]:
    """A proxy that listens within the block."""
    proxy = TcpProxy(target, framing)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.aclose()
