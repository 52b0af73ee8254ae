"""A watch as the application holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    AsyncIterator,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    ValuesView,
)
from typing import Any, Generic, TypeVar

from datasync.errors import (
    AlreadyRegistered,
    BadKey,
    BadPrefix,
    Said,
    UsageError,
    WatchClosed,
    outcomes_of,
)
from datasync.events import Event
from datasync.keyspace import KeySpace
from datasync.lifetime import Lifetime
from datasync.scopes import is_prefix
from datasync.status import WatchState
from datasync.syncbase.engine import Engine
from datasync.syncbase.runners import Runner, StreamRunner
from datasync.syncbase.subscriber import Subscriber
from datasync.value_types import ValueTypes

__all__ = ["Watch", "Watches", "scopes_of"]

T = TypeVar("T")

_NAMED = 20
"""Scopes that an error names, at most."""


class Watch(Generic[T]):
    """What `DataSync.watch` returns.

    As a stream, `async for event in watch` brings a RESYNC first, then changes.
    """

    def __init__(
        self,
        engine: Engine,
        sub: Subscriber,
        types: ValueTypes,
        life: Lifetime,
        keys: KeySpace,
        forget: Callable[[Watch[Any]], None],
    ) -> None:
        self._engine = engine
        self._sub = sub
        self._types = types
        self._runner: Runner = sub.runner
        self._life = life
        self._keys = keys
        self._forget = forget

    @property
    def name(self) -> str:
        """The name that it was registered under."""
        return self._sub.name

    @property
    def state(self) -> WatchState:
        """Where it stands."""
        return self._sub.state

    def add_prefix(self, prefix: str, type: type[Any] | None = None) -> None:
        """Watch `prefix` as well.

        The whole watch is resynced; the event's `changes` are only what is new.

        prefix: ends in a slash.
        type: what the values under it decode to, from now on; by default what the watch was
            registered with: the type of the longest prefix in `types=`, or `type=`.

        Raises `BadPrefix`, `AlreadyRegistered`, `BadValue`, `UsageError`, `WatchClosed`.
        """
        self._check_open()
        self._keys.check_prefix(prefix)
        self._keys.check_watched(prefix)
        if self._sub.scopes.has(prefix):
            raise AlreadyRegistered(
                f"{self.name!r} has the prefix {prefix!r} already; leave this call out"
            )
        if type is not None:
            self._types = self._types.adding({prefix: type})
        self._engine.widen(self._sub, prefix, self._types.decode)

    def remove_prefix(self, prefix: str) -> None:
        """Stop watching `prefix`.

        The whole watch is resynced; what it no longer sees shows as deletes.

        Raises `BadPrefix` when the watch does not have it, or has nothing else; `WatchClosed`.
        """
        self._check_open()
        scopes = self._sub.scopes
        if not scopes.has(prefix):
            more = f" and {len(scopes) - _NAMED:,} more" if len(scopes) > _NAMED else ""
            raise BadPrefix(
                f"{self.name!r} does not watch the prefix {prefix!r}; it has "
                f"{scopes.in_order()[:_NAMED]}{more}"
            )
        if len(scopes) == 1:
            raise BadPrefix(f"{prefix!r} is all that {self.name!r} watches; use close()")
        self._engine.narrow(self._sub, prefix)

    def decode(self, key: str, raw: bytes) -> T:
        """The value that `raw` stands for, were it stored under `key`.

        Raises `DecodeError`.
        """
        value: T = self._types.decode(key, raw)
        return value

    def report(self, outcomes: Mapping[str, Said]) -> None:
        """Say what became of keys that are open: those that `Outcomes` said are pending or failed.
        Safe to call from any thread.

        Keys that are not open, since a newer event or report has settled them, and those of a
        closed watch are left as they are.

        outcomes: by key, `Accepted()`, `Pending(why)`, `Failed(why)`, or `Refused(why)`: then the
            key is as if its event had refused it.

        Raises `BadKey` for a key that it does not watch (in other threads that is only logged),
        `UsageError`.
        """
        self._runner.report_keys(outcomes_of(outcomes))

    def close(self) -> None:
        """End the watch.

        It shows nothing; iterating the stream raises `WatchClosed`. May be called twice.
        """
        if not self._sub.closed:
            self._life.check_open()
            self._engine.close(self._sub)
            self._forget(self)

    def __aiter__(self) -> AsyncIterator[Event[T]]:
        runner = self._runner
        if not isinstance(runner, StreamRunner):
            raise UsageError(f"{self.name!r} has a handler; a watch is either handled or iterated")
        self._life.check()
        return _Stream(runner)

    def _check_open(self) -> None:
        self._life.check_open()
        if self._sub.closed:
            raise WatchClosed(f"{self.name!r} has been closed; register a new watch")

    def __repr__(self) -> str:
        return f"Watch({self.name!r}, {self.state.value})"


class Watches(Mapping[str, Watch[Any]]):
    """The open watches by name, as they are when one looks; finding a name does not take longer
    where there are many.

    Watches may be closed, and registered, during an iteration: it goes on over those that were
    there at its start.
    """

    def __init__(self, watches: Mapping[str, Watch[Any]]) -> None:
        self._watches = watches

    def __getitem__(self, name: str) -> Watch[Any]:
        return self._watches[name]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._watches))

    def __len__(self) -> int:
        return len(self._watches)

    def items(self) -> ItemsView[str, Watch[Any]]:
        return dict(self._watches).items()

    def values(self) -> ValuesView[Watch[Any]]:
        return dict(self._watches).values()

    def __repr__(self) -> str:
        return repr(dict(self._watches))


class _Stream(AsyncIterator[Event[T]]):
    """One `async for` over a watch."""

    def __init__(self, runner: StreamRunner) -> None:
        self._runner = runner
        self._turn = runner.iterate()

    async def __anext__(self) -> Event[T]:
        return await self._runner.next(self._turn)


def scopes_of(prefixes: Sequence[str], keys: Sequence[str], space: KeySpace) -> Sequence[str]:
    """The scopes of a watch, checked. Raises `BadPrefix`, `BadKey`, `AlreadyRegistered`."""
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        raise BadKey(f"keys= takes a list; write keys=[{keys!r}]")
    for prefix in prefixes:
        space.check_prefix(prefix)
    for key in keys:
        space.check_key(key)
        if is_prefix(key):
            raise BadKey(f"{key!r} is a prefix; give it beside the name, not in keys=")
    scopes = [*prefixes, *keys]
    if not scopes:
        raise UsageError("a watch needs a prefix or keys=; the prefix '' watches everything")
    for scope in scopes:
        space.check_watched(scope)
    for scope, times in Counter(scopes).items():
        if times > 1:
            raise AlreadyRegistered(f"{scope!r} is given twice to one watch; give it once")
    return scopes
