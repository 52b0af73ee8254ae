"""Sets of scopes: which keys they hold, at a cost that does not depend on how many they are.

A *scope* is a prefix ("" or ending in a slash) or else the name of one single key.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

__all__ = ["Directories", "Scopes", "WatchScopes", "is_prefix"]

C = TypeVar("C", bound=tuple[str, object] | tuple[str, bytes, int])

T = TypeVar("T")

_CACHE_BYTES, _ENTRY_BYTES = 16 << 20, 150
_FEW = 8  # prefixes; so few are compared faster than looked up


def is_prefix(scope: str) -> bool:
    """Whether a scope is a prefix, not a single key."""
    return not scope or scope.endswith("/")


class Directories(dict[str, T]):
    """A cache by directory. G9: bounded in bytes; beyond that it is emptied and filled again."""

    __slots__ = ("_size",)

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def keep(self, directory: str, found: T, size: int = 0) -> None:
        """Keep it, with the bytes that it takes itself."""
        size += _ENTRY_BYTES + sys.getsizeof(directory)
        if self._size + size > _CACHE_BYTES:
            self.clear()
        if size <= _CACHE_BYTES:
            self._size += size
            self[directory] = found

    def clear(self) -> None:
        super().clear()
        self._size = 0


class WatchScopes:
    """The scopes of one watch, which may be added to and taken from, at a cost that does not depend
    on how many they are. `key in scopes` as in `Scopes`."""

    __slots__ = ("_in_order", "_keys", "_lengths", "_prefixes")

    def __init__(self, scopes: Iterable[str]) -> None:
        self._keys: dict[str, None] = {}
        self._prefixes: dict[str, None] = {}
        self._lengths: Counter[int] = Counter()
        self._in_order: list[str] | None = None
        for scope in scopes:
            self.add(scope)

    def add(self, scope: str) -> None:
        """Take it in; it must not be one of them."""
        self._in_order = None
        if is_prefix(scope):
            self._prefixes[scope] = None
            self._lengths[len(scope)] += 1
        else:
            self._keys[scope] = None

    def remove(self, scope: str) -> None:
        """Leave it out; it must be one of them."""
        self._in_order = None
        if is_prefix(scope):
            del self._prefixes[scope]
            self._lengths[len(scope)] -= 1
            if not self._lengths[len(scope)]:
                del self._lengths[len(scope)]
        else:
            del self._keys[scope]

    def __contains__(self, key: str) -> bool:
        prefixes = self._prefixes
        return key in self._keys or any(key[:length] in prefixes for length in self._lengths)

    def has(self, scope: str) -> bool:
        """Whether it is one of them, not only a part of one."""
        return scope in self._prefixes or scope in self._keys

    def __len__(self) -> int:
        return len(self._prefixes) + len(self._keys)

    def __iter__(self) -> Iterator[str]:
        """In no order that means anything."""
        yield from self._prefixes
        yield from self._keys

    def in_order(self) -> list[str]:
        """A list of them, in order."""
        if self._in_order is None:
            self._in_order = sorted(self)
        return self._in_order[:]


class Scopes:
    """An immutable set of scopes. `key in scopes`: the key (or the whole of a smaller
    scope) lies in one of them."""

    __slots__ = (
        "__weakref__",
        "_directories",
        "_few",
        "_names",
        "_ordered",
        "_prefixes",
        "_singles",
    )

    def __init__(self, scopes: Iterable[str] = ()) -> None:
        self._names = frozenset(scopes)
        self._directories: Directories[bool] = Directories()
        self._prefixes: list[str] | None = None
        """Those that are prefixes and lie in no other, in order."""
        self._ordered: list[str] | None = None
        """All of them, in order."""
        self._singles: frozenset[str] | None = None
        few = len(self._names) <= _FEW and all(map(is_prefix, self._names))
        self._few = tuple(self._names) if few else None

    def __contains__(self, key: str) -> bool:
        if self._few is not None:
            return key.startswith(self._few)
        directory = key[: key.rfind("/") + 1]
        found = self._directories.get(directory)
        if found is None:
            found = self._walk(directory)
        return found or key in self._names

    def keep(self, changes: Sequence[C]) -> Sequence[C]:
        """Those of `changes` whose first item, the key, lies in one of the scopes;
        `changes` itself where all do."""
        few, known = self._few, self._directories
        for change in changes:
            key = change[0]
            # what `in` finds for most, a call less
            found = known.get(key[: key.rfind("/") + 1]) if few is None else key.startswith(few)
            if not found and key not in self:
                return [change for change in changes if change[0] in self]
        return changes

    @property
    def names(self) -> frozenset[str]:
        """Those that are single keys."""
        if self._singles is None:
            self._singles = frozenset(name for name in self._names if not is_prefix(name))
        return self._singles

    def __iter__(self) -> Iterator[str]:
        return iter(self._in_order())

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Scopes) and self._names == other._names)

    def __hash__(self) -> int:
        return hash(self._names)

    def __repr__(self) -> str:
        return f"Scopes({list(self)})"

    def has(self, scope: str) -> bool:
        """Whether it is one of them, not only a part of one."""
        return scope in self._names

    def union(self, scopes: Iterable[str]) -> Scopes:
        """These, and `scopes` as well."""
        new = [scope for scope in scopes if scope not in self._names]
        united = Scopes(self._names.union(new))
        if self._ordered is not None and len(new) <= _FEW:
            united._ordered = self._ordered[:]
            for scope in new:
                insort(united._ordered, scope)
        return united

    def without(self, other: Scopes) -> list[str]:
        """Those of these scopes that do not lie in `other`, in order."""
        return sorted(name for name in self._names - other._names if name not in other)

    def others(self, known: Scopes) -> list[str]:
        """Those of these scopes that are none of `known`, in order."""
        return sorted(self._names - known._names)

    def but(self, scopes: Sequence[str]) -> Scopes:
        """These without some of them; minimal if they are."""
        return Scopes(self._names.difference(scopes)) if scopes else self

    def minimal(self) -> Scopes:
        """The same set of keys without scopes that lie in others."""
        names: list[str] = []
        prefixes: list[str] = []
        for name in sorted(self._names):  # what lies in a prefix comes right after it
            if not prefixes or not name.startswith(prefixes[-1]):
                names.append(name)
                if is_prefix(name):
                    prefixes.append(name)
        minimal = Scopes(names)
        minimal._prefixes = prefixes
        return minimal

    def joined(self, scopes: Iterable[str]) -> Scopes:
        """`union(scopes).minimal()`, of scopes that are minimal already: at little cost
        for each where few are new."""
        new = Scopes(scope for scope in scopes if scope not in self).minimal()
        if not new._names:
            return self
        if len(new._names) > _FEW:
            return self.union(new).minimal()
        ordered, known = self._in_order()[:], self._prefixes
        known = None if known is None else known[:]
        gone: list[str] = []
        for name in new:
            gone += _replace(ordered, name)
            if known is not None and is_prefix(name):
                _replace(known, name)
        joined = Scopes(self._names.difference(gone).union(new._names))
        joined._ordered, joined._prefixes = ordered, known
        return joined

    def contains_all_of(self, other: Scopes) -> bool:
        """Whether each of the other scopes is one of these, not only a part of one."""
        return other._names <= self._names

    def _in_order(self) -> list[str]:
        if self._ordered is None:
            self._ordered = sorted(self._names)
        return self._ordered

    def _walk(self, directory: str) -> bool:
        if self._prefixes is None:
            self._prefixes = self.minimal()._prefixes
            assert self._prefixes is not None
        # of prefixes that lie in no other, only the last one before it can hold it; to try what
        # ends at each slash would cost the square of the length
        at = bisect_right(self._prefixes, directory)
        found = at > 0 and directory.startswith(self._prefixes[at - 1])
        self._directories.keep(directory, found)
        return found


def _replace(names: list[str], name: str) -> list[str]:
    """Put a name among others, which are in order, in the place of those
    that lie in it; returns these."""
    at = end = bisect_left(names, name)
    while is_prefix(name) and end < len(names) and names[end].startswith(name):
        end += 1
    replaced = names[at:end]
    names[at:end] = [name]
    return replaced
