"""A program that is started again at each change of its code: for development."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence

from datasync.cli.programs import running
from datasync.tasks import end_tasks
from datasync.terminal.process import complain
from datasync.texts import printable
from datasync.transports import load

__all__ = ["reloading"]

_PATIENCE = 30.0
"""Seconds that a program has to end before it is killed: above what a DataSync takes to close."""
_CHILD = (
    # Ctrl-C goes to all that runs in a terminal: this program alone is to act on it
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from datasync.cli import main; sys.exit(main())"
)


async def reloading(words: Sequence[str]) -> int:
    """Run `datasync` with these words, and again whenever a Python file below the current
    directory changes; the one before is ended cleanly first. Goes on until it is cancelled.

    Raises `MissingExtra`.
    """
    watch = load("watchfiles:awatch", "cli", "--reload")
    python_files = load("watchfiles:PythonFilter", "cli", "--reload")()
    folder = os.getcwd()

    async with contextlib.aclosing(watch(folder, watch_filter=python_files)) as changes:
        change = asyncio.ensure_future(anext(changes))
        try:
            await asyncio.sleep(0)  # it watches before the program reads its code
            while True:
                await _run_until(change, words)
                complain(f"{_told(change.result(), folder)} changed; starting again")
                change = asyncio.ensure_future(anext(changes))
        finally:
            await end_tasks(change)


def _told(changes: set[tuple[object, str]], folder: str) -> str:
    names = sorted({os.path.relpath(path, folder) for _, path in changes})
    return printable(names[0]) + (f" and {len(names) - 1} more" if names[1:] else "")


async def _run_until(change: asyncio.Future[object], words: Sequence[str]) -> None:
    """Run the program until there is a change, and end it."""
    child = [sys.executable, "-c", _CHILD, *words]
    # in the foreground, for it may read from the terminal: `breakpoint()`
    async with running(child, own_group=False, patience=_PATIENCE) as program:
        ended = asyncio.ensure_future(program.wait())
        try:
            await asyncio.wait((change, ended), return_when=asyncio.FIRST_COMPLETED)
            if not change.done():
                complain(
                    f"ended with exit code {program.returncode}; waiting for a change of the code"
                )
                await asyncio.wait((change,))
        finally:
            await end_tasks(ended)
