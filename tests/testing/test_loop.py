"""The virtual clock: it jumps, it refuses real I/O, and it says so where nothing can go on."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from datasync.testing import Deadlock, RealIO, SimLoop, run_simulated


def test_hours_pass_at_once_and_timers_keep_their_order() -> None:
    async def main() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[float, str]] = []

        def note(name: str) -> None:
            seen.append((loop.time(), name))

        for delay, name in (
            (3600.0, "hour"),
            (1.0, "second"),
            (60.0, "minute"),
            (1.0, "second again"),
        ):
            loop.call_later(delay, note, name)
        await asyncio.sleep(4000)
        return seen

    began = time.monotonic()
    assert run_simulated(main()) == [
        (1.0, "second"),
        (1.0, "second again"),
        (60.0, "minute"),
        (3600.0, "hour"),
    ]
    assert time.monotonic() - began < 5


def test_a_wait_of_next_to_nothing_does_not_stop_the_clock() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        while loop.time() < 1e-6:  # noqa: ASYNC110 - the wait itself is tested
            await asyncio.sleep(1e-30)
        return loop.time()

    assert run_simulated(main()) >= 1e-6


def test_timeouts_and_cancellation_work() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        return loop.time()

    assert run_simulated(main()) == 5.0


def test_nothing_that_can_go_on_is_a_deadlock_that_names_the_tasks() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(stuck(), name="the stuck one")
        await task

    with pytest.raises(Deadlock, match="the stuck one at ") as caught:
        run_simulated(main())
    assert "\n" not in str(caught.value)


def test_timers_alone_are_a_deadlock_in_the_end() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(Deadlock, match="not done after 100 virtual seconds"):
        run_simulated(main(), limit=100)


def test_real_io_and_threads_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(RealIO):
            await asyncio.to_thread(print)
        with pytest.raises(RealIO):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(RealIO):
            await asyncio.create_subprocess_exec("true")
        with pytest.raises(RealIO):
            asyncio.get_running_loop().add_reader(0, print)

    run_simulated(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_run_at_once() -> None:
    async def main() -> bool:
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - absent in 3.11

        async def nothing() -> None: ...

        return asyncio.create_task(nothing()).done()

    assert run_simulated(main())


def test_each_run_has_a_clock_of_its_own() -> None:
    async def main() -> float:
        await asyncio.sleep(7)
        return asyncio.get_running_loop().time()

    assert [run_simulated(main()), run_simulated(main())] == [7.0, 7.0]
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        assert runner.run(main()) == 7.0
        assert runner.run(main()) == 14.0
