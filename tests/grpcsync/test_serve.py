"""`datasync serve --grpc`: many watchers, stuck ones, and a server that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from datasync import DataSync, UnsupportedOption
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync.wire import FrameReader
from datasync.source import Commit, SnapshotEnd
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import eventually
from tests.helpers.etcd.load import judge
from tests.helpers.load import equal, watched, writing
from tests.helpers.serving.serve_process import ServeProcess

Run = Callable[[Coroutine[Any, Any, None]], None]
CHANGES = 100


@contextlib.asynccontextmanager
async def serving(source: str = "memory://") -> AsyncIterator[ServeProcess]:
    """A server within the block. `{directory}` in the source is one that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="datasync-") as directory:
        server = ServeProcess(source.format(directory=directory), Path(directory))
        await server.start()
        try:
            yield server
        finally:
            server.end()


class Watcher:
    """A watcher without an engine: it counts."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        rpc: Any = channel.unary_stream(
            "/datasync.v1.DataSync/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchReply.FromString,
        )
        self.call = rpc(pb.WatchRequest(scopes=[""]))
        self.revisions: list[int] = []
        self.snapshots = 0
        self.messages = 0

    async def follow(self, until: int) -> None:
        """Read until that revision."""
        reader = FrameReader()
        while not self.revisions or self.revisions[-1] < until:
            reply = await self.call.read()
            assert isinstance(reply, pb.WatchReply), "the server ended the watch"
            self.messages += 1
            for frame in reader.frames(reply):
                if isinstance(frame, SnapshotEnd):
                    self.snapshots += 1
                    self.revisions.append(frame.revision)
                elif isinstance(frame, Commit):
                    self.revisions.append(frame.revision)


@pytest.mark.parametrize("source", ["memory://", "sqlite:///{directory}/served.db"])
def test_who_pushes_into_a_store_that_is_served_hears_that_there_are_no_verdicts(
    source: str, run: Run
) -> None:
    async def main() -> None:
        async with serving(source) as server:
            url = f"grpc://127.0.0.1:{server.port}"
            async with asyncio.timeout(60):  # a verdict would be waited for much longer
                async with DataSync(url) as sync:
                    with pytest.raises(UnsupportedOption, match="carries no verdicts"):
                        await sync.put("config/a", b"1", confirm=True)
                    assert await sync.put("config/a", b"1") == 1
                put = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "datasync",
                    "put",
                    url,
                    "config/b",
                    "2",
                    stdout=asyncio.subprocess.PIPE,
                )
                assert (await put.communicate())[0] == b"2\n"
                assert put.returncode == 0

    run(main())


@pytest.mark.once
@pytest.mark.alone("crowd")
def test_a_thousand_watchers_and_one_that_never_reads(run: Run) -> None:
    async def main() -> None:
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            options = [("grpc.use_local_subchannel_pool", 1)]
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options)
                )
                for _ in range(11)
            ]
            stuck = Watcher(channels.pop())
            watchers = [Watcher(channel) for channel in channels for _ in range(100)]
            async with asyncio.TaskGroup() as group:
                reading = [group.create_task(watcher.follow(CHANGES)) for watcher in watchers]
                await eventually(lambda: all(watcher.snapshots for watcher in watchers), 60)
                # an answer waits behind a thousand watchers
                url = f"grpc+watch://127.0.0.1:{server.port}?timeout=60"
                sync = await stack.enter_async_context(DataSync(url))
                for start in range(0, CHANGES, 50):
                    await asyncio.gather(
                        *(
                            sync.put(f"k/{number}", bytes(5_000))
                            for number in range(start, start + 50)
                        )
                    )
                await asyncio.wait(reading, timeout=60)
            for watcher in watchers:
                assert watcher.revisions == list(range(CHANGES + 1))
                assert watcher.snapshots == 1
            # what waited for the one that did not read was folded into few messages, or a snapshot
            # a busy machine: it read nothing for too long
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stuck.follow(CHANGES)
                assert stuck.revisions[-1] == CHANGES
            assert stuck.messages < CHANGES / 2

    run(main())


def test_killed_and_started_again_while_everybody_follows(run: Run) -> None:
    async def main() -> None:
        async with (
            serving("sqlite:///{directory}/net.db") as server,
            contextlib.AsyncExitStack() as stack,
        ):
            url = f"grpc+watch://127.0.0.1:{server.port}"
            probes = [(await stack.enter_async_context(watched(url)))[1] for _ in range(3)]
            async with writing(f"sqlite:///{server.log.parent}/net.db", pause=0.002) as load:
                for _ in range(3):
                    await load.more(150)
                    await server.restart()
                await load.more(150)
            log = [
                (revision, {key: value})
                for revision, (key, value) in sorted(load.acknowledged.items())
            ]
            state: dict[str, bytes] = {}
            for _, changes in log:
                for key, value in changes.items():
                    state.pop(key, None) if value is None else state.__setitem__(key, value)
            for probe in probes:
                await equal(probe, state)
                assert 2 <= len(probe.resyncs) <= 8
                judge(probe, log)

    run(main())


def test_a_lost_connection_is_resumed_without_a_resync(run: Run) -> None:
    async def main() -> None:
        async with (
            serving() as server,
            proxy_to(server.port) as proxy,
            writing(f"grpc+watch://127.0.0.1:{server.port}") as load,
            watched(f"grpc+watch://127.0.0.1:{proxy.port}") as (sync, probe),
        ):
            for _ in range(5):
                await load.more(30)
                proxy.cut()
            await load.more(30)
            await eventually(lambda: sync.status().sources[0].reconnects >= 1)
            await eventually(lambda: probe.changes[-1].revision >= max(load.acknowledged))
            assert [event.reason for event in probe.resyncs] == ["start"]

    run(main())
