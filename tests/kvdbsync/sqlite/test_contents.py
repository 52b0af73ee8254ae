"""Contents that no datasync writes: one typed error that names the key or the row, or a RESYNC,
and never more harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import struct
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datasync.errors import BadStore, HistoryLost
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite import driver as _sqlite_driver
from datasync.source import Put
from tests.helpers.sqlite.sqlite_tools import Copy, copy, put, stored

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
CHANGES = msgspec.msgpack.encode


def execute(path: Path, statement: str, *args: object) -> None:
    """Also where a NOT NULL of the table forbids it, as no page of the file does."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA writable_schema=ON")
        tables = "FROM sqlite_master WHERE type = 'table'"
        before = other.execute(f"SELECT name, sql {tables}").fetchall()
        other.execute(
            "UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'"
        )
        other.execute("PRAGMA writable_schema=RESET")
        other.execute(statement, args)
        other.execute("PRAGMA writable_schema=ON")
        for name, sql in before:
            other.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, name))
        other.execute("PRAGMA writable_schema=RESET")


async def prepared(make: Make, path: Path, *damage: Any) -> SqliteSource:
    """A store of three revisions, which another program has written to since."""
    source = make()
    for name in ("a", "b", "c"):
        await put(source, **{name: name.encode()})
    await source.aclose()
    execute(path, *damage)
    return make()


REVISIONS = {
    "NULL": "NULL", "a fraction": "2.5", "a text": "'two'", "no UTF-8": "CAST(x'ff' AS TEXT)",
    "bytes": "x'02'", "negative": "-1", "zero": "0", "beyond the store": "4",
    "the last integer": "9223372036854775807",
}  # fmt: skip


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_that_no_key_can_have(
    make: Make, run: Run, path: Path, tmp_path: Path, revision: str
) -> None:
    async def main() -> None:
        source = await prepared(
            make, path, f"UPDATE kv SET revision = {REVISIONS[revision]} WHERE key = 'b'"
        )
        with pytest.raises(BadStore, match="key 'b' has the revision"):
            await source.get("b")
        for scope in ("", "b"):
            made = Copy(await source.open([scope]))
            with pytest.raises(BadStore, match="key 'b' has the revision"):
                await made.reach(3)
            await made.session.aclose()
        with pytest.raises(BadStore, match="key 'b' has the revision"):
            await stored(source)
        assert await source.get("a") == (b"a", 1)

        # as a backup it is not put back
        await source.aclose()
        other = make(path=str(tmp_path / "other.db"))
        await put(other, k=b"v")
        with pytest.raises(BadStore, match=r"key 'b' has the revision|NULL value in kv\.revision"):
            await other.restore(str(path), lambda done, total: None)
        assert await other.get("k") == (b"v", 1)
        await other.aclose()

        # writing the key mends it
        source = make()
        assert await put(source, b=b"new") == 4
        assert await stored(source) == {"a": (b"a", 1), "b": (b"new", 4), "c": (b"c", 3)}
        await source.aclose()

    run(main())


@pytest.mark.parametrize(
    "damage", ["key = CAST(x'00ff' AS TEXT)", "value = CAST(x'ff' AS TEXT)", "key = ''"]
)
def test_the_first_row_may_be_one_that_cannot_be_shown(
    make: Make, run: Run, path: Path, damage: str
) -> None:
    """The opening reads it, too."""

    async def main() -> None:
        source = await prepared(make, path, f"UPDATE kv SET {damage} WHERE key = 'a'")
        made = await copy(source)
        assert set(made.data) == set(await stored(source)) == {"b", "c"}
        assert await put(source, d=b"d") == 4
        await made.reach(4)
        await made.session.aclose()
        await source.aclose()

    run(main())


HEADS = {
    "no row": "DELETE FROM log",
    "negative": "UPDATE log SET revision = revision - 10",
    "the last integer": "UPDATE log SET revision = 9223372036854775807 WHERE revision = 3",
    "the last but one": "UPDATE log SET revision = 9223372036854775806 WHERE revision = 3",
    "nonce NULL": "UPDATE log SET nonce = NULL WHERE revision = 3",
    "nonce a text": "UPDATE log SET nonce = 'x' WHERE revision = 3",
    "nonce no UTF-8": "UPDATE log SET nonce = CAST(x'ff' AS TEXT) WHERE revision = 3",
    "nonce negative": "UPDATE log SET nonce = -1 WHERE revision = 3",
    "total a fraction": "UPDATE log SET total = 1.5 WHERE revision = 3",
    "total the last integer": "UPDATE log SET total = 9223372036854775807 WHERE revision = 3",
    "total negative": "UPDATE log SET total = -9223372036854775808 WHERE revision = 3",
    "no history": "DELETE FROM meta WHERE name = 'history'",
    "history empty": "UPDATE meta SET value = '' WHERE name = 'history'",
    "history NULL": "UPDATE meta SET value = NULL WHERE name = 'history'",
    "history bytes": "UPDATE meta SET value = x'00' WHERE name = 'history'",
    "history no UTF-8": "UPDATE meta SET value = CAST(x'ff' AS TEXT) WHERE name = 'history'",
}


