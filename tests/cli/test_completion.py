"""What a Tab completes, as the shells that are here ask for it with the script of `completion`."""

from __future__ import annotations

import pathlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.helpers.command_line import SECONDS, Command, Shell

# Sets what a Tab sets, calls what the script registered, and prints what that offers.
_BASH = """
set -eu
source ./script
COMP_LINE={line} COMP_POINT=${{#COMP_LINE}} COMP_TYPE=9
registered=$(complete -p datasync)
[[ "$registered" != *"-o default"* ]]  # which completes files where nothing fits
[[ "$registered" =~ -F\\ ([^ ]+) ]]
"${{BASH_REMATCH[1]}}" datasync
printf '<%s>\\n' "${{COMPREPLY[@]}}"
"""
_ZSH = """
compdef() {{ registered=$1 }}
_describe() {{ printf '<%s>\\n' "${{(@)completions%%:*}}" }}
source ./script
words=(datasync) BUFFER={line}
CURSOR=$#BUFFER
$registered
"""
_FISH = """
source ./script
for found in (complete --do-complete {line})
    printf '<%s>\\n' (string split \\t -- $found)[1]
end
"""
_CODE = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

Tab = Callable[..., set[str]]


@pytest.fixture(params=_CODE)
def tab(request: pytest.FixtureRequest, shell: Shell, tmp_path: pathlib.Path) -> Tab:
    """Completes a line; what the environment is to have besides stands behind it."""
    name: str = request.param
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name} here")
    python = shlex.join([sys.executable, "-m", "datasync"])
    body = f'{python} "$@"' if name != "fish" else f"{python} $argv"
    function = f"datasync() {{ {body}; }}" if name != "fish" else f"function datasync; {body}; end"
    (tmp_path / "script").write_text(f"{function}\n{shell.run('completion', name).out}")
    for file in ("net.yaml", "net work.json", "other.yaml"):
        (tmp_path / file).touch()

    def complete(line: str, **env: str) -> set[str]:
        done = subprocess.run(
            [path, "-c", _CODE[name].format(line=shlex.quote(line))],
            cwd=tmp_path, env=shell.env | env, stdin=subprocess.DEVNULL,
            capture_output=True, check=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        assert done.stderr == ""
        said = done.stdout.splitlines()
        assert all(word[0] + word[-1] == "<>" for word in said), said
        return {word[1:-1].strip() for word in said} - {""}

    return complete


def test_commands_options_and_choices(tab: Tab) -> None:
    assert tab("datasync wat") == {"watch"}
    assert tab("datasync ") >= {"watch", "get", "completion"}
    assert tab("datasync --v") == {"--version"}
    assert tab("datasync put --t") == {"--ttl"}
    assert tab("datasync --debug put --t") == {"--ttl"}
    assert tab("datasync put memory:// key --json --t") == {"--ttl"}
    assert tab("datasync load --format y") == {"yaml"}
    assert tab("datasync load --format ") == {"jsonl", "json", "yaml", "toml", "env"}
    assert tab("datasync completion z") == {"zsh"}


def test_the_value_of_an_option_behind_an_equals_sign(tab: Tab) -> None:
    def values(line: str) -> set[str]:
        """Bash takes the word apart at the sign, the others do not."""
        return {word.rpartition("=")[2] for word in tab(line)}

    assert values("datasync load --format=y") == {"yaml"}
    assert values("datasync load --format=") == {"jsonl", "json", "yaml", "toml", "env"}
    assert values("datasync put --file=net.") == {"net.yaml"}


def test_files_where_a_file_is_meant(tab: Tab) -> None:
    assert tab("datasync load memory:// net.") == {"net.yaml"}
    assert tab("datasync load memory:// --format json --batch 5 net.") == {"net.yaml"}
    assert tab("datasync put --file net.") == {"net.yaml"}
    assert tab("datasync dump -o net.") == {"net.yaml"}
    assert tab("datasync diff net.yaml --format yaml oth") == {"other.yaml"}
    assert tab("datasync restore net.") == {"net.yaml"}
    [name] = tab("datasync load memory:// 'net w")
    assert name.endswith("work.json")


def test_nothing_where_nothing_fits(tab: Tab, tmp_path: pathlib.Path) -> None:
    for line in (
        "datasync load net",  # the URL's place
        "datasync load memory:// net.yaml net",
        "datasync restore net.yaml net",
        "datasync get sqlite:///a.db net",
        "datasync put sqlite:///a.db net.yaml net",
        "datasync watch --prefix net",
        "datasync watch --count=",
    ):
        assert tab(line) == set(), line
    assert not (tmp_path / "a.db").exists()


def test_a_url_from_the_environment(tab: Tab) -> None:
    assert tab("datasync load net.", DATASYNC_URL="memory://") == {"net.yaml"}
    assert tab("datasync load memory:// net.", DATASYNC_URL="memory://") == {"net.yaml"}
    assert tab("datasync load net.yaml net", DATASYNC_URL="memory://") == set()
    assert tab("datasync get net", DATASYNC_URL="memory://") == set()


def test_without_the_extra(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    result = cli("completion", "bash")
    assert (result.code, result.out) == (2, "")
    assert result.error == (
        "completion needs the package argcomplete; install it with: pip install 'datasync[cli]'"
    )
