"""Work shared out in a consumer group: who has what, and which offsets are committed when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from datasync import DataSync
from datasync.testing.contract import Probe, eventually
from tests.kafka import topics
from tests.kafka.kafka_server import KafkaServer
from tests.load import QUICK
from tests.servers import until

ITEMS = {f"a/{number}": b"%d" % number for number in range(40)}


@contextlib.asynccontextmanager
async def member(url: str) -> AsyncIterator[tuple[DataSync, Probe]]:
    probe = Probe(name="probe", prefixes=("",), ordered=False)
    sync = DataSync(url, **(QUICK | {"ack_timeout": 60.0}))
    sync.watcher("", name="probe")(probe)
    async with sync:
        await sync.ready(20)
        yield sync, probe
    probe.check()


def test_members_share_the_keys_and_take_over_from_each_other(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, 4)
        url = f"{server.url}/{topic}?group={topic}"
        async with DataSync(f"{server.url}/{topic}") as writer:
            await asyncio.gather(*(writer.put(key, value) for key, value in ITEMS.items()))
            async with member(url) as (_, one):
                assert one.state == ITEMS
                async with member(url) as (_, two), member(url) as (_, three):
                    members = (one, two, three)
                    await eventually(
                        lambda: (
                            all(probe.state for probe in members)
                            and sum(len(probe.state) for probe in members) == len(ITEMS)
                        ),
                        20,
                    )
                    assert one.state | two.state | three.state == ITEMS
                    await writer.put("a/new", b"1")
                    await eventually(lambda: ["a/new" in probe.state for probe in members].count(True) == 1)
                # those who leave let go at once
                await eventually(lambda: one.state == ITEMS | {"a/new": b"1"}, 5)
                assert {resync.reason for resync in one.resyncs[1:]} != set()

    asyncio.run(main())


def test_a_member_more_than_there_are_partitions_has_nothing(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        url = f"{server.url}/{topic}?group={topic}"
        async with member(url) as (sync, one), member(url) as (_, two):
            await sync.put("a/1", b"1")
            await eventually(lambda: one.state | two.state == {"a/1": b"1"}, 20)
            assert not (one.state and two.state)

    asyncio.run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_offsets_are_committed_only_behind_what_has_settled(server: KafkaServer, fails: bool) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        async with DataSync(f"{server.url}/{topic}") as writer:
            for number in range(5):
                await writer.put(f"a/{number}", b"1")
            async with member(f"{server.url}/{topic}?group={topic}") as (_, probe):
                await committed(server, topic, 5)
                probe.gate.clear()
                if fails:
                    probe.answers.append(ValueError("once"))
                await writer.put("a/held", b"1")
                await writer.put("a/behind", b"1")
                await eventually(lambda: probe.changes)
                await asyncio.sleep(2)  # several times as long as it takes otherwise
                assert await topics.committed(server.port, topic) == {0: 5}
                probe.gate.set()
                await eventually(lambda: "a/behind" in probe.state)
                await committed(server, topic, 7)

    asyncio.run(main())


async def committed(server: KafkaServer, group: str, offset: int) -> None:
    async def there() -> bool:
        return await topics.committed(server.port, group) == {0: offset}

    await until(there, f"{offset} is committed", 10)
