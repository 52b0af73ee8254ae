"""How an event reaches a handler, a thread or a stream: what the engine hears of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any

import pytest

from datasync.errors import UsageError, WatchClosed
from datasync.events import ChangeEvent, Event
from datasync.outcome import KeyOutcome
from datasync.syncbase.mailbox import Batch
from datasync.syncbase.outstanding import Outstanding, Stage
from datasync.syncbase.runners import AsyncRunner, Runner, StreamRunner, ThreadRunner
from datasync.syncbase.subscriber import Progress, Spec, Subscriber
from datasync.testing.contract.waiting import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]


class Desk:
    """Where the runners bring what they hear."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def report(self, event: Event[Any], error: BaseException | None) -> None:
        self.heard.append(f"report {error!r}")
        event._ticket.outstanding = None

    def report_keys(self, sub: Subscriber, said: Mapping[str, KeyOutcome]) -> None:
        self.heard.append(f"report of {list(said)}")

    def finished(self, event: Event[Any], error: BaseException | None) -> None:
        self.heard.append(f"finished {error!r}")
        event._ticket.outstanding = None

    def ask(self, sub: Subscriber) -> None:
        self.heard.append("ask")

    def unask(self, sub: Subscriber, event: Event[Any] | None) -> None:
        self.heard.append("unask" if event is None else "unask with an event")


def watch() -> Subscriber:
    return Subscriber(
        Spec("watch", lambda key, raw: raw, backlog=1, ack_timeout=1.0, resync_timeout=1.0), ["a/"]
    )


def deliver(runner: Runner, sub: Subscriber) -> Event[Any]:
    event: Event[Any] = ChangeEvent(revision=1, changes=[], _report=runner.report, _ticket=sub)
    sub.outstanding = Outstanding(event, Batch([], 1, 1, 1, ""), Stage.OUT)
    runner.deliver(event, runner.context)
    return event


def test_a_handler_that_returns_has_accepted(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()

        async def handler(event: Event[Any]) -> None: ...

        runner = AsyncRunner(sub, desk, handler)
        runner.start()
        deliver(runner, sub)
        await eventually(lambda: desk.heard == ["ask", "finished None"], what="it finished")

    run(main())


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), asyncio.CancelledError(), GeneratorExit()], ids=repr
)
def test_whatever_a_handler_raises_is_its_outcome(run: Run, error: BaseException) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()

        async def handler(event: Event[Any]) -> None:
            raise error

        runner = AsyncRunner(sub, desk, handler)
        runner.start()
        deliver(runner, sub)
        await eventually(lambda: len(desk.heard) == 2, what="it reported")
        assert desk.heard[1].startswith(f"finished {type(error).__name__}(")

    run(main())


