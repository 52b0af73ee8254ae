"""What is in the file: its format, its statements, and the proof that it is still the same history.

`kv` holds the current state, `log` one row a transaction with all its changes (msgpack), so that
following needs no join and no look back. Revisions grow by one a transaction; the newest row of
the log is never pruned, so the head of the history is always there. Each row carries a random
nonce: a backup that was restored and then took other writes up to the same revision is told
apart. `total` is the running sum of the bytes logged, which makes the size of the log the
difference of two rows. `meta` holds the name of the history, and what the store's clock is set
by; `expires` is a time of that clock.
"""

from __future__ import annotations

import contextlib
import math
import os
import uuid
from collections.abc import Sequence
from itertools import repeat
from typing import Annotated, Any, NamedTuple

import msgspec

from datasync.codec.shared import UNDECODABLE
from datasync.errors import BadStore, Conflict, HistoryLost
from datasync.kvdbsync.sqlite.driver import Connection, NotText, Row
from datasync.kvdbsync.sqlite.rows import delete_under, shown_keys
from datasync.kvdbsync.sqlite.schema import APPLICATION_ID, FORMAT, SCHEMA, damaged, is_ours
from datasync.source import Check, Commit, Committed, Delete, Operation, Put

__all__ = [
    "KEEP",
    "Batch",
    "DeleteRaw",
    "Head",
    "Position",
    "Transactions",
    "as_position",
    "begin_history",
    "changes_behind",
    "head",
    "history",
    "may_come_from",
    "next_expiry",
    "prepare",
    "require_store",
    "size_and_revision",
]

KEEP = 100_000
"""How many revisions the log keeps unless told otherwise."""
KEEP_BYTES = 128 << 20
"""How many bytes of changes the log keeps at most, however few revisions they are."""

_PRUNE_EVERY = 64
_PRUNE_EVERY_BYTES = 1 << 20
_PRUNE_STEP = 256
_EXPIRE_STEP = 1_000
_NONCE_MASK = (1 << 53) - 1  # every JSON reader keeps 53 bits
_LOG_CHUNK = 64
_LIMIT = 1 << 62
"""What no store ever counts up to."""
_CHANGE_BYTES = 200
_BEHIND = (
    "SELECT revision, nonce, NULL FROM log WHERE revision = ? UNION ALL SELECT revision, nonce, "
    "changes FROM log WHERE revision > ? LIMIT ?"
)
"""In the order of the table; those who read it check that."""
_PRUNE = (
    "DELETE FROM log WHERE revision <= (SELECT max(revision) FROM (SELECT revision, total FROM log "
    "ORDER BY revision LIMIT ?) WHERE revision <= ? OR total <= ?) AND revision < ?"
)

Changes = Sequence[tuple[Annotated[str, msgspec.Meta(min_length=1)], bytes | None]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Changes).decode


Position = tuple[str, int, int]
"""Where a session stands: the history, the revision and its nonce; plain data,
made once for each transaction."""


class DeleteRaw(msgspec.Struct, frozen=True):
    """Delete the row whose key is made of these bytes, of whatever type it is."""

    key: bytes


class Batch(NamedTuple):
    """A part of the log, about its size in memory, and whether there may be more after it."""

    commits: list[Commit]
    size: int
    more: bool


def as_position(position: Any) -> Position:
    """The position in what an application kept, perhaps as JSON; raises
    `HistoryLost` if it is not one of ours."""
    try:
        history, revision, nonce = position
        found = str(history), int(revision), int(nonce)
        if not 0 <= found[1] < 1 << 63:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise HistoryLost(
            f"{position!r} is not a position of an SQLite store; take a snapshot", changed=True
        ) from None
    return found


class Head(NamedTuple):
    revision: int
    nonce: int
    total: int


def prepare(connection: Connection, path: str, *, write: bool) -> None:
    """See to it that the file is a store of ours, made now if it is empty.

    Raises `BadStore` for what it must not touch, before anything is written.
    """
    ours = is_ours(connection, path)
    # a new file has no WAL yet, nor has a backup made by VACUUM INTO
    if write and "wal" not in (_mode(connection), _mode(connection, "=WAL")):
        raise BadStore(f"{path} cannot have a WAL on this file system; put it on a local disk")
    if not ours:
        if not write:
            raise BadStore(
                f"{path} is empty and read-only; grant write access, or name another file"
            )
        _create(connection)
        is_ours(connection, path)
    require_content(connection)


