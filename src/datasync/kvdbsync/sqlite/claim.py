"""Which files a store consists of, and who has them open: the identity of the
three files, and a claim on them.

SQLite keeps no link between a database, its -wal and its -shm but their names. Once one of them is
replaced, the next process to open them applies the frames of one database to another, or writes
beside those that hold the old file. So each process that has a store open holds a lock on the side
file (the bell), which also records the files in use. Nobody opens the store while others hold files
that are not those at the path: they notice, carry over what they have, and close them.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from datasync.kvdbsync.sqlite.bell import LENGTH, bell_path, open_bell

try:
    import fcntl
except ImportError:  # no file of an open store can be replaced or removed there
    fcntl = None  # type: ignore[assignment]

__all__ = ["Claim", "Files", "Names", "identity", "is_settled", "names_in"]

Identity = tuple[int, int]

_AT = 1
_LENGTH = LENGTH - _AT
"""Where the record stands in the side file: after the byte that is written to ring."""


def identity(path: str) -> Identity | None:
    """What tells a file from any other as long as it is open; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


_TICK = 0.02
"""Seconds within which two changes of a directory may leave it with the same time."""
_COARSE = 1_000_000
"""Nanoseconds in which no file system counts that is to tell one change from the next."""

Names = tuple[int, int, int, int]
"""What stays the same while no name in a directory comes to lead to another file."""


def names_in(directory: str) -> Names | None:
    """How the names in a directory are now; None where that cannot be told.

    Never the same for longer than a second: a mount on a file changes no directory.
    """
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns, int(time.monotonic())


def is_settled(names: Names, since: float) -> bool:
    """Whether the next change will be seen in them, which were asked for at that time: not where
    the directory had just been changed, nor where its time counts in coarse steps, or is that
    when it was made."""
    changed = names[2]
    return os.name == "posix" and changed % _COARSE > 0 and since - changed / 1e9 > 2 * _TICK


class Files(NamedTuple):
    """The three files of a store, as they are at a path at one moment; None
    for one that is not there."""

    store: Identity | None
    wal: Identity | None
    shm: Identity | None

    @classmethod
    def at(cls, path: str) -> Files:
        """What is there now."""
        return cls(identity(path), identity(f"{path}-wal"), identity(f"{path}-shm"))

    def as_recorded(self) -> tuple[int, ...]:
        """The numbers that the side file keeps. Devices get other numbers
        at each start of the machine."""
        return tuple(0 if each is None else each[1] for each in self)


class Claim:
    """The share of one process in the files of a store. Used by one thread at a time."""

    def __init__(self, path: str) -> None:
        self._store = path
        self._path = bell_path(path)
        self._fd = -1
        self._made = False
        self.alone = False
        """Whether nobody else has the store open, nor may open it."""

    def take(self, *, create: bool) -> bool | None:
        """Try to take it: True if nobody else has the store open, and none may open it until
        `share` is called; False if others have; None while another process is just opening it.
        `create`: make the side file if need be.
        """
        if fcntl is None or not self._open(create=create):
            return False
        for kind, alone in ((fcntl.LOCK_EX, True), (fcntl.LOCK_SH, False)):
            try:
                fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:  # a file system that has no such locks
                self._close()
                return False
            if self._is_current():
                self.alone = alone
                return alone
            self._close()  # another one lies there by now
            return None
        return None

    def share(self, files: Files) -> None:
        """Record the files in use, and let others open them too."""
        if fcntl is not None and self._fd >= 0:
            self._record(files)
            self.alone = False
            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def renew(self, files: Files) -> None:
        """Take it again where somebody deleted the side file."""
        if fcntl is None or self._is_current():
            return
        renewed = Claim(self._store)
        if renewed._open(create=True):
            with contextlib.suppress(OSError):
                fcntl.flock(renewed._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if renewed.recorded() is None:
                    renewed._record(files)
                self._close()
                self._fd = renewed._fd
                return
        renewed._close()

    def recorded(self) -> tuple[int, ...] | None:
        """The files in use, as the last process to open the store recorded them."""
        if self._fd < 0:
            return None
        try:
            store, wal, shm = os.pread(self._fd, _LENGTH, _AT).split()
            return int(store), int(wal), int(shm)
        except (OSError, ValueError):
            return None

    def ring(self) -> None:
        """Have those who have the store open look at its files."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, b"?", 0)

    def release(self, files: Files | None = None) -> None:
        """Give it up. `files` are recorded, unless others have the store open."""
        if fcntl is not None and files is not None and self._fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._record(files)
        self._close()

    def discard(self) -> None:
        """Give it up, and remove the side file if this made it and holds it
        alone: there is no store."""
        if self._made and self.alone and self._is_current():
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._close()

    def abandon(self) -> None:
        """In a forked child: let go of the copy, without giving up what the parent holds."""
        self._close()

    def _open(self, *, create: bool) -> bool:
        if self._fd >= 0:
            return True
        opened = open_bell(self._store, create=create)
        if opened is None:
            return False
        self._fd, self._made = opened
        return True

    def _is_current(self) -> bool:
        if self._fd < 0:
            return False
        found = os.fstat(self._fd)
        return identity(self._path) == (found.st_dev, found.st_ino)

    def _record(self, files: Files) -> None:
        line = " ".join(map(str, files.as_recorded())).encode().ljust(_LENGTH)
        try:
            if os.pread(self._fd, _LENGTH, _AT) != line:
                os.pwrite(self._fd, line, _AT)
        except OSError:
            # rather no record than an old one, which nobody could open the store by
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        self.alone = False
        if fd >= 0:
            os.close(fd)
