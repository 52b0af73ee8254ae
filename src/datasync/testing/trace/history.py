"""The log of a source, replayed: what it held at any moment of any of its histories."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from datasync.capabilities import Capabilities
from datasync.source import Scopes

__all__ = ["History", "SourceLog"]

Cell = tuple[int, bytes | None, int]
"""(place in the log, value from there on, revision that wrote it)."""


class History:
    """One history; it begins with record `seq`. A *place* is the number of
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
        """Up to which place it is the same as earlier histories, by their numbers."""
        self._sorted: list[str] | None = None

    def __len__(self) -> int:
        return len(self.commits)

    def add(self, changes: Sequence[tuple[str, bytes | None]], revision: int) -> None:
        """Append a commit."""
        self.commits.append(changes)
        self.revisions.append(revision)
        place = len(self.commits)
        for key, raw in changes:
            if key not in self.cells:
                self.cells[key] = []
                self._sorted = None
            self.cells[key].append((place, raw, revision))

    def revision(self, place: int) -> int:
        """The revision at which so many commits are done."""
        return self.revisions[place - 1] if place > 0 else self.start

    def place(self, revision: int) -> int:
        """How many commits are done at that revision."""
        return bisect_right(self.revisions, revision)

    def was(self, name: str, revision: int, items: Sequence[tuple[str, bytes, int]]) -> bool:
        """Whether it held just these items when it was at that revision."""
        return (
            name == self.name and self.start <= revision and self._held(revision) == sorted(items)
        )

    def _held(self, revision: int) -> list[tuple[str, bytes, int]]:
        return list(self.state(Scopes([""]), self.place(revision)))

    def value(self, key: str, place: int) -> tuple[bytes, int] | None:
        """The value and revision of a key at a place."""
        cells = self.cells.get(key)
        if not cells:
            return None
        index = bisect_right(cells, place, key=_place) - 1
        if index < 0:
            return None
        _, raw, revision = cells[index]
        return None if raw is None else (raw, revision)

    def state(self, scopes: Scopes, place: int) -> Iterator[tuple[str, bytes, int]]:
        """All it holds under these scopes at a place, in key order."""
        if self._sorted is None:
            self._sorted = sorted(self.cells)
        for key in self._sorted:
            if key in scopes:
                found = self.value(key, place)
                if found is not None:
                    yield key, *found

    def touched(
        self, scopes: Scopes, after: int, place: int
    ) -> Iterator[tuple[int, list[str], bool]]:
        """The commits behind `after` up to `place` that write under these scopes: their place,
        those keys, and whether any of them then differs from before."""
        for number in range(after + 1, place + 1):
            keys = [key for key, _ in self.commits[number - 1] if key in scopes]
            if keys:
                yield number, keys, not all(self.is_same(key, number) for key in keys)

    def written_in(self, key: str, after: int, place: int) -> int | None:
        """The last place behind `after`, up to `place`, at which the key was written."""
        last = None
        for cell in self.cells.get(key, ()):
            if after < cell[0] <= place:
                last = cell[0]
        return last

    def is_same(self, key: str, place: int) -> bool:
        """Whether the commit that leads to that place left the value of the key as it was."""
        return self._raw(key, place) == self._raw(key, place - 1)

    def _raw(self, key: str, place: int) -> bytes | None:
        found = self.value(key, place)
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
        place = old.place(revision)
        history = History(old.name, old.start, old.state(Scopes([""]), 0), seq)
        for changes, at in zip(old.commits[:place], old.revisions, strict=False):
            history.add(changes, at)
        history.shared = {number: place} | {
            n: min(shared, place) for n, shared in old.shared.items()
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
        """When the key had that value: (history, place) of each write of it, in order. `revision`,
        unless None, counts where the source has revisions and there is a value."""
        exact = self.capabilities.revisions and raw is not None and revision is not None
        for number, history in enumerate(self.histories):
            cells = history.cells.get(key, [])
            if raw is None and (not cells or cells[0][0] > 0):
                yield number, 0
            for place, there, at in cells:
                if there == raw and (not exact or at == revision):
                    yield number, place


def _place(cell: Cell) -> int:
    return cell[0]
