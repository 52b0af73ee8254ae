"""The two SQLite libraries, apsw and Python's own sqlite3, behind one small face.

Their connections are used by one thread each. No statement is ever left half read, for that would
hold its read transaction open and keep the WAL from being reset.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import Any, Literal, Protocol
from urllib.parse import quote

from datasync.errors import BadStore, BadValue, DataSyncError, Disconnected, MissingExtra
from datasync.texts import ADVICE, logger

__all__ = [
    "Connection",
    "Driver",
    "Mode",
    "NotText",
    "Row",
    "load_driver",
    "explain",
    "is_damage",
    "is_defective",
    "surely_undone",
    "warn_of_defects",
]

Mode = Literal["rwc", "rw", "ro", "immutable"]
Row = tuple[Any, ...]

_ROOM = 32 << 10
"""Bytes of space with which SQLite can go on: its -shm file grows by as many."""

_STEPS = 100_000
"""Steps of SQLite's machine between two looks at the time: some milliseconds."""
_STATEMENT_TIME = 10.0
"""Seconds of computing that any statement may take, ..."""
_STATEMENT_BYTES = 4 << 20
"""... and the bytes of the file that earn it one more."""

log = logger("datasync.sqlite")
_warned = False


class NotText(BadStore):
    """A TEXT in the file is not UTF-8."""


