"""Redis: loading, following, latency and memory, each beside redis-py (with hiredis)
that does the same work; many puts at once beside valkey-glide where that is installed
(`pip install valkey-glide`), else beside a pipeline of redis-py.

Starts a server of its own on a free loopback port; the writers are processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import redis.asyncio

from bench.beside import figures, in_turns, rated, reached
from bench.rows import Row
from datasync import DataSync
from datasync.testing.chaos.ports import free_ports

COUNT = 5_000
PATIENCE = 60.0
"""Seconds that the plain client waits for an answer or a change: by default it gives up after 5,
which a busy machine needs to start the writer.
"""


@contextlib.contextmanager
def _server() -> Iterator[int]:
    """The port of a Redis that is gone with the block."""
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError(
            "redis-server is missing; install it with: apt-get install -y redis-server"
        )
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory() as directory:
        command = [
            program,
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--dir",
            directory,
            "--save",
            "",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            reached(port)
            yield port
        finally:
            process.kill()
            process.wait()


class Raw:
    """The plain client."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.client = redis.asyncio.Redis(port=port, protocol=3, socket_timeout=PATIENCE)

    async def load(self) -> dict[str, bytes]:
        """All keys under load/, page by page."""
        items: dict[str, bytes] = {}
        cursor = 0
        while True:
            keys: Any
            cursor, keys = await self.client.scan(cursor, match="load/*", count=COUNT)
            values: Any = await self.client.mget(keys) if keys else []
            for key, value in zip(keys, values, strict=True):
                items[key.decode()] = value
            if cursor == 0:
                return items

    def value(self, kept: bytes) -> bytes:
        """The value of a key that was loaded."""
        return kept

    @contextlib.asynccontextmanager
    async def follow(self) -> AsyncIterator[AsyncIterator[Sequence[bytes]]]:
        """The values of what is written under watch/ from now on."""
        connection = redis.asyncio.Connection(port=self._port, protocol=3, socket_timeout=PATIENCE)
        await connection.connect()  # type: ignore[no-untyped-call]
        parser: Any = connection._parser
        parser.set_invalidation_push_handler(_as_it_is)
        await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "watch/")
        assert await connection.read_response() == b"OK"

        async def values() -> AsyncIterator[Sequence[bytes]]:
            changed: dict[bytes, None] = {}
            state: dict[str, bytes] = {}
            while True:
                if not changed:
                    push: Any = await connection.read_response(push_request=True)
                    changed.update(dict.fromkeys(push[1]))
                keys, changed = list(changed), {}
                await connection.send_command("MGET", *keys)
                found: Any = None
                while found is None:
                    reply: Any = await connection.read_response(push_request=True)
                    if reply and reply[0] == b"invalidate":
                        changed.update(dict.fromkeys(reply[1]))
                    else:
                        found = reply
                news = []
                for key, value in zip(keys, found, strict=True):
                    name = key.decode()
                    # another change that the same answer showed already
                    if state.get(name) != value:
                        state[name] = value
                        news.append(value)
                if news:
                    yield news

        yield values()
        await connection.disconnect()

    async def fill(self, values: Sequence[bytes]) -> None:
        """Store all values under load/."""
        for start in range(0, len(values), COUNT):
            part = enumerate(values[start : start + COUNT], start)
            await self.client.mset(
                {b"load/interface/%07d" % number: value for number, value in part}
            )

    async def clear(self) -> None:
        """Delete what was followed."""
        await self.client.eval(
            "for _, key in ipairs(redis.call('KEYS', 'watch/*')) do redis.call('UNLINK', key) end",
            0,
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self.client.aclose()


async def _as_it_is(push: Any) -> Any:
    return push


async def _write(port: int, count: int, batch: int, rate: float) -> None:
    """Write `count` keys, `batch` at a time, as fast as it goes or at `rate` a second;
    the time in each.

    Over a plain socket, for a client would be slower than who follows.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = 0
    async for number in rated(count, batch, rate):
        value = (b"%d " % time.monotonic_ns()).ljust(200)
        commands = [
            b"*3\r\n$3\r\nSET\r\n$13\r\nwatch/%07d\r\n$200\r\n%s\r\n" % (number + step, value)
            for step in range(batch)
        ]
        writer.write(b"".join(commands))
        answers += batch
        if answers >= 4 * batch:
            await reader.readexactly(batch * len(b"+OK\r\n"))
            answers -= batch
    await reader.readexactly(answers * len(b"+OK\r\n"))
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def _putting(port: int) -> AsyncIterator[Callable[[Sequence[str], bytes], Awaitable[Any]]]:
    """Stores a value under many keys at once, with the client that there is."""
    if importlib.util.find_spec("glide") is not None:
        glide: Any = importlib.import_module("glide")
        config = glide.GlideClientConfiguration(
            [glide.NodeAddress("127.0.0.1", port)], request_timeout=60_000
        )
        client = await glide.GlideClient.create(config)
        yield lambda keys, value: asyncio.gather(*(client.set(key, value) for key in keys))
        await client.close()
        return
    async with redis.asyncio.Redis(port=port, protocol=3) as plain:

        async def pipelined(keys: Sequence[str], value: bytes) -> None:
            pipeline = plain.pipeline(transaction=False)
            for key in keys:
                pipeline.set(key, value)
            await pipeline.execute()

        yield pipelined


def _puts(port: int, quick: bool) -> Iterator[Row]:
    at_once, rounds, value = 1_000, 1 if quick else 20, b"x" * 200
    keys = [f"put/{number:05}" for number in range(at_once)]

    async def seconds(put: Callable[[Sequence[str], bytes], Awaitable[Any]]) -> float:
        await put(keys, value)
        began = time.perf_counter()
        for _ in range(rounds):
            await put(keys, value)
        return time.perf_counter() - began

    async def raw() -> float:
        async with _putting(port) as put:
            return await seconds(put)

    async def ours() -> float:
        async with DataSync(f"redis://127.0.0.1:{port}") as sync:
            return await seconds(
                lambda keys, value: asyncio.gather(*(sync.put(key, value) for key in keys))
            )

    raw_s, ours_s = map(statistics.median, in_turns(raw, ours, 1 if quick else 5))
    beside = "valkey-glide" if importlib.util.find_spec("glide") is not None else "redis-py"
    count = rounds * at_once
    yield Row(
        what="puts at once", unit="puts/s", ours=count / ours_s, beside={beside: count / raw_s},
        case={"at once": at_once},
    )  # fmt: skip


def run(quick: bool) -> Iterator[Row]:
    """The rows."""
    keys = 1_000 if quick else 100_000
    with _server() as port:
        follow = {1: 200, 100: 2_000} if quick else {1: 10_000, 100: 300_000}
        url = f"redis://127.0.0.1:{port}"
        yield from figures(
            url, lambda: Raw(port), "bench.bench_redis", port, keys=keys, follow=follow, quick=quick
        )
        yield from _puts(port, quick)


if __name__ == "__main__":
    asyncio.run(_write(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
