"""The router: which watches a key concerns, at a cost that does not depend on how
many watches there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from datasync.scopes import Directories, is_prefix

__all__ = ["Router"]

_WATCH_BYTES = 8  # in a tuple


class _Ordered(Protocol):
    @property
    def order(self) -> int: ...


W = TypeVar("W", bound=_Ordered)


class Router(Generic[W]):
    """Maps scopes to watches.

    A prefix ends in a slash, so the directory of a key decides what matches it.
    """

    __slots__ = ("_by_directory", "_keys", "_lengths", "_prefixes")

    def __init__(self) -> None:
        # the watches of a scope are the keys of a dict, since one of many may leave it
        self._prefixes: dict[str, dict[W, None]] = {}
        self._keys: dict[str, dict[W, None]] = {}
        self._lengths: set[int] = set()
        """The lengths of all prefixes, also of those that are gone: they find nothing."""
        self._by_directory: Directories[tuple[W, ...]] = Directories()

    def add(self, scope: str, watch: W) -> None:
        """Route what lies in `scope` to `watch`."""
        self._table(scope).setdefault(scope, {})[watch] = None
        if is_prefix(scope):
            self._lengths.add(len(scope))
        self._by_directory.clear()

    def remove(self, scope: str, watch: W) -> None:
        """Undo `add`."""
        table = self._table(scope)
        del table[scope][watch]
        if not table[scope]:
            del table[scope]
        self._by_directory.clear()

    def match(self, key: str) -> tuple[W, ...]:
        """The watches that `key` concerns, each once, in the order of registration."""
        directory = key[: key.rfind("/") + 1]
        found = self._by_directory.get(directory)
        if found is None:
            found = self._walk(directory)
        if self._keys and key in self._keys:
            return _in_order({*found, *self._keys[key]})
        return found

    def match_all(self, changes: Sequence[tuple[Any, ...]]) -> tuple[W, ...] | None:
        """The watches that all of `changes` concern, by their first items, the keys; None where it
        takes a look at each to tell, or there are none."""
        if len(changes) > 1:
            keys = [change[0] for change in changes]
            # all that lie between the first and the last begin as these two do
            longest = max(self._lengths, default=0)
            if min(keys)[:longest] != max(keys)[:longest] or not self._keys.keys().isdisjoint(keys):
                return None
        return self.match(changes[0][0]) if changes else None

    def _table(self, scope: str) -> dict[str, dict[W, None]]:
        return self._prefixes if is_prefix(scope) else self._keys

    def _walk(self, directory: str) -> tuple[W, ...]:
        watches: set[W] = set()
        # only the lengths that occur: trying what ends at each slash would take quadratic time for
        # a key that is all slashes
        for length in self._lengths:
            watches.update(self._prefixes.get(directory[:length], ()))
        found = _in_order(watches)
        self._by_directory.keep(directory, found, _WATCH_BYTES * len(found))
        return found


def _in_order(watches: set[W]) -> tuple[W, ...]:
    return tuple(sorted(watches, key=lambda watch: watch.order))
