"""What a watch delivers: key-value pairs, changes, and the two kinds of event, RESYNC and CHANGE.

All of it can be pickled, and copied with `copy.deepcopy`. Such a copy holds the bytes as stored,
and decodes them again by the type of its watch; the copy of an event has no way back to the watch.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec

from datasync.errors import DecodeError, UsageError

__all__ = [
    "Change",
    "ChangeEvent",
    "Event",
    "KeyVal",
    "Op",
    "Record",
    "ResyncEvent",
    "Values",
    "record_type",
]

T = TypeVar("T")
Decode = Callable[[str, bytes], T]
_UNREAD: Any = msgspec.UNSET
_NOTHING: Mapping[str, DecodeError] = MappingProxyType({})


class Op(enum.Enum):
    """What a change did to its key (Go: PutDel)."""

    PUT = "put"
    DELETE = "delete"


class Record(msgspec.Struct, gc=False, eq=False):
    """One stored value: its bytes and the revision that wrote it. The type
    of the record names its source.

    Made once for each write and shared by the mirror and all watches; never changed.
    """

    raw: bytes
    revision: int
    source: ClassVar[str] = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _record, (self.source, self.raw, self.revision)


@functools.lru_cache(64)
def record_type(source: str) -> type[Record]:
    """A type of records that belong to `source`, so that no single record has to carry the name."""
    return cast(
        type[Record],
        msgspec.defstruct(
            "Record", [], bases=(Record,), namespace={"source": source}, gc=False, eq=False
        ),
    )


def _record(source: str, raw: bytes, revision: int) -> Record:
    return record_type(source)(raw, revision)


class KeyVal(msgspec.Struct, Generic[T], gc=False, eq=False):
    """A key with its value. The value is decoded when it is first read, and then kept."""

    key: str
    _record: Record
    _decode: Decode[T]
    _value: Any = _UNREAD

    @property
    def value(self) -> T:
        """The decoded value. Raises `DecodeError` if the bytes are not a
        value of the watch's type."""
        value: T = self._value
        if value is _UNREAD:
            value = self._value = self._decode(self.key, self._record.raw)
        return value

    @property
    def raw(self) -> bytes:
        """The bytes as stored."""
        return self._record.raw

    @property
    def revision(self) -> int:
        """The revision of the write that stored it; 0 where the source has none."""
        return self._record.revision

    @property
    def source(self) -> str:
        """The name of the source, within which the revision counts."""
        return self._record.source

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self._record, self._decode)

    def __repr__(self) -> str:
        return f"KeyVal({self.key!r}, revision={self.revision}, {len(self.raw)} bytes)"


class Change(msgspec.Struct, Generic[T], gc=False, eq=False):
    """One key's step from the value that this watch last accepted to the newest one."""

    key: str
    revision: int
    _new: Record | None
    _old: Record | None
    _decode: Decode[T]
    _value: Any = _UNREAD
    _prev: Any = _UNREAD

    @property
    def op(self) -> Op:
        """`Op.PUT` (created or updated) or `Op.DELETE`."""
        return Op.DELETE if self._new is None else Op.PUT

    @property
    def value(self) -> T | None:
        """The new value, decoded on first use; None for a delete. Raises `DecodeError`."""
        value: T | None = self._value
        if value is _UNREAD:
            value = None if self._new is None else self._decode(self.key, self._new.raw)
            self._value = value
        return value

    @property
    def raw(self) -> bytes | None:
        """The new bytes as stored; None for a delete."""
        return None if self._new is None else self._new.raw

    @property
    def prev(self) -> KeyVal[T] | None:
        """The value before, as this watch last accepted it; None if it accepted none."""
        prev: KeyVal[T] | None = self._prev
        if prev is _UNREAD:
            prev = None if self._old is None else KeyVal(self.key, self._old, self._decode)
            self._prev = prev
        return prev

    @property
    def source(self) -> str:
        """The name of the source of the new value, or of the deleted one."""
        record = self._new or self._old
        return "" if record is None else record.source

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.revision, self._new, self._old, self._decode)

    def __repr__(self) -> str:
        return f"Change({self.op.name} {self.key!r}, revision={self.revision})"


