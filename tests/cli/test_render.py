"""render: a file from a template, made again as the keys change."""

from __future__ import annotations

import os
import pathlib
import signal
import sys

import pytest

from tests.helpers.command_line import Command, Shell, eventually

URL = "sqlite:///a.db"
TEMPLATE = 'mtu {{ data["config/mtu"] }}\n'


@pytest.fixture
def template(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "t.j2"
    path.write_text(TEMPLATE)
    return path


def test_what_a_template_knows(
    cli: Command, tmp_path: pathlib.Path, template: pathlib.Path
) -> None:
    for key, value in (
        ("config/eth/b", '{"mtu": 9000}'),
        ("config/eth/a", '{"mtu": 1500}'),
        ("config/motd", "<b>[red]{{ x }}"),
        ("elsewhere", "1"),
    ):
        cli("put", URL, key, value)
    (tmp_path / "part.j2").write_text("from beside\n")
    template.write_text(
        '{% for name, text in under("eth/").items() %}\n'
        "  {{ name }} {{ (text|from_json).mtu }}\n"
        "{% endfor %}\n"
        '{{ data.motd }} {{ data["no"]|default("default") }} {{ "motd" in data }}\n'
        "{% include 'part.j2' %}"
        "{{ data|length }}\n"
    )
    result = cli("render", URL, "t.j2", "-", "--once", "--prefix", "config/")
    assert result.out == ("  a 1500\n  b 9000\n<b>[red]{{ x }} default True\nfrom beside\n3\n")
    assert (result.code, result.err) == (0, "")
    template.write_text("{{ data|join(' ') }}\n")
    result = cli("render", URL, "t.j2", "-", "config/eth/", "elsewhere/", "--once")
    assert result.out == "config/eth/a config/eth/b\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n{{ data['config/x'] }}", "t.j2, line 2: there is no key 'config/x'"),
        ("{{ data['bytes'] }}", "t.j2, line 1: the value of 'bytes' is not text in UTF-8"),
        ("{{ nope }}", "'nope' is undefined; a template has data, under(PREFIX) and the filter"),
        ("{{ data.text.mtu }}", "'mtu'; a value is text, so write (text|from_json) for what is"),
        ("{{ data.text[0].mtu }}", "'mtu'; a value is text, so write (text|from_json) for what is"),
        ("\n\n{{ 1 / 0 }}", "t.j2, line 3: ZeroDivisionError: division by zero"),
        ("{{ data.text|from_json }}", "t.j2, line 1: JSONDecodeError: Expecting value"),
        ("{{ nope|from_json }}", "t.j2, line 1: 'nope' is undefined"),
        ("{% for %}", "t.j2, line 1: Expected an expression"),
        ("{% include 'a.j2' %}", "a.j2, line 2: there is no key 'x'"),
        ("{% include 'no.j2' %}", "no.j2: there is no such template"),
        (b"\xff", "t.j2: UnicodeDecodeError"),
        ("{{ data.half|from_json }}", "t.j2: UnicodeEncodeError"),
    ],
)
def test_an_error_has_its_line_and_leaves_the_file(
    cli: Command, tmp_path: pathlib.Path, template: pathlib.Path, text: str | bytes, says: str
) -> None:
    (tmp_path / "b").write_bytes(b"\xff")
    cli("put", URL, "bytes", "--file", "b")
    cli("put", URL, "text", "plain")
    cli("put", URL, "half", '"\\ud800"')
    (tmp_path / "a.j2").write_text("\n{{ data.x }}")
    (tmp_path / "out").write_text("before")
    template.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = cli("render", URL, "t.j2", "out", "--once")
    assert result.code == 1
    assert says in result.error
    assert (tmp_path / "out").read_text() == "before"
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.usefixtures("template")
def test_the_file_keeps_its_mode_and_is_only_written_where_it_changes(
    cli: Command, tmp_path: pathlib.Path
) -> None:
    cli("put", URL, "config/mtu", "1500")
    command = ("render", URL, "t.j2", "out", "--once", "--then", "echo reloaded")
    result = cli(*command)
    assert result.out == "rendered out\nreloaded\n"
    out = tmp_path / "out"
    assert out.read_text() == "mtu 1500\n"
    assert out.stat().st_mode & 0o777 == 0o600
    out.chmod(0o644)
    before = out.stat()
    assert cli(*command).out == ""
    assert out.stat().st_ino == before.st_ino
    cli("put", URL, "config/mtu", "9000")
    assert cli(*command).out == "rendered out\nreloaded\n"
    assert out.stat().st_mode & 0o777 == 0o644
    assert out.stat().st_ino != before.st_ino  # replaced at once