def require_content(connection: Connection) -> None:
    """Raise `BadStore`, or an error of the library, unless the tables are
    there and the log has a head."""
    history(connection)
    head(connection)
    # types only: what is not text in there is skipped and said where it is read
    connection.all(
        "SELECT typeof(key), typeof(value), typeof(revision), typeof(expires) FROM kv LIMIT 1"
    )


def _mode(connection: Connection, change: str = "") -> str:
    return str(connection.all(f"PRAGMA journal_mode{change}")[0][0])


def _create(connection: Connection) -> None:
    """Make the store, unless another process has done so in the meantime."""
    connection.run("BEGIN IMMEDIATE")
    try:
        if not connection.all("SELECT 1 FROM sqlite_master LIMIT 1"):
            for statement in SCHEMA.values():
                connection.run(statement)
            connection.run("INSERT INTO log VALUES(0, ?, 0, NULL)", (_nonce(),))
            connection.run("INSERT INTO meta VALUES('history', ?)", (str(uuid.uuid4()),))
            connection.run(f"PRAGMA application_id={APPLICATION_ID}")
            connection.run(f"PRAGMA user_version={FORMAT}")
        connection.run("COMMIT")
    except BaseException:
        if connection.in_transaction():
            connection.run("ROLLBACK")
        raise


def _nonce() -> int:
    return int.from_bytes(os.urandom(8), "big") & _NONCE_MASK


def require_store(connection: Connection, path: str) -> None:
    """Raise `BadStore`, or an error of the library, unless the file is a store of ours."""
    if not is_ours(connection, path):
        raise BadStore(f"{path} is empty, so it is not a store; name another file")
    require_content(connection)


def begin_history(connection: Connection, least: int) -> int:
    """Make what the tables hold, in the transaction that is open, the beginning of a new history.

    Its revision, which is beyond that of the old one and `least`: a revision that
    somebody knows never comes again.
    """
    revision = max(head(connection).revision, least) + 1
    connection.run("DELETE FROM log")
    connection.run("INSERT INTO log VALUES(?, ?, 0, NULL)", (revision, _nonce()))
    connection.run("UPDATE meta SET value = ? WHERE name = 'history'", (str(uuid.uuid4()),))
    return revision


def history(connection: Connection) -> str:
    """What the store was called when it was made, at random. Raises `BadStore`."""
    with contextlib.suppress(NotText):
        found = connection.all("SELECT value FROM meta WHERE name = 'history'")
        if found and isinstance(found[0][0], str) and found[0][0]:
            return found[0][0]
    raise damaged("it has lost the name of its history (in its table 'meta')")


def may_come_from(connection: Connection, position: Position) -> bool:
    """Whether nothing shows that the store is of another history than `position`."""
    name, revision, nonce = position
    if name != history(connection) or revision > head(connection).revision:
        return False
    found = connection.all("SELECT nonce FROM log WHERE revision = ?", (revision,))
    return not found or found[0][0] == nonce


def head(connection: Connection) -> Head:
    """The newest row of the log. Raises `BadStore`."""
    with contextlib.suppress(NotText):
        found = connection.all(
            "SELECT revision, nonce, total FROM log ORDER BY revision DESC LIMIT 1"
        )
        # what counts up from there must stay an integer of SQLite
        if found and all(type(each) is int and 0 <= each < _LIMIT for each in found[0]):
            return Head(*found[0])
    raise damaged("the newest row of its log is missing or malformed")


def size_and_revision(connection: Connection) -> tuple[int, int]:
    """How many keys there are, and the revision."""
    return connection.all("SELECT count(*) FROM kv")[0][0], head(connection).revision


