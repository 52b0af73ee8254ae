"""The front door for programs without asyncio: the names of `datasync`, whose calls wait.

    with DataSync("sqlite:///agent.db") as sync:
        sync.put("config/mtu", 1500)

All of it is done by a `datasync.DataSync`, in a loop that has a thread of its own. Here stands only
how a call gets there and back; parameters and docstrings are taken from there.
"""

from __future__ import annotations

import atexit
import contextlib
import inspect
import signal
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    ItemsView,
    Iterator,
    Mapping,
    ValuesView,
)
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    overload,
)

from datasync import sync as aio
from datasync import view as aio_view
from datasync import watch as aio_watch
from datasync import writing as aio_writing
from datasync.capabilities import Capabilities
from datasync.errors import *  # noqa: F403 - the names are those of errors.__all__
from datasync.errors import DecodeError, Forked, UsageError, WatchClosed
from datasync.errors import __all__ as _errors
from datasync.events import Change, ChangeEvent, Event, KeyVal, Op, ResyncEvent
from datasync.kvdbsync.memory import local
from datasync.layers import Layer
from datasync.lifetime import Lifetime
from datasync.loop_thread import LoopThread
from datasync.options import DEFAULT_NOTIF_TIMEOUT, Backoff, WatchOptions
from datasync.outcome import Accepted, Verdict
from datasync.report import KeyReport, Report, Reports
from datasync.source import Source
from datasync.status import Status, StatusAddress, WatchState
from datasync.stopping import stop_signals
from datasync.syncbase.runners import is_async
from datasync.transports import open_url, schemes

if TYPE_CHECKING:
    from datasync.panels import Panel

__all__ = [
    "DEFAULT_NOTIF_TIMEOUT",
    "Accepted",
    "Backoff",
    "Capabilities",
    "Change",
    "ChangeEvent",
    "DataSync",
    "Event",
    "KeyReport",
    "KeyVal",
    "Layer",
    "Op",
    "Report",
    "Reports",
    "ResyncEvent",
    "Source",
    "Status",
    "Txn",
    "Verdict",
    "View",
    "Watch",
    "WatchState",
    "local",
    "open_url",
    "schemes",
    *_errors,
]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Handler = Callable[[Event[T]], None]

_WORDS = (
    ("`await ", "`"),
    ("`async for ", "`for "),
    ("`async with ", "`with "),
    ("`aclose`", "`close`"),
)


