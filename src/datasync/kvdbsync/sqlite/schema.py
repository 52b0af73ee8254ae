"""What a store is made of, and that a file holds just that: nothing that others have
put there runs in our statements.

The definitions of our tables must be those that datasync makes, to the word, with no further index
or trigger on them: a view, a virtual or a generated column in their place would run code of the
file's author, and never need to end. Tables of the user's own, with whatever hangs on them, may
stand beside ours, for no statement of ours touches them.
"""

from __future__ import annotations

import re

from datasync.errors import BadStore
from datasync.kvdbsync.sqlite.driver import Connection

__all__ = [
    "APPLICATION_ID",
    "FORMAT",
    "SCHEMA",
    "damaged",
    "is_ours",
    "require_schema",
    "schema_version",
]

APPLICATION_ID = 0x6473796E
FORMAT = 1

SCHEMA = {
    ("table", "kv"): """CREATE TABLE kv(
        key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, expires REAL
    ) WITHOUT ROWID""",
    ("index", "kv_expires"): "CREATE INDEX kv_expires ON kv(expires) WHERE expires IS NOT NULL",
    ("table", "log"): (
        "CREATE TABLE log(revision INTEGER PRIMARY KEY, nonce INTEGER NOT NULL, total INTEGER NOT "
        "NULL, changes BLOB)"
    ),
    (
        "table",
        "meta",
    ): "CREATE TABLE meta(name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
}
"""The definitions of our tables and of the index on them, in the order in which they are made."""

_TABLES = "('kv', 'log', 'meta')"
_OBJECTS = (
    "SELECT type, name, tbl_name, sql FROM sqlite_master"  # noqa: S608 - no text of a user
    f" WHERE lower(tbl_name) IN {_TABLES} OR type <> 'trigger' AND lower(name) IN {_TABLES}"
)
_AUTOMATIC = ("index", None)


def is_ours(connection: Connection, path: str) -> bool:
    """Whether the file is a store, whose tables are as they must be; False for an
    empty file. Raises `BadStore`."""
    connection.run("BEGIN")  # at one moment: another process may be making the store
    try:
        application, version = (
            connection.all(f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version")
        )
        empty = not connection.all("SELECT 1 FROM sqlite_master LIMIT 1")
        if application == APPLICATION_ID and version == FORMAT:
            require_schema(connection, path)
            return True
    finally:
        if connection.in_transaction():
            connection.run("ROLLBACK")

    if application == APPLICATION_ID and version > FORMAT:
        raise BadStore(
            f"{path} has format {version}, this datasync knows {FORMAT}; update it: pip install -U "
            "datasync"
        )
    if application == APPLICATION_ID:
        raise damaged(f"{path} has format {version}, which there never was")
    if application or version or not empty:
        raise BadStore(f"{path} is an SQLite file of another program; name another file")
    return False


def schema_version(connection: Connection) -> int:
    """What changes whenever a table, index, view or trigger does."""
    return int(connection.all("PRAGMA schema_version")[0][0])


def require_schema(connection: Connection, path: str) -> None:
    """Raise `BadStore` unless the tables of the store are as datasync makes
    them, and nothing hangs on them."""
    (encoding,) = connection.all("PRAGMA encoding")[0]
    if encoding != "UTF-8":
        raise _foreign(path, f"its texts are stored in {encoding}")

    expected = {each: _words(sql) for each, sql in SCHEMA.items()}
    for kind, name, table, sql in connection.all(_OBJECTS):
        if (kind, sql) == _AUTOMATIC:
            continue  # that of a primary key
        definition = expected.pop((kind, name), None)
        if definition is None and kind in ("index", "trigger"):
            raise _foreign(path, f"it has the {kind} {name!r} on its table {table!r}")
        if definition is None or not isinstance(sql, str) or _words(sql) != definition:
            raise _foreign(path, f"its {kind} {name!r} is not the one that a store has")

    if expected:
        raise _foreign(path, "it has no {} {!r}".format(*next(iter(expected))))


def damaged(what: str) -> BadStore:
    """The error for a store whose tables do not hold what they must."""
    return BadStore(
        f"the store is damaged: {what}; put a backup back with: datasync restore FILE URL"
    )


def _foreign(path: str, what: str) -> BadStore:
    return BadStore(
        f"{path} is not as datasync makes a store: {what}; drop what is foreign on its tables, or "
        "put a backup in its place with: datasync restore FILE URL"
    )


def _words(sql: str) -> str:
    """A definition without what does not count: white space, and the quotes around
    the name of a renamed table."""
    return re.sub(
        r"\s*([(),])\s*", r"\1", re.sub(r'"(\w+)"', r"\1", re.sub(r"\s+", " ", sql))
    ).strip()
