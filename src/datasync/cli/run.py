"""run: an agent that is written as a module."""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
from typing import TYPE_CHECKING

from datasync import DataSync
from datasync.cli.agent import imported, sync_of
from datasync.cli.parser import Command, Positional
from datasync.cli.reload import reloading
from datasync.status import StatusAddress
from datasync.terminal.process import complain, run

if TYPE_CHECKING:
    from datasync.blocking import DataSync as BlockingDataSync

__all__ = ["COMMANDS"]


def _run(options: argparse.Namespace) -> int:
    if options.reload:
        words = ["run", options.agent, *(["--debug"] if options.debug else [])]
        if options.status is not None:
            words.append(f"--status={options.status}")
        return run(reloading(words))

    if isinstance(sys.stdout, io.TextIOWrapper):
        # what the agent prints is to be seen at once, in a journal as on a terminal
        sys.stdout.reconfigure(line_buffering=True)
    # before there is a loop: an import may take its time, or run one
    found = imported(options.agent)

    async def work() -> int:
        sync = await sync_of(found, options.agent)
        if isinstance(sync, DataSync):
            await _run_agent(sync, options.status)
        else:
            await _run_blocking(sync, options.status)
        return 0

    return run(work())


async def _run_agent(sync: DataSync, status: str | None) -> None:
    if status is not None:
        _tell_status(await sync.serve_status(status))
    await sync.run(signals=False)


async def _run_blocking(sync: BlockingDataSync, status: str | None) -> None:
    try:
        if status is not None:
            _tell_status(await asyncio.to_thread(sync.serve_status, status))
        await asyncio.to_thread(sync.run, signals=False)
    finally:
        sync.stop()  # its thread ends by itself then, and the end of the loop waits for that


def _tell_status(served: StatusAddress) -> None:
    complain(f"status page on {served.url}")  # standard output is the agent's


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reload",
        action="store_true",
        help="start it again whenever a Python file below the current directory changes",
    )
    parser.add_argument(
        "--status",
        metavar="ADDR",
        help="host:port to serve its status page and metrics on, or http(s)://host:port?token=...",
    )


COMMANDS = (
    Command(
        "run",
        "run an agent that is written as a module, until a signal or sync.stop()",
        (
            Positional(
                "agent",
                "MODULE:NAME",
                "a DataSync, or a function that makes one; MODULE alone means MODULE:sync",
            ),
        ),
        _options,
        _run,
        """
datasync run agent:sync
datasync run agent:make_sync --reload     # for development
datasync run agent:sync --status 127.0.0.1:9191
datasync run package.agent                # package.agent:sync
""",
        program=True,
    ),
)
