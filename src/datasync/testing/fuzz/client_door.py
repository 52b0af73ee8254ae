"""Broken and hostile servers: whatever they send, their clients raise errors of
ours, and go on with a good one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

from datasync.source import Delete, Put, SnapshotEnd, Source
from datasync.testing.chaos.store import Proxied
from datasync.testing.chaos.stores import store_for
from datasync.testing.fuzz.door import Door, Finding, first_of, typed
from datasync.testing.fuzz.lies import GrpcLies, KafkaLies, Lies
from datasync.transports import open_url

__all__ = ["door"]

_RESP = [
    b"*", b"$", b"%", b"~", b">", b"+", b"-", b":", b"_\r\n", b"#t\r\n", b",1e400\r\n",
    b"(99999999999999999999\r\n", b"*-1\r\n", b"$-1\r\n", b"*2147483647\r\n", b"$2147483647\r\n",
    b"%1000000000\r\n", b"\r\n", b"$9\r\n", b"*0\r\n", b"-MOVED x y\r\n",
    b"-MOVED 0 127.0.0.1:1\r\n", b"-ASK 1 h:1\r\n", b"-LOADING\r\n", b"-READONLY x\r\n", b"-\r\n",
    b"*1\r\n" * 2000, b">3\r\n", b"invalidate", b"|1\r\n+a\r\n+b\r\n", b"=8\r\ntxt:abcd\r\n",
    b"!3\r\nabc\r\n",
]  # fmt: skip
_HTTP = [
    b"\r\n", b"\n\n", b": ", b"HTTP/1.1 500 x\r\n", b"HTTP/1.1 200 OK\r\n",
    b"Content-Length: 9\r\n", b"0\r\n\r\n", b"ffffffff\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n", b"data: {}\n", b"id: \xff\n", b"event: commit\n",
    b"event: begin\n", b"event: end\n", b"event: chunk\n", b'"value_base64":"=",', b'"\xff"',
    b"[", b'"revision":99999999999999999999', b'"revision":-5', b"null", b"[" * 3000,
    b'"key":""', b'"op":"x"', b"\x1b[31m",
]  # fmt: skip
_PROTOBUF = [
    b"\x0a\x00",
    b"\x0a\x01\xff",
    b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x12\x02\x08\x01",
    b"\x18\x00",
]
_LIES: dict[str, Callable[[random.Random], Lies]] = {
    "redis": lambda rng: Lies(rng, _RESP),
    "http": lambda rng: Lies(rng, _HTTP),
    "kafka": KafkaLies,
    "etcd": lambda rng: GrpcLies(rng, _PROTOBUF),
    "grpc+watch": lambda rng: GrpcLies(rng, _PROTOBUF),
}
_CLIENTS = 8
"""So many are lied to at a time: mostly they wait."""


@contextlib.asynccontextmanager
async def door(scheme: str) -> AsyncIterator[Door]:
    """The real server of a scheme behind a proxy that lies."""
    store = store_for(f"{scheme}://")
    assert isinstance(store, Proxied)
    try:
        await store.start()
        url = store.url.partition("?")[0]
        async with _source(f"{url}?timeout=30") as good:
            for number in range(300):
                await good.commit([Put(f"a/{number:03}", b"v" * 100)])

        async def case(rng: random.Random) -> str:
            seeds = iter([rng.getrandbits(64) for _ in range(100)])
            store.proxy.lies = lambda: _LIES[scheme](random.Random(next(seeds, 0)))
            drawn = [random.Random(rng.getrandbits(64)) for _ in range(_CLIENTS)]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(_use(one, f"{url}?timeout=0.5")) for one in drawn]
            finally:
                store.proxy.lies = None
            return first_of(task.result() for task in tasks)

        async def works() -> None:
            async with _source(f"{url}?timeout=30") as source:
                await source.commit([Put("works", b"1")])
                found = await source.get("works")
                if found is None or found[0] != b"1":
                    raise Finding(f"what was written is not there: {found}")

        yield Door(case, works)
    finally:
        await store.aclose()


@contextlib.asynccontextmanager
async def _source(url: str) -> AsyncIterator[Source]:
    source = open_url(url)
    try:
        yield source
    finally:
        await source.aclose()


async def _use(rng: random.Random, url: str) -> str:
    """What one does with a source: what came of it at first that was not done."""
    names = []
    async with _source(url) as source:
        for _ in range(rng.randint(1, 4)):
            with typed() as outcome:
                match rng.randrange(6):
                    case 0 | 1 | 2:
                        await _follow(rng, source)
                    case 3:
                        await source.get("a/001")
                    case 4:
                        await source.page("a/", None, 100)
                    case _:
                        await source.commit(
                            [
                                Put("a/001", rng.randbytes(9)),
                                *([Delete("a/002")] * rng.randint(0, 1)),
                            ]
                        )
            names.append(outcome.name)
    return first_of(names)


async def _follow(rng: random.Random, source: Source) -> None:
    session = await source.open([rng.choice(["", "a/"])])
    try:
        async with asyncio.timeout(rng.choice([0.2, 1.0])):
            async for frames in session:
                if any(isinstance(frame, SnapshotEnd) for frame in frames):
                    await source.commit([Put("a/003", rng.randbytes(9))])
                    await session.ping()
                    if rng.random() < 0.5:
                        break
    except TimeoutError:
        pass  # nothing more comes
    finally:
        await session.aclose()
