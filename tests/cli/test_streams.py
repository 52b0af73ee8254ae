"""Standard streams that are closed, full, or of another encoding than UTF-8."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from datasync.cli import COMMANDS
from tests.helpers.command_line import Result, Shell

URL = "sqlite:///a.db"


def without(shell: Shell, closed: int, *words: str) -> Result:
    """Run a command whose standard stream of that number is closed."""
    code = f"import os, sys; os.close({closed}); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, sys.executable, "-m", "datasync", *words],
        cwd=shell.folder, env=shell.env, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def test_standard_output_is_closed(shell: Shell, tmp_path: pathlib.Path) -> None:
    for words in (
        ["put", URL, "k", "v"],
        ["ls", URL],
        ["dump", URL],
        ["--help"],
        ["completion", "bash"],
    ):
        result = without(shell, 1, *words)
        assert result.code == 1, words
        assert (
            result.error == "standard output is closed; send it somewhere, for example to /dev/null"
        )
    assert not (tmp_path / "a.db").exists()


def test_standard_input_is_closed(shell: Shell) -> None:
    assert without(shell, 0, "put", URL, "k", "v").out == "1\n"
    for words in (["put", URL, "k", "-"], ["load", URL, "-"]):
        result = without(shell, 0, *words)
        assert result.code == 1, words
        assert result.error == "standard input is closed; give it a file, or name one"
    assert shell.run("get", URL, "k").out == "v\n"


def test_what_standard_input_is_read_as_is_said(shell: Shell, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text("k: [1\n")
    for words, name in (
        ([], "standard input (as jsonl; see --format)"),
        (["--format", "yaml"], "standard input"),
    ):
        with (tmp_path / "a.yaml").open("rb") as given:
            result = shell.run("load", URL, "-", *words, stdin=given)
        assert result.code == 1
        assert result.error.startswith(f"{name}, line ")


def test_standard_error_is_closed(shell: Shell) -> None:
    result = without(shell, 2, "get", "nonsense", "k")
    assert (result.code, result.out) == (2, "")
    assert without(shell, 2, "put", URL, "k", "v").out == "1\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_standard_output_is_full(shell: Shell) -> None:
    shell.run("put", URL, "k", "v")
    with open("/dev/full", "wb") as full:
        for words in (
            ["ls", URL],
            ["get", URL, "k", "--raw"],
            ["watch", URL],
            ["mirror", URL, "sqlite:///b.db"],
        ):
            result = shell.run(*words, stdout=full)
            assert result.code == 1, words
            assert "No space left on device" in result.error


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_the_letters(shell: Shell, encoding: str) -> None:
    shell.run("put", URL, "Ключ", "5 €")
    shell.env["PYTHONIOENCODING"] = encoding
    key = r"\u041a\u043b\u044e\u0447"
    assert shell.run("ls", URL).out == f"{key}\n"
    assert shell.run("ls", URL, "-l").out == f"@1 {key}  5 \\u20ac\n"
    assert shell.run("watch", URL, "--count", "1").out.splitlines()[1] == f"@1 PUT {key}  5 \\u20ac"
    assert key in shell.run("get", URL, "Ключ/").error
    # what a script takes on is UTF-8 all the same
    assert shell.run("get", URL, "Ключ").out == "5 €\n"
    assert shell.run("ls", URL, "--json").out == '{"key":"Ключ","revision":1}\n'
    assert shell.run("dump", URL).out == '{"key":"Ключ","value":"5 €"}\n'


def test_every_command_has_its_help_in_ascii(shell: Shell) -> None:
    shell.env["PYTHONIOENCODING"] = "ascii"
    code = (
        "import sys; from datasync.cli import COMMANDS, main; "
        "sys.exit(any([main([command.name, '--help']) for command in COMMANDS]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=shell.env, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: datasync ") == len(COMMANDS)
