"""put, get, ls, del, watch, capabilities: what they print, for people and for scripts."""

from __future__ import annotations

import json
import pathlib
import signal

from datasync import Capabilities
from tests.helpers.command_line import Command, Shell
from tests.helpers.sqlite.sqlite_tools import take_away

URL = "sqlite:///a.db"


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_put_get_ls_del(cli: Command) -> None:
    assert cli("put", URL, "config/mtu", "1500").out == "1\n"
    assert cli("put", URL, "config/mtu", "9000", "--if-revision", "1").out == "2\n"
    result = cli("put", URL, "config/mtu", "1", "--if-revision", "1")
    assert (result.code, result.out) == (1, "")
    assert "'config/mtu' is not at revision 1 any more" in result.error
    assert cli("put", URL, "config/name", "eth0", "--if-revision", "0", "--json").out == (
        '{"op":"put","key":"config/name","revision":3}\n'
    )
    assert cli("get", URL, "config/mtu").out == "9000\n"
    assert (
        cli("get", URL, "config/mtu", "--json").out
        == '{"key":"config/mtu","value":"9000","revision":2}\n'
    )
    assert cli("get", URL, "config/mtu", "--raw").out == "9000"
    assert cli("ls", URL).out == "config/mtu\nconfig/name\n"
    assert cli("ls", URL, "config/", "-l").out == "@2 config/mtu  9000\n@3 config/name  eth0\n"
    assert lines(cli("ls", URL, "--json").out) == [
        {"key": "config/mtu", "revision": 2},
        {"key": "config/name", "revision": 3},
    ]
    assert lines(cli("ls", URL, "--json", "-l").out)[0] == {
        "key": "config/mtu",
        "value": "9000",
        "revision": 2,
    }
    assert cli("del", URL, "config/mtu").out == "deleted\n"
    assert cli("del", URL, "config/mtu").out == "there was nothing at config/mtu\n"
    assert (
        cli("del", URL, "config/mtu", "--json").out
        == '{"op":"delete","key":"config/mtu","existed":false}\n'
    )
    assert cli("del", URL, "-r", "config/").out == "deleted\n"
    assert cli("ls", URL).out == ""
    result = cli("get", URL, "config/mtu")
    assert (result.code, result.out) == (1, "")
    assert "there is no key 'config/mtu'" in result.error


def test_a_label_and_a_prefix(cli: Command) -> None:
    cli("put", URL, "k", "1", "--label", "vpp1")
    cli("put", URL, "k", "2", "--prefix", "p/q/")
    assert cli("ls", URL).out == "/vnf-agent/vpp1/k\np/q/k\n"
    assert cli("get", URL, "k", "--label", "vpp1").out == "1\n"
    assert cli("ls", URL, "q/", "--prefix", "p/").out == "q/k\n"


