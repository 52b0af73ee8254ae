"""The contract suite on memory://, once as it is and once behind a wire that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from datasync import Capabilities, Disconnected
from datasync.kvdbsync.memory import MemorySource
from datasync.source import Committed, Frame, Item, Operation, PushSession, Session, Source
from datasync.syncbase.handover import decline
from datasync.tasks import end_tasks
from datasync.testing.contract import ContractSuite, Store


class TestMemory(ContractSuite):
    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        yield Store(url=f"memory://{uuid.uuid4().hex}")


class Server:
    """A memory store that can be emptied and compacted."""

    def __init__(self) -> None:
        self.memory = MemorySource("server")
        self.wires: list[Wire] = []

    async def empty(self) -> None:
        self.memory = MemorySource("server")
        for wire in self.wires:
            wire.cut()

    async def compact(self) -> None:
        self.memory._clear_log()


class Wire(Source):
    """A way to the server, which can be lost (everything fails) or frozen (nothing answers)."""

    def __init__(self, server: Server) -> None:
        self.name = "memory behind a wire"
        self.capabilities: Capabilities = server.memory.capabilities
        self.server = server
        self.sessions: list[WireSession] = []
        self.connected = True
        self.answering = asyncio.Event()
        self.answering.set()
        server.wires.append(self)

    async def lose(self) -> None:
        self.connected = False
        self.cut()

    async def restore(self) -> None:
        self.connected = True

    async def freeze(self) -> None:
        self.answering.clear()

    async def thaw(self) -> None:
        self.answering.set()

    async def expire_session(self) -> None:
        self.cut()

    def cut(self) -> None:
        for session in self.sessions:
            session.cut()
        self.sessions.clear()

    async def reach(self) -> MemorySource:
        await self.answering.wait()
        if not self.connected:
            raise Disconnected("the wire is cut")
        return self.server.memory

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        session = await (await self.reach()).open(scopes, resume, added)
        assert isinstance(session, PushSession)
        self.sessions.append(WireSession(self, session))
        return self.sessions[-1]

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        return await (await self.reach()).commit(operations, reply=reply)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        return await (await self.reach()).get(key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        return await (await self.reach()).page(prefix, token, limit, keys_only=keys_only)


class WireSession(Session):
    """Carries the frames that the memory source pushes, until the wire is cut:
    what is on its way then is lost.
    """

    def __init__(self, wire: Wire, session: PushSession) -> None:
        self.wire = wire
        self.session = session
        self.declines = False
        self.frames: asyncio.Queue[Sequence[Frame] | asyncio.Future[None] | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        self.session.attach(self.frames.put_nowait)
        pumping = asyncio.ensure_future(self.pump())
        try:
            while (frames := await self.frames.get()) is not None:
                await self.wire.answering.wait()
                if not isinstance(frames, asyncio.Future):
                    yield frames
                elif not frames.done():
                    frames.set_result(None)
        finally:
            await end_tasks(pumping)
        raise Disconnected("the wire is cut")

    async def pump(self) -> None:
        async for frames in self.session:
            self.frames.put_nowait(frames)

    def cut(self) -> None:
        self.drop()
        self.frames.put_nowait(None)

    def drop(self) -> None:
        while not self.frames.empty():
            frames = self.frames.get_nowait()
            if isinstance(frames, asyncio.Future):
                if not frames.done():
                    frames.set_exception(Disconnected("the wire is cut"))
            elif self.declines:
                for frame in frames or ():
                    decline(frame)

    async def ping(self) -> None:
        await self.wire.reach()

    async def caught_up(self) -> None:
        await self.wire.reach()
        await self.session.caught_up()
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.frames.put_nowait(reached)
        await reached

    async def aclose(self) -> None:
        self.declines = True  # nobody is left to answer for these
        self.drop()
        self.frames.put_nowait(None)
        if self in self.wire.sessions:
            self.wire.sessions.remove(self)
        await self.session.aclose()


class TestMemoryBehindAWire(ContractSuite):
    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        server = Server()
        wire, direct = Wire(server), Wire(server)
        yield Store(
            url=wire,
            direct=direct,
            lose=wire.lose,
            restore=wire.restore,
            freeze=wire.freeze,
            thaw=wire.thaw,
            empty=server.empty,
            compact=server.compact,
            expire_session=wire.expire_session,
        )
