"""A server of a topic that is restarted: its watchers hear whether the topic is the
one that they followed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from datasync import HistoryLost, open_url
from datasync.msgsync.kafka.position import Position
from datasync.syncbase.delivery import NEW_HISTORY
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import eventually
from datasync.testing.contract.following import Following
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.serving.restarts import following, free_address, put, serving, shows

Run = Callable[[Any], None]


@pytest.mark.parametrize("scheme", ["grpc+watch", "http"])
@pytest.mark.parametrize("recreated", [False, True], ids=["the same topic", "recreated"])
def test_a_topic_while_its_server_is_down(
    run: Run, server: KafkaServer, scheme: str, recreated: bool
) -> None:
    async def main() -> None:
        topic, address = topics.new_name(), free_address()
        url = f"{server.url}/{topic}"
        await topics.make(server.port, topic, partitions=2)
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(serving(scheme, address, open_url(url)))
            async with following(scheme, address) as (_, probe):
                await put(url, "a", "b")
                await shows(probe, "a", "b")

                await first.aclose()
                if recreated:
                    await topics.delete(server.port, topic)
                    await topics.make(server.port, topic, partitions=2)
                await put(url, "a", "b", "meanwhile", "more")
                async with serving(scheme, address, open_url(url)):
                    await shows(probe, "a", "b", "meanwhile", "more")
                    reason = probe.resyncs[-1].reason
                    assert reason == NEW_HISTORY if recreated else "another run" in reason
                    await put(url, "next")
                    await shows(probe, "a", "b", "meanwhile", "more", "next")
                    probe.check()

    run(main())


def test_a_topic_of_the_same_id_that_ends_before_the_position_is_another_history(
    run: Run, server: KafkaServer
) -> None:
    """Also where so much else has changed that one could not go on anyway."""

    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, delete_retention_ms=0)
        source = open_url(f"{server.url}/{topic}")
        await put(f"{server.url}/{topic}", "a", "b")
        session = Following(await source.open([""]))
        await eventually(lambda: session.position is not None, 60)
        [behind, *here] = json.loads(json.dumps(session.position))
        await session.aclose()
        name, numbers, offsets, epochs, caught_up = behind

        # tombstones are not kept, and a partition was added
        for beyond, changed in ((0, False), (1, True)):
            await topics.add_partitions(server.port, topic, 2 + beyond)
            with pytest.raises(HistoryLost) as lost:
                await source.open(
                    [], [[name, numbers, [offsets[0] + beyond], epochs, caught_up], *here]
                )
            assert lost.value.changed is changed

        await source.aclose()

    run(main())


@pytest.mark.parametrize(
    "position",
    [
        None, "", 1, [], {}, "0.1.2", ["history", 1, 2], [[], 0, 0, -1],
        [["00", [0], [1], [0], [0.0, 0.0]], 1, 5, 0],
        [["00", [0, 1], [1], [0], [0.0, 0.0]], 0, 0, -1],
        [["00", [0], [-1], [0], [0.0, 0.0]], 0, 0, -1],
        [["00", [0], [1 << 70], [0], [0.0, 0.0]], 0, 0, -1],
        [["00", [0], [1], ["0"], [0.0, 0.0]], 0, 0, -1],
        [["00", [0], [1], [0], [0.0, "never"]], 0, 0, -1],
    ],
)  # fmt: skip
def test_what_is_no_position_is_the_history_of_something_else(position: Any) -> None:
    with pytest.raises(HistoryLost, match="not one of a Kafka topic") as lost:
        Position.of_frame(position)
    assert lost.value.changed
