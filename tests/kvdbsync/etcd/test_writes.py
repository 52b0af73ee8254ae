"""Writes: one transaction each, limits named, leases, revisions."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request

import pytest

from datasync import BadStore, BadValue, Conflict, DataSync, Op, UnsupportedOption
from datasync.documents import entries
from datasync.testing.contract import eventually
from tests.helpers.etcd.etcd_server import NEW, EtcdServer, etcd_server, versions
from tests.helpers.etcd.load import watched


@versions
def test_more_operations_than_the_server_takes_name_the_limit(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, watched(server.url) as (sync, probe):
            await sync.ready(60)
            txn = sync.txn()
            for number in range(129):
                txn.put(f"a/{number}", b"1")
            with pytest.raises(UnsupportedOption, match=r"129 operations.*--max-txn-ops \(128"):
                await txn.commit()
            assert await server.everything() == {}
            txn = sync.txn()
            for number in range(128):
                txn.put(f"a/{number}", b"1")
            await txn.commit()
            await eventually(lambda: probe.changes)
            assert [len(event.changes) for event in probe.changes] == [128]

    asyncio.run(main())


def calls(server: EtcdServer, method: str) -> int:
    """How many calls of this method have reached the server."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as metrics:
        pattern = rb'grpc_server_started_total\{grpc_method="%b".*\} (\S+)' % method.encode()
        return sum(int(float(count)) for count in re.findall(pattern, metrics.read()))


