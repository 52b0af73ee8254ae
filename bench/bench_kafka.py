"""Kafka: loading, publishing, following and latency,
each beside aiokafka's plain client that does the same work; publishing also beside
confluent-kafka where that is installed (`pip install confluent-kafka`).

Starts a broker of its own on free loopback ports, as the tests do; the writers are processes of
their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.beside import RAW, figures, in_turns, rated
from bench.rows import Row
from datasync import DataSync
from datasync.testing.chaos import kafka_topics as topics
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.servers import started

TOPIC = "bench"
_PLACE = TopicPartition(TOPIC, 0)
_KEYS = 10_000
"""Different ones that are followed."""


@contextlib.asynccontextmanager
async def _producer(port: int) -> AsyncIterator[Any]:
    client: Any = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{port}", enable_idempotence=True)
    await client.start()
    yield client
    await client.stop()


async def _send(port: int, items: Sequence[tuple[bytes, bytes | None]]) -> None:
    async with _producer(port) as client:
        for start in range(0, len(items), 10_000):
            waiting = [
                await client.send(TOPIC, value, key=key)
                for key, value in items[start : start + 10_000]
            ]
            await asyncio.gather(*waiting)


class Raw:
    """The plain client, of one partition."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client: Any = None

    async def _consumer(self) -> Any:
        if self._client is None:
            self._client = AIOKafkaConsumer(
                bootstrap_servers=f"127.0.0.1:{self._port}",
                isolation_level="read_committed",
                max_partition_fetch_bytes=4 << 20,
            )
            await self._client.start()
            self._client.assign([_PLACE])
        return self._client

    async def load(self) -> dict[str, tuple[bytes, int]]:
        """The topic read from its start to its end."""
        client = await self._consumer()
        client.seek(_PLACE, 0)
        end = (await client.end_offsets([_PLACE]))[_PLACE]
        items: dict[str, tuple[bytes, int]] = {}
        while await client.position(_PLACE) < end:
            for records in (await client.getmany(timeout_ms=1000)).values():
                for record in records:
                    items[record.key.decode()] = (record.value, record.offset)
        return items

    def value(self, kept: tuple[bytes, int]) -> bytes:
        """The value of a key that was loaded."""
        return kept[0]

    @contextlib.asynccontextmanager
    async def follow(self) -> AsyncIterator[AsyncIterator[Sequence[bytes]]]:
        """The values of everything from now on."""
        client = await self._consumer()
        client.seek(_PLACE, (await client.end_offsets([_PLACE]))[_PLACE])

        async def values() -> AsyncIterator[Sequence[bytes]]:
            while True:
                for records in (await client.getmany(timeout_ms=1000)).values():
                    found = []
                    for record in records:
                        assert record.key.decode()
                        found.append(record.value)
                    yield found

        yield values()

    async def clear(self) -> None:
        """Delete what was followed."""
        await _send(self._port, [(b"watch/%05d" % number, None) for number in range(_KEYS)])

    async def fill(self, values: Sequence[bytes]) -> None:
        """Store all values under load/."""
        await _send(
            self._port,
            [(b"load/interface/%07d" % number, value) for number, value in enumerate(values)],
        )

    async def aclose(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.stop()


async def _write(port: int, count: int, rate: float) -> None:
    """Write `count` values, as fast as it goes or at `rate` a second; the time in each."""
    async with _producer(port) as client:
        waiting = []
        async for number in rated(count, 1, rate):
            value = (b"%d " % time.monotonic_ns()).ljust(200)
            waiting.append(await client.send(TOPIC, value, key=b"watch/%05d" % (number % _KEYS)))
            if len(waiting) >= 10_000:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)


def _publish(server: KafkaServer, quick: bool) -> Iterator[Row]:
    value = b"x" * 200
    for at_once, count in ((1, 50 if quick else 3_000), (2_000, 2_000 if quick else 100_000)):

        async def raw(at_once: int = at_once, count: int = count) -> float:
            async with _producer(server.port) as client:
                await client.send_and_wait(TOPIC, value, key=b"first")
                began = time.perf_counter()
                for start in range(0, count, at_once):
                    await asyncio.gather(
                        *[
                            await client.send(TOPIC, value, key=b"put/%05d" % (start + n))
                            for n in range(at_once)
                        ]
                    )
                return time.perf_counter() - began

        async def ours(at_once: int = at_once, count: int = count) -> float:
            async with DataSync(f"{server.url}/{TOPIC}") as sync:
                await sync.put("first", value)
                began = time.perf_counter()
                for start in range(0, count, at_once):
                    if at_once == 1:
                        await sync.put(f"put/{start:05}", value)
                    else:
                        await asyncio.gather(
                            *(sync.put(f"put/{start + n:05}", value) for n in range(at_once))
                        )
                return time.perf_counter() - began

        async def confluent(at_once: int = at_once, count: int = count) -> float:
            aio: Any = importlib.import_module("confluent_kafka.aio")
            client = aio.AIOProducer(
                {"bootstrap.servers": f"127.0.0.1:{server.port}", "enable.idempotence": True}
            )
            await client.flush()
            began = time.perf_counter()
            for start in range(0, count, at_once):
                sent = await asyncio.gather(
                    *(
                        client.produce(TOPIC, value=value, key=b"put/%05d" % (start + n))
                        for n in range(at_once)
                    )
                )
                await client.flush()
                await asyncio.gather(*sent)
            took = time.perf_counter() - began
            await client.close()
            return took

        others: dict[str, Callable[[], Awaitable[float]]] = {RAW: raw}
        if importlib.util.find_spec("confluent_kafka") is not None:
            others["confluent-kafka"] = confluent
        found, beside = [], {}
        for name, other in others.items():
            first, second = in_turns(other, ours, 1 if quick else 3)
            beside[name] = count / statistics.median(first)
            found += second
        yield Row(
            what="publish with acknowledgement", unit="messages/s",
            ours=count / statistics.median(found), beside=beside,
            case={"at once": at_once, "messages": count},
        )  # fmt: skip


def run(quick: bool) -> Iterator[Row]:
    """The rows."""
    keys = 1_000 if quick else 100_000
    with started(KafkaServer) as server:
        asyncio.run(topics.make(server.port, TOPIC))
        yield from figures(
            f"{server.url}/{TOPIC}", lambda: Raw(server.port), __name__, server.port, keys=keys,
            follow={1: 1_000 if quick else 200_000}, quick=quick,
        )  # fmt: skip
        yield from _publish(server, quick)


if __name__ == "__main__":
    asyncio.run(_write(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[4])))
