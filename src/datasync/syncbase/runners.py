"""How an event reaches the application: an async handler, a plain function in a thread of its own,
or a stream.

A handler runs in a task (or thread) of its own, never inside the engine's or another watch's.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import contextvars
import inspect
import queue
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from datasync.errors import UsageError, WatchClosed
from datasync.events import Event
from datasync.outcome import KeyOutcome
from datasync.syncbase.subscriber import Subscriber

__all__ = [
    "AsyncRunner",
    "Desk",
    "Runner",
    "StreamRunner",
    "ThreadRunner",
    "is_async",
    "runner_for",
]

_EAGER = sys.version_info >= (3, 12)


class Desk(Protocol):
    """Where runners bring what they hear; the engine."""

    def report(self, event: Event[Any], error: BaseException | None) -> None: ...
    def report_keys(self, sub: Subscriber, said: Mapping[str, KeyOutcome]) -> None: ...
    def finished(self, event: Event[Any], error: BaseException | None) -> None: ...
    def ask(self, sub: Subscriber) -> None: ...
    def unask(self, sub: Subscriber, event: Event[Any] | None) -> None: ...


class Runner(abc.ABC):
    """Delivers the events of one watch; the base of the three kinds."""

    is_stream = False

    @property
    def attended(self) -> bool:
        """Whether somebody takes what is delivered: a handler always does."""
        return True

    def __init__(self, sub: Subscriber, desk: Desk) -> None:
        self._sub = sub
        self._desk = desk
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self.context = contextvars.Context()
        """What the application is to run in."""

    def start(self) -> None:
        """Called in the loop, when the DataSync starts or the watch is added to a running one."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()

    @abc.abstractmethod
    def deliver(self, event: Event[Any], context: contextvars.Context) -> None:
        """Give the event to the application, to be handled in this context."""

    @abc.abstractmethod
    def stop(self) -> asyncio.Future[None] | None:
        """The watch is closed.

        What runs may finish; returns what to wait for, cancelling it where that helps.
        """

    def report(self, event: Event[Any], error: BaseException | None) -> None:
        """`event.done`, from any thread."""
        self._tell(self._desk.report, event, error)

    def report_keys(self, said: Mapping[str, KeyOutcome]) -> None:
        """`Watch.report`, from any thread."""
        self._tell(self._desk.report_keys, self._sub, said)

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        if threading.get_ident() == self._thread_id:
            function(*args)
        elif self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)


class AsyncRunner(Runner):
    """An async handler.

    Each event has a task; where Python can start it eagerly (3.12), a handler that does not wait is
    done before `deliver` returns.
    """

    def __init__(
        self, sub: Subscriber, desk: Desk, handler: Callable[[Event[Any]], Awaitable[None]]
    ) -> None:
        super().__init__(sub, desk)
        self._handler = handler
        self.context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        super().start()
        self._desk.ask(self._sub)

    def deliver(self, event: Event[Any], context: contextvars.Context) -> None:
        try:
            task: asyncio.Task[None]
            if _EAGER:
                task = asyncio.Task(  # type: ignore[call-arg]
                    self._handler(event),  # type: ignore[arg-type]
                    loop=self._loop,
                    context=context,
                    eager_start=True,
                )
            else:  # pragma: no cover - before Python 3.12
                task = asyncio.Task(self._unless_closed(event), loop=self._loop, context=context)
        # raised by a plain wrapper around the handler, or see `_is_for_the_loop`
        except BaseException as error:
            self._desk.finished(event, error)
            if _is_for_the_loop(error):
                assert self._loop is not None
                self._loop.call_soon(_raise, error)
            return

        if task.done():
            try:
                outcome = task.exception()
            except asyncio.CancelledError as cancelled:
                outcome = cancelled
            # an error that led to the task would keep all frames below this one until the next
            # garbage collection
            del task
            try:
                self._desk.finished(event, outcome)
            finally:
                del outcome
        else:
            self._task = task
            task.set_name(f"datasync {self._sub.name}")
            task.add_done_callback(lambda task: self._conclude(event, task))

    # before Python 3.12 only
    async def _unless_closed(self, event: Event[Any]) -> None:  # pragma: no cover
        """Where a task starts later than it is made, the watch may be closed in between,
        and shows nothing then.
        """
        if self._sub.has(event):
            await self._handler(event)

    def _conclude(self, event: Event[Any], task: asyncio.Task[None]) -> None:
        self._task = None
        try:
            error = task.exception()
        except asyncio.CancelledError as cancelled:  # by itself; its task is nobody else's
            error = cancelled
        self._desk.finished(event, error)

    def stop(self) -> asyncio.Future[None] | None:
        return self._task


def _is_for_the_loop(error: BaseException) -> bool:
    """asyncio lets these end the loop, and so do we; the event has failed all the same."""
    return isinstance(error, KeyboardInterrupt | SystemExit)


def _raise(error: BaseException) -> None:
    raise error


