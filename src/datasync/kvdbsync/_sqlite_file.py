"""One database file as this process has it open: shared by all Sources on it, with a thread that writes and one that
follows. SQLite's locks belong to the process, so nothing but the library ever opens or closes the file itself.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from datasync.errors import BadStore, DatasyncError, Disconnected, Forked, UnsupportedOption
from datasync.kvdbsync._sqlite_access import make_private, mode_of
from datasync.kvdbsync._sqlite_bell import Bell, Ear
from datasync.kvdbsync._sqlite_claim import Claim, Files, identity
from datasync.kvdbsync._sqlite_driver import BUSY, Connection, Driver, Mode, explain, is_damage, warn_of_defects
from datasync.kvdbsync._sqlite_follower import Follower
from datasync.kvdbsync._sqlite_mounts import mounts as _mounts
from datasync.kvdbsync._sqlite_mounts import remote_kind
from datasync.kvdbsync._sqlite_schema import damaged, require_schema, schema_version
from datasync.kvdbsync._sqlite_store import prepare
from datasync.kvdbsync._sqlite_wal import carry_over, refuse_foreign_wal
from datasync.kvdbsync._sqlite_writer import Writer
from datasync.texts import logger

__all__ = ["Settings", "SharedFile", "acquire"]

log = logger("datasync.sqlite")

_CLOSE_TIMEOUT = 5.0
_WAL_KEPT = 16 << 20


class Settings(NamedTuple):
    """What all who share a file in one process must agree on."""

    driver: str
    keep: int
    sync: str
    immutable: bool
    inotify: bool
    lock_timeout: float


class SharedFile:
    """The open file. Made by `acquire`, and given back by `release`."""

    def __init__(self, path: str, settings: Settings, library: Driver, *, create: bool) -> None:
        self.path = path
        self.settings = settings
        self.library = library
        self.read_only = settings.immutable
        self.lost: str | None = None
        """Why it is of no use any more: one of its files was deleted, moved or replaced."""
        self.users = 0
        self.pid = os.getpid()
        self.ready: Future[None] = Future()
        """Done once the file is open and checked; carries the error where it cannot be used."""
        self.opened = False
        self.bell = Bell(path)
        self.files: Files | None = None
        """Those that are open: the first connection's, and so those of all."""
        self._claim = Claim(path)
        self._connections: list[Connection] = []
        self._create = create
        self._schema: int | None = None
        self._damaged = False
        self._stopping = False
        self._lock = threading.Lock()
        self.follower = Follower(self, Ear(path, inotify=settings.inotify))
        self.writer: Writer | None = None

    # in the follower's thread

    def prepare(self) -> Connection:
        """Open the file for the first time: check it, make the store where there is none; a connection to read by."""
        try:
            connection = self._open()
        except BaseException as error:
            _forget(self)
            self.ready.set_exception(error)
            raise
        with self._lock:
            if not self.read_only and not self._stopping:
                self.bell.hang()
                self.writer = Writer(self)
                self.writer.start()
        self.opened = True
        self.ready.set_result(None)
        return connection

    def _open(self) -> Connection:
        mode = mode_of(self.path, create=self._create, immutable=self.settings.immutable)
        if mode != "immutable" and (kind := remote_kind(self.path, _mounts())):
            raise BadStore(
                f"{self.path} is on {kind}, where SQLite's locks do not hold; move it to a local disk,"
                " or read a copy that nobody writes with ?immutable=1"
            )
        warn_of_defects(self.library)
        self.read_only = mode in ("ro", "immutable")
        return self._connect_first(mode)

    def _connect_first(self, mode: Mode) -> Connection:
        """The first connection of this process, to files that whoever else has the store open uses too."""
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
                    # whoever closed the store meanwhile took its WAL away, or somebody who should not have
                    with contextlib.suppress(self.library.error):
                        connection.all("PRAGMA wal_checkpoint(FULL)")
                    self._close_unused(connection)
                if time.monotonic() > deadline or self._stopping:
                    raise Disconnected(
                        f"{self.path} or a file beside it was replaced, and a process that has the old ones open does"
                        f" not let go; see `fuser {self.path}`"
                    )
                time.sleep(0.005)
        except BaseException:
            self._claim.discard()
            raise

    def _has_all(self, connection: Connection, files: Files) -> bool:
        """Whether what is open are the files at the path: a WAL may be open that has no name any more."""
        if files != Files.at(self.path):
            return False
        in_wal_mode = connection.all("PRAGMA journal_mode") == [("wal",)]
        return not in_wal_mode or None not in files

    def _may_open(self, *, alone: bool) -> bool:
        """Whether the files at the path are those that others have open, if there are others."""
        with _lock:
            if any(other.path == self.path for other in _parting):
                return False  # within a process SQLite shares what its connections to a file have open
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
            connection.run("PRAGMA busy_timeout=50")  # it is tried again, unless this is closed meanwhile
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
                if mode == "ro" and self.library.code(error) in (8, 14):
                    raise BadStore(
                        f"{self.path} and its directory are read-only, SQLite cannot make its -shm file there;"
                        " read a file that nobody writes with ?immutable=1"
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
                # the change to WAL does not wait by itself, so two who make the store at a time meet here
                if self.library.code(error) != BUSY or time.monotonic() > deadline or self._stopping:
                    raise
            else:
                return
            time.sleep(0.01)

    # in any thread

    def connect(self, *, write: bool = False) -> Connection:
        """A further connection, to the same files as the first one, for the thread that asks; see `disconnect`."""
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
        # a WAL that is not of this store must not be written into it, nor deleted, whatever ends this process
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
        with _lock:
            _parting.discard(self)

    def end(self) -> None:
        """Told by the last thread to end, should there have been no connection to close."""
        with self._lock:
            unused = not self._connections
        if unused:
            self._let_go()

    def check(self) -> None:
        """Raise `Disconnected` unless the files at the path are those that are open, `BadStore` if they are damaged.

        An unlinked file would go on taking commits that nobody else ever sees, and so would an unlinked WAL.
        """
        if self.lost is None and (why := self._changed()):
            self._lose(why)
        if self.lost is not None:
            raise self.closing()

    def check_schema(self, connection: Connection) -> None:
        """Raise `BadStore` unless the tables of the store are as they must be, whoever may have changed them since."""
        version = schema_version(connection)
        if version != self._schema:
            try:
                require_schema(connection, self.path)
            except BadStore as error:
                self._lose(str(error))
                raise
            self._schema = version

    def became_writable(self) -> bool:
        """Whether a file that could only be read may be written by now; then it is to be opened anew."""
        if self.settings.immutable or not self.read_only:
            return False
        if not (os.access(self.path, os.W_OK) and os.access(os.path.dirname(self.path), os.W_OK)):
            return False
        self._lose(f"{self.path} may be written by now; it is opened anew")
        return True

    def renew_claim(self) -> None:
        """Claim the files again where somebody deleted the side file. In the writer's thread."""
        if self.files is not None:
            self._claim.renew(self.files)

    def is_at(self, name: str) -> bool:
        """Whether `name` leads here, as far as is known of a name that is no symbolic link."""
        return self.lost is None and (name == self.path or self._differs(name) is None)

    def check_name(self, name: str) -> None:
        """Raise `Disconnected` unless `name`, which may go through symbolic links, leads here; others may still."""
        if name != self.path:
            self._check_store(name)

    def _check_store(self, name: str) -> None:
        if why := self._differs(name):
            raise Disconnected(why)

    def _changed(self) -> str | None:
        now = Files.at(self.path)
        if now == self.files or self.files is None or (self.settings.immutable and now.store == self.files.store):
            return None
        if now.store != self.files.store:
            return self._differs(self.path)
        suffix, gone = ("-wal", now.wal is None) if now.wal != self.files.wal else ("-shm", now.shm is None)
        return f"{self.path}{suffix} was {'removed' if gone else 'replaced'} while it was in use; it is opened anew"

    def _differs(self, name: str) -> str | None:
        found = identity(name)
        if found is None:
            return f"{name} is gone; put it back, or start anew to begin with an empty store"
        if self.files is None or found != self.files.store:
            return f"{name} was replaced by another file; it is opened anew"
        return None

    def _lose(self, why: str) -> None:
        with self._lock:
            self.lost = self.lost or why
        with _lock:
            _forget(self)
            _parting.add(self)
        # nobody opens what is there now before all that is open here has been closed
        self.stop()
        writer = self.writer
        self.interrupt([each for each in self._connections if writer is None or not writer.owns(each)])

    def closing(self) -> DatasyncError:
        """The error for whoever still asks for something."""
        if self.lost is None:
            return Disconnected(f"{self.path} is being closed, nothing was done; open it again")
        return BadStore(self.lost) if self._damaged else Disconnected(self.lost)

    def explain(self, error: Exception) -> Exception:
        """The typed error for an error of the library; others as they are. A file that is damaged is given up."""
        if self.lost is not None and not isinstance(error, DatasyncError):
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

    def hold(self) -> None:
        """Be one more user of it."""
        with _lock:
            self.users += 1

    async def release(self) -> None:
        """Give it back; the last one closes the file, and waits for its threads to end."""
        with _lock:
            self.users -= 1
            if self.users > 0:
                return
            _forget(self)
        self.stop()
        threads = [self.follower.ended] + ([self.writer.ended] if self.writer is not None else [])
        done = asyncio.gather(*(asyncio.wrap_future(ended) for ended in threads), return_exceptions=True)
        await asyncio.wait((done,), timeout=_CLOSE_TIMEOUT)

    def wait_for_writer(self) -> None:
        """Return once the writer has closed its connection, if there is one."""
        if self.writer is not None:
            with contextlib.suppress(Exception):
                self.writer.ended.result(_CLOSE_TIMEOUT)

    def stop(self) -> None:
        """Let both threads end once they have done what they were given."""
        with self._lock:
            self._stopping = True
            writer = self.writer
        if writer is not None:
            writer.stop()
        self.follower.stop()


def acquire(name: str, settings: Settings, library: Driver, *, create: bool) -> SharedFile:
    """The file that `name` leads to, opened now or shared with those who have it open; await its `ready`.

    Raises `UnsupportedOption` where they have it open in another way, `Forked` where it was open before a fork.
    """
    path = os.path.realpath(name)
    with _lock:
        if path in _inherited:
            raise Forked(f"{path} was open when this process was forked; start the process with 'spawn', or fork first")
        file = _files.get(path)
        if file is None:
            if (found := identity(path)) is not None:
                for other in _files.values():
                    if other.files is not None and other.files.store == found:
                        raise BadStore(f"{path} is {other.path} by another hard link; use one name for both")
            file = _files[path] = SharedFile(path, settings, library, create=create)
            file.follower.start()
        elif file.settings != settings:
            differs = ", ".join(
                f"{field}={theirs}"
                for field, ours, theirs in zip(Settings._fields, settings, file.settings, strict=True)
                if ours != theirs
            )
            raise UnsupportedOption(f"{path} is open in this process with {differs}; use the same options everywhere")
        file.users += 1
        return file


_files: dict[str, SharedFile] = {}
_parting: set[SharedFile] = set()
"""Those that were lost, and still have connections."""
_suspects: set[str] = set()
"""Where damage was found: to be checked as a whole before it is opened again."""
_lock = threading.RLock()
_inherited: dict[str, Any] = {}


def _forget(file: SharedFile) -> None:
    with _lock:
        if _files.get(file.path) is file:
            del _files[file.path]


def _after_fork() -> None:
    global _lock  # the parent's may be held by a thread that does not exist here
    _lock = threading.RLock()
    # kept for ever: closing the parent's connections here would do harm
    _inherited.update(_files)
    _parting.clear()
    for file in _files.values():
        file.abandon()
    _files.clear()


def _at_exit() -> None:
    files = list(_files.values())
    for file in files:
        file.stop()
    for file in files:
        for thread in (file.follower, file.writer):
            if thread is not None:
                with contextlib.suppress(Exception):
                    thread.ended.result(timeout=1.0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
