"""What the commands of `datasync.testing` share: a line that tells how far they
are, and an end on a signal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from datasync.errors import UsageError

__all__ = ["Missing", "Screen", "add_options", "drawn", "until_signalled"]


class Missing(Exception):
    """Something that a server needs is not on this machine; the message ends
    with the line that installs it."""


class Screen:
    """A line on a terminal that tells how far it is, and a line for each round."""

    def __init__(self, minutes: float) -> None:
        self._seconds = minutes * 60
        self._began = time.monotonic()
        self._bar = sys.stderr.isatty()

    @property
    def left(self) -> float:
        """Seconds."""
        return self._began + self._seconds - time.monotonic()

    @contextlib.asynccontextmanager
    async def ticking(self, text: Callable[[], str]) -> AsyncIterator[None]:
        """Show how far it is within the block."""
        task = asyncio.create_task(self._tick(text))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _tick(self, text: Callable[[], str]) -> None:
        while self._bar:
            share = min(1.0, 1 - self.left / self._seconds) if self._seconds else 1.0
            filled = round(30 * share)
            sys.stderr.write(
                f"\r\x1b[K[{'#' * filled}{'.' * (30 - filled)}] {share:4.0%}  {text()}"
            )
            sys.stderr.flush()
            await asyncio.sleep(0.5)

    def line(self, text: str) -> None:
        """Print a line."""
        if self._bar:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        print(text, flush=True)


def drawn(seed: int | None) -> int:
    """The seed that was given, or one that is drawn."""
    return random.SystemRandom().getrandbits(32) if seed is None else seed


def add_options(parser: argparse.ArgumentParser, drawn: str, failed: str) -> None:
    """The options that they all have; `drawn` is what the seed draws,
    `failed` what a finding is called."""
    parser.add_argument(
        "--minutes", type=float, default=1.0, metavar="N", help="for how long (default 1)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help=f"draws the {drawn} (default: drawn, and printed)"
    )
    parser.add_argument("--go-on", action="store_true", help=f"go on after {failed}")


def until_signalled(name: str, main: Coroutine[Any, Any, int]) -> int:
    """Run a command until it ends, or SIGINT or SIGTERM ends it. Returns its exit code, 2 for wrong
    usage and what is missing, or 130."""

    async def run() -> int:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            # SIGINT too: a script's background ignores it unless told
            loop.add_signal_handler(number, task.cancel)
        return await main

    try:
        return asyncio.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 128 + signal.SIGINT
    except (UsageError, Missing) as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 2
