"""Reading in pages: an exact state that needs no history, many ranges at a time,
as large as the line allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.request

import pytest

from datasync import DataSync, HistoryLost, open_url
from datasync.testing.chaos.proxy import proxy_to
from tests.helpers.etcd.etcd_server import NEW, EtcdServer, etcd_server, versions
from tests.helpers.etcd.frames import fill, reader


@versions
def test_writes_while_the_pages_are_read(version: str) -> None:
    """What the pages hold of different revisions, and what was written meanwhile,
    are one exact state.
    """

    async def main() -> None:
        async with (
            etcd_server(version) as server,
            proxy_to(server.port) as proxy,
            DataSync(server.url) as writer,
            asyncio.TaskGroup() as group,
        ):
            await fill(writer, 15_000)
            await writer.put("b", b"a key of its own")
            begun = await server.head()
            source = open_url(f"etcd://127.0.0.1:{proxy.port}")

            async def write() -> None:
                for number in range(100_000):
                    txn = writer.txn().put("a/00000", b"%d" % number).put("a/14999", b"%d" % number)
                    txn.delete(f"a/{7_000 + number:05}").put(f"a/{number % 500:05}+", b"new").put(
                        "b", b"%d" % number
                    )
                    await txn.put("aside", b"").commit()
                    await writer.put("b/passing", b"")
                    await writer.delete("b/passing")

            writing = group.create_task(write())
            proxy.rate = 1_500_000
            frames = await reader(source, ["a/", "b"])
            items, end = await frames.snapshot()
            writing.cancel()
            assert end.revision > begun + 10
            shown = replay(await server.history(), end.revision)
            assert items == {
                key: raw for key, raw in shown.items() if key == "b" or key.startswith("a/")
            }

            # and all that comes behind it follows, once
            head = await server.head()
            revision = end.revision
            while revision < head - 3:
                commit = await frames.commit()
                assert commit.revision > revision
                revision = commit.revision
                items.update((key, raw) for key, raw in commit.changes if raw is not None)
                for key, raw in commit.changes:
                    if raw is None:
                        del items[key]
            shown = replay(await server.history(), revision)
            assert items == {
                key: raw for key, raw in shown.items() if key == "b" or key.startswith("a/")
            }
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


def replay(history: list[tuple[int, dict[str, bytes | None]]], upto: int) -> dict[str, bytes]:
    """All keys and values as they were at a revision."""
    shown: dict[str, bytes] = {}
    for revision, changes in history:
        if revision <= upto:
            for key, raw in changes.items():
                if raw is None:
                    shown.pop(key, None)
                else:
                    shown[key] = raw
    return shown


@versions
def test_a_compaction_between_every_two_pages(version: str) -> None:
    """A server that keeps no history is read to the end all the same."""

    async def main() -> None:
        async with (
            etcd_server(version) as server,
            proxy_to(server.port) as proxy,
            DataSync(server.url) as writer,
            asyncio.TaskGroup() as group,
        ):
            await fill(writer, 10_000, value=b"v" * 200)
            source = open_url(f"etcd://127.0.0.1:{proxy.port}")

            async def compact() -> None:
                while True:
                    await writer.put("a/05000", b"x")
                    await server.compact()

            compacting = group.create_task(compact())
            proxy.rate = 1_000_000
            frames = None
            while frames is None:
                # just behind where the watch begins; the engine opens it again
                with contextlib.suppress(HistoryLost):
                    frames = await reader(source, ["a/"])
            items, _ = await frames.snapshot()
            assert len(items) == 10_000
            compacting.cancel()
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


@versions
def test_many_scopes_are_read_together(version: str) -> None:
    """300 keys and prefixes, most of them empty: not a request for each."""

    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as writer:
            await fill(writer, 150)
            scopes = [f"a/{number:05}" for number in range(300)] + [
                f"p/{number}/" for number in range(300)
            ]
            for number in range(0, 300, 50):
                await writer.put(f"p/{number}/x", b"p")
            source = open_url(server.url)
            asked = requests(server)
            frames = await reader(source, scopes)
            items, _ = await frames.snapshot()
            assert len(items) == 156
            assert requests(server) < asked + 15
            await writer.put("p/299/x", b"1")
            assert dict((await frames.commit()).changes) == {"p/299/x": b"1"}
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


def test_a_server_that_takes_few_operations_is_asked_for_few() -> None:
    async def main() -> None:
        async with (
            etcd_server(NEW, extra=["--max-txn-ops", "10"]) as server,
            DataSync(server.url) as writer,
        ):
            await writer.put("a/0", b"0")
            source = open_url(server.url)
            frames = await reader(source, [f"a/{number}" for number in range(100)])
            assert (await frames.snapshot())[0] == {"a/0": b"0"}
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


def requests(server: EtcdServer) -> int:
    """How many calls have reached the server."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as metrics:
        found = re.findall(
            rb'grpc_server_started_total\{grpc_method="(?:Range|Txn)".*\} (\S+)', metrics.read()
        )
    return sum(int(float(count)) for count in found)


@pytest.mark.once
@versions
def test_a_slow_line_is_given_smaller_pages(version: str) -> None:
    """1,000 keys take longer than one request may: a snapshot in such pages
    would be begun for ever.
    """

    async def main() -> None:
        async with (
            etcd_server(version) as server,
            proxy_to(server.port) as proxy,
            DataSync(server.url) as writer,
        ):
            await fill(writer, 3_000, value=b"v" * 1_000)
            source = open_url(f"etcd://127.0.0.1:{proxy.port}?timeout=1")
            proxy.rate = 900_000
            frames = await reader(source, ["a/"])
            items, _ = await frames.snapshot()
            assert len(items) == 3_000
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


@pytest.mark.long
@versions
def test_a_first_page_that_takes_too_long_is_asked_for_in_smaller_parts(version: str) -> None:
    async def main() -> None:
        async with (
            etcd_server(version) as server,
            proxy_to(server.port) as proxy,
            DataSync(server.url) as writer,
        ):
            for number in range(70):
                await writer.put(f"a/{number}", b"v" * 50_000)
            source = open_url(f"etcd://127.0.0.1:{proxy.port}?timeout=3")
            proxy.rate = 500_000
            frames = await reader(source, ["a/"])
            items, _ = await frames.snapshot()
            assert len(items) == 70
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
            assert [(kv.key, kv.raw) async for kv in sync.list("a/", keys_only=True)] == [
                ("a/1", b"")
            ]
            # compacted in between: an error, not half a list
            await fill(sync, 2_500)
            listed = sync.list("a/")
            await anext(listed)
            await sync.put("a/1", b"2")
            await server.compact()
            with pytest.raises(HistoryLost, match="compacted"):
                [kv async for kv in listed]

    asyncio.run(main())
