"""Reading `kv`: the rows under a prefix or of one key, and of those only what can be shown.

A key may be of another type than TEXT, or not UTF-8, and a value no BLOB: by another program, or by
a bit that flipped. Such a row is skipped, and said once. SQLite sorts other types after all TEXT,
so a key whose type flipped stands where no search expects it and hides others: where one is met,
the table is read from one end to the other.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from datasync.kvdbsync.sqlite.driver import Connection, NotText
from datasync.kvdbsync.sqlite.schema import damaged
from datasync.scopes import is_prefix
from datasync.skipped_keys import SkippedKeys
from datasync.source import Commit, Item, Progress, Scopes

__all__ = ["REVISION", "Ranges", "delete_under", "one", "shown_keys", "under"]

_CHUNK = 2_000
_STORE = "SQLite"
REVISION = "CASE typeof(revision) WHEN 'text' THEN CAST(revision AS BLOB) ELSE revision END"
"""Also where it is a TEXT that is not UTF-8."""
_READ = "CAST(key AS BLOB), typeof(key), CAST({what} AS BLOB), typeof({what})"
_ALL = f"SELECT {_READ}, {REVISION} FROM kv"  # noqa: S608


class Ranges:
    """Scopes as what a query and a loop over changes need."""

    def __init__(self, scopes: Sequence[str]) -> None:
        self._scopes = Scopes(scopes).minimal()
        self._everything = "" in self._scopes

    def cut(self, commits: list[Commit]) -> Sequence[Commit | Progress]:
        """What is in scope, up to the last one of them."""
        if self._everything and all(commit.changes for commit in commits):
            return commits
        keep = self._scopes.keep
        frames: list[Commit | Progress] = []
        for commit in commits:
            mine = keep(commit.changes)
            if mine is commit.changes and mine:
                frames.append(commit)
            elif mine:
                frames.append(Commit(commit.position, commit.revision, mine))
        last = commits[-1]
        if not frames or frames[-1].revision != last.revision:
            frames.append(Progress(last.position, last.revision))
        return frames

    def read(self, connection: Connection, skipped: SkippedKeys) -> Iterator[Sequence[Item]]:
        """The rows in scope, range by range, each key once."""
        for scope in self._scopes:
            if is_prefix(scope):
                yield from under(connection, scope, skipped)
            elif (found := one(connection, scope, skipped)) is not None:
                yield [found]


def one(connection: Connection, key: str, skipped: SkippedKeys) -> Item | None:
    """The row of a key."""
    value = "CASE typeof(value) WHEN 'blob' THEN value END"
    query = f"SELECT key, {value}, {REVISION} FROM kv WHERE key = ?"  # noqa: S608
    if found := connection.all(query, (key,)):
        shown = _Reading(connection, skipped).shown(found)
        return shown[0] if shown else None
    if _is_hidden(connection, " WHERE key >= ?", (key,)):
        return next(
            (item for item in _everything(connection, key, "value", skipped) if item[0] == key),
            None,
        )
    return None


def under(
    connection: Connection,
    prefix: str,
    skipped: SkippedKeys,
    what: str = "value",
    limit: int | None = None,
) -> Generator[Sequence[Item], None, None]:
    """The rows under a prefix in key order, in chunks; `what` is the column or
    literal in the place of the value."""
    where, args = _range(prefix)
    last: str | None = None
    left = -1 if limit is None else limit

    if not (len(args) == 2 and _is_hidden(connection, " WHERE key >= ?", args[1:])):
        query = f"SELECT key, {what}, revision FROM kv{where} ORDER BY key LIMIT ?"  # noqa: S608 - no text of a user
        rows = connection.chunks(query, (*args, left), _CHUNK)
        reading = _Reading(connection, skipped)
        try:
            for chunk in rows:
                if items := reading.shown(chunk, in_order=True):
                    last = items[-1][0]
                    yield items
        except NotText:
            pass  # the rest is read in a way that can skip it
        else:
            return
        finally:
            rows.close()

    rest = [
        item
        for item in _everything(connection, prefix, what, skipped)
        if last is None or item[0] > last
    ]
    rest.sort()

    if limit is not None:
        del rest[limit:]

    for start in range(0, len(rest), _CHUNK):
        yield rest[start : start + _CHUNK]


def shown_keys(connection: Connection, sql: str, args: Sequence[object]) -> list[str]:
    """The keys that the condition `sql` finds, without those that are never shown."""
    try:
        found = connection.all(f"SELECT key FROM kv{sql}", args)  # noqa: S608 - no text of a user in it
    except NotText:
        query = f"SELECT CAST(key AS BLOB), typeof(key) FROM kv{sql}"  # noqa: S608
        found = [
            (_text(raw) if kind == "text" else raw,) for raw, kind in connection.all(query, args)
        ]
    return [key for (key,) in found if type(key) is str and key]


def delete_under(connection: Connection, prefix: str) -> tuple[list[str], int]:
    """Delete what starts with `prefix`, what is never shown too: the keys that
    were shown, the number of all."""
    where, args = _range(prefix)
    raw = prefix.encode()
    if len(args) == 2 and _is_hidden(connection, " WHERE key >= ?", args[1:]):
        where, args = " WHERE substr(CAST(key AS BLOB), 1, ?) = ?", (len(raw), raw)
    keys = shown_keys(connection, where, args)
    gone = 0
    # again while something is left: a row that hides others has to go before they can be found
    while deleted := connection.run(f"DELETE FROM kv{where}", args):  # noqa: S608
        gone += deleted
    if raw:
        beyond = raw[:-1] + bytes([raw[-1] + 1])
        gone += connection.run("DELETE FROM kv WHERE key >= ? AND key < ?", (raw, beyond))
    return sorted(keys), gone


def _is_hidden(connection: Connection, where: str, args: Sequence[object]) -> bool:
    """Whether the first row that `where` finds is of another type than
    TEXT, and so may hide others."""
    found = connection.all(f"SELECT typeof(key) FROM kv{where} ORDER BY key LIMIT 1", args)  # noqa: S608
    return bool(found) and found[0][0] != "text"


def _everything(connection: Connection, prefix: str, what: str, skipped: SkippedKeys) -> list[Item]:
    """The rows under a prefix, wherever they are, in the order of the table."""
    start = prefix.encode()
    rows: list[tuple[Any, Any, Any]] = []
    seen: set[tuple[Any, str]] = set()
    for chunk in connection.chunks(_ALL.format(what=what), (), _CHUNK):
        for raw, kind, value, value_kind, revision in chunk:
            if (raw, kind) in seen:
                raise damaged(f"the key {raw!r} is there twice")
            seen.add((raw, kind))
            if raw is not None and raw.startswith(start):
                key = skipped.text_of(raw, _STORE) if kind == "text" else raw
                if key is not None:
                    rows.append((key, value if value_kind == "blob" else None, revision))
    return list(_Reading(connection, skipped).shown(rows))


class _Reading:
    """Checks the rows of one query, chunk by chunk. Raises `BadStore`, naming the key,
    where a row cannot be ours."""

    def __init__(self, connection: Connection, skipped: SkippedKeys) -> None:
        self._connection = connection
        self._skipped = skipped
        self._last = ""
        self._newest = 0

    def shown(self, rows: Sequence[Item], *, in_order: bool = False) -> Sequence[Item]:
        """The rows that can be shown; the very list where all can.
        `in_order`: their keys must grow."""
        last, newest, whole = self._last, self._newest, True
        for key, value, revision in rows:
            if not (type(key) is str and key and type(value) is bytes):
                whole = False
                continue
            if type(revision) is not int or not 0 < revision <= newest:
                newest = self._newest = self._bound(key, revision)
            if in_order:
                if key <= last:  # pages that are linked in a circle, or a bit that flipped
                    raise damaged(f"the key {key!r} is not in its place, after {last!r}")
                last = key

        self._last = last
        return rows if whole else [row for row in rows if _can_be_shown(row, self._skipped)]

    def _bound(self, key: str, revision: Any) -> int:
        """The newest revision of the store by now, which no key can be beyond."""
        newest = self._connection.all("SELECT max(revision) FROM log")[0][0]
        if type(revision) is not int or newest is None or not 0 < revision <= newest:
            raise damaged(f"the key {key!r} has the revision {revision!r}, the store {newest}")
        return int(newest)


def _can_be_shown(row: Item, skipped: SkippedKeys) -> bool:
    key, value, _ = row
    raw = (
        key.encode()
        if isinstance(key, str)
        else key
        if isinstance(key, bytes)
        else str(key).encode()
    )
    if type(key) is not str or not key:
        why = "empty" if not key else "not of type TEXT"
    elif type(value) is not bytes:
        why = "not stored with a value of type BLOB"
    else:
        return True
    skipped.report(
        raw, _STORE, f"it is {why}; write it by datasync, or delete it with: datasync del --raw"
    )
    return False


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _range(prefix: str) -> tuple[str, tuple[object, ...]]:
    """The WHERE clause of all keys that start with `prefix`; SQLite compares them by
    code points, as Python does."""
    stem = prefix.rstrip("\U0010ffff")
    if not prefix:
        return "", ()
    if not stem:
        return " WHERE key >= ?", (prefix,)
    last = ord(stem[-1]) + 1
    # the surrogates are not characters, the next one after them is
    return " WHERE key >= ? AND key < ?", (
        prefix,
        stem[:-1] + chr(0xE000 if last == 0xD800 else last),
    )
