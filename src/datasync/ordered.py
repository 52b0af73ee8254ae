"""The keys of a dict in order, so that what lies under a prefix is found
without a look at the rest."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping

__all__ = ["OrderedKeys"]

_FEW = 64  # keys; so few are put in one by one
_FRESH_LIMIT = 4096


class OrderedKeys:
    """Sorted on first use; from then on, keys that are added to the dict
    have to be added to `fresh` too.

    Of those that are deleted nothing need be said: each is passed once.
    """

    __slots__ = ("_index", "fresh")

    def __init__(self) -> None:
        self._index: list[str] = []
        self.fresh: list[str] | None = None
        """Keys that have come since; None while there is no order, which then need not be kept."""

    def under(self, prefix: str, keys: Mapping[str, object]) -> list[str]:
        """Those of `keys` that start with `prefix`, in order."""
        index = self._sorted(keys)
        if not prefix and len(index) == len(keys):
            return index[:]

        start, end = bisect_left(index, prefix), _end(index, prefix)
        found = index[start:end]
        if len(index) > len(keys):
            found = [key for key in found if key in keys]
            if len(found) < end - start:
                index[start:end] = found
        return found

    def trim(self) -> None:
        """Give up the order where so many keys have come that to sort all of them
        again costs no more for each."""
        if self.fresh is not None and len(self.fresh) > max(_FRESH_LIMIT, len(self._index)):
            self.forget()

    def forget(self) -> None:
        """The keys are others now."""
        self._index, self.fresh = [], None

    def _sorted(self, keys: Mapping[str, object]) -> list[str]:
        index, fresh = self._index, self.fresh
        if fresh is None or len(index) > 2 * len(keys) + _FRESH_LIMIT:
            index = self._index = sorted(keys)
        elif len(fresh) > _FEW:
            new = [key for key in set(fresh) if not _holds(index, key)]
            index += sorted(new)
            index.sort()  # which merges two sorted parts
        elif fresh:
            for key in fresh:
                if not _holds(index, key):
                    insort(index, key)
        self.fresh = []
        return index


def _holds(index: list[str], key: str) -> bool:
    at = bisect_left(index, key)
    return at < len(index) and index[at] == key


def _end(index: list[str], prefix: str) -> int:
    """Where the keys that start with `prefix` end."""
    stem = prefix.rstrip("\U0010ffff")
    return bisect_left(index, stem[:-1] + chr(ord(stem[-1]) + 1)) if stem else len(index)