@pytest.mark.parametrize("damage", HEADS)
def test_a_store_without_a_head(
    make: Make, run: Run, path: Path, tmp_path: Path, damage: str
) -> None:
    words = "name of its history" if "history" in damage else "newest row of its log"

    async def main() -> None:
        source = await prepared(make, path, HEADS[damage])
        for call in (source.open([""]), source.get("a"), source.commit([Put("a", b"3")])):
            with pytest.raises(BadStore, match=words) as raised:
                await asyncio.wait_for(call, 60)
            assert "datasync restore" in str(raised.value)
        await source.aclose()
        for name in ("none.db", "other.db"):
            other = make(path=str(tmp_path / name))
            if name == "other.db":
                await put(other, k=b"v")
            with pytest.raises(BadStore, match=words):
                await other.restore(str(path), lambda done, total: None)
            await other.aclose()

    run(main())


LOGS: dict[str, tuple[Any, ...]] = {
    "a gap": ("DELETE FROM log WHERE revision = 2",),
    "changes NULL": ("UPDATE log SET changes = NULL WHERE revision = 2",),
    "changes no UTF-8": ("UPDATE log SET changes = CAST(x'ff' AS TEXT) WHERE revision = 2",),
    "changes empty": ("UPDATE log SET changes = x'' WHERE revision = 2",),
    "changes of nothing": ("UPDATE log SET changes = ? WHERE revision = 2", CHANGES(1)),
    "a change of three": (
        "UPDATE log SET changes = ? WHERE revision = 2",
        CHANGES([["k", b"", 1]]),
    ),
    "more than there is": (
        "UPDATE log SET changes = ? WHERE revision = 2",
        b"\xdd\xff\xff\xff\xff",
    ),
    "a key that is no UTF-8": (
        "UPDATE log SET changes = ? WHERE revision = 2",
        b"\x91\x92\xa1\xff\xc0",
    ),
    "an empty key": ("UPDATE log SET changes = ? WHERE revision = 2", CHANGES([["", b"1"]])),
    "a key twice": (
        "UPDATE log SET changes = ? WHERE revision = 2",
        CHANGES([["k", b"1"], ["k", b"2"]]),
    ),
    "nonce NULL": ("UPDATE log SET nonce = NULL WHERE revision = 2",),
    "nonce no UTF-8": ("UPDATE log SET nonce = CAST(x'ff' AS TEXT) WHERE revision = 2",),
}


