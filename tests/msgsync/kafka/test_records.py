"""What records of other clients look like, and what a reader makes of them."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable

import pytest
from aiokafka import codec as codecs
from aiokafka.record.util import calc_crc32c

from datasync import DataSync
from datasync.msgsync.kafka.cluster import Access, Cluster
from datasync.msgsync.kafka.fetch import Fetcher
from datasync.msgsync.kafka.position import Position
from datasync.msgsync.kafka.publish import Message, batch_of, produce
from datasync.msgsync.kafka.records import Records, State, apply
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import eventually
from tests.helpers.growth import Steps, growth
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.kafka.load import settled, watched
from tests.helpers.load import state_of

_HEADER = 61
_PACK = [bytes, codecs.gzip_encode, codecs.snappy_encode, codecs.lz4_encode, codecs.zstd_encode]


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_a_header_whose_name_is_no_text_hides_nothing(server: KafkaServer, codec: int) -> None:
    """Clients in other languages write any bytes there."""

    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        message = Message(b"a/odd", b"1")
        message.headers = [("NAME", b"\xff"), ("NAME", None)]  # type: ignore[list-item]
        messages = [message, Message(b"a/beside", b"2"), Message(b"a/gone", None)]
        plain = batch_of(messages, (-1, -1), -1, 10_000)[0].replace(b"NAME", b"\xff\xfe\xfd\xfc")
        batch = bytearray(plain[:_HEADER] + _PACK[codec](plain[_HEADER:]))
        batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
        batch[22] = codec
        batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
        cluster = Cluster(Access((("127.0.0.1", server.port),), topic))
        try:
            async with DataSync(f"{server.url}/{topic}") as sync:
                view = sync.view("")
                await view.at_least(0)
                await sync.put("a/gone", b"0")
                code, _ = await produce(cluster, 0, bytes(batch), None, connected=asyncio.Event())
                assert not code
                await sync.put("a/behind", b"3")
                wanted = {"a/odd": b"1", "a/beside": b"2", "a/behind": b"3"}
                await eventually(lambda: dict(view) == wanted)
                assert {kv.key: kv.raw async for kv in sync.list("")} == wanted
        finally:
            await cluster.aclose()

    asyncio.run(main())


def test_two_transactions_of_one_producer_are_two_events(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        async with (
            server.proxy() as proxy,
            watched(server.port, topic, by=proxy.port) as (sync, probe),
            topics.producer(server.port, transactional_id=topic) as producer,
        ):
            await proxy.refuse()
            await eventually(lambda: state_of(sync) == "lost")
            for value in (b"1", b"2", b"3"):  # they come in one answer
                async with producer.transaction():
                    await producer.send(topic, value, key=b"a/1")
                    await producer.send(topic, value, key=b"a/2")
            await proxy.start()
            await settled(probe, server.port, topic)
            assert [
                sorted((change.key, change.raw) for change in event.changes)
                for event in probe.changes
            ] == [[("a/1", value), ("a/2", value)] for value in (b"1", b"2", b"3")]

    asyncio.run(main())


def test_a_long_partition_does_not_hold_up_large_values_of_another(server: KafkaServer) -> None:
    """A broker answers with a batch beyond the limit of a partition only where that
    partition comes first.
    """

    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, 2, max_message_bytes=8 << 20)
        async with topics.producer(server.port, max_request_size=8 << 20) as producer:
            for number in range(20):
                await producer.send_and_wait(
                    topic, b"x" * (1 << 20), key=b"a/%d" % number, partition=0
                )
            await producer.send_and_wait(topic, b"x" * (5 << 20), key=b"a/large", partition=1)
        cluster = Cluster(Access((("127.0.0.1", server.port),), topic))
        try:
            found = await cluster.topic()
            order = []
            async for fetched in Fetcher(cluster, found, Position.at_start(found)).read(
                await cluster.ends(found)
            ):
                order += [fetched.partition] * bool(fetched.groups)
            assert order.index(1) < order.count(0)
        finally:
            await cluster.aclose()

    asyncio.run(main())


def test_odd_keys(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        keys = ["/", "/x", "a//b", "a/\0", "ключ", "a" * 3000]
        async with (
            topics.producer(server.port) as producer,
            DataSync(f"{server.url}/{topic}") as sync,
        ):
            view = sync.view("")
            for key in ["", *keys[:3]]:  # the empty one is skipped
                await producer.send_and_wait(topic, b"1", key=key.encode())
            await view.at_least(0)
            for key in keys[3:]:
                await producer.send_and_wait(topic, b"1", key=key.encode())
            await eventually(lambda: set(view) == set(keys))
            assert {kv.key async for kv in sync.list("")} == set(keys)

    asyncio.run(main())


def table_of(keys: Iterable[str | bytes]) -> State:
    state, revisions = State(), itertools.count(1)
    records: Records = [
        (next(revisions), key if isinstance(key, bytes) else key.encode(), b"1") for key in keys
    ]
    apply(state, [(None, records)], None, lambda key: None)
    return state


def test_each_key_is_deleted_by_the_first_prefix_that_holds_it() -> None:
    rng = random.Random(19)
    pieces = ["a/", "b/", "/", "é/", "\U0010ffff/", "a"]
    for _ in range(200):
        keys = {
            "".join(rng.choices(pieces, k=rng.randint(1, 4))) + rng.choice(["", "1", "2"])
            for _ in range(30)
        }
        state = table_of([*keys, b"a/\xff", b"\xff/1"])
        for key in rng.sample(sorted(keys), 3):
            state.pop(key, None)
        prefixes = ["", *{"".join(rng.choices(pieces[:-1], k=rng.randint(1, 3))) for _ in range(8)}]
        rng.shuffle(prefixes)

        left = {key.encode() for key in state} | state.skipped
        for prefix, deleted in zip(prefixes, state.deleted_by(prefixes), strict=True):
            assert deleted == sorted(key for key in left if key.startswith(prefix.encode()))
            left.difference_update(deleted)
        assert not left
        assert state.under("a/") == sorted(key for key in state if key.startswith("a/"))
        apply(state, [(None, [(99, b"a/new", b"1")])], None, lambda key: None)
        assert state.under("a/") == sorted(key for key in state if key.startswith("a/"))


@pytest.mark.parametrize("prefix", ["{}/", "{}/none/", "0/"])
def test_prefix_deletes_cost_what_they_are_and_delete(prefix: str) -> None:
    async def deleting(count: int, steps: Steps) -> None:
        state = table_of(f"{number}/key" for number in range(count))
        prefixes = [
            prefix.format(number) + "/" * (prefix == "0/") * number
            for number in range(count, 0, -1)
        ]
        with steps:
            state.deleted_by(prefixes)

    assert growth(deleting) < 6
