"""The objects by the prefixes that they lie under."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datasync.reconcile.slots import Node

__all__ = ["Folders", "prefixes"]


class Folders:
    """What lies directly below each prefix: objects by their keys, and further prefixes."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._folders: dict[str, dict[str, Node | None]] = {}
        for node in nodes:
            self.add(node)

    def below(self, prefix: str) -> Iterator[Node]:
        """All objects under it."""
        rest = [prefix]
        while rest:
            for name, entry in self._folders.get(rest.pop(), {}).items():
                if entry is None:
                    rest.append(name)
                else:
                    yield entry

    def add(self, node: Node) -> None:
        """There is such an object."""
        name: str = node.key
        entry: Node | None = node
        for prefix in prefixes(node.key):
            known = prefix in self._folders
            self._folders.setdefault(prefix, {})[name] = entry
            if known:
                return
            name, entry = prefix, None

    def remove(self, key: str) -> None:
        """There is no such object any more."""
        name = key
        for prefix in prefixes(key):
            folder = self._folders[prefix]
            del folder[name]
            if folder:
                return
            del self._folders[prefix]
            name = prefix


def prefixes(key: str) -> Iterator[str]:
    """Those that it lies under, the longest first."""
    end = key.rfind("/", 0, len(key) - 1)
    while end >= 0:
        yield key[: end + 1]
        end = key.rfind("/", 0, end)
