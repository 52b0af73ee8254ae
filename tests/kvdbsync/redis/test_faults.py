"""Faults of the server: killed, emptied, restored, stopped, absent, flushed.

The watch ends equal, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from datasync import BadStore, DataSync, Disconnected, Op, OutcomeUnknown, WatchClosed, open_url
from datasync.source import Commit, Put
from datasync.testing.chaos.proxy import TcpProxy
from datasync.testing.contract import eventually
from tests.helpers.faults import (
    catches_up,
    closed_beside_requests,
    lose,
    proxied,
    started_late,
    stopped,
    stopped_write,
    writes_leave_nothing,
)
from tests.helpers.load import QUICK, STEADY, Watched, hold, seen, state_of, watched, writing
from tests.helpers.redis.load import Judged, judge, settled
from tests.helpers.redis.redis_server import RedisServer, redis_server


def test_killed_20_times_under_load() -> None:
    async def main() -> None:
        async with redis_server() as server, watched(server.url) as (sync, probe):
            await sync.ready(60)
            async with writing(server.url) as load:
                for number in range(20):
                    if number % 2:
                        await eventually(lambda: state_of(sync) == "following")
                    await load.more(20)
                    await server.kill()
                    if number % 2:
                        await eventually(lambda: state_of(sync) == "lost")
                    await server.start()
            await judge(probe, server)
            reconnects = sync.status().sources[0].reconnects
            assert reconnects >= 10
            assert len(probe.resyncs) == 1 + reconnects
            written = [change for _, changes in server.history() for change in changes.items()]
            lost = [
                write
                for write in load.acknowledged.values()
                if write[1] is not None and write not in written
            ]
            assert not lost

    asyncio.run(main())


def test_20_starts_beside_a_continuous_writer() -> None:
    async def main() -> None:
        probes: list[Watched] = []
        async with redis_server() as server:
            await server.fill({f"a/{number:05}": b"%d" % number for number in range(5000)})
            async with writing(server.url) as load:
                await load.more(100)
                for _ in range(20):
                    async with watched(server.url) as (sync, probe):
                        await sync.ready(60)
                        await seen(probe, 20)
                    probes.append(probe)
                # the last one stays until the writer has ended
                async with watched(server.url) as (sync, probe):
                    await sync.ready(60)
                    await load.end()
                    await settled(probe, server)
                    await judge(probe, server)
            log = server.history()
        for probe in probes:
            assert len(probe.state) >= 5000
            hold(probe, log, probe.state)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def behind_a_proxy() -> AsyncIterator[tuple[RedisServer, TcpProxy, DataSync, Watched]]:
    """A server, the proxy that the watch goes through, and the watch."""
    async with (
        redis_server() as server,
        proxied(server) as (proxy, url),
        watched(url) as (sync, probe),
    ):
        await sync.ready(60)
        yield server, proxy, sync, probe


def test_an_emptied_store_shows_as_deletes() -> None:
    async def main() -> None:
        async with behind_a_proxy() as (server, proxy, sync, probe), DataSync(server.url) as writer:
            before = {f"a/{number}": b"old" for number in range(5)}
            await server.fill(before)
            await eventually(lambda: probe.state == before)
            await lose(proxy, sync)
            assert probe.state == before
            await server.empty()
            await writer.put("a/0", b"new")
            await proxy.start()
            await settled(probe, server)
            assert len(probe.resyncs) == 2
            assert {change.key for change in probe.resyncs[1].changes} == set(before)
            await writer.put("a/new", b"1")
            await eventually(lambda: probe.state == {"a/0": b"new", "a/new": b"1"})

    asyncio.run(main())


def test_a_restored_backup_ends_equal_to_it() -> None:
    async def main() -> None:
        async with behind_a_proxy() as (server, proxy, sync, probe):
            await server.fill({"a/kept": b"1", "a/deleted later": b"1", "a/changed": b"1"})
            backup = await server.back_up()
            await server.fill({"a/lost": b"1", "a/changed": b"2"})
            await server.do("DEL", "a/deleted later")
            await settled(probe, server)
            await lose(proxy, sync)
            await server.restore(backup)
            await proxy.start()
            await settled(probe, server)
            assert probe.state == {"a/kept": b"1", "a/deleted later": b"1", "a/changed": b"1"}
            again = {change.key: change.raw for change in probe.resyncs[-1].changes}
            assert again == {"a/lost": None, "a/deleted later": b"1", "a/changed": b"1"}

    asyncio.run(main())


def test_stopped_for_longer_than_the_pings() -> None:
    async def main() -> None:
        async with redis_server() as server:
            await stopped(server, Judged(server))

    asyncio.run(main())


def test_a_write_to_a_stopped_server_is_unknown_and_one_to_none_surely_not_done() -> None:
    async def main() -> None:
        async with redis_server() as server:
            await stopped_write(server)

    asyncio.run(main())


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("by", ["stopped", "swallowed"])
def test_closed_beside_requests_that_hang(by: str, connected: bool) -> None:
    async def main() -> None:
        async with redis_server() as server, proxied(server) as (proxy, url):
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
            clients = await server.do("CLIENT", "LIST", "TYPE", "normal")
            assert len(clients if isinstance(clients, list) else clients.splitlines()) == 1, (
                "a connection is left"
            )

    asyncio.run(main())


def _async(call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def called() -> None:
        call()

    return called


def test_requests_that_wait_for_a_look_are_never_sent_once_closed() -> None:
    """The connection stands, but was not used for a while:
    whether its server answers is seen first.
    """

    async def main() -> None:
        async with redis_server() as server:
            source = open_url(server.url)
            await source.commit([Put("a/1", b"1")])
            await asyncio.sleep(3.2)
            await server.pause()
            puts = [asyncio.ensure_future(source.commit([Put("a/1", b"2")])) for _ in range(10)]
            await asyncio.sleep(0.2)
            await source.aclose()
            assert [type(put.exception()) for put in puts] == [WatchClosed] * 10
            server.resume()
            assert await server.do("GET", "a/1") == b"1"

    asyncio.run(main())


def test_a_source_of_two_is_closed_with_the_last_of_them() -> None:
    async def main() -> None:
        async with redis_server() as server:
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


def test_started_before_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with redis_server(start=False) as server:
            await started_late(server, Judged(server), caplog)

    asyncio.run(main())


def test_a_flush_of_ours_is_deletes_and_one_of_anothers_is_nothing() -> None:
    async def main() -> None:
        async with redis_server() as server:
            items = {f"a/{number:04}": b"%d" % number for number in range(3000)}
            async with (
                watched(f"{server.url}/3", "a/", **STEADY) as (sync, probe),
                server.client(3) as ours,
            ):
                await sync.ready(60)
                await ours.mset({**items, "b/1": b"1"})
                await eventually(lambda: probe.state == items)
                events = len(probe.events)
                await server.fill({"a/0001": b"another's"})
                await server.do("FLUSHDB")
                await server.do("FLUSHDB", "ASYNC", database=5)
                # seen behind what the flushes brought
                await sync.put("a/after", b"1", confirm=True)
                assert len(probe.events) == events + 1
                assert probe.changes[-1].changes[0].key == "a/after"
                await ours.flushdb()
                await eventually(lambda: not probe.state)
                gone = {
                    change.key: change
                    for event in probe.changes
                    for change in event.changes
                    if change.raw is None
                }
                assert set(gone) == {*items, "a/after"}
                for key, raw in items.items():
                    previous = gone[key].prev
                    assert gone[key].op is Op.DELETE
                    assert previous is not None
                    assert previous.raw == raw
                await ours.set("a/0001", b"again")
                await eventually(lambda: probe.state == {"a/0001": b"again"})
                assert len(probe.resyncs) == 1
                assert sync.status().sources[0].reconnects == 0

    asyncio.run(main())


def test_another_database_is_flushed_all_the_time() -> None:
    """Writes go on being seen, below a label too, and nobody is resynced."""

    async def main() -> None:
        async with redis_server() as server, server.client() as other, server.client(3) as ours:
            await ours.mset({f"/vnf-agent/x/a/{number:05}": b"1" for number in range(20_000)})
            async with watched(f"{server.url}/3", "a/", label="x", **STEADY) as (sync, probe):
                await sync.ready(60)
                ending = False

                async def flush() -> None:
                    while not ending:
                        await other.flushdb()
                        await asyncio.sleep(0.01)

                flushing = asyncio.ensure_future(flush())
                for number in range(5):
                    await sync.put("a/1", b"%d" % number, confirm=30)
                    assert probe.state["a/1"] == b"%d" % number
                ending = True
                await flushing
                assert len(probe.resyncs) == 1
                assert len(probe.changes) == 5

    asyncio.run(main())


def test_flushes_under_load() -> None:
    async def main() -> None:
        async with redis_server() as server, watched(server.url, **STEADY) as (sync, probe):
            await sync.ready(60)
            async with writing(server.url) as load:
                for number in range(10):
                    await load.more(50)
                    await server.do("FLUSHDB", database=number % 2)
                await load.more(50)
            await settled(probe, server)
            hold(probe, server.history(), await server.everything())
            assert len(probe.resyncs) == 1

    asyncio.run(main())


def test_a_flood_of_one_key_costs_no_memory() -> None:
    """Announcements of a key that is still to be read are taken together."""

    async def main() -> None:
        async with redis_server() as server:
            session = await open_url(server.url).open(["a/"])
            frames = aiter(session)
            await anext(frames)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            tracemalloc.start()
            try:
                for number in range(2000):  # few at once: the server announces those together
                    writer.write(b"".join(b"SET a/%d %d\r\n" % (each, number) for each in range(5)))
                    await reader.readexactly(5 * len("+OK\r\n"))
                assert tracemalloc.get_traced_memory()[0] < 300_000
                seen: dict[str, bytes | None] = {}
                while seen != {f"a/{each}": b"1999" for each in range(5)}:
                    async with asyncio.timeout(60):
                        for frame in await anext(frames):
                            assert isinstance(frame, Commit)
                            seen.update(frame.changes)
            finally:
                tracemalloc.stop()
                writer.close()
                await session.aclose()

    asyncio.run(main())


def test_a_swap_of_databases_shows_once_the_connections_are_ended() -> None:
    """As the docs say: the server announces nothing."""

    async def main() -> None:
        async with redis_server() as server, watched(server.url) as (sync, probe):
            await sync.ready(60)
            await sync.put("a/1", b"1", confirm=True)
            async with server.client(1) as other:
                await other.set("a/2", b"2")
            await server.do("SWAPDB", 0, 1)
            await server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await eventually(lambda: probe.state == {"a/2": b"2"})

    asyncio.run(main())


def test_an_answer_that_is_too_large_is_asked_for_in_smaller_parts() -> None:
    async def main() -> None:
        async with redis_server() as server:
            large = {f"large/{number:03}": bytes([number]) * (1 << 20) for number in range(70)}
            small = {f"a/{number:05}": b"%d" % number for number in range(20_000)}
            await server.fill(small)
            for key, value in large.items():
                await server.fill({key: value})
            # this process is busy with what the plain client reads, too
            async with watched(server.url, ping_timeout=10) as (sync, probe):
                await sync.ready(60)
                assert probe.state == small | large
                assert {kv.key async for kv in sync.list("")} == set(small | large)
                for number in range(30):
                    await sync.put(f"large/{number:03}", b"smaller")
                await sync.put("large/huge", b"x" * (64 << 20), confirm=True)
                await settled(probe, server)
                assert sync.status().sources[0].reconnects == 0

    asyncio.run(main())


def test_a_value_above_the_output_limit(caplog: pytest.LogCaptureFixture) -> None:
    """The server cuts off its readers: the start says so; later it is shown,
    and nobody is connected again.
    """
    limited = ["--client-output-buffer-limit", "normal 1mb 0 0"]

    async def main() -> None:
        async with redis_server(extra=limited) as server:
            await server.fill({f"a/{number:04}": b"x" * 100 for number in range(3000)})
            await server.fill({"b/large": b"x" * (2 << 20)})
            sync = DataSync(server.url, **QUICK)
            sync.watch("large", "b/")
            with pytest.raises(
                BadStore, match=r"'b/large' \(2097152 bytes\).*client-output-buffer-limit"
            ):
                await sync.start()

            async with watched(server.url, "a/", **STEADY) as (sync, probe):
                await sync.ready(60)
                await server.fill({"a/large": b"x" * (2 << 20)})
                await eventually(
                    lambda: "'a/large' (2097152 bytes)" in (sync.status().sources[0].error or "")
                )
                await asyncio.sleep(0.5)  # several tries
                assert state_of(sync) == "lost"
                assert sync.status().sources[0].reconnects == 0
                assert len(probe.state) == 3000, "nothing is emptied"
                with pytest.raises(Disconnected, match="client-output-buffer-limit"):
                    await sync.get("a/large")
                await server.do("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")
                await eventually(lambda: state_of(sync) == "following")
                await eventually(lambda: len(probe.state) == 3001)

    with caplog.at_level(logging.INFO, "datasync"):
        asyncio.run(main())
    assert caplog.text.count("connected again") == 1


def test_values_that_are_above_the_output_limit_together() -> None:
    """Each of them can be read: less is asked for at once, in this session and the later ones."""
    limited = ["--client-output-buffer-limit", "normal 1mb 0 0"]

    async def main() -> None:
        async with redis_server(extra=limited) as server:
            values = {f"a/{number:03}": b"x" * 50_000 for number in range(200)}
            for key, value in values.items():
                await server.fill({key: value})
            async with watched(server.url) as (sync, probe):
                await eventually(lambda: probe.state == values)
                before = sync.status().sources[0].reconnects
                assert before <= 8
                await server.do("CLIENT", "KILL", "TYPE", "normal")
                await eventually(lambda: len(probe.resyncs) == 2)
                assert sync.status().sources[0].reconnects == before + 1
                assert {kv.key async for kv in sync.list("")} == set(values)

    asyncio.run(main())


def test_caught_up_holds_what_others_were_told_is_done() -> None:
    async def main() -> None:
        async with (
            redis_server() as server,
            proxied(server) as (proxy, url),
            server.client() as other,
        ):
            proxy.latency = 0.02
            await catches_up(url, other.set)

    asyncio.run(main())


@pytest.mark.long
@pytest.mark.once
def test_writes_that_are_refused_or_unknown_leave_nothing() -> None:
    async def main() -> None:
        async with (
            redis_server() as server,
            proxied(server) as (proxy, url),
            DataSync(url, **QUICK) as sync,
        ):
            sync.watch("beside", "b/")  # somebody has to be there to be asked

            async def refused(number: int) -> None:
                await sync.put(f"a/{number}", b"x" * 10_000, confirm=True)

            async def unknown(number: int) -> None:
                if number % 100 == 99:  # most of them are on their way then
                    asyncio.get_running_loop().call_later(0.03, proxy.cut)
                await sync.put(f"a/{number}", b"x" * 10_000, confirm=True)

            await server.do("CONFIG", "SET", "maxmemory", "1")
            await writes_leave_nothing(refused, BadStore)
            await server.do("CONFIG", "SET", "maxmemory", "0")
            await server.do("CLIENT", "PAUSE", 600_000, "WRITE")
            await writes_leave_nothing(unknown, OutcomeUnknown, Disconnected, collected=True)

    asyncio.run(main())
