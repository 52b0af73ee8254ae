"""The two SQLite libraries, apsw and Python's own sqlite3, behind one small face.

Their connections are used by one thread each. No statement is ever left half read, for that would hold its read
transaction open and keep the WAL from being reset.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import Any, Literal, Protocol
from urllib.parse import quote

from datasync.errors import BadStore, BadValue, DatasyncError, Disconnected, MissingExtra
from datasync.texts import logger

__all__ = [
    "BUSY",
    "Connection",
    "Driver",
    "Mode",
    "driver",
    "explain",
    "is_damage",
    "read_only_uri",
    "surely_undone",
    "warn_of_defects",
]

Mode = Literal["rwc", "rw", "ro", "immutable"]
Row = tuple[Any, ...]

BUSY, FULL = 5, 13
_LOCKED, _NOMEM, _READONLY, _INTERRUPT, _IOERR, _CORRUPT, _CANTOPEN, _TOOBIG, _NOTADB = 6, 7, 8, 9, 10, 11, 14, 18, 26
_PERM, _AUTH = 3, 23
_IOERR_SHORT_READ = _IOERR | 2 << 8
_ROOM = 32 << 10
"""Bytes of space with which SQLite can go on: its -shm file grows by as many."""

log = logger("datasync.sqlite")
_warned = False


class Connection(Protocol):
    """What is needed of a connection: it stands in autocommit mode, transactions are begun in SQL."""

    def all(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""

    def run(self, sql: str, args: Sequence[Any] = ()) -> int:
        """Run a statement that gives no rows; the number of rows that it changed, if it changes rows."""

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each of `rows`."""

    def chunks(self, sql: str, args: Sequence[Any], size: int) -> Generator[list[Row], None, None]:
        """The rows of a query in lists of at most `size`. Closing the iterator ends the query."""

    def in_transaction(self) -> bool: ...

    def is_no_text(self, error: Exception) -> bool:
        """Whether a query failed because a TEXT that it gives is not UTF-8."""

    def interrupt(self) -> None:
        """Have the query that runs now fail. From any thread."""

    def function(self, name: str, call: Callable[[], int]) -> None:
        """Make `call` a function of SQL without arguments."""

    def tidy_on_close(self, tidy: bool) -> None:
        """Whether the last connection to close writes the WAL into the file and deletes it. Where the library cannot
        be told, it does."""

    def close(self) -> None: ...


class Driver(Protocol):
    """One of the libraries."""

    name: str
    version: tuple[int, ...]
    """Of SQLite itself, not of its wrapper."""
    error: type[Exception]

    def connect(self, path: str, mode: Mode) -> Connection: ...

    def code(self, error: Exception) -> int:
        """SQLite's primary result code of an error of this library; 1 where it has none."""

    def extended_code(self, error: Exception) -> int:
        """The same with what SQLite says in more detail."""


def _uri(path: str, mode: Mode) -> str:
    query = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    return f"file:{quote(os.fsencode(path))}?{query}"


def read_only_uri(path: str) -> str:
    """The name by which SQL attaches a file that nobody writes."""
    return _uri(os.path.abspath(path), "immutable")


class _StandardConnection:
    def __init__(self, path: str, mode: Mode) -> None:
        self._connection = sqlite3.connect(
            _uri(path, mode), uri=True, isolation_level=None, check_same_thread=False, timeout=0
        )
        self._cursor = self._connection.cursor()

    def all(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        return self._cursor.execute(sql, args).fetchall()

    def run(self, sql: str, args: Sequence[Any] = ()) -> int:
        return self._cursor.execute(sql, args).rowcount

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._cursor.executemany(sql, rows)

    def chunks(self, sql: str, args: Sequence[Any], size: int) -> Generator[list[Row], None, None]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, args)
            while rows := cursor.fetchmany(size):
                yield rows
        finally:
            cursor.close()

    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def is_no_text(self, error: Exception) -> bool:
        return isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)

    def interrupt(self) -> None:
        self._connection.interrupt()

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
        return getattr(error, "sqlite_errorcode", None) or 1


