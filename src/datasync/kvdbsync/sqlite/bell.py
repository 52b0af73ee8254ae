"""The bell: a side file, one byte of which every writer writes after its COMMIT, and inotify to
hear it.

Watching the WAL instead would fire before the commit can be read. A bell that was not
heard (no inotify, no permission, a file that somebody deleted) costs time only: followers
look at the log now and then anyway.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import stat
import struct
import sys
from typing import Any

from datasync.texts import logger

__all__ = ["LENGTH", "CommitNotifier", "CommitWatcher", "bell_path", "open_bell"]

_IN_MODIFY, _IN_ATTRIB, _IN_MOVE_SELF, _IN_DELETE_SELF = 0x2, 0x4, 0x800, 0x400
_IN_IGNORED = 0x8000
_IN_DONT_FOLLOW = 0x02000000
_EVENT = struct.Struct("iIII")

LENGTH = 81
"""What a bell holds at most: the byte that is written to ring, and the
record of the files in use."""

log = logger("datasync.sqlite")


def bell_path(path: str) -> str:
    return f"{path}-bell"


def open_bell(path: str, *, create: bool) -> tuple[int, bool] | None:
    """A descriptor of the bell of the store at `path`, and whether it was made now;
    None where there is none to use.

    What others put in its place is not touched, for it may be a second name of a file
    that is dear to somebody: only a regular file with one name that holds no more
    than a bell does. Never raises.
    """
    bell = bell_path(path)
    common = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    if create:
        with contextlib.suppress(OSError):
            return os.open(bell, common | os.O_CREAT | os.O_EXCL, 0o600), True
    try:
        if not _is_bell(os.lstat(bell)):  # asked before too: to open a device may do something
            raise ValueError
        fd = os.open(bell, common)
        if not _is_bell(os.fstat(fd)) or not _is_written_by_us(os.pread(fd, LENGTH, 0)):
            os.close(fd)
            raise ValueError
    except OSError:
        return None  # it may not be written by this process, and so neither may the store
    except ValueError:
        _say_once(bell)
        return None
    return fd, False


def _is_bell(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and found.st_size <= LENGTH


def _is_written_by_us(content: bytes) -> bool:
    """A byte that was written to ring, and the record of the files in use."""
    return content[:1] in (b"", b"\0", b"!", b"?") and not content[1:].strip(b"0123456789 \0")


@functools.lru_cache(maxsize=64)
def _say_once(bell: str) -> None:
    log.warning(
        "%s is not a bell of datasync: it is left alone, and commits of other processes are looked "
        "for instead;"
        " remove it, or name another store",
        bell,
    )


class CommitNotifier:
    """The writers' end. Used by one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def open(self) -> None:
        """Open the bell file, or create it, also where it was deleted. Never raises."""
        if not sys.platform.startswith("linux"):
            return  # nobody could hear it
        bell = bell_path(self._path)
        with contextlib.suppress(OSError):
            if self._fd >= 0 and os.path.samestat(os.fstat(self._fd), os.stat(bell)):
                return
        self.close()
        opened = open_bell(self._path, create=True)
        if opened is None:
            return
        self._fd, _ = opened
        with contextlib.suppress(OSError):
            # everybody who may use the store may ring, also where this process belongs
            # to another user, as in SQLite
            store, mine = os.stat(self._path), os.fstat(self._fd)
            if mine.st_uid == os.geteuid() and (store.st_mode ^ mine.st_mode) & 0o777:
                os.fchmod(self._fd, store.st_mode & 0o777)
            if os.geteuid() == 0 and (store.st_uid, store.st_gid) != (mine.st_uid, mine.st_gid):
                os.fchown(self._fd, store.st_uid, store.st_gid)

    def notify(self) -> bool:
        """Tell everybody that there is something new; whether there is a
        bell to ring. Never raises."""
        if self._fd >= 0:
            try:
                os.pwrite(self._fd, b"!", 0)
            except OSError:
                self.close()
        return self._fd >= 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@functools.cache
def _libc() -> Any:
    """libc with inotify, or None."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.inotify_init1.argtypes = [ctypes.c_int]
        libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
        libc.inotify_rm_watch.argtypes = [ctypes.c_int, ctypes.c_int]
    except (OSError, AttributeError, TypeError):
        return None
    return libc


class CommitWatcher:
    """The followers' end: `fd` becomes readable when the bell rings or the
    store is moved or deleted."""

    def __init__(self, path: str, *, inotify: bool = True) -> None:
        self._path = path
        self._libc: Any = _libc() if inotify else None
        self._bell = self._store = -1
        self.fd: int = -1
        if self._libc is not None:
            self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def watching(self) -> bool:
        """Whether the bell is listened to."""
        return self._bell >= 0

    def watch(self) -> None:
        """Watch the files, again where a watch ended or the bell is another file by now."""
        if self.fd < 0:
            return
        bell, is_bell = bell_path(self._path), False
        with contextlib.suppress(OSError):
            is_bell = _is_bell(os.lstat(bell))
        # for a file that is watched already this gives the same number again
        mask = _IN_MODIFY | _IN_DELETE_SELF | _IN_DONT_FOLLOW
        self._bell = self._watch(bell, mask, self._bell) if is_bell else -1
        self._store = self._watch(
            self._path, _IN_ATTRIB | _IN_MOVE_SELF | _IN_DELETE_SELF, self._store
        )

    def _watch(self, path: str, mask: int, before: int) -> int:
        number: int = self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        if before >= 0 and before != number:
            self._libc.inotify_rm_watch(self.fd, before)
        return number

    def read(self) -> bool:
        """Take what there is to hear; whether something else than the bell was among it."""
        try:
            events = os.read(self.fd, 65536)
        except OSError:
            return False
        other, at = False, 0
        while at < len(events):
            number, mask, _, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size + length
            if mask & _IN_IGNORED and number == self._bell:
                self._bell = -1
            other = other or not mask & _IN_MODIFY
        return other

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
