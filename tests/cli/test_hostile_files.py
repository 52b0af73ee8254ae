"""SQLite files that others made: whatever a command does with one, nothing in it runs,
and nothing is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import sqlite3

import pytest

from tests.helpers.command_line import Command

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {} FROM c"
HOSTILE = {
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
    "trigger": (
        (f"CREATE TRIGGER evil AFTER INSERT ON log BEGIN {ENDLESS.format('count(*)')}; END",),
        "trigger 'evil' on its table 'log'",
    ),
    "index": (
        ("CREATE INDEX slow ON kv(hex(zeroblob(length(key))))",),
        "index 'slow' on its table 'kv'",
    ),
    "column": (("ALTER TABLE kv ADD COLUMN more DEFAULT 1",), "its table 'kv' "),
    "of another program": (("PRAGMA application_id=7",), "a.db"),
}
COMMANDS = (
    ("dump", "URL", "-o", "out.jsonl"),
    ("backup", "URL", "out.db"),
    ("get", "URL", "k"),
    ("ls", "URL"),
)


def alter(path: pathlib.Path, *statements: str) -> None:
    """By somebody else; the file is all there is of it."""
    with contextlib.closing(sqlite3.connect(path)) as other:
        for statement in statements:
            other.execute(statement)
        other.commit()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fingerprints(folder: pathlib.Path) -> dict[str, str]:
    """What is there, but for what a reader needs beside a file."""
    beside = ("-bell", "-shm", "-wal")
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.endswith(beside)
    }


@pytest.mark.parametrize("options", ["", "?immutable=1"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_file_of_somebody_else(
    cli: Command, tmp_path: pathlib.Path, hostile: str, options: str
) -> None:
    statements, said = HOSTILE[hostile]
    cli("put", "sqlite:///a.db", "k", "v")
    alter(tmp_path / "a.db", *statements)
    before = fingerprints(tmp_path)
    for words in COMMANDS:
        done = cli(*(word.replace("URL", f"sqlite:///a.db{options}") for word in words))
        assert (done.code, done.out) == (1, ""), words
        assert said in done.error, words
        assert fingerprints(tmp_path) == before, words


@pytest.mark.parametrize("options", ["", "?immutable=1"])
def test_a_row_that_is_none_of_ours(cli: Command, tmp_path: pathlib.Path, options: str) -> None:
    cli("put", "sqlite:///a.db", "k", "v")
    cli("put", "sqlite:///a.db", "l", "w")
    alter(tmp_path / "a.db", "UPDATE kv SET key = CAST(key AS BLOB) WHERE key = 'l'")
    before = (tmp_path / "a.db").read_bytes()

    done = cli("dump", f"sqlite:///a.db{options}", "-o", "out.jsonl")
    assert done.code == 0, done.err
    assert "skip" in done.err
    assert '"k"' in (tmp_path / "out.jsonl").read_text()
    assert '"l"' not in (tmp_path / "out.jsonl").read_text()
    assert cli("backup", f"sqlite:///a.db{options}", "out.db").code == 0
    assert cli("dump", "sqlite:///out.db", "-o", "again.jsonl").err == done.err.replace(
        "a.db", "out.db"
    )
    assert (tmp_path / "a.db").read_bytes() == before
