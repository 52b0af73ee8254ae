"""Files that others made: nothing in them runs in our statements,
and what hangs on our tables is named.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync import DataSync
from datasync.errors import BadStore
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.source import Delete, Put
from tests.helpers.sqlite.sqlite_tools import copy, finish, process, put, stored, until

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {} FROM c"
LOG = (
    "CREATE TABLE log(revision INTEGER PRIMARY KEY, nonce INTEGER NOT NULL, total INTEGER NOT "
    "NULL, changes BLOB{})"
)
KV = (
    "CREATE TABLE kv(key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT "
    "NULL, expires REAL{})"
)


def execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        for statement in statements:
            other.execute(statement)
        other.commit()


async def execute_elsewhere(path: Path, *statements: str) -> None:
    """In another process: in this one, the other library would end the locks of ours."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "[*map(c.execute, sys.argv[2:])]"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, path, *statements)
    assert await asyncio.wait_for(process.wait(), 60) == 0


FOREIGN: dict[str, tuple[tuple[str, ...], str]] = {
    "view": (
        (
            "DROP TABLE kv",
            (
                "CREATE VIEW kv AS "
                f"{ENDLESS.format('x AS key, x AS value, x AS revision, 1 AS expires')}"
            ),
        ),
        "its view 'kv' ",
    ),
    "view of another case": (
        ("DROP TABLE meta", f"CREATE VIEW Meta AS {ENDLESS.format('x AS name, x AS value')}"),
        "its view 'Meta' ",
    ),
    "log as a view": (
        (
            "DROP TABLE log",
            (
                "CREATE VIEW log AS "
                f"{ENDLESS.format('1 AS revision, 1 AS nonce, x AS total, 1 AS changes')}"
            ),
        ),
        "its view 'log' ",
    ),
    "virtual table": (
        ("DROP TABLE kv", "CREATE VIRTUAL TABLE kv USING fts5(key, value)"),
        "its table 'kv' ",
    ),
    "generated column": (
        ("DROP TABLE log", LOG.format(", more INTEGER AS (length(changes)) STORED")),
        "its table 'log' ",
    ),
    "check": (("DROP TABLE log", LOG.format(", CHECK (revision >= 0)")), "its table 'log' "),
    "default": (("ALTER TABLE log ADD COLUMN more DEFAULT 1",), "its table 'log' "),
    "no primary key": (
        ("DROP TABLE log", LOG.format("").replace("INTEGER PRIMARY KEY", '"INTEGER PRIMARY KEY"')),
        "its table 'log' ",
    ),
    "with rowids": (("DROP TABLE kv", KV.format("")), "its table 'kv' "),
    "collation": (
        ("DROP TABLE kv", KV.format("").replace("TEXT", "TEXT COLLATE NOCASE") + " WITHOUT ROWID"),
        "its table 'kv' ",
    ),
    "missing": (("DROP TABLE meta",), "it has no table 'meta'"),
    "index missing": (("DROP INDEX kv_expires",), "it has no index 'kv_expires'"),
    "index of an expression": (
        ("CREATE INDEX slow ON kv(hex(zeroblob(length(key))))",),
        "index 'slow' on its table 'kv'",
    ),
    "another index": (
        ("DROP INDEX kv_expires", "CREATE INDEX kv_expires ON kv(revision)"),
        "its index 'kv_expires' ",
    ),
    "trigger": (
        (f"CREATE TRIGGER evil AFTER INSERT ON log BEGIN {ENDLESS.format('count(*)')}; END",),
        "trigger 'evil' on its table 'log'",
    ),
    "trigger on a deletion": (
        ("CREATE TRIGGER evil BEFORE DELETE ON kv BEGIN SELECT RAISE(IGNORE); END",),
        "trigger 'evil' on its table 'kv'",
    ),
    "encoding": ((), "UTF-16"),
}


