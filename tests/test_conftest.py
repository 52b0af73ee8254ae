"""The suite itself: it runs in the background of a script, leaves nothing running,
and gives quiet moments.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.once


def suite(*words: str | Path, directory: Path | None = None) -> list[str]:
    """The command that runs some tests of this suite,
    or those of a directory as if they belonged to it.
    """
    plugins = ["-p", "no:cacheprovider", "-p", "xdist", "-p", "timeout"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *map(str, words)]
    if directory is not None:
        fixtures = "alone, no_child_left, pytest_collection_modifyitems"
        (directory / "conftest.py").write_text(f"from tests.conftest import {fixtures}\n")
        command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(directory), str(directory)]
    return command


def said(command: list[str]) -> str:
    """What it prints."""
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200
    ).stdout


def test_the_background_of_a_script(tmp_path: Path) -> None:
    """SIGINT is ignored there; what tests start can be interrupted nevertheless."""
    files = ["tests/test_stopping.py", "tests/test_examples.py", "tests/cli/test_process.py"]
    command = suite("-n", "0", *files, "-k", "signal or examples or was_not_ignored")
    out = said(["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command])
    assert " passed" in out, out
    assert "failed" not in out, out


def test_a_test_that_leaves_a_program_running_is_the_one_that_fails(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(
        "import pathlib, subprocess\n\n"
        "def test_leaves():\n"
        "    globals().update(kept=subprocess.Popen(['sleep', '1000']))\n"
        "    while not pathlib.Path(f'/proc/{kept.pid}/cmdline').read_bytes(): pass  # it has no "
        "name yet\n\n"
        "def test_next(): assert kept.wait(60) == -9\n"
    )
    out = said(suite(directory=tmp_path))
    assert "still running: sleep 1000" in out, out
    assert "2 passed, 1 error" in out, out


def test_what_needs_a_quiet_moment_has_it(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pathlib, pytest, time\n\n"
        "@pytest.mark.parametrize('number', range(4))\n"
        "@pytest.mark.alone('here')\n"
        "def test_it(number):\n"
        "    inside = pathlib.Path(__file__).with_name('inside')\n"
        "    inside.touch(exist_ok=False)\n"
        "    time.sleep(0.05)\n"
        "    inside.unlink()\n"
    )
    out = said(suite("-n", "2", directory=tmp_path))
    assert "4 passed" in out, out


def test_what_takes_long_is_begun_first(tmp_path: Path) -> None:
    """One half of the workers begin with what needs a quiet moment, the other half with the rest."""
    (tmp_path / "test_some.py").write_text(
        "import os, pathlib, pytest\n\n"
        "@pytest.fixture(autouse=True)\n"
        "def begun(request):\n"
        "    with pathlib.Path(__file__).with_name(os.environ['PYTEST_XDIST_WORKER']).open('a') as file:\n"
        "        file.write(request.node.name + '\\n')\n\n"
        "@pytest.mark.parametrize('number', range(21))\n"
        "def test_short(number): pass\n\n"
        "@pytest.mark.long\n"
        "def test_long(): pass\n\n"
        "@pytest.mark.alone('here')\n"
        "def test_alone(): pass\n"
    )
    out = said(suite("-n", "2", "--dist", "worksteal", directory=tmp_path))
    assert "23 passed" in out, out
    first = {(tmp_path / worker).read_text().splitlines()[0] for worker in ("gw0", "gw1")}
    assert first == {"test_alone", "test_long"}
