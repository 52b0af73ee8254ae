"""Slots at which operations run, and the objects that wait until that has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from datasync.reconcile.slots import Node, Slot

__all__ = ["Waiting"]


class Waiting:
    """Who waits for what.

    wake: called with each node that has waited, when it has its turn.
    """

    def __init__(self, wake: Callable[[Node], None]) -> None:
        self._wake = wake
        self._parked: dict[Slot, dict[Node, None]] = {}

    def occupy(self, slots: Iterable[Slot]) -> None:
        """An operation runs, and these must not change meanwhile."""
        for slot in slots:
            slot.busy += 1

    def release(self, slots: Iterable[Slot]) -> None:
        """It has ended."""
        parked = self._parked
        for slot in slots:
            slot.busy -= 1
            if not slot.busy and slot in parked:
                self.unpark(slot)

    def park(self, node: Node, slot: Slot) -> None:
        """Look at the node again when what goes on at the slot has ended."""
        self._parked.setdefault(slot, {})[node] = None

    def unpark(self, slot: Slot) -> None:
        """Look at those who waited for it."""
        for node in self._parked.pop(slot, ()):
            self._wake(node)

    def forget(self, slot: Slot) -> None:
        """There is no such slot any more."""
        self._parked.pop(slot, None)