async def prepared(make: Make, path: Path, case: str) -> SqliteSource:
    source = make()
    await put(source, a=b"1", b=b"2")
    await source.aclose()
    statements = FOREIGN[case][0]
    if case == "encoding":
        copied = path.with_name("utf16.db")
        with contextlib.closing(sqlite3.connect(path)) as other:
            lines = list(other.iterdump())
        execute(
            copied,
            "PRAGMA encoding='UTF-16le'",
            *(each for each in lines if not each.startswith(("BEGIN", "COMMIT"))),
        )
        execute(
            copied,
            "PRAGMA application_id=1685289326",
            "PRAGMA user_version=1",
            "PRAGMA journal_mode=wal",
        )
        copied.replace(path)
    execute(path, *statements)
    return make()


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_foreign_on_our_tables_is_named_at_the_opening(
    make: Make, run: Run, path: Path, case: str
) -> None:
    async def main() -> None:
        source = await prepared(make, path, case)
        for what in (
            source.open([""]),
            source.get("a"),
            source.page("", None, 10),
            source.commit([Put("a", b"3")]),
        ):
            with pytest.raises(BadStore, match=FOREIGN[case][1]) as raised:
                await asyncio.wait_for(what, 60)
            assert "datasync restore" in str(raised.value)
            assert str(path) in str(raised.value)
        await source.aclose()

        immutable = make(immutable=True)
        with pytest.raises(BadStore, match=FOREIGN[case][1]):
            await asyncio.wait_for(immutable.open([""]), 60)
        await immutable.aclose()

    run(main())


