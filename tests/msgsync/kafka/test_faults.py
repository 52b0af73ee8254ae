"""Faults of brokers, connections and topics.

The watch ends equal, in order, and is resynced only where it must be.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from datasync import DataSync, Disconnected, OutcomeUnknown
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.chaos.proxy import TcpProxy
from datasync.testing.contract import eventually
from tests.helpers.faults import catches_up, closed_beside_requests
from tests.helpers.kafka.kafka_server import KafkaServer, kafka_server
from tests.helpers.kafka.load import judge, settled, watched
from tests.helpers.load import state_of, writing


@pytest.mark.once
@pytest.mark.alone("brokers")
def test_killed_under_load() -> None:
    async def main() -> None:
        async with kafka_server() as server:
            await topics.make(server.port, "t")
            async with watched(server.port, "t") as (sync, probe):
                async with writing(f"{server.url}/t") as load:
                    for _ in range(2):
                        await load.more(50)
                        await server.kill()
                        await eventually(lambda: state_of(sync) == "lost")
                        await server.start()
                        await eventually(lambda: state_of(sync) == "following", 60)
                    await load.more(50)
                await settled(probe, server.port, "t")
                log = {
                    offset: (key, value)
                    for offset, key, value in (await topics.history(server.port, "t"))[0]
                }
                for revision, (key, value) in load.acknowledged.items():
                    assert log[revision] == (key.encode(), value)
                await judge(probe, server.port, "t")

    asyncio.run(main())


@pytest.mark.once
@pytest.mark.alone("brokers")
def test_stopped_for_longer_than_the_pings() -> None:
    async def main() -> None:
        async with kafka_server() as server:
            await topics.make(server.port, "t")
            async with watched(server.port, "t") as (sync, probe):
                await sync.put("a/1", b"1", confirm=True)
                await server.pause()
                await eventually(lambda: state_of(sync) == "lost")
                with pytest.raises((Disconnected, OutcomeUnknown)):
                    await sync.put("a/1", b"2")
                server.resume()
                await eventually(lambda: state_of(sync) == "following", 60)
                await sync.put("a/1", b"3", confirm=True)
                assert probe.state == {"a/1": b"3"}
                # a write that nobody knew the fate of never comes behind a later one
                assert (await topics.history(server.port, "t"))[0][-1][1:] == (b"a/1", b"3")
                await judge(probe, server.port, "t")

    asyncio.run(main())


@pytest.mark.parametrize("connected", [True, False])
def test_closed_beside_requests_that_hang(server: KafkaServer, connected: bool) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, partitions=2)
        async with server.proxy() as proxy:

            async def pause() -> None:
                proxy.pause()

            async def resume() -> None:
                proxy.resume()

            async def everything() -> dict[str, bytes]:
                return await topics.everything(server.port, topic)

            url = f"kafka://127.0.0.1:{proxy.port}/{topic}"
            await closed_beside_requests(url, pause, resume, everything, connected=connected)

    asyncio.run(main())


def test_cut_at_every_answer(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        async with DataSync(f"{server.url}/{topic}") as writer, server.proxy() as proxy:
            await asyncio.gather(*(writer.put(f"a/{number}", b"1" * 1000) for number in range(50)))
            for answer in range(1, 9):
                proxy.cut_at(answer)
                async with watched(server.port, topic, by=proxy.port) as (sync, probe):
                    await writer.put("a/1", b"%d" % answer)
                    await settled(probe, server.port, topic)
                    proxy.cut()
                    await writer.put("a/2", b"%d" % answer)
                    await settled(probe, server.port, topic)
                    assert state_of(sync) == "following"
                    await judge(probe, server.port, topic)
                proxy.cut_at(None)

    asyncio.run(main())


def test_a_half_open_connection_is_noticed(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        async with (
            server.proxy() as proxy,
            watched(server.port, topic, by=proxy.port) as (sync, probe),
            DataSync(f"{server.url}/{topic}") as writer,
        ):
            await writer.put("a/1", b"1")
            await settled(probe, server.port, topic)
            proxy.pause()
            await writer.put("a/1", b"2")
            await eventually(lambda: state_of(sync) == "lost")
            proxy.resume()
            await settled(probe, server.port, topic)
            await judge(probe, server.port, topic)

    asyncio.run(main())


async def lose(proxy: TcpProxy, sync: DataSync) -> None:
    await proxy.refuse()
    await eventually(lambda: state_of(sync) == "lost")


async def clean(
    server: KafkaServer, writer: DataSync, topic: str, gone: bytes, *, tombstone: bool
) -> None:
    """Write on until the log cleaner has removed the values of the key `gone`,
    or its tombstone too.
    """
    for number in range(300):
        await writer.put("filler", b"%d" % number)
        records = (await topics.history(server.port, topic))[0]
        left = [value for _, key, value in records if key == gone]
        if not left or (left == [None] and not tombstone):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not cleaned: {left}")


@pytest.mark.parametrize("kept", [True, False])
def test_compaction_while_away(server: KafkaServer, kept: bool) -> None:
    """Resumed as long as tombstones are kept; else nobody can know what was deleted,
    and there is a RESYNC.
    """

    async def main() -> None:
        topic = topics.new_name()
        quick: dict[str, Any] = {
            "segment_ms": 100,
            "min_cleanable_dirty_ratio": 0.0001,
            "max_compaction_lag_ms": 100,
        }
        await topics.make(server.port, topic, **quick, delete_retention_ms=3_600_000 if kept else 0)
        async with (
            server.proxy() as proxy,
            DataSync(f"{server.url}/{topic}") as writer,
            watched(server.port, topic, by=proxy.port) as (sync, probe),
        ):
            await writer.put("a/gone", b"1")
            await writer.put("a/kept", b"1")
            await settled(probe, server.port, topic)
            resyncs = len(probe.resyncs)
            await lose(proxy, sync)
            await writer.delete("a/gone")
            await writer.put("a/kept", b"2")
            await clean(server, writer, topic, b"a/gone", tombstone=not kept)
            await proxy.start()
            await settled(probe, server.port, topic)
            assert "a/gone" not in probe.state
            assert probe.state["a/kept"] == b"2"
            if kept:
                assert len(probe.resyncs) == resyncs == 1
            else:
                assert len(probe.resyncs) > resyncs
                assert "tombstones" in probe.resyncs[-1].reason
                assert "new history" not in probe.resyncs[-1].reason

    asyncio.run(main())


@pytest.mark.parametrize("longer", [False, True])
def test_a_topic_deleted_and_made_anew_is_a_new_history(server: KafkaServer, longer: bool) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        async with (
            server.proxy() as proxy,
            watched(server.port, topic, by=proxy.port) as (sync, probe),
        ):
            async with DataSync(f"{server.url}/{topic}") as writer:
                for number in range(5):
                    await writer.put(f"a/{number}", b"old")
            await settled(probe, server.port, topic)
            if longer:  # it has outgrown the old one before anybody looks
                await lose(proxy, sync)
            await topics.delete(server.port, topic)
            await topics.make(server.port, topic)
            async with DataSync(f"{server.url}/{topic}") as writer:
                for number in range(10 if longer else 2):
                    await writer.put(f"b/{number}", b"new")
            await proxy.start()
            await settled(probe, server.port, topic)
            assert len(probe.resyncs) == 2
            assert "new history" in probe.resyncs[1].reason

    asyncio.run(main())


def test_records_deleted_while_away_are_a_lost_history(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, cleanup_policy="delete")
        async with (
            server.proxy() as proxy,
            DataSync(f"{server.url}/{topic}") as writer,
            watched(server.port, topic, by=proxy.port) as (sync, probe),
        ):
            await writer.put("a/1", b"1")
            await settled(probe, server.port, topic)
            await lose(proxy, sync)
            await writer.put("a/1", b"2")
            await writer.put("a/2", b"2")
            await topics.delete_records(server.port, topic, 3)
            await writer.put("a/3", b"3")
            await proxy.start()
            await settled(probe, server.port, topic)
            assert probe.state == {"a/3": b"3"}
            assert "begins at 3 now" in probe.resyncs[1].reason

    asyncio.run(main())


def test_added_partitions_are_noticed(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        async with watched(server.port, topic) as (sync, probe):
            await sync.put("a/1", b"1")
            await topics.add_partitions(server.port, topic, 4)
            await eventually(lambda: len(probe.resyncs) == 2)
            assert "partitions" in probe.resyncs[1].reason
            async with DataSync(f"{server.url}/{topic}") as writer:
                for number in range(20):
                    await writer.put(f"b/{number}", b"1")
            await settled(probe, server.port, topic)
            assert (
                len(
                    [
                        records
                        for records in (await topics.history(server.port, topic)).values()
                        if records
                    ]
                )
                == 4
            )

    asyncio.run(main())


@pytest.mark.parametrize("together", [False, True])
def test_caught_up_holds_what_others_were_told_is_done(server: KafkaServer, together: bool) -> None:
    """In all partitions; a committed transaction is marked as such only after its
    producer was told so.
    """

    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, partitions=3)
        options = {"transactional_id": topic} if together else {}
        async with topics.producer(server.port, **options) as producer, server.proxy() as proxy:
            proxy.latency = 0.0 if together else 0.02

            async def write(key: str, value: bytes) -> None:
                if not together:
                    await producer.send_and_wait(topic, value, key=key.encode())
                    return
                async with producer.transaction():
                    for other in range(3):  # in most partitions
                        await producer.send(topic, b"x", key=b"other/%d" % other)
                    await producer.send(topic, value, key=key.encode())

            await catches_up(f"kafka://127.0.0.1:{proxy.port}/{topic}", write)

    asyncio.run(main())
