"""Programs that a command runs: what they get, and that none is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, BinaryIO

from datasync.errors import UsageError
from datasync.terminal.process import complain

__all__ = ["check_program", "ending", "run_program", "start_program"]

_PATIENCE = 5.0
"""Seconds that a program has to end after SIGTERM before it is killed."""


def check_program(name: str) -> None:
    """Raise `UsageError` where there is no such program: better now than at the first event."""
    if shutil.which(name) is None:
        raise UsageError(f"there is no program {name!r} to run; write its path, or see PATH")


async def run_program(words: Sequence[str], given: bytes = b"") -> int:
    """Run a program, and return its exit code, or the number of a signal as a negative one.

    given: its standard input.

    When this is cancelled the program and all that it started is sent SIGTERM, and killed where
    that is not enough. Raises OSError where it cannot be run.
    """
    with _file_with(given) as standard_input:
        # a group of its own: Ctrl-C in a terminal is for this command, which then ends the program
        program = await start_program(words, _end, stdin=standard_input, process_group=0)
    try:
        return await program.wait()
    finally:
        if program.returncode is None:
            await _end(program)


async def start_program(
    words: Sequence[str],
    end: Callable[[asyncio.subprocess.Process], Awaitable[None]],
    **options: Any,
) -> asyncio.subprocess.Process:
    """Start a program, with these options of `asyncio.create_subprocess_exec`.

    end: ends it in order where this is cancelled; it may run already then, and asyncio would kill
        it at once, and leave what it has started.

    Raises OSError where it cannot be run.
    """
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*words, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await end(await starting)
        raise


def ending(code: int) -> str:
    """How a program ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


@contextlib.contextmanager
def _file_with(data: bytes) -> Iterator[BinaryIO]:
    # a file, not a pipe: nothing has to be fed while a program runs, which may leave it unread
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file


async def _end(program: asyncio.subprocess.Process) -> None:
    try:
        _signal(program, signal.SIGTERM)
        async with asyncio.timeout(_PATIENCE):
            await program.wait()
    except TimeoutError:
        complain(f"the program has not ended within {_PATIENCE:g} s of SIGTERM, and is killed")
    finally:
        _signal(program, signal.SIGKILL)  # what is left of its group
        await program.wait()


def _signal(program: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, number)
