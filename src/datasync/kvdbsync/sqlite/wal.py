"""Whose WAL it is. SQLite applies any -wal that bears the name of the
database and whose checksums hold.

Two moments need an answer. When a store is opened after all who had it open have ended without
closing it, the WAL may belong to another file than the one that lies there now. And when a file
of an open store was taken away or replaced, what was acknowledged may stand only in the WAL
that this process still holds.
"""

from __future__ import annotations

import contextlib
import os
import time

from datasync.errors import BadStore
from datasync.kvdbsync.sqlite.claim import Files
from datasync.kvdbsync.sqlite.driver import Connection, Driver, Mode
from datasync.kvdbsync.sqlite.store import Head, head, history
from datasync.texts import logger

__all__ = ["carry_over", "refuse_foreign_wal"]

log = logger("datasync.sqlite")

_PATIENCE = 5_000
_CLOCK_TICK = 0.02
"""Seconds within which two writes may leave a file with the same time."""


def refuse_foreign_wal(
    library: Driver, path: str, files: Files, recorded: tuple[int, ...] | None
) -> None:
    """Set the WAL at `path` aside where it is not that of the database.
    Nobody may have either of them open.

    `recorded` are the files that were in use last. Raises `BadStore` where the two make no store
    together, and it cannot be told which of them is to blame.
    """
    if files.wal is None or not os.path.getsize(f"{path}-wal"):
        return

    store, wal, _ = files.as_recorded()
    was_store, was_wal = recorded[:2] if recorded is not None else (0, 0)
    if wal == was_wal and store != was_store:
        _set_aside(path, f"it belongs to the file that was at {path} before")
        return

    # the same two files as before, or the copy of a pair: what they hold decides
    alone = _state(library, path, "immutable", with_check=False)
    if alone is None:
        # written half by a checkpoint that the WAL completes, or damaged: who opens it finds out
        return

    known = store == was_store and wal == was_wal
    together = _state(library, path, "ro", behind=alone[1], with_check=not known)
    if together is not None and _continues(alone, together):
        return

    if _state(library, path, "immutable", with_check=True) is None:
        raise BadStore(
            f"{path} and {path}-wal do not belong together, or are damaged; restore a backup with: "
            "datasync restore"
        )

    _set_aside(path, "it does not continue what the file holds")


State = tuple[str, Head]


def _state(
    library: Driver, path: str, mode: Mode, *, behind: Head | None = None, with_check: bool
) -> State | None:
    """The history and the row of the log at (or the first one after) `behind`;
    None where it cannot be read."""
    try:
        # neither mode ever writes to the file, at closing either
        connection = library.connect(path, mode)
        with contextlib.closing(connection):
            if with_check and connection.all("PRAGMA quick_check(1)") != [("ok",)]:
                return None
            if behind is None:
                return history(connection), head(connection)
            query = (
                "SELECT revision, nonce, total FROM log WHERE revision >= ? ORDER BY "
                "revision LIMIT 1"
            )
            return history(connection), Head(*connection.all(query, (behind.revision,))[0])
    except (library.error, BadStore, IndexError, TypeError):
        return None


def _continues(before: State, after: State) -> bool:
    """Whether `after` may be what became of `before`. The row of its head may
    have been pruned meanwhile."""
    same = before[1].nonce == after[1].nonce if before[1].revision == after[1].revision else True
    return before[0] == after[0] and same


def _set_aside(path: str, why: str) -> None:
    aside = f"{path}-wal-aside"
    try:
        os.replace(f"{path}-wal", aside)
    except FileNotFoundError:
        return  # another process has done so
    log.warning("%s-wal is not applied to the store: %s; it is kept as %s", path, why, aside)


def carry_over(connection: Connection, library: Driver, path: str, files: Files) -> None:
    """Write the WAL that `connection` holds into the database that it holds, as the
    last of this process to do so.

    `files` are those that it has open; one of them is not at `path` any more.
    """
    now = Files.at(path)
    intruder = now.store == files.store and now.wal not in (None, files.wal)
    before = _written(path) if intruder else 0
    complete = False
    try:
        connection.run("PRAGMA query_only=0")
        connection.run(f"PRAGMA busy_timeout={_PATIENCE}")
        busy, _, _ = connection.all("PRAGMA wal_checkpoint(FULL)")[0]
        complete = not busy
    except library.error as error:
        log.error("%s: commits may be lost with the WAL that was taken away (%s)", path, error)
    if intruder and _written(path) != before:
        # made beside an older state of the database than the one that it has now
        _set_aside(path, "it was put there while the store was open")
    now = Files.at(path)
    if complete and now.store != files.store:
        # they would be applied to whatever lies there now, or will
        for suffix, found, ours in (("-wal", now.wal, files.wal), ("-shm", now.shm, files.shm)):
            if found is not None and found == ours:
                with contextlib.suppress(OSError):
                    os.unlink(path + suffix)


def _written(path: str) -> int:
    """When the file was last written to; never the same for a write that follows."""
    with contextlib.suppress(OSError):
        time.sleep(_CLOCK_TICK)
        return os.stat(path).st_mtime_ns
    return 0
