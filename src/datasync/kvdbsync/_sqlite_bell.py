"""The bell: a side file of which every writer writes one byte after its COMMIT, and inotify to hear it.

Watching the WAL instead would fire before the commit can be read. A bell that was not heard (no inotify, no
permission, a file that somebody deleted) costs time only: followers look at the log now and then anyway.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import struct
import sys
from typing import Any

__all__ = ["Bell", "Ear"]

_IN_MODIFY, _IN_ATTRIB, _IN_MOVE_SELF, _IN_DELETE_SELF = 0x2, 0x4, 0x800, 0x400
_IN_IGNORED = 0x8000
_EVENT = struct.Struct("iIII")


def bell_path(path: str) -> str:
    return f"{path}-bell"


class Bell:
    """The writers' end. Used by one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def hang(self) -> None:
        """Open or make the bell file, anew where it was deleted. Never raises."""
        if not sys.platform.startswith("linux"):
            return  # nobody could hear it
        bell = bell_path(self._path)
        with contextlib.suppress(OSError):
            if self._fd >= 0 and os.path.samestat(os.fstat(self._fd), os.stat(bell)):
                return
        self.close()
        with contextlib.suppress(OSError):
            self._fd = os.open(bell, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            # whoever may use the store may ring, also where this process belongs to another user: as SQLite does it
            store, mine = os.stat(self._path), os.fstat(self._fd)
            if mine.st_uid == os.geteuid() and (store.st_mode ^ mine.st_mode) & 0o777:
                os.fchmod(self._fd, store.st_mode & 0o777)
            if os.geteuid() == 0 and (store.st_uid, store.st_gid) != (mine.st_uid, mine.st_gid):
                os.fchown(self._fd, store.st_uid, store.st_gid)

    def ring(self) -> bool:
        """Tell everybody that there is something new; whether there is a bell to ring. Never raises."""
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


class Ear:
    """The followers' end: `fd` becomes readable when the bell rings or the store is moved or deleted."""

    def __init__(self, path: str, *, inotify: bool = True) -> None:
        self._path = path
        self._libc: Any = _libc() if inotify else None
        self._bell = self._store = -1
        self.fd: int = -1
        if self._libc is not None:
            self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def hears(self) -> bool:
        """Whether the bell is listened to."""
        return self._bell >= 0

    def listen(self) -> None:
        """Watch the files, anew where a watch ended or the bell is another file by now."""
        if self.fd < 0:
            return
        # for a file that is watched already this gives the same number again
        self._bell = self._watch(bell_path(self._path), _IN_MODIFY | _IN_DELETE_SELF, self._bell)
        self._store = self._watch(self._path, _IN_ATTRIB | _IN_MOVE_SELF | _IN_DELETE_SELF, self._store)

    def _watch(self, path: str, mask: int, before: int) -> int:
        number: int = self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        if before >= 0 and before != number:
            self._libc.inotify_rm_watch(self.fd, before)
        return number

    def hear(self) -> bool:
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
