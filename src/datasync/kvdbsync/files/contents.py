"""What the files held when they were last good: a state that changes as a whole, or not at all.

No half of an edit is taken for the whole. A file counts once it has looked the same for `settle`
seconds and nobody has it open for writing; others that changed wait for it, within bounds, so that
what belongs together comes together. What does not parse leaves the last good state of its file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from datasync.checks import check_key
from datasync.documents import BadFile, checked, entries
from datasync.documents.directory import Found
from datasync.kvdbsync.files.place import Mark, Place, Scan
from datasync.kvdbsync.files.whole import BeingWritten, read_whole
from datasync.texts import printable

__all__ = ["Contents", "Look"]

_PATIENCE = 2.0
"""Seconds for which a file that is being written holds up the others that changed beside it."""
_LONG = 10.0
"""Seconds after which it is said that a file is still being written."""
_AGAIN = 0.5
"""Seconds between two looks at a file that is still being written: nothing tells when it is not."""
_NAMED = 3
"""How many problems are told; of the others, their number."""

Change = tuple[str, bytes | None]


class Look(msgspec.Struct, frozen=True):
    """What one look at the files brought.

    changes: what differs from the state before.
    state: all that they give; None before there has been a state in which each file was good.
    trouble: what is wrong with some of them; None if nothing is.
    gone: why they cannot be looked at; None if they can.
    again: seconds after which to look again though nothing changes; None if that brings nothing.
    settling: more will be taken soon: who wants to know the newest state waits for it.
    directories: where something may change, each with its inode.
    """

    changes: list[Change]
    state: Mapping[str, bytes] | None
    trouble: str | None
    gone: str | None = None
    again: float | None = None
    settling: bool = False
    directories: dict[str, int] = {}


class _Pending(NamedTuple):
    """A file that differs from what was taken of it.

    mark: how it looks; None where it is gone.
    since: since when it looks so.
    first: since when it differs.
    """

    mark: Mark | None
    since: float
    first: float


class Contents:
    """The state that the files of a place give. `look` does I/O, so it belongs in a thread.

    place: which files.
    at: what stands before all keys.
    flatten: as for `datasync.documents.entries`.
    settle: seconds for which a file has to look the same.
    """

    def __init__(self, place: Place, at: str, flatten: str | None, settle: float) -> None:
        self._place = place
        self._at = at
        self._flatten = flatten
        self._settle = settle
        self._state: dict[str, bytes] | None = None
        self._taken: dict[str, Mark] = {}
        """The mark of each file as it was read last, whether it was good or not."""
        self._pending: dict[str, _Pending] = {}
        self._good: dict[str, dict[str, bytes]] = {}
        """What each file gave when it was last good."""
        self._bad: dict[str, str] = {}
        self._conflict: str | None = None
        self._said: str | None = None
        """What was wrong when a look found all at rest."""
        self._gone_since: float | None = None
        self._turn = threading.Lock()
        """Where a source is closed and opened again, the last look may still go on."""

    def look(self) -> Look:
        """See what has changed. Raises `BadStore`, `MissingExtra`."""
        with self._turn:
            return self._look()

    def _look(self) -> Look:
        now = time.monotonic()
        try:
            scan = self._place.scan()
        except OSError as error:
            return self._gone(now, error)
        self._gone_since = None

        self._note(scan, now)
        young = [path for path, one in self._pending.items() if now - one.since < self._settle]
        if self._are_waited_for(young, now):
            return self._settling(scan.directories)

        read = {path: self._read(path) for path in self._pending if path not in young}
        being_written = [path for path, content in read.items() if content is _BEING_WRITTEN]
        waiting = young + being_written
        in_motion = bool(read) and not self._still_looks_so(scan, waiting)
        if in_motion or self._are_waited_for(being_written, now):
            return self._settling(scan.directories)

        for path, content in read.items():
            if content is not _BEING_WRITTEN:
                self._take(path, scan, content)
        changes = self._merge(waiting)
        again = _AGAIN if waiting else None
        self._said = self._trouble(now, waiting)
        return Look(changes, self._state, self._said, again=again, directories=scan.directories)

    def _gone(self, now: float, error: OSError) -> Look:
        """Lost, unless it is back soon: some tools remove what they replace."""
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since < self._settle:
            return self._settling(self._place.above())
        why = f"{printable(str(error.filename or self._place.path))}: {error.strerror}"
        return Look([], self._state, self._said, gone=why, directories=self._place.above())

    def _settling(self, directories: dict[str, int]) -> Look:
        """Nothing yet: soon something may have settled."""
        soon = max(self._settle / 2, 0.005)
        return Look([], self._state, self._said, again=soon, settling=True, directories=directories)

    def _are_waited_for(self, paths: Iterable[str], now: float) -> bool:
        """Whether one of them is to hold up the others."""
        patience = max(_PATIENCE, 2 * self._settle)
        return any(now - self._pending[path].first < patience for path in paths)

    def _note(self, scan: Scan, now: float) -> None:
        """Bring `_pending` up to date."""
        first_look = self._state is None and not self._pending and not self._taken
        for path in scan.marks.keys() | self._taken.keys() | self._pending.keys():
            mark, before = scan.marks.get(path), self._pending.get(path)
            if mark == self._taken.get(path):
                self._pending.pop(path, None)
            elif before is None:
                # what is as it was long before this process looked need not be waited for
                age = time.time() - scan.changed[path] if first_look and mark is not None else 0.0
                since = now - min(max(age, 0.0), self._settle)
                self._pending[path] = _Pending(mark, since, now)
            elif mark != before.mark:
                self._pending[path] = _Pending(mark, now, before.first)

    def _read(self, path: str) -> _Content:
        mark = self._pending[path].mark
        if mark is None:
            return None
        try:
            return read_whole(path, mark)
        except BeingWritten:
            return _BEING_WRITTEN
        except OSError as error:
            return f"{printable(path)}: {error.strerror}"

    def _parsed(self, document: Found, data: bytes) -> dict[str, bytes]:
        prefix = self._at + document.prefix
        given = (
            entry._replace(key=prefix + entry.key)
            for entry in entries(document.format, document.path, data, self._flatten)
        )
        return {entry.key: entry.raw for entry in checked(document.path, given, self._check_key)}

    def _check_key(self, key: str) -> None:
        # a place that begins with a slash names whole keys
        check_key(key, rooted=not self._at.startswith("/"))

    def _still_looks_so(self, before: Scan, waiting: Iterable[str]) -> bool:
        """Whether what was read is of one moment: a link may have been led elsewhere meanwhile."""
        try:
            marks = self._place.scan().marks
        except OSError:
            return False
        paths = (marks.keys() | before.marks.keys()).difference(waiting)
        return all(marks.get(path) == before.marks.get(path) for path in paths)

    def _take(self, path: str, scan: Scan, content: _Content) -> None:
        mark = self._pending.pop(path).mark
        self._bad.pop(path, None)
        if mark is None:
            self._taken.pop(path, None)
            self._good.pop(path, None)
            return

        self._taken[path] = mark
        try:
            if isinstance(content, bytes):
                self._good[path] = self._parsed(scan.documents[path], content)
            else:
                self._bad[path] = str(content)
        except BadFile as error:
            self._bad[path] = printable(str(error))

    def _merge(self, waiting: list[str]) -> list[Change]:
        """Make one state of what the files give; returns what differs."""
        if self._state is None and (self._bad or waiting):
            return []  # G1: never a state in which a file is missing
        owners: dict[str, str] = {}
        state: dict[str, bytes] = {}
        for path, given in sorted(self._good.items()):
            for key, raw in given.items():
                if key in owners:
                    self._conflict = (
                        f"the key {key!r} is given by both {printable(owners[key])} and "
                        f"{printable(path)}"
                    )
                    return []
                owners[key], state[key] = path, raw

        self._conflict = None
        before, self._state = self._state or {}, state
        changes: list[Change] = [(key, None) for key in before if key not in state]
        changes += [(key, raw) for key, raw in state.items() if before.get(key) != raw]
        return changes

    def _trouble(self, now: float, waiting: list[str]) -> str | None:
        problems = [self._bad[path] for path in sorted(self._bad)]
        problems += [] if self._conflict is None else [self._conflict]
        problems += [
            f"{printable(path)} is being written all the time"
            for path in waiting
            if now - self._pending[path].first >= _LONG
        ]
        if not problems:
            return None
        named = "; ".join(problems[:_NAMED])
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        stands = "its last good state stays" if self._state is not None else "not ready"
        return f"{named}{more}; {stands} until that is mended"


class _BeingWritten:
    """In place of the content of a file that is not read yet."""


_BEING_WRITTEN = _BeingWritten()
_Content = bytes | str | _BeingWritten | None
"""What a file holds, why it cannot be read, or None where it is gone."""