@pytest.mark.parametrize("damage", LOGS)
def test_a_row_of_the_log_costs_a_snapshot(make: Make, run: Run, path: Path, damage: str) -> None:
    """G2: never a gap."""

    async def main() -> None:
        source = make()
        first = await copy(source)
        await first.session.aclose()
        await source.aclose()
        source = await prepared(make, path, *LOGS[damage])
        again = await copy(source, resume=first.position)
        with pytest.raises(HistoryLost, match="log"):
            await again.reach(3)
        assert set(again.data) <= {"a"}
        await again.session.aclose()

        made = await copy(source)
        await put(source, d=b"d")
        await made.reach(4)
        assert set(made.data) == {"a", "b", "c", "d"}
        await made.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize(
    "expires",
    [
        "'never'",
        "x'00'",
        "CAST(x'ff' AS TEXT)",
        "9e999",
        "1e308",
        "-9e999",
        "-1",
        "9223372036854775807",
    ],
)
def test_a_ttl_of_any_kind(make: Make, run: Run, path: Path, tmp_path: Path, expires: str) -> None:
    """A number ends the key in its time, or at once; what is none never does, in a copy neither."""

    async def main() -> None:
        source = await prepared(make, path, f"UPDATE kv SET expires = {expires} WHERE key = 'b'")
        made = await copy(source)
        await source.commit([Put("short", b"1", ttl=0.01)])
        await made.see_end_of("short")
        keys = {"a", "c"} if expires.startswith("-") else {"a", "b", "c"}
        assert set(made.data) == set(await stored(source)) == keys

        await source.backup(str(tmp_path / "backup.db"), lambda done, total: None)
        await source.restore(str(tmp_path / "backup.db"), lambda done, total: None)
        assert set(await stored(source)) == keys
        await made.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize(
    "clock", ["'x'", "x'00'", "CAST(x'ff' AS TEXT)", "1", "'{boot} nan nan'", "'{boot} 0.0 inf'"]
)
def test_a_clock_that_is_none_is_set_anew(make: Make, run: Run, path: Path, clock: str) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put("long", b"1", ttl=600)])
        await source.aclose()
        with contextlib.closing(sqlite3.connect(path)) as other:
            (kept,) = other.execute("SELECT value FROM meta WHERE name = 'clock'").fetchone()
        execute(
            path,
            f"UPDATE meta SET value = {clock.format(boot=kept.split()[0])} WHERE name = 'clock'",
        )
        source = make()
        made = await copy(source)
        await source.commit([Put("short", b"1", ttl=0.01)])
        await made.see_end_of("short")
        assert set(made.data) == {"long"}
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_a_row_without_a_key_ends_unseen(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        source = await prepared(make, path, "INSERT INTO kv VALUES('', x'00', 1, -1)")
        made = await copy(source)
        assert set(made.data) == set(await stored(source)) == {"a", "b", "c"}
        await source.commit([Put("d", b"d")])
        while "d" not in made.data:
            await made.step()
        await made.session.aclose()
        await source.aclose()

    run(main())


def bomb(path: Path, table: str) -> None:
    """Pages of the table that lead to the next one forty times each:
    a file of some pages with 40 ** 8 rows.
    """
    with contextlib.closing(sqlite3.connect(path)) as other:
        (root,) = other.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
        (size,) = other.execute("PRAGMA page_size").fetchone()
        (pages,) = other.execute("PRAGMA page_count").fetchone()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    leaf = bytes(data[(root - 1) * size : root * size])
    levels = [root, *range(pages + 1, pages + 9)]
    data += bytes(8 * size)
    for page, child in itertools.pairwise(levels):
        cells = b"".join(struct.pack(">IB", child, 1 + n) for n in range(40))
        start = size - len(cells)
        head = struct.pack(">BHHHBI", 5, 0, 40, start, 0, child) + b"".join(
            struct.pack(">H", start + 5 * n) for n in range(40)
        )
        data[(page - 1) * size : page * size] = head.ljust(start, b"\0") + cells
    data[(levels[-1] - 1) * size : levels[-1] * size] = leaf
    struct.pack_into(">I", data, 28, pages + 8)
    path.write_bytes(data)


def test_pages_in_a_circle_end(
    make: Make, run: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads the whole log would read for some thousand years."""
    monkeypatch.setattr(_sqlite_driver, "_STATEMENT_TIME", 0.2)

    async def main() -> None:
        source = make()
        await put(source, a=b"1")
        await source.aclose()
        bomb(path, "log")
        source = make()
        with pytest.raises((BadStore, HistoryLost)):
            await asyncio.wait_for(
                source.backup(str(tmp_path / "backup.db"), lambda done, total: None), 60
            )
        await source.aclose()
        with pytest.raises(BadStore):
            await asyncio.wait_for(
                make(path=str(tmp_path / "new.db")).restore(str(path), lambda done, total: None), 60
            )

    run(main())


def test_a_statement_has_a_time_limit(
    path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite_driver, "_STATEMENT_TIME", 0.05)
    connection = _sqlite_driver.load_driver(library).connect(str(path), "rwc")
    connection.run("CREATE TABLE t(a)")
    connection.many("INSERT INTO t VALUES(?)", [(n,) for n in range(100)])
    product = (
        "SELECT {} FROM t, t AS b, t AS c, t AS d, t AS e WHERE t.a + b.a + c.a + d.a + e.a < 0"
    )
    for run in (
        lambda: connection.all(product.format("count(*)")),
        lambda: connection.run(f"DELETE FROM t WHERE a IN ({product.format('t.a')})"),
        lambda: connection.many(
            f"DELETE FROM t WHERE a IN ({product.format('t.a')}) OR a = ?", [(1,)]
        ),
        lambda: list(connection.chunks(product.format("t.a"), (), 10)),
    ):
        with pytest.raises(BadStore, match="ran for too long"):
            run()
    assert connection.all("SELECT count(*) FROM t") == [(100,)]
    connection.close()