class Values(Generic[T]):
    """The key-value pairs under one prefix at the revision of a RESYNC, in key order;
    can be iterated repeatedly."""

    __slots__ = ("_decode", "_items")

    def __init__(self, items: Sequence[tuple[str, Record]], decode: Decode[T]) -> None:
        self._items = items
        self._decode = decode

    def __iter__(self) -> Iterator[KeyVal[T]]:
        decode = self._decode
        for key, record in self._items:
            yield KeyVal(key, record, decode)

    def __len__(self) -> int:
        return len(self._items)

    def without(self, keys: Container[str]) -> Values[T]:
        """The same pairs, but for those keys."""
        return Values([item for item in self._items if item[0] not in keys], self._decode)


class BaseEvent(msgspec.Struct, Generic[T], kw_only=True, eq=False):
    """What both kinds of event share: where they stand, and how to report on them.

    revision: the newest revision that the event contains; 0 where the source has none.
    source: the name of the source that it belongs to.
    attempt: 1 at the first delivery, one more at each retry.
    undecodable: keys that this event leaves out because their values do not decode; they are not
        missing.
    """

    revision: int
    source: str = ""
    attempt: int = 1
    undecodable: Mapping[str, DecodeError] = _NOTHING
    _deferred: bool = False
    _report: Report | None = None
    _ticket: Any = None

    def done(self, error: BaseException | None = None) -> None:
        """Report the outcome of the event. Safe to call from any thread.

        error: why it was refused (`Refused`), is to be retried (`Retry`) or failed (any other);
            None (the default) if it was accepted.
        """
        if self._report is not None:
            self._report(self, error)

    def defer(self) -> None:
        """Keep the event open when the handler returns or the next event is
        asked for, until `done`."""
        if self._report is _no_way_back:
            _no_way_back(self, None)
        self._deferred = True

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy_of, (type(self), self._data())

    def _data(self) -> dict[str, Any]:
        """What a copy holds: all but the way back."""
        return {
            "revision": self.revision,
            "source": self.source,
            "attempt": self.attempt,
            "undecodable": dict(self.undecodable),
        }


Report = Callable[[Any, "BaseException | None"], None]


def _no_way_back(event: BaseEvent[Any], error: BaseException | None) -> None:
    raise UsageError(
        f"this {type(event).__name__} is a copy, by pickle or deepcopy; report on the one that the "
        "watch delivered"
    )


def _copy_of(kind: type[BaseEvent[Any]], data: Mapping[str, Any]) -> BaseEvent[Any]:
    fixed: dict[str, Any] = {
        name: MappingProxyType(value) if type(value) is dict else value
        for name, value in data.items()
    }
    return kind(**fixed, _report=_no_way_back)


class ChangeEvent(BaseEvent[T], kw_only=True, eq=False):
    """The changes of one transaction, or of a backlog of them folded into one.

    changes: the changes, each key once.
    commits: how many transactions the event stands for.
    """

    changes: Sequence[Change[T]]
    commits: int = 1

    def _data(self) -> dict[str, Any]:
        return {**BaseEvent._data(self), "changes": list(self.changes), "commits": self.commits}

    def __repr__(self) -> str:
        return (
            f"ChangeEvent({len(self.changes)} changes, revision={self.revision}, "
            f"attempt={self.attempt})"
        )


class ResyncEvent(BaseEvent[T], kw_only=True, eq=False):
    """All data under the prefixes of a watch, at one revision.

    values: for each prefix, and each single key of `keys=`, its pairs in key order.
    reason: why the RESYNC came about.
    """

    values: Mapping[str, Values[T]]
    reason: str
    _make_changes: Callable[[], Sequence[Change[T]]]
    _changes: Sequence[Change[T]] | None = None

    @property
    def changes(self) -> Sequence[Change[T]]:
        """The difference from what this watch accepted last; at the first
        RESYNC a PUT for every key."""
        if self._changes is None:
            self._changes = self._make_changes()
        return self._changes

    def _data(self) -> dict[str, Any]:
        changes = list(self.changes)  # worked out here, from what the engine holds
        data = {
            "values": dict(self.values),
            "reason": self.reason,
            "_make_changes": list,
            "_changes": changes,
        }
        return {**BaseEvent._data(self), **data}

    def __repr__(self) -> str:
        return f"ResyncEvent({self.reason!r}, revision={self.revision}, attempt={self.attempt})"


Event = ResyncEvent[T] | ChangeEvent[T]
"""What a handler is given: `async def handle(event: Event[Config]) -> None`."""
