"""What a hub keeps for its watchers: the last commits, with their encoded forms."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, TypeVar

from datasync.errors import HistoryLost
from datasync.source import Commit, Frame, Progress, Scopes

__all__ = ["CommitLog", "Encode", "Entry", "number_of", "parts_of"]

T = TypeVar("T")
Encode = Callable[[Frame], T]
"""From a frame to what goes over the wire. Its results are kept and shared, so
each form has one function."""

_KEEP = 4096
_KEEP_BYTES = 32 << 20
_FORMS = 8
"""Encoded forms of a commit that are kept; more differ in their scopes, and fewer
would share them."""
_BATCHES = 256
"""Lists of what watchers read who stand at different positions, or want different things."""
_NOTHING: Mapping[str, bytes] = {}
_as_text = json.JSONEncoder(separators=(",", ":")).encode  # in ASCII, and on one line


class Entry:
    """One commit of the log, encoded once for all who want the same of it."""

    __slots__ = ("_directories", "_encoded", "before", "frame", "seq", "size")

    def __init__(self, seq: int, frame: Commit, before: Mapping[str, bytes]) -> None:
        self.seq = seq
        self.frame = frame
        self.before = before
        self.size = sum(len(key) + len(raw or b"") for key, raw in frame.changes) + sum(
            map(len, before.values())
        )
        self._encoded: dict[object, Any] = {}
        self._directories = {key[: key.rfind("/") + 1] for key, _ in frame.changes}

    def concerns(self, scopes: Scopes) -> bool:
        """Whether any part of the commit lies in the scopes. For many watchers of other keys than
        those of a large commit: looks at each directory, not at each key."""
        directories, changes = self._directories, self.frame.changes
        if any(directory in scopes for directory in directories):
            return True
        names: Set[str] = scopes.names
        if len(names) < len(changes):  # else each of them would cost all later commits
            names = {key for key in names if key[: key.rfind("/") + 1] in directories}
        return bool(names) and any(key in names for key, _ in changes)

    def encoded(self, scopes: Scopes, encode: Encode[T]) -> T | None:
        """The part of the commit that lies in the scopes; None where nothing does."""
        if not self.concerns(scopes):
            return None
        frame = self.frame
        changes = scopes.keep(frame.changes)
        form: object = encode if changes is frame.changes else (encode, scopes)
        known: T | None = self._encoded.get(form)
        if known is None:
            known = encode(Commit(frame.position, frame.revision, changes))
            if len(self._encoded) < _FORMS:
                self._encoded[form] = known
        return known


class CommitLog:
    """The last commits, numbered; a position is the text of the log it belongs to, of a
    number, and of where the source stood, which tells another run of the server whether the
    source still has that history.

    history: what tells this log from all others.
    """

    def __init__(self, history: str) -> None:
        self.seq = 0
        """The number of the newest commit."""
        self.floor = 0
        """Who has seen less than this cannot go on."""
        self._begun = 0
        """What is less than this was before the snapshot that the log begins after."""
        self._history = history
        self._source_position = ""
        self._entries: list[Entry] = []
        self._size = 0
        self._batches: dict[object, Any] = {}
        self._bookmarks: dict[object, tuple[Progress, Any]] = {}

    def append(
        self,
        revision: int,
        changes: Sequence[tuple[str, bytes | None]],
        before: Mapping[str, bytes] = _NOTHING,
    ) -> Entry:
        """Add a commit, with the values that its keys had; the oldest are dropped."""
        self.seq += 1
        self._batches.clear()
        entry = Entry(self.seq, Commit(self.position(self.seq), revision, changes), before)
        self._entries.append(entry)
        self._size += entry.size
        if len(self._entries) > 2 * _KEEP or (
            self._size > 2 * _KEEP_BYTES and len(self._entries) > 1
        ):
            self._trim()
        return entry

    def before(self, position: str) -> Mapping[str, bytes]:
        """The values that a commit of the log put an end to."""
        return self._entries[int(parts_of(position)[1]) - self.floor - 1].before

    def stand_at(self, position: Any) -> None:
        """From now on the source stands at this position of its own, None where it has none. What
        is not plain data is left out."""
        try:
            self._source_position = "" if position is None else _as_text(position)
        except (TypeError, ValueError, RecursionError):
            self._source_position = ""

    def restart(self) -> None:
        """A snapshot takes the place of all that was before."""
        self.seq += 1
        self.floor = self._begun = self.seq
        self._entries.clear()
        self._batches.clear()
        self._size = 0

    def position(self, seq: int) -> str:
        """Where somebody is who has seen everything up to that number."""
        of_source = f".{self._source_position}" if self._source_position else ""
        return f"{self._history}.{seq}{of_source}"

    def seq_of(self, position: str) -> int:
        """The number in a position. Raises `HistoryLost` where one cannot go on after it."""
        number = number_of(position)
        if parts_of(position)[0] != self._history or number is None or number > self.seq:
            raise HistoryLost("the position belongs to another run of the server; take a snapshot")
        if number < self.floor:
            raise HistoryLost(
                "the server does not keep what came after the position any more; take a snapshot"
            )
        return number

    def unproven(self, position: str) -> str:
        """Where the source stood, as text, in a position of another log, or from before the
        snapshot that this one begins behind: the source may have another history since. "" where
        that does not say, or nothing is to be proven."""
        history, _, of_source = parts_of(position)
        number = number_of(position)
        ours = history == self._history and (number is None or number >= self._begun)
        return "" if ours else of_source

    def read(self, seq: int, limit: int) -> list[Entry]:
        """The next entries after `seq`, which is not below the floor: about `limit` bytes of
        them."""
        entries: list[Entry] = []
        for index in range(seq - self.floor, len(self._entries)):
            entry = self._entries[index]
            entries.append(entry)
            limit -= entry.size + 32
            if limit <= 0:
                break
        return entries

    def between(self, seq: int, until: int) -> list[Entry]:
        """All entries after `seq`, which is not below the floor, up to `until`."""
        return self._entries[seq - self.floor : until - self.floor]

    def bookmark(self, revision: int, encode: Encode[T]) -> T:
        """That nothing is missing up to now; encoded once for all."""
        frame = Progress(self.position(self.seq), revision)
        known: tuple[Progress, T] | None = self._bookmarks.get(encode)
        if known is None or known[0] != frame:
            known = self._bookmarks[encode] = frame, encode(frame)
        return known[1]

    def encoded(
        self, seq: int, entries: Sequence[Entry], scopes: Scopes, encode: Encode[T]
    ) -> tuple[list[T], tuple[int, int] | None]:
        """The frames of `entries`, read after `seq`, and what the last of them
        says: its number and revision.

        Until the next commit comes, all who stand at the same position and
        want the same get the same list.
        """
        form = (seq, len(entries), scopes, encode)
        known: tuple[list[T], tuple[int, int] | None] | None = self._batches.get(form)
        if known is None:
            frames, last = [], None
            for entry in entries:
                frame = entry.encoded(scopes, encode)
                if frame is not None:
                    frames.append(frame)
                    last = (entry.seq, entry.frame.revision)
            known = frames, last
            if len(self._batches) < _BATCHES:
                self._batches[form] = known
        return known

    def _trim(self) -> None:
        keep, size = 0, 0
        for entry in reversed(self._entries):
            if keep >= _KEEP or (size + entry.size > _KEEP_BYTES and keep):
                break
            keep += 1
            size += entry.size
        del self._entries[:-keep]
        self.floor, self._size = self.seq - keep, size


def parts_of(position: str) -> tuple[str, str, str]:
    """The log, the number and the position of the source in a position; "" for what it lacks."""
    history, _, rest = position.partition(".")
    number, _, of_source = rest.partition(".")
    return history, number, of_source


def number_of(position: str) -> int | None:
    """The number in a position; None where it is not of the form that is known."""
    number = parts_of(position)[1]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 20 else None
