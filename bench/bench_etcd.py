"""etcd: loading, following, latency, memory and many puts at once,
each beside a plain grpc.aio client that does the same work.

Starts a server of its own on free loopback ports; the writers are processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import grpc.aio

from bench.beside import RAW, figures, in_turns, rated, reached
from bench.rows import Row
from datasync import DataSync
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.testing.chaos.ports import free_ports

PAGE = 10_000
_RANGE, _PUT, _TXN = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn"
_LARGE = [("grpc.max_receive_message_length", 64 << 20)]


# -- the server, and what writes to it -------------------------------------------------------------


@contextlib.contextmanager
def _server() -> Iterator[int]:
    """The client port of an etcd that is gone with the block."""
    program = shutil.which("etcd")
    if program is None:
        raise FileNotFoundError("etcd is missing; install it with: apt-get install -y etcd-server")
    client, peer = free_ports(2)
    with tempfile.TemporaryDirectory() as directory:
        command = [
            program, "--data-dir", directory, "--unsafe-no-fsync", "--log-level", "error",
            "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            reached(client)
            time.sleep(0.5)
            yield client
        finally:
            process.kill()
            process.wait()


class Raw:
    """The plain client."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_LARGE)
        self.range: Any = self.channel.unary_unary(
            _RANGE, request_serializer=_bytes, response_deserializer=pb.RangeResponse.FromString
        )
        self.put: Any = self.channel.unary_unary(
            _PUT, request_serializer=_bytes, response_deserializer=pb.PutResponse.FromString
        )
        self.txn: Any = self.channel.unary_unary(
            _TXN, request_serializer=_bytes, response_deserializer=pb.TxnResponse.FromString
        )

    async def load(self) -> dict[str, tuple[bytes, int]]:
        """All keys, in pages at one revision."""
        items: dict[str, tuple[bytes, int]] = {}
        key, revision, more = b"load/", 0, True
        while more:
            page = await self.range(
                pb.RangeRequest(key=key, range_end=b"load0", limit=PAGE, revision=revision)
            )
            for kv in page.kvs:
                items[kv.key.decode()] = (kv.value, kv.mod_revision)
            key, revision, more = (
                page.kvs[-1].key + b"\0",
                revision or page.header.revision,
                page.more,
            )
        return items

    def value(self, kept: tuple[bytes, int]) -> bytes:
        """The value of a key that was loaded."""
        return kept[0]

    @contextlib.asynccontextmanager
    async def follow(self) -> AsyncIterator[AsyncIterator[Sequence[bytes]]]:
        """The values of everything from now on."""
        rpc: Any = self.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=_bytes,
            response_deserializer=pb.WatchResponse.FromString,
        )
        stream = rpc()
        await stream.write(
            pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"\0", range_end=b"\0"))
        )
        await stream.read()

        async def values() -> AsyncIterator[Sequence[bytes]]:
            while True:
                found = []
                for event in (await stream.read()).events:
                    key, value, revision = (
                        event.kv.key.decode(),
                        event.kv.value,
                        event.kv.mod_revision,
                    )
                    assert key
                    assert revision
                    found.append(value)
                yield found

        yield values()
        stream.cancel()

    async def clear(self) -> None:
        """Delete what was followed."""
        request = pb.TxnRequest()
        request.success.add().request_delete_range.MergeFrom(
            pb.DeleteRangeRequest(key=b"watch/", range_end=b"watch0")
        )
        await self.txn(request)

    async def aclose(self) -> None:
        """Close its channel."""
        await self.channel.close()

    async def fill(self, values: Sequence[bytes]) -> None:
        """Store all values under load/."""
        for start in range(0, len(values), 100):
            request = pb.TxnRequest()
            for number, value in enumerate(values[start : start + 100], start):
                put = pb.PutRequest(key=b"load/interface/%07d" % number, value=value)
                request.success.add().request_put.MergeFrom(put)
            await self.txn(request)


def _bytes(message: Any) -> bytes:
    raw: bytes = message.SerializeToString()
    return raw


async def _write(port: int, count: int, batch: int, rate: float) -> None:
    """Write `count` changes in transactions of `batch`, as fast as it goes or at `rate` a second;
    the time in each.
    """
    raw = Raw(port)
    turn = asyncio.Semaphore(64 if batch == 1 else 4)

    async def one(number: int) -> None:
        request = pb.TxnRequest()
        value = b"%d " % time.monotonic_ns()
        for step in range(batch):
            put = pb.PutRequest(
                key=b"watch/%05d" % ((number + step) % 10_000), value=value.ljust(200)
            )
            request.success.add().request_put.MergeFrom(put)
        try:
            await raw.txn(request)
        finally:
            turn.release()

    async with asyncio.TaskGroup() as group:
        async for number in rated(count, batch, rate):
            await turn.acquire()
            group.create_task(one(number))
    await raw.aclose()


def _puts(port: int, quick: bool) -> Iterator[Row]:
    at_once, rounds, value = 1_000, 1 if quick else 5, b"x" * 200

    async def seconds(put: Callable[[str, bytes], Awaitable[Any]]) -> float:
        async def go() -> None:
            await asyncio.gather(*(put(f"put/{number:05}", value) for number in range(at_once)))

        await go()
        began = time.perf_counter()
        for _ in range(rounds):
            await go()
        return time.perf_counter() - began

    async def raw() -> float:
        client = Raw(port)

        async def put(key: str, value: bytes) -> Any:
            return await client.put(pb.PutRequest(key=key.encode(), value=value))

        try:
            return await seconds(put)
        finally:
            await client.aclose()

    async def ours() -> float:
        async with DataSync(f"etcd://127.0.0.1:{port}") as sync:
            return await seconds(sync.put)

    raw_s, ours_s = map(statistics.median, in_turns(raw, ours, 1 if quick else 7))
    count = rounds * at_once
    yield Row(
        what="puts at once", unit="puts/s", ours=count / ours_s, beside={RAW: count / raw_s},
        case={"at once": at_once},
    )  # fmt: skip


def run(quick: bool) -> Iterator[Row]:
    """The rows."""
    keys = 1_000 if quick else 100_000
    # what it thinks of the server's version is no news here
    logging.getLogger("datasync").setLevel(logging.ERROR)
    with _server() as port:
        follow = {1: 200, 100: 2_000} if quick else {1: 10_000, 100: 200_000}
        url = f"etcd://127.0.0.1:{port}"
        yield from figures(
            url, lambda: Raw(port), "bench.bench_etcd", port, keys=keys, follow=follow, quick=quick
        )
        yield from _puts(port, quick)


if __name__ == "__main__":
    asyncio.run(_write(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
