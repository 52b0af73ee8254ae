"""gRPC: changes pushed to an agent, and watchers fanned out to,
each beside a bare server of the same stack.

The clients are a process of their own and the same for both servers. The bare server has the same
messages: it keeps what comes in a dict, answers every change with success, and passes every commit
on to its watchers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio

from bench.rows import Row
from datasync import DataSync
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync import msg_pb2 as msg
from datasync.grpcsync.server import Server
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.source import Put
from datasync.testing.chaos.ports import free_ports

BARE = "bare server"
VALUE = bytes(190)
BATCH = 1000
_CHANGES, _COMMIT, _WATCH = (
    "/msg.DataMsgService/dataChanges",
    "/datasync.v1.DataSync/Commit",
    "/datasync.v1.DataSync/Watch",
)


# -- the bare server -------------------------------------------------------------------------------


class Bare:
    """What any server of this stack has to do, and nothing else."""

    def __init__(self) -> None:
        self.items: dict[str, bytes] = {}
        self.queues: list[asyncio.Queue[bytes]] = []

    async def changes(self, requests: AsyncIterator[msg.DataChangeRequest], context: Any) -> None:
        """Answer each change."""
        async for request in requests:
            self.items[request.key] = request.content
            await context.write(
                msg.DataChangeReply(key=request.key, operationType=request.operationType)
            )

    async def commit(self, requests: AsyncIterator[pb.CommitRequests], context: Any) -> None:
        """Answer each transaction."""
        async for batch in requests:
            for commit in batch.commits:
                self.items.update(zip(commit.keys, commit.values, strict=True))
            await context.write(
                pb.CommitReplies(replies=[pb.CommitReply(id=commit.id) for commit in batch.commits])
            )

    async def watch(self, request: pb.WatchRequest, context: Any) -> None:
        """Pass on what is written, as much at a time as there is."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.queues.append(queue)
        await context.write(
            pb.WatchReply(frames=[pb.Frame(end=pb.SnapshotEnd())]).SerializeToString()
        )
        while True:
            due = [await queue.get()]
            while not queue.empty():
                due.append(queue.get_nowait())
            await context.write(b"".join(due))

    def put(self, key: str, revision: int) -> None:
        """Encode a commit once, for all that watch."""
        commit = pb.Commit(
            position=f"{'0' * 32}.{revision}", revision=revision, keys=[key], values=[VALUE]
        )
        encoded = pb.WatchReply(frames=[pb.Frame(commit=commit)]).SerializeToString()
        for queue in self.queues:
            queue.put_nowait(encoded)


@contextlib.asynccontextmanager
async def bare(port: int) -> AsyncIterator[Bare]:
    """It listens within the block."""
    one = Bare()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 << 20)])
    for service, method, handler in (
        ("msg.DataMsgService", "dataChanges", grpc.stream_stream_rpc_method_handler(
            one.changes, msg.DataChangeRequest.FromString, msg.DataChangeReply.SerializeToString)),
        ("datasync.v1.DataSync", "Commit", grpc.stream_stream_rpc_method_handler(
            one.commit, pb.CommitRequests.FromString, pb.CommitReplies.SerializeToString)),
        ("datasync.v1.DataSync", "Watch", grpc.unary_stream_rpc_method_handler(
            one.watch, pb.WatchRequest.FromString)),
    ):  # fmt: skip
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield one
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def agent(port: int) -> AsyncIterator[None]:
    """A DataSync with one watch that accepts everything."""
    sync = DataSync(f"grpc://127.0.0.1:{port}?initial=empty")

    @sync.watcher("k/")
    async def handler(event: Any) -> None:
        for change in event.changes:
            assert change.raw is not None

    async with sync:
        await sync.ready()
        yield


# -- the clients, in a process of their own --------------------------------------------------------


async def _one_a_message(address: str, count: int) -> float:
    """Changes a second, sent as fast as they are taken."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(
            _CHANGES, msg.DataChangeRequest.SerializeToString, msg.DataChangeReply.FromString
        )()

        async def send() -> None:
            for number in range(count):
                await call.write(
                    msg.DataChangeRequest(key=f"k/{number % 1000}", content=VALUE + b"%d" % number)
                )
            await call.done_writing()

        began = time.perf_counter()
        sending = asyncio.create_task(send())
        answers = 0
        while answers < count:
            assert (await call.read()).result == 0
            answers += 1
        await sending
        return count / (time.perf_counter() - began)


async def _round_trips(address: str, count: int) -> float:
    """The median of one change and its answer, in ms."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(
            _CHANGES, msg.DataChangeRequest.SerializeToString, msg.DataChangeReply.FromString
        )()
        times = []
        for number in range(count):
            began = time.perf_counter()
            await call.write(msg.DataChangeRequest(key="k/1", content=VALUE + b"%d" % number))
            await call.read()
            times.append(time.perf_counter() - began)
        call.cancel()
        return statistics.median(times) * 1000


