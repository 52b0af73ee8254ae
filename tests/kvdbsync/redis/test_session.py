"""What a watch of Redis shows: other types, odd keys, scopes, databases, expiry, eviction,
the edge of a snapshot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest

from datasync import BadValue, DataSync, Op, UnsupportedOption, open_url
from datasync.skipped_keys import SkippedKeys
from datasync.source import Commit, Delete, Put, SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.testing.contract import eventually
from tests.helpers.load import QUICK, equal, watched
from tests.helpers.logs import logged
from tests.helpers.redis.redis_server import RedisServer, redis_server
from tests.helpers.servers import until


def test_other_types_are_skipped_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with redis_server() as server:
            await server.do("LPUSH", "a/list", "x")
            await server.fill({"a/1": b"1", "a/becomes a hash": b"1"})
            async with watched(server.url, "a/") as (sync, probe):
                await sync.ready(60)
                await equal(probe, {"a/1": b"1", "a/becomes a hash": b"1"})
                await server.do("LPUSH", "a/list", "y")
                await server.do("SADD", "a/set", "y")
                await server.do("SADD", "b/set", "nobody's")
                async with server.client() as client:
                    pipe = client.pipeline(transaction=True)
                    pipe.delete("a/becomes a hash")
                    pipe.hset("a/becomes a hash", "field", "1")
                    await pipe.execute()
                await equal(probe, {"a/1": b"1"})
                await server.fill({"a/set": b"a string now"})
                await equal(probe, {"a/1": b"1", "a/set": b"a string now"})
                assert await sync.get("a/list") is None
                assert [kv.key async for kv in sync.list("a/")] == ["a/1", "a/set"]
                await sync.put("a/last", b"1", confirm=True)

    asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if "is skipped" in record.getMessage()]
    for key, kind in (("a/list", "list"), ("a/set", "set"), ("a/becomes a hash", "hash")):
        [line] = [line for line in said if repr(key.encode()) in line]
        assert f"holds a {kind}" in line
    assert len(said) == 3


def test_keys_that_are_no_text_or_empty_are_skipped_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with redis_server() as server:
            for key in (b"a/\xff", b""):
                await server.do("SET", key, "1")
            await server.fill({"a/1": b"1"})
            async with watched(server.url) as (sync, probe):
                await sync.ready(60)
                for key in (b"a/\xff", b"a/\xfe", b""):
                    await server.do("SET", key, "2")
                await sync.put("a/ü", b"2", confirm=True)
                assert probe.state == {"a/1": b"1", "a/ü": b"2"}
                assert {kv.key async for kv in sync.list("")} == {"a/1", "a/ü"}
                source = open_url(server.url)
                assert await source.get("") is None
                await source.aclose()
                # they are removed with the prefix above, all the same
                assert await sync.delete("a/", prefix=True)
                assert [key async for key in _keys(server)] == [b""]
                assert await sync.delete("", prefix=True)
                assert not [key async for key in _keys(server)]
                await equal(probe, {})

    asyncio.run(main())
    said = [record.getMessage() for record in logged(caplog)]
    assert len([line for line in said if "UTF-8" in line]) == 2
    assert len([line for line in said if "it is empty" in line]) == 1


async def _keys(server: RedisServer) -> AsyncIterator[bytes]:
    async with server.client() as client:
        async for key in client.scan_iter():
            yield key


def test_the_last_report_of_keys_left_alone_says_that_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    skipped = SkippedKeys(logging.getLogger("datasync.redis"))
    for number in range(200):
        skipped.report(b"%d" % number, "Redis", "why")
    said = [record.getMessage() for record in logged(caplog)]
    assert len(said) == 101
    assert "no more" in said[-1]


def test_scopes_whose_names_begin_alike() -> None:
    async def main() -> None:
        async with redis_server() as server:
            items = dict.fromkeys(
                ("a", "ab/1", "ab/x/2", "abc", "a*/1", "a*/2", "aX/1", "é", "éa"), b"1"
            )
            await server.fill(items)
            sync = DataSync(server.url, **QUICK)
            async with sync:
                seen: dict[str, bytes | None] = {}

                @sync.watcher("ab/", "a*/", keys=("a", "é"))
                async def both(event: object) -> None:
                    seen.update({change.key: change.raw for change in event.changes})  # type: ignore[attr-defined]

                wanted = dict.fromkeys(("a", "ab/1", "ab/x/2", "a*/1", "a*/2", "é"), b"1")
                await eventually(lambda: seen == wanted)
                await server.fill(dict.fromkeys(items, b"2"))
                await eventually(lambda: seen == dict.fromkeys(wanted, b"2"))

    asyncio.run(main())


def test_a_thousand_single_keys() -> None:
    async def main() -> None:
        async with redis_server() as server:
            items = {f"config/{number:04}": b"1" for number in range(2000)}
            await server.fill(items)
            sync = DataSync(server.url, **QUICK)
            seen: dict[str, bytes | None] = {}

            @sync.watcher(keys=list(items)[::2])
            async def half(event: object) -> None:
                seen.update({change.key: change.raw for change in event.changes})  # type: ignore[attr-defined]

            async with sync:
                await eventually(lambda: seen == dict.fromkeys(list(items)[::2], b"1"))
                await server.fill(dict.fromkeys(items, b"2"))
                await eventually(lambda: seen == dict.fromkeys(list(items)[::2], b"2"))

    asyncio.run(main())


def test_a_database_of_its_own() -> None:
    async def main() -> None:
        async with redis_server() as server, watched(f"{server.url}/3") as (sync, probe):
            await sync.ready(60)
            await server.fill({"a/1": b"database 0"})
            await sync.put("a/1", b"database 3", confirm=True)
            await server.fill({"a/1": b"again"})
            await sync.put("a/2", b"2", confirm=True)
            assert probe.state == {"a/1": b"database 3", "a/2": b"2"}
            assert len(probe.changes) == 2
            assert await server.everything(3) == probe.state
            assert await server.everything() == {"a/1": b"again"}

    asyncio.run(main())


def test_a_database_that_is_not_there() -> None:
    async def main() -> None:
        async with redis_server() as server:
            with pytest.raises(Exception, match="DB index is out of range"):
                await DataSync(f"{server.url}/99").start()

    asyncio.run(main())


def test_expiry() -> None:
    async def main() -> None:
        async with redis_server() as server, watched(server.url) as (sync, probe):
            await sync.ready(60)
            began = time.monotonic()
            await (
                sync.txn()
                .put("a/short", b"1", ttl=1.5)
                .put("a/long", b"2", ttl=1000)
                .put("a/kept", b"3")
                .commit()
            )
            await eventually(lambda: len(probe.state) == 3)
            await equal(probe, {"a/long": b"2", "a/kept": b"3"})
            assert time.monotonic() - began >= 1.5
            [gone] = probe.changes[-1].changes
            assert gone.op is Op.DELETE
            assert gone.prev is not None
            assert gone.prev.raw == b"1"
            assert 900_000 < await server.do("PTTL", "a/long") <= 1_000_000
            # a put without a ttl takes it away
            await sync.put("a/long", b"2")
            assert await server.do("PTTL", "a/long") == -1
            with pytest.raises(BadValue, match="'a/1'"):
                await sync.put("a/1", b"1", ttl=1e15)
            # nobody looks at them: the server finds them by itself
            async with server.client() as client:
                pipe = client.pipeline(transaction=False)
                for number in range(2000):
                    pipe.set(f"t/{number}", "1", px=100)
                await pipe.execute()
            await eventually(lambda: not any(key.startswith("t/") for key in probe.state), 60)

    asyncio.run(main())


def test_eviction() -> None:
    async def main() -> None:
        extra = ["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-random"]
        async with redis_server(extra=extra) as server, watched(server.url) as (sync, probe):
            await sync.ready(60)
            for number in range(200):
                await sync.put(f"a/{number:03}", bytes([number]) * 100_000)
            await sync.put("a/last", b"1", confirm=True)

            async def same() -> bool:  # it may evict more while it is read
                return probe.state == await server.everything()

            await until(same, "the watch has seen what was evicted")
            assert len(probe.state) < 150
            changes = [change for event in probe.changes for change in event.changes]
            gone = [
                change for change in changes if change.op is Op.DELETE and change.key != "a/last"
            ]
            assert gone
            assert all(
                change.prev is not None and len(change.prev.raw) == 100_000 for change in gone
            )

    asyncio.run(main())


def test_a_full_store_says_so() -> None:
    async def main() -> None:
        async with (
            redis_server(extra=["--maxmemory", "4mb"]) as server,
            watched(server.url) as (sync, probe),
        ):
            await sync.ready(60)

            async def fill() -> None:
                for number in range(100):
                    await (
                        sync.txn()
                        .put(f"a/{number}", b"x" * 100_000)
                        .put(f"b/{number}", b"1")
                        .commit()
                    )

            with pytest.raises(Exception, match="maxmemory"):
                await fill()
            found = await server.everything()
            await equal(probe, found)
            assert {key[2:] for key in found if key[0] == "a"} == {
                key[2:] for key in found if key[0] == "b"
            }

    asyncio.run(main())


def test_existed_is_told_truly() -> None:
    async def main() -> None:
        async with redis_server() as server, DataSync(server.url) as sync:
            await (
                sync.txn()
                .put("a/1", b"1")
                .put("a/b/2", b"2")
                .put("ab", b"3")
                .put("a*/", b"4")
                .commit()
            )
            assert await sync.delete("a*/", prefix=True) is True
            assert await sync.delete("a*/", prefix=True) is False
            assert await sync.delete("a/", prefix=True) is True
            assert await server.everything() == {"ab": b"3"}
            assert await sync.delete("a/", prefix=True) is False
            assert await sync.delete("ab") is True
            assert await sync.delete("ab") is False
            await server.fill({f"many/{number}": b"1" for number in range(5000)})
            await sync.txn().delete("many/", prefix=True).put("other", b"1").delete("none").commit()
            assert await server.everything() == {"other": b"1"}
            assert await sync.delete("", prefix=True) is True
            assert await server.everything() == {}

    asyncio.run(main())


def test_a_transaction_of_many_prefix_deletes_scans_once_and_tells_truly_what_existed() -> None:
    async def main() -> None:
        async with redis_server() as server:
            source = open_url(server.url)
            await server.fill({f"{number}/{'/' * number}key": b"1" for number in range(1000)})
            scans_before = await scans(server)
            deletes = [Delete(f"{number}/", prefix=True) for number in range(0, 2000, 2)]
            # the first one that holds a key has deleted it
            nested = [
                Delete("1/", prefix=True),
                Delete("1//", prefix=True),
                Delete("3////", prefix=True),
            ]
            outer = [
                Delete("5//////", prefix=True),
                Delete("5/////", prefix=True),
                Delete("5/", prefix=True),
            ]
            committed = await source.commit(
                [*nested, Put("other", b"1"), *deletes, Delete("none"), *outer]
            )
            assert committed.existed == [
                True, False, True, *(number < 1000 for number in range(0, 2000, 2)), False, True, False, False
            ]  # fmt: skip
            left = {f"{number}/{'/' * number}key" for number in range(7, 1000, 2)}
            assert (await server.everything()).keys() == {"other", *left}
            assert await scans(server) - scans_before <= 3
            await source.aclose()

    asyncio.run(main())


async def scans(server: RedisServer) -> int:
    """How often keys were asked for, within scripts as well."""
    stats = await server.info("commandstats")
    return int(stats.get("cmdstat_scan", {}).get("calls", 0))


def test_what_redis_lacks_says_so() -> None:
    async def main() -> None:
        async with redis_server() as server, DataSync(server.url) as sync:
            assert await sync.put("a/1", b"1") is None
            with pytest.raises(UnsupportedOption, match="if_revision"):
                await sync.put("a/1", b"2", if_revision=1)
            found = await sync.get("a/1")
            assert found is not None
            assert found.raw == b"1"

    asyncio.run(main())


def test_a_transaction_is_one_event() -> None:
    async def main() -> None:
        async with redis_server() as server, watched(server.url, "a/") as (sync, probe):
            await sync.ready(60)
            txn = sync.txn()
            for number in range(1000):
                txn.put(f"a/{number:04}", b"1")
            await txn.commit(confirm=True)
            await sync.txn().put("a/x", b"1").delete("a/0000").put("b/1", b"1").commit(confirm=True)
            last = probe.changes[-1]
            assert {change.key: change.raw for change in last.changes} == {
                "a/x": b"1",
                "a/0000": None,
            }

    asyncio.run(main())


def test_confirmed_writes_beside_others_of_the_same_key() -> None:
    """Each hears of its own write or of a later one, never of an earlier one."""

    async def main() -> None:
        async with (
            redis_server() as server,
            watched(server.url, "a/") as (sync, probe),
            server.client() as other,
        ):
            await sync.ready(60)
            stop = asyncio.Event()

            async def disturb() -> None:
                while not stop.is_set():
                    await other.set("a/1", b"other")

            disturbing = asyncio.ensure_future(disturb())
            for number in range(300):
                at = len(probe.seen)
                await sync.put("a/1", b"%d" % number, confirm=60)
                await sync.put("a/2", b"%d" % number, confirm=60)
                assert ("a/2", b"%d" % number) in probe.seen[at:]
            stop.set()
            await disturbing
            for number in range(100):
                await sync.put("a/3", b"same", confirm=60)
                await sync.put("a/3", b"%d" % number, confirm=60)
                assert probe.state["a/3"] == b"%d" % number
                await sync.put("a/3", b"%d" % number, confirm=60)
                await sync.delete("a/3", confirm=60)
                assert "a/3" not in probe.state

    asyncio.run(main())


def test_writes_between_every_two_pages_follow_the_snapshot() -> None:
    async def main() -> None:
        async with redis_server() as server, server.client() as writer:
            items = {f"a/{number:05}": b"v" * 50 for number in range(25_000)}
            await server.fill(items)
            session = await open_url(server.url).open(["a/", "b"])
            found: dict[str, bytes] = {}
            state: dict[str, bytes | None] = {}
            pages, complete = 0, False
            try:
                async with asyncio.timeout(60):
                    async for frames in session:
                        for frame in frames:
                            if isinstance(frame, SnapshotChunk):
                                assert not complete
                                pages += 1
                                found.update((key, raw) for key, raw, _ in frame.items)
                                await writer.mset(
                                    {
                                        "a/00000": b"%d" % pages,
                                        "b": b"%d" % pages,
                                        "bb": b"nobody's",
                                    }
                                )
                                await writer.delete(f"a/{24_999 - pages:05}")
                                await writer.set(f"a/new {pages}", b"1")
                            elif isinstance(frame, SnapshotEnd):
                                complete = True
                                state = dict(found)
                            elif isinstance(frame, Commit):
                                assert complete, "a commit within the snapshot"
                                state.update(frame.changes)
                            else:
                                assert isinstance(frame, SnapshotBegin)
                        wanted = await server.everything()
                        wanted.pop("bb", None)
                        if (
                            complete
                            and {key: raw for key, raw in state.items() if raw is not None}
                            == wanted
                        ):
                            break
            finally:
                await session.aclose()
            assert pages > 4
            assert "a/new 1" in state
            assert len(state) > 25_000

    asyncio.run(main())