def changes_behind(connection: Connection, position: Position, limit: int, size: int) -> Batch:
    """The log after `position`: at most `limit` transactions of about `size` bytes.

    The row of the position itself is read too, for its nonce proves in the same statement that the
    history is the same and that nothing was pruned in between. Raises `HistoryLost`.
    """
    name, revision, nonce = position

    at = revision
    commits: list[Commit] = []
    proven = False
    read = 0

    rows = connection.chunks(_BEHIND, (revision, revision, limit + 1), _LOG_CHUNK)
    try:
        for chunk in rows:
            if not proven:
                if chunk[0][:2] != (revision, nonce):
                    raise _lost(connection, position)
                proven = True
                del chunk[0]

            if chunk:
                found = _commits(name, at, chunk)
                commits += found
                at += len(found)
                read += sum([len(blob) for _, _, blob in chunk])
                read += _CHANGE_BYTES * sum([len(commit.changes) for commit in found])

            if read >= size:
                return Batch(commits, read, more=True)
    except NotText:
        raise HistoryLost(f"the log after revision {at} is malformed; take a snapshot") from None
    finally:
        rows.close()

    if not proven:
        raise _lost(connection, position)
    return Batch(commits, read, more=len(commits) >= limit)


def _commits(name: str, at: int, rows: Sequence[Row]) -> list[Commit]:
    """What rows of the log after revision `at` hold. Raises `HistoryLost`."""
    # checked all together, for a session far behind reads many
    revisions, marks, blobs = zip(*rows, strict=True)
    if revisions != tuple(range(at + 1, at + 1 + len(rows))) or {*map(type, marks)} != {int}:
        raise _fault(at, rows)
    try:
        changes = [*map(_decode, blobs)]
    except (TypeError, *UNDECODABLE):
        raise _fault(at, rows) from None
    if any(len(dict(each)) < len(each) for each in changes if len(each) > 1):
        raise _fault(at, rows)
    positions = zip(repeat(name), revisions, marks)
    return [*map(Commit, positions, revisions, changes)]


def _fault(at: int, rows: Sequence[Row]) -> HistoryLost:
    """What is wrong with the first of these rows that cannot be ours."""
    for found, mark, blob in rows:
        at += 1
        if found != at:  # G2: revisions grow by one
            return HistoryLost(f"revision {at} of the log is missing; take a snapshot")
        if type(mark) is not int or type(blob) is not bytes:
            return HistoryLost(f"revision {at} of the log is malformed; take a snapshot")
        try:
            changes = _decode(blob)
        except UNDECODABLE as error:
            return HistoryLost(f"revision {at} of the log is damaged ({error}); take a snapshot")
        if len(dict(changes)) < len(changes):
            break
    return HistoryLost(f"revision {at} of the log has a key twice; take a snapshot")


def _lost(connection: Connection, position: Position) -> HistoryLost:
    name, revision, _ = position
    if name != history(connection):
        return HistoryLost("the store has another history by now; take a snapshot", changed=True)
    found = connection.all("SELECT revision FROM log ORDER BY revision LIMIT 1")
    if not found:
        raise damaged("its log is empty")
    first = found[0][0]
    if revision < first:
        return HistoryLost(
            f"the log begins at revision {first}, {revision} was pruned; take a snapshot"
        )
    return HistoryLost(f"revision {revision} is not in this history; take a snapshot", changed=True)


