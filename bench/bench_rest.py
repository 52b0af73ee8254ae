"""REST: puts and fan-out, each beside a bare Starlette application on plain uvicorn that does no
more than the work.

The servers and the clients are processes of their own, on free loopback ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from bench.beside import reached
from bench.rows import Row
from datasync.cli.serve import allow_many_connections
from datasync.testing.chaos.ports import free_ports

BARE = "bare server"
CONNECTIONS = 16
VALUE = b'{"name":"eth0"}'.ljust(190)


# -- the bare server -------------------------------------------------------------------------------


def bare() -> Any:
    """A dict that is put to, and a stream of what is put."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    store: dict[str, bytes] = {}
    watchers: set[asyncio.Queue[bytes]] = set()

    async def put(request: Request) -> Response:
        raw = await request.body()
        key = request.path_params["key"]
        store[key] = raw
        if watchers:
            event = b"event: commit\ndata: " + raw + b"\n\n"
            for watcher in watchers:
                watcher.put_nowait(event)
        return JSONResponse({"revision": len(store)})

    async def events(_: Request) -> Response:
        queue: asyncio.Queue[bytes] = asyncio.Queue()

        async def stream() -> AsyncIterator[bytes]:
            watchers.add(queue)
            yield b": hello\n\n"
            while True:
                yield await queue.get()

        return StreamingResponse(stream(), media_type="text/event-stream")

    return Starlette(
        routes=[
            Route("/v1/keys/{key:path}", put, methods=["PUT"]),
            Route("/v1/events", events, methods=["GET"]),
        ]
    )


async def _serve_bare(port: int) -> None:
    from uvicorn import Config, Server

    config = Config(
        bare(), port=port, log_level="critical", access_log=False, server_header=False,
        date_header=False, lifespan="off",
    )  # fmt: skip
    await Server(config).serve()


# -- the clients -----------------------------------------------------------------------------------


async def _put(port: int, count: int) -> None:
    """Put `count` values over a number of connections, one after the other on each;
    prints the seconds.
    """
    left = count

    async def one(number: int) -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            b"PUT /v1/keys/bench/%d HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
            % (number, len(VALUE))
        )
        while left > 0:
            left -= 1
            writer.write(head + VALUE)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 20"), answer
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            await reader.readexactly(int(length))
        writer.close()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(one(number))
    sys.stdout.write(f"{time.perf_counter() - began}\n")


class _Watcher(asyncio.Protocol):
    """Counts the commits that a stream brings."""

    def __init__(self, wanted: int, note: Callable[[str], None]) -> None:
        self._left = wanted
        self._note = note
        self._tail = b""
        self._begun = False

    def connection_made(self, transport: Any) -> None:
        transport.write(b"GET /v1/events?prefix=bench/ HTTP/1.1\r\nhost: localhost\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._note("begun")
        data = self._tail + data
        found = data.count(b"event: commit\n")
        self._tail = data[-13:] if not data.endswith(b"event: commit\n") else b""
        self._left -= found
        if found and self._left <= 0:
            self._note("done")


async def _watch(port: int, watchers: int, wanted: int) -> None:
    """Follow with many connections; prints "ready",
    then the seconds from then until all have all.
    """
    loop, turns = asyncio.get_running_loop(), {"begun": asyncio.Event(), "done": asyncio.Event()}
    counts = dict.fromkeys(turns, 0)

    def note(what: str) -> None:
        counts[what] += 1
        if counts[what] == watchers:
            turns[what].set()

    for _ in range(watchers):
        await loop.create_connection(lambda: _Watcher(wanted, note), "127.0.0.1", port)
    await turns["begun"].wait()
    await asyncio.sleep(0.5)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    began = time.perf_counter()
    await turns["done"].wait()
    sys.stdout.write(f"{time.perf_counter() - began}\n")


# -- what is measured ------------------------------------------------------------------------------


@contextlib.contextmanager
def _server(*command: str) -> Iterator[int]:
    """The port of a server that is gone with the block."""
    [port] = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", *(part.format(port=port) for part in command)],
        stdout=subprocess.DEVNULL,
    )
    try:
        reached(port)
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _both() -> Iterator[tuple[int, int]]:
    ours = ("datasync", "serve", "memory://", "--http", "127.0.0.1:{port}")
    with _server("bench.bench_rest", "bare", "{port}") as one, _server(*ours) as two:
        yield one, two


def _client(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.bench_rest", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _puts(quick: bool) -> Iterator[Row]:
    count = 300 if quick else 40_000
    rates: list[list[float]] = [[], []]
    with _both() as ports:
        for _ in range(1 if quick else 5):
            for port, found in zip(ports, rates, strict=True):
                out, _ = _client("put", port, count).communicate()
                found.append(count / float(out))
    raw, ours = map(statistics.median, rates)
    yield Row(
        what="puts", unit="puts/s", ours=ours, beside={BARE: raw},
        case={"connections": CONNECTIONS, "bytes a value": len(VALUE)},
    )  # fmt: skip


def _fan_out(quick: bool) -> Iterator[Row]:
    watchers, changes = (20, 20) if quick else (1_000, 200)
    seconds: list[list[float]] = [[], []]
    with _both() as ports:
        for _ in range(1 if quick else 3):
            for port, found in zip(ports, seconds, strict=True):
                follower = _client("watch", port, watchers, changes)
                assert follower.stdout is not None
                assert follower.stdout.readline() == "ready\n"
                _client("put", port, changes).communicate()
                found.append(float(follower.stdout.readline()))
                follower.wait()
                follower.stdout.close()
    raw, ours = (statistics.median(found) for found in seconds)
    deliveries = watchers * changes
    yield Row(
        what="fan-out", unit="deliveries/s", ours=deliveries / ours,
        beside={BARE: deliveries / raw}, case={"watchers": watchers, "changes": changes},
    )  # fmt: skip


def run(quick: bool) -> Iterator[Row]:
    """The rows."""
    yield from _puts(quick)
    yield from _fan_out(quick)


if __name__ == "__main__":
    allow_many_connections()
    what, numbers = sys.argv[1], list(map(int, sys.argv[2:]))
    jobs: dict[str, Callable[..., Any]] = {"bare": _serve_bare, "put": _put, "watch": _watch}
    asyncio.run(jobs[what](*numbers))
