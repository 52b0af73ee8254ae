"""run: an agent as a module, until a signal or its own end; --reload."""

from __future__ import annotations

import os
import pathlib
import signal
import sys

import pytest

from tests.helpers.command_line import Command, Shell, eventually

AGENT = """
import datasync

sync = datasync.DataSync("sqlite:///a.db")


@sync.watcher("config/")
async def apply(event):
    print("applied", *(change.key for change in event.changes))
    if any(change.key == "config/bad" for change in event.changes):
        raise ValueError("this is bad")
    if any(change.key == "config/stop" for change in event.changes):
        sync.stop()


def make():
    return sync


async def make_later():
    return sync


def number():
    return 1


number.inner = 5


def fails():
    return datasync.DataSync("nosuch://")
"""


@pytest.fixture
def agent(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "agent.py"
    path.write_text(AGENT)
    return path


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_agent_runs_until_a_signal(
    shell: Shell, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    running = shell.start("run", "agent:sync")
    running.wait_for("applied\n")
    shell.run("put", "sqlite:///a.db", "config/mtu", "1500")
    running.wait_for("applied config/mtu\n")  # through a pipe, at once
    assert running.end(number) == 128 + number
    assert running.err == b""
    assert not (tmp_path / "a.db-wal").exists()  # the store was closed


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("name", ["agent", "agent:make", "agent:make()", "agent:make_later"])
def test_what_may_be_named_and_that_it_may_end_itself(shell: Shell, name: str) -> None:
    running = shell.start("run", name)
    running.wait_for("applied\n")
    shell.run("put", "sqlite:///a.db", "config/stop", "1")
    assert running.wait() == 0
    assert running.err == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None])
def test_an_agent_without_asyncio(
    shell: Shell, agent: pathlib.Path, tmp_path: pathlib.Path, number: signal.Signals | None
) -> None:
    agent.write_text(
        AGENT.replace("import datasync\n", "import datasync.blocking as datasync\n").replace(
            "async def", "def"
        )
    )
    running = shell.start("run", "agent:make", "--status", "127.0.0.1:0")
    running.wait_for("status page on http://127.0.0.1:", err=True)
    running.wait_for("applied\n")
    shell.run("put", "sqlite:///a.db", "config/mtu", "1500")
    running.wait_for("applied config/mtu\n")
    if number is None:
        shell.run("put", "sqlite:///a.db", "config/stop", "1")
        assert running.wait() == 0
    else:
        assert running.end(number) == 128 + number
        assert not (tmp_path / "a.db-wal").exists()  # the store was closed, by its last user
    assert running.err.count(b"\n") == 1


@pytest.mark.usefixtures("agent")
def test_a_handler_that_fails_is_heard_with_its_traceback(shell: Shell) -> None:
    running = shell.start("run", "agent:sync")
    running.wait_for("applied\n")
    shell.run("put", "sqlite:///a.db", "config/bad", "1")
    running.wait_for('raise ValueError("this is bad")', err=True)
    running.wait_for("ValueError: this is bad", err=True)
    assert running.end() == 130


def test_logging_of_the_program_is_its_own(shell: Shell, agent: pathlib.Path) -> None:
    agent.write_text(
        "import logging\nlogging.basicConfig(level=logging.INFO, format='mine %(name)s')\n" + AGENT
    )
    running = shell.start("run", "agent:sync")
    running.wait_for("applied\n")
    shell.run("put", "sqlite:///a.db", "config/bad", "1")
    running.wait_for("mine datasync.watch", err=True)
    assert running.end() == 130
    assert b"datasync: " not in running.err


