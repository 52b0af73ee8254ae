"""What a topic may hold, and what others make of it: transactions, odd messages, other clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator

import pytest

from datasync import BadStore, DataSync, DecodeError, Disconnected, ResyncEvent, open_url
from datasync.demo.network_pb2 import Interface
from datasync.msgsync.kafka.errors import ValueTooLarge
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import eventually
from tests.helpers.etcd.etcd_server import DEBIAN, etcd_server
from tests.helpers.kafka.kafka_server import KafkaServer, java, run
from tests.helpers.kafka.load import judge, settled, watched
from tests.helpers.load import QUICK
from tests.helpers.servers import until


@contextlib.asynccontextmanager
async def topic_of(
    server: KafkaServer, partitions: int = 1, **settings: object
) -> AsyncIterator[str]:
    """A topic of the test's own."""
    topic = topics.new_name()
    await topics.make(server.port, topic, partitions, **settings)  # type: ignore[arg-type]
    yield topic


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_topic_that_ends_in_an_aborted_transaction_reaches_its_resync(
    server: KafkaServer, partitions: int
) -> None:
    async def main() -> None:
        async with topic_of(server, partitions) as topic:
            async with topics.producer(server.port, transactional_id=topic) as producer:
                async with producer.transaction():
                    for number in range(10):
                        await producer.send(topic, b"1", key=b"a/%d" % number)
                with contextlib.suppress(ZeroDivisionError):
                    async with producer.transaction():
                        for number in range(10):
                            await producer.send_and_wait(topic, b"2", key=b"a/%d" % number)
                        raise ZeroDivisionError
            async with watched(server.port, topic) as (sync, probe):
                assert probe.state == {f"a/{number}": b"1" for number in range(10)}
                await sync.put("a/0", b"3", confirm=True)
                assert len(probe.resyncs) == 1

    asyncio.run(main())


def test_an_open_transaction_is_not_seen_until_it_is_committed(server: KafkaServer) -> None:
    async def main() -> None:
        async with (
            topic_of(server) as topic,
            topics.producer(server.port, transactional_id=topic) as producer,
        ):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"1", key=b"a/1")
            async with watched(server.port, topic) as (_, probe):
                assert probe.state == {}
                await producer.send_and_wait(topic, b"1", key=b"a/2")
                await producer.commit_transaction()
                await settled(probe, server.port, topic)
                assert probe.state == {"a/1": b"1", "a/2": b"1"}

    asyncio.run(main())


def test_transactions_over_several_partitions_are_whole(server: KafkaServer) -> None:
    async def main() -> None:
        async with topic_of(server, 3) as topic, watched(server.port, topic) as (sync, probe):
            for value in (b"1", b"2"):
                txn = sync.txn()
                for number in range(30):
                    txn.put(f"a/{number}", value)
                await txn.commit(confirm=True)
                # a writer that was told so reads it, and so do others
                assert {kv.raw async for kv in sync.list("")} == {value}
            await judge(probe, server.port, topic)
            parts = [
                records
                for records in (await topics.history(server.port, topic)).values()
                if records
            ]
            assert len(parts) == 3
            # no more events than partitions, as a rule: what lies together comes together
            assert len(probe.changes) == 6

    asyncio.run(main())


def test_odd_messages_are_skipped_and_told_of_once(
    server: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            topic_of(server, cleanup_policy="delete") as topic,
            topics.producer(server.port) as producer,
        ):
            await producer.send_and_wait(topic, b"no key")
            await producer.send_and_wait(topic, b"no text", key=b"\xff")
            await producer.send_and_wait(topic, b"empty", key=b"")
            await producer.send_and_wait(topic, b"{}", key=b"a/1")
            source = open_url(f"{server.url}/{topic}")
            async with DataSync(source) as sync:
                view = sync.view("")
                await sync.ready(60)
                await view.at_least(0)
                assert dict(view) == {"a/1": b"{}"}
                await producer.send_and_wait(topic, b"no key")
                await producer.send_and_wait(topic, b"no text", key=b"\xff")
                await producer.send_and_wait(topic, b"empty", key=b"")
                await sync.put("a/2", b"{}")
                await eventually(lambda: set(view) == {"a/1", "a/2"})
                assert [kv.key async for kv in sync.list("")] == ["a/1", "a/2"]
                assert await source.get("") is None

    with caplog.at_level(logging.WARNING, "datasync"):
        asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if record.name == "datasync.kafka"]
    assert len([line for line in said if "without a key" in line]) == 1
    assert len([line for line in said if "not UTF-8" in line]) == 1
    assert len([line for line in said if "is empty" in line]) == 1
    assert (
        len(
            [
                line
                for line in said
                if "cleanup.policy=delete:" in line and "cleanup.policy=compact" in line
            ]
        )
        == 1
    )


