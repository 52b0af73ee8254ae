"""Where and when a DataSync can be used: in the event loop and process that it was started in,
until it is closed; views also in other threads of that process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from datasync.errors import Forked, UsageError, WatchClosed, WrongLoop

__all__ = ["Lifetime"]

_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_count_fork)


class Lifetime:
    """Begins once and ends once. Whatever belongs to one DataSync asks it before each use."""

    __slots__ = ("_fork", "_loop", "_stop_asked", "_stopped", "closed")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fork = 0
        self._stop_asked = False
        self._stopped = asyncio.Event()
        self.closed = False

    def begin(self) -> None:
        """It is started, in the running loop. Raises `UsageError` the second time, and
        `WatchClosed` where it was closed before: nothing would end it any more.
        """
        if self._loop is not None:
            raise UsageError("a DataSync is started once; make a new one")
        if self.closed:
            raise WatchClosed
        self._loop, self._fork = asyncio.get_running_loop(), _forks

    def end(self) -> None:
        """It is closed, whether it was started or not. Raises `WrongLoop`, `Forked`."""
        if self._loop is not None:
            self._check_place()
        self.closed = True

    def stop(self) -> None:
        """Let `stopped` return. Safe to call from any thread, and before the beginning."""
        self._stop_asked = True  # first: what begins meanwhile looks at it later
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits there
                self._loop.call_soon_threadsafe(self._stopped.set)

    async def stopped(self) -> None:
        """Return once `stop` has been called."""
        if not self._stop_asked:
            await self._stopped.wait()

    def check(self) -> None:
        """Raise `UsageError`, `WrongLoop`, `Forked` or `WatchClosed` unless it can be used here."""
        if (
            self._loop is None
            or self.closed
            or asyncio._get_running_loop() is not self._loop
            or self._fork != _forks
        ):
            self._refuse()

    def check_open(self) -> None:
        """The same, for what can be done before the start as well."""
        if self.closed:
            raise WatchClosed
        if self._loop is not None and (
            asyncio._get_running_loop() is not self._loop or self._fork != _forks
        ):
            self._check_place()

    def check_anywhere(self) -> None:
        """The same, for what can be done in any thread of the process as well."""
        self.check_process()
        if self.closed:
            raise WatchClosed

    def check_process(self) -> None:
        """Raise `Forked` unless it can be used in this process."""
        if self._loop is not None and self._fork != _forks:
            raise Forked

    def _refuse(self) -> None:
        if self._loop is None:
            raise UsageError(
                "the DataSync is not started; use it inside `async with sync:` (in "
                "datasync.blocking `with sync:`)"
            )
        self.check_open()

    def _check_place(self) -> None:
        self.check_process()
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise WrongLoop(
                "this DataSync belongs to another event loop; from elsewhere use "
                "asyncio.run_coroutine_threadsafe (coroutines) or its loop's call_soon_threadsafe, "
                "or make a new one"
            )