READING = """
from datasync.errors import DataSyncError
os.setgid(65534); os.setuid(65534)
for what in (source.open([""]), source.get("a"), source.page("", None, 10), source.commit([Put("a", b"3")])):
    try:
        say(await asyncio.wait_for(what, 60))
    except DataSyncError as error:
        say(type(error).__name__, error)
try:
    say(await asyncio.wait_for(source.backup(sys.argv[3], lambda done, total: None), 60))
except DataSyncError as error:
    say(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not write")
@pytest.mark.parametrize(
    "case", ["view", "log as a view", "index of an expression", "trigger", "encoding"]
)
def test_who_may_only_read_is_told_the_same(make: Make, run: Run, library: str, case: str) -> None:
    # which others can reach, as that of pytest they cannot
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        folder.chmod(0o777)
        path = folder / "store.db"

        async def main() -> None:
            await (await prepared(lambda: make(path=str(path)), path, case)).aclose()
            for each in folder.glob("store.db*"):
                each.chmod(0o644)
            before = path.read_bytes()
            lines = (
                await asyncio.to_thread(finish, process(path, library, READING, folder / "copy.db"))
            ).splitlines()
            assert len(lines) == 5
            assert all(
                line.startswith("BadStore ") and FOREIGN[case][1] in line for line in lines
            ), lines
            assert path.read_bytes() == before
            assert not (folder / "copy.db").exists()

        run(main())


@pytest.mark.parametrize("case", ["view", "trigger", "encoding"])
def test_no_such_file_is_put_back(
    make: Make, run: Run, path: Path, tmp_path: Path, case: str
) -> None:
    async def main() -> None:
        await (await prepared(make, path, case)).aclose()
        for name in ("there.db", "none.db"):
            target = make(path=str(tmp_path / name))
            if name == "there.db":
                await put(target, k=b"kept")
            with pytest.raises(BadStore, match=FOREIGN[case][1]):
                await asyncio.wait_for(target.restore(str(path), lambda done, total: None), 60)
            if name == "there.db":
                assert await target.get("k") == (b"kept", 1)
            await target.aclose()
        assert not (tmp_path / "none.db").exists()

    run(main())


def test_what_stands_beside_our_tables_is_left_to_its_owner(
    make: Make, run: Run, path: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        source = make()
        await put(source, a=b"1")
        await source.aclose()
        execute(
            path,
            "CREATE TABLE notes(text CHECK (length(text) < 100), size AS (length(text)))",
            "CREATE INDEX upper_notes ON notes(upper(text))",
            "CREATE TRIGGER log AFTER INSERT ON notes BEGIN DELETE FROM notes WHERE text = "
            "'gone'; END",
            f"CREATE VIEW endless AS {ENDLESS.format('x')}",
            "INSERT INTO notes VALUES('mine')",
            "ALTER TABLE meta RENAME TO meta_",  # which quotes its name
            "ALTER TABLE meta_ RENAME TO meta",
        )
        source = make()
        made = await copy(source)
        # also while it is followed
        await execute_elsewhere(
            path,
            "CREATE TABLE more(a)",
            "CREATE INDEX more_a ON more(a)",
            "INSERT INTO more VALUES(1)",
        )
        await source.commit([Put("b", b"2"), Delete("a")])
        await made.reach(2)
        assert set(made.data) == set(await stored(source)) == {"b"}

        backup = tmp_path / "backup.db"
        await source.backup(str(backup), lambda done, total: None)
        await source.restore(str(backup), lambda done, total: None)
        assert set(await stored(source)) == {"b"}
        await made.session.aclose()
        await source.aclose()

    run(main())
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT text, size FROM notes").fetchall() == [("mine", 4)]


@pytest.mark.parametrize("case", ["view", "trigger", "index of an expression"])
def test_a_schema_that_changes_while_it_is_followed(
    make: Make, run: Run, path: Path, case: str
) -> None:
    statements, words = FOREIGN[case]

    async def main() -> None:
        sync = DataSync(make())
        view = sync.view()
        async with sync:
            revision = await sync.put("a", b"1")
            assert revision is not None
            await view.at_least(revision, timeout=60)
            await execute_elsewhere(path, *statements)
            await until(lambda: words.strip() in str(sync.status().sources[0].error))
            await until(lambda: sync.status().sources[0].state == "lost")
            with pytest.raises(BadStore, match=words):
                await asyncio.wait_for(sync.put("a", b"2"), 60)
            assert view["a"] == b"1"

    run(main())


@pytest.mark.parametrize("case", ["view", "trigger", "trigger on a deletion"])
def test_a_write_runs_nothing_that_was_put_there_meanwhile(
    make: Make, run: Run, path: Path, case: str
) -> None:
    """Without a watch nobody looks at the file but the writer."""
    statements, words = FOREIGN[case]

    async def main() -> None:
        source = make()
        await put(source, a=b"1")
        await execute_elsewhere(path, *statements)
        with pytest.raises(BadStore, match=words):
            await asyncio.wait_for(source.commit([Put("a", b"2"), Delete("b")]), 60)
        await source.aclose()

    run(main())
    if case != "view":
        with contextlib.closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT max(revision) FROM log").fetchall() == [(1,)]


def test_a_trigger_under_a_false_name_does_not_run(make: Make, run: Run, path: Path) -> None:
    """What the list of tables says of a trigger need not be true."""

    async def main() -> None:
        source = make()
        await put(source, a=b"1")
        await source.aclose()
        evil = "CREATE TRIGGER evil AFTER INSERT ON log BEGIN DELETE FROM kv; END"
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA writable_schema=1")
            other.execute(
                "INSERT INTO sqlite_master VALUES('trigger', 'evil', 'notes', 0, ?)", (evil,)
            )
            other.commit()
        source = make()
        with pytest.raises(BadStore, match="evil"):
            await source.commit([Put("b", b"2")])
        await source.aclose()

    run(main())


@pytest.mark.parametrize("version", [0, -1])
def test_a_format_that_never_was(make: Make, run: Run, path: Path, version: int) -> None:
    async def main() -> None:
        source = make()
        await put(source, a=b"1")
        await source.aclose()
        execute(path, f"PRAGMA user_version={version}")
        with pytest.raises(BadStore, match=f"format {version}, which there never was"):
            await make().get("a")

    run(main())


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_is_made_is_for_its_owner(
    make: Make, run: Run, path: Path, tmp_path: Path, umask: int
) -> None:
    def modes() -> dict[str, int]:
        return {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}

    async def main() -> None:
        source = make()
        made = await copy(source)
        await put(source, a=b"1")
        await until(lambda: len(modes()) == 4)
        assert set(modes().values()) == {0o600}, modes()
        await source.backup(str(tmp_path / "backup.db"), lambda done, total: None)
        new = make(path=str(tmp_path / "new.db"))
        await new.restore(str(tmp_path / "backup.db"), lambda done, total: None)
        assert set(modes().values()) == {0o600}, modes()
        await new.aclose()
        await made.session.aclose()
        await source.aclose()

    before = os.umask(umask)
    try:
        run(main())
    finally:
        os.umask(before)


def test_the_mode_of_a_file_that_exists_is_kept(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        path.touch()
        path.chmod(0o640)
        source = make()
        await put(source, a=b"1")
        for suffix in ("", "-wal", "-shm", "-bell"):
            assert stat.S_IMODE(os.stat(f"{path}{suffix}").st_mode) == 0o640, suffix
        await source.aclose()

    run(main())
