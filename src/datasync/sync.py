"""The front door: DataSync."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import msgspec

from datasync.checks import names_of
from datasync.errors import (
    AlreadyRegistered,
    NotReady,
    UsageError,
    WatchClosed,
)
from datasync.events import Event, KeyVal
from datasync.keyspace import KeySpace
from datasync.layers import Layer, close_sources, open_layers, targets_of
from datasync.lifetime import Lifetime
from datasync.options import DEFAULT_NOTIF_TIMEOUT, Backoff, Options, WatchOptions
from datasync.reading import Reader
from datasync.report import Report, Reports
from datasync.shared import closed_on_error
from datasync.source import Committed, Operation, Source
from datasync.status import PanelStatus, Status, StatusAddress
from datasync.stopping import stop_signals
from datasync.syncbase.engine import Engine
from datasync.syncbase.runners import runner_for
from datasync.syncbase.subscriber import Spec, Subscriber
from datasync.texts import logger
from datasync.transports import load, open_url
from datasync.value_types import ValueTypes, check_shown, outermost
from datasync.view import View
from datasync.watch import Watch, Watches, scopes_of
from datasync.writing import Txn, Writer

if TYPE_CHECKING:
    from datasync.panels import Panel
    from datasync.reports.agent import Reporter
    from datasync.reports.asking import Asking
    from datasync.reports.reader import Fleet
    from datasync.restsync.app import RestApp
    from datasync.restsync.status_page import StatusPage
    from datasync.serving.known import Known

__all__ = ["DataSync"]

log = logger("datasync.panels")

T = TypeVar("T")
Handler = Callable[[Event[T]], Awaitable[None] | None]


_OWN_PANELS = ("agents", "reports")
_PANEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


class DataSync:
    """Keeps the parts of an application in step with one source, or several as layers.

    sources: URLs, `Source` objects or `Layer`s; a later one overrides an earlier one key by key.
    label: the keys live under /vnf-agent/<label>/ and are named relative to it; not together with
        `prefix`.
    prefix: the keys live under it and are named relative to it; by default they are all keys of the
        sources.
    codec: how protobuf messages are stored, "json" (the default) or "proto".
    recovery: "auto" (the default) resumes after a fault if it is proven that nothing was missed,
        "resync" never does.
    ack_timeout: seconds that a handler has for a CHANGE before it is overdue; default 2.
    resync_timeout: seconds that a handler has for a RESYNC before it is overdue; default 30.
    backlog: changes that may wait for a watch before they are folded; default 1024.
    retries: tries of a CHANGE before it becomes a RESYNC; default 5.
    retry: the waits between these tries; by default from 0.1 s, doubled each time, up to 10 s.
    reconnect: the waits between tries to reach a source; the same by default.
    connect_timeout: seconds that a source has to open a session; default 10.
    ping_interval: seconds between two pings of a source; default 3.
    ping_timeout: seconds that a source has to answer one, else it counts as lost; default 3.
    close_timeout: seconds that closing waits for the sessions, for each source, and for the
        handlers; default 5.
    write_to: the name or names of the sources that take the writes; not needed where there is only
        one source.
    report_to: where it reports what it has applied and what not, for others to read: a prefix,
        relative to `prefix` or `label`, in the source that takes the writes, or a URL or Source of
        its own; by default it does not.
    agent: the name that it reports under; by default the label.

    A DataSync belongs to the event loop and process it is started in: `async with sync:`. Raises
    `BadUrl`, `MissingExtra`, `BadPrefix`, `UsageError`.
    """

    _make_engine: Callable[[Sequence[tuple[Source, str, bool]], Options], Engine] = Engine

    def __init__(
        self,
        *sources: str | Source | Layer,
        label: str | None = None,
        prefix: str | None = None,
        codec: str = "json",
        recovery: str = "auto",
        ack_timeout: float = DEFAULT_NOTIF_TIMEOUT,
        resync_timeout: float = 30.0,
        backlog: int = 1024,
        retries: int = 5,
        retry: Backoff = Backoff(),  # noqa: B008 - frozen
        reconnect: Backoff = Backoff(),  # noqa: B008 - frozen
        connect_timeout: float = 10.0,
        ping_interval: float = 3.0,
        ping_timeout: float = 3.0,
        close_timeout: float = 5.0,
        write_to: str | Sequence[str] | None = None,
        report_to: str | Source | None = None,
        agent: str | None = None,
    ) -> None:
        if not sources:
            raise UsageError("a DataSync needs a source; for example DataSync('memory://')")

        self._options = Options(
            codec=codec, recovery=recovery, ack_timeout=ack_timeout, resync_timeout=resync_timeout,
            backlog=backlog,
            retries=retries, retry=retry, reconnect=reconnect, connect_timeout=connect_timeout,
            ping_interval=ping_interval, ping_timeout=ping_timeout, close_timeout=close_timeout,
        )  # fmt: skip

        self._keys, self._life = KeySpace.of(label, prefix), Lifetime()
        self._write_to = write_to

        self._layers = open_layers(sources)
        opened = [
            (self._keys.seen(layer.source), layer.name or "", layer.optional)
            for layer in self._layers
            if isinstance(layer.source, Source)
        ]

        self._engine = self._make_engine(opened, self._options)
        chosen = targets_of([name for _, name, _ in opened], write_to)
        self._writer = Writer(
            self._engine,
            [(opened[index][0], self._engine.layers[index]) for index in chosen],
            self._keys,
            self._options,
        )

        self._sources = [source for source, _, _ in opened]
        self._writer.ask = self._ask
        self._asking: dict[tuple[str, str | Source | None], Asking] = {}
        self._fleets: dict[Fleet, None] = {}
        self._stores: list[DataSync] = []
        self._panels: dict[str, Panel] = {}

        self._reporter: Reporter | None = None
        if report_to is not None:
            self._report(report_to, label if agent is None else agent)
        elif agent is not None:
            raise UsageError("agent= names who reports; give report_to='status/' beside it")

        self._reader = Reader(self._sources, self._life, self._keys, self._options)
        self._watches: dict[str, Watch[Any]] = {}
        self._pages = AsyncExitStack()

    def __repr__(self) -> str:
        where = [repr(layer.name) for layer in self._layers]
        if self._keys.root:
            where.append(f"prefix={self._keys.root!r}")
        return f"{type(self).__name__}({', '.join(where)})"

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect. Returns when each source has been tried once; the RESYNCs come by themselves.

        A source that cannot be reached is tried again for ever. Raises `Unauthorized`, `BadStore`,
        and `WatchClosed` where it is closed before or meanwhile.
        """
        self._life.begin()
        for source in self._sources:
            source.attach(self.status, self._panels)
        async with closed_on_error(self.aclose):
            await self._engine.start()
            for store in self._stores:
                await store.start()
                store._sources[0].attach(self.status, self._panels)
            if self._reporter is not None:
                self._reporter.start()

    async def aclose(self) -> None:
        """End every task and close the sources, within `close_timeout` each;
        waiters get `WatchClosed`.
        """
        if self._life.closed:
            return
        self._life.end()
        self._watches.clear()
        try:
            try:
                await self._reports_ended()
            finally:
                await self._engine_closed()
            await self._engine.handlers_ended()
        finally:
            # the last, so that the probes answer as long as anything ends
            await self._pages.aclose()
            self._life.stop()

    async def _reports_ended(self) -> None:
        ending = [asking.aclose() for asking in self._asking.values()]
        if self._reporter is not None:
            ending.append(self._reporter.aclose())
        try:
            await asyncio.gather(*ending)
        finally:  # G9: they lead back here
            self._writer.ask = None
            self._asking.clear()
            stores, self._stores = self._stores, []
            await asyncio.gather(*(store.aclose() for store in stores))

    async def _engine_closed(self) -> None:
        try:
            await self._engine.aclose()
        finally:
            await close_sources(self._sources, self._options.close_timeout)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def run(self, *, signals: bool = True) -> None:
        """Start, serve until SIGINT, SIGTERM, `stop` or `aclose`, and close.

        signals: False leaves SIGINT and SIGTERM to the program; default True. One that the program
            was started to ignore stays ignored, and outside the main thread all are left to it.
        """
        loop = asyncio.get_running_loop()
        handled = stop_signals() if signals else ()
        for number in handled:
            loop.add_signal_handler(number, self.stop)
        try:
            try:
                async with self:
                    await self._life.stopped()
            except WatchClosed:  # by another task, before it had started
                await self._life.stopped()
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Let `run` close it and return.

        Safe to call from any thread, and before `run`, which then ends once it has started.
        """
        self._life.stop()

    # -- watching ----------------------------------------------------------------------------------

    @overload
    def watch(self, name: str, *prefixes: str, **options: Unpack[WatchOptions]) -> Watch[bytes]: ...

    @overload
    def watch(
        self, name: str, *prefixes: str, type: type[T], **options: Unpack[WatchOptions]
    ) -> Watch[T]: ...

    @overload
    def watch(
        self,
        name: str,
        *prefixes: str,
        types: Mapping[str, type[T]],
        **options: Unpack[WatchOptions],
    ) -> Watch[T]: ...

    def watch(
        self, name: str, *prefixes: str, keys: Sequence[str] = (), type: type[Any] = bytes,
        types: Mapping[str, type[Any]] | None = None,
        after: Sequence[str] = (), backlog: int | None = None, ack_timeout: float | None = None,
        resync_timeout: float | None = None, retries: int | None = None,
        retry: Backoff | None = None,
    ) -> Watch[Any]:  # fmt: skip
        """Register a stream: `async for event in watch`. RESYNCs follow the order of registration.

        name: what the watch is called in `watches`, in `after=` and in the status.
        prefixes: end in a slash; "" is everything.
        keys: single keys.
        type: what the values decode to; default bytes, as they are stored.
        types: instead of `type`, what they decode to by prefix: that of the longest prefix counts,
            and keys under none of them stay bytes. Where neither prefixes nor keys are given, these
            prefixes are watched.
        after: names of watches, registered before, that settle their part of a transaction first.
        backlog, ack_timeout, resync_timeout, retries, retry: as for the `DataSync`, whose they are
            by default.

        Raises `AlreadyRegistered`, `BadPrefix`, `BadKey`, `UsageError`.
        """
        options = WatchOptions(
            keys=keys,
            after=after,
            backlog=backlog,
            ack_timeout=ack_timeout,
            resync_timeout=resync_timeout,
            retries=retries,
            retry=retry,
        )
        return self._register(name, prefixes, type, types, None, options)

    @overload
    def watcher(
        self, *prefixes: str, name: str | None = None, **options: Unpack[WatchOptions]
    ) -> Callable[[Handler[bytes]], Handler[bytes]]: ...

    @overload
    def watcher(
        self,
        *prefixes: str,
        name: str | None = None,
        type: type[T],
        **options: Unpack[WatchOptions],
    ) -> Callable[[Handler[T]], Handler[T]]: ...

    @overload
    def watcher(
        self,
        *prefixes: str,
        name: str | None = None,
        types: Mapping[str, type[Any]],
        **options: Unpack[WatchOptions],
    ) -> Callable[[Handler[Any]], Handler[Any]]: ...

    def watcher(
        self, *prefixes: str, name: str | None = None, keys: Sequence[str] = (),
        type: type[Any] = bytes, types: Mapping[str, type[Any]] | None = None,
        after: Sequence[str] = (), backlog: int | None = None, ack_timeout: float | None = None,
        resync_timeout: float | None = None, retries: int | None = None,
        retry: Backoff | None = None,
    ) -> Callable[[Handler[Any]], Handler[Any]]:  # fmt: skip
        """Register a function as the handler of a watch: returning accepts the event,
        raising does not.

        The name is that of the function unless given. A plain function runs in a thread of its own.
        For the rest, see `watch`.

        Raises `UsageError` for what cannot handle an event: it takes one argument, the event, and
        is not a generator; and what `watch` raises.
        """
        options = WatchOptions(
            keys=keys,
            after=after,
            backlog=backlog,
            ack_timeout=ack_timeout,
            resync_timeout=resync_timeout,
            retries=retries,
            retry=retry,
        )
        if prefixes and callable(prefixes[0]):
            raise UsageError(
                "`watcher` is called before it decorates: write @sync.watcher('config/') with the "
                "prefixes to watch"
            )

        def register(handler: Handler[Any]) -> Handler[Any]:
            self._register(
                name or str(getattr(handler, "__name__", "handler")),
                prefixes,
                type,
                types,
                handler,
                options,
            )
            return handler

        return register

    @property
    def watches(self) -> Mapping[str, Watch[Any]]:
        """The open watches by name, in their resync order; those of handlers too.

        It always shows them as they are now.
        """
        return Watches(self._watches)

    async def ready(self, timeout: float | None = None) -> None:
        """Wait, for at most `timeout` seconds, until every handler, and every stream that somebody
        iterates, has accepted its RESYNC, and every view can be read.

        Raises `NotReady` (naming who has not), `WatchClosed`.
        """
        self._life.check()
        try:
            async with asyncio.timeout(timeout):
                await self._engine.ready()
        except TimeoutError:
            missing = ", ".join(map(repr, self._engine.awaited())) or "the sources"
            raise NotReady(f"not ready after {timeout:g} s: {missing}; see status()") from None

    def resync(self, name: str | None = None) -> None:
        """Ask for a RESYNC of one watch, or a round of all of them.

        Raises `UsageError` for an unknown name.
        """
        self._life.check()
        self._engine.resync(None if name is None else self._find(name))

    @overload
    def view(self, prefix: str = "") -> View[bytes]: ...

    @overload
    def view(self, prefix: str = "", type: type[T] = ...) -> View[T]: ...

    @overload
    def view(self, prefix: str = "", *, types: Mapping[str, type[T]]) -> View[T]: ...

    def view(
        self,
        prefix: str = "",
        type: type[Any] = bytes,
        *,
        types: Mapping[str, type[Any]] | None = None,
    ) -> View[Any]:
        """The current state under `prefix`, as a live read-only mapping.

        type, types: what the values decode to, as for `watch`.

        Raises `BadPrefix`, `UsageError`.
        """
        self._keys.check_prefix(prefix)
        self._life.check_open()
        values = ValueTypes.of(type, types, self._options.codec, self._keys)
        check_shown(types or (), [prefix], "the view")
        registered = self._engine.hold(prefix)
        written = next((layer for _, layer in self._writer.targets), self._engine.layers[-1])
        return View(self._engine, prefix, registered, values.decode, written, self._life)

    def status(self) -> Status:
        """Where everything stands, as plain data; also after the end."""
        status = self._engine.status()
        if not self._panels:
            return status
        panels = [_measured(panel) for panel in [*self._panels.values()]]
        return Status(status.sources, status.watches, panels)

    def show(self, panel: Panel) -> None:
        """Show a part of the application on the status page, and its measures among the metrics,
        until `hide`.

        panel: of a class that extends `Panel`, which the module `panels` has.

        Raises `AlreadyRegistered` for a name that another one has, `UsageError` for what is no
        name.
        """
        name = getattr(panel, "name", None)
        if not isinstance(name, str) or not _PANEL_NAME.fullmatch(name):
            raise UsageError(f"a panel has a name like my-part, not {name!r}")
        if name in _OWN_PANELS or self._panels.setdefault(name, panel) is not panel:
            raise AlreadyRegistered(f"there is a panel named {name!r} already; choose another name")

    def hide(self, panel: Panel) -> None:
        """Stop showing it; one that is not shown may be hidden, too."""
        if self._panels.get(panel.name) is panel:
            del self._panels[panel.name]

    @property
    def panels(self) -> Mapping[str, Panel]:
        """The panels that are shown, by name."""
        return dict(self._panels)

    async def serve_status(
        self, address: str, *, health: str | None = None, writable: bool = False
    ) -> StatusAddress:
        """Serve the status page, the metrics (`/metrics`) and the keys that are known here, until
        `aclose`. Returns where; it may be called before the start.

        address: host:port, on this machine alone, where port 0 is any that is free; or
            http://host:port?token=... for others, or https:// with `cert=`, `key=` and `ca=` or
            `token=`, as docs/rest.md has it.
        health: host:port for probes alone, open to anybody: `/healthz` is 200 while the event loop
            answers, `/readyz` once `ready` would return, else 503. By default there is none.
        writable: let requests write, as `put` does; by default they only read.

        Raises `BadUrl`, `UsageError`, `BadStore` where nothing can listen there, `MissingExtra`.
        """
        self._life.check_open()
        serve = load("datasync.restsync.status_page:serve", "rest", "the status page")
        pages = AsyncExitStack()
        served: StatusAddress = await serve(
            self._known(writable=writable), self.status, self._panels,
            lambda: self._engine.is_ready, self._life.check_open, pages, address, health,
        )  # fmt: skip
        if self._life.closed:  # meanwhile
            await pages.aclose()
        self._life.check_open()
        self._pages.push_async_callback(pages.aclose)
        return served

    def status_app(self, *, writable: bool = False) -> RestApp:
        """The same as an ASGI application, to be mounted in one that says who may come.

        writable: as for `serve_status`.

        Raises `MissingExtra`.
        """
        self._life.check_open()
        make = load("datasync.restsync.status_page:StatusPage", "rest", "the status page")
        page: StatusPage = make(
            self._known(writable=writable), self.status, self._panels, self._life.check_open
        )
        self._pages.push_async_callback(page.aclose)
        return page.app

    def trace(self, provider: Any = None) -> None:
        """Make spans of OpenTelemetry from now on: one for each write, and one for each event, from
        its delivery to the verdict, within the trace of the write that brought it.

        provider: the tracer provider; by default the global one.

        Raises `MissingExtra`; `UsageError` the second time.
        """
        self._life.check_open()
        if self._writer.tracing is not None:
            raise UsageError("this DataSync is traced already; call trace() once")
        tracing = load("datasync.tracing:Tracing", "otel", "trace()")(provider)
        self._engine.trace(tracing)
        self._writer.tracing = tracing

    # -- writing and reading -----------------------------------------------------------------------

    async def put(
        self,
        key: str,
        value: object,
        *,
        ttl: float | None = None,
        if_revision: int | None = None,
        confirm: bool | float | Reports = False,
    ) -> int | None:
        """Store `value` under `key`; returns its revision where the source has one.

        ttl: seconds until it is deleted; by default it stays.
        if_revision: write only if the key is at that revision (0: absent).
        confirm: wait for the verdict of the watches: True, or a number of seconds to wait at most;
            or, over any store, for that of the agents that report there: `Reports("status/")`.

        Raises `BadKey`, `BadValue`, `UnsupportedOption`, `Disconnected`, `OutcomeUnknown`,
        `NotReady` (then nothing was written); `Conflict` where the key is at another revision,
        `NotApplied` for any verdict but ACCEPTED.
        """
        self._life.check()
        operations: list[Operation] = [self._writer.put(key, value, ttl)]
        if if_revision is not None:
            operations.insert(0, self._writer.check(key, if_revision))
        return (await self._writer.commit(operations, confirm)).revision

    async def delete(
        self,
        key: str,
        *,
        prefix: bool = False,
        if_revision: int | None = None,
        confirm: bool | float | Reports = False,
    ) -> bool:
        """Delete `key`, or everything under it where `prefix`.

        Returns whether there was anything; else as `put`.
        """
        self._life.check()
        operations: list[Operation] = [self._writer.delete(key, prefix=prefix)]
        if if_revision is not None:
            operations.insert(0, self._writer.check(key, if_revision))
        return any((await self._writer.commit(operations, confirm)).existed)

    def txn(self) -> Txn:
        """Writes to be done together: `await sync.txn().put(a, 1).delete(b).commit()`."""
        self._life.check()
        return Txn(self._writer, self._life)

    @overload
    async def get(self, key: str) -> KeyVal[bytes] | None: ...

    @overload
    async def get(self, key: str, type: type[T]) -> KeyVal[T] | None: ...

    async def get(self, key: str, type: type[Any] = bytes) -> KeyVal[Any] | None:
        """The value of `key` as the source has it now, or None.

        With several layers: as `view` has it.
        """
        return await self._reader.get(key, type)

    @overload
    def list(
        self, prefix: str = "", *, keys_only: bool = False
    ) -> AsyncIterator[KeyVal[bytes]]: ...

    @overload
    def list(
        self, prefix: str, type: type[T], *, keys_only: bool = False
    ) -> AsyncIterator[KeyVal[T]]: ...

    def list(
        self, prefix: str = "", type: type[Any] = bytes, *, keys_only: bool = False
    ) -> AsyncIterator[KeyVal[Any]]:
        """All pairs under `prefix`, read page by page during the iteration; without their values
        where `keys_only`.
        """
        return self._reader.list(prefix, type, keys_only=keys_only)

    def reports(self, prefix: str) -> AsyncGenerator[Report]:
        """What agents report below `prefix`, with `report_to=`: first each as it stands, then
        whenever it reports again. It ends with the iteration, at the latest with `aclose`.

        prefix: ends in a slash, as "status/".

        Raises `BadPrefix`, `WatchClosed`.
        """
        from datasync.reports.form import Place  # hashes, which few need
        from datasync.reports.reader import follow

        self._life.check()
        self._keys.check_prefix(prefix)
        place = Place(prefix)
        self._show_agents()
        watch = self._register_aside(f"reports at {prefix}", [place.all_progress, place.all_open])
        return follow(watch, place, self._engine.wall, self._fleets)

    def of_agent(self, label: str) -> DataSync:
        """A DataSync of its own over the same sources, for the keys of another agent (Go:
        OfDifferentAgent).
        """
        return DataSync(
            *self._layers,
            label=label,
            write_to=self._write_to,
            **msgspec.structs.asdict(self._options),
        )

    # -- within ------------------------------------------------------------------------------------

    def _register(
        self,
        name: str,
        prefixes: Sequence[str],
        kind: type[Any],
        kinds: Mapping[str, type[Any]] | None,
        handler: Handler[Any] | None,
        given: WatchOptions,
    ) -> Watch[Any]:
        self._life.check_open()
        if not isinstance(name, str) or not name:
            raise UsageError("a watch has a name; give it some text")
        if name in self._watches:
            raise AlreadyRegistered(f"there is a watch named {name!r} already; choose another name")

        options, after = self._options.of_watch(given), given["after"]
        types = ValueTypes.of(kind, kinds, options.codec, self._keys)
        if kinds and not (prefixes or given["keys"]):
            prefixes = outermost(kinds)
        scopes = scopes_of(prefixes, given["keys"], self._keys)
        check_shown(kinds or (), scopes, repr(name))

        others = [self._find(other) for other in names_of(after, "after=")]
        watch = self._made(name, scopes, types, handler, options, after=others)
        self._watches[name] = watch
        self._engine.add(watch._sub)
        return watch

    def _register_aside(
        self, name: str, scopes: Sequence[str], handler: Handler[bytes] | None = None
    ) -> Watch[bytes]:
        """Register a watch that serves datasync itself, and is none of the application's."""
        options = self._options
        types = ValueTypes.of(bytes, None, options.codec, self._keys)
        watch = self._made(name, scopes, types, handler, options, aside=True)
        self._engine.add(watch._sub)
        return watch

    def _made(
        self,
        name: str,
        scopes: Sequence[str],
        types: ValueTypes,
        handler: Handler[Any] | None,
        options: Options,
        *,
        after: Sequence[Subscriber] = (),
        aside: bool = False,
    ) -> Watch[Any]:
        """A watch that is not registered yet."""
        spec = Spec(
            name,
            types.decode,
            options.backlog,
            options.ack_timeout,
            options.resync_timeout,
            options.retries,
            options.retry,
            aside,
        )
        sub = Subscriber(spec, scopes, after=after)
        sub.runner = runner_for(sub, self._engine, handler)
        return Watch(self._engine, sub, types, self._life, self._keys, self._forget)

    def _report(self, report_to: str | Source, agent: str | None) -> None:
        """Report from the start on. Raises what `report_to=` and `agent=` may raise."""
        from datasync.reports.agent import Reporter  # hashes, which few need
        from datasync.reports.destination import Destination
        from datasync.reports.panel import ReportsPanel

        given = [layer.source for layer in self._layers if isinstance(layer.source, Source)]
        sources = list(zip(given, self._sources, strict=True))
        targets = [source for source, _ in self._writer.targets]
        to = Destination.of(report_to, agent, self._keys, sources, targets)
        if to.watched:
            self._keys = msgspec.structs.replace(self._keys, reports=to.place.prefix)

        layers, register = self._engine.layers, self._register_aside
        written: Sequence[Source] = [to.source]
        if to.elsewhere:
            layer, written = layers[0] if len(layers) == 1 else None, self._sources
            register = self._elsewhere(to.source)._register_aside
        else:
            layer = layers[self._sources.index(to.source)]
        self._reporter = Reporter(
            self._engine, to, self._options, self._keys.root, layer, written, register
        )
        self._panels[ReportsPanel.name] = ReportsPanel(self._reporter)

    async def _ask(self, operations: Sequence[Operation], reports: Reports) -> Committed:
        """Write, and ask agents that report what became of it."""
        asking = self._asking.get((reports.prefix, reports.at))
        if asking is None:
            asking = await self._begin_to_ask(reports.prefix, reports.at)
        return await asking.commit(operations, reports)

    async def _begin_to_ask(self, prefix: str, at: str | Source | None) -> Asking:
        from datasync.reports.asking import Asking  # hashes, which few need
        from datasync.reports.form import Place

        self._keys.check_prefix(prefix)
        written = source = self._writer.targets[0][0]
        asks = self
        if at is not None:
            there = open_url(at) if isinstance(at, str) else at
            if isinstance(at, str):
                there.create = False  # where there is no store no agent reports
            source = self._keys.seen(there)
            asks = self._elsewhere(source)
            await asks.start()
        asking = self._asking[prefix, at] = Asking(
            asks._engine, source, written, self._keys, Place(prefix), asks._register_aside
        )
        self._show_agents()
        return asking

    def _show_agents(self) -> None:
        """From now on, those that are read and asked."""
        from datasync.reports.panel import AgentsPanel  # hashes, which few need

        if AgentsPanel.name not in self._panels:
            self._panels[AgentsPanel.name] = AgentsPanel(self._fleets, self._asking.values())

    def _elsewhere(self, source: Source) -> DataSync:
        """A DataSync for what reports need in another store, which is closed with this one."""
        store = self._another(Layer(source, optional=True))
        self._stores.append(store)
        return store

    def _another(self, layer: Layer) -> DataSync:
        """One of the same options, for that layer alone."""
        return DataSync(layer, **msgspec.structs.asdict(self._options))

    def _known(self, *, writable: bool) -> Known:
        make = load("datasync.serving.known:Known", "rest", "the status page")
        known: Known = make(
            self._engine, self._sources, self._writer.commit_for_others if writable else None
        )
        return known

    def _forget(self, watch: Watch[Any]) -> None:
        """It has been closed: nothing here leads to it any more (G9)."""
        if self._watches.get(watch.name) is watch:
            del self._watches[watch.name]

    def _find(self, name: str) -> Subscriber:
        watch = self._watches.get(name)
        if watch is None or watch._sub.closed:
            raise UsageError(f"there is no watch named {name!r}; register it first")
        return watch._sub


def _measured(panel: Panel) -> PanelStatus:
    """The numbers of a panel; a fault in it is its own."""
    try:
        return PanelStatus(panel.name, [*panel.measures()])
    except Exception as error:
        log.error("the panel %s cannot be measured", panel.name, exc_info=error)
        return PanelStatus(panel.name, [])
