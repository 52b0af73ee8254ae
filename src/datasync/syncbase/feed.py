"""The feed of one layer: keeps a session open, brings its frames to the core,
and comes back after every fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from datasync.errors import (
    BadStore,
    DataSyncError,
    Disconnected,
    HistoryLost,
    Unauthorized,
    UsageError,
    WatchClosed,
)
from datasync.frames import Commit, Frame
from datasync.options import Options
from datasync.source import PushSession, Session, Source
from datasync.status import LayerState
from datasync.syncbase.core import Layer
from datasync.syncbase.handover import Handover, decline
from datasync.syncbase.line import Line, break_off, failure, text_of
from datasync.tasks import end_tasks, raise_first, untrace
from datasync.texts import logger

__all__ = ["Feed", "Follower"]

log = logger("datasync.feed")

_FOLLOWING = LayerState.FOLLOWING
_FATAL = (Unauthorized, BadStore, UsageError)
_PATIENCE = 2.0
"""Seconds that two sessions may go on side by side until there is a moment when they are level."""
_ASK_AFTER = 0.2
"""Seconds after which the session that is to take over is asked again to catch up."""
_STABLE_AFTER = 10.0
"""Seconds that a session has to last for the next reconnect to count as the first try again."""
_YIELD_AFTER = 256
"""Changes after which the watches that wait get their turn of the loop."""


class Follower(Protocol):
    """What takes over the frames of a feed, as the core of a DataSync does.

    `Core` documents each method.
    """

    def opening(self, layer: Layer) -> tuple[list[str], Any, list[str]]: ...
    def widening(self, layer: Layer) -> tuple[list[str], list[str]]: ...
    def switched(self, layer: Layer, scopes: Sequence[str]) -> None: ...
    def caught_up(self, layer: Layer, registered: int) -> None: ...
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
        self._error: str | None = None
        self.reconnects = 0

        self._core = core
        self._options = options
        self._rng = rng
        self._wall = wall
        self._drain = drain

        self._state = LayerState.CONNECTING
        self.since = wall()

        self._wider = asyncio.Event()
        self._stale = asyncio.Event()
        self._moved = asyncio.Event()

        self._attempts = 0
        self._unproven = False
        """The source was lost, and the session has yet to show that it brings anything."""

        self._line: Line | None = None
        self._widening: Line | None = None  # of a session that pushes: which is to be widened soon
        self._lines: list[Line] = []

        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the first try to connect has ended;
        failed if it makes no sense to try again.
        """

    @property
    def state(self) -> LayerState:
        """Where it stands; `since` tells from when (wall clock, seconds)."""
        if self._state is LayerState.FOLLOWING and (
            not self.layer.ready or self.layer.staging is not None
        ):
            return LayerState.LOADING
        if self._unproven and self._line is not None:
            return LayerState.LOADING
        return self._state

    @property
    def error(self) -> str | None:
        """Why it is not connected, or else what is wrong with a part of the source."""
        return self._error or self.source.trouble

    def registered(self, *, wider: bool) -> None:
        """Something was registered: see to it that it is followed (`wider`: perhaps it is not),
        and up to date.
        """
        self._stale.set()
        line = self._line
        if wider and line is not None and isinstance(line.session, PushSession):
            if self._widening is not line:
                self._widening = line
                line.session.widen_soon(self.widen_now)
        elif wider:
            self._wider.set()

    def widen_now(self) -> None:
        """Let a session that pushes bring what was registered and is to be brought soon."""
        line, self._widening = self._widening, None
        if line is None or line is not self._line:
            return
        assert isinstance(line.session, PushSession)
        try:
            line.session.widen(*self._core.widening(self.layer))
        # G8: it ends the session, not the write that it comes before
        except BaseException as error:
            break_off(line.broken, failure(error))
        self._drain()

    @property
    def is_following(self) -> bool:
        """A session is open, and has brought its snapshot where it began with one:
        it is LOADING neither, see `state`.
        """
        if self._line is None or self._state is not _FOLLOWING:
            return False
        return self.layer.ready and self.layer.staging is None

    async def caught_up(self) -> bool:
        """Wait until all that was committed before is in the core, as far as the source can tell.

        Returns whether it is: not while the session is lost, whose next one shows it.
        """
        while (line := self._line) is not None:
            try:
                await line.session.caught_up()
            except BaseException as error:  # then the next session shows it
                self._say_unexpected(failure(error))
                untrace(error)
                return False
            if not line.retired:
                return line is self._line
            await asyncio.wait((line.ended,))  # and ask the one that took over
        return False

    async def run(self) -> None:
        """Follow the source until cancelled."""
        while True:
            # all watches registered in this turn of the loop share the session
            await asyncio.sleep(0)
            self._wider.clear()
            try:
                await self._one_session()
            except BaseException as error:
                await self._pause(failure(error))

    def close(self) -> None:
        """Its task has ended.

        It still tells where it stood; nothing in it refers to its owner (G9). May be called twice.
        """
        if self._state is not LayerState.CLOSED:
            self._enter(LayerState.CLOSED)
            self._drain = _nothing
            if not self.first.done():  # G12: who waits for the start was not cancelled
                self.first.set_exception(WatchClosed())
                self.first.exception()  # there may be nobody
            del self.first

    async def _pause(self, error: Exception) -> None:
        """Note why the session ended, and wait before the next try."""
        if not self.first.done():
            if isinstance(error, _FATAL) and not self.layer.optional:
                self.first.set_exception(error)
                await asyncio.Event().wait()  # the start fails, and cancels this
            self.first.set_result(None)
        self._lost(error)
        try:
            self._core.lost(self.layer, error)
            self._drain()
        except Exception as unexpected:  # G8: the source is tried again all the same
            self._say_unexpected(unexpected)
        untrace(error)
        if isinstance(error, HistoryLost) and self._attempts == 0:
            self._attempts = 1  # the source answers: ask again at once, but not for ever
            return
        self._attempts += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.reconnect.delay(self._attempts, self._rng)):
                await self._wider.wait()

    def _lost(self, error: Exception) -> None:
        text = text_of(error)
        if self._state is not LayerState.LOST:
            what = "lost" if self._state is LayerState.FOLLOWING else "cannot be reached"
            log.warning("%s: %s: %s; trying again", self.source.name, what, text)
            self._enter(LayerState.LOST)
        elif text != self._error:
            log.warning("%s: by now: %s; trying again", self.source.name, text)
        if text != self._error:  # once, not at every try
            self._say_unexpected(error)
        self._error = text

    def _say_unexpected(self, error: Exception) -> None:
        """G8: what no source is to raise is a mistake somewhere, and has to be found."""
        if not isinstance(error, DataSyncError):
            log.error("%s: unexpected error in the session", self.source.name, exc_info=error)

    def _prove(self) -> None:
        """G8: only what has brought something is connected again: a whole snapshot, or, resumed,
        a frame or a ping.
        """
        self._unproven = False
        if self._state is LayerState.LOST:
            log.info("%s: connected again", self.source.name)
            self.reconnects += 1
        self._enter(LayerState.FOLLOWING)
        self._error = None

    async def _one_session(self) -> None:
        """Follow the source until it is lost; returns where a session has to end before the next
        one is opened.
        """
        loop = asyncio.get_running_loop()
        scopes, resume, added = self._core.opening(self.layer)
        session = await self._open(scopes, resume, added)
        began = loop.time()

        line: Line | None = self._begin(session, self._deliver)
        try:
            self._core.opened(self.layer, resumed=resume is not None)
            self._unproven = self._state is LayerState.LOST
            if not self._unproven:
                self._prove()
            if not self.first.done():
                self.first.set_result(None)

            self._line = line
            if self._wider.is_set() and isinstance(session, PushSession):
                self._wider.clear()
                self.registered(wider=True)
            self._drain()  # somebody may wait for it
            while line is not None:
                line = await self._follow(line)
        finally:
            self._line = None
            if loop.time() - began > _STABLE_AFTER:
                self._attempts = 0
            while self._lines:
                await self._end(self._lines[-1])

    async def _open(self, scopes: Sequence[str], resume: Any, added: Sequence[str]) -> Session:
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                session = await self.source.open(scopes, resume, added)
        except TimeoutError:
            raise Disconnected(f"no answer within {self._options.connect_timeout:g} s") from None
        self.layer.promise(self.source.capabilities)
        return session

    def _begin(self, session: Session, sink: Callable[[Frame], None]) -> Line:
        line = Line(session, sink)
        self._lines.append(line)
        line.taking = asyncio.ensure_future(self._take(line))
        return line

    async def _end(self, line: Line) -> None:
        self._lines.remove(line)
        await line.aclose(self._options.close_timeout)

    async def _follow(self, line: Line) -> Line | None:
        """Look after a session until it fails, or another one has taken over.

        Returns that one, or None where this one has to end first.
        """
        assert line.taking is not None
        pings = asyncio.ensure_future(self._ping(line))
        fresh = asyncio.ensure_future(self._freshen(line))
        widening = asyncio.ensure_future(self._widen(line))
        ends: list[asyncio.Future[Any]] = [line.broken, line.taking, pings, fresh, widening]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(pings, fresh, widening)
        try:
            if not line.broken.done() and not widening.cancelled() and widening.exception() is None:
                await self._end(line)
                return widening.result()
            raise_first(ends)
            raise Disconnected("the session ended")
        finally:
            # G9: what they raise would lead to them by its traceback
            del ends, pings, fresh, widening

    async def _take(self, line: Line) -> None:
        session = line.session
        if isinstance(session, PushSession):
            session.attach(self._inlet(line.broken))
        async for frames in session:
            line.heard = asyncio.get_running_loop().time()
            changes = 0
            for frame in frames:
                line.sink(frame)
                if type(frame) is Commit:
                    changes += len(frame.changes)
                    if changes >= _YIELD_AFTER:
                        changes = 0
                        await asyncio.sleep(0)
            self._moved.set()
        raise Disconnected("the source ended the session")

    def _deliver(self, frame: Frame) -> None:
        self._core.frame(self.layer, frame)
        if self._unproven and not self.layer.loading and self.layer.staging is None:
            self._prove()
        self._drain()

    def _inlet(self, broken: asyncio.Future[None]) -> Callable[[Sequence[Frame]], None]:
        """What a session pushes its frames to. G9: a closed one may go on to hold it, so the line
        is not in it.
        """
        core, layer = self._core, self.layer

        def push(frames: Sequence[Frame]) -> None:
            try:
                for frame in frames:
                    if type(frame) is Commit:
                        core.commit(layer, frame)
                        self._drain()
                    else:
                        self._deliver(frame)
            # G8: it ends the session, not the write that the frame came about by
            except Exception as error:
                break_off(broken, error)

        return push

    async def _ping(self, line: Line) -> None:
        """Find out within seconds that the other side is gone, though the connection says nothing.

        Also while frames come: one server may be busy while another is silent, or go on talking
        when it is no longer the one to ask.
        """
        loop = asyncio.get_running_loop()
        while True:
            # else it is to show at once that it stands
            if not self._unproven or self.layer.loading:
                await asyncio.sleep(self._options.ping_interval)
            began = loop.time()
            try:
                async with asyncio.timeout(self._options.ping_timeout):
                    await line.session.ping()
                if self._unproven and not self.layer.loading:
                    self._prove()
                    self._drain()
            except TimeoutError:
                if line.heard < began:  # else the answer may be held up by frames
                    raise Disconnected(
                        f"no answer to a ping within {self._options.ping_timeout:g} s"
                    ) from None

    # -- what is registered while it runs ----------------------------------------------------------

    async def _freshen(self, line: Line) -> None:
        """G1: bring what was registered up to date.

        Registrations that come together share a call.
        """
        attempt = 0
        while True:
            self._stale.clear()
            if self.layer.fresh >= self.layer.registered:
                await self._stale.wait()
                continue
            try:
                registered = await self._caught_up(line)
            except DataSyncError as error:  # whether the session goes on is not for this to say
                attempt += 1
                await self._postpone(attempt, "cannot tell whether it is up to date", error)
                continue
            attempt = 0
            if line.retired:
                # what it brought was not delivered; this is for the next one to do
                await line.ended
            self._core.caught_up(self.layer, registered)
            self._drain()

    async def _caught_up(self, line: Line) -> int:
        """Let the session bring all that its source has acknowledged.

        Returns how much was registered before.
        """
        registered = self.layer.registered
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await line.session.caught_up()
        except TimeoutError:
            raise Disconnected(f"no answer within {self._options.connect_timeout:g} s") from None
        return registered

    async def _widen(self, line: Line) -> Line | None:
        """Where more is to be watched, open a session that covers it beside this one.

        Returns it when it takes over.
        """
        attempt, unproven = 0, False
        while True:
            await self._wider.wait()
            # all watches registered in this turn of the loop share the session
            await asyncio.sleep(0)
            self._wider.clear()

            try:
                # G8: the position has to be as new as possible: a compacted one would lose the
                # history of all watches
                await self._caught_up(line)
                await self._settled()
                scopes, added = self._core.widening(self.layer)
                if not added:
                    self._drain()
                    continue
                if line.session.exclusive:
                    return None
                return await self._succeed(line, scopes, added, resumes=not unproven)
            except Exception as error:
                if line.retired:
                    raise
                if isinstance(error, HistoryLost) and not unproven:
                    # G8: the source cannot prove that nothing is missing after the position of a
                    # session that goes on: the next one begins with a snapshot of all scopes
                    unproven = True
                    self._wider.set()
                    continue
                unproven = False
                if not isinstance(error, DataSyncError):
                    log.exception(
                        "%s: unexpected error while more is to be watched", self.source.name
                    )
                attempt += 1
                self._wider.set()
                await self._postpone(attempt, "cannot watch more", error)

    async def _succeed(
        self, line: Line, scopes: Sequence[str], added: Sequence[str], *, resumes: bool
    ) -> Line:
        """G9: let the session that is followed go on until another one, which covers `scopes`,
        can take over. Where it `resumes`, and the source can, only what was added is read.
        """
        layer = self.layer
        resume = layer.position if resumes and layer.can_resume and layer.has_revisions else None
        handover = Handover(layer, scopes, scopes if resume is None else added)

        def follow(frame: Frame) -> None:
            handover.followed(frame)
            self._deliver(frame)

        line.sink = follow
        successor: Line | None = None
        try:
            session = await self._open(scopes, resume, [] if resume is None else added)
            successor = self._begin(session, handover.bring)
            await self._brings(successor, lambda: handover.loaded)
            await self._caught_up(line)  # so that it has shown itself what is in the snapshot
            await self._settled()
            registered = await self._caught_up(successor)

            level = await self._is_level(successor, handover)
            line.retired, line.sink = True, decline
            if not level:
                # G3: the snapshot has to hold even what the other one only passed, in a bookmark
                registered = await self._caught_up(successor)
                await self._completes(successor, handover)
        except BaseException:
            if not line.retired:
                line.sink = self._deliver
            if successor is not None:
                await self._end(successor)
            raise

        self._core.switched(layer, scopes)
        for frame in handover.frames():
            self._deliver(frame)
        self._core.caught_up(layer, registered)
        self._drain()
        successor.sink = self._deliver
        self._line = successor
        return successor

    async def _is_level(self, successor: Line, handover: Handover) -> bool:
        """G9: wait for a moment at which the one that takes over is not behind,
        so that nobody has to pause.

        Returns whether it has come: perhaps never, where much is written, and only revisions can
        tell.
        """

        def level() -> bool:
            return handover.level and self.layer.staging is None

        async def brings_soon() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ASK_AFTER):
                    await self._brings(successor, level)

        if not self.layer.has_revisions:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while not level():
                    await brings_soon()
                    # G1: a bookmark that the other one has shown since may not come by itself
                    if not level():
                        await self._caught_up(successor)
        return level()

    async def _completes(self, successor: Line, handover: Handover) -> None:
        """Wait until nothing is missing of what the retired session has shown."""
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await self._brings(successor, lambda: handover.complete)
        except TimeoutError:  # G8: nobody is served meanwhile; another session may bring it
            text = "the session that is to take over does not bring what was shown before it"
            raise Disconnected(text) from None

    async def _brings(self, successor: Line, condition: Callable[[], bool]) -> None:
        """Wait until what it brings makes `condition` true, as long as it answers."""
        assert successor.taking is not None
        pings = asyncio.ensure_future(self._ping(successor))
        condition_met = asyncio.ensure_future(self._until(condition))
        ends = [successor.taking, pings]
        try:
            await asyncio.wait((*ends, condition_met), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(pings, condition_met)
        try:
            if not condition():
                raise_first(ends)
        finally:
            del ends, pings

    async def _settled(self) -> None:
        """Wait for the end of a snapshot that the session has begun, or begins with."""
        layer = self.layer
        await self._until(lambda: not layer.loading and layer.staging is None)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until what a session brings makes `condition` true."""
        while not condition():
            self._moved.clear()
            await self._moved.wait()

    async def _postpone(self, attempt: int, what: str, error: Exception) -> None:
        """Wait before the next try, and show why; what the session brings is taken meanwhile."""
        self._error = why = f"{what}: {error}"
        untrace(error)
        try:
            await asyncio.sleep(self._options.reconnect.delay(attempt, self._rng))
        finally:
            if self._error == why:
                self._error = None

    def _enter(self, state: LayerState) -> None:
        if state is not self._state:
            self._state = state
            self.since = self._wall()


def _nothing() -> None:
    """There is nothing left to drain."""