class ThreadRunner(Runner):
    """A plain function, in a thread of its own.

    A thread cannot be cancelled: closing waits for it only a while, and a handler that hangs does
    not keep the process alive.
    """

    def __init__(self, sub: Subscriber, desk: Desk, handler: Callable[[Event[Any]], None]) -> None:
        super().__init__(sub, desk)
        self._handler = handler
        self._queue: queue.SimpleQueue[tuple[Event[Any], contextvars.Context] | None]
        self._queue = queue.SimpleQueue()
        self._ended: asyncio.Future[None] | None = None

    def start(self) -> None:
        super().start()
        assert self._loop is not None
        self._ended = self._loop.create_future()
        threading.Thread(target=self._work, name=f"datasync {self._sub.name}", daemon=True).start()
        self._desk.ask(self._sub)

    def deliver(self, event: Event[Any], context: contextvars.Context) -> None:
        self._queue.put((event, context))

    def _work(self) -> None:
        while (given := self._queue.get()) is not None:
            event, context = given
            if self._sub.closed:
                continue
            error: BaseException | None = None
            try:
                returned: object = context.run(self._handler, event)
                if inspect.isawaitable(returned):
                    if inspect.iscoroutine(returned):
                        returned.close()
                    error = UsageError(
                        "the handler returned an awaitable that nobody awaits; make it an "
                        "`async def`"
                    )
            except BaseException as raised:  # not even SystemExit may end the thread unsaid
                error = raised
            self._call(self._desk.finished, event, error)
        self._call(self._set_ended)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop was closed while the handler ran on
            self._loop.call_soon_threadsafe(function, *args)

    def _set_ended(self) -> None:
        assert self._ended is not None
        self._ended.set_result(None)

    def stop(self) -> asyncio.Future[None] | None:
        self._queue.put(None)
        return self._ended


class StreamRunner(Runner):
    """`async for event in watch`: asking for the next event accepts the one before."""

    is_stream = True

    def __init__(self, sub: Subscriber, desk: Desk) -> None:
        super().__init__(sub, desk)
        self._waiter: asyncio.Future[None] | None = None
        self._arrived: Event[Any] | None = None
        self._open: Event[Any] | None = None
        self._generation = 0

    @property
    def attended(self) -> bool:
        """Somebody iterates: waits for an event, or holds one."""
        return self._waiter is not None or self._open is not None

    def iterate(self) -> int:
        """A new `async for`: fail the event that the last one left open. Returns its number."""
        if self._waiter is not None and not self._waiter.done():
            raise WatchClosed(
                f"{self._sub.name!r} is iterated elsewhere; a watch has one reader at a time"
            )
        self._generation += 1
        left, self._open = self._open, None
        if left is not None and not left._deferred:
            self._desk.report(
                left, WatchClosed("the loop that was given the event ended without a report")
            )
        return self._generation

    def deliver(self, event: Event[Any], context: contextvars.Context) -> None:
        self._arrived = event
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, generation: int) -> Event[Any]:
        """Accept the event before, and wait for the next one. Raises `WatchClosed`."""
        if generation != self._generation or (self._waiter is not None and not self._waiter.done()):
            raise WatchClosed(
                f"{self._sub.name!r} is iterated elsewhere; a watch has one reader at a time"
            )
        before, self._open = self._open, None
        if before is not None:
            self._desk.finished(before, None)
        else:
            self._desk.ask(self._sub)
        if self._arrived is None:
            await self._wait()
        if self._sub.closed:
            raise WatchClosed(f"{self._sub.name!r} has been closed")
        event, self._arrived = self._arrived, None
        assert event is not None
        self._open = event
        return event

    async def _wait(self) -> None:
        if self._sub.closed:
            return
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        except asyncio.CancelledError:
            if self._waiter is waiter:  # nobody else has begun to read meanwhile
                event, self._arrived = self._arrived, None
                self._desk.unask(self._sub, event)
            raise
        finally:
            if self._waiter is waiter:
                self._waiter = None

    def stop(self) -> asyncio.Future[None] | None:
        self._arrived = self._open = None  # G9: they lead back here
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return None


def runner_for(
    sub: Subscriber, desk: Desk, handler: Callable[[Any], Awaitable[None] | None] | None
) -> Runner:
    """The runner of a watch: of its handler, or where it has none of a stream. Raises `UsageError`
    for a handler that could not be called."""
    if handler is None:
        return StreamRunner(sub, desk)
    _check(handler, sub.name)
    kind: Callable[..., Runner] = AsyncRunner if is_async(handler) else ThreadRunner
    return kind(sub, desk, handler)


def _check(handler: Callable[..., Any], name: str) -> None:
    """G7: what can only fail, or would do nothing and be told as accepted, is refused at once."""
    if not callable(handler):
        raise UsageError(
            f"a handler is a function that takes an event, not {type(handler).__name__}"
        )

    called = handler, type(handler).__call__
    if any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in called):
        raise UsageError(
            f"the handler {name!r} is a generator, so calling it would run nothing of it; "
            "leave out the yield"
        )

    try:
        # a wrapper shows what it wraps, which may take more
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):  # of some functions in C nothing is known
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise UsageError(
            f"the handler {name!r} must take one argument, the event: {error}"
        ) from None


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether calling the handler gives a coroutine, as far as one can see."""
    call = getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__ is a handler too
    # and a decorator's async wrapper around such an object too
    return any(map(inspect.iscoroutinefunction, (handler, inspect.unwrap(handler), call)))
