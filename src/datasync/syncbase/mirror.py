"""The mirror: the latest record of every key, layer by layer, shared by all watches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import lt
from typing import Any, Protocol, overload
from weakref import ref

from datasync.events import Record, record_type
from datasync.ordered import TOUCHED_LIMIT, OrderedKeys
from datasync.scopes import Scopes

__all__ = ["Diff", "Lock", "Mirror", "Pairs", "Staging", "differ"]

_WHOLE = 16
"""Taking over a key by itself takes so many times as long as taking it over with a whole dict."""

Diff = tuple[str, Record | None, Record | None]
"""(key, record before, record after) of the merged state."""


def differ(old: Record | None, new: Record | None) -> bool:
    """Whether a key has another value with one of these records than with the other."""
    return old is not new and (old is None or new is None or old.raw != new.raw)


class Lock(Protocol):
    """A reentrant lock, of the engine: the core knows no threads itself."""

    def acquire(self) -> object: ...
    def release(self) -> object: ...
    def __enter__(self) -> object: ...
    def __exit__(self, *error: Any) -> object: ...


class Pairs(Sequence[tuple[str, Record]]):
    """Keys with their records, in two columns: a tuple for each of a million keys would have the
    garbage collector look at all of them, over and over, while they are made."""

    __slots__ = ("_names", "_records")

    def __init__(self, names: Sequence[str], records: Sequence[Record]) -> None:
        self._names = names
        self._records = records

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        return zip(self._names, self._records, strict=True)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> tuple[str, Record]: ...
    @overload
    def __getitem__(self, index: slice) -> Pairs: ...
    def __getitem__(self, index: int | slice) -> tuple[str, Record] | Pairs:
        if isinstance(index, slice):
            return Pairs(self._names[index], self._records[index])
        return self._names[index], self._records[index]

    def __reduce__(self) -> tuple[Any, ...]:
        return Pairs, ([*self._names], [*self._records])  # a copy holds nothing but these


class _Lent(Sequence[Record]):
    """The records of some keys of a state, each looked up when it is reached."""

    __slots__ = ("_names", "_read")

    def __init__(self, names: Sequence[str], read: partial[Record]) -> None:
        self._names = names
        self._read = read

    def __iter__(self) -> Iterator[Record]:
        return map(self._read, self._names)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return _Lent(self._names[index], self._read)
        return self._read(self._names[index])


class Staging:
    """A snapshot under way."""

    __slots__ = ("names", "records")

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.names: list[str] | None = []
        """Its keys, as long as they come in order, as those of most sources do: then they need no
        sorting, which would hold up the loop for a million of them."""


class _Unshared:
    """The lock of a mirror that no other thread reads."""

    def acquire(self) -> None: ...
    def release(self) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


_UNSHARED = _Unshared()


class Mirror:
    """The state of each source (layer), merged: of two layers with the same key the later one wins.

    `records` is the merged state. A reader of most of it borrows the dict itself: while that is in
    use, the next change is made to a copy, which takes a dict a fraction of the time that looking
    at each key would. So nobody else may keep a reference to it.

    Only the loop's own thread changes it. Others may call `get`, `under`, `count` and `keys` once
    it is shared: from then on `lock` keeps them out while a commit is half done (G4, G12).
    """

    __slots__ = ("_layers", "_lent", "_lock", "_order", "_shared_lock", "_types", "records")

    def __init__(self, sources: Sequence[str], lock: Lock) -> None:
        self._lock: Lock = _UNSHARED
        self._shared_lock = lock
        self._types = [record_type(name) for name in sources]
        self._layers: list[dict[str, Record]] = [{} for _ in sources]
        self.records: dict[str, Record] = self._layers[0] if len(sources) == 1 else {}
        self._order = OrderedKeys()
        self._lent: ref[partial[Record]] | None = None
        """What the borrowers of `records`, as it is now, read it by."""

    def share(self) -> None:
        """Let other threads read, too; called where none of the methods below is under way."""
        self._lock = self._shared_lock

    def stage(self, layer: int, staging: Staging, items: Sequence[tuple[str, bytes, int]]) -> None:
        """Add a chunk to a snapshot under way.

        What stands as it stood keeps its record, so that there are not two of each meanwhile.
        """
        make, known, snapshot = self._types[layer], self._layers[layer], staging.records
        for key, raw, revision in items:
            if type(key) is not str:
                raise _bad_key(key)
            record = known.get(key)
            if record is None or record.revision != revision or record.raw != raw:
                record = make(raw, revision)
            snapshot[key] = record
        if (names := staging.names) is not None:
            new = [item[0] for item in items]
            run = names[-1:] + new
            if all(map(lt, run, run[1:])):
                names += new
            else:
                staging.names = None

    def apply(
        self, layer: int, changes: Sequence[tuple[str, bytes | None]], revision: int
    ) -> tuple[list[Diff], list[Diff]]:
        """Take over one commit.

        Returns what differs in the merged state, and what was written but does not.
        """
        for key, _ in changes:  # before anything is taken over: G4
            if type(key) is not str:
                raise _bad_key(key)

        if len(self._layers) > 1:
            make = self._types[layer]
            return self._apply_layered(
                layer, [(key, None if raw is None else make(raw, revision)) for key, raw in changes]
            )

        diffs: list[Diff] = []
        same: list[Diff] = []

        # the hot path: here `with` would take several times as long as the two calls
        lock = self._lock
        if lock is not _UNSHARED:
            lock.acquire()
        try:
            if self._lent is not None:
                self._leave_lent()
            records, make, touched = self.records, self._types[layer], self._order.touched
            for key, raw in changes:
                old = records.get(key)
                if raw is None:
                    if old is None:
                        same.append((key, None, None))
                    else:
                        del records[key]
                        diffs.append((key, old, None))
                        if touched is not None:
                            touched.append(key)
                    continue
                new = records[key] = make(raw, revision)
                if old is None:
                    diffs.append((key, None, new))
                    if touched is not None:
                        touched.append(key)
                elif old.raw == raw:
                    same.append((key, old, new))
                else:
                    diffs.append((key, old, new))
            if touched and len(touched) > TOUCHED_LIMIT:
                self._order.trim()
        finally:
            if lock is not _UNSHARED:
                lock.release()

        return diffs, same

    def replace(self, layer: int, scopes: Scopes, staging: Staging) -> Iterable[Diff]:
        """Take over a complete snapshot of `scopes`, which the mirror then owns.

        Returns what differs.
        """
        mine, snapshot = self._layers[layer], staging.records
        known: list[str] = []
        if mine:
            with self._lock:  # to find them in order changes the order that others read by (G12)
                within, records = self._order.within, self.records
                names = [key for scope in scopes.minimal() for key in within(scope, records)]
            known = [key for key in names if key in mine]
        changes: list[tuple[str, Record | None]]
        if known:
            changes = [(key, None) for key in known if key not in snapshot]
            changes += [(key, new) for key, new in snapshot.items() if mine.get(key) is not new]
        elif len(self._layers) == 1 or _WHOLE * len(snapshot) > len(self.records):
            return self._add(layer, staging)
        else:
            changes = [*snapshot.items()]
        return self._apply_layered(layer, changes)[0]

    def _add(self, layer: int, staging: Staging) -> Iterator[Diff]:
        """Take over a snapshot of keys that are all new to this layer: as a whole, since looking at
        each key would take many times as long.
        """
        snapshot = staging.records
        with self._lock:
            if not self.records and staging.names is not None:
                self._order.adopt(staging.names)
            elif self._order.touched is not None:
                self._order.touched += snapshot
                self._order.trim()

            if len(self._layers) == 1:
                self._leave_lent()
                self.records = self._take_in(layer, snapshot)
                return _differing(snapshot, {}, self.records, self._lend())

            before, keys = self.records, [*snapshot]
            self._take_in(layer, snapshot)
            self.records, self._lent = self._layers[0].copy(), None
            for above in self._layers[1:]:
                self.records.update(above)
            return _differing(keys, before, self.records, self._lend())

    def _take_in(self, layer: int, snapshot: dict[str, Record]) -> dict[str, Record]:
        """Add it to what is known of the layer, which is returned."""
        mine = self._layers[layer]
        if not mine:
            mine = self._layers[layer] = snapshot
        else:
            mine.update(snapshot)
        return mine

    def prune(self, layer: int, scopes: Scopes) -> None:
        """Drop what lies outside `scopes`: nobody watches it any more."""
        with self._lock:
            self._leave_lent()
            mine = self._layers[layer]
            for key in [key for key in mine if key not in scopes]:
                del mine[key]
                self._merge(key)
            self._order.forget()

    def get(self, key: str) -> Record | None:
        """The merged state of one key, between two commits."""
        with self._lock:
            return self.records.get(key)

    def under(self, scope: str) -> Pairs:
        """The merged state under one prefix (or of one key), in key order, between two commits."""
        with self._lock:
            names = self._order.within(scope, self.records)
            if 2 * len(names) > len(self.records):
                return Pairs(names, _Lent(names, self._lend()))
            return Pairs(names, [*map(self.records.__getitem__, names)])

    def count(self, prefix: str) -> int:
        """How many keys there are under a prefix, between two commits."""
        with self._lock:
            return self._order.count(prefix, self.records)

    def keys(self, prefix: str) -> Iterator[str]:
        """Those keys, in order, as they are now."""
        with self._lock:
            return self._order.each(prefix, self.records)

    def _apply_layered(
        self, layer: int, changes: Sequence[tuple[str, Record | None]]
    ) -> tuple[list[Diff], list[Diff]]:
        diffs: list[Diff] = []
        same: list[Diff] = []

        alone = len(self._layers) == 1
        with self._lock:
            self._leave_lent()
            mine = self._layers[layer]
            touched = self._order.touched

            for key, record in changes:
                old = self.records.get(key)
                if record is not None:
                    mine[key] = record
                else:
                    mine.pop(key, None)

                new = record if alone else self._merge(key)
                if touched is not None and (old is None) is not (new is None):
                    touched.append(key)

                if old is None:
                    (same if new is None else diffs).append((key, None, new))
                elif new is None or old.raw != new.raw:
                    diffs.append((key, old, new))
                else:
                    same.append((key, old, new))

            if touched:
                self._order.trim()

        return diffs, same

    def _lend(self) -> partial[Record]:
        """What reads the records by key as they are now, as long as it is kept."""
        read = None if self._lent is None else self._lent()
        if read is None:
            # the method of a dict alone could not be asked whether it is still in use
            read = partial(self.records.__getitem__)
            self._lent = ref(read)
        return read

    def _leave_lent(self) -> None:
        """Before a change: the state that is lent stays as it is, if it is still read (G4)."""
        lent, self._lent = self._lent, None
        if lent is not None and lent() is not None:
            self.records = self.records.copy()
            if len(self._layers) == 1:
                self._layers[0] = self.records

    def _merge(self, key: str) -> Record | None:
        """Make the merged state of `key` that of the highest layer which has it."""
        for mine in reversed(self._layers):
            record = mine.get(key)
            if record is not None:
                self.records[key] = record
                return record
        self.records.pop(key, None)
        return None


def _differing(
    keys: Iterable[str], before: Mapping[str, Record], now: Mapping[str, Record], lent: object
) -> Iterator[Diff]:
    """What differs of the keys, all of which have a value now; `now` is `lent` until that has been
    told."""
    for key in keys:
        old, new = before.get(key), now[key]
        if differ(old, new):
            yield key, old, new


def _bad_key(key: object) -> TypeError:
    return TypeError(
        f"the key {key!r} is of type {type(key).__name__}; a session brings str, see source.py"
    )