class Connection(Protocol):
    """What is needed of a connection: it stands in autocommit mode, transactions are begun in SQL.

    Nothing in the file runs within a statement: no view, no trigger, no function that its schema
    names. A statement that computes for too long fails with `BadStore`, one that gives a TEXT
    that is not UTF-8 with `NotText`.
    """

    def all(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""

    def run(self, sql: str, args: Sequence[Any] = ()) -> int:
        """Run a statement that gives no rows; the number of rows that it
        changed, if it changes rows."""

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each of `rows`."""

    def chunks(self, sql: str, args: Sequence[Any], size: int) -> Generator[list[Row], None, None]:
        """The rows of a query in lists of at most `size`. Closing the iterator ends the query."""

    def in_transaction(self) -> bool: ...

    def attach(self, path: str, name: str) -> None:
        """Let statements read a file that nobody writes as the schema `name`."""

    def interrupt(self) -> None:
        """Have the query that runs now fail. From any thread."""

    def function(self, name: str, call: Callable[[], int]) -> None:
        """Make `call` a function of SQL without arguments."""

    def tidy_on_close(self, tidy: bool) -> None:
        """Whether the last connection to close writes the WAL into the file and deletes it. Where
        the library cannot be told, it does."""

    def close(self) -> None: ...


class Driver(Protocol):
    """One of the libraries."""

    name: str
    version: tuple[int, ...]
    """Of SQLite itself, not of its wrapper."""
    error: type[Exception]

    def connect(self, path: str, mode: Mode) -> Connection: ...

    def code(self, error: Exception) -> int:
        """SQLite's primary result code, the low byte, of an error of this library; SQLITE_ERROR
        where it has none. The codes of both libraries are those that `sqlite3` names."""

    def extended_code(self, error: Exception) -> int:
        """The same with what SQLite says in more detail."""


def _uri(path: str, mode: Mode) -> str:
    query = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    return f"file:{quote(os.fsencode(path))}?{query}"


class _TimeLimit:
    """Ends a statement that computes for longer than any does on the files that it reads."""

    def __init__(self, path: str) -> None:
        self.files = [path]
        self.expired = False
        self._since: float | None = None

    def begin(self) -> None:
        """Told before each statement; what ends soon costs no look at the clock."""
        self.expired = False
        self._since = None

    def tick(self) -> bool:
        """Told every so many steps of the library's machine: whether to end the statement."""
        # a process that gets no processor, or waits for a disk, computes nothing
        now = time.thread_time()
        if self._since is None:
            self._since = now
        elif now - self._since > _STATEMENT_TIME:
            self.expired = now - self._since > _STATEMENT_TIME + self._size() / _STATEMENT_BYTES
        return self.expired

    def _size(self) -> int:
        size = 0
        for path in self.files:
            for suffix in ("", "-wal"):
                with contextlib.suppress(OSError):
                    size += os.path.getsize(path + suffix)
        return size


def _authorize(
    action: int, first: str | None, second: str | None, schema: str | None, cause: str | None
) -> int:
    """Let our own statements do what they do, and nothing in the file run within them."""
    del first, second, schema
    refused = cause is not None or action == sqlite3.SQLITE_RECURSIVE
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


class _BaseConnection:
    """What the connections of the two libraries have in common."""

    def __init__(self, path: str, connection: Any, error: type[Exception]) -> None:
        self._path = path
        self._connection = connection
        self._error = error
        self._limit = _TimeLimit(path)
        connection.set_progress_handler(self._limit.tick, _STEPS)
        self._cursor = connection.cursor()
        self._cursor.execute("PRAGMA trusted_schema=OFF")

    def all(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        self._limit.begin()
        try:
            rows: list[Row] = self._cursor.execute(sql, args).fetchall()
        except (self._error, UnicodeDecodeError) as error:
            raise self._explained(error) from None
        return rows

    def run(self, sql: str, args: Sequence[Any] = ()) -> int:
        self._limit.begin()
        try:
            self._cursor.execute(sql, args)
        except self._error as error:
            raise self._explained(error) from None
        return self._changed()

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._limit.begin()
        try:
            self._cursor.executemany(sql, rows)
        except self._error as error:
            raise self._explained(error) from None

    def chunks(self, sql: str, args: Sequence[Any], size: int) -> Generator[list[Row], None, None]:
        cursor = self._connection.cursor()
        try:
            self._limit.begin()
            cursor.execute(sql, args)
            while rows := list(islice(cursor, size)):
                yield rows
                self._limit.begin()
        except (self._error, UnicodeDecodeError) as error:
            raise self._explained(error) from None
        finally:
            self._end(cursor)

    def attach(self, path: str, name: str) -> None:
        self.run(f"ATTACH ? AS {name}", (_uri(os.path.abspath(path), "immutable"),))
        self._limit.files.append(path)

    def interrupt(self) -> None:
        self._connection.interrupt()

    def _explained(self, error: Exception) -> Exception:
        """The typed error for what only this connection can tell; any other as it is."""
        if self._limit.expired:
            return BadStore(
                f"a statement on {self._path} ran for too long: the file is damaged, or was made "
                "to do harm; put a backup in its place with: datasync restore FILE URL"
            )
        if self._is_no_text(error):
            return NotText(
                f"{self._path} holds a text that is not UTF-8; put a backup in its place with: "
                "datasync restore FILE URL"
            )
        return error

    def _changed(self) -> int:
        raise NotImplementedError

    def _end(self, cursor: Any) -> None:
        raise NotImplementedError

    def _is_no_text(self, error: Exception) -> bool:
        raise NotImplementedError


class _StandardConnection(_BaseConnection):
    def __init__(self, path: str, mode: Mode) -> None:
        connection = sqlite3.connect(
            _uri(path, mode), uri=True, isolation_level=None, check_same_thread=False, timeout=0
        )
        connection.set_authorizer(_authorize)
        super().__init__(path, connection, sqlite3.Error)

    def _changed(self) -> int:
        rows: int = self._cursor.rowcount
        return rows

    def _end(self, cursor: Any) -> None:
        cursor.close()

    def _is_no_text(self, error: Exception) -> bool:
        return isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)

    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def function(self, name: str, call: Callable[[], int]) -> None:
        self._connection.create_function(name, 0, call)

    def tidy_on_close(self, tidy: bool) -> None:
        if sys.version_info >= (3, 12):
            self._connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, not tidy)

    def close(self) -> None:
        self._connection.close()


class _Standard:
    name = "sqlite3"
    version: tuple[int, ...] = sqlite3.sqlite_version_info
    error: type[Exception] = sqlite3.Error

    def connect(self, path: str, mode: Mode) -> Connection:
        return _StandardConnection(path, mode)

    def code(self, error: Exception) -> int:
        return self.extended_code(error) & 0xFF

    def extended_code(self, error: Exception) -> int:
        return getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR


class _ApswConnection(_BaseConnection):
    def __init__(self, apsw: Any, path: str, mode: Mode) -> None:
        flags = apsw.SQLITE_OPEN_URI | (
            apsw.SQLITE_OPEN_READONLY if mode in ("ro", "immutable") else 0
        )
        if mode in ("rw", "rwc"):
            flags |= apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if mode == "rwc" else 0)
        connection = apsw.Connection(_uri(path, mode), flags=flags)
        connection.authorizer = _authorize
        super().__init__(path, connection, apsw.Error)
        self._changes = connection.changes
        self._keep_wal = apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE

    def _changed(self) -> int:
        rows: int = self._changes()
        return rows

    def _end(self, cursor: Any) -> None:
        cursor.close(True)

    def _is_no_text(self, error: Exception) -> bool:
        return isinstance(error, UnicodeDecodeError)

    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def function(self, name: str, call: Callable[[], int]) -> None:
        self._connection.create_scalar_function(name, call, 0)

    def tidy_on_close(self, tidy: bool) -> None:
        self._connection.config(self._keep_wal, not tidy)

    def close(self) -> None:
        self._connection.close(True)


