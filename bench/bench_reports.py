"""Reports: from a put to the verdict of an agent over each store; what reporting costs an agent.

The raw way, by a plain client: who writes watches a second key, which the other side writes once it
has seen the first. Both sides are in this process, on connections of their own, and take turns with
ours. Servers are started on free loopback ports; one that is missing is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench import bench_etcd, bench_kafka, bench_redis
from bench.beside import RAW, in_turns
from bench.left_out import found
from bench.rows import Row
from datasync import DataSync, Event, Reports
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.kvdbsync.sqlite.driver import load_driver
from datasync.testing.chaos import kafka_topics as topics
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.servers import started

CONFIG, STATUS = "watch/config", "watch/status"
_POLL = 0.001
"""Seconds between two looks of the plain loop at a file of SQLite."""


class Side(Protocol):
    """A plain client of a store: what the writer has, and the agent."""

    async def write(self, key: str, value: bytes) -> object:
        """Store it."""

    def follow(self) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Sequence[bytes]]]:
        """The new values from now on, as they come."""

    async def aclose(self) -> None:
        """Close its connections."""


def run(quick: bool) -> Iterator[Row]:
    """The rows."""
    # what it thinks of the server's version is no news here
    logging.getLogger("datasync").setLevel(logging.ERROR)
    times = 20 if quick else 1_000
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "verdicts.db"
        plain = file.with_name("plain.db")
        yield _verdicts("sqlite", f"sqlite:///{file}", lambda: File(plain), times)
    if found("etcd", "apt-get install -y etcd-server"):
        with bench_etcd._server() as port:
            url = f"etcd://127.0.0.1:{port}"
            yield _verdicts("etcd", url, lambda: Etcd(port), times)
    if found("redis-server", "apt-get install -y redis-server"):
        with bench_redis._server() as port:
            url = f"redis://127.0.0.1:{port}"
            yield _verdicts("redis", url, lambda: Redis(port), times)
    with started(KafkaServer) as server:
        asyncio.run(topics.make(server.port, bench_kafka.TOPIC))
        url = f"{server.url}/{bench_kafka.TOPIC}"
        yield _verdicts("kafka", url, lambda: Kafka(server.port), times)

    changes = 2_000 if quick else 100_000
    yield _cost("memory", lambda directory: "memory://", changes, quick)
    yield _cost("sqlite", lambda directory: f"sqlite:///{directory}/a.db", changes // 10, quick)


# -- put → verdict ---------------------------------------------------------------------------------


def _verdicts(store: str, url: str, side: Callable[[], Side], times: int) -> Row:
    """The median of as many, one after the other."""

    async def raw() -> list[float]:
        writer, agent = side(), side()
        try:
            async with (
                writer.follow() as heard,
                agent.follow() as seen,
                asyncio.TaskGroup() as group,
            ):
                applying = group.create_task(_apply(agent, seen))

                async def ask(value: bytes) -> None:
                    await writer.write(CONFIG, value)
                    while b"done " + value not in await anext(heard):
                        pass

                spent = await _timed(ask, times)
                applying.cancel()
        finally:
            await writer.aclose()
            await agent.aclose()
        return spent

    async def ours() -> list[float]:
        agent = DataSync(url, report_to="status/", agent="agent")
        reports = Reports("status/", agents=["agent"], timeout=60)

        @agent.watcher("config/")
        async def apply(event: Event[bytes]) -> None:
            pass

        async with agent, DataSync(url) as ctl:
            await agent.ready()
            await _reported(ctl)
            return await _timed(lambda value: ctl.put("config/a", value, confirm=reports), times)

    first, second = in_turns(raw, ours, 3)
    raw_s, ours_s = (sorted(spent for turn in turns for spent in turn) for turns in (first, second))
    return Row(
        what="put → verdict", unit="ms", ours=statistics.median(ours_s) * 1e3,
        beside={RAW: statistics.median(raw_s) * 1e3}, case={"store": store},
        also={"p99, ms": _p99(ours_s), "its p99, ms": _p99(raw_s)},
    )  # fmt: skip


async def _apply(agent: Side, seen: AsyncIterator[Sequence[bytes]]) -> None:
    async for values in seen:
        for value in values:
            if not value.startswith(b"done "):
                await agent.write(STATUS, b"done " + value)


async def _timed(ask: Callable[[bytes], Awaitable[object]], times: int) -> list[float]:
    spent = []
    for number in range(times + 5):
        began = time.perf_counter()
        await ask(b"value %d" % number)
        spent.append(time.perf_counter() - began)
    return spent[5:]  # the first ones connect


async def _reported(ctl: DataSync) -> None:
    """Wait until the agent has: nobody asks one who has never reported."""
    async with contextlib.aclosing(ctl.reports("status/")) as reports:
        async for report in reports:
            if report.alive and report.well:
                return


def _p99(spent: list[float]) -> float:
    return spent[math.ceil(len(spent) * 0.99) - 1] * 1e3


class File:
    """SQLite: one table, and a look each millisecond whether somebody else has written."""

    def __init__(self, path: Path) -> None:
        self._connection = load_driver("apsw").connect(str(path), "rwc")
        self._connection.all("PRAGMA journal_mode=wal")
        self._connection.run("PRAGMA synchronous=normal")
        self._connection.run("CREATE TABLE IF NOT EXISTS plain(key TEXT PRIMARY KEY, value BLOB)")

    async def write(self, key: str, value: bytes) -> None:
        self._connection.run("REPLACE INTO plain VALUES(?, ?)", (key, value))

    @contextlib.asynccontextmanager
    async def follow(self) -> AsyncIterator[AsyncIterator[Sequence[bytes]]]:
        yield self._values(self._version())

    async def _values(self, known: int) -> AsyncIterator[Sequence[bytes]]:
        while True:
            version = self._version()
            if version != known:
                known = version
                yield [value for (value,) in self._connection.all("SELECT value FROM plain")]
            else:
                await asyncio.sleep(_POLL)

    def _version(self) -> int:
        [(version,)] = self._connection.all("PRAGMA data_version")
        return int(version)

    async def aclose(self) -> None:
        self._connection.close()


class Etcd(bench_etcd.Raw):
    """etcd: Put, and Watch."""

    async def write(self, key: str, value: bytes) -> None:
        await self.put(pb.PutRequest(key=key.encode(), value=value))


class Redis(bench_redis.Raw):
    """Redis: SET, and invalidations with MGET."""

    async def write(self, key: str, value: bytes) -> None:
        await self.client.set(key, value)


class Kafka(bench_kafka.Raw):
    """Kafka: a producer, and a consumer of the one partition."""

    _producer: Any = None

    async def write(self, key: str, value: bytes) -> None:
        if self._producer is None:
            self._closing = contextlib.AsyncExitStack()
            made = bench_kafka._producer(self._port)
            self._producer = await self._closing.enter_async_context(made)
        await self._producer.send_and_wait(bench_kafka.TOPIC, value, key=key.encode())

    async def aclose(self) -> None:
        if self._producer is not None:
            await self._closing.aclose()
        await super().aclose()


# -- what it costs ---------------------------------------------------------------------------------


def _cost(store: str, url: Callable[[str], str], changes: int, quick: bool) -> Row:
    """Of an agent that is given changes as fast as it takes them, by the time of its process."""

    async def seconds(**options: Any) -> float:
        with tempfile.TemporaryDirectory() as directory:
            agent = DataSync(url(directory), **options)
            last, done = b"%d" % (changes - 1), asyncio.Event()

            @agent.watcher("config/")
            async def apply(event: Event[bytes]) -> None:
                if any(change.raw == last for change in event.changes):
                    done.set()

            async with agent:
                await agent.ready()
                gc.collect()
                began = time.process_time()
                for number in range(changes):
                    await agent.put(f"config/{number % 1000}", b"%d" % number)
                await done.wait()
                return time.process_time() - began

    without, reporting = in_turns(
        seconds, lambda: seconds(report_to="status/", agent="agent"), 1 if quick else 7
    )
    return Row(
        what="an agent at full speed", unit="changes/s", ours=changes / min(reporting),
        beside={"the same without reports": changes / min(without)},
        case={"store": store, "changes": changes},
    )  # fmt: skip
