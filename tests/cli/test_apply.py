"""apply: what differs, by key and member, and that just that is written."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from tests.helpers.command_line import Command, Shell, eventually

URL = "sqlite:///a.db"


@pytest.fixture
def store(cli: Command, tmp_path: pathlib.Path) -> str:
    """A store with what was in a file before it was edited."""
    (tmp_path / "old.yaml").write_text(
        "config/eth0: {mtu: 1500, speed: 10, ip: {v4: [1.10, 2], v6: {}}}\n"
        "config/logo: {$base64: iVBORw0KGgo=}\n"
        "config/motd: Welcome\n"
        "elsewhere: kept\n"
    )
    assert cli("load", URL, "old.yaml").code == 0
    (tmp_path / "new.yaml").write_text(
        "config/eth0: {mtu: 9000, enabled: true, ip: {v4: [1.1, 2], v6: {}}}\n"
        "config/motd: Hello\n"
        "config/name: edge\n"
    )
    return URL


SHOWN = """\
~ config/eth0
    + enabled  true
    ~ ip.v4  [1.10,2] -> [1.1,2]
    ~ mtu  1500 -> 9000
    - speed  10
~ config/motd  Welcome -> Hello
+ config/name  edge
"""


def test_a_dry_run_shows_and_writes_nothing(cli: Command, store: str) -> None:
    before = cli("dump", store).out
    result = cli("apply", store, "new.yaml", "--dry-run")
    assert result.out == SHOWN + "1 added, 2 changed, 0 removed; nothing was written\n"
    assert (result.code, result.err) == (1, "")
    assert cli("dump", store).out == before
    result = cli("apply", store, "old.yaml", "--dry-run")
    assert (result.code, result.out) == (0, "nothing differs\n")


def test_what_differs_is_written_and_nothing_else(cli: Command, store: str) -> None:
    result = cli("apply", store, "new.yaml")
    assert result.out == (
        SHOWN + "1 added, 2 changed, 0 removed; 3 keys in 1 transaction, revision 2\n"
    )
    assert result.code == 0
    assert cli("diff", "new.yaml", store).out == (
        "+ config/logo  base64:iVBORw0KGgo=\n+ elsewhere  kept\n"
    )
    assert cli("apply", store, "new.yaml").out == "nothing differs\n"
    assert "@1 elsewhere" in cli("ls", "-l", store).out  # not written once more


def test_prune_deletes_below_the_prefix_alone(cli: Command, store: str) -> None:
    result = cli("apply", store, "new.yaml", "config/", "--prune")
    assert "- config/logo  base64:iVBORw0KGgo=\n" in result.out
    assert "1 added, 2 changed, 1 removed; 4 keys in 1 transaction" in result.out
    assert cli("diff", "new.yaml", store).out == "+ elsewhere  kept\n"
    assert cli("apply", store, "new.yaml", "--prune").out == (
        "- elsewhere  kept\n0 added, 0 changed, 1 removed; 1 key in 1 transaction, revision 3\n"
    )


def test_prune_below_an_option_prefix(cli: Command, store: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "eth.yaml").write_text("motd: Hello\n")
    cli("apply", store, "eth.yaml", "--prefix", "config/", "--prune")
    assert cli("ls", store).out == "config/motd\nelsewhere\n"


def test_nothing_deletes_everything_by_a_slip(
    cli: Command, store: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "empty.yaml").write_text("")
    for words in (["empty.yaml"], ["new.yaml", "nothing/"]):
        result = cli("apply", store, *words, "--prune")
        assert result.code == 2
        assert "--prune would delete everything; nothing was written; add --allow-empty" in (
            result.error
        )
    assert len(cli("ls", store).out.splitlines()) == 4
    assert cli("apply", store, "empty.yaml").out == "nothing differs\n"
    assert cli("apply", store, "empty.yaml", "config/", "--prune", "--allow-empty").code == 0
    assert cli("ls", store).out == "elsewhere\n"


def test_for_scripts(cli: Command, store: str) -> None:
    result = cli("apply", store, "new.yaml", "config/", "--prune", "--json")
    *_, motd, name, summary = map(json.loads, result.out.splitlines())
    assert motd == {"op": "changed", "key": "config/motd", "value": "Hello", "prev": "Welcome"}
    assert name == {"op": "added", "key": "config/name", "value": "edge"}
    assert summary == {
        "op": "apply", "added": 1, "changed": 2, "removed": 1,
        "keys": 4, "transactions": 1, "revision": 2,
    }  # fmt: skip
    assert json.loads(cli("apply", store, "new.yaml", "config/", "--dry-run", "--json").out) == {
        "op": "apply", "added": 0, "changed": 0, "removed": 0,
    }  # fmt: skip


def test_batches(cli: Command, store: str) -> None:
    result = cli("apply", store, "new.yaml", "--batch", "2")
    assert result.out.endswith("; 3 keys in 2 transactions, revision 3\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a": 1}', '{"a":1}'),  # the same members, in other bytes
        ('{"a":1,"a":2}', '{"a":3}'),
        ('{"a":1', '{"a":1}'),
        ('{"a":' * 3000 + "1" + "}" * 3000, '{"a":2}'),
        ("[1]", "[2]"),
    ],
)
def test_what_has_no_members_to_tell_apart_is_shown_whole(
    cli: Command, tmp_path: pathlib.Path, before: str, after: str
) -> None:
    cli("put", URL, "k", before)
    (tmp_path / "new.jsonl").write_text(json.dumps({"key": "k", "value": after}) + "\n")
    result = cli("apply", URL, "new.jsonl")
    assert result.out.splitlines()[0] == f"~ k  {before} -> {after}"
    assert cli("get", URL, "k").out == after + "\n"


def test_members_with_dots_and_control_characters(cli: Command, tmp_path: pathlib.Path) -> None:
    cli("put", URL, "k", '{"a.b": 1, "a": {"b": 1}}')
    value = '{"a.b": 2, "a": {"b": 1, "\\u001b[31m": "\\u001b[0m\u202e"}}'
    (tmp_path / "new.jsonl").write_text(json.dumps({"key": "k", "value": value}) + "\n")
    assert cli("apply", URL, "new.jsonl").out.splitlines()[:3] == [
        "~ k",
        '    + a.\\x1b[31m  "\\u001b[0m\\u202e"',
        "    ~ a.b  1 -> 2",
    ]


def test_a_key_that_changed_after_it_was_shown_is_not_overwritten(
    shell: Shell, tmp_path: pathlib.Path
) -> None:
    shell.run("put", URL, "a", "old")
    large = "x" * 200_000  # more than a pipe holds: the command waits until it is read
    (tmp_path / "new.json").write_text(json.dumps({"a": large, "b": "1"}))
    reading, writing = os.pipe()
    running = shell.start("apply", URL, "new.json", stdout=writing)
    os.close(writing)
    shown = os.read(reading, 1)
    shell.run("put", URL, "a", "of somebody else")

    with os.fdopen(reading, "rb") as rest:
        shown += rest.read()
    assert running.wait() == 1
    assert shown.startswith(b"~ a  old -> x")
    eventually(lambda: running.err, "the error")
    assert b"datasync: 'a' is not at revision 1 any more" in running.err
    assert shell.run("get", URL, "a").out == "of somebody else\n"
    assert shell.run("ls", URL).out == "a\n"


@pytest.mark.usefixtures("plugin")
def test_without_transactions_or_where_it_ends_early(cli: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "new.json").write_text('{"a": 1, "b": 2, "c": 3}')
    result = cli("apply", "plain://x", "new.json")
    assert result.out.endswith("3 added, 0 changed, 0 removed; 3 keys in 3 writes, revision 3\n")
    assert result.error == "plain://x has no transactions: the keys are written one by one"
    result = cli("apply", "twice://x", "new.json", "--batch", "1")
    assert result.code == 1
    assert result.error == (
        "twice:// is gone; try later (2 of 3 keys were written before; apply it again)"
    )


def test_a_dry_run_that_cannot_compare(cli: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "new.json").write_text('{"a": 1}')
    result = cli("apply", "sqlite:///missing.db", "new.json", "--dry-run")
    assert result.code == 2
    assert "there is no file" in result.error
    assert not (tmp_path / "missing.db").exists()
    assert cli("apply", "sqlite:///missing.db", "new.json").code == 0