class _Apsw:
    name = "apsw"

    def __init__(self, apsw: Any) -> None:
        self._apsw = apsw
        self.version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
        self.error: type[Exception] = apsw.Error

    def connect(self, path: str, mode: Mode) -> Connection:
        return _ApswConnection(self._apsw, path, mode)

    def code(self, error: Exception) -> int:
        return self.extended_code(error) & 0xFF

    def extended_code(self, error: Exception) -> int:
        return getattr(error, "extendedresult", None) or sqlite3.SQLITE_ERROR


def load_driver(name: str | None = None) -> Driver:
    """The library called `name`; without a name apsw where it is installed, else
    sqlite3. Raises `MissingExtra`."""
    if name == "sqlite3":
        return _Standard()
    try:
        return _Apsw(importlib.import_module("apsw"))
    except ImportError as error:
        if name is None:
            return _Standard()
        raise MissingExtra(
            f"{name} cannot be used ({error}); install it: pip install 'datasync[sqlite]'"
        ) from None


def is_defective(version: tuple[int, ...]) -> bool:
    """Whether this SQLite can lose commits when a write and a reset of the WAL race."""
    return not (
        version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    )


def warn_of_defects(library: Driver) -> None:
    """Say once in a process that its SQLite has the defect, and what mends it."""
    global _warned
    if _warned or not is_defective(library.version):
        return
    _warned = True
    log.warning(
        "SQLite %s (of %s) has a rare defect: a commit can be lost where several processes write; "
        "for a version without it: pip install 'datasync[sqlite]'",
        ".".join(map(str, library.version)),
        library.name,
        extra={ADVICE: True},
    )


def is_damage(library: Driver, error: Exception) -> bool:
    """Whether an error of the library says that the file does not hold what it must:
    also that it ends too early."""
    return (
        library.code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or library.extended_code(error) == sqlite3.SQLITE_IOERR_SHORT_READ
    )


def surely_undone(code: int) -> bool:
    """Whether a COMMIT that failed with this code has certainly left nothing behind."""
    return code in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_TOOBIG,
    )


def _is_full(path: str) -> bool:
    """Whether there is no room where `path` lies, whatever the library calls that."""
    try:
        room = os.statvfs(os.path.dirname(path) or ".")
    except (OSError, AttributeError):
        return False
    return room.f_bavail * room.f_frsize < _ROOM or (room.f_files > 0 and room.f_favail == 0)


def explain(library: Driver, error: Exception, path: str) -> DataSyncError:
    """The typed error for an error of the library that happened before a COMMIT
    was sent, or while reading."""
    code = library.code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Disconnected(
            f"{path} stayed locked by another process, nothing was done; see `fuser {path}` "
            "and repeat"
        )

    if code == sqlite3.SQLITE_FULL or (
        code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _is_full(path)
    ):
        return Disconnected(
            f"no space left for {path}, nothing was written; free some space and repeat"
        )

    if code == sqlite3.SQLITE_TOOBIG:
        return BadValue(f"too big for {path} in one transaction, nothing was written; split it")
    if code == sqlite3.SQLITE_READONLY:
        return BadStore(
            f"{path} is read-only for this process; grant write access to it and its directory"
        )

    if is_damage(library, error):
        return BadStore(
            f"{path} is damaged or not an SQLite file ({error}); move it away and put a backup in "
            "its place with: datasync restore FILE URL"
        )
    if code == sqlite3.SQLITE_AUTH:
        return BadStore(
            f"{path} has a view or a trigger on the tables of the store ({error}); drop it, or put "
            "a backup in its place with: datasync restore FILE URL"
        )

    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return BadStore(
            f"{path} cannot be opened ({error}); grant read and write access to it and its "
            "directory"
        )
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT):
        return Disconnected(f"{path} cannot be used now ({error}); it is tried again")

    return BadStore(
        f"{path} cannot be used: {error}; look at it with: sqlite3 {path} 'PRAGMA integrity_check'"
    )
