"""The asyncio part of the engine around the core: effects, time, waiting, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context
from typing import Any

import pytest

from datasync.errors import HistoryChanged, WatchClosed
from datasync.events import Event, ResyncEvent
from datasync.options import Options
from datasync.syncbase.engine import Engine
from datasync.syncbase.runners import AsyncRunner
from datasync.syncbase.subscriber import Spec, Subscriber
from datasync.testing import FaultySource
from datasync.testing.contract.waiting import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]


@contextlib.asynccontextmanager
async def running(
    source: FaultySource,
    handler: Callable[[Event[Any]], Coroutine[Any, Any, None]],
    ack_timeout: float = 60.0,
) -> AsyncIterator[tuple[Engine, Subscriber]]:
    """An engine over one source, with one watch below a/."""
    engine = Engine([(source, source.name, False)], Options(), random.Random(1), time.time)
    sub = Subscriber(
        Spec(
            "watch", lambda key, raw: raw, backlog=9, ack_timeout=ack_timeout, resync_timeout=60.0
        ),
        ["a/"],
    )
    sub.runner = AsyncRunner(sub, engine, handler)
    engine.add(sub)
    await engine.start()
    try:
        yield engine, sub
    finally:
        await engine.aclose()
        await engine.handlers_ended()


def test_what_a_handler_brings_about_is_carried_out_behind_it(run: Run) -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"0"}, push=True)
        seen: list[str] = []

        async def handler(event: Event[Any]) -> None:
            seen.append(f"begins {event.revision}")
            if event.revision < 3:
                source.write({"a/1": str(event.revision).encode()})
            seen.append(f"ends {event.revision}")

        async with running(source, handler):
            await eventually(lambda: len(seen) == 6, what="three events")
        assert seen == ["begins 1", "ends 1", "begins 2", "ends 2", "begins 3", "ends 3"]

    run(main())


def test_an_unexpected_error_in_handing_over_is_said_and_the_event_comes_again(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        seen: list[int] = []

        async def handler(event: Event[Any]) -> None:
            seen.append(event.attempt)

        deliver = AsyncRunner.deliver

        def broken(self: AsyncRunner, event: Event[Any], context: Context) -> None:
            if event.attempt == 1:
                raise RuntimeError("of the engine")
            deliver(self, event, context)

        monkeypatch.setattr(AsyncRunner, "deliver", broken)
        async with running(FaultySource(), handler):
            await eventually(lambda: seen == [2], what="the second delivery")

    with caplog.at_level(logging.ERROR, "datasync"):
        run(main())
    assert "unexpected error in handing over an event" in caplog.text


def test_the_timer_sees_to_what_is_overdue(run: Run) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def handler(event: Event[Any]) -> None:
            if event.revision:
                await go_on.wait()

        source = FaultySource()
        async with running(source, handler, ack_timeout=0.05) as (_, sub):
            await eventually(lambda: sub.follows, what="it follows")
            source.write({"a/1": b"1"})
            await eventually(lambda: sub.is_overdue, what="it is overdue")
            go_on.set()
            await eventually(lambda: not sub.is_overdue, what="it goes on")

    run(main())


def test_whoever_waits_hears_of_a_new_history(run: Run) -> None:
    async def main() -> None:
        async def handler(event: Event[Any]) -> None: ...

        source = FaultySource({"a/1": b"1"})
        async with running(source, handler) as (engine, sub):
            await eventually(lambda: sub.follows, what="it follows")
            waiting = asyncio.ensure_future(engine.wait_for_revision(engine.layers[0], 100))
            await asyncio.sleep(0)
            source.new_history({"a/1": b"other"})
            with pytest.raises(HistoryChanged, match="new history"):
                await waiting

    run(main())


def test_closing_ends_all_waiting(run: Run) -> None:
    async def main() -> None:
        async def handler(event: Event[Any]) -> None: ...

        async with running(FaultySource(), handler) as (engine, sub):
            verdict = asyncio.get_running_loop().create_future()

            async def wait_for_verdict() -> None:
                with engine.awaiting(verdict):
                    await verdict

            waiting = [
                asyncio.ensure_future(engine.wait_until(lambda: False)),
                asyncio.ensure_future(wait_for_verdict()),
            ]
            await asyncio.sleep(0)
            await engine.aclose()
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [WatchClosed, WatchClosed]
        assert sub.closed

    run(main())


def test_closing_waits_only_so_long_for_a_handler(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def handler(event: Event[Any]) -> None:
            began.set()
            while not go_on.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await go_on.wait()

        async with running(FaultySource(), handler) as (engine, _):
            await began.wait()
            engine._options = Options(close_timeout=0.05)
            await engine.aclose()
            await engine.handlers_ended()
            go_on.set()

    with caplog.at_level(logging.WARNING, "datasync"):
        run(main())
    assert caplog.messages == ["closed, though the handler of 'watch' does not end"]


def test_a_watch_may_be_closed_twice(run: Run) -> None:
    async def main() -> None:
        async def handler(event: Event[Any]) -> None: ...

        async with running(FaultySource(), handler) as (engine, sub):
            engine.close(sub)
            engine.close(sub)
            assert engine.status().watches == []

    run(main())


def test_what_is_taken_from_a_watch_before_the_start_is_never_asked_for(run: Run) -> None:
    async def main() -> None:
        source, seen = FaultySource({"a/1": b"1", "b/1": b"1"}), list[list[str]]()

        async def handler(event: Event[Any]) -> None:
            assert isinstance(event, ResyncEvent)
            seen.append([change.key for change in event.changes])

        engine = Engine([(source, source.name, False)], Options())
        spec = Spec("watch", lambda key, raw: raw, 9, ack_timeout=60.0, resync_timeout=60.0)
        sub = Subscriber(spec, ["a/", "b/"])
        sub.runner = AsyncRunner(sub, engine, handler)
        engine.add(sub)
        engine.narrow(sub, "b/")
        await engine.start()
        await eventually(lambda: seen == [["a/1"]], what="the first RESYNC")
        await engine.aclose()

    run(main())


def test_a_verdict_that_has_come_outlives_the_end(run: Run) -> None:
    async def main() -> None:
        async def handler(event: Event[Any]) -> None: ...

        async with running(FaultySource(), handler) as (engine, _):
            verdict = asyncio.get_running_loop().create_future()
            with engine.awaiting(verdict):
                verdict.set_result("accepted")
                await engine.aclose()
            assert await verdict == "accepted"

    run(main())


def test_what_two_threads_release_as_it_closes_does_no_more(run: Run) -> None:
    async def main() -> None:
        async def handler(event: Event[Any]) -> None: ...

        async with running(FaultySource(), handler) as (engine, _):
            for scope in ("b/", "c/"):
                engine.hold(scope)
                engine._narrowing = None  # as the one sees it before the other has set it
                engine.release(scope)
        assert list(engine._released) == ["b/", "c/"]

    run(main())