@pytest.mark.usefixtures("template")
def test_it_follows(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", URL, "config/mtu", "1500")
    render = shell.start("render", URL, "t.j2", "out", "--then", "cat out")
    render.wait_for("rendered out\nmtu 1500\n")
    shell.run("put", URL, "config/other", "1")  # changes nothing in the file
    shell.run("put", URL, "config/mtu", "9000")
    render.wait_for("rendered out\nmtu 9000\n")
    assert render.end(signal.SIGTERM) == 143
    assert render.out.count(b"rendered") == 2
    assert render.err == b""


def test_what_fails_is_said_once_and_tried_again(
    shell: Shell, tmp_path: pathlib.Path, template: pathlib.Path
) -> None:
    shell.run("put", URL, "config/other", "1")
    render = shell.start(
        "render", URL, "t.j2", "out", "--then", "echo ran >> ran; test -e ready || exit 4"
    )
    render.wait_for("t.j2, line 1: there is no key 'config/mtu'; trying again", err=True)
    assert not (tmp_path / "out").exists()
    template.write_text("mended\n")  # no event: it is read again at the next try
    render.wait_for("rendered out\n")
    render.wait_for("--then ended with exit code 4; trying again", err=True)

    def tried() -> int:
        return (tmp_path / "ran").read_text().count("ran")

    eventually(lambda: tried() >= 2, "it is run again")
    (tmp_path / "ready").touch()
    shell.run("put", URL, "config/mtu", "1")
    (tmp_path / "again.j2").touch()
    template.write_text("other\n")
    shell.run("put", URL, "config/mtu", "2")
    render.wait_for("rendered out\n", times=2)
    assert render.end() == 130
    assert render.err.count(b"trying again") == 2
    assert (tmp_path / "out").read_text() == "other\n"


@pytest.mark.usefixtures("template")
def test_then_that_fails_ends_a_single_run(cli: Command) -> None:
    cli("put", URL, "config/mtu", "1")
    result = cli("render", URL, "t.j2", "out", "--once", "--then", "exit 3")
    assert result.code == 1
    assert result.error == "--then ended with exit code 3"


@pytest.mark.usefixtures("template")
def test_wrong_usage(cli: Command, tmp_path: pathlib.Path) -> None:
    cli("put", URL, "config/mtu", "1")
    os.mkfifo(tmp_path / "fifo")
    for code, says, *words in (
        (2, "fifo is a FIFO; write to - and a pipe", "t.j2", "fifo"),
        (1, "no.j2: there is no such template that can be read", "no.j2", "out"),
        (2, "'config' would match its neighbours too", "t.j2", "out", "config"),
        (1, "missing/out: No such file or directory", "t.j2", "missing/out", "--once"),
        (2, "OUT is missing", "t.j2"),
    ):
        result = cli("render", URL, *words)
        assert says in result.error
        assert result.code == code
    result = cli("render", "sqlite:///missing.db", "t.j2", "out")
    assert result.code == 1
    assert "there is no file" in result.error


@pytest.mark.usefixtures("template")
def test_without_the_extra(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "datasync.cli.templates", raising=False)
    result = cli("render", URL, "t.j2", "out")
    assert result.code == 2
    assert result.error == (
        "render needs the module jinja2; install it with: pip install 'datasync[cli]'"
    )
