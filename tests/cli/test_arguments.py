"""Where arguments go: a URL from DATASYNC_URL or in its place, options between,
what begins with a dash.
"""

from __future__ import annotations

import pytest

from datasync.cli import COMMANDS
from datasync.cli.parser import parse
from datasync.errors import UsageError
from tests.helpers.command_line import Command


def parsed(*words: str) -> dict[str, object]:
    return vars(parse(COMMANDS, words)[1])


def test_the_url_stands_first() -> None:
    options = parsed("put", "sqlite:///a.db", "key", "value")
    assert (options["url"], options["key"], options["value"]) == ("sqlite:///a.db", "key", "value")


def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASYNC_URL", "sqlite:///env.db")
    options = parsed("put", "key", "value")
    assert (options["url"], options["key"], options["value"]) == (
        "sqlite:///env.db",
        "key",
        "value",
    )
    options = parsed("put", "sqlite:///a.db", "key", "value")
    assert (options["url"], options["key"], options["value"]) == ("sqlite:///a.db", "key", "value")
    options = parsed("watch", "a/", "b/")
    assert (options["url"], options["under"]) == ("sqlite:///env.db", ["a/", "b/"])
    options = parsed("mirror", "sqlite:///dst.db", "a/")
    assert (options["src"], options["dst"], options["under"]) == (
        "sqlite:///env.db",
        "sqlite:///dst.db",
        "a/",
    )
    options = parsed("mirror", "sqlite:///src.db", "sqlite:///dst.db")
    assert (options["src"], options["dst"], options["under"]) == (
        "sqlite:///src.db",
        "sqlite:///dst.db",
        None,
    )
    options = parsed("diff", "dump.jsonl")
    assert (options["a"], options["b"]) == ("sqlite:///env.db", "dump.jsonl")
    options = parsed("load", "file.yaml")
    assert (options["url"], options["file"]) == ("sqlite:///env.db", "file.yaml")


def test_options_stand_anywhere() -> None:
    for words in (
        ["--ttl", "5", "sqlite:///a.db", "key", "value"],
        ["sqlite:///a.db", "--ttl", "5", "key", "value"],
        ["sqlite:///a.db", "key", "--ttl=5", "value"],
        ["sqlite:///a.db", "key", "value", "--ttl", "5"],
    ):
        options = parsed("put", *words)
        assert (options["key"], options["value"], options["ttl"]) == ("key", "value", 5.0)


def test_what_follows_two_dashes_is_no_option() -> None:
    options = parsed("put", "sqlite:///a.db", "--ttl", "5", "--", "--key", "--")
    assert (options["key"], options["value"], options["ttl"]) == ("--key", "--", 5.0)
    assert parsed("put", "sqlite:///a.db", "key", "-")["value"] == "-"
    assert parsed("put", "sqlite:///a.db", "key", "-5")["value"] == "-5"
    with pytest.raises(UsageError, match="is not an option, after --"):
        parsed("put", "sqlite:///a.db", "key", "-x")


def test_debug_goes_before_and_behind_the_command() -> None:
    assert parsed("--debug", "get", "memory://", "k")["debug"] is True
    assert parsed("get", "memory://", "k", "--debug")["debug"] is True
    assert parsed("get", "memory://", "k")["debug"] is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name a command"),
        (["wach", "memory://"], "did you mean watch?"),
        (["help"], "did you mean --help?"),
        (["version"], "did you mean --version?"),
        (["ls", "sqlite3:///a.db"], "unknown scheme 'sqlite3'; did you mean sqlite://?"),
        (["ls", "etdc://127.0.0.1"], "unknown scheme 'etdc'; did you mean etcd://?"),
        (["ls", "postgres://127.0.0.1"], "this installation knows etcd, etcds, file, "),
        (["xyzzy"], "there are watch, get"),
        (["get"], "a source is missing, and DATASYNC_URL is not set"),
        (["get", "a.db", "key"], "'a.db' is not a URL, and DATASYNC_URL is not set"),
        (["status", "127.0.0.1:9191"], "; write for example http://127.0.0.1:9191"),
        (["doctor"], "; write for example etcds://10.0.0.1:2379"),
        (["get", "memory://"], "KEY is missing"),
        (["get", "memory://", "a", "b"], "unexpected argument 'b'"),
        (["load", "memory://"], "FILE is missing"),
        (["mirror", "memory://a"], "a source is missing"),
        (["mirror", "memory://a", "b.db"], "'b.db' is not a URL"),
        (["put", "memory://", "k", "v", "--ttl", "0"], "positive number of seconds"),
        (["put", "memory://", "k", "v", "--ttl", "soon"], "positive number of seconds"),
        (["put", "memory://", "k", "v", "--if-revision", "-1"], "takes a revision"),
        (["put", "memory://", "k"], "either a VALUE"),
        (["put", "memory://", "k", "v", "--file", "f"], "either a VALUE"),
        (["watch", "memory://", "--count", "0"], "takes an integer >= 1"),
        (["ls", "memory://", "--label", "a", "--prefix", "b/"], "not allowed with"),
        (["get", "memory://", "k", "--raw", "--json"], "exclude each other"),
        (["completion", "tcsh"], "SHELL is one of bash, zsh, fish, not 'tcsh'"),
        (["completion"], "SHELL is missing"),
        (["load", "memory://", "file.txt"], "does not tell the format"),
        (["diff", "-", "-"], "only one of the two"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(cli: Command, words: list[str], says: str) -> None:
    result = cli(*words)
    assert (result.code, result.out) == (2, "")
    assert says in result.error


def test_the_hint_where_the_url_came_from(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASYNC_URL", "memory://")
    assert "the source is DATASYNC_URL" in cli("get", "a.db", "key").error
    monkeypatch.setenv("DATASYNC_URL", "nonsense")
    result = cli("get", "key")
    assert result.code == 2
    assert "'nonsense' is not a URL" in result.error


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_has_examples(cli: Command, command: object) -> None:
    name = getattr(command, "name", "")
    result = cli(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"usage: datasync {name}")
    assert "examples:\n" in result.out
    assert f"datasync {name}" in result.out.partition("examples:")[2]


def test_general_help_and_version(cli: Command) -> None:
    result = cli("--help")
    assert result.code == 0
    for command in COMMANDS:
        assert command.name in result.out
    assert "DATASYNC_URL" in result.out
    assert cli("--version").out.startswith("datasync ")
