"""What is counted of the requests, for the metrics."""

from __future__ import annotations

__all__ = ["Requests"]

_METHODS = frozenset(("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"))


class Requests:
    """Counts the requests that were answered, by route, method and status."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str], int] = {}

    def count(self, route: str, method: str, status: int) -> None:
        """One more; `route` is the pattern of the path, never the path itself."""
        labels = (route, method if method in _METHODS else "other", str(status))
        self.counts[labels] = self.counts.get(labels, 0) + 1
