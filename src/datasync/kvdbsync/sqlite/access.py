"""What this process may do with the file at a path, asked before SQLite touches it;
and making it, for its owner."""

from __future__ import annotations

import contextlib
import os

from datasync.errors import BadStore, Disconnected
from datasync.kvdbsync.sqlite.driver import Mode

__all__ = ["make_private", "mode_of"]


def mode_of(path: str, *, create: bool, immutable: bool) -> Mode:
    """How to open the store at `path`. Raises `BadStore`; `Disconnected` where it was
    there before (not `create`)."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        if not create:
            raise Disconnected(
                f"{directory} is gone; put it back, or restart to begin with an empty store"
            )
        raise BadStore(f"there is no directory {directory}; make it with: mkdir -p {directory}")
    if os.path.isdir(path):
        raise BadStore(f"{path} is a directory; name a file in it")
    if os.path.exists(path) and not os.path.isfile(path):
        raise BadStore(f"{path} is a device or a pipe; name a file")

    if not os.path.exists(path):
        if immutable:
            raise BadStore(f"there is no file {path}; name the file to be read")
        if not create:
            raise Disconnected(
                f"{path} is gone; put it back, or restart to begin with an empty store"
            )
        if not os.access(directory, os.W_OK):
            raise BadStore(
                f"{path} cannot be made in a read-only directory; grant write access to it"
            )
    elif not os.access(path, os.R_OK):
        raise BadStore(f"{path} may not be read by this process; grant it read access")
    elif immutable:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(f"{path}-wal").st_size:
                raise BadStore(
                    f"{path}-wal holds commits that ?immutable=1 would miss; open the file once "
                    "without it"
                )
    elif not os.access(path, os.W_OK):
        return "ro"
    elif not os.access(directory, os.W_OK):
        raise BadStore(
            f"{directory} is read-only, SQLite needs files beside {path}; grant write access to "
            "the directory, or read a file that nobody writes with ?immutable=1"
        )

    if immutable:
        return "immutable"
    return "rwc" if create else "rw"


def make_private(path: str) -> None:
    """Make an empty file that only its owner may use, unless there is one. SQLite gives
    those beside it the same mode.

    To be called while the library does not have it open: closing it here would end
    the locks of this process on it.
    """
    with contextlib.suppress(OSError):  # SQLite says what is wrong
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
