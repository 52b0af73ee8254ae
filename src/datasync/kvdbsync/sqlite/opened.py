"""One database file as this process has it open: which files are open, connections to them, and
whether they are still those at the path. SQLite's locks belong to the process, so nothing but the
library ever opens or closes them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from datasync.errors import BadStore, DataSyncError, Disconnected
from datasync.kvdbsync.sqlite.access import make_private, mode_of
from datasync.kvdbsync.sqlite.bell import CommitNotifier
from datasync.kvdbsync.sqlite.claim import Claim, Files, Names, identity, is_settled, names_in
from datasync.kvdbsync.sqlite.driver import (
    Connection,
    Driver,
    Mode,
    explain,
    is_damage,
    warn_of_defects,
)
from datasync.kvdbsync.sqlite.schema import damaged, require_schema, schema_version
from datasync.kvdbsync.sqlite.store import prepare
from datasync.kvdbsync.sqlite.wal import carry_over, refuse_foreign_wal
from datasync.mounts import mounts as _mounts
from datasync.mounts import remote_kind
from datasync.texts import logger

__all__ = ["OpenFile", "Settings", "after_fork", "registered"]

log = logger("datasync.sqlite")

_WAL_KEPT = 16 << 20


class Settings(NamedTuple):
    """What all who share a file in one process must agree on."""

    driver: str
    keep: int
    sync: str
    immutable: bool
    inotify: bool
    lock_timeout: float


class OpenFile:
    """The open file, and the connections to it."""

    def __init__(self, path: str, settings: Settings, library: Driver, *, create: bool) -> None:
        self.path = path
        self.settings = settings
        self.library = library
        self.read_only = settings.immutable
        self.lost: str | None = None
        """Why it is of no use any more: one of its files was deleted, moved or replaced."""
        self.notifier = CommitNotifier(path)
        self.files: Files | None = None
        """Those that are open: the first connection's, and so those of all."""
        self._claim = Claim(path)
        self._directory = os.path.dirname(path) or "."
        self._names: Names | None = None
        """The names beside it when those of the three files were looked at last."""
        self._connections: list[Connection] = []
        self._create = create
        self._schema: int | None = None
        self._damaged = False
        self._stopping = False
        self._lock = threading.Lock()

    def given_up(self) -> None:
        """It was lost: have nobody else begin to use it. Nobody opens what is at the path now
        before all that is open here has been closed."""

    def open(self) -> Connection:
        """The first connection, to read by: the file is checked, and made a
        store where there is none."""
        mode = mode_of(self.path, create=self._create, immutable=self.settings.immutable)
        if mode != "immutable" and (kind := remote_kind(self.path, _mounts())):
            raise BadStore(
                f"{self.path} is on {kind}, where SQLite's locks do not hold; move it to a local "
                "disk, or read a copy that nobody writes with ?immutable=1"
            )
        warn_of_defects(self.library)
        self.read_only = mode in ("ro", "immutable")
        return self._connect_first(mode)

    def _connect_first(self, mode: Mode) -> Connection:
        """The first connection of this process, to the files that all other processes use too."""
        if mode == "immutable":
            return self._connect_claimed(mode)

        deadline = time.monotonic() + self.settings.lock_timeout
        try:
            while True:
                alone = self._claim.take(create=mode != "ro")
                if alone is not None and self._may_open(alone=alone):
                    connection = self._connect_claimed(mode)
                    files = self.files
                    if files is not None and self._has_all(connection, files):
                        self._claim.share(files)
                        return connection

                    # another process closed the store meanwhile, which removes
                    # its WAL, or somebody removed it
                    with contextlib.suppress(self.library.error):
                        connection.all("PRAGMA wal_checkpoint(FULL)")
                    self._close_unused(connection)

                if time.monotonic() > deadline or self._stopping:
                    raise Disconnected(
                        f"{self.path} or a file beside it was replaced, and a process that has the "
                        f"old ones open does not close them; see `fuser {self.path}`"
                    )
                time.sleep(0.005)
        except BaseException:
            self._claim.discard()
            raise

    def _has_all(self, connection: Connection, files: Files) -> bool:
        """Whether what is open are the files at the path: a WAL may be open
        that has no name any more."""
        if files != Files.at(self.path):
            return False
        in_wal_mode = connection.all("PRAGMA journal_mode") == [("wal",)]
        return not in_wal_mode or None not in files

    def _may_open(self, *, alone: bool) -> bool:
        """Whether the files at the path are those that others have open, if there are others."""
        with registered():
            if any(other.path == self.path for other in _parting):
                # within a process SQLite shares what its connections to a file have open
                return False
        files, recorded = Files.at(self.path), self._claim.recorded()
        if alone:
            refuse_foreign_wal(self.library, self.path, files, recorded)
            return True
        if recorded in (None, files.as_recorded()):
            return True
        self._claim.ring()
        return False

    def _connect_claimed(self, mode: Mode) -> Connection:
        connection = None
        if mode == "rwc":
            make_private(self.path)
        store = identity(self.path)

        try:
            connection = self._add(self.library.connect(self.path, mode))
            # it is tried again, unless this is closed meanwhile
            connection.run("PRAGMA busy_timeout=50")
            self._prepare(connection)

            if self.path in _suspects:
                if connection.all("PRAGMA quick_check(1)") != [("ok",)]:
                    raise damaged("pages of it are malformed")
                _suspects.discard(self.path)

            connection.run("PRAGMA busy_timeout=5000")
            self.check_schema(connection)  # which opens the WAL, if nothing has yet
            # it may have waited long for another process
            self.files = Files.at(self.path)._replace(store=store)
            self._check_store(self.path)
            if not self.read_only:
                connection.run("PRAGMA query_only=1")
        except BaseException as error:
            if connection is not None:
                self._close_unused(connection)
            if isinstance(error, self.library.error):
                if mode == "ro" and self.library.code(error) in (
                    sqlite3.SQLITE_READONLY,
                    sqlite3.SQLITE_CANTOPEN,
                ):
                    raise BadStore(
                        f"{self.path} and its directory are read-only, SQLite cannot make its -shm "
                        "file there; read a file that nobody writes with ?immutable=1"
                    ) from None
                raise explain(self.library, error, self.path) from error
            raise

        return connection

    def _close_unused(self, connection: Connection) -> None:
        self._connections.remove(connection)
        connection.close()

    def _prepare(self, connection: Connection) -> None:
        deadline = time.monotonic() + self.settings.lock_timeout
        while True:
            try:
                prepare(connection, self.path, write=not self.read_only)
            except self.library.error as error:
                # the change to WAL does not wait by itself, so two who make
                # the store at a time meet here
                if (
                    self.library.code(error) != sqlite3.SQLITE_BUSY
                    or time.monotonic() > deadline
                    or self._stopping
                ):
                    raise
            else:
                return
            time.sleep(0.01)

    # in any thread

    def connect(self, *, write: bool = False) -> Connection:
        """A further connection, to the same files as the first one, for the thread
        that asks; see `disconnect`."""
        mode: Mode = "immutable" if self.settings.immutable else "ro" if self.read_only else "rw"
        connection = self._add(self.library.connect(self.path, mode))
        try:
            connection.run("PRAGMA busy_timeout=5000")
            self.check_schema(connection)
            self.check()
            if write:
                connection.run(f"PRAGMA synchronous={self.settings.sync}")
                connection.all(f"PRAGMA journal_size_limit={_WAL_KEPT}")
                # from here it waits in a loop of its own, which is fairer and can be ended
                connection.run("PRAGMA busy_timeout=0")
            else:
                connection.run("PRAGMA query_only=1")
        except BaseException:
            self.disconnect(connection)
            raise
        return connection

    def _add(self, connection: Connection) -> Connection:
        # a WAL that is not of this store must not be written into it, nor
        # deleted, whatever ends this process
        connection.tidy_on_close(False)
        with self._lock:
            self._connections.append(connection)
        return connection

    def interrupt(self, connections: Sequence[Connection]) -> None:
        """Have what runs on these connections fail, as far as they are still open."""
        with self._lock:
            for connection in connections:
                if connection in self._connections:
                    connection.interrupt()

    def disconnect(self, connection: Connection) -> None:
        """Close a connection. The last one, at the end, leaves everything in the file."""
        with self._lock:
            last = self._stopping and self._connections == [connection]
            if not last:
                self._connections.remove(connection)
        if last:
            try:
                self._part(connection)
            except Exception:
                log.exception("%s: unexpected error while it was given up", self.path)
            with self._lock:
                self._connections.remove(connection)
        with contextlib.suppress(self.library.error):
            connection.close()
        if last:
            self._let_go()

    def _part(self, connection: Connection) -> None:
        if self.lost is None:
            connection.tidy_on_close(True)
        elif self.files is not None and not (self.read_only or self._damaged):
            carry_over(connection, self.library, self.path, self.files)

    def _let_go(self) -> None:
        """Others may have the store as it is now."""
        lost = self.lost is not None or self.settings.immutable
        self._claim.release(None if lost else Files.at(self.path))
        with registered():
            _parting.discard(self)

    def end(self) -> None:
        """Told by the last thread to end, should there have been no connection to close."""
        with self._lock:
            unused = not self._connections
        if unused:
            self._let_go()

    def check(self) -> None:
        """Raise `Disconnected` unless the files at the path are those that are open,
        `BadStore` if they are damaged.

        An unlinked file would go on taking commits that nobody else ever
        sees, and so would an unlinked WAL.
        """
        # most often one look at the directory tells that all three names lead to the same
        # files as when they were looked at last
        now, names = time.time(), names_in(self._directory)
        if self.lost is None and (names is None or names != self._names):
            if why := self._changed():
                self._lose(why)
            elif names is not None and is_settled(names, now):
                self._names = names
        if self.lost is not None:
            raise self.closing()

    def check_schema(self, connection: Connection) -> None:
        """Raise `BadStore` unless the tables of the store are as they must be:
        others may have changed them."""
        version = schema_version(connection)
        if version != self._schema:
            try:
                require_schema(connection, self.path)
            except BadStore as error:
                self._lose(str(error))
                raise
            self._schema = version

    def became_writable(self) -> bool:
        """Whether a file that could only be read may be written by now;
        then it has to be reopened."""
        if self.settings.immutable or not self.read_only:
            return False
        if not (os.access(self.path, os.W_OK) and os.access(os.path.dirname(self.path), os.W_OK)):
            return False
        self._lose(f"{self.path} may be written by now; reopening it")
        return True

    def renew_claim(self) -> None:
        """Claim the files again where somebody deleted the side file. In the writer's thread."""
        if self.files is not None:
            self._claim.renew(self.files)

    def is_at(self, name: str) -> bool:
        """Whether `name` leads here, as far as is known of a name that is not a symbolic link."""
        return self.lost is None and (name == self.path or self._differs(name) is None)

    def check_name(self, name: str) -> None:
        """Raise `Disconnected` unless `name`, which may go through symbolic links,
        leads here; others may still."""
        if name != self.path:
            self._check_store(name)

    def _check_store(self, name: str) -> None:
        if why := self._differs(name):
            raise Disconnected(why)

    def _changed(self) -> str | None:
        now = Files.at(self.path)
        if (
            now == self.files
            or self.files is None
            or (self.settings.immutable and now.store == self.files.store)
        ):
            return None
        if now.store != self.files.store:
            return self._differs(self.path)
        suffix, gone = (
            ("-wal", now.wal is None) if now.wal != self.files.wal else ("-shm", now.shm is None)
        )
        return (
            f"{self.path}{suffix} was {'removed' if gone else 'replaced'} while it was in use; "
            "reopening it"
        )

    def _differs(self, name: str) -> str | None:
        found = identity(name)
        if found is None:
            return f"{name} is gone; put it back, or restart to begin with an empty store"
        if self.files is None or found != self.files.store:
            return f"{name} was replaced by another file; reopening it"
        return None

    def _lose(self, why: str) -> None:
        with self._lock:
            self.lost = self.lost or why
        with registered():
            _parting.add(self)
        self.given_up()

    def closing(self) -> DataSyncError:
        """The error of calls that come too late."""
        if self.lost is None:
            return Disconnected(f"{self.path} is being closed, nothing was done; open it again")
        return BadStore(self.lost) if self._damaged else Disconnected(self.lost)

    def explain(self, error: Exception) -> Exception:
        """The typed error for an error of the library; others as they are. A file
        that is damaged is given up."""
        if self.lost is not None and not isinstance(error, DataSyncError):
            return self.closing()
        if not isinstance(error, self.library.error):
            return error
        known = explain(self.library, error, self.path)
        if is_damage(self.library, error):
            # nobody follows it any more, though the pages that this would read may be whole
            self._damaged = True
            _suspects.add(self.path)
            self._lose(str(known))
        return known

    def abandon(self) -> None:
        """In a forked child: give up nothing that the parent holds."""
        self._claim.abandon()


_parting: set[OpenFile] = set()
"""Those that were lost, and still have connections."""
_suspects: set[str] = set()
"""Where damage was found: to be checked as a whole before it is opened again."""
_lock = threading.RLock()


def registered() -> contextlib.AbstractContextManager[object]:
    """The lock of what a process has open."""
    return _lock


def after_fork() -> None:
    """In a forked child: give up nothing that the parent holds, and wait for
    no thread that is not here."""
    global _lock
    _lock = threading.RLock()
    _parting.clear()
