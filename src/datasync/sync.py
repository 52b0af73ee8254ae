"""The front door: DataSync."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from datasync.checks import check_key, check_prefix
from datasync.codec import codec_for
from datasync.errors import (
    AlreadyRegistered,
    Forked,
    NotReady,
    UsageError,
    WatchClosed,
    WrongLoop,
)
from datasync.events import ChangeEvent, KeyVal, ResyncEvent, record_type
from datasync.layers import Layer, close_sources, open_layers, root_of, targets_of
from datasync.options import DEFAULT_NOTIF_TIMEOUT, Backoff, Options
from datasync.source import Operation, Source
from datasync.status import Status, status_of
from datasync.stopping import stop_signals
from datasync.syncbase.root import Rooted
from datasync.syncbase.runners import AsyncRunner, Runner, StreamRunner, ThreadRunner
from datasync.syncbase.shell import Shell
from datasync.syncbase.subscriber import Subscriber
from datasync.view import View
from datasync.watch import Watch, Watches, scopes_of
from datasync.writing import Txn, Writer

__all__ = ["DataSync"]

T = TypeVar("T")
Handler = Callable[[ResyncEvent[T] | ChangeEvent[T]], Awaitable[None] | None]

_PAGE = 1000

_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class DataSync:
    """Keeps the parts of an application in step with one source, or several as layers.

    sources: URLs, Source objects, or `Layer`s; a later one overrides an earlier one key by key.
    label, prefix: where the keys live: under /vnf-agent/<label>/, or under `prefix`; keys are relative to it.
    codec: how protobuf messages are stored, "json" or "proto".
    recovery: "auto" (after a fault, resume where it is proven that nothing was missed) or "resync" (always RESYNC).
    ack_timeout, resync_timeout: seconds that a handler has for a CHANGE, for a RESYNC, before it is overdue.
    backlog: changes that may wait for a watch before they are folded. retries: tries before an event becomes a RESYNC.
    retry, reconnect: the waits between tries. write_to: the name or names of the layers that take the writes.

    A DataSync belongs to the event loop and process it is started in: `async with sync:`. Raises `BadUrl`,
    `MissingExtra`, `BadPrefix`, `UsageError`.
    """

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
        rng: random.Random | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if not sources:
            raise UsageError("a DataSync needs a source; for example DataSync('memory://')")
        if codec not in ("json", "proto"):
            raise UsageError(f"codec={codec!r} is unknown; use 'json' or 'proto'")
        if recovery not in ("auto", "resync"):
            raise UsageError(f"recovery={recovery!r} is unknown; use 'auto' or 'resync'")
        self._root = root_of(label, prefix)
        self._given: dict[str, Any] = {
            "codec": codec, "recovery": recovery, "ack_timeout": ack_timeout, "resync_timeout": resync_timeout,
            "backlog": backlog, "retries": retries, "retry": retry, "reconnect": reconnect,
            "connect_timeout": connect_timeout, "ping_interval": ping_interval, "ping_timeout": ping_timeout,
            "close_timeout": close_timeout,
        }  # fmt: skip
        _check_limits(
            backlog, retries=retries, ack_timeout=ack_timeout, resync_timeout=resync_timeout,
            connect_timeout=connect_timeout, ping_interval=ping_interval, ping_timeout=ping_timeout,
            close_timeout=close_timeout,
        )  # fmt: skip
        self._options = Options(**self._given)
        self._write_to = write_to
        self._layers = open_layers(sources)
        opened = [
            (Rooted(layer.source, self._root) if self._root else layer.source, layer.name or "", layer.optional)
            for layer in self._layers
            if isinstance(layer.source, Source)
        ]
        self._shell = Shell(opened, self._options, rng or random.Random(), wall)  # noqa: S311 - for jitter
        chosen = targets_of([name for _, name, _ in opened], write_to)
        self._writer = Writer(
            self._shell,
            [(opened[index][0], self._shell.core.layers[index]) for index in chosen],
            self._options,
            rooted=bool(self._root),
        )
        self._reads = opened[-1][0] if len(opened) == 1 else None
        self._sources = [source for source, _, _ in opened]
        self._watches: dict[str, Watch[Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fork = 0
        self._closed = False

    def __repr__(self) -> str:
        where = [repr(layer.name) for layer in self._layers]
        if self._root:
            where.append(f"prefix={self._root!r}")
        return f"{type(self).__name__}({', '.join(where)})"

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect. Returns when each source has been tried once; the RESYNCs come by themselves.

        A source that cannot be reached is tried again for ever. Raises `Unauthorized`, `BadStore`.
        """
        if self._loop is not None:
            raise UsageError("a DataSync is started once; make a new one")
        self._loop, self._fork = asyncio.get_running_loop(), _forks
        for source in self._sources:
            source.used_by(self.status)
        try:
            await self._shell.start()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End every task and close the sources, within `close_timeout` each; waiters get `WatchClosed`."""
        if self._closed:
            return
        if self._loop is not None:
            self._check_place()
        self._closed = True
        self._watches.clear()
        try:
            await self._shell.aclose()
        finally:
            await close_sources(self._sources, self._options.close_timeout)
        await self._shell.handlers_ended()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def run(self) -> None:
        """Start, serve until SIGINT or SIGTERM, and close. One that the program was started to ignore stays ignored."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        signals = stop_signals()
        for number in signals:
            loop.add_signal_handler(number, stop.set)
        try:
            async with self:
                await stop.wait()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    # -- watching ------------------------------------------------------------------------------------------------

    @overload
    def watch(
        self, name: str, *prefixes: str, keys: Sequence[str] = (), after: Sequence[str] = (),
        backlog: int | None = None, ack_timeout: float | None = None, resync_timeout: float | None = None,
    ) -> Watch[bytes]: ...  # fmt: skip

    @overload
    def watch(
        self, name: str, *prefixes: str, keys: Sequence[str] = (), type: type[T], after: Sequence[str] = (),
        backlog: int | None = None, ack_timeout: float | None = None, resync_timeout: float | None = None,
    ) -> Watch[T]: ...  # fmt: skip

    def watch(
        self, name: str, *prefixes: str, keys: Sequence[str] = (), type: type[Any] = bytes,
        after: Sequence[str] = (), backlog: int | None = None, ack_timeout: float | None = None,
        resync_timeout: float | None = None,
    ) -> Watch[Any]:  # fmt: skip
        """Register a stream: `async for event in watch`. RESYNCs follow the order of registration.

        prefixes end in a slash (or are ""), keys name single keys; type is what values decode to; after names
        watches, registered before, whose part of a transaction has to settle first. backlog, ack_timeout and
        resync_timeout override those of the DataSync. Raises `AlreadyRegistered`, `BadPrefix`, `BadKey`.
        """
        return self._register(
            name, prefixes, keys, type, after, backlog, ack_timeout, resync_timeout,
            lambda sub: StreamRunner(sub, self._shell),
        )  # fmt: skip

    @overload
    def watcher(
        self, *prefixes: str, name: str | None = None, keys: Sequence[str] = (), after: Sequence[str] = (),
        backlog: int | None = None, ack_timeout: float | None = None, resync_timeout: float | None = None,
    ) -> Callable[[Handler[bytes]], Handler[bytes]]: ...  # fmt: skip

    @overload
    def watcher(
        self, *prefixes: str, name: str | None = None, keys: Sequence[str] = (), type: type[T],
        after: Sequence[str] = (), backlog: int | None = None, ack_timeout: float | None = None,
        resync_timeout: float | None = None,
    ) -> Callable[[Handler[T]], Handler[T]]: ...  # fmt: skip

    def watcher(
        self, *prefixes: str, name: str | None = None, keys: Sequence[str] = (), type: type[Any] = bytes,
        after: Sequence[str] = (), backlog: int | None = None, ack_timeout: float | None = None,
        resync_timeout: float | None = None,
    ) -> Callable[[Handler[Any]], Handler[Any]]:  # fmt: skip
        """Register a function as the handler of a watch: returning accepts the event, raising does not.

        The name is that of the function unless given. A plain function runs in a thread of its own. For the rest,
        see `watch`.
        """

        def register(handler: Handler[Any]) -> Handler[Any]:
            kind: Callable[..., Runner] = AsyncRunner if _is_async(handler) else ThreadRunner
            self._register(
                name or str(getattr(handler, "__name__", "handler")),
                prefixes, keys, type, after, backlog, ack_timeout, resync_timeout,
                lambda sub: kind(sub, self._shell, handler),
            )  # fmt: skip
            return handler

        return register

    @property
    def watches(self) -> Mapping[str, Watch[Any]]:
        """The open watches by name, in their resync order; those of handlers too. It shows them as they are by now."""
        return Watches(self._watches)

    async def ready(self, timeout: float | None = None) -> None:
        """Wait, for at most `timeout` seconds, until every handler, and every stream that somebody iterates, has
        accepted its RESYNC, and every view can be read. Raises `NotReady` (naming who has not), `WatchClosed`."""
        self._check()
        core = self._shell.core
        awaited: deque[Subscriber] = deque()

        def all_accepted() -> bool:
            # asked at each step of a round, which goes through them in order: those before the first are looked at once
            while awaited and not _is_awaited(awaited[0]):
                awaited.popleft()
            if not awaited:
                awaited.extend(filter(_is_awaited, core.subscribers))
            return not awaited

        try:
            async with asyncio.timeout(timeout):
                await self._shell.wait_until(lambda: core.started and all_accepted() and core.views_filled)
        except TimeoutError:
            missing = ", ".join(repr(sub.name) for sub in core.subscribers if _is_awaited(sub)) or "the sources"
            raise NotReady(f"not ready after {timeout:g} s: {missing}; see status()") from None

    def resync(self, name: str | None = None) -> None:
        """Ask for a RESYNC of one watch, or a round of all of them. Raises `UsageError` for an unknown name."""
        self._check()
        self._shell.core.resync(None if name is None else self._find(name))
        self._shell.drain()

    @overload
    def view(self, prefix: str = "") -> View[bytes]: ...

    @overload
    def view(self, prefix: str = "", type: type[T] = ...) -> View[T]: ...

    def view(self, prefix: str = "", type: type[Any] = bytes) -> View[Any]:
        """The current state under `prefix`, as a live read-only mapping. Raises `BadPrefix`."""
        check_prefix(prefix, bool(self._root))
        self._check(started=False)
        registered = self._shell.core.hold(prefix)
        if self._loop is not None:
            self._shell.drain()
        layers = self._shell.core.layers
        written = next((layer for _, layer in self._writer.targets), layers[-1])
        decode = codec_for(type, self._options.codec).decode
        return View(self._shell, prefix, registered, decode, written, self._check)

    def status(self) -> Status:
        """Where everything stands, as plain data; also after the end."""
        return status_of(self._shell)

    # -- writing and reading -------------------------------------------------------------------------------------

    async def put(
        self,
        key: str,
        value: object,
        *,
        ttl: float | None = None,
        if_revision: int | None = None,
        confirm: bool | float = False,
    ) -> int | None:
        """Store `value` under `key`; returns its revision where the source has one.

        ttl: seconds until it is deleted. if_revision: only if the key is at that revision (0: absent), else
        `Conflict`. confirm: wait (True, or at most so many seconds) for the verdict of the watches; any but ACCEPTED
        raises `NotApplied`. Raises `BadKey`, `BadValue`, `UnsupportedOption`, `Disconnected`, `OutcomeUnknown`.
        """
        self._check()
        operations: list[Operation] = [self._writer.put(key, value, ttl)]
        if if_revision is not None:
            operations.insert(0, self._writer.check(key, if_revision))
        return (await self._writer.commit(operations, confirm)).revision

    async def delete(
        self, key: str, *, prefix: bool = False, if_revision: int | None = None, confirm: bool | float = False
    ) -> bool:
        """Delete `key`, or everything under it where `prefix`. Returns whether there was anything; else as `put`."""
        self._check()
        operations: list[Operation] = [self._writer.delete(key, prefix=prefix)]
        if if_revision is not None:
            operations.insert(0, self._writer.check(key, if_revision))
        return any((await self._writer.commit(operations, confirm)).existed)

    def txn(self) -> Txn:
        """Writes to be done together: `await sync.txn().put(a, 1).delete(b).commit()`."""
        self._check()
        return Txn(self._writer, self._check)

    @overload
    async def get(self, key: str) -> KeyVal[bytes] | None: ...

    @overload
    async def get(self, key: str, type: type[T]) -> KeyVal[T] | None: ...

    async def get(self, key: str, type: type[Any] = bytes) -> KeyVal[Any] | None:
        """The value of `key` as the source has it now, or None. With several layers: as `view` has it."""
        self._check()
        check_key(key, bool(self._root))
        decode = codec_for(type, self._options.codec).decode
        for source in reversed(self._sources):
            found = await source.get(key)
            if found is not None:
                return KeyVal(key, record_type(source.name)(*found), decode)
        return None

    @overload
    def list(self, prefix: str = "", *, keys_only: bool = False) -> AsyncIterator[KeyVal[bytes]]: ...

    @overload
    def list(self, prefix: str, type: type[T], *, keys_only: bool = False) -> AsyncIterator[KeyVal[T]]: ...

    async def list(
        self, prefix: str = "", type: type[Any] = bytes, *, keys_only: bool = False
    ) -> AsyncIterator[KeyVal[Any]]:
        """All pairs under `prefix`, read page by page as one iterates; without their values where `keys_only`."""
        self._check()
        check_prefix(prefix, bool(self._root))
        decode = codec_for(type, self._options.codec).decode
        seen: set[str] = set()
        several = len(self._sources) > 1
        for source in reversed(self._sources):
            make = record_type(source.name)
            token: Any = None
            while True:
                items, token = await source.page(prefix, token, _PAGE, keys_only=keys_only)
                for key, raw, revision in items:
                    if several:
                        if key in seen:
                            continue
                        seen.add(key)
                    yield KeyVal(key, make(raw, revision), decode)
                if token is None:
                    break
                await asyncio.sleep(0)  # a source may have the next page at hand; others want their turn

    def of_agent(self, label: str) -> DataSync:
        """A DataSync of its own over the same sources, for the keys of another agent (Go: OfDifferentAgent)."""
        return DataSync(*self._layers, label=label, write_to=self._write_to, **self._given)

    # -- within --------------------------------------------------------------------------------------------------

    def _register(
        self,
        name: str,
        prefixes: Sequence[str],
        keys: Sequence[str],
        kind: type[Any],
        after: Sequence[str],
        backlog: int | None,
        ack_timeout: float | None,
        resync_timeout: float | None,
        runner: Callable[[Subscriber], Runner],
    ) -> Watch[Any]:
        self._check(started=False)
        if not isinstance(name, str) or not name:
            raise UsageError("a watch has a name; give it some text")
        if name in self._watches:
            raise AlreadyRegistered(f"there is a watch named {name!r} already; choose another name")
        options = self._options
        backlog = options.backlog if backlog is None else backlog
        ack_timeout = options.ack_timeout if ack_timeout is None else ack_timeout
        resync_timeout = options.resync_timeout if resync_timeout is None else resync_timeout
        _check_limits(backlog, ack_timeout=ack_timeout, resync_timeout=resync_timeout)
        sub = Subscriber(
            name,
            scopes_of(prefixes, keys, rooted=bool(self._root)),
            codec_for(kind, options.codec).decode,
            after=[self._find(other) for other in ([after] if isinstance(after, str) else after)],
            backlog=backlog,
            ack_timeout=ack_timeout,
            resync_timeout=resync_timeout,
        )
        sub.runner = runner(sub)
        sub.report = sub.runner.report
        watch: Watch[Any] = Watch(self._shell, sub, self._check, self._forget, rooted=bool(self._root))
        self._watches[name] = watch
        self._shell.add(sub)
        return watch

    def _forget(self, watch: Watch[Any]) -> None:
        """It has been closed: nothing here leads to it any more (G9)."""
        if self._watches.get(watch.name) is watch:
            del self._watches[watch.name]

    def _find(self, name: str) -> Subscriber:
        watch = self._watches.get(name)
        if watch is None or watch._sub.closed:
            raise UsageError(f"there is no watch named {name!r}; register it first")
        return watch._sub

    def _check(self, *, started: bool = True) -> None:
        """Raise unless it can be used here and now; with `started` False, before the start as well."""
        if self._loop is not None:
            if asyncio._get_running_loop() is not self._loop or self._fork != _forks:
                self._check_place()
        elif started:
            raise UsageError("the DataSync is not started; use it inside `async with sync:`")
        if self._closed:
            raise WatchClosed("the DataSync has been closed; make a new one")

    def _check_place(self) -> None:
        if self._fork != _forks:
            raise Forked("this DataSync belongs to the parent process; make a new one after the fork")
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise WrongLoop("this DataSync belongs to another event loop; use call_soon_threadsafe, or make a new one")


def _check_limits(backlog: int, retries: int = 1, **seconds: float) -> None:
    """Raise `UsageError` for a time or a count that makes no sense."""
    for name, given in seconds.items():
        if not isinstance(given, int | float) or not given > 0:
            raise UsageError(f"{name}={given!r} is no time to wait; give seconds above 0")
    for name, count in ("backlog", backlog), ("retries", retries):
        if not isinstance(count, int) or count < 1:
            raise UsageError(f"{name}={count!r} is no number from 1 on; give one")


def _is_awaited(sub: Subscriber) -> bool:
    """Whether `ready` waits for this watch."""
    attended = not isinstance(sub.runner, StreamRunner) or sub.runner.attended
    return not (sub.accepted or sub.closed) and attended


def _is_async(handler: Callable[..., Any]) -> bool:
    call = getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__ is a handler too
    # and a decorator's async wrapper around such an object too
    return any(map(inspect.iscoroutinefunction, (handler, inspect.unwrap(handler), call)))
