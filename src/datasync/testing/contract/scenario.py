"""How one test of the suite runs: in an event loop of its own, on a store of its
own, leaving nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from datasync import UnsupportedOption
from datasync.testing.contract.harness import Store
from datasync.testing.contract.waiting import eventually

__all__ = ["Base", "scenario"]

Scenario = Callable[[Any, Store], Awaitable[None]]


class Base:
    """What all parts of the suite share."""

    deadline: float = 200.0
    """Seconds that one test may take."""

    def store(self) -> contextlib.AbstractAsyncContextManager[Store]:
        """A fresh, empty store for one test."""
        raise NotImplementedError(
            "write an async context manager `store` that yields a Store; see docs/transports.md"
        )


def scenario(*hooks: str, writes: bool = False) -> Callable[[Scenario], Callable[[Any], None]]:
    """Make a test of an async method that takes a Store.

    hooks: those it needs; a store that lacks one skips it.
    writes: it is about the writes of a DataSync; where the source takes none, the test asserts that
        it says so.
    """

    def decorate(body: Scenario) -> Callable[[Any], None]:
        async def run(suite: Base) -> str | None:
            unhandled: list[str] = []

            def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
                if not _is_of_an_earlier_loop(context):
                    unhandled.append(f"{context['message']}: {context.get('exception')!r}")

            asyncio.get_running_loop().set_exception_handler(note)
            async with suite.store() as store:
                if missing := [hook for hook in hooks if getattr(store, hook) is None]:
                    return f"the store has no hook {' and no hook '.join(missing)}"
                async with asyncio.timeout(suite.deadline):
                    if writes and not store.capabilities.writable:
                        await _says_it_is_not_writable(store)
                    else:
                        await body(suite, store)
                for probe in store.probes:
                    probe.check()
            await eventually(
                lambda: not _other_tasks(), 20.0, what=f"tasks are left: {_other_tasks()}"
            )
            assert not unhandled, "; ".join(unhandled)
            return None

        def test(self: Base) -> None:
            before = set(threading.enumerate())
            if reason := asyncio.run(run(self)):
                pytest.skip(reason)
            _await_threads(before)

        # not functools.wraps: pytest would follow __wrapped__ and ask for a fixture named `store`
        test.__name__ = getattr(body, "__name__", "test")
        test.__qualname__ = getattr(body, "__qualname__", "test")
        test.__module__ = body.__module__
        test.__doc__ = body.__doc__
        return test

    return decorate


def _is_of_an_earlier_loop(context: dict[str, Any]) -> bool:
    """Whether grpc complains that the loop of a test before this one has ended: all loops of a
    process share one queue, which may hear of a cancelled call only after its loop is closed, and
    nothing public waits for that."""
    closed = isinstance(context.get("exception"), RuntimeError) and "loop is closed" in str(
        context["exception"]
    )
    return closed and "PollerCompletionQueue" in context["message"]


def _other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task is not None}


def _await_threads(before: set[threading.Thread]) -> None:
    """Wait for the end of the threads that a test started; each has to end
    by itself, within seconds."""
    until = time.monotonic() + 5.0
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < until, f"threads are left: {left}"
        time.sleep(0.005)
        # a client library may end its thread with its last object, and that be part of a cycle
        gc.collect()


async def _says_it_is_not_writable(store: Store) -> None:
    async with store.open() as sync:
        with pytest.raises(UnsupportedOption):
            await sync.put("key", b"value")
        with pytest.raises(UnsupportedOption):
            await sync.delete("key")
