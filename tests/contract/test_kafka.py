"""The contract suite on Kafka's own broker: each test has a topic of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

import pytest

from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import ContractSuite, Store
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.servers import started


class TestKafka(ContractSuite):
    """One broker for all tests of a worker."""

    server: ClassVar[KafkaServer]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def running(cls) -> Iterator[None]:
        with started(KafkaServer) as cls.server:
            yield

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        server, topic = self.server, topics.new_name()
        # the suite has values of a megabyte and more
        await topics.make(server.port, topic, max_message_bytes=8 << 20)
        async with server.proxy() as proxy:

            async def expire_session() -> None:
                proxy.cut()

            async def empty() -> None:
                await topics.delete(server.port, topic)
                await topics.make(server.port, topic, max_message_bytes=8 << 20)

            async def compact() -> None:
                await topics.compact(server.port, topic)

            async def put_raw(key: bytes, value: bytes) -> None:
                async with topics.producer(server.port) as producer:
                    await producer.send_and_wait(topic, value, key=key)

            async def has_raw(key: bytes) -> bool:
                log = (await topics.history(server.port, topic))[0]
                return [value for _, found, value in log if found == key][-1:] not in ([], [None])

            yield Store(
                url=f"kafka://127.0.0.1:{proxy.port}/{topic}",
                direct=f"{server.url}/{topic}",
                **proxy.hooks(),
                empty=empty,
                compact=compact,
                expire_session=expire_session,
                odd_keys=[b"", b"a/\xff"],
                put_raw=put_raw,
                has_raw=has_raw,
            )


del ContractSuite  # so that it is not collected itself
