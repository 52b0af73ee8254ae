"""A directory of documents: which files in it count, and what stands before the keys of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from datasync.documents import format_of
from datasync.errors import BadStore
from datasync.texts import printable

__all__ = ["Found", "documents_in"]

_MOST = 10_000


class Found(NamedTuple):
    """A document.

    path: where it is.
    name: its path below the directory.
    format: one of `FORMATS`.
    prefix: what stands before its keys: `net/` for `net.yaml`.
    """

    path: str
    name: str
    format: str
    prefix: str


def documents_in(directory: str) -> tuple[list[Found], list[str]]:
    """The documents of a directory and of those below it, by name, and all these directories.

    Left out is what no ending names as a document, and all whose names begin with a dot, as
    temporary files do, and what Kubernetes keeps beside the files of a ConfigMap; not `.env`.

    Raises `OSError` where a directory cannot be read, `BadStore` where there are too many.
    """
    found: list[Found] = []
    directories: list[str] = []
    seen: set[tuple[int, int]] = set()

    def walk(path: str, below: str) -> Iterator[Found]:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            return  # a link leads back to it
        seen.add((status.st_dev, status.st_ino))
        directories.append(path)
        with os.scandir(path) as scan:
            members = sorted(scan, key=lambda member: member.name)
        for member in members:
            name, kind = member.name, format_of(member.name)
            if name.startswith(".") and name != ".env":
                continue
            if member.is_dir():
                yield from walk(member.path, f"{below}{name}/")
            elif kind is not None:
                stem = "" if name == ".env" else f"{name[: name.rindex('.')]}/"
                yield Found(member.path, below + name, kind, below + stem)

    for document in walk(directory, ""):
        found.append(document)
        if len(found) > _MOST:
            raise BadStore(
                f"{printable(directory)} holds more than {_MOST:,} documents; name a directory of "
                "configuration"
            )
    return found, directories
