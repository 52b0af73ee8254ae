"""SQLite files made by others: damaged pages, and rows, tables, views and
triggers that nobody here has made."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite.driver import Driver, load_driver
from datasync.source import Delete, Put, SnapshotEnd
from datasync.testing.fuzz.door import Door, Finding, first_of, mutated, typed

__all__ = ["door"]

_PAGE = 4096
_TOKENS = [
    b"\x0d",
    b"\x05",
    b"\x0a",
    b"\x02",
    b"kv",
    b"log",
    b"meta",
    b"CREATE",
    b"\x00" * 8,
    b"\xff" * 9,
]
_VALUES = [
    "NULL", "1", "-1", "0", "1e400", "-1e400", "0.5", "9223372036854775807",
    "-9223372036854775808", "'a text'", "''", "x''", "x'ff'", "x'00'", "CAST(x'ff' AS TEXT)",
    "'a' || char(0) || 'b'", "zeroblob(3000000)", "'k' || revision", "key", "value",
    "CAST(key AS BLOB)", "randomblob(100)", "'/'", "char(55296)", "'a/' || char(8238)", "1e18",
]  # fmt: skip
_COLUMNS = {
    "kv": ["key", "value", "revision", "expires"],
    "log": ["revision", "nonce", "total", "changes"],
    "meta": ["name", "value"],
}
_ENDLESS = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x, x, 1, NULL FROM n"
)
_SCHEMA = [
    "DROP TABLE {table}",
    "DROP INDEX kv_expires",
    "ALTER TABLE {table} RENAME TO other",
    "ALTER TABLE {table} DROP COLUMN {column}",
    "ALTER TABLE {table} ADD COLUMN more TEXT",
    "CREATE TABLE more(a, b)",
    "CREATE UNIQUE INDEX more_of_it ON {table}({column})",
    "CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM kv; END",
    "CREATE TRIGGER t BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END",
    (
        "CREATE TRIGGER t AFTER DELETE ON {table} BEGIN INSERT INTO log SELECT revision + 9, 1, 1, "
        "x'90' FROM log; END"
    ),
    f"CREATE TRIGGER t AFTER INSERT ON log BEGIN INSERT INTO kv {_ENDLESS}; END",
    f"DROP TABLE kv;; CREATE VIEW kv(key, value, revision, expires) AS {_ENDLESS}",
    "ALTER TABLE {table} RENAME TO other;; CREATE VIEW {table} AS SELECT * FROM other",
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 7",
    "PRAGMA journal_mode = DELETE",
    (
        "PRAGMA writable_schema = ON;; UPDATE sqlite_schema SET sql = 'CREATE TABLE kv(key, "
        "value)' WHERE name = '{table}'"
    ),
    "PRAGMA writable_schema = ON;; UPDATE sqlite_schema SET rootpage = 3 WHERE name = '{table}'",
]


@contextlib.asynccontextmanager
async def door() -> AsyncIterator[Door]:
    """Has a directory of its own, in which each case damages a copy of the same file."""
    library = load_driver(None)
    with tempfile.TemporaryDirectory(prefix="datasync-fuzz-") as name:
        path = Path(name) / "store.db"
        await _make(path)
        good = path.read_bytes()

        async def case(rng: random.Random) -> str:
            _empty(path.parent)
            if rng.random() < 0.5:
                path.write_bytes(_damaged(rng, good))
            else:
                path.write_bytes(good)
                _rewrite(rng, library, path)
            return await _use(rng, path)

        async def works() -> None:
            _empty(path.parent)
            path.write_bytes(good)
            if await _use(random.Random(1), path) != "done":
                raise Finding("a good file cannot be used")

        yield Door(case, works)


async def _make(path: Path) -> None:
    source = SqliteSource(str(path))
    for number in range(5):
        puts = [Put(f"{kind}/{number}{letter}", b"v" * 40) for kind in "ab" for letter in "uvwxyz"]
        await source.commit([*puts, Put("a/big", bytes(6000)), Put("ends", b"1", ttl=1e6)])
    await source.commit([Delete("b/", prefix=True)])
    await source.aclose()


def _empty(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()


def _damaged(rng: random.Random, good: bytes) -> bytes:
    """Pages with damaged bytes, headers, or in the place of others."""
    pages = [good[at : at + _PAGE] for at in range(0, len(good), _PAGE)]
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(pages))
        match rng.randrange(4):
            case 0:  # its header, and where its cells are
                start = 100 if at == 0 else 0
                page, end = pages[at], start + 40
                head = mutated(rng, page[start:end], _TOKENS)[:40].ljust(40, b"\0")
                pages[at] = page[:start] + head + page[end:]
            case 1:
                pages[at] = mutated(rng, pages[at], _TOKENS)[:_PAGE].ljust(_PAGE, b"\0")
            case 2:
                pages[at] = rng.choice(pages)
            case _ if at == 0:  # that of the file
                pages[0] = (
                    mutated(rng, pages[0][:100], _TOKENS)[:100].ljust(100, b"\0") + pages[0][100:]
                )
            case _:
                pages[at:] = [b"".join(pages[at:])[: rng.randrange(2 * _PAGE)]]
    return b"".join(pages)


def _rewrite(rng: random.Random, library: Driver, path: Path) -> None:
    """Statements of somebody else; those that do not go are left out."""
    connection = library.connect(str(path), "rw")
    try:
        for _ in range(rng.choice([1, 1, 2, 4])):
            table = rng.choice(list(_COLUMNS))
            column = rng.choice(_COLUMNS[table])
            for statement in _drawn(rng, table, column).split(";; "):
                with contextlib.suppress(library.error):
                    connection.run(statement)
    finally:
        connection.close()


def _drawn(rng: random.Random, table: str, column: str) -> str:
    where = rng.choice(
        [
            "",
            f" WHERE rowid % {rng.randint(2, 9)} = 1",
            " WHERE key LIKE 'a/%u'",
            " ORDER BY 1 LIMIT 1",
        ]
    )
    match rng.randrange(5):
        case 0 | 1:
            return f"UPDATE OR REPLACE {table} SET {column} = {rng.choice(_VALUES)}{where}"
        case 2:
            values = ", ".join(rng.choice(_VALUES[:18]) for _ in _COLUMNS[table])
            return f"INSERT OR REPLACE INTO {table} VALUES({values})"
        case 3:
            raw = rng.choice([_changes(rng), mutated(rng, _changes(rng))])
            return f"UPDATE log SET changes = x'{raw.hex()}' WHERE revision > {rng.randint(0, 5)}"
        case _:
            return rng.choice(_SCHEMA).replace("{table}", table).replace("{column}", column)


def _changes(rng: random.Random) -> bytes:
    """What a row of the log may hold, or nearly."""
    return msgspec.msgpack.encode(
        [
            [
                rng.choice(["a/1u", "", "/", "k" * 5000, "\0", 5, None, b"x"]),
                rng.choice([b"", b"v", None, "text", 5, []]),
            ]
            for _ in range(rng.randint(0, 4))
        ]
    )


async def _use(rng: random.Random, path: Path) -> str:
    """Everything that one does with a file: what came of it at first that was not done."""
    names = []
    source = SqliteSource(str(path), immutable=rng.random() < 0.1)
    try:
        for _ in range(rng.randint(2, 5)):
            with typed() as outcome:
                match rng.randrange(6):
                    case 0 | 1:
                        await _follow(rng, source)
                    case 2:
                        await _list(source, rng.choice(["", "a/"]))
                    case 3:
                        await source.get(rng.choice(["a/1u", "a/big", "ends", "missing"]))
                    case 4:
                        await source.commit(
                            [
                                Put("a/1u", b"new"),
                                Put("new", b"1", ttl=rng.choice([None, 0.001, 60.0])),
                            ]
                        )
                    case _:
                        await source.commit([Delete(rng.choice(["", "a/"]), prefix=True)])
            names.append(outcome.name)
    finally:
        await source.aclose()

    return first_of(names)


async def _follow(rng: random.Random, source: SqliteSource) -> None:
    resume = ("history", rng.randint(0, 9), 1) if rng.random() < 0.2 else None
    session = await source.open([rng.choice(["", "a/", "a/1u"])], resume)
    try:
        async with asyncio.timeout(0.05):
            async for frames in session:
                if any(isinstance(frame, SnapshotEnd) for frame in frames) and rng.random() < 0.8:
                    break
    except TimeoutError:
        pass  # nothing more comes
    finally:
        await session.aclose()


async def _list(source: SqliteSource, prefix: str) -> None:
    token = None
    for _ in range(100):
        _, token = await source.page(prefix, token, 5)
        if token is None:
            return
