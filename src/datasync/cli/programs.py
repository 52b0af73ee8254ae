"""Programs that a command runs: what they get, and that none is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import BinaryIO

from datasync.errors import UsageError
from datasync.terminal.process import complain

__all__ = ["check_program", "ending", "run_program", "running"]


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
        async with running(words, standard_input=standard_input) as program:
            return await program.wait()


@contextlib.asynccontextmanager
async def running(
    words: Sequence[str],
    *,
    standard_input: BinaryIO | None = None,
    own_group: bool = True,
    patience: float = 5.0,
) -> AsyncIterator[Process]:
    """Run a program for as long as the block; where it still runs then, end it in order.

    standard_input: a file for it to read; default that of this process.
    own_group: start it in a process group of its own, and end all that it has started with it:
        Ctrl-C in a terminal is for this process, which then ends the program. Without, it stays
        in the foreground, where it can read from the terminal, and is ended alone. Default True.
    patience: seconds that it has to end after SIGTERM before it is killed; default 5.

    Raises OSError where it cannot be run.
    """
    group = 0 if own_group else None
    program = None
    try:
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(*words, stdin=standard_input, process_group=group)
        )
        try:
            program = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # it may run already: asyncio would kill it at once, and leave what it has started
            with contextlib.suppress(OSError):
                program = await starting
            raise
        yield program
    finally:
        if program is not None and program.returncode is None:
            await _end(program, own_group=own_group, patience=patience)


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


async def _end(program: Process, *, own_group: bool, patience: float) -> None:
    def send(number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            if own_group:
                os.killpg(program.pid, number)
            else:
                program.send_signal(number)

    try:
        send(signal.SIGTERM)
        async with asyncio.timeout(patience):
            await program.wait()
    except TimeoutError:
        complain(f"the program has not ended within {patience:g} s of SIGTERM, and is killed")
    finally:
        send(signal.SIGKILL)  # where it has a group, what is left of that
        await program.wait()
