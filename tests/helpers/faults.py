"""Faults that every server goes through alike: each takes a running server,
and what its kind has of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

import pytest

from datasync import DataSync, Disconnected, OutcomeUnknown, WatchClosed, open_url
from datasync.serving.log import Entry
from datasync.source import Commit, Delete, Put, Session, SnapshotChunk
from datasync.testing.chaos.proxy import TcpProxy, proxy_to
from datasync.testing.contract import eventually
from datasync.testing.contract.waiting import without_collector
from tests.helpers.load import Watched, state_of, writing, written
from tests.helpers.servers import connections_to

__all__ = [
    "Kind",
    "Server",
    "catches_up",
    "closed_beside_requests",
    "closed_wherever_it_is_cancelled",
    "cut_write",
    "half_open",
    "lose",
    "once_there",
    "proxied",
    "started_late",
    "stopped",
    "stopped_write",
    "writes_leave_nothing",
]


class Server(Protocol):
    """What is needed of a server."""

    port: int

    @property
    def url(self) -> str: ...
    async def start(self) -> None: ...
    async def kill(self) -> None: ...
    async def pause(self) -> None: ...
    def resume(self) -> None: ...


class Kind(Protocol):
    """What servers of a kind have of their own."""

    def watched(self, url: str) -> contextlib.AbstractAsyncContextManager[tuple[DataSync, Watched]]:
        """A watch of everything at `url`, recorded."""

    async def judge(self, probe: Watched) -> None:
        """Wait until the watch has seen all that the server has,
        and hold its trace against the server's own log.
        """


@contextlib.asynccontextmanager
async def proxied(server: Server) -> AsyncIterator[tuple[TcpProxy, str]]:
    """A proxy before the server, and the URL that leads through it."""
    async with proxy_to(server.port) as proxy:
        yield proxy, server.url.replace(str(server.port), str(proxy.port))


async def lose(proxy: TcpProxy, sync: DataSync) -> None:
    """Cut the way to the server, and wait until that is noticed."""
    await proxy.refuse()
    await eventually(lambda: state_of(sync) == "lost")


async def soon_lost(sync: DataSync) -> None:
    """Wait until a silent server is found out.

    Nothing but a ping can do that: the system waits for hours.
    """
    await eventually(lambda: state_of(sync) == "lost")


async def stopped(server: Server, kind: Kind) -> None:
    """The server is stopped for longer than the pings."""
    async with kind.watched(server.url) as (sync, probe):
        await sync.ready(60)
        await sync.put("a/1", b"1", confirm=True)
        await server.pause()
        await soon_lost(sync)
        assert probe.state == {"a/1": b"1"}
        assert "ping" in (sync.status().sources[0].error or "")
        server.resume()
        await eventually(lambda: state_of(sync) == "following")
        await written(sync, "a/1", b"2")
        await kind.judge(probe)


async def half_open(server: Server, kind: Kind) -> None:
    """The connection stands, but nothing comes through any more, while others write."""
    async with proxied(server) as (proxy, url), kind.watched(url) as (sync, probe):
        await sync.ready(60)
        async with writing(server.url) as load:
            for _ in range(3):
                await load.more(50)
                proxy.pause()
                await soon_lost(sync)
                proxy.resume()
                await eventually(lambda: state_of(sync) == "following")
        await kind.judge(probe)


async def started_late(server: Server, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """The server is started after the watch, and once more: the log has one line for each change of
    state, beside those that say that the reason has changed, as it may while a server ends or
    begins.
    """
    with caplog.at_level(logging.INFO, "datasync.feed"):
        async with kind.watched(server.url) as (sync, probe):
            assert not probe.events
            assert state_of(sync) == "lost"
            assert sync.status().sources[0].error
            await asyncio.sleep(0.5)  # several tries
            await server.start()
            await sync.ready(60)
            await sync.put("a/1", b"1", confirm=True)
            assert probe.state == {"a/1": b"1"}
            await server.kill()
            await eventually(lambda: state_of(sync) == "lost")
            await server.start()
            await eventually(lambda: state_of(sync) == "following")
    lines = [record.getMessage() for record in caplog.records if record.name == "datasync.feed"]
    said = [line for line in lines if ": by now: " not in line]
    assert len(said) == 4, lines
    for line, word in zip(
        said, ("cannot be reached", "connected", "lost", "connected"), strict=True
    ):
        assert word in line
        assert "\n" not in line


async def stopped_write(server: Server) -> None:
    """A write to a stopped server is unknown, one to none surely not done."""
    async with DataSync(f"{server.url}?timeout=0.5") as sync:
        await sync.put("a/1", b"1")
        await server.pause()
        with pytest.raises(OutcomeUnknown, match="read the key"):
            await sync.put("a/1", b"2")
        # the connection was given up; nothing can be sent on a new one
        with pytest.raises(Disconnected):
            await sync.put("a/1", b"3")
        server.resume()

        async def there() -> None:
            found = await sync.get("a/1")
            assert found is not None
            assert found.raw in (b"1", b"2")

        await once_there(there)
        await server.kill()
        await surely_not_done(sync)


async def cut_write(server: Server) -> None:
    """A write whose answer is cut off is unknown, one that cannot be sent surely not done."""
    async with proxied(server) as (proxy, url), DataSync(f"{url}?timeout=3") as sync:
        await sync.put("a/1", b"1")
        proxy.pause()
        puts = [asyncio.ensure_future(sync.put(f"a/{number}", b"2")) for number in range(3)]
        await asyncio.sleep(0.05)  # they are on their way
        proxy.cut()
        for put in puts:
            with pytest.raises(OutcomeUnknown, match="read the key"):
                await put
        proxy.resume()
        await once_there(lambda: sync.put("a/1", b"3"))  # over a new connection
        await proxy.refuse()
        await surely_not_done(sync)


async def surely_not_done(sync: DataSync) -> None:
    """A write to a server that is gone says so."""
    # the end of the connection may still be on its way
    with pytest.raises((Disconnected, OutcomeUnknown)):
        await sync.put("a/1", b"4")
    with pytest.raises(Disconnected):
        await sync.put("a/1", b"5")


async def once_there(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat what surely did not happen."""
    for _ in range(1000):
        try:
            await call()
        except Disconnected:
            await asyncio.sleep(0.01)
        else:
            return
    raise AssertionError("it does not come back")


