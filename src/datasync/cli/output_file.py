"""The file that a command writes: it appears under its name only when it is complete, and
keeps what the one before it was allowed to be."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

from datasync.errors import DataSyncError

__all__ = ["output_file"]

_DESCRIPTORS = ("/dev/fd", "/proc/self/fd")
_MOST_LINKS = 40
"""Symbolic links that are followed one by one; the system itself refuses more."""

Output = tuple[BinaryIO, Callable[[], None]]


@contextlib.contextmanager
def output_file(name: str) -> Iterator[Output]:
    """The file of that name ("-": standard output) to write to, and what to call once all is
    written: else a regular file stays as it was.

    A regular file is replaced, and keeps its owner, group, mode and attributes; a symbolic link
    stays, and what it leads to is replaced. A new file is for its owner alone. What is not a
    regular file is written as it is. Raises `DataSyncError`.

    To be entered outside of an event loop: a FIFO waits for its reader, and Ctrl-C is to end that.
    """
    if name == "-":
        yield sys.stdout.buffer, lambda: None  # flushed at the end of the process
        return

    try:
        descriptor = _descriptor(name)
        before = _status(name)
        if descriptor is not None:
            # not opened by its name: that would empty a file which others write to as well
            with os.fdopen(os.dup(descriptor), "wb") as file:
                yield file, file.flush
        elif before is not None and not stat.S_ISREG(before.st_mode):
            with os.fdopen(os.open(name, os.O_WRONLY | os.O_CLOEXEC), "wb") as file:
                yield file, file.flush
        else:
            with _replacement(os.path.realpath(name), before) as output:
                yield output
    except BrokenPipeError:  # nobody reads any more, as with standard output
        raise
    except OSError as error:
        raise DataSyncError(f"{name}: {error.strerror}; name a file that can be written") from None


def _descriptor(name: str) -> int | None:
    """The number of the open file that /dev/stdout or /dev/fd/N leads to."""
    folders = {os.path.realpath(folder) for folder in _DESCRIPTORS}
    path = pathlib.Path(name)
    for _ in range(_MOST_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) in folders:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _status(name: str) -> os.stat_result | None:
    try:
        return os.stat(name)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _replacement(path: str, before: os.stat_result | None) -> Iterator[Output]:
    folder, base = os.path.split(path)
    part = pathlib.Path(folder, f".{base}.{os.getpid()}.part")

    def complete() -> None:
        file.flush()
        os.fsync(file.fileno())
        part.replace(path)

    try:
        with open(part, "xb", opener=_private) as file:
            if before is not None:
                _take_over(path, before, part)
            yield file, complete
    finally:
        part.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _take_over(path: str, before: os.stat_result, part: pathlib.Path) -> None:
    """Give `part` what `path` has beside its contents."""
    made = part.stat()
    if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.chown(part, before.st_uid, before.st_gid)
        except PermissionError:
            raise DataSyncError(
                f"{path} belongs to another user or group, and would not any more; name another "
                "file"
            ) from None
    shutil.copystat(path, part)  # last: a change of the owner takes bits from the mode
