"""Work shared out in a consumer group: who has what, and which offsets are committed when."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from datasync import Backoff, DataSync, Verdict
from datasync.msgsync.kafka.group import Settled
from datasync.msgsync.kafka.publish import partition_of
from datasync.source import Result
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import Probe, eventually
from tests.helpers.kafka.kafka_server import KafkaServer, kafka_server
from tests.helpers.load import QUICK, state_of
from tests.helpers.servers import until

ITEMS = {f"a/{number}": b"%d" % number for number in range(40)}


@contextlib.asynccontextmanager
async def member(url: str, **options: Any) -> AsyncIterator[tuple[DataSync, Probe]]:
    probe = Probe(name="probe", prefixes=("",), ordered=False)
    sync = DataSync(url, **(QUICK | {"ack_timeout": 60.0, "connect_timeout": 30.0} | options))
    sync.watcher("", name="probe")(probe)
    async with sync:
        await sync.ready(60)
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
                    await eventually(
                        lambda: ["a/new" in probe.state for probe in members].count(True) == 1
                    )
                # those who leave let go at once
                await eventually(lambda: one.state == ITEMS | {"a/new": b"1"}, 60)
                assert len(one.resyncs) > 1
                assert all("is rebalancing" in resync.reason for resync in one.resyncs[1:])

    asyncio.run(main())


def test_a_member_more_than_there_are_partitions_has_nothing(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        url = f"{server.url}/{topic}?group={topic}"
        async with member(url) as (sync, one), member(url) as (_, two):
            await sync.put("a/1", b"1")
            await eventually(lambda: one.state | two.state == {"a/1": b"1"}, 60)
            assert not (one.state and two.state)

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["slow", "fails", "overdue"])
def test_offsets_are_committed_only_behind_what_has_settled(
    server: KafkaServer, fault: str
) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        options: dict[str, Any] = {}
        if fault == "fails":
            # until what overwrites it comes
            options = {"retry": Backoff(initial=60.0, maximum=60.0)}
        elif fault == "overdue":
            options = {"ack_timeout": 0.1}
        async with DataSync(f"{server.url}/{topic}") as writer:
            for number in range(5):
                await writer.put(f"a/{number}", b"1")
            async with member(f"{server.url}/{topic}?group={topic}", **options) as (sync, probe):
                await committed(server, topic, 5)
                probe.gate.clear()
                if fault == "fails":
                    probe.answers.append(ValueError("once"))
                    probe.gate.set()
                await writer.put("a/held", b"1")
                await eventually(lambda: probe.changes)
                await writer.put("a/behind", b"1")
                if fault != "slow":
                    await eventually(
                        lambda: sync.status().watches[0].state in ("failing", "overdue")
                    )
                # what concerns nobody, too, waits behind what has not settled
                async with topics.producer(server.port) as producer:
                    await producer.send_and_wait(topic, b"no text", key=b"\xff")
                await seen(sync, 6)
                await stays(server, topic, 5)
                probe.gate.set()
                if fault == "fails":
                    sync.resync()
                await eventually(lambda: "a/behind" in probe.state)
                await committed(server, topic, 8)

    asyncio.run(main())


@pytest.mark.once
@pytest.mark.alone("brokers")
def test_a_broker_that_restarts_moves_no_offset_past_what_has_not_settled() -> None:
    """The session goes on where it was, in the same generation; so does what is at work."""

    async def main() -> None:
        async with kafka_server() as server:
            await topics.make(server.port, "t")
            async with (
                DataSync(f"{server.url}/t?timeout=20", **QUICK) as writer,
                member(f"{server.url}/t?group=g") as (sync, probe),
            ):
                await writer.put("a/1", b"1")
                await committed(server, "g", 1)
                probe.gate.clear()
                await writer.put("a/held", b"1")
                await eventually(lambda: probe.changes[-1].changes[0].key == "a/held")
                await server.kill()
                await eventually(lambda: state_of(sync) == "lost")
                await server.start()
                await eventually(lambda: state_of(sync) == "following", 60)
                async with topics.producer(server.port) as producer:
                    await producer.send_and_wait("t", b"no text", key=b"\xff")
                await writer.put("a/behind", b"1")
                await seen(sync, 3)
                await stays(server, "g", 1)
                probe.gate.set()
                await committed(server, "g", 4)
                assert probe.state == {"a/1": b"1", "a/held": b"1", "a/behind": b"1"}
                assert len(probe.resyncs) == 1

    asyncio.run(main())


@pytest.mark.once
def test_what_a_killed_member_had_is_taken_over(server: KafkaServer) -> None:
    """It leaves without a word: the others wait until it has been silent for long enough.

    Nothing is lost, and what it had not settled is not passed by.
    """

    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, 4)
        url = f"{server.url}/{topic}?group={topic}"
        async with DataSync(f"{server.url}/{topic}") as writer:
            await asyncio.gather(*(writer.put(key, value) for key, value in ITEMS.items()))
            log = await topics.history(server.port, topic)
            ends = {partition: records[-1][0] + 1 for partition, records in log.items()}
            async with member(url) as (_, one):
                await committed(server, topic, ends)
                program = [sys.executable, "-c", STUCK, url]
                other = await asyncio.create_subprocess_exec(
                    *program, stdout=asyncio.subprocess.PIPE
                )
                try:
                    assert other.stdout is not None
                    shares = set(
                        (await asyncio.wait_for(other.stdout.readline(), 60)).decode().split()
                    )
                    assert shares
                    await eventually(
                        lambda: one.state == {k: v for k, v in ITEMS.items() if k not in shares}, 60
                    )
                    # it never settles what it is given from now on
                    key = min(shares)
                    partition = partition_of(key.encode(), 4)
                    await writer.put(key, b"new")
                    assert (
                        await asyncio.wait_for(other.stdout.readline(), 60)
                    ).decode().split() == [key]
                    await stays(server, topic, ends)
                finally:
                    other.kill()
                    await other.wait()
                assert key not in one.state
                await eventually(lambda: one.state == ITEMS | {key: b"new"}, 60)
                await committed(server, topic, ends | {partition: ends[partition] + 1})
                assert "is rebalancing" in one.resyncs[-1].reason

    asyncio.run(main())


STUCK = """
import asyncio, sys
from datasync import DataSync, ResyncEvent

