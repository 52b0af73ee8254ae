"""backup and restore: what they print, refuse and leave behind."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import stat

import pytest

from tests.helpers.command_line import Command, Shell


def test_there_and_back(cli: Command, tmp_path: pathlib.Path) -> None:
    cli("put", "sqlite:///a.db", "k", "old")
    done = cli("backup", "sqlite:///a.db", "b.db")
    size = (tmp_path / "b.db").stat().st_size
    assert (done.code, done.out, done.err) == (0, f"backed up to b.db: {size:,} bytes\n", "")
    assert stat.S_IMODE((tmp_path / "b.db").stat().st_mode) == 0o600
    cli("put", "sqlite:///a.db", "k", "new")
    done = cli("restore", "b.db", "sqlite:///a.db")
    assert (done.code, done.out, done.err) == (0, "restored 1 key, revision 3\n", "")
    assert cli("get", "sqlite:///a.db", "k").out == "old\n"
    done = cli("restore", "b.db", "sqlite:///made.db")
    assert (done.code, done.out) == (0, "restored 1 key, revision 2\n")
    assert cli("get", "sqlite:///made.db", "k").out == "old\n"
    assert {name for name in os.listdir(tmp_path) if not name.endswith("-bell")} == {
        "a.db",
        "b.db",
        "made.db",
    }


def test_the_url_may_come_from_the_environment(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASYNC_URL", "sqlite:///a.db")
    cli("put", "k", "v")
    assert cli("backup", "b.db").code == 0
    assert cli("restore", "b.db").out == "restored 1 key, revision 2\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("backup", "memory://", "f"), 2, "datasync dump"),
        (("restore", "f", "memory://"), 2, "datasync load"),
        (("backup", "sqlite:///a.db"), 2, "FILE is missing"),
        (("restore", "b.db"), 2, "is not a URL"),
        (("backup", "sqlite:///none.db", "f"), 1, "there is no file"),
        (("backup", "sqlite:///a.db", "a.db"), 2, "is the store itself"),
        (("backup", "sqlite:///a.db", "none/f"), 1, "none/f cannot be made"),
        (("restore", "none.db", "sqlite:///a.db"), 1, "there is no file none.db"),
        (("restore", "text", "sqlite:///a.db"), 1, "text is damaged or not an SQLite file"),
        (("restore", "a.db", "sqlite:///a.db?immutable=1"), 2, "immutable"),
    ],
)
def test_what_is_refused(
    cli: Command, tmp_path: pathlib.Path, words: tuple[str, ...], code: int, said: str
) -> None:
    cli("put", "sqlite:///a.db", "k", "v")
    (tmp_path / "text").write_text("no backup\n" * 1000)
    before = set(os.listdir(tmp_path))
    done = cli(*words)
    assert done.code == code
    assert said in done.error
    assert not done.out
    assert set(os.listdir(tmp_path)) == before
    assert cli("get", "sqlite:///a.db", "k").out == "v\n"


def test_a_restore_that_is_ended_leaves_the_store_as_it_was(
    cli: Command, shell: Shell, tmp_path: pathlib.Path
) -> None:
    cli("put", "sqlite:///a.db", "k", "old")
    cli("backup", "sqlite:///a.db", "b.db")
    cli("put", "sqlite:///a.db", "k", "new")
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        assert "[" in shell.in_terminal("restore", "b.db", "sqlite:///a.db", until="keys")
        running = shell.start("restore", "b.db", "sqlite:///a.db")
        assert running.wait() == 1
        assert b"stayed locked by another process, nothing was done" in running.err
    assert cli("get", "sqlite:///a.db", "k").out == "new\n"
    assert not [name for name in os.listdir(tmp_path) if "part" in name]
