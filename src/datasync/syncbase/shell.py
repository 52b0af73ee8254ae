"""The shell: the asyncio part of the engine, around the core. It owns the feeds, the handlers and the timer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from datasync.errors import HistoryChanged, WatchClosed
from datasync.events import Event
from datasync.options import Options
from datasync.source import Source
from datasync.syncbase.core import Core, Layer
from datasync.syncbase.feed import Feed
from datasync.syncbase.scopes import Scopes
from datasync.syncbase.subscriber import Subscriber
from datasync.texts import logger

__all__ = ["UNCONFIRMED", "Shell"]

UNCONFIRMED = "closed before the watches reported; the write itself stands"

log = logger("datasync")

_NOTHING = Scopes()
_NARROW_PAUSE = 10
"""How many times as long as it took, what is needed no more is not forgotten again."""


class Shell:
    """Runs a core in the event loop. Nothing here is entered twice: effects are carried out by the outermost call."""

    def __init__(
        self,
        sources: Sequence[tuple[Source, str, bool]],
        options: Options,
        rng: random.Random,
        wall: Callable[[], float],
    ) -> None:
        self._sources = [source for source, _, _ in sources]
        self._options = options
        self._rng = rng
        self._wall = wall
        layers = [
            Layer(index, name, source.capabilities, optional=optional)
            for index, (source, name, optional) in enumerate(sources)
        ]
        self.core = Core(layers, options, self._now, wall, rng)
        self._requests = self.core.requests
        self._timers = self.core.delivery.timers.heap
        self.feeds: list[Feed] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: set[asyncio.Future[None]] = set()
        self._draining = False
        self._narrowed: dict[Subscriber, None] = {}  # to be resynced, for something was taken from them
        self._narrowing: asyncio.Handle | None = None
        self._narrow_at = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._waiters: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._verdicts: dict[asyncio.Future[Any], None] = {}
        self.closed = False
        """Closing has begun: the watches vote no more."""

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect all sources; ends when each has been tried once. Raises what makes no sense to retry."""
        self._loop = asyncio.get_running_loop()
        self.core.delivery.clock = self._loop.time
        for sub in list(self.core.subscribers):
            sub.runner.start()
        self.drain()
        self.feeds = [
            Feed(source, layer, self.core, self._options, self._rng, self._wall, self.drain)
            for source, layer in zip(self._sources, self.core.layers, strict=True)
        ]
        self._tasks = [
            self._loop.create_task(feed.run(), name=f"datasync feed {feed.layer.name}") for feed in self.feeds
        ]
        required = [feed.first for feed in self.feeds if not feed.layer.optional]
        await asyncio.gather(*required)

    async def aclose(self) -> None:
        """Close the watches and end the sessions, within `close_timeout`; whoever waits gets `WatchClosed`."""
        self.closed = True
        # the waiters first, for closing the watches might look like what they wait for; then the watches from the
        # last to the first, so that none gets the turn of one that is closed
        for waiter in self._waiters:
            _fail(waiter, WatchClosed("the DataSync has been closed"))
        self._waiters.clear()
        for verdict in self._verdicts:
            _fail(verdict, WatchClosed(UNCONFIRMED))
        for sub in reversed(list(self.core.subscribers)):
            self.close(sub)
        for handle in (self._timer, self._narrowing):
            if handle is not None:
                handle.cancel()
        current = asyncio.current_task()
        for future in (*self._tasks, *self._ending):
            if isinstance(future, asyncio.Task) and future is not current:
                future.cancel()
        await self._ended(self._tasks)
        self._tasks.clear()

    async def handlers_ended(self) -> None:
        """Wait, for at most `close_timeout`, until the handlers have ended that had an event when their watch closed.

        G12: not a part of `aclose`, for a handler that takes its time must not keep the sources open.
        """
        await self._ended(self._ending)

    async def _ended(self, futures: Iterable[asyncio.Future[None]]) -> None:
        current = asyncio.current_task()
        ending = [future for future in futures if future is not current]
        if ending:
            _, stuck = await asyncio.wait(ending, timeout=self._options.close_timeout)
            for future in stuck:
                log.warning("closed without %s, which does not end", future)

    # -- watches -------------------------------------------------------------------------------------------------

    def add(self, sub: Subscriber) -> None:
        """Register a watch, also while running."""
        self.core.add(sub)
        if self._loop is not None:
            sub.runner.start()
            self.drain()

    def close(self, sub: Subscriber) -> None:
        """Close a watch. Its handler may finish what it is doing."""
        if sub.closed:
            return
        self.core.close(sub)
        ending = sub.runner.stop()
        sub.runner = sub.report = None  # they lead back to it
        self._narrow_soon()
        if ending is not None and not ending.done():
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        self.drain()

    def widen(self, sub: Subscriber, scope: str) -> None:
        """Let a watch see more."""
        self.core.add_scope(sub, scope)
        self.drain()

    def narrow(self, sub: Subscriber, scope: str) -> None:
        """Let a watch see less. What is taken from it in the same turn of the loop is one RESYNC."""
        self.core.remove_scope(sub, scope)
        self._narrow_soon()
        if self._loop is not None:
            if not self._narrowed:
                self._loop.call_soon(self._resync_narrowed)
            self._narrowed[sub] = None

    def _resync_narrowed(self) -> None:
        narrowed, self._narrowed = self._narrowed, {}
        for sub in narrowed:
            self.core.delivery.pump(sub)
        self.drain()

    def knows(self, scope: str) -> bool:
        """Whether the core holds a scope completely, as far as this process alone can bring it about."""
        if self.core.covers(scope):
            return True
        self.widen_now()
        return self.core.covers(scope)

    def widen_now(self) -> None:
        """Let sources in this process bring what was registered in this turn of the loop."""
        for feed in self.feeds:
            feed.widen_now()

    def release(self, scope: str) -> None:
        """A view needs `scope` no more. Safe from any thread, for views may be dropped anywhere."""
        self.core.release(scope)
        self._narrow_soon()

    def _narrow_soon(self) -> None:
        """In the next turn of the loop, for watches are often closed, and prefixes removed, together. Where that
        happens one by one it takes a tenth of the time at most, for it costs as much as there are watches."""
        if self._loop is None or self.closed or self._narrowing is not None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._narrowing = self._loop.call_soon_threadsafe(self._narrow)

    def _narrow(self) -> None:
        assert self._loop is not None
        began = self._now()
        if began < self._narrow_at:
            self._narrowing = self._loop.call_at(self._narrow_at, self._narrow)
            return
        self._narrowing = None
        self.core.narrow()
        self._narrow_at = began + _NARROW_PAUSE * (self._now() - began)
        self.drain()

    def report(self, event: Event[Any], error: BaseException | None) -> None:
        """A handler reports on its event."""
        self.core.delivery.report(event, error)
        if not self._draining:
            self.drain()

    def ask(self, sub: Subscriber) -> None:
        """A handler is idle, or somebody waits in a stream."""
        self.core.delivery.ask(sub)
        if not self._draining:
            self.drain()

    def unask(self, sub: Subscriber, event: Event[Any] | None) -> None:
        """Whoever waited in the stream has gone away."""
        self.core.delivery.unask(sub, event)
        self.drain()

    # -- waiting -------------------------------------------------------------------------------------------------

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the core was told makes `condition` true. Raises what it raises, `WatchClosed`."""
        if condition():
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters[future] = condition
        try:
            await future
        finally:
            self._waiters.pop(future, None)

    @contextlib.contextmanager
    def awaiting(self, verdict: asyncio.Future[Any]) -> Iterator[None]:
        """Within the block, closing makes `verdict` fail with `WatchClosed`."""
        self._verdicts[verdict] = None
        try:
            yield
        finally:
            del self._verdicts[verdict]

    def unfollowed(self, layer: Layer, keys: Iterable[str]) -> list[str]:
        """Those of the keys that watches want, and the session of the layer does not bring now."""
        following = self.feeds[layer.index].is_following
        return self.core.confirmer.wanted(keys, but=layer.complete if following else _NOTHING)

    async def caught_up(self, layer: Layer, keys: Iterable[str]) -> None:
        """Wait until all that was committed to the layer's source before this call is in the core, as far as watches
        want these keys, and the source can tell. Raises `WatchClosed`."""
        feed, told = self.feeds[layer.index], False
        while not told and self.core.confirmer.wanted(keys):
            await self.wait_until(lambda: not self.unfollowed(layer, keys))
            told = await feed.caught_up()
            if not told:
                await asyncio.sleep(self._options.reconnect.initial)

    async def wait_for_revision(self, layer: Layer, revision: int) -> None:
        """Wait until the mirror has that revision of the layer. Raises `HistoryChanged`."""
        epoch = layer.epoch

        def reached() -> bool:
            if layer.epoch != epoch:
                raise HistoryChanged(
                    f"{layer.name} has a new history, revision {revision} belongs to the old one; read again"
                )
            return layer.ready and layer.revision >= revision

        await self.wait_until(reached)

    # -- the loop ------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Carry out what the core asks for. What that brings about re-enters the core and is carried out here too."""
        while self._requests:
            request = self._requests.popleft()
            if self.feeds:
                self.feeds[request.layer].registered(wider=request.wider)
        if self._draining:
            return
        delivery = self.core.delivery
        effects = delivery.effects
        self._draining = True
        try:
            while effects:
                effect = effects.popleft()
                sub = effect._ticket
                if sub.event is effect:  # it may have been closed meanwhile
                    try:
                        sub.runner.deliver(effect)
                    except Exception as error:  # G8: not of the handler; its event must not be left out for ever
                        log.exception("%s: unexpected error in handing over an event", sub.name)
                        delivery.report(effect, error)
                    if sub.event is effect:
                        delivery.delivered(sub)
        finally:
            self._draining = False
        timers = self._timers
        if timers and timers[0][0] < self._timer_at:
            self._set_timer(timers[0][0])
        if self._waiters:
            self._check_waiters()

    def _check_waiters(self) -> None:
        for future, condition in list(self._waiters.items()):
            if not future.done():
                try:
                    if condition():
                        future.set_result(None)
                except Exception as error:
                    future.set_exception(error)

    def _set_timer(self, when: float) -> None:
        if self._loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._due, when)

    def _due(self, when: float) -> None:
        # G7: while the loop was busy with something else no handler went on, nor was heard: it has as long again
        assert self._loop is not None
        self._timer = self._loop.call_later(self._now() - when, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self.core.delivery.tick()
        self.drain()

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waits may be cancelled before hearing it