def test_what_is_wrong_with_the_words_or_the_module_is_one_line(
    shell: Shell, agent: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "syntax.py").write_text("x = 1\ny = (\n")
    (tmp_path / "needs.py").write_text("\nimport there_is_no_such_module\n")
    (tmp_path / "breaks.py").write_text("import json\n\njson.loads('{')\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit('no settings')\n")
    (tmp_path / "secret.py").write_text(
        "import datasync\nsync = datasync.DataSync('nosuch://me:secret@h')\n"
    )
    for code, says, name in (
        (2, "there is no module 'nope'", "nope:sync"),
        (2, "there is no module 'agent.x'", "agent.x:sync"),
        (2, "there is no 'x' in agent; did you mean agent:sync?", "agent:x"),
        (2, "there is no 'x' in agent; name a DataSync of that module", "agent:number.inner.x"),
        (2, "for example agent:sync", "agent.py:sync"),
        (2, "for example pkg.agent:sync", "pkg/agent.py:sync"),
        (2, "for example pkg.agent:make", "./pkg/agent:make"),
        (2, "for example agent", "./agent.py"),
        (2, "for example agent:sync", "agent:sync:x"),
        (2, "does not name an agent", "agent:a b"),
        (2, "agent:number is of type int", "agent:number"),
        (1, "agent.py, line 32: BadUrl: unknown scheme 'nosuch'", "agent:fails"),
        (1, "syntax.py, line 2: SyntaxError: '(' was never closed", "syntax:sync"),
        (1, "needs.py, line 2: ModuleNotFoundError: No module named 'there_is", "needs:sync"),
        (1, "breaks.py, line 3: JSONDecodeError", "breaks:sync"),
        (1, "leaves.py, line 2: SystemExit: no settings", "leaves:sync"),
        (1, "secret.py, line 2: BadUrl", "secret:sync"),
    ):
        result = shell.run("run", name)
        assert says in result.error, name
        assert (result.code, result.out) == (code, ""), name
        assert "secret@" not in result.err
    assert "decoder.py" in shell.run("run", "breaks:sync", "--debug").err  # the whole traceback


@pytest.mark.parametrize("face", ["datasync", "datasync.blocking"])
def test_a_module_that_runs_its_agent_says_so(
    shell: Shell, tmp_path: pathlib.Path, face: str
) -> None:
    (tmp_path / "runs.py").write_text(
        f"import asyncio, {face}\n"
        f"sync = {face}.DataSync('memory://')\n"
        "@sync.watcher('a/')\n"
        "def handler(event):\n"
        "    print('applied', flush=True)\n"
        "ran = sync.run()\n"
        "if ran is not None:\n"
        "    asyncio.run(ran)\n"
    )
    running = shell.start("run", "runs")
    running.wait_for("applied\n")
    assert running.end() == 2
    assert running.err.decode() == (
        "datasync: runs was run by its module, as that was imported, and has ended; put what runs "
        "it there below: if __name__ == '__main__':\n"
    )


@pytest.mark.usefixtures("agent")
def test_its_status_page(shell: Shell) -> None:
    running = shell.start("run", "agent:make", "--status", "127.0.0.1:0")
    running.wait_for("status page on http://127.0.0.1:", err=True)
    running.wait_for("applied\n")
    url = running.err.decode().split()[-1]
    eventually(lambda: shell.run("status", url, "--check").code == 0, "it is ready")
    taken = shell.run("run", "agent:sync", "--status", url)
    assert taken.code == 1
    assert "127.0.0.1" in taken.error
    assert running.end() == 130

    refused = shell.run("run", "agent:sync", "--status", "0.0.0.0:0")
    assert refused.code == 2
    assert "needs a token" in refused.error


def test_reload(shell: Shell, agent: pathlib.Path, tmp_path: pathlib.Path) -> None:
    running = shell.start("run", "agent:sync", "--reload", "--status", "127.0.0.1:0")
    running.wait_for("status page on http://127.0.0.1:", err=True)
    running.wait_for("applied\n")
    agent.write_text(AGENT.replace('"applied"', '"used"'))
    running.wait_for("agent.py changed; starting again", err=True)
    running.wait_for("used\n")

    agent.write_text("1 +\n")  # half typed: the next change starts it again
    running.wait_for("agent.py, line 1: SyntaxError", err=True)
    running.wait_for("ended with exit code 1; waiting for a change of the code", err=True)
    agent.write_text(AGENT)
    running.wait_for("applied\n", times=2)

    assert running.end() == 130
    assert not (tmp_path / "a.db-wal").exists()  # the agent closed its store
    assert b"Traceback" not in running.err


@pytest.mark.usefixtures("agent")
def test_ctrl_c_in_a_terminal_reaches_all_that_runs_there(
    shell: Shell, tmp_path: pathlib.Path
) -> None:
    running = shell.start("run", "agent:sync", "--reload", start_new_session=True)
    running.wait_for("applied\n")
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.wait() == 130
    assert running.err == b""
    assert not (tmp_path / "a.db-wal").exists()


def test_reload_without_the_extra(
    cli: Command, agent: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = cli("run", "agent:sync", "--reload")
    assert result.code == 2
    assert result.error == (
        "--reload needs the module watchfiles; install it with: pip install 'datasync[cli]'"
    )
