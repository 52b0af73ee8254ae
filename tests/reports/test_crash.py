"""An agent that is killed between applying and reporting."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

from datasync import DataSync
from datasync.testing.contract import eventually
from datasync.testing.contract.reporting import Readers
from tests.helpers.reports.fleet import CONFIG, STATUS, agent_of, digest

Run = Callable[[Coroutine[object, object, None]], None]

# it only writes to report: behind applying the bad value that is its end
AGENT = """
import asyncio, os, signal, sys
from datasync import DataSync, Event, Refused, open_url

async def main():
    source = open_url(sys.argv[1])
    sync = DataSync(source, label="vpp1", report_to="status/")
    commit, applied = source.commit, asyncio.Event()

    async def commit_or_die(operations, *, reply=False):
        if applied.is_set():
            os.kill(os.getpid(), signal.SIGKILL)
        return await commit(operations, reply=reply)

    source.commit = commit_or_die

    @sync.watcher("config/")
    async def config(event: Event[bytes]) -> None:
        if any(change.raw == b"bad" for change in event.changes):
            applied.set()
            raise Refused("is bad")

    async with sync:
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_it_reports_after_its_restart(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"

    async def main() -> None:
        async with DataSync(url) as ctl, Readers(ctl, STATUS).reading() as readers:
            killed = await asyncio.create_subprocess_exec(sys.executable, "-c", AGENT, url)
            await eventually(lambda: readers.of().well)
            await ctl.put(CONFIG + "a", b"bad")
            assert await killed.wait() == -9
            report = readers.of()
            assert (report.open, report.stopped) == ({}, False)

            async with agent_of(url):
                report = await readers.sees(a="refused")
                assert report.open["config/a"].digest == digest(b"bad")

    run(main())
