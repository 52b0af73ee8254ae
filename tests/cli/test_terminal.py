"""What a terminal is shown beside plain lines: help that fits, tables, colours, and who waits for
the library that makes them."""

from __future__ import annotations

import pathlib
import re

import pytest

from tests.helpers.command_line import Command, Shell

URL = "sqlite:///a.db"


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()]


@pytest.mark.parametrize("columns", [40, 60, 132])
@pytest.mark.parametrize("words", [["--help"], ["diff", "--help"], ["put", "--help"]])
def test_the_help_fits_the_terminal(
    cli: Command, monkeypatch: pytest.MonkeyPatch, columns: int, words: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text, _, examples = cli(*words).out.partition("examples:\n")
    usage, *lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    assert max(map(len, lines)) > columns * 0.6 or columns > 100  # and it is used
    assert usage.startswith("usage: datasync")
    assert "--help" in words[:1] or "  datasync " in examples  # as they are, to be copied


def test_a_table_that_is_too_wide_is_turned(shell: Shell) -> None:
    words = ("capabilities", "memory", "sqlite", "memory://a")
    wide = plain(shell.in_terminal(*words, COLUMNS="160"))
    assert wide[0].split()[:2] == ["order", "atomic"]
    assert wide[1].split()[:3] == ["memory", "total", "yes"]
    narrow = plain(shell.in_terminal(*words, COLUMNS="60"))
    assert narrow[0].split() == ["memory", "sqlite", "memory://a"]
    assert narrow[1].split() == ["order", "total", "total", "total"]
    parts = plain(shell.in_terminal(*words, COLUMNS="32"))
    assert max(map(len, parts)) <= 32
    heads = [line.split() for line in parts if line.startswith("    ")]
    assert heads == [["memory", "sqlite"], ["memory://a"]]


def test_colours_of_a_table_only_where_they_are_wanted(shell: Shell) -> None:
    words = ("capabilities", "memory")
    assert "\x1b[32myes" in shell.in_terminal(*words)
    assert "\x1b" not in shell.in_terminal(*words, NO_COLOR="1")
    assert "\x1b" not in shell.in_terminal(*words, TERM="dumb")
    assert "\x1b" not in shell.run(*words).out


def test_foreign_text_is_no_markup(shell: Shell) -> None:
    value = "[red]a[/red] :smile: [link=http://x]b[/link]"
    shell.run("put", URL, "[bold]k", value)
    seen = shell.in_terminal("watch", URL, "--count", "1")
    assert f"[bold]k  {value}\r\n" in seen
    seen = shell.in_terminal("capabilities", "sqlite:///[red]x[/red].db", COLUMNS="300")
    assert "sqlite:///[red]x[/red].db" in seen


def test_only_what_shows_something_waits_for_rich(shell: Shell) -> None:
    shell.run("put", URL, "k", "v")
    imported = {"PYTHONPROFILEIMPORTTIME": "1"}
    rich = re.compile(r"\|\s+rich\b")
    assert not rich.search(shell.in_terminal("get", URL, "k", **imported))
    assert not rich.search(shell.in_terminal("--version", **imported))
    assert rich.search(shell.in_terminal("watch", URL, "--count", "1", **imported))
    watch = shell.start("watch", URL, "--count", "1", env=shell.env | imported)
    assert watch.wait() == 0
    assert not rich.search(watch.err.decode())


def test_without_rich_a_terminal_is_shown_plain_text(shell: Shell, tmp_path: pathlib.Path) -> None:
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError('no rich', name='rich')\n")
    (tmp_path / "a.json").write_text('{"k": "v"}')
    without = {"PYTHONPATH": str(tmp_path)}
    assert shell.in_terminal("load", URL, "a.json", **without).endswith("revision 1\r\n")
    seen = shell.in_terminal("watch", URL, "--count", "1", **without)
    assert seen == "RESYNC (start) @1: 1 key\r\n@1 PUT k  v\r\n"
    seen = shell.in_terminal("capabilities", "memory", **without)
    assert seen.splitlines()[1].split()[:2] == ["memory", "total"]