async def closed_beside_requests(
    url: str,
    pause: Callable[[], Awaitable[object]],
    resume: Callable[[], Awaitable[object]],
    everything: Callable[[], Awaitable[Mapping[str, bytes]]],
    *,
    connected: bool,
) -> None:
    """A source is closed while its server hangs: who waits hears of it at once,
    and what was not sent never is.
    """
    source = open_url(url)
    if connected:
        await source.commit([Put("a/0", b"0")])
    await pause()
    before = asyncio.all_tasks()
    calls: dict[str, Awaitable[Any]] = {
        f"a/{n}": source.commit([Put(f"a/{n}", b"1")]) for n in range(1, 20)
    }
    calls["{t}/1"] = source.commit([Put("{t}/1", b"1"), Put("{t}/2", b"1")])
    calls["d/"] = source.commit([Delete("d/", prefix=True)])
    calls["get"], calls["page"] = source.get("a/0"), source.page("", None, 10)
    waiting = {key: asyncio.ensure_future(call) for key, call in calls.items()}
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in waiting.values()), "it does not hang"

    await source.aclose()
    await asyncio.wait(waiting.values(), timeout=60)
    # those whose time was over would say Disconnected
    outcomes = {key: type(task.exception()) for key, task in waiting.items()}
    assert {outcomes["get"], outcomes["page"]} == {WatchClosed}
    assert set(outcomes.values()) <= ({WatchClosed, OutcomeUnknown} if connected else {WatchClosed})
    assert not [task for task in asyncio.all_tasks() - before if "TcpProxy" not in repr(task)], (
        "of the source"
    )

    await resume()
    async with DataSync(url) as sync:  # the server has come to what it was sent before
        await once_there(lambda: sync.put("a/last", b"1"))
    there = await everything()
    assert not [key for key, outcome in outcomes.items() if outcome is WatchClosed and key in there]


