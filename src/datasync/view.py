"""A live view: the current state under a prefix, as a read-only mapping."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from types import TracebackType
from typing import Self, TypeVar

from datasync.errors import DecodeError, NotReady, UnsupportedOption, WatchClosed
from datasync.events import Decode, Record
from datasync.lifetime import Lifetime
from datasync.syncbase.engine import Engine
from datasync.syncbase.layer import Layer

__all__ = ["View"]

T = TypeVar("T")


class View(Mapping[str, T]):
    """The state as of now, key by key. Raises `NotReady` before the first complete snapshot.

    Each read decodes the value again, so it belongs to the reader, who may change it. One that does
    not decode raises `DecodeError`; `raw`, `undecodable` and `items(skip_undecodable=True)` are for
    stores where some may not.

    Any thread of the process may read it. Each read, and each loop over its keys, `values()` or
    `items()`, shows the state between two transactions, never half of one. `dict(view)` makes many
    reads: in other threads than the loop's write `dict(view.items())`.

    A view keeps what is under its prefix in memory, until it is closed (`close`, or the end of a
    `with` block) or dropped: then what no other view or watch needs is forgotten.
    """

    def __init__(
        self,
        engine: Engine,
        prefix: str,
        registered: int,
        decode: Decode[T],
        layer: Layer,
        life: Lifetime,
    ) -> None:
        self._engine = engine
        self._prefix = prefix
        self._registered = registered
        self._decode = decode
        self._layer = layer
        self._life = life
        self._closed = False
        self._release = weakref.finalize(self, engine.release, prefix)
        self._release.atexit = False

    def close(self) -> None:
        """Release what it keeps.

        Reading it raises `WatchClosed` from now on. May be called twice.
        """
        self._closed = True
        self._release()

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
        return self._decode(key, self._record(key).raw)

    def __iter__(self) -> Iterator[str]:
        """The keys as of now, in order."""
        self._ready()
        return self._engine.keys(self._prefix)

    def __len__(self) -> int:
        self._ready()
        return self._engine.count(self._prefix)

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None

    def items(self, *, skip_undecodable: bool = False) -> ItemsView[str, T]:
        """The pairs; each loop over them shows those of one moment.

        skip_undecodable: those as of now whose values decode, instead of a `DecodeError` from the
            first that does not; default False.
        """
        return self._decoded()[0].items() if skip_undecodable else _Items(self)

    def values(self) -> ValuesView[T]:
        """The values; each loop over them shows those of one moment."""
        return _Values(self)

    @property
    def undecodable(self) -> Mapping[str, DecodeError]:
        """The keys whose values do not decode now, each with its error."""
        return self._decoded()[1]

    def raw(self, key: str) -> bytes:
        """The value of `key` as it is stored; raises `KeyError`."""
        return self._record(key).raw

    def revision(self, key: str) -> int:
        """The revision of the value of `key`; raises `KeyError`."""
        return self._record(key).revision

    async def at_least(self, revision: int, timeout: float | None = None) -> None:
        """Wait until the view contains `revision` of the source written to,
        for at most `timeout` seconds.

        With 0 that means until all is known that was there when the view was made. Where each key
        is ordered for itself, the newest revision of any key counts. Raises `HistoryChanged` when
        the store is replaced meanwhile, `UnsupportedOption` where the source has no revisions,
        `TimeoutError`, `WatchClosed`.
        """
        self._check_open()
        self._life.check()
        if revision != 0 and not self._layer.has_revisions:
            raise UnsupportedOption(
                f"{self._layer.name} has no revisions; wait for the key in a watch"
            )
        async with asyncio.timeout(timeout):
            await self._engine.wait_for_revision(self._layer, revision)
            # G1: all that the source had acknowledged before the view was made
            await self._engine.wait_until(
                lambda: self._engine.covers(self._prefix, self._registered)
            )

    def _find(self, key: object) -> Record | None:
        self._ready()
        return (
            self._engine.read(key)
            if isinstance(key, str) and key.startswith(self._prefix)
            else None
        )

    def _record(self, key: str) -> Record:
        record = self._find(key)
        if record is None:
            raise KeyError(key)
        return record

    def _records(self) -> Sequence[tuple[str, Record]]:
        self._ready()
        return self._engine.items(self._prefix)

    def _pairs(self) -> Iterator[tuple[str, T]]:
        """Those of one moment, each decoded as one comes to it."""
        return ((key, self._decode(key, record.raw)) for key, record in self._records())

    def _decoded(self) -> tuple[dict[str, T], dict[str, DecodeError]]:
        """What decodes now, and what does not."""
        values: dict[str, T] = {}
        errors: dict[str, DecodeError] = {}
        for key, record in self._records():
            try:
                values[key] = self._decode(key, record.raw)
            except DecodeError as error:
                errors[key] = error
        return values, errors

    def _ready(self) -> None:
        self._check_open()
        self._life.check_anywhere()
        if not self._engine.knows(self._prefix):
            raise NotReady(
                f"nothing is known under {self._prefix!r} yet; wait for `sync.ready()` first"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise WatchClosed(f"the view of {self._prefix!r} has been closed; make a new one")

    def __repr__(self) -> str:
        return f"View({self._prefix!r})"


class _Items(ItemsView[str, T]):
    """The pairs of a view; of `ItemsView` itself each value would be of a moment of its own."""

    _mapping: View[T]

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return self._mapping._pairs()


class _Values(ValuesView[T]):
    """The values of a view, in the same way."""

    _mapping: View[T]

    def __iter__(self) -> Iterator[T]:
        return (value for _, value in self._mapping._pairs())
