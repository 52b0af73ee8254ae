"""How `run` and the command line end: by signals, but not those that they were started to ignore,
as a shell starts what a script runs in the background; and by a call.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from datasync import DataSync, WatchClosed
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


def test_a_call_from_another_thread_ends_it() -> None:
    """Also where it runs outside the main thread, which alone may handle signals."""
    sync = DataSync("memory://")
    started, ended = threading.Event(), threading.Event()

    @sync.watcher("")
    async def part(event: object) -> None:
        started.set()

    def work() -> None:
        asyncio.run(sync.run())
        ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert started.wait(60)
    assert not ended.is_set()
    sync.stop()
    assert ended.wait(60)
    thread.join(60)
    sync.stop()  # and once more, when nobody waits for it


def test_what_is_stopped_before_it_runs_ends_once_it_has_started() -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        sync.stop()
        async with asyncio.timeout(60):
            await sync.run()
        with pytest.raises(WatchClosed):
            await sync.put("a", b"1")

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(4))
def test_closed_before_it_has_started_it_ends_too(turns: int) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        running = asyncio.create_task(sync.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        await sync.aclose()
        await asyncio.wait_for(running, 60)
        assert sync.status().sources[0].state != "following"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_closing_ends_it_when_all_is_closed() -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        given, ended = asyncio.Event(), asyncio.Event()

        @sync.watcher("")
        async def part(event: object) -> None:
            given.set()
            try:
                await asyncio.sleep(3600)
            finally:
                ended.set()

        async with asyncio.timeout(60):
            running = asyncio.create_task(sync.run())
            await given.wait()
            closing = asyncio.create_task(sync.aclose())
            await running
        assert ended.is_set(), "the handler was not left behind"
        await closing

    asyncio.run(main())
