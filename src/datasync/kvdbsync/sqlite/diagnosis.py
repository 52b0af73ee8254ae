"""What can be found out of a file of SQLite: the library, and where the file lies."""

from __future__ import annotations

import os
import shutil

from datasync.findings import Finding, Severity, size_text
from datasync.kvdbsync.sqlite.driver import Driver, is_defective
from datasync.mounts import mounts, remote_kind

__all__ = ["findings_of"]

_LITTLE = 256 << 20
"""Bytes of a file system below which there is little left."""


def findings_of(path: str, library: Driver) -> list[Finding]:
    """How the store in this file is, which can be opened."""
    version = ".".join(map(str, library.version))
    if is_defective(library.version):
        found = [
            Finding(
                "library",
                Severity.WARNING,
                f"SQLite {version} (of {library.name}) has a rare defect: a commit can be lost "
                "where several processes write",
                "pip install 'datasync[sqlite]'",
            )
        ]
    else:
        found = [Finding("library", Severity.OK, f"SQLite {version} (of {library.name})")]

    kind = remote_kind(os.path.realpath(path), mounts())
    if kind is not None:
        found.append(
            Finding(
                "file system",
                Severity.ERROR,
                f"{path} lies on {kind}, where the locks of SQLite do not hold",
                "put the file on a local disk, and let others follow it by `datasync serve`",
            )
        )

    free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    if free < _LITTLE:
        found.append(
            Finding(
                "disk", Severity.WARNING, f"only {size_text(free)} are free", "make room for it"
            )
        )
    else:
        found.append(Finding("disk", Severity.OK, f"{size_text(free)} are free"))
    return found