async def closed_wherever_it_is_cancelled(url: str, *ports: int) -> None:
    """G12: the end of a session, and of its source, is cancelled at each of their awaits:
    with requests of each kind under way, which end all the same.

    No task is left, and no connection to these ports.
    """
    loop, before = asyncio.get_running_loop(), asyncio.all_tasks()
    unheard: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unheard.append(context))

    async def take(session: Session) -> None:
        async for _ in session:
            pass

    async def cancelled(turns: int) -> bool:
        """Whether anything was left to be cancelled after so many turns of the loop."""
        source = open_url(url)
        session = await source.open(["a/"])
        calls: list[Coroutine[Any, Any, object]] = [
            take(session),
            session.ping(),
            source.get("a/1"),
            source.page("a/", None, 10),
        ]
        calls += [source.commit([Put(f"a/{number}", b"1")]) for number in range(10)]
        calls += [source.commit([Put("a/1", b"2")], reply=True)] if source.forwards_verdicts else []
        under_way = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.001 * turns)  # from nothing sent yet to all answered

        late = False
        for close in (session.aclose, source.aclose):
            closing = asyncio.ensure_future(close())
            for _ in range(turns):
                await asyncio.sleep(0)
            late |= closing.cancel()
            await asyncio.wait((closing,))
        _, left = await asyncio.wait(under_way, timeout=60)
        assert not left, left
        for task in under_way:
            task.exception()
        return late

    with without_collector():
        for turns in itertools.count(1):
            if not await cancelled(turns):
                break
        await eventually(lambda: asyncio.all_tasks() <= before, what="no task is left")
        for port in ports:

            def disconnected(port: int = port) -> bool:
                return not connections_to(port)

            await eventually(disconnected, what="no connection is left")
    gc.collect()  # an error that nobody heard is told by then
    assert turns > 1, "there was nothing to be cancelled"
    assert not unheard, unheard


async def catches_up(
    url: str, write: Callable[[str, bytes], Awaitable[object]], rounds: int = 20
) -> None:
    """What another client was told is done has been handed over once `caught_up` returns,
    over however slow a line.
    """
    source = open_url(url)
    await write("a/first", b"1")
    session = await source.open(["a/"])
    state: dict[str, bytes | None] = {}

    async def take() -> None:
        async for frames in session:
            for frame in frames:
                if isinstance(frame, SnapshotChunk):
                    state.update((key, raw) for key, raw, _ in frame.items)
                elif isinstance(frame, Commit):
                    state.update(frame.changes)

    taking = asyncio.ensure_future(take())
    try:
        await session.caught_up()
        assert state == {"a/first": b"1"}
        for number in range(rounds):
            await write(f"a/{number}", b"%d" % number)
            await session.caught_up()
            assert state[f"a/{number}"] == b"%d" % number, "handed over too late"
    finally:
        taking.cancel()
        await asyncio.wait((taking,))
        await session.aclose()
        await source.aclose()


_OF_A_LOG = {kind.__qualname__ for kind in (tuple, list, set, dict, Entry)}


async def writes_leave_nothing(
    write: Callable[[int], Awaitable[object]],
    *expected: type[Exception],
    logged: bool = False,
    collected: bool = False,
) -> None:
    """Ten thousand writes that fail, a hundred at a time: neither they nor their values are kept.

    logged: they were written all the same; the log that a store keeps of the last ones does not
        count.
    collected: nor does the memory that the next garbage collection frees, for one connection in a
    hundred writes is lost.
    """

    async def hundred(start: int) -> None:
        outcomes = await asyncio.gather(
            *(write(start + n) for n in range(100)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} <= set(expected)

    for start in range(0, 500, 100):
        await hundred(start)
    with without_collector():
        objects, blocks = Counter(map(type, gc.get_objects())), sys.getallocatedblocks()
        for start in range(500, 10_500, 100):
            await hundred(start)
        objects = Counter(map(type, gc.get_objects())) - objects
        if collected:
            gc.collect()
        more = sys.getallocatedblocks() - blocks
    # libraries have caches of a thousand entries
    left = {kind.__qualname__: count for kind, count in objects.items() if count >= 2_500}
    if logged:
        left = {name: count for name, count in left.items() if name not in _OF_A_LOG}
    assert not left, f"left behind: {left}"
    assert logged or more < 9_000, f"{more} blocks of memory"  # not one for each write
