"""The trace of a harness: what a reconciler could know to be there, and the operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from datasync.reconcile import Found, Needs
from datasync.reconcile.operations import Verb
from datasync.testing.reconcile.checker import met
from datasync.testing.reconcile.trace import Began, Ended, Gone, Object, Record, There

__all__ = ["Relations", "Story"]

Relations = tuple[tuple[Needs, ...], frozenset[str]]
"""What a value needs, and the keys of its parts."""


class Story:
    """Written down as it happens.

    relations: those of a key with that value.
    """

    def __init__(self, relations: Callable[[str, Any], Relations]) -> None:
        self.trace: list[Record] = []
        self._relations = relations
        self._known: dict[str, Found[Any, Any]] = {}
        self._parents: dict[str, str] = {}
        """The objects of which parts are parts."""
        self._number = 0

    @property
    def known(self) -> Iterable[str]:
        """The keys of what could be known to be there."""
        return list(self._known)

    def seen(self, key: str, found: Found[Any, Any] | None) -> None:
        """The reconciler can know from now on that it is there like that; None: it is not."""
        if self._known.get(key) == found:
            return
        held = self._held()
        if found is None:
            self._lose(key)
        else:
            self._known[key] = found
            self._write(found)
            for part in self._relations(key, found.value)[1]:
                before, self._parents[part] = self._parents.get(part), key
                if before != key and part in self._known:
                    self._write(self._known[part])
        while gone := (held - self._held()) & self._known.keys():
            for one in sorted(gone):
                self._lose(one)  # with what it goes with

    def _lose(self, key: str) -> None:
        del self._known[key]
        self.trace.append(Gone(key))

    def _held(self) -> set[str]:
        """The keys of those of which all is there that they go with."""
        there = {key: Object(found.value) for key, found in self._known.items()}
        return {
            key for key, found in self._known.items()
            if all(met(n, there) for n in self._relations(key, found.value)[0] if n.goes_with)
        }  # fmt: skip

    def forget_parents(self) -> None:
        """A new process knows of parts only from what is there."""
        self._parents.clear()
        for key, found in self._known.items():
            self._parents.update(dict.fromkeys(self._relations(key, found.value)[1], key))
        for found in self._known.values():
            self._write(found)

    def began(
        self, verb: str, key: str, old: Any, new: Any, handle: Any, kind: str, limit: int, *,
        is_blind: bool,
    ) -> int:  # fmt: skip
        """An operation began; returns its number. is_blind: whether its kind cannot read."""
        self._number += 1
        parts = frozenset[str]() if new is None else self._relations(key, new)[1]
        self.trace.append(
            Began(
                self._number, Verb(verb), key, self.object(key, new), self.object(key, old),
                handle, parts, kind, limit, is_blind,
            )
        )  # fmt: skip
        return self._number

    def ended(self, number: int) -> None:
        """It ended; what it has changed was told before."""
        self.trace.append(Ended(number))

    def object(self, key: str, value: Any) -> Object | None:
        """A value with what it needs; None where there is none."""
        if value is None:
            return None
        parent = self._parents.get(key)
        needs = self._relations(key, value)[0]
        return Object(value, needs if parent is None else (*needs, Needs.key(parent)))

    def _write(self, found: Found[Any, Any]) -> None:
        one = self.object(found.key, found.value) or Object(None)
        self.trace.append(There(found.key, one, found.handle, self._parents.get(found.key)))