def test_bytes_and_control_characters(shell: Shell, tmp_path: pathlib.Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    text = "a\x1b[31mb\nc\td"
    assert shell.run("put", URL, "bytes", "--file", "bytes").code == 0
    assert shell.run("put", URL, "empty", "").code == 0
    assert shell.run("put", URL, "argument", b"\xff\x00"[:1]).code == 0
    (tmp_path / "text").write_text(text)
    with (tmp_path / "text").open("rb") as file:
        assert shell.run("put", URL, "text", "-", stdin=file).code == 0
    assert shell.run("get", URL, "bytes").out == "base64:/wA=\n"
    assert shell.run("get", URL, "argument").out == "base64:/w==\n"
    assert (
        shell.run("get", URL, "bytes", "--json").out
        == '{"key":"bytes","value_base64":"/wA=","revision":1}\n'
    )
    assert shell.run("get", URL, "empty").out == "\n"
    # a script gets the text as it is, a terminal and a list of values nothing that moves the cursor
    assert shell.run("get", URL, "text").out == text + "\n"
    assert shell.in_terminal("get", URL, "text") == "a\\x1b[31mb\r\nc\td\r\n"
    assert "  a\\x1b[31mb\\nc\\td\n" in shell.run("ls", URL, "-l").out
    assert '@2 empty  ""\n' in shell.run("ls", URL, "-l").out


def test_raw_bytes(shell: Shell, tmp_path: pathlib.Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\x00\r\n\x1b")
    shell.run("put", URL, "bytes", "--file", "bytes")
    with (tmp_path / "back").open("wb") as file:
        assert shell.run("get", URL, "bytes", "--raw", stdout=file).code == 0
    assert (tmp_path / "back").read_bytes() == b"\xff\x00\r\n\x1b"


def test_a_ttl_ends_with_a_delete(shell: Shell) -> None:
    shell.run("put", URL, "config/mtu", "1500")
    watch = shell.start("watch", URL, "config/", "--count", "3")
    watch.wait_for("config/mtu")
    shell.run("put", URL, "config/lease", "x", "--ttl", "0.3")
    assert watch.wait() == 0
    assert watch.out.decode().splitlines()[2:] == [
        "@2 PUT config/lease  x",
        "@3 DELETE config/lease  x",
    ]


def test_watch(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", URL, "config/mtu", "1500")
    person = shell.start("watch", URL, "config/", "--count", "4")
    script = shell.start("watch", URL, "config/", "--count", "4", "--json")
    person.wait_for("config/mtu")
    script.wait_for("config/mtu")
    shell.run("put", URL, "config/mtu", "9000")
    (tmp_path / "two.json").write_text('{"config/a": 1, "config/b": 2, "elsewhere": 3}')
    shell.run("load", URL, "two.json")
    shell.run("del", URL, "config/mtu")
    assert person.wait() == script.wait() == 0
    assert person.out.decode().splitlines() == [
        "RESYNC (start) @1: 1 key",
        "@1 PUT config/mtu  1500",
        "@2 PUT config/mtu  1500 -> 9000",
        "@3 PUT config/a  1",  # one transaction
        "   PUT config/b  2",
        "@4 DELETE config/mtu  9000",
    ]
    assert lines(script.out.decode()) == [
        {"op": "resync", "reason": "start", "revision": 1, "keys": 1},
        {"op": "put", "key": "config/mtu", "value": "1500", "prev": None, "revision": 1},
        {"op": "put", "key": "config/mtu", "value": "9000", "prev": "1500", "revision": 2},
        {"op": "put", "key": "config/a", "value": "1", "prev": None, "revision": 3},
        {"op": "put", "key": "config/b", "value": "2", "prev": None, "revision": 3},
        {"op": "delete", "key": "config/mtu", "prev": "9000", "revision": 4},
    ]


def test_colours_only_where_they_are_wanted(shell: Shell) -> None:
    shell.run("put", URL, "k", "v")
    assert "\x1b" not in shell.run("watch", URL, "--count", "1").out
    assert "\x1b[32mPUT\x1b[0m k  v" in shell.in_terminal("watch", URL, "--count", "1")
    assert "\x1b" not in shell.in_terminal("watch", URL, "--count", "1", NO_COLOR="1")
    assert "\x1b" not in shell.in_terminal("watch", URL, "--count", "1", TERM="dumb")
    assert "\x1b" not in shell.in_terminal("watch", URL, "--count", "1", "--json")


def test_capabilities(cli: Command) -> None:
    result = cli("capabilities", "memory", URL)
    head, *rows = result.out.splitlines()
    assert head.split() == list(Capabilities.__struct_fields__)
    assert (
        rows[0].split() == "memory total yes exact yes yes yes yes yes yes no yes yes any".split()
    )
    assert rows[1].split()[:4] == [URL, "total", "yes", "exact"]
    durable = {
        str(line["source"]): line.get("durable")
        for line in lines(cli("capabilities", "--json").out)
    }
    assert (durable["memory"], durable["sqlite"]) == (False, True)
    assert cli("capabilities", "nonsense").code == 2
    assert not pathlib.Path("a.db").exists()


def test_capabilities_of_other_transports(cli: Command, plugin: None) -> None:
    rows = {
        str(line.pop("source")): line
        for line in lines(cli("capabilities", "plain", "memory", "--json").out)
    }
    assert rows["plain"]["transactions"] is False
    assert rows["memory"]["transactions"] is True


def test_watch_shows_a_source_that_was_lost(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", URL, "k", "old")
    shell.run("put", "sqlite:///new.db", "other", "new")
    watch = shell.start("watch", URL)
    watch.wait_for("PUT k  old")
    take_away(tmp_path / "a.db")
    watch.wait_for("a.db is gone", err=True)
    for path in tmp_path.glob("new.db*"):
        path.rename(tmp_path / path.name.replace("new.db", "a.db"))
    watch.wait_for("PUT other  new")
    assert watch.end() == 128 + signal.SIGINT
    text = watch.out.decode()
    assert "DELETE k  old" in text  # what the RESYNC no longer holds
    assert text.count("RESYNC (") == 2
    said = watch.err.decode().splitlines()
    assert len(set(said)) == len(said) <= 2, (
        "a line when it is lost, and one when the reason changes"
    )
