"""Copies of a store as one file, made and put back while others use the store.

A backup is a `VACUUM INTO` within one read transaction: the state of one moment, compact, and a
file that stands by itself. It is put back within one write transaction, as a new history: a watch
sees the state before or after it, and gets a RESYNC.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from datasync.errors import BadStore, DataSyncError, Disconnected, OutcomeUnknown, UsageError
from datasync.kvdbsync.sqlite.claim import identity
from datasync.kvdbsync.sqlite.clock import shift
from datasync.kvdbsync.sqlite.driver import Connection, Driver, explain, surely_undone
from datasync.kvdbsync.sqlite.file import SharedFile
from datasync.kvdbsync.sqlite.rows import REVISION
from datasync.kvdbsync.sqlite.store import begin_history, head, require_store

__all__ = ["Report", "back_up", "check_backup", "make_from", "put_back"]

Report = Callable[[int, int], None]
"""Told now and then how much is done, of how much in all."""
T = TypeVar("T")

_ODD = (
    f"SELECT CAST(key AS BLOB), {REVISION} FROM kv"  # noqa: S608 - no text of a user
    " WHERE typeof(revision) <> 'integer' OR revision NOT BETWEEN 1 AND ? LIMIT 1"
)
"""A row whose revision cannot be one of the store's."""
_REPORT_EVERY = 0.1
_LOCK_PAUSE = 0.005


class _Stopped(Exception):
    """The caller was cancelled."""


async def back_up(file: SharedFile, target: str, report: Report) -> int:
    """Write the state of the store to the file `target`, which appears when it
    is complete; its size in bytes.

    Only its owner may read it. Raises `UsageError` where `target` is a store
    itself, `BadStore`, `Disconnected`.
    """
    target = _checked(file, target)
    with _part(target) as part:

        def copy(connection: Connection) -> None:
            connection.run("PRAGMA query_only=0")
            with _about(file.library, target):
                connection.all("VACUUM INTO ?", (part,))

        pages = await file.follower.call(
            lambda connection: connection.all(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            )
        )
        total = int(pages[0][0])
        await _apart(
            file,
            lambda connection, _: copy(connection),
            lambda: report(_size(part), total),
            write=False,
        )
        _appear(part, target, replace=True)
    return _size(target)


def _checked(file: SharedFile, target: str) -> str:
    """The absolute path of `target`, if a backup may be written there."""
    target = os.path.abspath(target)
    if (
        identity(target) is not None
        and file.files is not None
        and identity(target) == file.files.store
    ):
        raise UsageError(f"{target} is the store itself; name another file")
    if os.path.isdir(target) or (os.path.exists(target) and not os.path.isfile(target)):
        raise UsageError(f"{target} is not a file; name the file to be written")
    if os.path.exists(f"{target}-wal"):
        raise UsageError(f"{target} is a store, as {target}-wal shows; name another file")
    return target


def check_backup(library: Driver, backup: str, store: str) -> bool:
    """Raise `BadStore` unless `backup` can be put back into `store`;
    `UsageError` where the two are one.

    Whether there is a store yet.
    """
    if not os.path.isfile(backup):
        raise BadStore(f"there is no file {backup}; name a file that datasync backup has written")
    if identity(backup) == identity(store):
        raise UsageError(f"{backup} is the store itself; name the backup")

    if _size(f"{backup}-wal"):
        raise BadStore(
            f"{backup} is a store that is in use, as {backup}-wal shows; make a backup of it with: "
            f"datasync backup sqlite:///{backup} FILE"
        )

    with (
        _about(library, backup),
        contextlib.closing(library.connect(backup, "immutable")) as connection,
    ):
        require_store(connection, backup)
        newest = head(connection).revision
        found = connection.all("PRAGMA quick_check(1)")
        if found != [("ok",)]:
            raise BadStore(f"{backup} is damaged ({found[0][0]}); name an older backup")

        for key, revision in connection.all(_ODD, (newest,)):
            raise BadStore(
                f"{backup} is damaged: the key {key.decode(errors='backslashreplace')!r} has the "
                f"revision {revision!r}; name an older backup"
            )

    return os.path.lexists(store)


async def make_from(library: Driver, backup: str, path: str) -> None:
    """Make the store `path`, which does not exist, from a backup: at once,
    and with its own history."""

    stopped = threading.Event()

    def make() -> None:
        with _part(path) as part:
            with _about(library, path):
                with contextlib.closing(library.connect(backup, "immutable")) as connection:
                    connection.all("VACUUM INTO ?", (part,))
                with contextlib.closing(library.connect(part, "rw")) as connection:
                    connection.run("BEGIN IMMEDIATE")
                    begin_history(connection, 0)
                    connection.run("COMMIT")
            if not stopped.is_set():
                _appear(part, path, replace=False)

    making = asyncio.ensure_future(asyncio.to_thread(make))
    try:
        await asyncio.shield(making)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait([making])
        raise


