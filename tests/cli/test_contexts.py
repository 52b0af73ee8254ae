"""Contexts: sources that have a name in the config file, and what goes before what."""

from __future__ import annotations

import json
import pathlib

import pytest

from datasync.cli import COMMANDS
from datasync.cli.parser import parse
from tests.helpers.command_line import Command

CONFIG = """
context = "lab"

[contexts.lab]
url = "sqlite:///lab.db"

[contexts.site]
url = "etcds://me:secret@etcd.example:2379?connections=2"
label = "vpp1"
ca = "ca.pem"
key = "/etc/keys/a b.pem"

[contexts.agent]
url = "http://127.0.0.1:1"
prefix = "config/"
token = "hidden"
"""


@pytest.fixture
def config(cli: Command, tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "config" / "datasync" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path


def parsed(*words: str) -> dict[str, object]:
    return vars(parse(COMMANDS, words)[1])


@pytest.mark.usefixtures("config")
def test_argument_then_environment_then_context(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parsed("get", "k")["url"] == "sqlite:///lab.db"
    assert parsed("get", "sqlite:///a.db", "k")["url"] == "sqlite:///a.db"
    monkeypatch.setenv("DATASYNC_URL", "sqlite:///env.db")
    assert parsed("get", "k")["url"] == "sqlite:///env.db"
    assert parsed("get", "k", "--context", "lab")["url"] == "sqlite:///lab.db"
    assert parsed("mirror", "--context", "lab", "sqlite:///b.db")["src"] == "sqlite:///lab.db"
    result = cli("get", "sqlite:///a.db", "k", "--context", "lab")
    assert result.code == 2
    assert result.error == ("a URL is given, so that --context is not used; leave out one of them")


@pytest.mark.usefixtures("cli")
def test_what_belongs_to_the_url(config: pathlib.Path) -> None:
    options = parsed("get", "k", "--context", "site")
    assert options["url"] == (
        f"etcds://me:secret@etcd.example:2379?connections=2&ca={config.parent}/ca.pem"
        "&key=/etc/keys/a+b.pem"
    )
    assert (options["label"], options["prefix"]) == ("vpp1", None)
    options = parsed("get", "k", "--context", "site", "--prefix", "p/")
    assert (options["label"], options["prefix"]) == (None, "p/")
    options = parsed("ls", "--context", "agent")
    assert options["url"] == "http://127.0.0.1:1?token=hidden"
    assert (options["label"], options["prefix"]) == (None, "config/")
    assert "label" not in parsed("status", "--context", "agent")


@pytest.mark.usefixtures("config")
def test_a_context_is_used(cli: Command, tmp_path: pathlib.Path) -> None:
    assert cli("put", "k", "v").code == 0
    assert (tmp_path / "lab.db").exists()
    result = cli("get", "k", "--context", "agent")
    assert result.code == 1
    assert "hidden" not in result.err
    assert cli("get", "k", "extra").error.startswith(
        "unexpected argument 'extra' (the source is the context 'lab'"
    )


@pytest.mark.usefixtures("config")
def test_the_list_shows_no_secrets(cli: Command) -> None:
    result = cli("contexts")
    assert result.out == (
        "* lab    sqlite:///lab.db\n"
        "  site   etcds://me@etcd.example:2379  label vpp1\n"
        "  agent  http://127.0.0.1:1  prefix config/\n"
    )
    assert list(map(json.loads, cli("contexts", "--json").out.splitlines())) == [
        {"context": "lab", "url": "sqlite:///lab.db", "default": True},
        {
            "context": "site", "url": "etcds://me@etcd.example:2379", "label": "vpp1",
            "default": False,
        },
        {
            "context": "agent", "url": "http://127.0.0.1:1", "prefix": "config/",
            "default": False,
        },
    ]  # fmt: skip


def test_without_a_file(cli: Command, tmp_path: pathlib.Path) -> None:
    result = cli("contexts")
    assert result.out == (
        f"there are none; write them into {tmp_path}/config/datasync/config.toml\n"
    )
    assert cli("get", "k").error.startswith("'k' is not a URL, and DATASYNC_URL is not set")
    assert "there is no context 'x'; there are: none" in cli("get", "k", "--context", "x").error


def test_a_password_that_others_may_read(cli: Command, config: pathlib.Path) -> None:
    config.chmod(0o640)
    assert cli("contexts").error == (
        f"{config} holds a password that others may read; chmod 600 {config}"
    )
    config.write_text('[contexts.a]\nurl = "sqlite:///a.db"\n')
    assert cli("contexts").err == ""
    for url in (
        "http://h?token=t",
        "redis://:p@h",
        "etcd://u:p@h",
        "redis+sentinel://h?sentinel_password=p&service=s",
        "etcd://u:p/?#@h",
    ):
        config.write_text(f'[contexts.a]\nurl = "{url}"\n')
        assert "holds a password" in cli("contexts").error
    config.write_text('[contexts.a]\nurl = "http://h"\ntoken = "t"\n')
    assert "holds a password" in cli("contexts").error


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("context = ]", "Invalid value (at line 1, column 11)"),
        ('context = "nope"', "there is no context 'nope'; there are: none"),
        ("[contexts.a]\n", ": [contexts.a]: Object missing required field `url`; correct it there"),
        (
            '[contexts.a]\nurl = "memory://"\n[contexts.b]\nurl = 1',
            ": [contexts.b]: Expected `str`",
        ),
        ("contexts = 3", "Expected `object`, got `int` - at `$.contexts`"),
        ('[contexts.a]\nurl = "memory://"\nurl2 = "x"', "unknown field `url2`"),
        ("[contexts.a]\nurl = 1", "Expected `str`, got `int`"),
        (b"\xff", "can't decode byte 0xff"),
        (f"context = {'1' * 5000}", "Exceeds the limit"),
        (f"context = {'[' * 5000}", "recursion"),
    ],
)
def test_a_file_that_says_nothing_sensible(
    cli: Command, config: pathlib.Path, text: str | bytes, says: str
) -> None:
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = cli("ls")
    assert result.code == 2
    assert result.error.startswith(f"{config}: ")
    assert says in result.error
    assert cli("put", "sqlite:///a.db", "k", "v").code == 0  # which reads no such file


def test_a_relative_config_home_is_ignored(
    cli: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"{tmp_path}/.config/datasync/config.toml" in cli("contexts").out
