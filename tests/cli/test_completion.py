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


def test_schemes(tab: Tab) -> None:
    def schemes(line: str, **env: str) -> set[str]:
        """Bash takes the word apart at the colon, others may escape it."""
        return {word.partition(":")[0].rstrip("\\") for word in tab(line, **env)}

    assert schemes("datasync get sq") == {"sqlite"}
    assert schemes("datasync mirror sqlite:///a.db redis+") >= {"redis+sentinel"}
    assert schemes("datasync watch ") >= {"sqlite", "etcd", "http"}
    assert schemes("datasync diff net.yaml e") >= {"etcd", "etcds"}


def test_contexts(tab: Tab, tmp_path: pathlib.Path) -> None:
    config = tmp_path / "config" / "datasync" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        '[contexts.lab]\nurl = "sqlite:///lab.db"\n[contexts.site]\nurl = "http://u:p@h"\n'
    )  # which others may read: a Tab is not the place to say so
    assert tab("datasync ls --context ") == {"lab", "site"}
    assert tab("datasync load --context l") == {"lab"}
    assert tab("datasync load --context lab net.") == {"net.yaml"}


def test_keys(tab: Tab, shell: Shell, tmp_path: pathlib.Path) -> None:
    for key in ("config/mtu", "config/eth0/a", "config/eth0/b", "name", "é"):
        shell.run("put", "sqlite:///a.db", key, "1")
    url = "sqlite:///a.db"
    assert tab(f"datasync get {url} ") >= {"config/", "name", "é"}
    assert tab(f"datasync get {url} config/") == {"config/mtu", "config/eth0/"}
    assert tab(f"datasync get {url} config/eth0/") == {"config/eth0/a", "config/eth0/b"}
    assert tab(f"datasync ls {url} config/") == {"config/eth0/"}
    assert tab(f"datasync watch {url} --prefix config/ e") == {"eth0/"}
    assert tab(f"datasync get --prefix config/ {url} m") == {"mtu"}
    assert tab("datasync get na", DATASYNC_URL=url) == {"name"}
    assert tab("datasync get sqlite:///missing.db na") == set()
    assert not (tmp_path / "missing.db").exists()
    assert tab("datasync get etcd://127.0.0.1:1 na") == set()
    assert tab("datasync get rest://127.0.0.1:0 na") == set()


def test_without_the_extra(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    result = cli("completion", "bash")
    assert (result.code, result.out) == (2, "")
    assert result.error == (
        "completion needs the module argcomplete; install it with: pip install 'datasync[cli]'"
    )
