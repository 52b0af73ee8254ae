"""grpc:// and grpc+watch:// - an agent that remote clients push to, such a
client, and a remote watcher.

`grpc://host:port[?initial=empty&token=…&timeout=5&max_answer=268435456]`; `grpcs://` and
`grpcs+watch://` speak TLS and take `ca=`, `cert=` and `key=`, the names of PEM files.
docs/grpc.md has the whole of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from datasync.certificates import encryption_findings
from datasync.endpoints import max_answer
from datasync.errors import Disconnected
from datasync.findings import Finding
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync.client import Client, Stream
from datasync.grpcsync.commits import Commits
from datasync.grpcsync.server import Server
from datasync.grpcsync.wire import FrameReader, committed_of, items_of, result_of
from datasync.serving.access import Access
from datasync.serving.followed import Followed
from datasync.serving.hub import ASSUMED_CAPABILITIES, Hub
from datasync.serving.inbox import Inbox
from datasync.shared import closed_on_error
from datasync.source import (
    Committed,
    Frame,
    Item,
    Operation,
    Session,
    SnapshotBegin,
    SnapshotEnd,
    Source,
)
from datasync.transports import Url, seconds

__all__ = ["GrpcSource", "GrpcWatchSource", "from_url"]


def from_url(url: Url) -> Source:
    """The source that the URL names."""
    scheme, _, role = url.scheme.partition("+")
    access = Access.of_url(url, tls=scheme == "grpcs")
    client = Client(access, url.option("timeout", seconds, 5.0), max_answer(url))
    if role:
        return GrpcWatchSource(client)
    return GrpcSource(client, empty=url.option("initial", _initial, False))


def _initial(text: str) -> bool:
    if text != "empty":
        raise ValueError(f"takes 'empty', not {text!r}")
    return True


class _Remote(Source):
    """What both roles of a client share: writing and reading at the server."""

    def __init__(self, client: Client) -> None:
        self.name = client.access.name
        self._client = client
        self._commits = Commits(client)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        return await self._commits.commit(operations, reply=reply)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        reply = await self._client.replace(items)
        return Committed(committed_of(reply).revision, (), result_of(reply))

    async def get(self, key: str) -> tuple[bytes, int] | None:
        return await self._client.get(key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        stream: Stream[pb.ListReply] = token or await self._client.list(
            prefix, limit, keys_only=keys_only
        )
        more = False
        try:
            reply = await self._client.page(stream)
            items = items_of(reply.items, self.name)
            more = reply.more
        finally:
            if not more:
                stream.cancel()
        return items, stream if more else None

    async def aclose(self) -> None:
        try:
            await self._commits.aclose()
        finally:
            await self._client.aclose()

    async def diagnose(self, key: str) -> Sequence[Finding]:
        await self._client.ping()
        access = self._client.access
        return await encryption_findings(
            access.host, access.port, access.files, "h2", secret=access.token is not None
        )


class GrpcWatchSource(_Remote):
    """What a remote server shows: that of `datasync serve`, or an agent's.

    Its capabilities are those of an exact store until the server has told
    what its own source can promise.
    """

    capabilities = ASSUMED_CAPABILITIES

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        request = pb.WatchRequest(scopes=scopes, resume=resume, added=added)
        # a connection of its own
        client = Client(self._client.access, self._client.timeout, self._client.most)
        async with closed_on_error(client.aclose):
            stream = await client.watch(request)
            self.capabilities = stream.capabilities or self.capabilities
            return _WatchSession(client, stream)


class _WatchSession(Session):
    """Reads the frames of one watch."""

    def __init__(self, client: Client, stream: Stream[pb.WatchReply]) -> None:
        self._client = client
        self._stream = stream
        self._followed = Followed(client.access.name, stream.capabilities or ASSUMED_CAPABILITIES)

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        reader = FrameReader(self._client.access.name, self._client.most)
        try:
            while (reply := await self._stream.read()) is not None:
                frames = reader.frames(reply)
                self._followed.check(frames)
                yield frames
                self._followed.took(frames)
        finally:
            self._followed.end()
        raise Disconnected(f"{self._client.access.name}: the server ended the watch")

    async def ping(self) -> None:
        await self._client.ping()

    async def caught_up(self) -> None:
        if not self._stream.name:
            return  # an older server cannot tell
        position = await self._client.catch_up(self._stream.name)
        if position is not None:
            await self._followed.reach(position)

    async def aclose(self) -> None:
        self._followed.end()
        self._stream.cancel()
        await self._client.aclose()


class GrpcSource(_Remote):
    """Where something is watched, the agent: it listens, and clients push
    to it. Otherwise such a client.

    empty: the agent begins with nothing; else with the first RESYNC that a client sends. What a
        client can do is what the server tells: a store that is served has no verdicts.
    """

    capabilities = Inbox.capabilities

    def __init__(self, client: Client, *, empty: bool) -> None:
        super().__init__(client)
        self._empty = empty
        self._agent: _Agent | None = None
        self._starting = asyncio.Lock()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        if not scopes and self._agent is None:
            self.capabilities = await self._client.ping() or self.capabilities
            return _IdleSession(self._client)
        if self._agent is None:
            self.capabilities = Inbox.capabilities
            self._agent = _Agent(self._client.access, empty=self._empty)
        async with self._starting:
            await self._agent.start()
        return await self._agent.inbox.open(scopes, resume, added)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        if self._agent is not None:
            return await self._agent.inbox.commit(operations, reply=reply)
        return await super().commit(operations, reply=reply)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        if self._agent is not None:
            return await self._agent.inbox.replace(items)
        return await super().replace(items)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        if self._agent is not None:
            return await self._agent.inbox.get(key)
        return await super().get(key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        if self._agent is not None:
            return await self._agent.inbox.page(prefix, token, limit, keys_only=keys_only)
        return await super().page(prefix, token, limit, keys_only=keys_only)

    async def aclose(self) -> None:
        try:
            if self._agent is not None:
                await self._agent.aclose()
        finally:
            await super().aclose()


class _Agent:
    """The listening side: an inbox, and a server that lets clients push into it, and watch it."""

    def __init__(self, access: Access, *, empty: bool) -> None:
        self.inbox = Inbox(access.name, empty=empty)
        self._access = access
        self._serving: tuple[Hub, Server] | None = None

    async def start(self) -> None:
        """Listen. Raises what `Server.start` raises."""
        if self._serving is not None:
            return
        hub = Hub(self.inbox)  # the first watcher starts it
        server = Server(self._access, hub)
        await server.start()
        self._serving = hub, server

    async def aclose(self) -> None:
        """Stop listening, once no DataSync follows any more; what the inbox holds stays."""
        if self._serving is None or self.inbox.followers > self._serving[0].following:
            return
        (hub, server), self._serving = self._serving, None
        try:
            await server.aclose()
        finally:
            await hub.aclose()


class _IdleSession(Session):
    """Of a client that watches nothing: it only finds out whether the agent is there."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        yield [SnapshotBegin([]), SnapshotEnd(None)]
        await self._closed.wait()

    async def ping(self) -> None:
        await self._client.ping()

    async def aclose(self) -> None:
        self._closed.set()