@versions
def test_a_value_by_itself_is_put_and_needs_no_transaction(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            before = {method: calls(server, method) for method in ("Put", "Txn")}
            revisions = await asyncio.gather(*(sync.put(f"a/{n}", b"1") for n in range(1_000)))
            after = {method: calls(server, method) for method in ("Put", "Txn")}
            assert after["Put"] - before["Put"] == 1_000
            assert after["Txn"] == before["Txn"]
            assert len(set(revisions)) == 1_000  # each is a change of its own

    asyncio.run(main())


@versions
def test_a_value_by_itself_that_is_too_large_names_its_key(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            with pytest.raises(BadValue, match=r"'a/large'.*--max-request-bytes"):
                await sync.put("a/large", b"x" * (2 << 20))
            assert await server.everything() == {}

    asyncio.run(main())


@versions
@pytest.mark.parametrize("size", [2 << 20, 8 << 20])
def test_a_value_that_is_too_large_names_its_key(version: str, size: int) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            with pytest.raises(BadValue, match=r"'a/large'.*--max-request-bytes"):
                await sync.txn().put("a/small", b"1").put("a/large", b"x" * size).commit()
            assert await server.everything() == {}
            await sync.put("a/small", b"1")

    asyncio.run(main())


@versions
def test_existed_is_told_truly(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            await (
                sync.txn()
                .put("a/1", b"1")
                .put("a/b/2", b"2")
                .put("ab", b"3")
                .put("a0", b"4")
                .commit()
            )
            assert await sync.delete("a/", prefix=True) is True
            assert await server.everything() == {"ab": b"3", "a0": b"4"}
            assert await sync.delete("a/", prefix=True) is False
            assert await sync.delete("ab") is True
            assert await sync.delete("ab") is False
            assert await sync.delete("", prefix=True) is True
            assert await server.everything() == {}

    asyncio.run(main())


@versions
def test_the_revision_of_a_write_is_its_own(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            told = await asyncio.gather(*(sync.put(f"a/{number}", b"1") for number in range(100)))
            kept = [(await sync.get(f"a/{number}")) for number in range(100)]
            assert [kv and kv.revision for kv in kept] == told
            revision = (
                await sync.txn()
                .put("a/0", b"2")
                .delete("a/1")
                .if_revision("a/2", told[2] or 0)
                .commit()
            )
            found = await sync.get("a/0")
            assert found is not None
            assert found.revision == revision

    asyncio.run(main())


@versions
def test_the_key_in_conflict_is_named(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            first = await sync.put("a/1", b"1") or 0
            txn = (
                sync.txn()
                .if_revision("a/1", first)
                .if_revision("a/2", 7)
                .if_revision("a/3", 8)
                .put("a/4", b"1")
            )
            with pytest.raises(Conflict) as caught:
                await txn.commit()
            assert (caught.value.key, caught.value.expected) == ("a/2", 7)

    asyncio.run(main())


@versions
def test_leases(version: str) -> None:
    async def main() -> None:
        async with (
            etcd_server(version) as server,
            watched(server.url) as (sync, probe),
            DataSync(server.url) as other,
        ):
            await sync.ready(60)
            await sync.put("a/long", b"1", ttl=1000)
            assert await leases(server) == 1
            # a put that fails leaves no lease behind
            with pytest.raises(Conflict):
                await sync.txn().put("a/1", b"1", ttl=500).if_revision("a/none", 5).commit()
            with pytest.raises(BadValue):
                await sync.put("a/1", b"x" * (3 << 20), ttl=500)
            assert await leases(server) == 1
            # keys of one transaction and one TTL share one
            await (
                sync.txn()
                .put("c/1", b"1", ttl=501.2)
                .put("c/2", b"2", ttl=502)
                .put("c/3", b"3", ttl=502.5)
                .commit()
            )
            assert await leases(server) == 3
            # which ends with the last of them
            await sync.delete("c/1")
            await sync.put("c/2", b"22", ttl=502)
            assert await leases(server) == 3
            await sync.delete("c/", prefix=True)
            assert await leases(server) == 1
            began = time.monotonic()
            await (
                sync.txn()
                .put("b/1", b"1", ttl=1.2)
                .put("b/2", b"2", ttl=2)
                .put("b/3", b"3", ttl=500)
                .commit()
            )
            await other.put("b/3", b"kept")  # detaches it
            await eventually(lambda: probe.state == {"a/long": b"1", "b/3": b"kept"}, 60)
            assert time.monotonic() - began >= 1.2, "never sooner than asked for"
            (gone,) = (
                event
                for event in probe.changes
                if (event.changes[0].key, event.changes[0].op) == ("b/1", Op.DELETE)
            )
            assert {change.op for change in gone.changes} == {Op.DELETE}
            before = {
                change.key: change.prev.raw for change in gone.changes if change.prev is not None
            }
            assert before == {"b/1": b"1", "b/2": b"2"}
            assert (await sync.get("b/3")) is not None
            with pytest.raises(BadValue, match="'a/1'"):
                await sync.put("a/1", b"1", ttl=1e10)

    asyncio.run(main())


@versions
def test_a_key_that_is_refreshed_has_one_lease(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            for number in range(100):
                await sync.put("a/1", b"%d" % number, ttl=300)
            assert await leases(server) == 1
            # at the same time
            await asyncio.gather(
                *(sync.put("a/1", b"%d" % number, ttl=300) for number in range(100))
            )
            assert await leases(server) == 1
            kept = await sync.get("a/1")
            assert kept is not None
            # one more key on the lease, so that it does not end with the refreshed one
            await sync.txn().put("a/1", b"x", ttl=300).put("a/2", b"x", ttl=300).commit()
            await sync.put("a/1", b"y", ttl=300)
            assert await leases(server) == 2
            assert await sync.get("a/2") is not None
            await sync.put("a/1", b"without")
            assert await leases(server) == 1
            await sync.delete("a/2")
            assert await leases(server) == 0
            assert (await sync.get("a/1")) is not None

    asyncio.run(main())


async def leases(server: EtcdServer) -> int:
    """How many leases there are."""
    return int((await server.ctl("lease", "list")).split()[1])


def test_a_full_store_says_so() -> None:
    async def main() -> None:
        extra = ["--quota-backend-bytes", str(4 << 20)]
        async with etcd_server(NEW, extra=extra) as server, watched(server.url) as (sync, probe):
            await sync.ready(60)

            async def fill() -> None:
                for number in range(20):
                    await sync.put(f"a/{number}", b"x" * (1 << 20))

            with pytest.raises(BadStore, match="defragment"):
                await fill()
            # reading goes on
            assert probe.state
            assert sync.status().sources[0].state == "following"

    asyncio.run(main())


@versions
def test_a_deletion_of_nothing_is_confirmed_while_others_write(version: str) -> None:
    async def main() -> None:
        async with (
            etcd_server(version) as server,
            watched(server.url, "mine/", ping_interval=60) as (sync, _),
        ):
            await sync.ready(60)
            async with DataSync(server.url) as other:
                for number in range(5):
                    await other.put(f"others/{number}", b"1")
            began = time.monotonic()
            assert await sync.delete("mine/none", confirm=60) is False
            assert await sync.delete("mine/", prefix=True, confirm=60) is False
            assert time.monotonic() - began < 3

    asyncio.run(main())


@versions
def test_what_etcdctl_prints_is_loaded(version: str) -> None:
    async def main() -> None:
        pairs = {"config/mtu": b"1500", "config/empty": b"", "config/logo": b"\x89PNG\n"}
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            for key, value in pairs.items():
                await sync.put(key, value)
            for words, expected in ((["--prefix", "config/"], pairs), (["nothing"], {})):
                printed = (await server.ctl("get", *words, "-w", "json")).encode()
                for kind in ("json", "jsonl"):
                    found = entries(kind, "f", printed)
                    assert {entry.key: entry.raw for entry in found} == expected

    asyncio.run(main())
