"""Brokers, and other clients, in bad faith: bounded, told by typed errors,
and tried again like any lost one.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiokafka import codec as codecs
from aiokafka.record.util import calc_crc32c

from datasync import AnswerTooLarge, BadStore, BadUrl, DataSync, Disconnected, open_url
from datasync.errors import DataSyncError
from datasync.msgsync.kafka import errors
from datasync.msgsync.kafka.cluster import Access, Cluster
from datasync.msgsync.kafka.packed import fits
from datasync.msgsync.kafka.publish import Message, batch_of
from datasync.msgsync.kafka.records import groups
from datasync.source import Put
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import eventually
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.load import QUICK, lost_because
from tests.helpers.logs import logged
from tests.helpers.memory import memory_below
from tests.helpers.servers import listening

_MIB = 1 << 20
_LIMIT = f"max_answer={_MIB}"
_HEADER = 61
_PACK = [bytes, codecs.gzip_encode, codecs.snappy_encode, codecs.lz4_encode, codecs.zstd_encode]


@pytest.mark.parametrize(
    "frame", [b"\x7f\xff\xff\xff", b"\x40\x00\x00\x00", b"\x00\x20\x00\x00", b"\xff\xff\xff\xff"]
)
def test_one_answer_is_bounded(frame: bytes) -> None:
    """With and without what it announces: no room is made for it, and nothing of it is read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(frame)
        while True:
            writer.write(bytes(65_536))
            await writer.drain()
            await asyncio.sleep(0)

    async def main() -> None:
        async with listening(serve) as port, asyncio.timeout(60):
            url = f"kafka://127.0.0.1:{port}/topic?{_LIMIT}&timeout=30"
            source = open_url(url)
            with memory_below(8 * _MIB):
                with pytest.raises(AnswerTooLarge, match=r"more than 1048576 bytes.*max_answer="):
                    await source.get("a/1")
                with pytest.raises(DataSyncError):
                    await source.commit([Put("a/1", b"1")])
            await source.aclose()
            async with DataSync(url, **QUICK) as sync:
                await eventually(lambda: lost_because(sync, "max_answer="))

    asyncio.run(main())


@pytest.mark.parametrize("address", [("127.0.0.1", 99_999), ("a..b", 9092)])
def test_a_broker_names_another_by_what_is_not_an_address(address: tuple[str, int]) -> None:
    async def main() -> None:
        cluster = Cluster(Access((("127.0.0.1", 9),), "topic"))
        with pytest.raises(Disconnected, match="does not answer as Kafka does"):
            await cluster.connection(address)
        await cluster.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("frame", [b"", b"\x00\x00\x00\x00", bytes(100), b"\xff" * 100])
def test_answers_that_are_not_understood(frame: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(len(frame).to_bytes(4, "big") + frame)
        await reader.read(100)

    async def main() -> None:
        async with listening(serve) as port, asyncio.timeout(60):
            source = open_url(f"kafka://127.0.0.1:{port}/topic?timeout=1")
            with pytest.raises((Disconnected, BadStore)):
                await source.get("a/1")
            await source.aclose()

    asyncio.run(main())
    assert not logged(caplog)  # who answers in bad faith does not fill the log


@pytest.mark.parametrize("versions", ["7fff0001 0000", "0001 0000 0005 0002"])
def test_what_a_broker_says_of_itself_is_not_understood(versions: str) -> None:
    """More of it than comes, or a request whose lowest version is above its highest."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(100)
        # the number of the request, no error
        frame = request[8:12] + bytes.fromhex(f"0000 0000 {versions}")
        writer.write(len(frame).to_bytes(4, "big") + frame)
        await reader.read(100)

    async def main() -> None:
        async with listening(serve) as port, asyncio.timeout(60):
            source = open_url(f"kafka://127.0.0.1:{port}/topic?timeout=1")
            with pytest.raises(Disconnected):
                await source.get("a/1")
            await source.aclose()

    asyncio.run(main())


def _batch(codec: int, size: int) -> bytes:
    plain = batch_of([Message(b"a/1", bytes(size))], (-1, -1), -1, 2 * size + 10_000)[0]
    batch = bytearray(plain[:_HEADER] + _PACK[codec](plain[_HEADER:]))
    batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
    batch[22] = codec
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return bytes(batch)


@pytest.mark.parametrize("codec", [0, 1, 3, 4])
def test_a_batch_is_bounded_once_it_is_unpacked(codec: int) -> None:
    """Anybody who may write to the topic packs gigabytes into kilobytes."""
    bomb = _batch(codec, 32 * _MIB)
    with (
        memory_below(4 * _MIB + 3 * len(bomb) * (codec != 4)),
        pytest.raises(AnswerTooLarge, match="max_answer="),
    ):
        list(groups(bomb, 0, None, (), "a topic", _MIB))
    [(_, [(offset, key, value)])] = groups(bomb, 0, None, (), "a topic", 64 * _MIB)
    assert (offset, key, value) == (0, b"a/1", bytes(32 * _MIB))


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_batches_of_any_size_fit_their_bound(codec: int) -> None:
    for size in (0, 1_000, 100_000):
        batch = memoryview(_batch(codec, size))
        assert fits(batch, 200_000)
        assert len(list(groups(bytes(batch), 0, None, (), "a topic", 200_000))) == 1


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_what_cannot_be_unpacked_is_said(codec: int) -> None:
    batch = bytearray(_batch(codec, 1_000))
    batch[_HEADER:] = b"\xff" * (len(batch) - _HEADER)
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    with pytest.raises((BadStore, Disconnected)), errors.understanding("a topic"):
        list(groups(bytes(batch), 0, None, (), "a topic", _MIB))


def test_a_value_that_is_too_large_is_read_once_it_is_allowed(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        url = f"{server.url}/{topic}"
        source = open_url(url)
        await source.commit([Put("a/1", b"x" * 200_000)])
        await source.aclose()
        async with contextlib.AsyncExitStack() as stack:
            small = await stack.enter_async_context(DataSync(f"{url}?max_answer=65536", **QUICK))
            small.watch("all", "a/")
            await eventually(lambda: "max_answer=" in (small.status().sources[0].error or ""), 60)
            large = await stack.enter_async_context(DataSync(f"{url}?{_LIMIT}"))
            view = large.view("a/")
            await large.ready(60)
            assert len(view["a/1"]) == 200_000

    asyncio.run(main())


def test_a_bound_that_is_none() -> None:
    with pytest.raises(BadUrl, match="max_answer= takes a number of bytes >= 65536"):
        open_url("kafka://127.0.0.1:1/topic?max_answer=1")