def test_a_handler_that_defers_reports_by_itself(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()

        async def handler(event: Event[Any]) -> None:
            event.defer()

        runner = AsyncRunner(sub, desk, handler)
        runner.start()
        event = deliver(runner, sub)
        await eventually(lambda: desk.heard == ["ask", "finished None"], what="it is idle")
        assert event._deferred
        event.done()
        assert desk.heard == ["ask", "finished None", "report None"]

    run(main())


def test_a_handler_that_reported_before_it_returns_asks_for_more_then(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()
        go_on = asyncio.Event()

        async def handler(event: Event[Any]) -> None:
            event.done()
            await go_on.wait()

        runner = AsyncRunner(sub, desk, handler)
        runner.start()
        deliver(runner, sub)
        await eventually(lambda: "report None" in desk.heard, what="it reported")
        assert desk.heard == ["ask", "report None"]
        go_on.set()
        await eventually(
            lambda: desk.heard == ["ask", "report None", "finished None"], what="it is idle"
        )

    run(main())


def test_a_plain_function_runs_in_a_thread_of_its_own(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()
        threads: list[threading.Thread] = []
        runner = ThreadRunner(sub, desk, lambda event: threads.append(threading.current_thread()))
        runner.start()
        deliver(runner, sub)
        await eventually(lambda: desk.heard == ["ask", "finished None"], what="it finished")
        assert threads[0].name == "datasync watch"
        ended = runner.stop()
        assert ended is not None
        await ended
        await asyncio.to_thread(threads[0].join)

    run(main())


def test_a_plain_function_that_returns_a_coroutine_is_a_mistake(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()

        async def work() -> None: ...

        runner = ThreadRunner(sub, desk, lambda event: work())  # type: ignore[arg-type]
        runner.start()
        deliver(runner, sub)
        await eventually(lambda: len(desk.heard) == 2, what="it reported")
        assert desk.heard[1].startswith(f"finished {UsageError.__name__}(")
        ended = runner.stop()
        assert ended is not None
        await ended

    run(main())


def test_asking_for_the_next_event_accepts_the_one_before(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()
        stream = StreamRunner(sub, desk)
        stream.start()
        number = stream.iterate()
        first = deliver(stream, sub)
        assert await stream.next(number) is first
        waiting = asyncio.ensure_future(stream.next(number))
        await eventually(lambda: desk.heard == ["ask", "finished None"], what="it has accepted")
        second = deliver(stream, sub)
        assert await waiting is second

    run(main())


def test_a_new_loop_fails_the_event_that_the_last_one_left_open(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()
        stream = StreamRunner(sub, desk)
        stream.start()
        number = stream.iterate()
        deliver(stream, sub)
        await stream.next(number)
        stream.iterate()
        assert desk.heard[-1].startswith("report WatchClosed(")
        with pytest.raises(WatchClosed, match="one reader at a time"):
            await stream.next(number)

    run(main())


def test_a_reader_that_is_cancelled_gives_back_what_it_has_not_received(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()
        stream = StreamRunner(sub, desk)
        stream.start()
        number = stream.iterate()
        waiting = asyncio.ensure_future(stream.next(number))
        await eventually(lambda: stream.attended, what="it waits")
        deliver(stream, sub)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert desk.heard == ["ask", "unask with an event"]
        assert not stream.attended

    run(main())


def test_a_second_reader_is_refused(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()
        stream = StreamRunner(sub, desk)
        stream.start()
        waiting = asyncio.ensure_future(stream.next(stream.iterate()))
        await eventually(lambda: stream.attended, what="it waits")
        with pytest.raises(WatchClosed, match="one reader at a time"):
            stream.iterate()
        sub.enter(Progress.CLOSED)
        stream.stop()
        with pytest.raises(WatchClosed, match="has been closed"):
            await waiting

    run(main())


def test_a_report_may_come_from_any_thread(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()
        stream = StreamRunner(sub, desk)
        stream.start()
        number = stream.iterate()
        event = deliver(stream, sub)
        await stream.next(number)
        await asyncio.to_thread(event.done)
        await eventually(lambda: desk.heard == ["ask", "report None"], what="it came into the loop")

    run(main())


def test_a_thread_of_a_watch_that_was_closed_runs_no_handler(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()
        seen: list[Event[Any]] = []
        runner = ThreadRunner(sub, desk, seen.append)
        runner.start()
        sub.progress = Progress.CLOSED
        deliver(runner, sub)
        ended = runner.stop()
        assert ended is not None
        await ended
        assert seen == []
        assert desk.heard == ["ask"]

    run(main())


def test_an_awaitable_that_is_no_coroutine_is_a_mistake_too(run: Run) -> None:
    async def main() -> None:
        desk, sub = Desk(), watch()

        class Awaitable:
            def __await__(self) -> Generator[None, None, None]:
                yield None

        runner = ThreadRunner(sub, desk, lambda event: Awaitable())  # type: ignore[arg-type]
        runner.start()
        deliver(runner, sub)
        await eventually(lambda: len(desk.heard) == 2, what="it reported")
        assert "returned an awaitable that nobody awaits" in desk.heard[1]
        runner.stop()

    run(main())


def test_a_handler_in_a_thread_outlives_the_loop() -> None:
    """What it says then reaches nobody, and is no error."""
    desk, sub = Desk(), watch()
    go_on, reported = threading.Event(), threading.Event()

    def handler(event: Event[Any]) -> None:
        go_on.wait(60)
        event.done()
        reported.set()

    runner = ThreadRunner(sub, desk, handler)

    async def main() -> None:
        runner.start()
        deliver(runner, sub)

    asyncio.run(main())
    go_on.set()
    assert reported.wait(60)
    assert desk.heard == ["ask"]


def test_a_report_before_the_start_reaches_nobody() -> None:
    desk, sub = Desk(), watch()
    runner = StreamRunner(sub, desk)
    runner.report(deliver(runner, sub), None)
    assert desk.heard == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_loop_is_heard_as_the_outcome_all_the_same(
    error: type[BaseException],
) -> None:
    desk, sub = Desk(), watch()

    async def handler(event: Event[Any]) -> None:
        raise error

    async def main() -> None:
        runner = AsyncRunner(sub, desk, handler)
        runner.start()
        deliver(runner, sub)
        await asyncio.Event().wait()

    with pytest.raises(error):
        asyncio.run(main())
    assert desk.heard == ["ask", f"finished {error()!r}"]