class _Home:
    """Where the calls of one DataSync are made: in the loop, once it needs one. Before that, and
    after the end of the loop, plain functions are called at once.
    """

    def __init__(self, life: Lifetime) -> None:
        self.life = life
        self._begun = False
        self._thread: LoopThread | None = None
        self._uses: list[LoopThread] = []
        self._lock = threading.Lock()

    def begin(self) -> None:
        """It starts. Raises `UsageError` the second time."""
        with self._lock:
            if self._begun:
                raise UsageError("a DataSync is started once; make a new one")
            self._begun = True

    def need(self) -> None:
        """Have a loop from now on. Raises `Forked`."""
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread.use()
                self._uses.append(self._thread)
        self._thread.check_process()

    def end(self) -> None:
        """Do not need the loop any more. May be called twice."""
        with contextlib.suppress(IndexError):  # of several that close it, one was first
            self._uses.pop().release()

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """A plain function. Raises what it raises, `Forked`."""
        if self._thread is None:
            return function(*args, **kwargs)
        return self._thread.call(function, *args, **kwargs)

    def wait(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """One to be awaited. Raises what it raises, `Forked`, `WrongLoop`; `UsageError` before the
        start.
        """
        if self._thread is None:
            self.life.check()  # raises
        assert self._thread is not None
        return self._thread.wait(function, *args, **kwargs)


def _as(method: Any) -> Callable[[F], F]:
    """Take docstring and parameters from a method, or a property, of the asyncio face."""
    source: Any = method.fget if isinstance(method, property) else method
    signature = inspect.signature(source)
    returned = str(signature.return_annotation).replace("AsyncIterator", "Iterator")

    def described(function: F) -> F:
        text = source.__doc__ or ""
        for word, plain in _WORDS:
            text = text.replace(word, plain)
        function.__doc__ = text
        function.__name__, function.__qualname__ = source.__name__, source.__qualname__
        function.__annotations__ = {**source.__annotations__, "return": returned}
        # mypy knows no signature of a function that could be set
        setattr(function, "__signature__", signature.replace(return_annotation=returned))  # noqa: B010
        return function

    return described


def _like(
    method: Callable[Concatenate[Any, P], R],
) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """The same, for type checkers too."""
    described: Any = _as(method)
    return described  # type: ignore[no-any-return]


def _waits(method: Callable[Concatenate[Any, P], Awaitable[R]]) -> Callable[Concatenate[Any, P], R]:
    """The method that waits for what this one of the asyncio face returns."""

    @_as(method)
    def wait(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        home: _Home = self._home
        return home.wait(method, self._inner, *args, **kwargs)

    return wait


def _calls(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """The method that calls this one of the asyncio face in its loop."""

    @_as(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        home: _Home = self._home
        return home.call(method, self._inner, *args, **kwargs)

    return call


def _passes(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """The method that calls this one of the asyncio face, which is safe in any thread."""

    @_as(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self._inner, *args, **kwargs)

    return call


def _chains(method: Callable[Concatenate[Any, P], Any]) -> Callable[Concatenate[S, P], S]:
    """The method that calls this one of the asyncio face, and returns its object."""

    @_as(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> S:
        inner: Any = getattr(self, "_inner")  # noqa: B009 - of an S mypy knows nothing
        method(inner, *args, **kwargs)
        return self

    return call


class DataSync:
    """`datasync.DataSync` for programs without asyncio: its calls return when they are done.

    It takes the same parameters. Any thread may use it, in the process that it is started in: `with
    sync:`. Handlers are plain functions, each in a thread of its own, and may call it as well.
    Ctrl-C ends a call that waits, and cancels what it waits for. A program that ends without
    `close` closes it at its end. For `status_app`, which lives in a loop of others, there is
    `serve_status`.
    """

    @_like(aio.DataSync.__init__)
    def __init__(self, *sources: Any, **options: Any) -> None:
        self._hold(aio.DataSync(*sources, **options))

    def _hold(self, inner: aio.DataSync) -> None:
        self._inner = inner
        self._home = _Home(inner._life)

    def __repr__(self) -> str:
        return repr(self._inner)

    # -- life --------------------------------------------------------------------------------------

    @_as(aio.DataSync.start)
    def start(self) -> None:
        self._need_loop()
        self._home.begin()
        try:
            self._home.wait(self._inner.start)
        except BaseException:
            self.close()
            raise

    @_as(aio.DataSync.aclose)
    def close(self) -> None:
        self._home.life.check_process()
        try:
            if not self._home.life.closed:
                with LoopThread.used() as thread:  # where it was not started, for this alone
                    thread.wait(self._inner.aclose)
        finally:
            self._home.end()
            atexit.unregister(self._close_at_exit)

    def _need_loop(self) -> None:
        self._home.need()
        atexit.register(self._close_at_exit)

    def _close_at_exit(self) -> None:
        with contextlib.suppress(Forked):
            self.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @_as(aio.DataSync.run)
    def run(self, *, signals: bool = True) -> None:
        def stop(number: int, frame: object) -> None:
            self.stop()

        handled = stop_signals() if signals else ()
        before = {number: signal.signal(number, stop) for number in handled}
        try:
            with contextlib.suppress(WatchClosed), self:  # somebody else closes it
                self._home.wait(self._inner._life.stopped)
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    stop = _passes(aio.DataSync.stop)

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

    @_as(aio.DataSync.watch)
    def watch(self, name: str, *prefixes: str, **options: Any) -> Watch[Any]:
        inner = self._home.call(lambda: self._inner.watch(name, *prefixes, **options))
        return Watch(inner, self._home)

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

    @_as(aio.DataSync.watcher)
    def watcher(self, *prefixes: str, **options: Any) -> Callable[[Handler[Any]], Handler[Any]]:
        register = self._inner.watcher(*prefixes, **options)

        def decorate(handler: Handler[Any]) -> Handler[Any]:
            if is_async(handler):
                raise UsageError(
                    "a handler of datasync.blocking is a plain function, which gets a thread of "
                    "its own; write `def`, or use datasync.DataSync"
                )
            self._home.call(register, handler)
            return handler

        return decorate

    @property
    @_as(aio.DataSync.watches)
    def watches(self) -> Mapping[str, Watch[Any]]:
        return _Watches(self._inner.watches, self._home)

    ready = _waits(aio.DataSync.ready)
    resync = _calls(aio.DataSync.resync)

    @overload
    def view(self, prefix: str = "") -> View[bytes]: ...

    @overload
    def view(self, prefix: str = "", type: type[T] = ...) -> View[T]: ...

    @overload
    def view(self, prefix: str = "", *, types: Mapping[str, type[T]]) -> View[T]: ...

    @_as(aio.DataSync.view)
    def view(
        self,
        prefix: str = "",
        type: type[Any] = bytes,
        *,
        types: Mapping[str, type[Any]] | None = None,
    ) -> View[Any]:
        inner = self._home.call(
            lambda: self._inner.view(prefix, type, types=types)  # type: ignore[call-overload]
        )
        return View(inner, self._home)

    status = _calls(aio.DataSync.status)

    @_as(aio.DataSync.serve_status)
    def serve_status(
        self, address: str, *, health: str | None = None, writable: bool = False
    ) -> StatusAddress:
        self._need_loop()  # it may be called before the start
        return self._home.wait(self._inner.serve_status, address, health=health, writable=writable)

    trace = _calls(aio.DataSync.trace)

    show = _calls(aio.DataSync.show)
    hide = _calls(aio.DataSync.hide)

    @property
    def panels(self) -> Mapping[str, Panel]:
        """The panels that are shown, by name."""
        return self._inner.panels

    # -- writing and reading -----------------------------------------------------------------------

    put = _waits(aio.DataSync.put)
    delete = _waits(aio.DataSync.delete)

    @_as(aio.DataSync.txn)
    def txn(self) -> Txn:
        return Txn(self._home.call(self._inner.txn), self._home)

    @overload
    def get(self, key: str) -> KeyVal[bytes] | None: ...

    @overload
    def get(self, key: str, type: type[T]) -> KeyVal[T] | None: ...

    @_as(aio.DataSync.get)
    def get(self, key: str, type: type[Any] = bytes) -> KeyVal[Any] | None:
        return self._home.wait(self._inner.get, key, type)

    @overload
    def list(self, prefix: str = "", *, keys_only: bool = False) -> Iterator[KeyVal[bytes]]: ...

    @overload
    def list(
        self, prefix: str, type: type[T], *, keys_only: bool = False
    ) -> Iterator[KeyVal[T]]: ...

    @_as(aio.DataSync.list)
    def list(
        self, prefix: str = "", type: type[Any] = bytes, *, keys_only: bool = False
    ) -> Iterator[KeyVal[Any]]:
        pages = self._inner._reader.pages(prefix, type, keys_only=keys_only)
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield from self._home.wait(anext, pages)

    @_as(aio.DataSync.reports)
    def reports(self, prefix: str) -> Iterator[Report]:
        reports = self._home.call(self._inner.reports, prefix)
        try:
            with contextlib.suppress(StopAsyncIteration):
                while True:
                    yield self._home.wait(anext, reports)
        finally:
            self._home.wait(reports.aclose)

    @_as(aio.DataSync.of_agent)
    def of_agent(self, label: str) -> DataSync:
        other = DataSync.__new__(DataSync)
        other._hold(self._inner.of_agent(label))
        return other


class Watch(Generic[T]):
    """What `DataSync.watch` returns.

    As a stream, `for event in watch` brings a RESYNC first, then changes; to ask for the next event
    accepts the one before.
    """

    def __init__(self, inner: aio_watch.Watch[T], home: _Home) -> None:
        self._inner = inner
        self._home = home

    @property
    @_as(aio_watch.Watch.name)
    def name(self) -> str:
        return self._inner.name

    @property
    @_as(aio_watch.Watch.state)
    def state(self) -> WatchState:
        return self._inner.state

    add_prefix = _calls(aio_watch.Watch.add_prefix)
    remove_prefix = _calls(aio_watch.Watch.remove_prefix)
    decode = _calls(aio_watch.Watch.decode)
    report = _calls(aio_watch.Watch.report)
    close = _calls(aio_watch.Watch.close)

    def __iter__(self) -> Iterator[Event[T]]:
        return _Stream(self._home.call(aiter, self._inner), self._home)

    def __repr__(self) -> str:
        return repr(self._inner)


class _Stream(Iterator[Event[T]]):
    """One `for` over a watch."""

    def __init__(self, inner: AsyncIterator[Event[T]], home: _Home) -> None:
        self._inner = inner
        self._home = home
        self._came: Event[T] | None = None

    def __next__(self) -> Event[T]:
        # else it came while the wait for it was interrupted: to ask for the next would accept it
        if self._came is None:
            self._home.wait(self._take)
        event, self._came = self._came, None
        assert event is not None
        return event

    async def _take(self) -> None:
        self._came = await anext(self._inner)


class _Watches(Mapping[str, Watch[Any]]):
    """The open watches by name, as they are when one looks."""

    def __init__(self, inner: Mapping[str, aio_watch.Watch[Any]], home: _Home) -> None:
        self._inner = inner
        self._home = home

    def __getitem__(self, name: str) -> Watch[Any]:
        return Watch(self._inner[name], self._home)

    def __iter__(self) -> Iterator[str]:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)

    def items(self) -> ItemsView[str, Watch[Any]]:
        held = {name: Watch(watch, self._home) for name, watch in self._inner.items()}
        return held.items()

    def values(self) -> ValuesView[Watch[Any]]:
        return dict(self.items()).values()

    def __repr__(self) -> str:
        return repr(self._inner)


class View(Mapping[str, T]):
    """The state as of now, key by key, for any thread. Raises `NotReady` before the first complete
    snapshot.

    Each read decodes the value again, so it belongs to the reader. Each read, and each loop over
    its keys, `values()` or `items()`, shows the state between two transactions, never half of one.
    `dict(view)` makes many reads; write `dict(view.items())`.

    A view keeps what is under its prefix in memory, until it is closed (`close`, or the end of a
    `with` block) or dropped.
    """

    def __init__(self, inner: aio_view.View[T], home: _Home) -> None:
        self._inner = inner
        self._home = home

    close = _passes(aio_view.View.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getitem__(self, key: str) -> T:
        return self._inner[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)

    def __contains__(self, key: object) -> bool:
        return key in self._inner

    @_as(aio_view.View.items)
    def items(self, *, skip_undecodable: bool = False) -> ItemsView[str, T]:
        return self._inner.items(skip_undecodable=skip_undecodable)

    @_as(aio_view.View.values)
    def values(self) -> ValuesView[T]:
        return self._inner.values()

    @property
    @_as(aio_view.View.undecodable)
    def undecodable(self) -> Mapping[str, DecodeError]:
        return self._inner.undecodable

    raw = _passes(aio_view.View.raw)
    revision = _passes(aio_view.View.revision)
    at_least = _waits(aio_view.View.at_least)

    def __repr__(self) -> str:
        return repr(self._inner)


class Txn:
    """Writes that are done together or not at all; made by `DataSync.txn`.

    The calls can be chained.
    """

    def __init__(self, inner: aio_writing.Txn, home: _Home) -> None:
        self._inner = inner
        self._home = home

    put = _chains(aio_writing.Txn.put)
    delete = _chains(aio_writing.Txn.delete)
    if_revision = _chains(aio_writing.Txn.if_revision)
    commit = _waits(aio_writing.Txn.commit)

    def __len__(self) -> int:
        return len(self._inner)
