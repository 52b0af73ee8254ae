"""What is followed: one file or a directory of them, and how it looks at one moment."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

from datasync.documents import FORMATS, format_of
from datasync.documents.directory import Found, documents_in
from datasync.errors import BadStore
from datasync.mounts import file_system, mounts, remote_kind
from datasync.texts import printable

__all__ = ["Mark", "Place", "Scan", "mark_of"]

Mark = tuple[int, ...]
"""What differs once a file is written, replaced, or led to by another link."""

_BLIND = {"overlay", "overlayfs", "aufs", "virtiofs", "vboxsf", "prl_fs", "drvfs"}
"""File systems whose changes are told only in part: beside those of a network."""


class Scan(NamedTuple):
    """How it looks.

    documents: those that are there, by path.
    marks: the mark of each, by path.
    changed: of each, when its inode was written last (wall clock, seconds).
    directories: where something may change, each with its inode.
    """

    documents: dict[str, Found]
    marks: dict[str, Mark]
    changed: dict[str, float]
    directories: dict[str, int]


class Place:
    """A file, or a directory of files.

    path: where it is; made absolute, since the process may change its directory.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def scan(self) -> Scan:
        """Look. Raises `OSError` where it is gone or cannot be read, `BadStore` where it never can
        be."""
        watched = _leading_to(self.path)
        if stat.S_ISDIR(os.stat(self.path).st_mode):
            found, directories = documents_in(self.path)
            watched += directories
        else:
            found = [self._alone()]

        marks: dict[str, Mark] = {}
        changed: dict[str, float] = {}
        for document in found:
            status = _status(document.path)
            marks[document.path], changed[document.path] = mark_of(status), status.st_ctime
            if os.path.islink(document.path):
                # where it leads to, the file changes without a change beside the link
                watched.append(os.path.dirname(os.path.realpath(document.path)))
        return Scan({one.path: one for one in found}, marks, changed, _inodes(watched))

    def _alone(self) -> Found:
        name = os.path.basename(self.path)
        kind = format_of(name)
        if kind is None:
            raise BadStore(
                f"the name of {printable(self.path)} does not tell its format; end it in one of "
                f"{', '.join('.' + known for known in FORMATS)}"
            )
        return Found(self.path, name, kind, "")

    def above(self) -> dict[str, int]:
        """The directories in which something may bring back what is gone, each with its inode."""
        directory = self.path
        while directory != "/" and not os.path.isdir(directory):
            directory = os.path.dirname(directory)
        return _inodes([*_leading_to(self.path), directory])

    def blind(self) -> str | None:
        """The type of the file system, where not all of its changes are told."""
        path, lines = os.path.realpath(self.path), mounts()
        kind = file_system(path, lines)
        if kind in _BLIND or (kind.startswith("fuse") and kind != "fuseblk"):
            return kind
        return remote_kind(path, lines)


def mark_of(status: os.stat_result) -> Mark:
    """The mark of a file."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return os.lstat(path)  # a link that leads nowhere, which reading it will tell


def _leading_to(path: str) -> list[str]:
    """The directories in which it changes what the path names: that of the path itself, and those
    of the links on the way."""
    above = [path[:at] for at, letter in enumerate(path) if letter == "/" and at]
    return [os.path.dirname(one) for one in [*filter(os.path.islink, above), path]]


def _inodes(paths: list[str]) -> dict[str, int]:
    inodes: dict[str, int] = {}
    for path in dict.fromkeys(paths):
        with contextlib.suppress(OSError):
            inodes[path] = os.stat(path).st_ino
    return inodes