async def main():
    sync = DataSync(sys.argv[1])

    @sync.watcher("")
    async def work(event):
        if isinstance(event, ResyncEvent):
            print(*(kv.key for kv in event.values[""]), flush=True)
        else:
            print(*(change.key for change in event.changes), flush=True)
            await asyncio.Event().wait()

    await sync.run()

asyncio.run(main())
"""
"""Prints the keys that it gets, and sits on the first change for ever."""


@pytest.mark.parametrize("recreated", [False, True])
def test_partitions_that_are_added_are_shared_out_too(server: KafkaServer, recreated: bool) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, 2)
        url = f"{server.url}/{topic}?group={topic}"
        async with member(url) as (_, one), member(url) as (_, two):
            if recreated:
                await topics.delete(server.port, topic)
                await topics.make(server.port, topic, 6)
            else:
                await topics.add_partitions(server.port, topic, 6)
            async with DataSync(f"{server.url}/{topic}") as writer:
                await asyncio.gather(*(writer.put(key, value) for key, value in ITEMS.items()))
            await eventually(lambda: one.state | two.state == ITEMS, 60)
            await eventually(lambda: len(one.state) + len(two.state) == len(ITEMS), 60)

    asyncio.run(main())


def test_what_waits_behind_a_stuck_event_takes_no_room() -> None:
    settled = Settled()
    stuck = settled.delivered(1)
    before = settled.delivered(2)
    for number in range(3, 100_000):
        done = settled.delivered(number)
        before(Result(Verdict.ACCEPTED))
        before = done
    assert len(settled) < 3000
    assert settled.offset == -1
    stuck(Result(Verdict.ACCEPTED))
    assert settled.offset == 99_998
    before(Result(Verdict.REFUSED))
    settled.passed(200_000)
    assert settled.offset == 200_000


async def seen(sync: DataSync, revision: int) -> None:
    """Wait until it has taken over what is at that offset, or behind it."""
    await eventually(lambda: sync.status().sources[0].revision >= revision)


async def stays(server: KafkaServer, group: str, offsets: int | dict[int, int]) -> None:
    """For several times as long as it takes otherwise, the group has committed just that."""
    wanted = {0: offsets} if isinstance(offsets, int) else offsets
    for _ in range(10):
        await asyncio.sleep(0.2)
        assert await topics.committed(server.port, group) == wanted


async def committed(server: KafkaServer, group: str, offsets: int | dict[int, int]) -> None:
    wanted = {0: offsets} if isinstance(offsets, int) else offsets

    async def there() -> bool:
        return await topics.committed(server.port, group) == wanted

    await until(there, f"{wanted} is committed")
