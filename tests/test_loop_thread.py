"""The loop in a thread of its own: who keeps it, what comes back from it, and what ends it."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import traceback

import pytest

from datasync import WatchClosed, WrongLoop
from datasync.loop_thread import LoopThread, _Stage


async def name_of_thread() -> str:
    return threading.current_thread().name


def test_there_is_one_which_ends_with_its_last_user() -> None:
    with LoopThread.used() as first:
        with LoopThread.used() as second:
            assert second is first
            assert first.wait(name_of_thread) == "datasync loop"
        assert first.call(threading.current_thread).name == "datasync loop"
    assert not first._thread.is_alive()
    assert first._loop.is_closed()
    with LoopThread.used() as next_one:
        assert next_one is not first


def test_a_start_that_a_signal_interrupts_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        threads.append(thread)
        start(thread)
        raise SystemExit  # as of a handler of SIGTERM

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(SystemExit):
        LoopThread.use()
    monkeypatch.undo()

    [thread] = threads
    thread.join(60)
    assert not thread.is_alive()
    with LoopThread.used() as loop:
        assert loop.wait(name_of_thread) == "datasync loop"


def test_a_start_that_is_interrupted_before_the_thread_begins_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []

    def interrupted(thread: threading.Thread) -> None:
        threads.append(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LoopThread.use()
    monkeypatch.undo()

    [thread] = threads
    thread.start()  # late, as the system has it
    thread.join(60)
    assert not thread.is_alive()


def test_errors_come_back_with_their_way() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    with LoopThread.used() as loop, pytest.raises(ZeroDivisionError) as caught:
        loop.wait(fails)
    way = [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert way[0] == "test_errors_come_back_with_their_way"
    assert way[-1] == "fails"


def test_what_ends_programs_ends_that_of_the_caller_alone() -> None:
    with LoopThread.used() as loop:
        with pytest.raises(SystemExit):
            loop.call(sys.exit)
        assert loop.wait(name_of_thread) == "datasync loop"


def test_a_call_that_cannot_be_made_is_an_error_of_the_caller() -> None:
    with LoopThread.used() as loop, pytest.raises(TypeError):
        loop.wait(name_of_thread, "too much")  # type: ignore[call-arg]


def test_in_its_own_thread_nobody_waits_for_it() -> None:
    with LoopThread.used() as loop:
        with pytest.raises(WrongLoop, match=r"asyncio\.to_thread"):
            loop.call(loop.wait, name_of_thread)
        assert loop.call(loop.call, threading.current_thread) is loop._thread


def test_what_a_call_brings_about_in_its_turn_is_done() -> None:
    done: list[int] = []
    with LoopThread.used() as loop:
        loop.call(lambda: asyncio.get_running_loop().call_soon(done.append, 1))
        assert done == [1]


def test_it_runs_in_the_context_of_the_caller() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")

    async def look() -> str:
        return request.get()

    with LoopThread.used() as loop:
        request.set("mine")
        assert loop.wait(look) == "mine"


@pytest.mark.parametrize("stubborn", [True, False])
def test_who_still_waits_when_it_ends_is_told(stubborn: bool) -> None:
    caught: list[BaseException] = []
    waiting = threading.Event()

    async def wait() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not stubborn:
                raise

    def call(loop: LoopThread) -> None:
        try:
            loop.wait(wait)
        except BaseException as error:
            caught.append(error)

    with LoopThread.used() as loop:
        thread = threading.Thread(target=call, args=[loop])
        thread.start()
        assert waiting.wait(60)
    thread.join(60)
    # who ends well though he is cancelled has a result
    assert [type(error) for error in caught] == ([] if stubborn else [WatchClosed])
    with pytest.raises(WatchClosed):
        loop.wait(name_of_thread)
    assert loop.call(threading.current_thread) is threading.current_thread()


def test_a_call_that_comes_as_it_ends_is_told() -> None:
    """What is handed to the loop and no longer begun by it."""
    with LoopThread.used() as loop:
        caught: list[BaseException] = []

        def call() -> None:
            try:
                loop.wait(name_of_thread)
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=call)
        runner_close = loop._runner.close

        def late() -> None:
            loop._stage = _Stage.RUNNING
            thread.start()
            while not loop._calls:
                pass
            with loop._guard:  # it has been handed over
                loop._stage = _Stage.ENDED
            # it takes no turn any more
            loop._loop._ready.clear()  # type: ignore[attr-defined]
            runner_close()

        loop._runner.close = late  # type: ignore[method-assign]
    thread.join(60)
    assert [type(error) for error in caught] == [WatchClosed]
