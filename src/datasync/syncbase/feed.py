"""The feed of one layer: keeps a session open, brings its frames to the core, and comes back after every fault."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from datasync.errors import BadStore, DatasyncError, Disconnected, HistoryLost, Unauthorized, UsageError
from datasync.options import Options
from datasync.source import PushSession, Session, Source
from datasync.syncbase.core import Layer
from datasync.syncbase.frames import Commit, Frame

__all__ = ["Feed", "FeedState", "Follower", "end_tasks"]

log = logging.getLogger("datasync.feed")

_FATAL = (Unauthorized, BadStore, UsageError)
_YIELD_AFTER = 256  # changes; then watches that wait get their turn of the loop


class FeedState(enum.Enum):
    """Where the session of a source stands."""

    CONNECTING = "connecting"
    LOADING = "loading"
    """Connected; the snapshot is not complete."""
    FOLLOWING = "following"
    LOST = "lost"
    """Not connected; it will be tried again."""
    CLOSED = "closed"


class Follower(Protocol):
    """Whoever takes what a feed brings; the core of a DataSync, for one. `Core` says what each method means."""

    def opening(self, layer: Layer) -> tuple[list[str], Any, list[str]]: ...
    def widening(self, layer: Layer) -> tuple[list[str], list[str]]: ...
    def opened(self, layer: Layer, *, resumed: bool) -> None: ...
    def lost(self, layer: Layer, error: Exception) -> None: ...
    def frame(self, layer: Layer, frame: Frame) -> None: ...
    def commit(self, layer: Layer, frame: Commit) -> None: ...


class Feed:
    """Owns the sessions of one source. `run` is its task."""

    def __init__(
        self,
        source: Source,
        layer: Layer,
        core: Follower,
        options: Options,
        rng: random.Random,
        wall: Callable[[], float],
        drain: Callable[[], None],
    ) -> None:
        self.source = source
        self.layer = layer
        self.error: str | None = None
        self.reconnects = 0
        self._core = core
        self._options = options
        self._rng = rng
        self._wall = wall
        self._drain = drain
        self._state = FeedState.CONNECTING
        self.since = wall()
        self._wider = asyncio.Event()
        self._attempts = 0
        self._heard = 0.0
        self._session: Session | None = None
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the first try to connect has ended; failed if it makes no sense to try again."""

    @property
    def state(self) -> FeedState:
        """Where it stands; `since` tells from when (wall clock, seconds)."""
        if self._state is FeedState.FOLLOWING and (not self.layer.ready or self.layer.staging is not None):
            return FeedState.LOADING
        return self._state

    def widen(self) -> None:
        """The scopes have grown: let the session cover them, or open one that does."""
        if isinstance(self._session, PushSession):
            self._session.widen(*self._core.widening(self.layer))
        else:
            self._wider.set()

    async def caught_up(self) -> None:
        """Wait until all that was committed before is in the core, as far as the source can tell and is connected."""
        if self._session is not None:
            with contextlib.suppress(DatasyncError):  # then the next snapshot shows it
                await self._session.caught_up()

    async def run(self) -> None:
        """Follow the source until cancelled."""
        try:
            while True:
                # all watches registered in this turn of the loop share the session
                await asyncio.sleep(0)
                self._wider.clear()
                try:
                    await self._one_session()
                except Exception as error:
                    await self._pause(error)
        finally:
            self._enter(FeedState.CLOSED)
            if not self.first.done():
                self.first.cancel()

    async def _pause(self, error: Exception) -> None:
        """Note why the session ended, and wait before the next try."""
        if not self.first.done():
            if isinstance(error, _FATAL) and not self.layer.optional:
                self.first.set_exception(error)
                await asyncio.Event().wait()  # the start fails, and cancels this
            self.first.set_result(None)
        self._core.lost(self.layer, error)
        self._lost(error)
        self._drain()
        if isinstance(error, HistoryLost) and self._attempts == 0:
            self._attempts = 1  # the source answers: ask again at once, but not for ever
            return
        self._attempts += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.reconnect.delay(self._attempts, self._rng)):
                await self._wider.wait()

    def _lost(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if self._state is not FeedState.LOST:
            what = "lost" if self._state is FeedState.FOLLOWING else "cannot be reached"
            log.warning("%s: %s: %s; trying again", self.source.name, what, text)
            self._enter(FeedState.LOST)
        if not isinstance(error, DatasyncError) and text != self.error:  # a mistake; once, not at every try
            log.error("%s: unexpected error in the session", self.source.name, exc_info=error)
        self.error = text

    async def _one_session(self) -> None:
        loop = asyncio.get_running_loop()
        scopes, resume, added = self._core.opening(self.layer)
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                session = await self.source.open(scopes, resume, added)
        except TimeoutError:
            raise Disconnected(f"no answer within {self._options.connect_timeout:g} s") from None
        began = loop.time()
        self.layer.promise(self.source.capabilities)
        try:
            self._core.opened(self.layer, resumed=resume is not None)
            if self._state is FeedState.LOST:
                log.info("%s: connected again", self.source.name)
                self.reconnects += 1
            self._enter(FeedState.FOLLOWING)
            self.error = None
            if not self.first.done():
                self.first.set_result(None)
            self._session = session
            if self._wider.is_set() and isinstance(session, PushSession):
                self._wider.clear()
                self.widen()
            await self._follow(session)
        finally:
            self._session = None
            if loop.time() - began > self._options.stable_after:
                self._attempts = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.close_timeout):
                    await session.aclose()

    async def _follow(self, session: Session) -> None:
        """Take frames and ping beside it, until either fails, or a session has to be opened that covers more."""
        pings = asyncio.ensure_future(self._ping(session))
        frames = asyncio.ensure_future(self._take(session))
        wider = asyncio.ensure_future(self._wider.wait())
        try:
            await asyncio.wait((pings, frames, wider), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(pings, frames, wider)
        for task in (frames, pings):
            if not task.cancelled():
                task.result()

    async def _take(self, session: Session) -> None:
        if isinstance(session, PushSession):
            session.attach(self._push)
        async for frames in session:
            self._heard = asyncio.get_running_loop().time()
            changes = 0
            for frame in frames:
                self._core.frame(self.layer, frame)
                self._drain()
                if type(frame) is Commit:
                    changes += len(frame.changes)
                    if changes >= _YIELD_AFTER:
                        changes = 0
                        await asyncio.sleep(0)
        raise Disconnected("the source ended the session")

    def _push(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if type(frame) is Commit:
                self._core.commit(self.layer, frame)
            else:
                self._core.frame(self.layer, frame)
            self._drain()

    async def _ping(self, session: Session) -> None:
        """Find out within seconds that the other side is gone, though the connection says nothing. Also while frames
        come: one server may be busy while another is silent, or go on talking when it is no longer the one to ask."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._options.ping_interval)
            began = loop.time()
            try:
                async with asyncio.timeout(self._options.ping_timeout):
                    await session.ping()
            except TimeoutError:
                if self._heard < began:  # else the answer may be held up by frames
                    raise Disconnected(f"no answer to a ping within {self._options.ping_timeout:g} s") from None

    def _enter(self, state: FeedState) -> None:
        if state is not self._state:
            self._state = state
            self.since = self._wall()


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended, even if this is cancelled meanwhile: their ends are bounded."""
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled  # an error whose own traceback leads to it lives until the next garbage collection
