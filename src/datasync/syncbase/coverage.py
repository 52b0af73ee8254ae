"""Coverage: whether what a watch asks for is known, of all layers."""

from __future__ import annotations

from collections.abc import Sequence

from datasync.syncbase.layer import Layer
from datasync.syncbase.subscriber import Subscriber

__all__ = ["Coverage"]


class Coverage:
    """Which scopes the mirror holds completely, and how fresh."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self.started = False
        """The first state of all layers that the start waits for is known."""

    def covers(self, scope: str, registered: int = 0) -> bool:
        """Whether the mirror holds `scope` completely, and as fresh as a watch registered then may
        expect (G1).
        """
        return self.started and all(
            (layer.fresh >= registered and scope in layer.complete)
            or (layer.optional and (layer.lost or not layer.ready))
            for layer in self._layers
        )

    def holds(self, sub: Subscriber) -> bool:
        """Whether it covers all that this watch asks for."""
        return all(self.covers(scope, sub.registered) for scope in sub.scopes)

    def knows(self, sub: Subscriber) -> bool:
        """Whether all of that is known, if perhaps not as fresh as its registration asks for."""
        return all(map(self.covers, sub.scopes))

    def misses(self, sub: Subscriber) -> bool:
        """Whether something that this watch asks for has to come from a source that is lost."""
        return any(
            layer.lost
            and (
                layer.fresh < sub.registered
                or any(scope not in layer.complete for scope in sub.scopes)
            )
            for layer in self._layers
        )
