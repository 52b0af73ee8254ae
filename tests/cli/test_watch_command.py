"""watch -- COMMAND: a program for each event, whose exit code is the verdict."""

from __future__ import annotations

import json
import pathlib
import signal

import pytest

from tests.helpers.command_line import Command, Shell, eventually

URL = "sqlite:///a.db"


def script(folder: pathlib.Path, body: str) -> str:
    path = folder / "script.sh"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return "./script.sh"


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that has ended may not have been waited for yet."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_each_event_is_the_input_of_the_program(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", URL, "config/mtu", "1500")
    (tmp_path / "bytes").write_bytes(b"\xff")
    watch = shell.start("watch", URL, "config/", "--count", "3", "--", "cat")
    watch.wait_for("resync")
    shell.run("put", URL, "config/mtu", "--file", "bytes")
    shell.run("del", URL, "config/mtu")
    assert watch.wait() == 0
    assert [json.loads(line) for line in watch.out.splitlines()] == [
        {
            "op": "resync",
            "reason": "start",
            "revision": 1,
            "values": [{"key": "config/mtu", "value": "1500", "revision": 1}],
            "changes": [
                {"op": "put", "key": "config/mtu", "value": "1500", "prev": None, "revision": 1}
            ],
        },
        {
            "op": "change",
            "revision": 2,
            "changes": [
                {
                    "op": "put", "key": "config/mtu", "value_base64": "/w==", "prev": "1500",
                    "revision": 2,
                }
            ],
        },
        {
            "op": "change",
            "revision": 3,
            "changes": [
                {"op": "delete", "key": "config/mtu", "prev_base64": "/w==", "revision": 3}
            ],
        },
    ]  # fmt: skip
    assert watch.err == b""


def test_a_failure_is_tried_again_and_said_once(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", URL, "k", "v")
    command = script(
        tmp_path, "echo >> tries; [ $(wc -l < tries) -gt 3 ] || { echo why >&2; exit 3; }"
    )
    watch = shell.start("watch", URL, "--count", "1", "--", command)
    assert watch.wait() == 0
    assert watch.err.decode().splitlines() == [
        "why",
        "datasync: ./script.sh ended with exit code 3; trying again",
        "why",
        "why",
        "datasync: ./script.sh succeeded again",
    ]


def test_a_refusal_is_not_tried_again(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", URL, "bad", "v")
    command = script(tmp_path, "tee -a seen | grep -q bad && exit 65; exit 0")
    watch = shell.start("watch", URL, "--count", "2", "--", command)
    watch.wait_for("./script.sh ended with exit code 65: refused", err=True)
    shell.run("put", URL, "good", "v")
    assert watch.wait() == 0
    events = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert [event["op"] for event in events] == ["resync", "change"]
    assert [change["key"] for change in events[1]["changes"]] == ["good"]


def test_the_signal_that_ended_it_is_named(shell: Shell) -> None:
    shell.run("put", URL, "k", "v")
    watch = shell.start("watch", URL, "--", "sh", "-c", "kill -SEGV $$")
    watch.wait_for("sh was ended by SIGSEGV; trying again", err=True)
    assert watch.end() == 130


def test_input_that_it_leaves_unread(shell: Shell, tmp_path: pathlib.Path) -> None:
    (tmp_path / "large.json").write_text(json.dumps({"k": "x" * 1_000_000}))
    shell.run("load", URL, "large.json")
    assert shell.run("watch", URL, "--count", "1", "--", "sh", "-c", "sleep 5 & exit 0").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_that_it_started_ends_with_the_command(
    shell: Shell, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    shell.run("put", URL, "k", "v")
    command = script(tmp_path, "sleep 1000 & echo $$ $!; wait")
    watch = shell.start("watch", URL, "--", command)
    watch.wait_for("\n")
    assert watch.end(number) == 128 + number
    assert watch.err == b""
    pids = list(map(int, watch.out.split()))
    assert len(pids) == 2
    eventually(lambda: not any(map(is_alive, pids)), "both have ended")


def test_a_program_that_ignores_sigterm_is_killed(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", URL, "k", "v")
    command = script(tmp_path, "trap '' TERM; echo $$; while :; do sleep 1; done")
    watch = shell.start("watch", URL, "--", command)
    watch.wait_for("\n")
    assert watch.end() == 130
    assert watch.err == (
        b"datasync: the program has not ended within 5 s of SIGTERM, and is killed\n"
    )
    assert not is_alive(int(watch.out))


def test_a_program_that_goes_away_meanwhile(shell: Shell, tmp_path: pathlib.Path) -> None:
    command = script(tmp_path, 'cat; rm "$0"')
    shell.run("put", URL, "k", "1")
    watch = shell.start("watch", URL, "--", command)
    watch.wait_for("resync")
    shell.run("put", URL, "k", "2")
    watch.wait_for("./script.sh cannot be run: No such file or directory; trying again", err=True)
    assert watch.end() == 130


def test_wrong_usage(cli: Command) -> None:
    cli("put", URL, "k", "v")
    for says, *words in (
        ("there is no program 'no-such-program' to run", "--", "no-such-program"),
        ("a program to run is missing after --", "--"),
        ("leave out --json", "--json", "--", "cat"),
        ("unrecognized arguments: -x; see", "-x"),  # what follows -- is the program
    ):
        result = cli("watch", URL, *words)
        assert result.code == 2
        assert says in result.error


def test_options_behind_the_dashes_belong_to_the_program(shell: Shell) -> None:
    shell.run("put", URL, "k", "v")
    watch = shell.run("watch", "--count", "1", URL, "--", "sh", "-c", "echo $0", "--count")
    assert (watch.code, watch.out) == (0, "--count\n")