async def _batched(address: str, count: int) -> float:
    """Changes a second, in transactions of a thousand."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(
            _COMMIT, pb.CommitRequests.SerializeToString, pb.CommitReplies.FromString
        )()
        keys = [f"k/{number}" for number in range(BATCH)]

        async def send() -> None:
            for number in range(count // BATCH):
                values = [VALUE + b"%d" % number] * BATCH
                commit = pb.CommitRequest(id=number, keys=keys, values=values, reply=True)
                await call.write(pb.CommitRequests(commits=[commit]))
            await call.done_writing()

        began = time.perf_counter()
        sending = asyncio.create_task(send())
        answers = 0
        while answers < count // BATCH:
            answers += len((await call.read()).replies)
        await sending
        return count / (time.perf_counter() - began)


async def _fan_out(address: str, watchers: int, changes: int) -> float:
    """Deliveries a second; says "ready" when all watch, and is over when all have everything."""
    async with contextlib.AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            for _ in range(10)
        ]
        calls: list[Any] = [
            channel.unary_stream(
                _WATCH, pb.WatchRequest.SerializeToString, pb.WatchReply.FromString
            )(pb.WatchRequest(scopes=[""]))
            for channel, _ in zip(itertools.cycle(channels), range(watchers), strict=False)
        ]
        for call in calls:
            while (await call.read()).frames[-1].WhichOneof("kind") != "end":
                pass

        async def follow(call: Any) -> None:
            seen = 0
            while seen < changes:
                seen += sum(frame.HasField("commit") for frame in (await call.read()).frames)

        print("ready", flush=True)
        began = time.perf_counter()
        await asyncio.gather(*map(follow, calls))
        return watchers * changes / (time.perf_counter() - began)


_CLIENTS = {"one": _one_a_message, "trips": _round_trips, "batched": _batched, "fan_out": _fan_out}


async def _client(*words: object) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bench_grpc", *map(str, words), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, process.stdout


# -- the figures -----------------------------------------------------------------------------------


async def _pushed(kind: str, count: int, server: Any) -> float:
    port = free_ports(1)[0]
    async with server(port):
        process, out = await _client(kind, f"127.0.0.1:{port}", count)
        figure = float(await out.readline())
        await process.wait()
        return figure


async def _fanned_out(watchers: int, changes: int, *, ours: bool) -> float:
    port = free_ports(1)[0]
    async with contextlib.AsyncExitStack() as stack:
        if ours:
            source = MemorySource()
            hub = await stack.enter_async_context(Hub(source))
            await stack.enter_async_context(Server(Access("bench", "127.0.0.1", port), hub))
        else:
            one = await stack.enter_async_context(bare(port))
        process, out = await _client("fan_out", f"127.0.0.1:{port}", watchers, changes)
        assert await out.readline() == b"ready\n"
        for number in range(1, changes + 1):
            if ours:
                await source.commit([Put(f"k/{number % 100}", VALUE)])
            else:
                one.put(f"k/{number % 100}", number)
            if number % 10 == 0:
                await asyncio.sleep(0)
        figure = float(await out.readline())
        await process.wait()
        return figure


def _both(raw: Any, ours: Any, times: int) -> tuple[float, float]:
    """The medians of both, taken in turns."""
    pairs = [(asyncio.run(raw()), asyncio.run(ours())) for _ in range(times)]
    return statistics.median(first for first, _ in pairs), statistics.median(
        second for _, second in pairs
    )


def run(quick: bool) -> Iterator[Row]:
    """The rows."""
    times = 1 if quick else 5
    servers: dict[str, Any] = {"raw": bare, "ours": agent}
    for what, kind, count, unit in (
        ("one change a message", "one", 500 if quick else 10_000, "changes/s"),
        (
            "a thousand changes a message",
            "batched",
            5_000 if quick else 300_000,
            "changes/s",
        ),
        ("round trip", "trips", 100 if quick else 3_000, "ms"),
    ):
        raw, ours = _both(
            lambda kind=kind, count=count: _pushed(kind, count, servers["raw"]),
            lambda kind=kind, count=count: _pushed(kind, count, servers["ours"]),
            times,
        )
        yield Row(what=what, unit=unit, ours=ours, beside={BARE: raw})
    watchers, changes = (20, 50) if quick else (1000, 300)
    raw, ours = _both(
        lambda: _fanned_out(watchers, changes, ours=False),
        lambda: _fanned_out(watchers, changes, ours=True),
        times,
    )
    yield Row(
        what="fan-out", unit="deliveries/s", ours=ours, beside={BARE: raw},
        case={"watchers": watchers, "changes": changes},
    )  # fmt: skip


if __name__ == "__main__":
    print(asyncio.run(_CLIENTS[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:]))))  # type: ignore[operator]
