"""What several test files share."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import itertools
import os
import signal
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.helpers.order import begun_early
from tests.helpers.servers import children

T = TypeVar("T")
_numbers = itertools.count()


def pytest_configure() -> None:
    """Let the children of this process be interrupted,
    also where it was started from the background of a script.

    SIGINT is ignored there, which children inherit. They do not inherit a handler, even one that
    does nothing.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: None)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """No more workers collect at once than there are cores.

    So in a fresh clone only the first of them compile what all import: the others find it.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None:  # also in a pytest that a test has started, which has its environment
        return (yield)
    turn = int(worker["workerid"].removeprefix("gw")) % (os.cpu_count() or 1)
    shared = Path(session.config.option.basetemp).parent  # that of all workers
    with (shared / f"collecting-{turn}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return (yield)


@pytest.hookimpl(trylast=True)  # what is left of them once some are deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No worker waits at the end for what takes long."""
    items[:] = begun_early(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def pytest_collection_finish() -> None:
    """What has been imported and collected stays: the collections that tests ask for need not look
    at it each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """No program that a test started outlives it: it would be the next test's
    that is blamed for it.

    Servers are in sessions of their own: some serve several tests, and each is ended by the fixture
    that started it.
    """
    before = children()
    yield
    left = {pid: command for pid, command in children().items() if pid not in before}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"still running: {', '.join(left.values())}"


@pytest.fixture(autouse=True)
def alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Holds what the test is marked to need for itself:
    no other worker runs a test with the same name meanwhile.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # that of all workers
    with contextlib.ExitStack() as held:
        for mark in request.node.iter_markers("alone"):
            lock = held.enter_context((shared / f"alone-{mark.args[0]}").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a coroutine in an event loop of its own, for at most 120 seconds."""

    def run(main: Coroutine[Any, Any, T]) -> T:
        async def limited() -> T:
            async with asyncio.timeout(120):
                return await main

        return asyncio.run(limited())

    return run


@pytest.fixture
def memory_url() -> str:
    """A memory source that no other test has: several DataSyncs in one test may share it."""
    return f"memory://test-{os.getpid()}-{next(_numbers)}"
