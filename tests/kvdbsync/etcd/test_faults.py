"""Faults of the server: killed, emptied, restored, stopped, compacted, absent.

The watch ends equal, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from datasync import BadValue, Conflict, DataSync, OutcomeUnknown, WatchClosed, open_url
from datasync.source import Check, Operation, Put
from datasync.testing.chaos.proxy import TcpProxy, proxy_to
from datasync.testing.contract import eventually
from tests.helpers.etcd.etcd_server import DEBIAN, NEW, EtcdServer, etcd_server, versions
from tests.helpers.etcd.load import (
    Judged,
    begun_anew,
    cluster_of,
    judge,
    judge_anew,
    settled,
    watched,
)
from tests.helpers.faults import (
    closed_beside_requests,
    lose,
    once_there,
    proxied,
    started_late,
    stopped,
    stopped_write,
)
from tests.helpers.load import QUICK, Watched, seen, state_of, writing


@pytest.mark.long
@versions
def test_killed_20_times_under_load(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, watched(server.url) as (sync, probe):
            await sync.ready(60)
            async with writing(server.url) as load:
                for number in range(20):
                    await load.more(20)
                    if number % 2:
                        await server.kill()
                        await eventually(lambda: state_of(sync) == "lost")
                        await server.start()
                    else:
                        await server.kill()
                        await server.start()
            await settled(probe, server)
            # proven to be the same history each time: nothing was read again
            assert len(probe.resyncs) == 1
            assert sync.status().sources[0].reconnects >= 10
            log = await server.history()
            written = dict(log)
            for revision, (key, value) in load.acknowledged.items():
                assert value is None or written[revision] == {key: value}
            judge(probe, log)

    asyncio.run(main())


@versions
def test_20_starts_beside_a_continuous_writer(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, writing(server.url) as load:
            await eventually(lambda: len(load.acknowledged) > 100)
            probes: list[Watched] = []
            for _ in range(20):
                async with watched(server.url) as (sync, probe):
                    await sync.ready(60)
                    await seen(probe, 20)
                probes.append(probe)
            log = await server.history()
            for probe in probes:
                judge(probe, [entry for entry in log if entry[0] <= probe.events[-1].revision])

    asyncio.run(main())


@contextlib.asynccontextmanager
async def behind_a_proxy(
    version: str,
) -> AsyncIterator[tuple[EtcdServer, TcpProxy, DataSync, Watched]]:
    """A server, the proxy that the watch goes through, and the watch."""
    async with (
        etcd_server(version) as server,
        proxied(server) as (proxy, url),
        watched(url) as (sync, probe),
    ):
        await sync.ready(60)
        yield server, proxy, sync, probe


@versions
@pytest.mark.parametrize("longer", [False, True])
def test_an_emptied_store_is_a_new_history_also_where_it_outgrew_the_old_one(
    version: str, longer: bool
) -> None:
    async def main() -> None:
        async with (
            behind_a_proxy(version) as (server, proxy, sync, probe),
            DataSync(server.url) as writer,
        ):
            for number in range(5):
                await writer.put(f"a/{number}", b"old")
            await eventually(lambda: len(probe.state) == 5)
            await lose(proxy, sync)
            begun_anew(probe, await cluster_of(server.url), await server.history())
            await server.empty()
            # the same cluster id; with `longer`, the revision that the watch stands at is there
            # again, and its key
            for number in range(4 if longer else 1):
                await writer.put(f"a/{number}", b"new")
            if longer:
                await writer.put("a/4", b"new")
                await writer.put("b/1", b"new")
            await proxy.start()
            await settled(probe, server)
            assert len(probe.resyncs) == 2
            assert "new history" in probe.resyncs[1].reason
            # and it goes on from there
            await writer.put("a/new", b"1")
            await eventually(lambda: probe.state.get("a/new") == b"1")
            await judge_anew(probe, server, 2)

    asyncio.run(main())


@versions
def test_emptied_under_load(version: str) -> None:
    async def main() -> None:
        async with behind_a_proxy(version) as (server, proxy, sync, probe):
            async with writing(server.url) as load:
                await load.more(50)
                await lose(proxy, sync)
                begun_anew(probe, await cluster_of(server.url), await server.history())
                await server.empty()
                await load.more(200)  # beyond the revision that the watch stands at
                await proxy.start()
                await eventually(lambda: len(probe.resyncs) == 2)
                await load.more(50)
            await judge_anew(probe, server, 2)
            assert "new history" in probe.resyncs[1].reason

    asyncio.run(main())


@versions
def test_a_restored_backup_is_a_new_history(version: str) -> None:
    async def main() -> None:
        async with (
            behind_a_proxy(version) as (server, proxy, sync, probe),
            DataSync(server.url, **QUICK) as writer,
        ):
            await writer.put("a/kept", b"1")
            await writer.put("a/deleted later", b"1")
            kept = await server.head()
            backup = await server.back_up()
            await once_there(lambda: writer.delete("a/deleted later"))
            await writer.put("a/lost", b"1")
            wanted = await server.everything()
            await eventually(lambda: probe.state == wanted)
            await lose(proxy, sync)
            begun_anew(probe, await cluster_of(server.url), await server.history(), kept)
            await server.restore(backup)
            for number in range(10):  # beyond the revision that the watch stands at
                await once_there(functools.partial(writer.put, f"b/{number}", b"1"))
            await proxy.start()
            await settled(probe, server)
            assert "a/deleted later" in probe.state
            assert "a/lost" not in probe.state
            assert "new history" in probe.resyncs[-1].reason
            await judge_anew(probe, server, kept + 1)

    asyncio.run(main())


@versions
def test_stopped_for_longer_than_the_pings(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server:
            await stopped(server, Judged(server))

    asyncio.run(main())


@versions
def test_a_write_to_a_stopped_server_is_unknown_and_one_to_none_surely_not_done(
    version: str,
) -> None:
    async def main() -> None:
        async with etcd_server(version) as server:
            await stopped_write(server)

    asyncio.run(main())


@versions
def test_compacted_while_away_is_one_resync_with_the_deletes(version: str) -> None:
    async def main() -> None:
        async with (
            behind_a_proxy(version) as (server, proxy, sync, probe),
            DataSync(server.url) as writer,
        ):
            await writer.txn().put("a/kept", b"1").put("a/gone", b"1").put("a/old", b"1").commit()
            await eventually(lambda: len(probe.state) == 3)
            await lose(proxy, sync)
            await writer.delete("a/gone")
            await writer.put("a/old", b"2")
            log = await server.history()
            await server.compact()
            await proxy.start()
            await settled(probe, server)
            judge(probe, log)
            again = probe.resyncs[1]
            assert "compacted" in again.reason
            assert "new history" not in again.reason
            assert {change.key: change.raw for change in again.changes} == {
                "a/gone": None,
                "a/old": b"2",
            }

    asyncio.run(main())


def test_an_idle_watch_survives_a_compaction_where_bookmarks_can_be_trusted() -> None:
    async def main() -> None:
        async with (
            etcd_server(NEW) as server,
            proxy_to(server.port) as proxy,
            DataSync(server.url) as writer,
            watched(f"etcd://127.0.0.1:{proxy.port}", "mine/") as (sync, probe),
        ):
            await writer.put("mine/1", b"1")
            await eventually(lambda: len(probe.state) == 1)
            for number in range(50):
                await writer.put(f"others/{number}", b"1")
            head = await server.head()
            await eventually(lambda: (sync.status().sources[0].revision or 0) >= head)
            await server.compact()
            await lose(proxy, sync)
            await writer.put("mine/1", b"2")
            await proxy.start()
            await eventually(lambda: probe.state == {"mine/1": b"2"})
            assert len(probe.resyncs) == 1

    asyncio.run(main())


def test_an_old_servers_requested_progress_is_no_bookmark() -> None:
    async def main() -> None:
        async with etcd_server(DEBIAN) as server, watched(server.url, "mine/") as (sync, probe):
            await sync.ready(60)
            stood = sync.status().sources[0].revision
            async with DataSync(server.url) as writer:
                for number in range(5):
                    await writer.put(f"others/{number}", b"1")
            await asyncio.sleep(3 * QUICK["ping_interval"])  # that many pings must not move it
            assert sync.status().sources[0].revision == stood
            assert not probe.changes

    asyncio.run(main())


@versions
def test_timed_progress_is_a_bookmark_on_any_server(version: str) -> None:
    async def main() -> None:
        flag = (
            "--experimental-watch-progress-notify-interval"
            if version == DEBIAN
            else "--watch-progress-notify-interval"
        )
        async with (
            etcd_server(version, extra=[flag, "200ms"]) as server,
            DataSync(server.url) as writer,
        ):
            await writer.put("mine/1", b"1")
            async with watched(server.url, "mine/", ping_interval=60) as (sync, probe):
                await sync.ready(60)
                await writer.put("mine/1", b"2")
                await eventually(lambda: probe.changes)
                for number in range(5):
                    await writer.put(f"others/{number}", b"1")
                head = await server.head()
                await eventually(lambda: (sync.status().sources[0].revision or 0) >= head)

    asyncio.run(main())


@versions
def test_started_before_the_server(version: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with etcd_server(version, start=False) as server:
            await started_late(server, Judged(server), caplog)

    asyncio.run(main())


@versions
def test_defects_of_the_server_are_named_once(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, watched(server.url) as (sync, _):
            await sync.ready(60)
            await server.kill()
            await server.start()
            await eventually(
                lambda: state_of(sync) == "following" and sync.status().sources[0].reconnects
            )

    asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if "runs etcd" in record.getMessage()]
    if version == DEBIAN:
        assert len(said) == 1
        assert "update it to 3.4.38" in said[0]
    else:
        assert said == []


@pytest.mark.once
@versions
def test_an_answer_that_is_too_large_is_asked_for_in_smaller_parts(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server:
            large = {f"large/{number:03}": bytes([number]) * (1 << 20) for number in range(70)}
            small = {f"a/{number:05}": b"%d" % number for number in range(2000)}
            async with DataSync(server.url, ping_timeout=30) as writer:
                for start in range(0, len(small), 100):
                    txn = writer.txn()
                    for key in list(small)[start : start + 100]:
                        txn.put(key, small[key])
                    await txn.commit()
                for key, value in large.items():
                    await writer.put(key, value)
                async with watched(server.url, ping_timeout=30, connect_timeout=60) as (
                    sync,
                    probe,
                ):
                    await sync.ready(60)
                    assert probe.state == small | large
                assert {kv.key async for kv in writer.list("")} == set(small | large)
                # and behind the snapshot: the fragments of one large answer
                async with watched(server.url, "b/", ping_timeout=30) as (sync, probe):
                    await sync.ready(60)
                    for number in range(5):
                        await writer.put(f"b/{number}", bytes([number]) * (1 << 20))
                    await eventually(lambda: len(probe.state) == 5)

    asyncio.run(main())


@versions
@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("by", ["stopped", "swallowed"])
def test_closed_beside_requests_that_hang(version: str, by: str, connected: bool) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, proxied(server) as (proxy, url):
            if by == "stopped":
                await closed_beside_requests(
                    server.url,
                    server.pause,
                    _async(server.resume),
                    server.everything,
                    connected=connected,
                )
            else:
                await closed_beside_requests(
                    url,
                    _async(proxy.pause),
                    _async(proxy.resume),
                    server.everything,
                    connected=connected,
                )
                await eventually(lambda: not proxy.connections)

    asyncio.run(main())


def _async(call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def called() -> None:
        call()

    return called


def test_writes_with_a_time_to_live_that_hang_are_never_made_once_closed() -> None:
    """They wait for their leases."""

    async def main() -> None:
        async with etcd_server(NEW) as server:
            source = open_url(server.url)
            await source.commit([Put("a/1", b"1")])
            await server.pause()
            puts = [
                asyncio.ensure_future(source.commit([Put(f"b/{n}", b"2", ttl=100)]))
                for n in range(10)
            ]
            await asyncio.sleep(0.2)
            await source.aclose()
            assert [type(put.exception()) for put in puts] == [WatchClosed] * 10
            server.resume()
            await once_there(server.head)
            assert await server.everything() == {"a/1": b"1"}

    asyncio.run(main())


def test_a_source_of_two_is_closed_with_the_last_of_them() -> None:
    async def main() -> None:
        async with etcd_server(NEW) as server:
            source = open_url(server.url)
            async with DataSync(source) as one:
                async with DataSync(source):
                    await server.pause()
                    put = asyncio.ensure_future(one.put("a/1", b"1"))
                    await asyncio.sleep(0.1)
                server.resume()
                await put
                assert await server.everything() == {"a/1": b"1"}

    asyncio.run(main())


@pytest.mark.long
@pytest.mark.once
def test_memory_is_flat_over_writes_that_fail() -> None:
    """Refused, conflicting and of unknown outcome, 100 kB each: some 4,500."""

    async def main() -> None:
        extra = ["--max-request-bytes", "50000"]
        async with etcd_server(NEW, extra=extra) as server:
            source = open_url(f"{server.url}?timeout=1")
            large, small = b"x" * 100_000, b"x" * 40_000

            async def fail(count: int, *operations: Operation) -> set[type]:
                commits = (source.commit(operations) for _ in range(count))
                return {
                    type(outcome)
                    for outcome in await asyncio.gather(*commits, return_exceptions=True)
                }

            used: list[int] = []
            for _ in range(4):
                # some take too long where a machine is busy
                refused: set[type] = set().union(
                    *[await fail(100, Put("a/1", large)) for _ in range(3)]
                )
                assert BadValue in refused
                conflicts: set[type] = set().union(
                    *[
                        await fail(100, Put("a/1", small, ttl=100), Check("a/2", 7))
                        for _ in range(4)
                    ]
                )
                assert Conflict in conflicts
                await once_there(lambda: source.get("a/1"))
                await server.pause()
                assert OutcomeUnknown in await fail(400, Put("a/1", small))
                server.resume()
                await once_there(lambda: source.get("a/1"))
                used.append(resident())
            assert used[-1] - used[1] < 60 << 20, used
            await source.aclose()

    asyncio.run(main())


def resident() -> int:
    """The memory of this process, in bytes; grpc keeps much of it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