class Transactions:
    """Applies transactions by one connection, inside SQLite transactions that the caller begins
    and commits: `begin` each, then `apply` or `expire`, and `finish` before the COMMIT.

    Rows are kept back until `finish`, or until a statement has to see them: that spares most of
    the statements of a group.
    """

    def __init__(self, connection: Connection, keep: int, keep_bytes: int = KEEP_BYTES) -> None:
        self._connection = connection
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._version: int | None = None
        self._before = self._head = Head(0, 0, 0)
        self._nonce = 0
        self._rows: list[tuple[str, bytes, int, float | None]] = []
        self._entries: list[tuple[int, int, int, bytes]] = []
        # written by this connection since it pruned last: revisions, and bytes
        self._unpruned = [0, 0]
        self.soonest = math.inf
        """When the first of the keys written since `begin` expires."""

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return self._head is not self._before

    def begin(self) -> bool:
        """Begin where the store stands. Whether others have written since the last time, so that
        nothing that was found out about the store then is certain any more."""
        # that of the PRAGMA stays the same for what this connection writes
        version = self._connection.all("PRAGMA data_version")[0][0]
        others: bool = version != self._version
        if others:
            self._head = head(self._connection)
            self._nonce = _nonce()
            self._version = version
        self._before = self._head
        self.soonest = math.inf
        return others

    def forget(self) -> None:
        """Know nothing of the store any more: what was begun is undone, or may be."""
        self._version = None
        self._rows.clear()
        self._entries.clear()

    def apply(self, operations: Sequence[Operation | DeleteRaw], now: float) -> Committed:
        """Do one transaction as one revision. Raises `Conflict` before anything of it is done."""
        for operation in operations:
            if type(operation) is Check:
                self._store()
                found = self._connection.all(
                    "SELECT revision FROM kv WHERE key = ?", (operation.key,)
                )
                if (found[0][0] if found else 0) != operation.revision:
                    raise Conflict(operation.key, operation.revision)

        revision = self._head.revision + 1
        changes: dict[str, bytes | None] = {}
        existed: list[bool] = []
        for operation in operations:
            if type(operation) is Put:
                expires = None
                if operation.ttl is not None:
                    expires = now + operation.ttl
                    self.soonest = min(self.soonest, expires)
                self._rows.append((operation.key, operation.raw, revision, expires))
                changes[operation.key] = operation.raw
            elif type(operation) is Delete:
                keys, gone = self._delete(operation)
                existed.append(gone > 0)
                changes.update(dict.fromkeys(keys if gone else ()))
            elif type(operation) is DeleteRaw:
                self._store()
                gone = self._connection.run(
                    "DELETE FROM kv WHERE CAST(key AS BLOB) = ?", (operation.key,)
                )
                existed.append(gone > 0)

        if changes or any(existed):
            # what was never shown goes without a change, but not without a revision
            self._log(revision, changes)
        return Committed(self._head.revision, existed)

    def _delete(self, operation: Delete) -> tuple[list[str], int]:
        # the order of the operations counts where a deleted prefix covers a key that is put
        self._store()
        if operation.prefix:
            return delete_under(self._connection, operation.key)
        return [operation.key], self._connection.run(
            "DELETE FROM kv WHERE key = ?", (operation.key,)
        )

    def expire(self, now: float) -> None:
        """Delete some of what has expired, as one transaction of its own."""
        due = " WHERE key IN (SELECT key FROM kv WHERE expires <= ? ORDER BY expires LIMIT ?)"
        keys = shown_keys(self._connection, due, (now, _EXPIRE_STEP))
        gone = self._connection.run(f"DELETE FROM kv{due}", (now, _EXPIRE_STEP))  # noqa: S608 - no text of a user
        if gone:
            self._log(self._head.revision + 1, dict.fromkeys(keys))

    def finish(self) -> None:
        """Have all of it written: nothing but the COMMIT is left to do."""
        self._store()
        _write(self._connection, "INSERT INTO log VALUES(?, ?, ?, ?)", self._entries)

    def _store(self) -> None:
        _write(self._connection, "REPLACE INTO kv VALUES(?, ?, ?, ?)", self._rows)

    def _log(self, revision: int, changes: dict[str, bytes | None]) -> None:
        blob = _encode(list(changes.items()))
        # counting on from a random start tells histories apart as well as a
        # new random number each time
        self._nonce = self._nonce + 1 & _NONCE_MASK
        self._head = Head(revision, self._nonce, self._head.total + len(blob))
        self._entries.append((*self._head, blob))
        self._unpruned[0] += 1
        self._unpruned[1] += len(blob)

    def prune(self) -> bool:
        """Delete what the log need not keep, a little for every so many revisions
        and bytes, also of other writers.

        Whether it was time for that.
        """
        now = self._head
        revisions, size = self._unpruned
        if (now.revision - revisions) // _PRUNE_EVERY == now.revision // _PRUNE_EVERY and (
            now.total - size
        ) // _PRUNE_EVERY_BYTES == now.total // _PRUNE_EVERY_BYTES:
            return False
        self._unpruned = [0, 0]
        step = 2 * revisions + _PRUNE_STEP
        oldest = (now.revision - self._keep, now.total - self._keep_bytes)
        self._connection.run(_PRUNE, (step, *oldest, now.revision))
        return True


def _write(connection: Connection, statement: str, rows: list[Any]) -> None:
    """Run the statement for each of the rows, which are done with then."""
    if len(rows) == 1:
        connection.run(statement, rows[0])
    elif rows:
        connection.many(statement, rows)
    rows.clear()


def next_expiry(connection: Connection) -> float:
    """When the next key expires, by the clock of the store; infinity where none does."""
    found = connection.all("SELECT min(expires) FROM kv WHERE expires IS NOT NULL")[0][0]
    return float(found) if isinstance(found, (int, float)) else math.inf