async def put_back(file: SharedFile, backup: str, report: Report) -> tuple[int, int]:
    """Replace all that the store holds by what is in `backup`, in one transaction;
    the number of keys, the revision.

    Raises `BadStore`, `Disconnected` (nothing was done), `OutcomeUnknown`.
    """
    progress = [0, 0]

    def replace(connection: Connection, stopped: threading.Event) -> tuple[int, int]:
        def tick() -> int:
            progress[0] += 1
            if stopped.is_set():
                raise _Stopped
            return 1

        connection.attach(backup, "backup")
        progress[1] = connection.all("SELECT count(*) FROM backup.kv")[0][0]
        connection.function("tick", tick)
        _begin(file, connection, stopped)
        file.check_schema(connection)
        least = connection.all("SELECT max(revision) FROM backup.log")[0][0]
        ahead = shift(connection)
        connection.run("DELETE FROM main.kv")
        connection.run(
            "INSERT INTO main.kv SELECT key, value, revision, CASE WHEN typeof(expires) = 'real' "
            "THEN expires + ? ELSE expires END FROM backup.kv "
            "WHERE tick()",
            (ahead,),
        )
        revision = begin_history(connection, least)
        file.check()
        if stopped.is_set():
            raise _Stopped
        try:
            connection.run("COMMIT")
        except file.library.error as error:
            if surely_undone(file.library.code(error)):
                raise
            raise OutcomeUnknown(
                f"{file.path}: the commit failed half-way ({error}); read it again to see whether "
                "it was restored"
            ) from None
        file.notifier.notify()
        file.follower.wake()
        try:
            file.check()
        except DataSyncError as error:
            raise OutcomeUnknown(f"{error}; read it again to see whether it was restored") from None
        return progress[0], revision

    return await _apart(file, replace, lambda: report(*progress), write=True)


def _begin(file: SharedFile, connection: Connection, stopped: threading.Event) -> None:
    """Get the write lock, for which SQLite itself would wait without hearing that it is to stop."""
    deadline = time.monotonic() + file.settings.lock_timeout
    while True:
        try:
            connection.run("BEGIN IMMEDIATE")
        except file.library.error as error:
            if file.library.code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        else:
            return
        if stopped.wait(_LOCK_PAUSE):
            raise _Stopped


async def _apart(
    file: SharedFile,
    work: Callable[[Connection, threading.Event], T],
    report: Callable[[], None],
    *,
    write: bool,
) -> T:
    """Run `work` in a thread with a connection of its own. Cancelled, it is
    interrupted and undone."""
    done: Future[T] = Future()
    stopped = threading.Event()
    connections: list[Connection] = []

    def run() -> None:
        try:
            connection = file.connect(write=write)
            connections.append(connection)
            try:
                result = work(connection, stopped)
            finally:
                if connection.in_transaction():
                    connection.run("ROLLBACK")
                file.disconnect(connection)
        except BaseException as error:
            done.set_exception(file.explain(error) if isinstance(error, Exception) else error)
        else:
            done.set_result(result)

    threading.Thread(target=run, name="datasync-sqlite-backup", daemon=True).start()
    future = asyncio.wrap_future(done)
    try:
        while not future.done():
            await asyncio.wait([future], timeout=_REPORT_EVERY)
            report()
    except asyncio.CancelledError:
        stopped.set()
        while not done.done():  # at once: there is no wait in it
            file.interrupt(connections)
            await asyncio.wait([future], timeout=_REPORT_EVERY)
        raise
    return await future


@contextlib.contextmanager
def _part(target: str) -> Iterator[str]:
    """The name of an empty file beside `target`, readable by its owner
    only, that is gone at the end."""
    directory, name = os.path.split(os.path.abspath(target))
    try:
        number, part = tempfile.mkstemp(".part", f".{name}.", directory)
    except OSError as error:
        raise BadStore(
            f"{target} cannot be made: {error.strerror}; name a file that can be written"
        ) from None
    os.close(number)
    try:
        yield part
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(part + suffix)


def _appear(part: str, target: str, *, replace: bool) -> None:
    """Give the finished file its name, on the disk too."""
    try:
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        if replace:
            os.replace(part, target)
        else:
            os.link(part, target)
        directory = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise Disconnected(
            f"{target} was made by somebody else meanwhile, nothing was done; repeat it"
        ) from None
    except OSError as error:
        raise BadStore(
            f"{target} cannot be written: {error.strerror}; name a file that can be"
        ) from None


def _size(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.path.getsize(path)
    return 0


@contextlib.contextmanager
def _about(library: Driver, path: str) -> Iterator[None]:
    """Errors of the library, said of another file than the store."""
    try:
        yield
    except library.error as error:
        raise explain(library, error, path) from None