class _ApswConnection:
    def __init__(self, apsw: Any, path: str, mode: Mode) -> None:
        flags = apsw.SQLITE_OPEN_URI | (apsw.SQLITE_OPEN_READONLY if mode in ("ro", "immutable") else 0)
        if mode in ("rw", "rwc"):
            flags |= apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if mode == "rwc" else 0)
        self._connection = apsw.Connection(_uri(path, mode), flags=flags)
        self._cursor = self._connection.cursor()
        self._changes = self._connection.changes
        self._keep_wal = apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE

    def all(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        rows: list[Row] = self._cursor.execute(sql, args).fetchall()
        return rows

    def run(self, sql: str, args: Sequence[Any] = ()) -> int:
        self._cursor.execute(sql, args)
        changed: int = self._changes()
        return changed

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._cursor.executemany(sql, rows)

    def chunks(self, sql: str, args: Sequence[Any], size: int) -> Generator[list[Row], None, None]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, args)
            while rows := list(islice(cursor, size)):
                yield rows
        finally:
            cursor.close(True)

    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def is_no_text(self, error: Exception) -> bool:
        return isinstance(error, UnicodeDecodeError)

    def interrupt(self) -> None:
        self._connection.interrupt()

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
        return getattr(error, "extendedresult", None) or 1


def driver(name: str | None = None) -> Driver:
    """The library called `name`; without a name apsw where it is installed, else sqlite3. Raises `MissingExtra`."""
    if name == "sqlite3":
        return _Standard()
    try:
        return _Apsw(importlib.import_module("apsw"))
    except ImportError as error:
        if name is None:
            return _Standard()
        raise MissingExtra(f"{name} cannot be used ({error}); install it: pip install 'datasync[sqlite]'") from None


def is_defective(version: tuple[int, ...]) -> bool:
    """Whether this SQLite can lose commits when a write and a reset of the WAL race."""
    return not (version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45))


def warn_of_defects(library: Driver) -> None:
    """Say once in a process that its SQLite has the defect, and what mends it."""
    global _warned
    if _warned or not is_defective(library.version):
        return
    _warned = True
    log.warning(
        "SQLite %s (of %s) can lose commits when a write and a reset of the WAL race; mended in 3.51.3, 3.50.7 and "
        "3.44.6, which pip install 'datasync[sqlite]' brings",
        ".".join(map(str, library.version)),
        library.name,
    )


def is_damage(library: Driver, error: Exception) -> bool:
    """Whether an error of the library says that the file does not hold what it must: also that it ends too early."""
    return library.code(error) in (_CORRUPT, _NOTADB) or library.extended_code(error) == _IOERR_SHORT_READ


def surely_undone(code: int) -> bool:
    """Whether a COMMIT that failed with this code has certainly left nothing behind."""
    return code in (BUSY, FULL, _LOCKED, _READONLY, _TOOBIG)


def _is_full(path: str) -> bool:
    """Whether there is no room where `path` lies, whatever the library calls that."""
    try:
        room = os.statvfs(os.path.dirname(path) or ".")
    except (OSError, AttributeError):
        return False
    return room.f_bavail * room.f_frsize < _ROOM or (room.f_files > 0 and room.f_favail == 0)


def explain(library: Driver, error: Exception, path: str) -> DatasyncError:
    """The typed error for an error of the library that happened before a COMMIT was sent, or while reading."""
    code = library.code(error)
    if code in (BUSY, _LOCKED):
        return Disconnected(f"{path} stayed locked by another process, nothing was done; see `fuser {path}` and repeat")
    if code == FULL or (code in (_IOERR, _CANTOPEN) and _is_full(path)):
        return Disconnected(f"no space left for {path}, nothing was written; free some space and repeat")
    if code == _TOOBIG:
        return BadValue(f"too big for {path} in one transaction, nothing was written; split it")
    if code == _READONLY:
        return BadStore(f"{path} is read-only for this process; grant write access to it and its directory")
    if is_damage(library, error):
        return BadStore(
            f"{path} is damaged or no SQLite file ({error}); move it away and put a backup in its place with:"
            " datasync restore FILE URL"
        )
    if code in (_CANTOPEN, _PERM, _AUTH):
        return BadStore(f"{path} cannot be opened ({error}); grant read and write access to it and its directory")
    if code in (_IOERR, _NOMEM, _INTERRUPT):
        return Disconnected(f"{path} cannot be used now ({error}); it is tried again")
    return BadStore(f"{path} cannot be used: {error}; look at it with: sqlite3 {path} 'PRAGMA integrity_check'")
