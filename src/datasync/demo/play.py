"""The demo as a process: its temporary directory, and its end by itself, whatever happens."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasync.demo.screen import Screen
from datasync.demo.story import tell
from datasync.terminal import process

__all__ = ["GRACE", "LIMIT", "run"]

LIMIT = 300.0
"""Seconds after which the story is cut off; it takes about five, and several times
that on a machine that is busy."""
GRACE = 2.0
"""Seconds that cutting it off may take."""


def run() -> int:
    """Play it; returns the exit code. Ctrl-C ends it, and what it made is cleaned up."""
    return process.run(_play())


async def _play() -> int:
    screen = Screen()
    temporary = tempfile.TemporaryDirectory(prefix="datasync-demo-", ignore_cleanup_errors=True)
    with temporary as name, _watchdog(Path(name), screen):
        try:
            async with asyncio.timeout(LIMIT):
                await tell(Path(name), screen)
        except TimeoutError:
            screen.check("cut off: this step waited too long", False)
        except Exception as error:
            screen.check(f"cut off: {type(error).__name__}: {error}", False)
    return screen.conclude()


@contextmanager
def _watchdog(directory: Path, screen: Screen) -> Iterator[None]:
    """End the process where even cutting off hangs, as when a handler blocks the event loop."""

    def bite() -> None:
        sys.stderr.write(f"datasync: the demo hangs in {screen.heading!r}; it is ended\n")
        sys.stderr.flush()
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(1)  # the second process ends by itself when nobody reads it

    timer = threading.Timer(LIMIT + GRACE, bite)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
