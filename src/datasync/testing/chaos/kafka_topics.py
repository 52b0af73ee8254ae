"""What tests do to topics beside datasync, by aiokafka's plain admin client."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from datasync.msgsync.kafka.cluster import Access, Cluster
from datasync.testing.chaos.process import until

__all__ = [
    "add_partitions", "alter", "committed", "compact", "delete", "delete_records", "everything",
    "exists", "history", "id_of", "known", "make", "new_name", "producer", "records",
]  # fmt: skip

_numbers = itertools.count()


def new_name() -> str:
    """A topic that no other test has."""
    return f"test-{os.getpid()}-{next(_numbers)}"


@contextlib.asynccontextmanager
async def admin(port: int) -> AsyncIterator[Any]:
    """A client of the broker on that port."""
    client: Any = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}")
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def make(
    port: int,
    name: str,
    partitions: int = 1,
    replication: int = 1,
    replicas: Sequence[int] = (),
    **settings: object,
) -> None:
    """Make a compacted topic; underscores in the names of settings stand for dots. `replicas`: the
    brokers that hold its only partition, the leader first."""
    configs = {"cleanup.policy": "compact"} | _dotted(settings)
    if replicas:
        topic = NewTopic(
            name, -1, -1, replica_assignments={0: list(replicas)}, topic_configs=configs
        )
    else:
        topic = NewTopic(name, partitions, replication, topic_configs=configs)
    async with admin(port) as client:
        answer = await client.create_topics([topic])
        assert not answer.topic_errors[0][1], answer
    await known(port, name)


async def known(port: int, name: str) -> None:
    """Wait until that broker knows the topic, and who leads its partitions."""
    async with admin(port) as client:

        async def led() -> bool:
            (found,) = await client.describe_topics([name])
            return not found["error_code"] and all(
                not part["error_code"] for part in found["partitions"]
            )

        await until(led, f"{name} is made")


async def delete(port: int, name: str) -> None:
    """Delete a topic, and wait until it is gone."""
    async with admin(port) as client:
        await client.delete_topics([name])

        async def gone() -> bool:
            return name not in await client.list_topics()

        await until(gone, f"{name} is gone")


async def exists(port: int, name: str) -> bool:
    """Whether there is such a topic."""
    async with admin(port) as client:
        return name in await client.list_topics()


async def alter(port: int, name: str, **settings: object) -> None:
    """Change settings of a topic; those that are not named go back to their
    defaults, but it stays compacted."""
    configs = {"cleanup.policy": "compact"} | _dotted(settings)
    async with admin(port) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)])


async def add_partitions(port: int, name: str, count: int) -> None:
    """Let it have so many."""
    async with admin(port) as client:
        await client.create_partitions({name: NewPartitions(count)})


def _dotted(settings: Mapping[str, object]) -> dict[str, str]:
    return {name.replace("_", "."): str(value) for name, value in settings.items()}


async def compact(port: int, name: str) -> None:
    """Have Kafka's log cleaner remove all that is overwritten or deleted now, tombstones included.

    The active segment is never cleaned, so a record that means nothing begins another one.
    """
    await alter(port, name, delete_retention_ms=0, min_cleanable_dirty_ratio=0.0001, segment_ms=100)


async def records(port: int, name: str) -> dict[int, list[Any]]:
    """All committed records that the topic has now, as a plain client reads them, by partition."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=f"127.0.0.1:{port}",
        isolation_level="read_committed",
        fetch_max_wait_ms=20,
    )

    await consumer.start()
    try:
        async with admin(port) as client:
            (found,) = await client.describe_topics([name])

        places = [TopicPartition(name, part["partition"]) for part in found["partitions"]]
        consumer.assign(places)
        starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)

        log: dict[int, list[Any]] = {place.partition: [] for place in places}
        for place in places:
            consumer.seek(place, starts[place])
        left = {place for place in places if starts[place] < ends[place]}

        while left:
            for place, found in (await consumer.getmany(timeout_ms=200)).items():
                log[place.partition] += found
            left = {place for place in left if await consumer.position(place) < ends[place]}

        return log
    finally:
        await consumer.stop()


async def history(port: int, name: str) -> dict[int, list[tuple[int, bytes | None, bytes | None]]]:
    """The same as (offset, key, value)."""
    return {
        partition: [(record.offset, record.key, record.value) for record in found]
        for partition, found in (await records(port, name)).items()
    }


async def everything(port: int, name: str) -> dict[str, bytes]:
    """What the topic holds by key."""
    state: dict[str, bytes] = {}
    for records in (await history(port, name)).values():
        for _, key, value in records:
            assert key is not None
            if value is None:
                state.pop(key.decode(), None)
            else:
                state[key.decode()] = value
    return state


async def id_of(port: int, name: str) -> str:
    """The topic's id, as a source names its history."""
    cluster = Cluster(Access((("127.0.0.1", port),), name))
    try:
        return (await cluster.topic()).id.hex()
    finally:
        await cluster.aclose()


@contextlib.asynccontextmanager
async def producer(port: int, **options: Any) -> AsyncIterator[Any]:
    """A plain producer."""
    client: Any = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{port}", **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def delete_records(port: int, name: str, before: int) -> None:
    """Have partition 0 begin at that offset."""
    async with admin(port) as client:
        await client.delete_records({TopicPartition(name, 0): RecordsToDelete(before)})


async def committed(port: int, group: str) -> dict[int, int]:
    """The offsets that a consumer group has committed, by partition."""
    async with admin(port) as client:
        found = await client.list_consumer_group_offsets(group)
        return {place.partition: at.offset for place, at in found.items()}
