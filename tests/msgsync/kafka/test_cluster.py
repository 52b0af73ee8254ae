"""Faults of one broker of three, which are one cluster for all tests here:
they take long to start.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from datasync import DataSync, Disconnected, HistoryLost, OutcomeUnknown, open_url
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import eventually
from datasync.testing.contract.following import Following
from tests.helpers.kafka.kafka_server import KafkaServer, all_run, cluster_of_three
from tests.helpers.kafka.load import judge, settled, watched
from tests.helpers.load import state_of, writing, written
from tests.helpers.servers import PATIENCE, until

pytestmark = [pytest.mark.once, pytest.mark.alone("brokers")]

_TOO_FEW = r"nothing was written.*NOT_ENOUGH_REPLICAS.*min\.insync\.replicas"


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[KafkaServer]]:
    with cluster_of_three() as members:
        yield members


@pytest.fixture
def members(cluster: list[KafkaServer]) -> list[KafkaServer]:
    """All of them run, whatever the test before has done."""
    asyncio.run(all_run(cluster))
    return cluster


def test_another_broker_leads(members: list[KafkaServer]) -> None:
    async def main() -> None:
        topic, ports = topics.new_name(), [member.port for member in members]
        await topics.make(ports[0], topic, partitions=3, replication=3, min_insync_replicas=2)
        for port in ports:
            await topics.known(port, topic)
        # the broker that is named is the first to go: by then its cluster is known
        named = f"127.0.0.1:{ports[0]}"
        async with watched(ports[2], topic, by=named) as (sync, probe):
            async with writing(f"kafka://{named}/{topic}?timeout=30") as load:
                await load.more(50)
                await members[0].kill()  # it leads a partition, and perhaps the controllers
                await load.more(50)
                await eventually(lambda: state_of(sync) == "following", 60)
                await members[0].start()
                await load.more(50)
            async with DataSync(f"kafka://{named}/{topic}?timeout=30") as writer:
                await asyncio.gather(
                    *(writer.put(f"h/{number}", b"%da" % number) for number in range(20))
                )
                await members[1].pause()  # what hangs is not waited for until the end
                await asyncio.gather(
                    *(writer.put(f"h/{number}", b"%db" % number) for number in range(20))
                )
                members[1].resume()
            # the writer hears nothing of it, and the watch is not resynced
            assert not load.unknown + load.refused
            await settled(probe, ports[2], topic)
            await judge(probe, ports[2], topic)
            log = [
                (key, value)
                for part in (await topics.history(ports[2], topic)).values()
                for _, key, value in part
            ]
            assert {(key.encode(), value) for key, value in load.acknowledged.values()} <= set(log)
            # what was sent again is there once
            puts = [value for _, value in log if value is not None]
            assert len(puts) == len(set(puts))

    asyncio.run(main())


def test_a_log_cut_off_by_an_unclean_election_is_a_new_history(members: list[KafkaServer]) -> None:
    """A replica that was behind leads, and what it lacks is gone;
    the log has grown beyond it by the next look.
    """

    async def main() -> None:
        first, behind, other = members
        topic = topics.new_name()
        settings: dict[str, Any] = {
            "unclean_leader_election_enable": "true",
            "min_insync_replicas": 1,
        }
        await topics.make(other.port, topic, replicas=[1, 2], **settings)
        for member in members:
            await topics.known(member.port, topic)
        brokers = ",".join(f"127.0.0.1:{member.port}" for member in members)
        async with (
            DataSync(f"kafka://{brokers}/{topic}?timeout=20") as writer,
            watched(other.port, topic, by=brokers) as (sync, probe),
        ):
            await writer.put("a/both", b"1")
            await behind.pause()
            for number in range(5):
                await writer.put(f"a/{number}", b"lost")
            await eventually(lambda: len(probe.state) == 6, 60)
            source = open_url(f"kafka://{brokers}/{topic}?timeout=20")
            session = Following(await source.open([""]))
            await eventually(lambda: session.position is not None, 60)
            await session.aclose()
            await first.kill()
            behind.resume()
            for number in range(10):
                await written(writer, f"b/{number}", b"new", confirm=False)
            await settled(probe, behind.port, topic)
            assert "a/1" not in probe.state
            assert probe.state["b/9"] == b"new"
            assert "new history" in probe.resyncs[-1].reason
            # a session that reads nothing has to ask for it
            with pytest.raises(HistoryLost) as lost:
                await source.open([], session.position)
            assert lost.value.changed
            await source.aclose()
            await first.start()
            await writer.put("a/both", b"2")
            await settled(probe, behind.port, topic)
            assert state_of(sync) == "following"

    asyncio.run(main())


def test_too_few_replicas_in_sync_are_said_with_the_way_out(members: list[KafkaServer]) -> None:
    async def main() -> None:
        first, second, _ = members
        topic = topics.new_name()
        await topics.make(first.port, topic, replicas=[1, 2], min_insync_replicas=2)
        url = f"{first.url}/{topic}?timeout="
        patience = f"{2 * PATIENCE:g}"  # a broker starts meanwhile
        async with DataSync(f"{url}5") as sync, DataSync(url + patience) as patient:
            await patient.put("a/0", b"0")
            await patient.txn().put("b/1", b"0").put("b/2", b"0").commit()
            await second.pause()

            async def refused() -> bool:
                try:
                    await sync.put("a/1", b"unknown, as long as the replica is waited for")
                except (Disconnected, OutcomeUnknown) as error:
                    return isinstance(error, Disconnected)
                return False

            await until(refused, "the replica is out of sync")

            async def says_so(write: Callable[[], Awaitable[object]]) -> bool:
                # also that the coordinator of transactions is loading
                with pytest.raises(Disconnected) as caught:
                    await write()
                return re.search(_TOO_FEW, str(caught.value)) is not None

            await until(lambda: says_so(lambda: sync.put("a/1", b"1")), "it is said of a write")
            await until(
                lambda: says_so(lambda: sync.txn().put("b/1", b"1").put("b/2", b"1").commit()),
                "of a transaction",
            )
            put = asyncio.ensure_future(patient.put("a/2", b"2"))
            await asyncio.sleep(0.5)
            assert not put.done()
            second.resume()
            await put
        found = await topics.everything(first.port, topic)
        assert found.pop("a/1", b"unknown").startswith(b"unknown")
        assert found == {"a/0": b"0", "b/1": b"0", "b/2": b"0", "a/2": b"2"}

    asyncio.run(main())
