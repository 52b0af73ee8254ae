"""What agents report in a topic, where each key is ordered for itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from datasync.testing.chaos import kafka_topics as topics
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.reports.fleet import asked_and_answered, reported_and_settled

Run = Callable[[Coroutine[object, object, None]], None]


def test_keys_are_reported_and_settled(run: Run, server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, partitions=3)
        await reported_and_settled(f"{server.url}/{topic}")

    run(main())


def test_a_writer_hears_of_it(run: Run, server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, partitions=3)
        await asked_and_answered(f"{server.url}/{topic}")

    run(main())
