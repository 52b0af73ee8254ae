"""`datasync.blocking` as the contract suite drives `datasync`: each call that waits is made in a thread of its own.

A call that is cancelled here is interrupted there as by Ctrl-C, which only the main thread can have: what it waits for
is cancelled in the loop's thread.
"""

# mypy: disable-error-code="override"

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from datasync import blocking
from datasync.loop_thread import LoopThread
from datasync.source import Source
from datasync.syncbase.runners import is_async
from datasync.testing.contract import Store

__all__ = ["BlockingStore"]

_numbers = itertools.count()
_OVER = object()


class BlockingStore(Store):
    """A store whose DataSyncs are those of `datasync.blocking`."""

    def open(self, *, url: str | Source | None = None, **options: Any) -> Any:
        face = Face.__new__(Face)
        face._hold(super().open(url=url, **options))
        return face


class Face(blocking.DataSync):
    """One of them, with the methods of asyncio."""

    def _hold(self, inner: Any) -> None:
        super()._hold(inner)
        self._handling: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        try:
            await in_thread(super().start)
        except asyncio.CancelledError:  # perhaps it had started by then
            await in_thread(super().close)
            raise

    async def aclose(self) -> None:
        closing = asyncio.ensure_future(in_thread(super().close))
        try:
            while not closing.done():
                await self._cancel_handlers()
                await asyncio.wait([closing], timeout=0.01)
            await self._cancel_handlers()
        except asyncio.CancelledError:
            closing.cancel()
            await asyncio.wait([closing])
            raise
        await closing

    async def _cancel_handlers(self) -> None:
        """As closing cancels an async handler."""
        if self._inner._life.closed:
            for handling in tuple(self._handling):
                handling.cancel()
        for _ in range(3):  # for that to reach them, and for these to end
            await asyncio.sleep(0)

    async def __aenter__(self) -> Any:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def put(self, *args: Any, **options: Any) -> Any:
        return await in_thread(super().put, *args, **options)

    async def delete(self, *args: Any, **options: Any) -> Any:
        return await in_thread(super().delete, *args, **options)

    async def get(self, *args: Any, **options: Any) -> Any:
        return await in_thread(super().get, *args, **options)

    async def ready(self, *args: Any) -> None:
        await in_thread(super().ready, *args)

    async def list(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        found = super().list(*args, **options)
        while (one := await in_thread(next, found, _OVER)) is not _OVER:
            yield one

    async def reports(self, prefix: str) -> AsyncIterator[Any]:
        found = super().reports(prefix)
        try:
            while (one := await in_thread(next, found, _OVER)) is not _OVER:
                yield one
        finally:
            await in_thread(found.close)  # type: ignore[attr-defined]

    def of_agent(self, label: str) -> Any:
        other = Face.__new__(Face)
        other._hold(super().of_agent(label)._inner)
        return other

    def txn(self) -> Any:
        made = super().txn()
        return FaceTxn(made._inner, made._home)

    def view(self, *args: Any, **options: Any) -> Any:
        made = super().view(*args, **options)
        return FaceView(made._inner, made._home)

    def watch(self, *args: Any, **options: Any) -> Any:
        made: Any = super().watch(*args, **options)
        return FaceWatch(made._inner, made._home)

    def watcher(self, *args: Any, **options: Any) -> Any:
        register: Any = super().watcher(*args, **options)
        loop = asyncio.get_running_loop()

        def decorate(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def handle(event: Any) -> None:
                outcome: concurrent.futures.Future[None] = concurrent.futures.Future()

                async def handling() -> None:
                    try:
                        outcome.set_result(await handler(event))
                    except BaseException as error:
                        outcome.set_exception(error)

                def begin() -> None:
                    task = loop.create_task(handling())
                    self._handling.add(task)
                    task.add_done_callback(self._handling.discard)

                loop.call_soon_threadsafe(begin)
                outcome.result()  # what is cancelled too late has ended by itself

            handle.__name__ = getattr(handler, "__name__", "handler")
            register(handle if is_async(handler) else handler)
            return handler

        return decorate


class FaceTxn(blocking.Txn):
    async def commit(self, **options: Any) -> Any:
        return await in_thread(super().commit, **options)


class FaceView(blocking.View[Any]):
    async def at_least(self, *args: Any, **options: Any) -> None:
        await in_thread(super().at_least, *args, **options)


class FaceWatch(blocking.Watch[Any]):
    def __aiter__(self) -> AsyncIterator[Any]:
        return FaceStream(iter(self))


class FaceStream(AsyncIterator[Any]):
    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream = stream

    async def __anext__(self) -> Any:
        return await in_thread(next, self._stream)


async def in_thread(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What the function returns, called in a new thread."""
    outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
    work = functools.partial(_call, outcome, function, args, options)
    thread = threading.Thread(target=work, name=f"caller {next(_numbers)}", daemon=True)
    thread.start()
    ended = asyncio.wrap_future(outcome)
    try:
        await asyncio.wait([ended])
    except asyncio.CancelledError:
        while not ended.done():
            interrupt(thread.name)
            await asyncio.wait([ended], timeout=0.005)
        ended.exception()
        raise
    finally:
        thread.join()
        del outcome, work, function, args  # what is raised leads here by its traceback
    return ended.result()


def _call(outcome: concurrent.futures.Future[Any], function: Any, args: Any, options: Any) -> None:
    try:
        outcome.set_result(function(*args, **options))
    except BaseException as error:
        outcome.set_exception(error)


def interrupt(caller: str) -> None:
    """Cancel what a thread waits for."""
    current = LoopThread._current
    if current is not None:
        for task in asyncio.all_tasks(current._loop):
            if task.get_name() == f"datasync call from {caller}":
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    current._loop.call_soon_threadsafe(task.cancel)
