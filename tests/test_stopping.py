"""Programs that were started to ignore SIGINT, as a shell starts what a script
runs in the background.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.servers import child

# each prints a line for what is written to the store, and ends at SIGTERM with the code that is
# named
AGENT = """
import asyncio, sys, datasync

sync = datasync.DataSync(sys.argv[1])

@sync.watcher("")
async def show(event):
    print(*(change.key for change in event.changes), flush=True)

asyncio.run(sync.run())
"""
PROGRAMS = {"run()": (["-c", AGENT], 0), "the command line": (["-m", "datasync", "watch"], 143)}


def ignored(command: list[str]) -> list[str]:
    """The command, started with SIGINT ignored."""
    return ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]


def put(url: str, key: str) -> None:
    """Write to a store from another process."""
    subprocess.run([sys.executable, "-m", "datasync", "put", url, key, "1"], check=True, timeout=60)


def store(directory: Path) -> str:
    """The URL of a store with one key."""
    url = f"sqlite:///{directory}/a.db"
    put(url, "first")
    return url


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_was_ignored_stays_ignored(program: str, tmp_path: Path) -> None:
    url = store(tmp_path)
    words, code = PROGRAMS[program]
    with child(ignored([sys.executable, *words, url]), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        put(url, "still/here")
        while "still/here" not in (line := running.stdout.readline()):
            assert line, "it ended"
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == code


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_was_not_ignored_ends(program: str, tmp_path: Path) -> None:
    words, code = PROGRAMS[program]
    with child([sys.executable, *words, store(tmp_path)], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == (130 if code else 0)
