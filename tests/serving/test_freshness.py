"""G1, G2: a new watch at a server finds all that its source had acknowledged before, to anybody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from datasync import DataSync, Disconnected, open_url
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.followed import Followed
from datasync.source import (
    Commit,
    Frame,
    Progress,
    Put,
    Session,
    SnapshotChunk,
    SnapshotEnd,
    Source,
)
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import eventually
from tests.helpers.etcd.etcd_server import DEBIAN, etcd_server
from tests.helpers.rest.served import served
from tests.helpers.servers import scratch
from tests.helpers.serving.serve_process import ServeProcess

Run = Callable[[Any], None]
LATENCY = 0.02  # each way
SCHEMES = {"http": "http", "grpc": "grpc+watch"}


@contextlib.asynccontextmanager
async def served_etcd(protocol: str) -> AsyncIterator[tuple[DataSync, Source]]:
    """A writer to an etcd, and a client of a process that serves it over a slow line."""
    async with etcd_server(DEBIAN) as etcd, proxy_to(etcd.port) as line, scratch() as directory:
        line.latency = LATENCY
        server = ServeProcess(f"etcd://127.0.0.1:{line.port}", directory, protocol)
        await server.start()
        source = open_url(f"{SCHEMES[protocol]}://127.0.0.1:{server.port}")
        try:
            async with DataSync(etcd.url) as writer:
                yield writer, source
        finally:
            await source.aclose()
            server.end()


class Follower:
    """Takes all that a session yields, as the engine does."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.frames: list[Frame] = []
        self.state: dict[str, bytes] = {}
        self.task = asyncio.ensure_future(self._take())

    async def _take(self) -> None:
        async for frames in self.session:
            for frame in frames:
                self.frames.append(frame)
                if isinstance(frame, SnapshotChunk):
                    self.state |= {key: raw for key, raw, _ in frame.items}
                elif isinstance(frame, Commit):
                    self.state |= {key: raw for key, raw in frame.changes if raw is not None}

    @property
    def position(self) -> Any:
        """Of the last frame that has one."""
        return next(
            frame.position
            for frame in reversed(self.frames)
            if isinstance(frame, Commit | Progress | SnapshotEnd)
        )

    async def snapshot(self) -> dict[str, bytes]:
        """What the first snapshot held, without what came behind it."""
        await eventually(lambda: any(isinstance(frame, SnapshotEnd) for frame in self.frames))
        end = next(at for at, frame in enumerate(self.frames) if isinstance(frame, SnapshotEnd))
        chunks = [frame for frame in self.frames[:end] if isinstance(frame, SnapshotChunk)]
        return {key: raw for chunk in chunks for key, raw, _ in chunk.items}

    async def aclose(self) -> None:
        """End it."""
        await self.session.aclose()
        with contextlib.suppress(Disconnected):
            await self.task


@pytest.mark.parametrize("protocol", SCHEMES)
def test_a_watch_behind_a_server_begins_with_what_the_store_had_acknowledged(
    run: Run, protocol: str
) -> None:
    async def main() -> None:
        async with served_etcd(protocol) as (writer, source):
            along = Follower(await source.open(["a/", "b/"]))
            await along.snapshot()
            for number in range(20):
                await writer.put(f"a/{number}", b"1")
                fresh = Follower(await source.open(["a/"]))
                assert f"a/{number}" in await fresh.snapshot()

                await writer.put(f"b/{number}", b"1")
                wider = Follower(await source.open(["a/", "b/"], fresh.position, ["b/"]))
                assert f"b/{number}" in await wider.snapshot()

                await writer.put(f"b/{number}", b"2")
                await asyncio.wait_for(along.session.caught_up(), 60)
                assert along.state[f"b/{number}"] == b"2"
                await fresh.aclose()
                await wider.aclose()
            await along.aclose()

    run(main())


def test_catching_up_shows_what_does_not_concern_the_stream_as_a_position(run: Run) -> None:
    """The bookmark comes at once, though nothing of the scopes has changed."""

    async def main() -> None:
        source = MemorySource("served")
        async with served(source) as server:
            client = open_url(server.url)
            follower = Follower(await client.open(["a/"]))
            await follower.snapshot()
            for number in range(200):
                await source.commit([Put("b", b"%d" % number)])
                await asyncio.wait_for(follower.session.caught_up(), 60)
                assert follower.position == server.hub.log.position(server.hub.log.seq)
            await follower.aclose()
            await client.aclose()

    run(main())


def test_who_waits_to_catch_up_hears_of_the_end_of_the_stream(run: Run) -> None:
    async def main() -> None:
        followed = Followed("the server")
        followed.took([Progress("log.3", 0)])
        await followed.reach("log.2")
        waiting = [
            asyncio.create_task(followed.reach(position)) for position in ("log.4", "other.1")
        ]
        await asyncio.sleep(0)
        followed.took([Commit("log.12", 0, [])])
        await asyncio.wait_for(waiting[0], 60)
        followed.end()
        with pytest.raises(Disconnected):
            await asyncio.wait_for(waiting[1], 60)

    run(main())
