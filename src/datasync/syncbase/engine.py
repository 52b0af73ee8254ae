"""The engine, which all of the front door asks: the core, and the asyncio part around it.

It owns the feeds, the handlers and the timer, and hands none of them out.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from datasync.errors import BadKey, HistoryChanged, WatchClosed
from datasync.events import Decode, Event, Record
from datasync.options import Options
from datasync.outcome import KeyOutcome, Listener
from datasync.scopes import Scopes
from datasync.source import Source
from datasync.status import Status
from datasync.syncbase.confirm import Write
from datasync.syncbase.core import Core, Layer
from datasync.syncbase.effects import Onlooker, Tracing
from datasync.syncbase.feed import Feed
from datasync.syncbase.mirror import Pairs
from datasync.syncbase.outstanding import Stage
from datasync.syncbase.picture import not_started, status_of
from datasync.syncbase.subscriber import Subscriber
from datasync.texts import logger, printable

if TYPE_CHECKING:
    from datasync.syncbase.standing import Standing

__all__ = ["UNCONFIRMED", "Engine"]

UNCONFIRMED = "closed before the watches reported; the write itself stands"

log = logger("datasync")

_OUT = Stage.OUT
_NOTHING = Scopes()
_NARROW_PAUSE = 10
"""The pause until what is not needed is forgotten again, in multiples of the time that it took."""


class Engine:
    """Runs a core in the event loop.

    Nothing here is entered twice: effects are carried out by the outermost call.

    rng, wall: random numbers for jitter, and Unix time; a simulation has its own.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, str, bool]],
        options: Options,
        rng: random.Random | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._sources = [source for source, _, _ in sources]
        self._options = options
        # the system's: from any other, processes that are forked later would draw the same numbers
        self.rng = rng or random.SystemRandom()
        """Random numbers, also for what is built upon this."""
        self.wall = wall
        """Unix time, also for what is built upon this."""
        self.layers = [
            Layer(index, name, source.capabilities, optional=optional)
            for index, (source, name, optional) in enumerate(sources)
        ]

        lock = threading.RLock()  # reentrant, for a signal handler may read a view, too
        self._core = Core(self.layers, options, self.now, wall, self.rng, lock)
        self._delivery = self._core.delivery
        self._requests = self._core.requests
        self._timers = self._delivery.timers.heap

        self._feeds: list[Feed] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: dict[asyncio.Future[None], str] = {}
        """Handlers that may finish what they are doing, with the names of their watches."""
        self._draining = False

        # to be resynced, for something was taken from them
        self._narrowed: dict[Subscriber, None] = {}
        self._narrowing: asyncio.Handle | None = None
        self._narrow_at = -math.inf
        self._released: deque[str] = deque()  # by threads that are not the loop's, too

        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

        self._waiters: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._verdicts: dict[asyncio.Future[Any], None] = {}

        self.closed = False
        """Closing has begun: the watches do not vote any more."""

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect all sources; ends when each has been tried once.

        Raises what makes no sense to retry.
        """
        self._loop = asyncio.get_running_loop()
        self._delivery.clock = _clock_of(self._loop)
        self._take_released()
        for sub in list(self._core.subscribers):
            sub.runner.start()
        self.drain()
        self._feeds = [
            Feed(source, layer, self._core, self._options, self.rng, self.wall, self.drain)
            for source, layer in zip(self._sources, self.layers, strict=True)
        ]
        self._tasks = [
            self._loop.create_task(feed.run(), name=f"datasync feed {feed.layer.name}")
            for feed in self._feeds
        ]
        required = [feed.first for feed in self._feeds if not feed.layer.optional]
        await asyncio.gather(*required)

    async def aclose(self) -> None:
        """Close the watches and end the sessions, within `close_timeout`;
        calls that wait raise `WatchClosed`.
        """
        self.closed = True

        # the waiters first, for closing the watches might look like what they wait for; then the
        # watches from the last to the first, so that none gets the turn of one that is closed
        for waiter in self._waiters:
            _fail(waiter, WatchClosed())
        self._waiters.clear()
        for verdict in self._verdicts:
            _fail(verdict, WatchClosed(UNCONFIRMED))

        for sub in reversed(list(self._core.subscribers)):
            self.close(sub)

        for handle in (self._timer, self._narrowing):
            if handle is not None:
                handle.cancel()

        current = asyncio.current_task()
        for future in (*self._tasks, *self._ending):
            if isinstance(future, asyncio.Task) and future is not current:
                future.cancel()

        try:
            await self._ended({task: task.get_name() for task in self._tasks})
        finally:
            self._tasks.clear()
            for feed in self._feeds:
                feed.close()

    async def handlers_ended(self) -> None:
        """Wait, for at most `close_timeout`, until the handlers have ended that had an event when
        their watch closed.

        G12: not a part of `aclose`, for a handler that takes its time must not keep the sources
            open.
        """
        named = {ending: f"the handler of {name!r}" for ending, name in self._ending.items()}
        await self._ended(named)

    async def _ended(self, futures: Mapping[asyncio.Future[None], str]) -> None:
        current = asyncio.current_task()
        ending = [future for future in futures if future is not current]
        if ending:
            _, stuck = await asyncio.wait(ending, timeout=self._options.close_timeout)
            for future in stuck:
                log.warning("closed, though %s does not end", printable(futures[future]))

    # -- watches -----------------------------------------------------------------------------------

    def add(self, sub: Subscriber) -> None:
        """Register a watch that has its runner, also while running."""
        sub.report = sub.runner.report
        self._core.add(sub)
        if self._loop is not None:
            sub.runner.start()
            self.drain()

    def close(self, sub: Subscriber) -> None:
        """Close a watch. Its handler may finish what it is doing."""
        if sub.closed:
            return
        self._core.close(sub)
        ending = sub.runner.stop()
        sub.runner = sub.report = None  # they lead back to it
        self._narrow_soon()
        if ending is not None and not ending.done():
            self._ending[ending] = sub.name
            ending.add_done_callback(self._ending.pop)
        self.drain()

    def widen(self, sub: Subscriber, scope: str, decode: Decode[Any]) -> None:
        """Let a watch see more; events that are made from now on decode their values so."""
        sub.spec = msgspec.structs.replace(sub.spec, decode=decode)
        self._core.add_scope(sub, scope)
        self.drain()

    def narrow(self, sub: Subscriber, scope: str) -> None:
        """Let a watch see less.

        What is taken from it in the same turn of the loop is one RESYNC.
        """
        self._core.remove_scope(sub, scope)
        self._narrow_soon()
        if self._loop is not None:
            if not self._narrowed:
                self._loop.call_soon(self._resync_narrowed)
            self._narrowed[sub] = None

    def _resync_narrowed(self) -> None:
        narrowed, self._narrowed = self._narrowed, {}
        for sub in narrowed:
            self._delivery.pump(sub)
        self.drain()

    def resync(self, sub: Subscriber | None) -> None:
        """Resync one watch, or all in a round, because the application asks for it."""
        self._core.resync(sub)
        self.drain()

    def _narrow_soon(self) -> None:
        """Forget what is not needed, in the next turn of the loop: watches are often closed, and
        prefixes removed, together.

        Its cost grows with the number of watches, so where they go one by one there is a pause
        before the next time: it takes a tenth of the time at most.
        """
        if self._loop is None or self.closed or self._narrowing is not None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._narrowing = self._loop.call_soon_threadsafe(self._narrow)

    def _narrow(self) -> None:
        assert self._loop is not None
        self._narrowing = None  # first: what another thread releases from now on is seen to later
        if self.closed:
            return
        self._take_released()
        began = self.now()
        if began < self._narrow_at:
            self._narrowing = self._loop.call_at(self._narrow_at, self._narrow)
            return
        self._core.narrow()
        self._narrow_at = began + _NARROW_PAUSE * (self.now() - began)
        self.drain()

    def _take_released(self) -> None:
        while self._released:
            self._core.release(self._released.popleft())

    async def ready(self) -> None:
        """Wait until every handler, and every stream that somebody iterates,
        has accepted its RESYNC, and all is known that views show.

        Raises `WatchClosed`.
        """
        core = self._core
        awaited: deque[Subscriber] = deque()

        def all_accepted() -> bool:
            # asked at each step of a round, which goes through them in order: so each of them is
            # looked at once
            while awaited and not _is_awaited(awaited[0]):
                awaited.popleft()
            if not awaited:
                awaited.extend(filter(_is_awaited, core.watches))
            return not awaited

        await self.wait_until(lambda: core.started and all_accepted() and core.views_filled)

    @property
    def is_ready(self) -> bool:
        """Whether `ready` would return at once."""
        core = self._core
        return core.started and not self.awaited() and core.views_filled

    def awaited(self) -> list[str]:
        """The names of the watches that `ready` waits for."""
        return [sub.name for sub in self._core.watches if _is_awaited(sub)]

    def status(self) -> Status:
        """Where everything stands, as plain data."""
        if not self._feeds:
            return not_started(self.layers, self._core.watches, closed=self.closed)
        # from the clock to Unix time
        return status_of(self._feeds, self._core.watches, self.wall() - self.now())

    # -- what is known -----------------------------------------------------------------------------

    def hold(self, scope: str) -> int:
        """Keep a scope though no watch needs it (for views).

        Returns what `covers` wants to know.
        """
        registered = self._core.hold(scope)
        if self._loop is not None:
            self.drain()
        return registered

    def release(self, scope: str) -> None:
        """Undo one `hold`. Safe from any thread, for views may be dropped anywhere."""
        self._released.append(scope)
        self._narrow_soon()

    def covers(self, scope: str, registered: int = 0) -> bool:
        """Whether all of a scope is known, and as fresh as a watch registered
        then may expect (G1).
        """
        return self._core.coverage.covers(scope, registered)

    def knows(self, scope: str) -> bool:
        """Whether all of a scope is known; in the loop, also where this process alone can bring
        that about now. Safe from any thread.
        """
        covers = self._core.coverage.covers
        if covers(scope):
            return True
        if self._loop is None or asyncio._get_running_loop() is not self._loop:
            return False
        self.widen_now()
        return covers(scope)

    @property
    def has_watches(self) -> bool:
        """Whether the application has registered any watch."""
        return not all(sub.aside for sub in self._core.subscribers)

    def widen_now(self) -> None:
        """Let sources in this process bring what was registered in this turn of the loop."""
        for feed in self._feeds:
            feed.widen_now()

    def read(self, key: str) -> Record | None:
        """What is known of a key. Safe from any thread."""
        return self._core.mirror.get(key)

    def count(self, prefix: str) -> int:
        """How many keys are known under a prefix."""
        return self._core.mirror.count(prefix)

    def keys(self, prefix: str) -> Iterator[str]:
        """Those keys, in order, as they are now."""
        return self._core.mirror.keys(prefix)

    def items(self, scope: str) -> Pairs:
        """What is known of a scope, in key order. Safe from any thread."""
        return self._core.mirror.under(scope)

    @property
    def started(self) -> bool:
        """Whether the first state of all layers that the start waits for is known."""
        return self._core.started

    def look_on(self, onlooker: Onlooker) -> None:
        """Let somebody hear of all that becomes known from now on."""
        self._core.onlookers.append(onlooker)

    def look_away(self, onlooker: Onlooker) -> None:
        """Undo `look_on`, which has been called."""
        self._core.onlookers.remove(onlooker)

    def trace(self, tracing: Tracing) -> None:
        """Let it hear of all that becomes known, is handed over and is reported from now on."""
        self._delivery.tracing = tracing
        self.look_on(tracing)

    def now(self) -> float:
        """The clock of its loop, in seconds."""
        assert self._loop is not None
        return self._loop.time()

    def stand(self) -> Standing:
        """Keep note, from now on, of what is known of the outcomes; to be called once."""
        from datasync.syncbase.standing import Standing  # hashes, which few need

        standing = Standing(self._core, self.wall)
        self._delivery.witness = standing
        self.look_on(standing)
        return standing

    def stand_down(self, standing: Standing) -> None:
        """Stop keeping note. G9: it leads to the core, and the core to it."""
        self._delivery.witness = None
        self.look_away(standing)

    def new_identity(self) -> str:
        """A name that nobody else has."""
        return f"{self.rng.getrandbits(128):032x}"

    async def fresh(self) -> None:
        """Wait until all that was committed before is in the core, as far as watches and views
        want it, of the sources that are followed.
        """
        for feed in self._feeds:
            await feed.caught_up()

    # -- what runners say --------------------------------------------------------------------------

    def report(self, event: Event[Any], error: BaseException | None) -> None:
        """A handler reports on its event."""
        self._delivery.report(event, error)
        if not self._draining:
            self.drain()

    def report_keys(self, sub: Subscriber, said: Mapping[str, KeyOutcome]) -> None:
        """A watch says what became of keys that are open. Raises `BadKey` for one that it does not
        watch.
        """
        opened = sub.mailbox.open
        unknown = [key for key in said if key not in opened and key not in sub.scopes]
        if unknown and not sub.closed:
            raise BadKey(
                f"{sub.name!r} does not watch the key {unknown[0]!r}; name keys as `change.key` "
                "shows them"
            )
        self._delivery.report_keys(sub, said)
        if not self._draining:
            self.drain()

    def finished(self, event: Event[Any], error: BaseException | None) -> None:
        """A handler has returned, or raised."""
        self._delivery.finished(event, error)
        if not self._draining:
            self.drain()

    def ask(self, sub: Subscriber) -> None:
        """A handler is idle, or somebody waits in a stream."""
        self._delivery.ask(sub)
        if not self._draining:
            self.drain()

    def unask(self, sub: Subscriber, event: Event[Any] | None) -> None:
        """The reader of the stream has gone away."""
        self._delivery.unask(sub, event)
        self.drain()

    # -- waiting -----------------------------------------------------------------------------------

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the core was told makes `condition` true.

        Raises what it raises, `WatchClosed`.
        """
        if condition():
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters[future] = condition
        try:
            await future
        finally:
            self._waiters.pop(future, None)

    async def turn(self) -> None:
        """Wait until the core is told of anything at all. Raises `WatchClosed`."""
        looks = itertools.count()
        await self.wait_until(lambda: next(looks) > 0)

    @contextlib.contextmanager
    def awaiting(self, verdict: asyncio.Future[Any]) -> Iterator[None]:
        """Within the block, closing makes `verdict` fail with `WatchClosed`."""
        self._verdicts[verdict] = None
        try:
            yield
        finally:
            del self._verdicts[verdict]

    # -- writes ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def confirming(self, layer: Layer, writes: Mapping[str, bytes | None]) -> Iterator[Write]:
        """Within the block these keys of a layer are written: what brings them is looked out for,
        to `confirm` it.
        """
        write = layer.confirmations.begin(writes)
        try:
            yield write
        finally:
            layer.confirmations.end(write)
        self.drain()

    def confirm(
        self,
        layer: Layer,
        write: Write,
        revision: int | None,
        reply: Listener,
        by_key: Mapping[str, int],
        vain: Container[str],
    ) -> None:
        """Answer `reply` with what the watches make of a write that has been done;
        see `Confirmer.confirm`.
        """
        self._core.confirmer.confirm(layer, write, revision, reply, by_key, vain)

    @property
    def patience(self) -> float:
        """Seconds in which the verdict of watches comes that are not stuck."""
        return max(self._options.resync_timeout + self._options.ack_timeout, self._core.slowest)

    def follows(self, layer: Layer) -> bool:
        """Whether the session of the layer brings all that watches want."""
        return not layer.widening and self._feeds[layer.index].is_following

    def unfollowed(self, layer: Layer, keys: Iterable[str]) -> list[str]:
        """Those of the keys that watches want, and the session of the layer does not bring now."""
        following = self._feeds[layer.index].is_following
        return self._core.confirmer.wanted(keys, but=layer.complete if following else _NOTHING)

    async def caught_up(self, layer: Layer, keys: Iterable[str]) -> None:
        """Wait until all that was committed to the layer's source before this call is in the core,
        as far as watches want these keys, and the source can tell.

        Raises `WatchClosed`.
        """
        feed, told = self._feeds[layer.index], False
        while not told and self._core.confirmer.wanted(keys):
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
                    f"{layer.name} has a new history, revision {revision} belongs to the old one; "
                    "read again"
                )
            return layer.ready and layer.revision >= revision

        await self.wait_until(reached)

    # -- the loop ----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Carry out what the core asks for.

        What that brings about re-enters the core and is carried out here too.
        """
        while self._requests:
            request = self._requests.popleft()
            if self._feeds:
                self._feeds[request.layer].registered(wider=request.wider)

        if self._draining:
            return

        delivery = self._delivery
        effects, tracing = delivery.effects, delivery.tracing
        self._draining = True
        try:
            while effects:
                event = effects.popleft()
                sub: Subscriber = event._ticket
                out = sub.outstanding
                if out is None or out.event is not event or out.stage is not _OUT:
                    continue  # it was closed meanwhile
                sub.stats.given_at = delivery.clock()
                try:
                    runner = sub.runner
                    context = runner.context
                    if tracing is not None and not sub.aside:
                        context = tracing.given(sub.name, event, context)
                    runner.deliver(event, context)
                # G8: a fault of ours, not of the handler, whose event must not be lost
                except Exception as error:
                    log.exception("%s: unexpected error in handing over an event", sub.name)
                    delivery.report(event, error)
                    delivery.ask(sub)  # no handler has it, so none will ask
                if sub.outstanding is out and sub.has(event):
                    delivery.delivered(sub, event)
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
        assert self._loop is not None
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._due, when)

    def _due(self, when: float) -> None:
        # G7: while the loop was busy with something else no handler could go on or be heard: they
        # get as long again
        assert self._loop is not None
        self._timer = self._loop.call_later(self.now() - when, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._delivery.tick()
        self.drain()


def _clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The clock of a loop. asyncio's own loops use `time.monotonic`: asking that saves a call."""
    its_own = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time
    return time.monotonic if its_own else loop.time


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # the caller may be cancelled before it is told


def _is_awaited(sub: Subscriber) -> bool:
    """Whether `ready` waits for this watch."""
    return not (sub.follows or sub.closed) and sub.runner.attended
