"""The demo as a person starts it: a process that shows its checks and ends by itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.servers import child, commands_with

pytest.importorskip("google.protobuf")
pytest.importorskip("orjson")

SHOWN = """\
interfaces first, then the routes that refer to them
what the agent applied is what was stored
the part was given the previous value and the new one
it arrived whole
and in order, though the routes were written first
the publisher was told which key was refused, and why
the other route was applied, the refused one was not
status() showed the part that refused
its transaction arrived as changes
the previous value is the one of step 2
it was killed 3 times between begin and commit
each time the store held all of one transaction, never half of one
each event that the agent was given held all 2,000 routes
the agent ended with what the store holds
status() says that the source is lost, and why
a write fails at once, with an error that says so
the agent kept its state, and was given nothing
it went on from where it was
status() says that it follows again
lost again: the agent kept its state
a RESYNC of each part, in order, which says that this is another history
the agent changed what differs and nothing else
the publisher was told that the route is pending, and for what
the interface came and was made, then by itself the route
it was put right, in place
it was made again, and the route around it
what the agent applied equals what the store holds, key by key""".splitlines()

pytestmark = pytest.mark.alone("demo")

PLAY = "\n{}\nimport sys, datasync.demo\nsys.exit(datasync.demo.main())"


def environment(directory: Path) -> dict[str, str]:
    """Everything that the demo makes lies in `directory`."""
    return {**os.environ, "TMPDIR": str(directory)}


def play(directory: Path, sabotage: str = "pass") -> subprocess.CompletedProcess[str]:
    """The demo as a process, with a statement that is executed before."""
    return subprocess.run(
        [sys.executable, "-c", PLAY.format(sabotage)],
        env=environment(directory), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def checks(output: str, mark: str) -> list[str]:
    """The checks with that mark."""
    return [line.split(None, 1)[1] for line in output.splitlines() if line.startswith(f"  {mark} ")]


def test_all_checks_are_shown_and_hold(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "datasync", "demo"],
        env=environment(tmp_path), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    held = checks(done.stdout, "ok")
    assert len(held) == len(SHOWN)
    for text, expected in zip(held, SHOWN, strict=True):
        assert text.startswith(expected)
    assert checks(done.stdout, "failed") == []
    assert done.stdout.splitlines()[-1] == f"all {len(SHOWN)} checks held"
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert commands_with(tmp_path) == []


PROOF = """
from datasync.demo import story
stored = story.stored
async def less(url):
    found = await stored(url)
    found.popitem()
    return found
story.stored = less
"""
TWICE = """
from datasync.demo import stage
Agent = stage.Agent
stage.Agent = lambda url, tell: Agent(url, lambda one: (tell(one), tell(one)))
"""
ENDLESS = """
import asyncio
from datasync.demo import play
play.LIMIT = 0.5
play.tell = lambda directory, screen: asyncio.sleep(60)
"""
BLOCKED = """
import time
from datasync.demo import play
play.LIMIT = play.GRACE = 0.3
play.tell = lambda directory, screen: time.sleep(60)
"""
SABOTAGES = {
    "a key of the store is not read": (PROOF, "what the agent applied equals what the store holds"),
    "an event is told twice": (TWICE, "interfaces first, then the routes"),
    "nothing is refused": (
        "from datasync.demo import agent; agent.interface_key = lambda name: 'config/interface/lo'",
        "the publisher was told which key was refused",
    ),
    "no route needs an interface": (
        "from datasync.demo import reconciled; reconciled.Routes.needs = lambda self, key, value: []",
        "the publisher was told that the route is pending",
    ),
    "a step fails": (
        "from datasync.demo import story; story.interface_key = lambda name: ''",
        "cut off: KeyError",
    ),
    "no step ends": (ENDLESS, "cut off: this step waited too long"),
}


@pytest.mark.once
@pytest.mark.parametrize("name", SABOTAGES)
def test_a_check_that_fails_makes_the_exit_code_1(tmp_path: Path, name: str) -> None:
    sabotage, failing = SABOTAGES[name]
    done = play(tmp_path, sabotage)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = checks(done.stdout, "failed")
    assert any(text.startswith(failing) for text in failed), failed
    assert f"{len(failed)} of " in done.stdout.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_the_watchdog_ends_what_blocks_the_loop(tmp_path: Path) -> None:
    done = play(tmp_path, BLOCKED)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1:] == [
        "datasync: the demo hangs in 'the start'; it is ended"
    ], done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", ["2. A change", "6. That process", "8. The source"])
def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path: Path, before: str) -> None:
    with child(
        [sys.executable, "-m", "datasync", "demo"],
        env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(before):
                break
        else:
            pytest.fail("it ended before")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
    assert commands_with(tmp_path) == []


@pytest.mark.once
def test_only_a_loopback_brings_in_the_recorded_network(tmp_path: Path) -> None:
    done = play(
        tmp_path,
        "from datasync.demo import story; from datasync.demo.network import Network; "
        "story.of_kernel = Network",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a recorded configuration is used in addition" in done.stdout
    assert "config/interface/uplink0" in done.stdout


def test_a_missing_package_is_said_in_one_line(tmp_path: Path) -> None:
    without = (
        "import sys, datasync.cli; sys.modules['google.protobuf'] = None; "
        "sys.exit(datasync.cli.main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", without],
        env=environment(tmp_path), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        (
            "datasync: the demo stores protobuf messages; install what they need with: pip install "
            "'datasync[protobuf]'"
        )
    ]


def test_arguments_are_not_taken() -> None:
    import datasync.demo

    assert datasync.demo.main(["now"]) == 2


def test_a_terminal_gets_whole_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from datasync.demo.screen import Screen

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    text = " ".join(["word"] * 30)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    screen = Screen()
    screen.head(f"1. {text}")
    screen.say(f"    {text}")
    screen.check(text, True)
    shown = capsys.readouterr().out
    plain = re.sub(r"\x1b\[\d+m", "", shown)
    assert max(map(len, plain.splitlines())) <= 60
    assert "\x1b[32mok    \x1b[0m word" in shown
    assert "\n          word" in plain  # below its text
    assert plain.split().count("word") == 90
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    Screen().check(text, False)
    assert capsys.readouterr().out == f"  failed {text}\n"
