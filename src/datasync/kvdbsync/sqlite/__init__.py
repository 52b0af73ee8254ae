"""sqlite:///file.db - the embedded default: durable, several processes on
one file, a change log to follow.

`sqlite:///file.db` is relative to the working directory,
`sqlite:////var/lib/app/file.db` absolute. Query keys:

- `keep=100000`: how many revisions the log keeps for those who resume (128 MiB of changes at most).
  It is pruned after the writes, up to 4,096 operations at a time: as many more may lie in it.
- `sync=normal`: acknowledged writes survive the end of the process; `sync=full`: a power cut too,
  at a sync for each group of commits.
- `immutable=1`: read a file that nobody writes, such as one in a read-only directory.

TTLs are ended by whichever process has the file open for writing, by a clock that never jumps.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from datasync.capabilities import Capabilities
from datasync.checks import read_only
from datasync.errors import (
    BadKey,
    BadStore,
    BadUrl,
    BadValue,
    Disconnected,
    Forked,
    UnsupportedOption,
    WatchClosed,
)
from datasync.findings import Finding
from datasync.kvdbsync.sqlite.backup import Report, back_up, check_backup, make_from, put_back
from datasync.kvdbsync.sqlite.diagnosis import findings_of
from datasync.kvdbsync.sqlite.driver import Connection, load_driver
from datasync.kvdbsync.sqlite.file import SharedFile, acquire
from datasync.kvdbsync.sqlite.jobs import Job
from datasync.kvdbsync.sqlite.opened import Settings
from datasync.kvdbsync.sqlite.reader import read_apart
from datasync.kvdbsync.sqlite.rows import one, under
from datasync.kvdbsync.sqlite.session import SqliteSession
from datasync.kvdbsync.sqlite.store import (
    KEEP,
    DeleteRaw,
    Position,
    as_position,
    may_come_from,
    size_and_revision,
)
from datasync.skipped_keys import SkippedKeys
from datasync.source import Committed, Delete, Held, Item, Operation, Put, Session, Source, held
from datasync.texts import logger
from datasync.transports import Url, boolean

__all__ = ["SqliteSource", "from_url"]

log = logger("datasync.sqlite")

T = TypeVar("T")

_LOCK_TIMEOUT = 5.0
_GRACE = 0.1
"""Seconds that closing leaves to a commit that is under way, on a disk that may hang."""
_MAX_VALUE = 500_000_000
_CAPABILITIES = Capabilities(
    order="total",
    atomic=True,
    snapshot="exact",
    every_value=True,
    revisions=True,
    resume=True,
    ttl=True,
    cas=True,
    reply=False,
    durable=True,
)
_IMMUTABLE = msgspec.structs.replace(
    _CAPABILITIES, ttl=False, cas=False, transactions=False, writable=False
)


def from_url(url: Url) -> SqliteSource:
    """The Source of a `sqlite:` URL. Raises `BadUrl`."""
    if url.hosts or url.user is not None:
        raise BadUrl(
            f"{url} has a host; write sqlite:///file.db or, with four slashes, sqlite:////absolute/file.db"
        )
    path = url.path[1:]
    if path == ":memory:":
        raise BadUrl(f"{url} would be gone at the end; write memory:// for a store in memory")
    if not path or path.endswith("/") or "\0" in path:
        raise BadUrl(f"{url} names no file; write sqlite:///file.db or sqlite:////absolute/file.db")
    return SqliteSource(
        path,
        keep=url.option("keep", _revisions, KEEP),
        sync=url.option("sync", _sync, "normal"),
        immutable=url.option("immutable", boolean, default=False),
        name=str(url),
    )


def _revisions(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 1 << 40):
        raise ValueError(f"takes a number of revisions >= 1, not {text!r}")
    return int(text)


def _sync(text: str) -> str:
    if text not in ("normal", "full"):
        raise ValueError(f"takes normal or full, not {text!r}")
    return text


class SqliteSource(Source):
    """A file as a Source. All Sources on one file share what they have open of it in a process.

    `library` is "apsw" or "sqlite3", by default apsw where it is installed. `lock_timeout` in
    seconds bounds the wait for another process that holds the write lock. Without `inotify` commits
    of other processes are polled for.
    """

    def __init__(
        self,
        path: str,
        *,
        keep: int = KEEP,
        sync: str = "normal",
        immutable: bool = False,
        name: str | None = None,
        library: str | None = None,
        lock_timeout: float = _LOCK_TIMEOUT,
        inotify: bool = True,
    ) -> None:
        self.name = name or f"sqlite:///{path}"
        self.capabilities = _IMMUTABLE if immutable else _CAPABILITIES
        if immutable:
            self.instead_of_writing = "leave out ?immutable=1"
        self._path = os.path.abspath(path)
        self._library = load_driver(library)
        self._settings = Settings(self._library.name, keep, sync, immutable, inotify, lock_timeout)
        self._file: SharedFile | None = None
        self._was_open = False
        self._latest: Position | None = None
        self._restored = 0
        self._skipped = SkippedKeys(log)
        self._closes = 0
        self._jobs: set[Job] = set()
        self._waiting: set[asyncio.Future[Any]] = set()
        """Those who wait for something else than a write: that the file opens, or is read."""

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        position = None if resume is None else as_position(resume)
        file = await self._open_file()
        # as of now: what other sessions see while this one reads may be newer than what it reads
        named = functools.partial(self._named, self._latest)
        session = SqliteSession(
            file, self._path, scopes, added, position, named, self._saw, self._skipped
        )
        await session.start()
        return session

    def _saw(self, position: Position) -> None:
        self._latest = position

    def _named(self, latest: Position | None, connection: Connection, history: str) -> str:
        """A name of the history that changes when a backup was put back, which
        keeps the name in the file."""
        if latest is not None and not may_come_from(connection, latest):
            self._restored += 1
            self._latest = None
        return f"{history}/{self._restored}" if self._restored else history

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        if reply:
            raise UnsupportedOption(
                f"{self.name} has no way back from its watches; leave out reply"
            )
        if self._settings.immutable:
            raise read_only(self)
        return await self._write(operations, sum(map(_validated_size, operations)))

    async def delete_raw(self, key: bytes) -> bool:
        with contextlib.suppress(BadKey):
            if await super().delete_raw(key):
                # an ordinary key, whose end is shown to those who watch it
                return True
        return (await self._write([DeleteRaw(key)], math.inf)).existed[0]

    async def _write(self, operations: Sequence[Operation | DeleteRaw], size: float) -> Committed:
        closes = self._closes
        file = await self._open_for_writing()
        assert file.writer is not None
        if closes != self._closes:  # G12: while this was about to go on
            raise self._closed()
        job = file.writer.submit(operations, size)
        if job.future.done():
            return job.future.result()
        self._jobs.add(job)
        try:
            return await job.future
        finally:
            self._jobs.discard(job)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        _validate_key(key)
        file = await self._open_file()
        found = await self._read(file, lambda connection: one(connection, key, self._skipped))
        return None if found is None else found[1:]

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        """As the protocol says. All pages are at one revision: the token
        holds what is still to come."""
        if prefix:
            _validate_key(prefix)
        if token is None:
            what = "x''" if keys_only else "value"
            file = await self._open_file()
            rows = await self._read(
                file, lambda connection: self._rows(connection, prefix, what, limit + 1)
            )
            if len(rows) > limit:
                # not in the follower's thread, where all would wait for it
                reading = read_apart(
                    file, lambda connection: self._rows(connection, prefix, what, None)
                )
                rows = await self._wait_for(reading)
            token = held(rows)
        return cast(Held, token).page(limit)

    def _rows(
        self, connection: Connection, prefix: str, what: str, limit: int | None
    ) -> list[Item]:
        rows: list[Item] = []
        for chunk in under(connection, prefix, self._skipped, what, limit):
            rows.extend(chunk)
        return rows

    async def backup(self, target: str, report: Report) -> int:
        """Write the state of this moment to the file `target`, which appears when it
        is complete; its size in bytes.

        Others may write meanwhile. `report` is called with the bytes done and the bytes in all.
        """
        return await back_up(await self._open_file(), target, report)

    async def restore(self, backup: str, report: Report) -> tuple[int, int]:
        """Replace all that the store holds by what is in the file `backup`: as a new
        history, at once or not at all.

        Returns how many keys there are, and the revision. `report` is called with the keys
        done and the keys in all. Raises `BadStore` where `backup` cannot be used,
        `Disconnected`, `OutcomeUnknown`.
        """
        if self._settings.immutable:
            raise read_only(self)
        if not await asyncio.to_thread(check_backup, self._library, backup, self._path):
            await make_from(self._library, backup, self._path)
            try:
                file = await self._open_file()
            except Disconnected:  # shared with somebody who began to open it before it was there
                file = await self._open_file()
            return await self._read(file, size_and_revision)
        file = await self._open_for_writing()
        return await put_back(file, backup, report)

    async def _open_for_writing(self) -> SharedFile:
        file = await self._open_file()
        if file.writer is None and file.became_writable():
            file = await self._open_file()
        if file.writer is None:
            raise BadStore(
                f"{file.path} is read-only for this process; grant write access to it and its "
                "directory"
            )
        return file

    async def diagnose(self, key: str) -> Sequence[Finding]:
        await self._open_file()
        return await asyncio.to_thread(findings_of, self._path, self._library)

    async def aclose(self) -> None:
        """Close it at once for all who wait: for them nothing is begun any more."""
        file, self._file = self._file, None
        self._closes += 1
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(self._closed())
        # G12: the file is shared, but nothing is begun for this source any more
        begun = [job for job in list(self._jobs) if job.withdraw(self.name)]
        if begun:
            await asyncio.wait([job.future for job in begun], timeout=_GRACE)
        for job in begun:
            job.give_up(self.name)
        if file is not None and file.pid == os.getpid():
            await file.release()

    def _closed(self) -> WatchClosed:
        return WatchClosed(f"{self.name} was closed, nothing was done; open it again")

    async def _open_file(self) -> SharedFile:
        file = self._file
        if file is not None and file.pid != os.getpid():
            raise Forked(
                f"{self.name} was opened before this process was forked; open it after the fork"
            )

        if file is not None and file.opened and file.is_at(self._path):
            return file

        if file is None or file.opened or file.lost is not None:
            stale = file
            self._file = file = self._acquire()
            if stale is not None:
                await stale.release()

        if not file.ready.done():
            await self._wait_for(file.ready, ignore=True)

        try:
            file.ready.result()
        except BaseException:
            if self._file is file:
                self._file = None
                await file.release()
            raise

        self._was_open = True
        return file

    async def _read(self, file: SharedFile, read: Callable[[Connection], T]) -> T:
        result: T = await self._wait_for(file.follower.ask(read))
        return result

    async def _wait_for(self, done: concurrent.futures.Future[Any], *, ignore: bool = False) -> Any:
        """The result of what another thread does, or that it has ended (`ignore`);
        `WatchClosed` if this is closed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle() -> None:
            if future.done():
                return
            if ignore or (error := done.exception()) is None:
                future.set_result(None if ignore else done.result())
            else:
                future.set_exception(error)

        def in_loop(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop was closed
                loop.call_soon_threadsafe(settle)

        self._waiting.add(future)
        done.add_done_callback(in_loop)
        try:
            return await future
        finally:
            self._waiting.discard(future)

    def _acquire(self) -> SharedFile:
        if not self.create or self._was_open:
            self._check_content()
        # a file that is gone is not recreated while watches know the old one: it may be put back
        return acquire(
            self._path, self._settings, self._library, create=self.create and not self._was_open
        )

    def _check_content(self) -> None:
        """Raise where there is nothing to read: an empty file is not a store
        yet, or is just being put back."""
        try:
            empty = not os.path.getsize(self._path)
        except OSError:
            if self._was_open:
                return  # opening it tells better why
            raise BadStore(f"there is no file {self._path}; name the file to be read") from None
        if empty and self._was_open:
            raise Disconnected(
                f"{self._path} is empty now; put its content back, or restart to begin with an "
                "empty store"
            )
        if empty:
            raise BadStore(f"{self._path} is empty, so it is not a store; name the file to be read")


def _validated_size(operation: Operation) -> float:
    """Find whatever SQLite would refuse, so that nobody else's transaction fails with it. How many
    bytes it writes; infinity where it deletes what is under a prefix."""
    _validate_key(operation.key, empty=not isinstance(operation, Put))
    if not isinstance(operation, Put):
        return math.inf if isinstance(operation, Delete) and operation.prefix else 0
    if not isinstance(operation.raw, bytes):
        raise BadValue(
            f"the value of {operation.key!r} is {type(operation.raw).__name__}; encode it to bytes"
        )
    size = len(operation.raw)
    if size > _MAX_VALUE:
        raise BadValue(f"the value of {operation.key!r} has more than {_MAX_VALUE} bytes; split it")
    if operation.ttl is not None and not 0 < operation.ttl < math.inf:
        raise BadValue(f"the TTL of {operation.key!r} is {operation.ttl!r}; give seconds above 0")
    return size


def _validate_key(key: str, *, empty: bool = False) -> None:
    if not isinstance(key, str) or not (key or empty):
        raise BadKey(f"{key!r} is not a key; a key is a text of at least one character")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise BadKey(f"{key!r} cannot be stored as UTF-8; leave out its surrogates") from None
