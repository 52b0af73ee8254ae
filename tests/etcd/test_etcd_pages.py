"""Reading in pages: all at one revision, one ahead, as large as the line allows."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request

import pytest

from datasync import DataSync, HistoryLost, open_url
from datasync.source import SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.testing.chaos.proxy import proxy_to
from tests.etcd.etcd_server import NEW, EtcdServer, etcd_server, versions
from tests.etcd.frames import fill, reader


@versions
def test_a_write_between_every_two_pages(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as writer:
            await fill(writer, 25_000)
            await writer.put("b", b"a key of its own")
            source = open_url(server.url)
            frames = await reader(source, ["a/", "b"])
            pages = 0
            items: dict[str, bytes] = {}
            written: list[int] = []
            assert isinstance(await frames.next(), SnapshotBegin)
            while not isinstance(frame := await frames.next(), SnapshotEnd):
                pages += 1
                items.update((key, raw) for key, raw, _ in frame.items)
                txn = writer.txn().put("a/00000", b"%d" % pages).delete(f"a/{24_999 - pages}")
                written.append(await txn.commit() or 0)
            assert pages >= 4
            assert len(items) == 25_001
            assert set(items.values()) == {b"v" * 50, b"a key of its own"}
            assert frame.revision == written[0] - 1
            for number, revision in enumerate(written, 1):
                commit = await frames.commit()
                assert commit.revision == revision
                assert dict(commit.changes) == {"a/00000": b"%d" % number, f"a/{24_999 - number}": None}
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


def test_the_next_page_is_on_its_way_while_one_is_processed() -> None:
    async def main() -> None:
        async with etcd_server(NEW) as server, DataSync(server.url) as writer:
            await fill(writer, 2_500)
            source = open_url(server.url)
            asked = ranges(server)
            frames = await reader(source, ["a/"])
            assert isinstance(await frames.next(), SnapshotBegin)
            assert isinstance(await frames.next(), SnapshotChunk)
            deadline = time.monotonic() + 20
            while ranges(server) < asked + 2:  # without a turn of the loop
                assert time.monotonic() < deadline
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


def ranges(server: EtcdServer) -> int:
    """How many Range calls have reached the server. Blocks the loop."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as metrics:
        found = re.search(rb'grpc_server_started_total\{grpc_method="Range".*\} (\S+)', metrics.read())
    return int(float(found[1])) if found else 0


@pytest.mark.once
@versions
def test_a_slow_line_is_given_smaller_pages(version: str) -> None:
    """1,000 keys take longer than one request may: a snapshot in such pages would be begun for ever."""

    async def main() -> None:
        async with etcd_server(version) as server, proxy_to(server.port) as proxy, DataSync(server.url) as writer:
            await fill(writer, 3_000, value=b"v" * 1_000)
            source = open_url(f"etcd://127.0.0.1:{proxy.port}?timeout=1")
            proxy.rate = 900_000
            frames = await reader(source, ["a/"])
            items, _ = await frames.snapshot()
            assert len(items) == 3_000
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


@versions
def test_listing_reads_pages_of_one_revision(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            await fill(sync, 2_500)
            listed = sync.list("a/")
            found = [await anext(listed)]
            await sync.delete("a/", prefix=True)
            found += [kv async for kv in listed]
            assert [kv.key for kv in found] == [f"a/{number:05}" for number in range(2_500)]
            keys = [kv async for kv in sync.list("a/", keys_only=True)]
            assert keys == []
            await sync.put("a/1", b"1")
            assert [(kv.key, kv.raw) async for kv in sync.list("a/", keys_only=True)] == [("a/1", b"")]
            # compacted in between: an error, not half a list
            await fill(sync, 2_500)
            listed = sync.list("a/")
            await anext(listed)
            await sync.put("a/1", b"2")
            await server.compact()
            with pytest.raises(HistoryLost, match="compacted"):
                [kv async for kv in listed]

    asyncio.run(main())
