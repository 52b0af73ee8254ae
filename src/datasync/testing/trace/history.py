"""The log of a source, replayed: what it held at any moment of any of its histories."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from datasync.capabilities import Capabilities
from datasync.source import Scopes

__all__ = ["History", "SourceLog"]

Cell = tuple[int, bytes | None, int]
"""(position in the log, value from there on, revision that wrote it)."""


class History:
    """One history; it begins with record `seq`. A *position* is the number of
    commits done: 0 is its start."""

    def __init__(
        self, name: str, revision: int, items: Iterable[tuple[str, bytes, int]], seq: int = -1
    ) -> None:
        self.name = name
        self.seq = seq
        self.start = revision
        self.revisions: list[int] = []
        self.commits: list[Sequence[tuple[str, bytes | None]]] = []
        self.cells: dict[str, list[Cell]] = {key: [(0, raw, at)] for key, raw, at in items}
        self.shared: dict[int, int] = {}
        """Up to which position it is the same as earlier histories, by their numbers."""
        self._sorted: list[str] | None = None

    def __len__(self) -> int:
        return len(self.commits)

    def add(self, changes: Sequence[tuple[str, bytes | None]], revision: int) -> None:
        """Append a commit."""
        self.commits.append(changes)
        self.revisions.append(revision)
        position = len(self.commits)
        for key, raw in changes:
            if key not in self.cells:
                self.cells[key] = []
                self._sorted = None
            self.cells[key].append((position, raw, revision))

    def revision(self, position: int) -> int:
        """The revision at which so many commits are done."""
        return self.revisions[position - 1] if position > 0 else self.start

    def position(self, revision: int) -> int:
        """How many commits are done at that revision."""
        return bisect_right(self.revisions, revision)

    def was(self, name: str, revision: int, items: Sequence[tuple[str, bytes, int]]) -> bool:
        """Whether it held just these items when it was at that revision."""
        return (
            name == self.name and self.start <= revision and self._held(revision) == sorted(items)
        )

    def _held(self, revision: int) -> list[tuple[str, bytes, int]]:
        return list(self.state(Scopes([""]), self.position(revision)))

    def value(self, key: str, position: int) -> tuple[bytes, int] | None:
        """The value and revision of a key at a position."""
        cells = self.cells.get(key)
        if not cells:
            return None
        index = bisect_right(cells, position, key=_position) - 1
        if index < 0:
            return None
        _, raw, revision = cells[index]
        return None if raw is None else (raw, revision)

    def state(self, scopes: Scopes, position: int) -> Iterator[tuple[str, bytes, int]]:
        """All it holds under these scopes at a position, in key order."""
        if self._sorted is None:
            self._sorted = sorted(self.cells)
        for key in self._sorted:
            if key in scopes:
                found = self.value(key, position)
                if found is not None:
                    yield key, *found

    def touched(
        self, scopes: Scopes, after: int, position: int
    ) -> Iterator[tuple[int, list[str], bool]]:
        """The commits past `after` up to `position` that write under these scopes: their
        position, those keys, and whether any of them then differs from before."""
        for number in range(after + 1, position + 1):
            keys = [key for key, _ in self.commits[number - 1] if key in scopes]
            if keys:
                yield number, keys, not all(self.is_same(key, number) for key in keys)

    def written_in(self, key: str, after: int, position: int) -> int | None:
        """The last position past `after`, up to `position`, at which the key was written."""
        last = None
        for cell in self.cells.get(key, ()):
            if after < cell[0] <= position:
                last = cell[0]
        return last

    def moments(self, key: str, raw: bytes | None) -> Iterator[int]:
        """The positions at which the key was written with that value, in order."""
        for position, there, _ in self.cells.get(key, ()):
            if there == raw:
                yield position

    def is_same(self, key: str, position: int) -> bool:
        """Whether the commit that leads to that position left the value of the key as it was."""
        return self._raw(key, position) == self._raw(key, position - 1)

    def _raw(self, key: str, position: int) -> bytes | None:
        found = self.value(key, position)
        return None if found is None else found[0]


class SourceLog:
    """All histories of one source. Without revisions they cannot be told apart: then
    there is one, of all commits."""

    def __init__(self, name: str, capabilities: Capabilities) -> None:
        self.name = name
        self.capabilities = capabilities
        self.histories: list[History] = []

    def started(
        self, name: str, revision: int, items: Sequence[tuple[str, bytes, int]], seq: int = -1
    ) -> None:
        """A new history begins."""
        if self.capabilities.revisions or not self.histories:
            same = [n for n, old in enumerate(self.histories) if old.was(name, revision, items)]
            self.histories.append(
                self._put_back(same[-1], revision, seq)
                if same
                else History(name, revision, items, seq)
            )
            return
        history = self.histories[0]
        now = {key: raw for key, raw, _ in items}
        gone = [
            key
            for key, cells in history.cells.items()
            if cells[-1][1] is not None and key not in now
        ]
        history.add([*now.items(), *((key, None) for key in gone)], 0)

    def _put_back(self, number: int, revision: int, seq: int) -> History:
        """The history that goes on from a backup of that one."""
        old = self.histories[number]
        position = old.position(revision)
        history = History(old.name, old.start, old.state(Scopes([""]), 0), seq)
        for changes, at in zip(old.commits[:position], old.revisions, strict=False):
            history.add(changes, at)
        history.shared = {number: position} | {
            n: min(shared, position) for n, shared in old.shared.items()
        }
        return history

    def committed(self, changes: Sequence[tuple[str, bytes | None]], revision: int) -> None:
        """A commit in the newest history."""
        if not self.histories:
            self.started("", 0, [])
        self.histories[-1].add(changes, revision)

    def moments(
        self, key: str, raw: bytes | None, revision: int | None
    ) -> Iterator[tuple[int, int]]:
        """When the key had that value: (history, position) of each write of it, in order.
        `revision`, unless None, counts where the source has revisions and there is a value."""
        exact = self.capabilities.revisions and raw is not None and revision is not None
        for number, history in enumerate(self.histories):
            cells = history.cells.get(key, [])
            if raw is None and (not cells or cells[0][0] > 0):
                yield number, 0
            for position, there, at in cells:
                if there == raw and (not exact or at == revision):
                    yield number, position


def _position(cell: Cell) -> int:
    return cell[0]
