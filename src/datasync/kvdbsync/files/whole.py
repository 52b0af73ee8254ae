"""A file is read as a whole, or not at all: never while somebody writes it, where the system
tells."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat

from datasync.kvdbsync.files.place import Mark, mark_of

__all__ = ["LARGEST", "BeingWritten", "read_whole"]

LARGEST = 64 << 20
"""Bytes that a file may have."""


class BeingWritten(Exception):
    """Somebody has the file open for writing, or it is not the one that was looked at."""


def read_whole(path: str, mark: Mark) -> bytes:
    """The content of the file that had that mark. Raises `OSError`, `BeingWritten`."""
    # not blocking: what took the place of a file may be a FIFO
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except BlockingIOError:  # a lease of somebody who writes it
        raise BeingWritten from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        if status.st_size > LARGEST:
            raise OSError(errno.EFBIG, f"is larger than {LARGEST >> 20} MiB", path)
        if mark_of(status) != mark or _open_for_writing(fd):
            raise BeingWritten

        content = bytearray()
        while part := os.read(fd, 1 << 20):
            content += part
            if len(content) > status.st_size:
                raise BeingWritten
        # who began to write meanwhile has changed the mark by the first byte, or is still at it
        if mark_of(os.fstat(fd)) != mark or _open_for_writing(fd):
            raise BeingWritten
        return bytes(content)
    finally:
        os.close(fd)


def _open_for_writing(fd: int) -> bool:
    """Whether anybody has the file open for writing, as far as this system tells.

    Linux grants a read lease on no file that is open for writing. It does to the owner of the file
    and to root alone, and not on each file system.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # who opens the file within the next microseconds breaks the lease; the signal for it would
        # end this process, were it not one that is ignored
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
