"""An event loop in a thread of its own, for threads that have none.

There is one in a process, which ends with its last user: sources that several DataSyncs share, as
`memory://name` or those of `of_agent`, belong to one loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import enum
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar, ParamSpec, TypeVar

from datasync.errors import Forked, WatchClosed, WrongLoop
from datasync.texts import logger

__all__ = ["LoopThread"]

P = ParamSpec("P")
R = TypeVar("R")

log = logger("datasync")

_JOIN_TIMEOUT = 5.0
"""Seconds that the thread has to end once nobody uses it."""
_SIGNALS = 1.0
"""Seconds after which the main thread, while it waits, looks whether a signal has come. One that
comes in the moment before it begins to wait, or to another thread, does not wake it.
"""


class _Stage(enum.Enum):
    """How far the loop has come."""

    NEW = "new"
    RUNNING = "running"
    """Its thread has it, and closes it."""
    ENDED = "ended"


class LoopThread:
    """The loop and its thread. Get it with `used`, which ends them with the last user.

    The thread is a daemon: a program that ends without closing ends all the same.
    """

    _lock: ClassVar[threading.RLock] = threading.RLock()
    """Reentrant, as below: a signal handler may call while the main thread is in here."""
    _current: ClassVar[LoopThread | None] = None

    def __init__(self) -> None:
        self._users = 0
        self._process = os.getpid()
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._unused = asyncio.Event()
        self._guard = threading.RLock()
        self._stage = _Stage.NEW
        self._calls: set[_Call[Any]] = set()
        self._thread = threading.Thread(target=self._work, name="datasync loop", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._give_up()
            raise

    @classmethod
    def use(cls) -> LoopThread:
        """The one that runs, or a new one; to be given back with `release`."""
        with cls._lock:
            if cls._current is None:
                cls._current = LoopThread()
            cls._current._users += 1
            return cls._current

    @classmethod
    @contextlib.contextmanager
    def used(cls) -> Iterator[LoopThread]:
        """The same, for the block."""
        thread = cls.use()
        try:
            yield thread
        finally:
            thread.release()

    def release(self) -> None:
        """One user less. With the last one the loop ends, and its thread; waits for that, within
        seconds. Raises `Forked`.
        """
        self.check_process()
        with self._lock:
            self._users -= 1
            if self._users:
                return
            LoopThread._current = None
        self._loop.call_soon_threadsafe(self._unused.set)
        self._thread.join(_JOIN_TIMEOUT)
        if self._thread.is_alive():
            log.warning("closed, though the thread %r does not end", self._thread.name)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function in the loop; returns once all has been done that it brought about
        in the same turn. Where the loop has ended, it is called here. Raises what it raises,
        `Forked`.
        """
        self.check_process()
        if self._is_here or self._stage is _Stage.ENDED:
            return function(*args, **kwargs)

        async def within_a_turn() -> R:
            result = function(*args, **kwargs)
            await asyncio.sleep(0)
            return result

        return self.wait(within_a_turn)

    def wait(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in the loop, and wait for what it returns.

        What interrupts the wait, as Ctrl-C does, cancels that, and is raised once it has ended.
        Raises what it raises, `WrongLoop` in the loop's own thread, `Forked`, `WatchClosed` where
        the loop ends.
        """
        self.check_process()
        if self._is_here:
            raise WrongLoop(
                "this call waits, and would stop the loop that it waits for; make it in another "
                "thread: `await asyncio.to_thread(...)`"
            )
        call = _Call(lambda: function(*args, **kwargs))
        try:
            with self._guard:
                if self._stage is _Stage.ENDED:
                    raise WatchClosed
                self._calls.add(call)
                self._loop.call_soon_threadsafe(call.begin, self._loop)
            return _result_of(call)
        except BaseException:
            if not call.done():
                self._cancel(call)
            raise
        finally:
            self._calls.discard(call)
            del call  # an error that it holds leads back here by its traceback

    def _cancel(self, call: _Call[Any]) -> None:
        """G12: what nobody waits for any more does not go on."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nothing goes on there
            self._loop.call_soon_threadsafe(call.stop)
            concurrent.futures.wait([call])

    def check_process(self) -> None:
        """Raise `Forked` in another process than that of the thread."""
        if self._process != os.getpid():
            raise Forked

    @property
    def _is_here(self) -> bool:
        return threading.get_ident() == self._thread.ident

    def _give_up(self) -> None:
        """There is no thread, or an exception of a signal handler has interrupted its start: then
        it may run already, or begin later.
        """
        with self._guard:
            if self._stage is _Stage.NEW:
                self._stage = _Stage.ENDED
                self._runner.close()
            else:
                self._loop.call_soon_threadsafe(self._unused.set)

    def _work(self) -> None:
        with self._guard:
            if self._stage is _Stage.ENDED:
                return
            self._stage = _Stage.RUNNING
        try:
            with self._runner as runner:
                try:
                    runner.run(self._unused.wait())
                finally:
                    with self._guard:
                        self._stage = _Stage.ENDED
        finally:
            for call in tuple(self._calls):  # they came too late to be begun
                call.fail(WatchClosed())


class _Call(concurrent.futures.Future[R]):
    """One call of another thread, which waits for it. It is made in the context of that thread."""

    def __init__(self, function: Callable[[], Awaitable[R]]) -> None:
        super().__init__()
        self._function = function
        self._context = contextvars.copy_context()
        self._caller = threading.current_thread().name
        self._task: asyncio.Task[None] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(
            self._run(), name=f"datasync call from {self._caller}", context=self._context
        )
        self._task.add_done_callback(self._conclude)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:  # interrupted before it was brought here
            self.fail(WatchClosed())

    def fail(self, error: BaseException) -> None:
        if not self.done():
            self.set_exception(error)

    async def _run(self) -> None:
        try:
            result = await self._function()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # also one that would end the loop: it is the caller's
            self.fail(error)
        else:
            if not self.done():
                self.set_result(result)

    def _conclude(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self.fail(WatchClosed())


def _result_of(call: _Call[R]) -> R:
    """Wait for it, and let the signals of the program have their way meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        return call.result()
    while not call.done():
        with contextlib.suppress(TimeoutError):  # also its own, which is raised below
            return call.result(_SIGNALS)
    return call.result()


def _forget() -> None:
    """The thread is not there in a child process, and a lock may be held there for ever."""
    LoopThread._lock, LoopThread._current = threading.RLock(), None


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget)
