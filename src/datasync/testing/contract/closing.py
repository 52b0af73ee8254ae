"""G12: one loop, one process, and an end that leaves nothing behind. Every test of the suite looks
for left tasks and threads; those here make it hard."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from datasync import DataSync, DataSyncError, Forked, WatchClosed, WatchState, WrongLoop
from datasync.source import Source
from datasync.testing.contract.harness import Store, fill
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually, nothing_but, ours, without_collector

_FORK = """
    import asyncio, os, sys, warnings
    import datasync
    # 3.12+ warns of a fork beside threads: that is the point
    warnings.simplefilter("ignore", DeprecationWarning)

    async def main():
        sync = datasync.DataSync(sys.argv[1])
        async with sync:
            pid = os.fork()
            if pid:
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            result = 9
            try:
                sync.status()
                await sync.get("a/1")
            except datasync.Forked:
                result = 3
            finally:
                os._exit(result)

    asyncio.run(main())
"""


class Closing(Base):
    """Clean ends (G12)."""

    @scenario()
    async def test_g12_close_ends_every_waiter(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open(ack_timeout=60, resync_timeout=60, close_timeout=0.3)
            stream = sync.watch("stream", "b/")
            probe = store.probe(sync, "probe", "a/")
            store.probe(sync, "behind", "a/")
            view = sync.view("a/")
            probe.gate.clear()
            await sync.start()

            async def iterate() -> None:
                async for _ in stream:
                    pass

            waiters: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(work) for work in (iterate(), sync.ready())
            ]
            if store.capabilities.revisions:
                waiters.append(asyncio.ensure_future(view.at_least(10**15)))
            await eventually(lambda: probe.events)
            if store.capabilities.writable:
                waiters.append(asyncio.ensure_future(sync.put("a/1", b"2", confirm=True)))
                await eventually(lambda: _written(sync, view, b"2"))
                # the write has its answer by then, which the change may overtake
                await sync.get("a/1")
            await asyncio.wait_for(sync.aclose(), 60)
            results = await asyncio.wait_for(asyncio.gather(*waiters, return_exceptions=True), 60)
            assert [type(result) for result in results] == [WatchClosed] * len(waiters)
            assert stream.state is WatchState.CLOSED

    @scenario()
    async def test_g12_closing_a_watch_ends_its_reader(self, store: Store) -> None:
        async with store.open() as sync:
            stream = sync.watch("stream", "a/")
            events = aiter(stream)
            await anext(events)
            reader = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            stream.close()
            with pytest.raises((WatchClosed, StopAsyncIteration)):
                await asyncio.wait_for(reader, 60)

    @scenario()
    async def test_g12_close_is_bounded_though_a_handler_hangs(self, store: Store) -> None:
        handling, cancelled = asyncio.Event(), asyncio.Event()
        release = threading.Event()
        sync = store.open(close_timeout=0.3)

        @sync.watcher("a/", name="hangs")
        async def hangs(event: Any) -> None:
            handling.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        @sync.watcher("a/", name="blocks", resync_timeout=0.01)
        def blocks(event: Any) -> None:
            release.wait(20)

        await sync.start()
        await eventually(handling.is_set)
        assert sync.status().watches[0].state == "resyncing"
        await asyncio.wait_for(sync.aclose(), 60)
        assert cancelled.is_set()
        release.set()

    @scenario()
    async def test_g12_close_may_be_repeated_and_use_afterwards_says_so(self, store: Store) -> None:
        sync = store.open()
        store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
        await sync.aclose()
        await sync.aclose()
        with pytest.raises(WatchClosed):
            await sync.get("a/1")
        with pytest.raises(WatchClosed):
            await sync.ready(1)
        assert sync.status().watches is not None

    @scenario()
    async def test_g12_nothing_runs_on_when_close_has_returned(self, store: Store) -> None:
        for turns in range(15):
            before = asyncio.all_tasks()
            sync = store.open()
            async with sync:
                await sync.ready(60)
                # the session is being replaced by one that covers the new watch
                sync.watch("stream", "a/")
                for _ in range(turns):
                    await asyncio.sleep(0)
            # the engine's at once; those of the store around it, such as a
            # proxy, as soon as they notice
            left = [task for task in asyncio.all_tasks() - before if _is_of_the_engine(task)]
            assert not left, f"closed {turns} turns after a watch was added"
            await eventually(partial(_none_but, before))

    @scenario()
    async def test_g12_close_before_start_and_without_a_watch(self, store: Store) -> None:
        await store.open().aclose()
        async with store.open() as sync:
            await sync.ready(60)

    @scenario()
    async def test_g12_close_while_it_starts(self, store: Store) -> None:
        """Who starts it was not cancelled, and nothing runs on."""
        for turns in range(8):
            before = asyncio.all_tasks()
            sync = store.open()
            starting = asyncio.ensure_future(sync.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.wait_for(sync.aclose(), 60)
            await asyncio.wait((starting,), timeout=60)
            assert not starting.cancelled(), f"closed after {turns} turns"
            assert isinstance(starting.exception(), WatchClosed | None), f"after {turns} turns"
            await eventually(partial(_none_but, before))

    @scenario()
    async def test_g12_an_error_in_the_block_comes_out_unchanged(self, store: Store) -> None:
        async def fail() -> None:
            async with store.open() as sync:
                store.probe(sync, "probe", "a/")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()

    @scenario()
    async def test_g12_cancelled_at_any_await(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, {f"a/{i}": b"%d" % i for i in range(5)}, store.capabilities)

        with without_collector():
            for turns in (*range(25), 30, 40, 60, 100, 200):
                if await _cancelled(
                    partial(_session, store), _turns(turns), f"after {turns} turns"
                ):
                    break

            # those turns may all lie before the first answer of the source
            began = time.monotonic()
            await _session(store)
            whole = time.monotonic() - began
            for percent in range(4, 100, 8):
                pause = asyncio.sleep(whole * percent / 100)
                await _cancelled(
                    partial(_session, store), pause, f"after {percent} % of {whole:.3f} s"
                )

        # the store is none the worse for it
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            assert len(probe.state) >= 5

    @scenario()
    async def test_g12_a_session_whose_end_is_cancelled(self, store: Store) -> None:
        source = store.source()
        before = asyncio.all_tasks()
        with without_collector():
            for turns in range(1, 30):
                session = await source.open([f"{store.prefix}a/"])
                if await _cancelled(session.aclose, _turns(turns), f"after {turns} turns"):
                    break
            await source.aclose()
            await eventually(partial(_none_but, before), what="the connections are closed")

    @scenario()
    async def test_g12_a_list_that_is_left_in_the_middle_keeps_nothing_open(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            await fill(writer, {f"a/{i:05}": b"1" for i in range(2_500)}, store.capabilities)
        before = asyncio.all_tasks()
        async with store.open() as sync:
            pages = sync.list("a/")
            assert (await anext(pages)).key == "a/00000"
        await eventually(partial(_none_but, before), what="the connections are closed")
        del pages

    @scenario()
    async def test_g9_what_is_closed_is_gone_without_the_collector(self, store: Store) -> None:
        with without_collector():
            await _session(store)  # caches are full by then
            before = ours()
            await _session(store)
            await eventually(lambda: nothing_but(before), what="a closed DataSync is gone")

    @scenario("lose", "restore")
    async def test_g9_a_lost_session_is_gone_without_the_collector(self, store: Store) -> None:
        assert store.lose is not None and store.restore is not None
        async with store.open() as sync:
            sync.watcher("a/", name="all")(ignore)
            with without_collector():
                for number in range(4):
                    # the session is replaced by one that covers the new watch,
                    # then lost, then replaced again
                    sync.watcher(f"{number}/", name="new")(ignore)
                    await sync.ready(60)
                    await store.lose()
                    await eventually(lambda: sync.status().sources[0].state == "lost")
                    await store.restore()
                    await eventually(lambda: sync.status().sources[0].state == "following")
                    await sync.ready(60)
                    sync.watches["new"].close()
                    if not number:
                        before = ours()
                # what the session that is followed holds just now may differ by one
                await eventually(
                    lambda: nothing_but(before, more=1), what="the lost sessions are gone"
                )

    @scenario()
    async def test_g12_a_cancelled_reader_loses_nothing(self, store: Store) -> None:
        async with store.other() as writer, store.open() as sync:
            stream = sync.watch("stream", "a/")
            seen: dict[str, bytes | None] = {}
            for number in range(10):
                reader = asyncio.ensure_future(anext(aiter(stream)))
                if number % 2:
                    await writer.put(f"a/{number}", b"%d" % number)
                for _ in range(number):
                    await asyncio.sleep(0)
                reader.cancel()
                await asyncio.wait([reader])
            async for event in stream:
                seen.update((change.key, change.raw) for change in event.changes)
                event.done()
                if len(seen) == 5:
                    break
            assert seen == {f"a/{number}": b"%d" % number for number in (1, 3, 5, 7, 9)}

    @scenario()
    async def test_g12_belongs_to_one_event_loop(self, store: Store) -> None:
        async with store.open() as sync:
            caught: list[BaseException] = []

            def elsewhere(use: Callable[[], Awaitable[object]]) -> None:
                async def main() -> None:
                    try:
                        await use()
                    except BaseException as error:
                        caught.append(error)

                asyncio.run(main())

            stream = sync.watch("stream", "a/")
            uses: list[Callable[[], Awaitable[object]]] = [
                lambda: sync.get("a/1"),
                lambda: sync.put("a/1", b"1"),
                lambda: sync.ready(1),
                lambda: anext(aiter(stream)),
                lambda: sync.aclose(),
            ]
            for use in uses:
                await asyncio.to_thread(elsewhere, use)
            assert [type(error) for error in caught] == [WrongLoop] * len(uses)
            assert await sync.get("a/1") is None

    @scenario()
    async def test_g12_belongs_to_one_process(self, store: Store) -> None:
        # a Source object cannot be handed to another program; what is checked is
        # not the source, so any will do
        url = "memory://" if isinstance(store.url, Source) else store.url
        assert issubclass(Forked, DataSyncError)
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", textwrap.dedent(_FORK), url],
            capture_output=True,
            text=True,
            timeout=50,
            # third parties' transports are found there as well
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert done.returncode == 3, done.stderr


async def ignore(_: Any) -> None:
    """A handler."""


async def _session(store: Store) -> None:
    sync = store.open(close_timeout=0.5)

    @sync.watcher("a/", name="handler")
    async def handler(event: Any) -> None:
        await asyncio.sleep(0)

    stream = sync.watch("stream", "a/")
    async with sync:
        await sync.get("a/1")
        if store.capabilities.writable:
            await sync.put("a/x", b"x")
        async for event in stream:
            event.done()
            break
        await sync.ready(60)


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def _cancelled(
    work: Callable[[], Coroutine[Any, Any, None]], pause: Awaitable[None], when: str
) -> bool:
    """Cancel `work` after `pause`, which `when` describes. True if it had ended before."""
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(work())
    await pause
    finished = task.done()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=60)
    assert done, f"cancelled {when}, it did not end"
    assert finished or task.cancelled(), f"cancelled {when}, it ended with {task.exception()!r}"
    if finished:
        task.result()

    def nothing_left() -> bool:
        left = asyncio.all_tasks() - before
        assert not left
        return True

    await eventually(nothing_left, what=f"cancelled {when}, no task is left")
    return finished


def _written(sync: DataSync, view: Any, value: bytes) -> bool:
    return bool(view.get("a/1") == value)


def _none_but(known: set[asyncio.Task[Any]]) -> bool:
    return asyncio.all_tasks() <= known


def _is_of_the_engine(task: asyncio.Task[Any]) -> bool:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", "").startswith("Feed.") or task.get_name().startswith(
        "datasync "
    )