def test_a_topic_that_is_compacted_and_forgets_besides_is_said(
    server: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            topic_of(server, cleanup_policy="compact,delete") as topic,
            DataSync(f"{server.url}/{topic}"),
            topic_of(server) as kept,
            DataSync(f"{server.url}/{kept}"),
        ):
            pass

    asyncio.run(main())
    [said] = [record.getMessage() for record in caplog.records if record.name == "datasync.kafka"]
    assert "cleanup.policy=compact,delete: Kafka forgets" in said


def test_a_topic_that_is_deleted_under_a_watch_is_not_made_again(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        async with DataSync(f"{server.url}/{topic}?create=1&timeout=3", **QUICK) as sync:
            view = sync.view("")
            await sync.ready(60)
            await sync.put("a/1", b"1")
            await eventually(lambda: dict(view) == {"a/1": b"1"})
            await topics.delete(server.port, topic)
            await eventually(
                lambda: (
                    "was deleted; make the topic again" in (sync.status().sources[0].error or "")
                )
            )
            with pytest.raises((BadStore, Disconnected)):
                await sync.put("a/1", b"2")
            with pytest.raises(BadStore, match="was deleted"):
                await sync.get("a/1")
            assert not await topics.exists(server.port, topic)
            assert dict(view) == {"a/1": b"1"}, "nothing is emptied"
            await topics.make(server.port, topic)
            await eventually(lambda: not view)
            await sync.put("a/2", b"2")
            await eventually(lambda: dict(view) == {"a/2": b"2"})

    asyncio.run(main())


def test_keys_that_are_skipped_go_with_the_prefix_above(server: KafkaServer) -> None:
    async def main() -> None:
        async with (
            topic_of(server, 2) as topic,
            topics.producer(server.port) as producer,
            watched(server.port, topic) as (sync, probe),
        ):
            for key in (b"a/\xff", b"a/\xfe", b"b/\xff", b"", b"a/1"):
                await producer.send_and_wait(topic, b"1", key=key)
            await producer.send_and_wait(topic, None, key=b"a/\xfe")  # somebody else deletes one
            await eventually(lambda: probe.state == {"a/1": b"1"})
            await sync.delete("a/", prefix=True, confirm=True)
            assert probe.state == {}
            assert await _values(server, topic) == {b"": b"1", b"b/\xff": b"1"}
            assert await sync.delete("b/", prefix=True, confirm=True)
            await sync.delete("", prefix=True)
            assert await _values(server, topic) == {}
            assert not await sync.delete("", prefix=True)
            source = open_url(f"{server.url}/{topic}")
            assert not await source.delete_raw(b"a/\xff")
            await source.aclose()
            log = [
                record
                for part in (await topics.history(server.port, topic)).values()
                for record in part
            ]
            deleted = sorted(key or b"" for _, key, value in log if value is None)
            assert deleted == [b"", b"a/1", b"a/\xfe", b"a/\xff", b"a/\xff", b"b/\xff"]

    asyncio.run(main())


async def _values(server: KafkaServer, topic: str) -> dict[bytes | None, bytes]:
    log = [
        record for part in (await topics.history(server.port, topic)).values() for record in part
    ]
    return {
        key: value
        for key, value in {key: value for _, key, value in log}.items()
        if value is not None
    }


def test_a_message_that_does_not_decode_is_an_error_of_its_key_alone(server: KafkaServer) -> None:
    async def main() -> None:
        async with topic_of(server) as topic, DataSync(f"{server.url}/{topic}") as sync:
            await sync.put("a/1", b"no json")
            await sync.put("a/2", b"7")
            async for event in sync.watch("watch", "a/", type=int):
                assert isinstance(event, ResyncEvent)
                one, two = event.values["a/"]
                with pytest.raises(DecodeError, match="a/1"):
                    one.value  # noqa: B018
                assert two.value == 7
                break

    asyncio.run(main())


@pytest.mark.parametrize("together", [False, True])
def test_a_message_larger_than_the_topic_takes_is_an_error_that_names_the_setting(
    server: KafkaServer, together: bool
) -> None:
    async def main() -> None:
        async with (
            topic_of(server, max_message_bytes=20_000) as topic,
            DataSync(f"{server.url}/{topic}") as sync,
        ):
            await sync.put("a/1", b"1")
            txn = sync.txn().put("a/0", b"0") if together else sync.txn()
            with pytest.raises(ValueTooLarge, match=r"a/2.*max\.message\.bytes"):
                await txn.put("a/2", b"2" * 30_000).commit()
            # those beside it are written, and what comes behind it
            values = {f"b/{number}": b"3" * 1000 for number in range(100)}
            await asyncio.gather(*(sync.put(key, value) for key, value in values.items()))
            assert await topics.everything(server.port, topic) == {"a/1": b"1"} | values

    asyncio.run(main())


def test_many_puts_at_once_keep_their_order_by_key(server: KafkaServer) -> None:
    async def main() -> None:
        async with topic_of(server, 3) as topic, watched(server.port, topic) as (sync, probe):
            offsets = await asyncio.gather(
                *(sync.put(f"a/{n % 7}", b"%05d" % n) for n in range(5000))
            )
            await settled(probe, server.port, topic)
            await judge(probe, server.port, topic)
            for key in range(7):
                mine = [offset or 0 for offset in offsets[key::7]]
                assert mine == sorted(mine)
                assert len(set(mine)) == len(mine)

    asyncio.run(main())


def test_a_chosen_partition_is_all_that_is_written_and_read(server: KafkaServer) -> None:
    async def main() -> None:
        async with topic_of(server, 3) as topic:
            async with (
                DataSync(f"{server.url}/{topic}?partition=2") as sync,
                DataSync(f"{server.url}/{topic}") as whole,
            ):
                view = sync.view("")
                await sync.ready(60)
                for number in range(10):
                    await sync.put(f"a/{number}", b"1")
                    await whole.put(f"b/{number}", b"1")
                await sync.txn().put("a/x", b"1").put("a/y", b"1").commit()
                log = await topics.history(server.port, topic)
                wanted = {(key or b"").decode() for _, key, _ in log[2]}
                assert {f"a/{number}" for number in range(10)} | {"a/x", "a/y"} <= wanted
                assert not [
                    key
                    for part in (0, 1)
                    for _, key, _ in log[part]
                    if (key or b"").startswith(b"a/")
                ]
                await eventually(lambda: set(view) == wanted)
                assert {kv.key async for kv in sync.list("")} == wanted
            with pytest.raises(BadStore, match="has no partition 3"):
                async with DataSync(f"{server.url}/{topic}?partition=3"):
                    pass

    asyncio.run(main())


def test_a_header_carries_the_content_type(server: KafkaServer) -> None:
    async def main() -> None:
        async with topic_of(server) as topic:
            url, interface = f"{server.url}/{topic}", Interface(name="eth0", mtu=1500)
            async with DataSync(url, codec="proto") as binary:
                await binary.put("a/proto", interface)
            async with DataSync(url, prefix="a/") as sync:
                await sync.put("json", interface)
                await sync.txn().put("dict", {"a": 1}).put("bytes", b"x").commit()
            (found,) = (await topics.records(server.port, topic)).values()
            assert {record.key: record.headers for record in found} == {
                b"a/proto": (("content-type", b"application/x-protobuf"),),
                b"a/json": (("content-type", b"application/json"),),
                b"a/dict": (("content-type", b"application/json"),),
                b"a/bytes": (),
            }
            # as Go's package writes it, and reads it
            assert b'{"name":"eth0","mtu":1500}' in {record.value for record in found}

    asyncio.run(main())


def test_keys_go_where_other_clients_put_them(server: KafkaServer) -> None:
    async def main() -> None:
        async with (
            topic_of(server, 5) as topic,
            topics.producer(server.port) as producer,
            DataSync(f"{server.url}/{topic}") as sync,
        ):
            for number in range(50):
                await producer.send_and_wait(topic, b"plain", key=f"ключ/{number}".encode())
                await sync.put(f"ключ/{number}", b"ours")
        for records in (await topics.history(server.port, topic)).values():
            assert len({key for _, key, _ in records}) * 2 == len(records)

    asyncio.run(main())


@pytest.mark.once
def test_what_kafkas_own_console_producer_writes_is_seen(server: KafkaServer) -> None:
    async def main() -> None:
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            async with topic_of(server) as topic, watched(server.port, topic) as (_, probe):
                await console_producer(
                    server, topic, codec, {f"config/{n}": f"value {n}" for n in range(20)}
                )
                await eventually(
                    lambda: probe.state == {f"config/{n}": b"value %d" % n for n in range(20)}
                )

    asyncio.run(main())


async def console_producer(
    server: KafkaServer, topic: str, codec: str, items: dict[str, str]
) -> None:
    command = java(
        "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", f"127.0.0.1:{server.port}",
        "--topic", topic, "--property", "parse.key=true", "--compression-codec", codec,
    )  # fmt: skip
    await run(*command, said="".join(f"{key}\t{value}\n" for key, value in items.items()).encode())


def test_a_missing_topic_is_a_clear_error_or_made(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        with pytest.raises(BadStore, match=r"does not exist; make the topic, or add \?create=1"):
            async with DataSync(f"{server.url}/{topic}"):
                pass
        async with DataSync(f"{server.url}/{topic}?create=1&partitions=3&replication=1") as sync:
            await sync.put("a/1", b"1")
            assert len(await topics.history(server.port, topic)) == 3
        with pytest.raises(BadStore, match="making the topic"):
            async with DataSync(f"{server.url}/{topics.new_name()}?create=1&replication=9"):
                pass

    asyncio.run(main())


def test_a_prefix_added_while_running_is_read_in_its_place(server: KafkaServer) -> None:
    async def main() -> None:
        async with topic_of(server) as topic, DataSync(f"{server.url}/{topic}") as sync:
            for number in range(100):
                await sync.put(f"{'ab'[number % 2]}/{number}", b"1")
            async with DataSync(f"{server.url}/{topic}") as other:
                view = other.view("a/")
                await view.at_least(0)
                wider = other.view("b/")
                puts = asyncio.gather(*(sync.put(f"{'ab'[n % 2]}/{n}", b"2") for n in range(100)))
                await wider.at_least(0)
                await puts
                await eventually(lambda: set(view.values()) == set(wider.values()) == {b"2"})
                assert len(view) == len(wider) == 50

    asyncio.run(main())


@pytest.mark.once
def test_a_mirror_of_etcd_and_back_ends_equal(server: KafkaServer) -> None:
    async def main() -> None:
        async with (
            etcd_server(DEBIAN) as etcd,
            etcd_server(DEBIAN) as back,
            topic_of(server, 3) as topic,
            DataSync(etcd.url) as writer,
        ):
            for number in range(200):
                await writer.put(f"a/{number}", b"%d" % number)
            await writer.delete("a/7")
            mirrors = [
                await asyncio.create_subprocess_exec(*datasync("mirror", source, target))
                for source, target in (
                    (etcd.url, f"{server.url}/{topic}"),
                    (f"{server.url}/{topic}", back.url),
                )
            ]
            try:
                for number in range(50):
                    await writer.put(f"b/{number}", b"%d" % number)
                    await writer.delete(f"a/{number + 100}")
                wanted = await etcd.everything()

                async def equal() -> bool:
                    return (
                        await back.everything()
                        == wanted
                        == await topics.everything(server.port, topic)
                    )

                await until(equal, "both are equal to the first")
            finally:
                for mirror in mirrors:
                    mirror.terminate()
                    await mirror.wait()

    asyncio.run(main())


def datasync(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "datasync", *arguments]


@pytest.mark.once
def test_watch_on_the_command_line_shows_what_the_console_producer_writes(
    server: KafkaServer,
) -> None:
    async def main() -> None:
        async with topic_of(server) as topic:
            watch = await asyncio.create_subprocess_exec(
                *datasync("watch", "--json", f"{server.url}/{topic}"),
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                assert watch.stdout is not None
                await asyncio.wait_for(watch.stdout.readline(), 60)
                await console_producer(server, topic, "none", {"config/1": "hello"})
                line = await asyncio.wait_for(watch.stdout.readline(), 60)
                assert b"config/1" in line
                assert b"hello" in line
            finally:
                watch.terminate()
                await watch.communicate()

    asyncio.run(main())
