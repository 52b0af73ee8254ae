"""A line: a session with the task that takes its frames, and how both end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from datasync.frames import Frame
from datasync.source import Session
from datasync.tasks import end_tasks, see_out
from datasync.texts import logger

__all__ = ["Line", "break_off", "failure", "text_of"]

log = logger("datasync.feed")


class Line:
    """A session, and the task that takes its frames."""

    def __init__(self, session: Session, sink: Callable[[Frame], None]) -> None:
        self.session = session
        self.sink = sink
        """What becomes of its frames."""
        self.taking: asyncio.Task[None] | None = None
        self.retired = False
        """Another session takes over; nothing of this one is delivered any more."""
        self.heard = 0.0
        """When it last brought something, by the clock of the loop."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with what went wrong in taking over what it pushed."""

    async def aclose(self, timeout: float) -> None:
        """End it, within `timeout` seconds."""
        if not self.ended.done():
            self.ended.set_result(None)
        assert self.taking is not None
        try:
            await end_tasks(self.taking)
            if not self.taking.cancelled():
                self.taking.exception()  # the session after it has been told
        finally:  # G12: also if this is cancelled, now or meanwhile: who would close it then?
            self.taking = None  # G9: what it ended with leads back here
            await see_out(asyncio.ensure_future(self._close(timeout)))

    async def _close(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self.session.aclose()
        except TimeoutError:
            pass
        except BaseException as error:  # G8: said, but why the session ends is more to the point
            log.error("unexpected error in closing a session", exc_info=failure(error))


def break_off(broken: asyncio.Future[None], error: Exception) -> None:
    """Something went wrong in this process; the session of this line is of no use any more."""
    if not broken.done():
        broken.set_exception(error)
        broken.exception()  # it may be ending anyway


def failure(error: BaseException) -> Exception:
    """What a session ended with, as an error of the source.

    What is meant for the task itself is raised on.
    """
    if isinstance(error, Exception):
        return error
    task = asyncio.current_task()
    if isinstance(error, KeyboardInterrupt | SystemExit) or (
        task is not None and task.cancelling()
    ):
        try:
            raise error
        finally:
            # what its own traceback leads to lives until the next garbage collection
            del error, task

    # also a CancelledError of something within the source, for nobody has cancelled this
    failure = RuntimeError(f"{type(error).__name__} in the session: {text_of(error)}")
    failure.__cause__ = error
    return failure


def text_of(error: BaseException) -> str:
    """What an error says, or else its class."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
