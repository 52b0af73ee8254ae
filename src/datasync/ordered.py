"""The keys of a dict in order, so that what lies under a prefix is found and counted
without a look at the rest."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterator, Mapping
from itertools import pairwise

from datasync.scopes import is_prefix

__all__ = ["TOUCHED_LIMIT", "OrderedKeys"]

_FEW = 64  # keys; so few are put in, and taken out, one by one
_LOOK = 4  # to look for one key costs as much as to sort so many with all others
_STEP = 16_384  # keys that are sorted in one go, where that is done in steps
_SAMPLES = 8  # of each part that they are sorted in
TOUCHED_LIMIT = 4096
"""So many keys may have come and gone before `trim` has anything to do."""


class OrderedKeys:
    """Sorted on first use; from then on, keys that are added to the dict, or deleted from it, have
    to be added to `touched` too.
    """

    __slots__ = ("_index", "_lent", "touched")

    def __init__(self) -> None:
        self._index: list[str] | None = []
        """None while it is made in steps."""
        self._lent = False
        """Whether somebody iterates over the index: it is copied before it changes."""
        self.touched: list[str] | None = None
        """Keys that have come or gone since; None while there is no order, which then need not be
        kept."""

    def under(self, prefix: str, keys: Mapping[str, object]) -> list[str]:
        """Those of `keys` that start with `prefix`, in order."""
        index = self._sorted(keys)
        return index[_span(index, prefix)]

    def within(self, scope: str, keys: Mapping[str, object]) -> list[str]:
        """Those of `keys` that lie in `scope`, in order."""
        if is_prefix(scope):
            return self.under(scope, keys)
        return [scope] if scope in keys else []

    def count(self, prefix: str, keys: Mapping[str, object]) -> int:
        """How many of `keys` start with `prefix`."""
        span = _span(self._sorted(keys), prefix)
        return span.stop - span.start

    def each(self, prefix: str, keys: Mapping[str, object]) -> Iterator[str]:
        """Those that `under` finds, as they are now, without a copy of them."""
        index = self._sorted(keys)
        span = _span(index, prefix)
        self._lent = True
        return map(index.__getitem__, range(span.start, span.stop))

    def sort_in_steps(self, keys: Mapping[str, object]) -> Iterator[None]:
        """Bring them in order so that others get their turn meanwhile, and may change them: to sort
        a million in one go takes most of a second. Does nothing where they are in order.
        """
        if self.touched is not None or len(keys) <= _STEP:
            return
        self._index, self._lent, self.touched = None, False, []
        touched, index = self.touched, list[str]()
        for part in _sorted_in_steps([*keys]):
            index += part
            yield
            if self.touched is not touched:  # somebody could not wait, or all keys are others now
                return
        self._index = index

    def trim(self) -> None:
        """Give up the order where so many keys have come or gone that to sort all of them
        again costs less than to look for each of these."""
        if self._index is None or self.touched is None or len(self.touched) <= TOUCHED_LIMIT:
            return
        if _LOOK * len(self.touched) > len(self._index):
            self.forget()

    def adopt(self, keys: list[str]) -> None:
        """The keys are these now, which come in order; the list is given away."""
        self._index, self._lent, self.touched = keys, False, []

    def forget(self) -> None:
        """The keys are others now."""
        self._index, self._lent, self.touched = [], False, None

    def _sorted(self, keys: Mapping[str, object]) -> list[str]:
        touched = self.touched
        if touched is None or self._index is None:
            self._index, self._lent = sorted(keys), False
        elif touched:
            if self._lent:
                self._index, self._lent = self._index[:], False
            if len(touched) > _FEW:
                _settle(self._index, {*touched}, keys)
            else:
                for key in touched:
                    _settle_one(self._index, key, keys)
        self.touched = []
        return self._index


def _sorted_in_steps(names: list[str]) -> Iterator[list[str]]:
    """The names in order, part by part; at first there is nothing yet.

    Their list is used up, for to let go of a million at once takes as long as a few steps.
    """
    samples = sorted(names[:: _STEP // _SAMPLES])
    bounds = samples[_SAMPLES::_SAMPLES]
    parts: list[list[str]] = [[] for _ in range(len(bounds) + 1)]
    yield []
    while names:
        some = sorted(names[-_STEP:])
        del names[-_STEP:]
        cuts = (bisect_left(some, bound) for bound in bounds)
        for part, (begin, end) in zip(parts, pairwise((0, *cuts, len(some))), strict=True):
            part += some[begin:end]
        yield []
    parts.reverse()
    while parts:
        yield sorted(parts.pop())


def _settle(index: list[str], touched: set[str], keys: Container[str]) -> None:
    """Bring the index up to date for many keys."""
    gone = [key for key in touched if key not in keys]
    if gone:
        # those of a prefix lie together: no more is looked at than lies between them
        start, end = bisect_left(index, min(gone)), bisect_left(index, max(gone)) + 1
        index[start:end] = [key for key in index[start:end] if key not in touched or key in keys]

    new = [key for key in touched if key in keys and not _holds(index, key)]
    if new:
        index += sorted(new)
        index.sort()  # which merges two sorted parts


def _settle_one(index: list[str], key: str, keys: Container[str]) -> None:
    at = bisect_left(index, key)
    held = at < len(index) and index[at] == key
    if key in keys:
        if not held:
            index.insert(at, key)
    elif held:
        del index[at]


def _holds(index: list[str], key: str) -> bool:
    at = bisect_left(index, key)
    return at < len(index) and index[at] == key


def _span(index: list[str], prefix: str) -> slice[int, int, None]:
    """Where the keys that start with `prefix` are."""
    stem = prefix.rstrip("\U0010ffff")
    end = bisect_left(index, stem[:-1] + chr(ord(stem[-1]) + 1)) if stem else len(index)
    return slice(bisect_left(index, prefix), end)
