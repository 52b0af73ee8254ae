"""Follows the files of a place: looks at them whenever something may have changed, in a thread,
and hands over what each look brings, in the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from watchfiles import Change, awatch

from datasync.errors import WatchClosed
from datasync.kvdbsync.files.contents import Contents, Look
from datasync.tasks import end_tasks
from datasync.texts import logger

__all__ = ["Follower"]

log = logger("datasync.files")

_SAFETY, _POLL = 5.0, 1.0
"""Seconds between two looks where the system tells of changes, which it may forget to; and where
nothing does."""
_TOGETHER = 50
"""Milliseconds for which changes are taken together, a look for all of them."""


class Follower:
    """The one task that looks, and the one that hears of changes.

    name: how log lines call the source.
    poll: seconds between two looks; None to have the system tell of changes.
    blind: the type of a file system that does not tell of all changes; None for others.
    took: called in the loop with what each look brought.
    failed: called with the error once it cannot look any more.
    """

    def __init__(
        self,
        name: str,
        contents: Contents,
        poll: float | None,
        blind: str | None,
        took: Callable[[Look], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._name = name
        self._contents = contents
        self._listens = poll is None
        self._every = poll or (_SAFETY if blind is None else _POLL)
        self._took = took
        self._failed = failed
        self._thread = ThreadPoolExecutor(1, "datasync-files")
        self._looking: asyncio.Future[Look] | None = None
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._heard: dict[str, int] = {}
        self._listening: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = asyncio.ensure_future(self._run())
        if blind is not None and poll is None:
            log.info(
                "%s: lies on %s, which does not tell of all changes; looking every %g s",
                name, blind, self._every,
            )  # fmt: skip

    async def fresh(self) -> None:
        """Return once all that was written before this call is taken over, as far as it is good.
        Raises `WatchClosed`, and what ended the looking."""
        if self._running is None or self._running.done():
            raise WatchClosed(f"{self._name} was closed; open it again")
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append(waiter)
        self._wake.set()
        await waiter

    async def answered(self) -> None:
        """Return once the look that is going on has ended: where the file system hangs, never."""
        if self._looking is not None:
            await asyncio.wait([self._looking])

    async def _run(self) -> None:
        waiting: list[asyncio.Future[None]] = []
        try:
            while True:
                self._wake.clear()
                waiting += self._waiting
                self._waiting = []
                self._looking = self.loop.run_in_executor(self._thread, self._contents.look)
                look = await self._looking
                self._took(look)
                if not look.settling:
                    _answer(waiting, None)
                    waiting = []

                await self._listen_to(look.directories)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every if look.again is None else look.again):
                        await self._wake.wait()
        except Exception as error:  # nothing looks any more; those who wait have to hear why
            self._failed(error)
            _answer(waiting + self._waiting, error)
        finally:
            closed = WatchClosed(f"{self._name} was closed; open it again")
            _answer(waiting + self._waiting, closed)
            self._thread.shutdown(wait=False)
            await self._listen_no_more()

    async def _listen_to(self, directories: dict[str, int]) -> None:
        """Hear of changes in these directories, which may be others than before."""
        ended = self._listening is not None and self._listening.done()
        if not self._listens or (directories == self._heard and not ended):
            return
        await self._listen_no_more()
        self._heard = directories
        self._listening = asyncio.ensure_future(self._listen(list(directories)))
        # G2: what changed before it listens is for one more look
        await asyncio.sleep(0)
        self._wake.set()

    async def _listen_no_more(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            await end_tasks(listening)

    async def _listen(self, directories: list[str]) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):
                await _hear(directories, self._wake)
            self._wake.set()  # one of them is gone: the next look finds what is there instead
        except (OSError, RuntimeError) as error:  # too many of them, for example
            self._listens, self._every = False, min(self._every, _POLL)
            log.info("%s: not told of changes (%s); looking every %g s",
                     self._name, error, self._every)  # fmt: skip

    async def aclose(self) -> None:
        """Stop looking. May be called twice."""
        # G9: its end would lead back to this by a traceback
        running, self._running = self._running, None
        if running is not None:
            await end_tasks(running)


async def _hear(directories: list[str], wake: asyncio.Event) -> None:
    """Set the event at each change in these directories, until one of them is removed: another one
    in its place is not heard of. Raises `OSError`, `RuntimeError`."""
    removed = asyncio.Event()

    def heard(change: Change, path: str) -> bool:
        if change is Change.deleted and path in directories:
            removed.set()
        wake.set()
        return False  # what is yielded is logged too, at each edit

    async for _ in awatch(
        *directories,
        stop_event=removed,
        watch_filter=heard,
        debounce=_TOGETHER,
        recursive=False,
        force_polling=False,
        ignore_permission_denied=True,
    ):
        raise AssertionError


def _answer(waiting: list[asyncio.Future[None]], error: Exception | None) -> None:
    for waiter in waiting:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
            waiter.exception()  # its caller may no longer wait for it
