"""A command as a process: signals, a reader that went away, log lines, and
errors turned into one line."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, BinaryIO

from datasync.errors import DataSyncError, UsageError
from datasync.skipped_keys import MARK
from datasync.stopping import stop_signals
from datasync.terminal.output import many, redact
from datasync.texts import ADVICE, printable, traceback_of

__all__ = [
    "BROKEN_PIPE",
    "LogLines",
    "complain",
    "errors_on_one_line",
    "log_lines",
    "prepare_streams",
    "records_to",
    "run",
    "standard_input",
]

BROKEN_PIPE = 128 + signal.SIGPIPE
_LOGGERS = ("datasync", "asyncio")


def prepare_streams() -> None:
    """Make the standard streams bear whatever is written to them: also where one is
    closed, or knows few letters."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def standard_input() -> BinaryIO:
    """The bytes of standard input. Raises `DataSyncError` where it is closed."""
    if sys.stdin is None:
        raise DataSyncError("standard input is closed; give it a file, or name one")
    return sys.stdin.buffer


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` in an event loop to its exit code; SIGINT, SIGTERM and a closed
    pipe cancel it, and it cleans up. A second signal cancels that, too, and with
    the third the system ends the process.

    A signal that the program was started to ignore stays ignored.
    """
    before = {number: signal.getsignal(number) for number in stop_signals()}
    try:
        with asyncio.Runner() as runner:
            return runner.run(_supervise(work, list(before)))
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


async def _supervise(work: Coroutine[Any, Any, int], signals: Sequence[signal.Signals]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    ended: list[int] = []

    def end(code: int) -> None:
        if pipe is not None:
            loop.remove_reader(pipe)
        if ended:
            leave_to_system()
        ended.append(code)
        task.cancel()

    def leave_to_system() -> None:
        # G12: an interrupt could come anywhere, and leave what waits waiting; and the loop, as it
        # closes, could not take what is meant for it
        if signals:
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            for number in signals:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    for number in signals:
        loop.add_signal_handler(number, end, 128 + number)
    pipe = _output_pipe()
    if pipe is not None:
        # The writing end of a pipe never becomes readable: this fires only
        # when its last reader has gone.
        loop.add_reader(pipe, end, BROKEN_PIPE)
    try:
        code = await task
    except asyncio.CancelledError:
        if not ended:
            raise
        return ended[0]
    finally:
        leave_to_system()
        if pipe is not None:
            loop.remove_reader(pipe)
    return ended[0] if ended else code


def _output_pipe() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        number = sys.stdout.fileno()
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            return number
    return None


def errors_on_one_line(
    work: Callable[[], int], *, debug: bool, failed: Callable[[], int], words: Sequence[str] = ()
) -> int:
    """The exit code of `work`; what it raises is told in one line on standard error
    (with a traceback, if `debug`).

    `failed` gives the code of everything but wrong usage. words: those of the command line.
    """
    try:
        code = work()
        sys.stdout.flush()

    except SystemExit as stop:  # argparse, after --help or --version
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE

    except Exception as error:
        cause = _innermost(error)
        if debug:
            sys.stderr.write(redact(traceback_of(error), words))
        if isinstance(cause, UsageError):
            complain(str(cause), words)
            return 2
        if isinstance(cause, DataSyncError):
            complain(str(cause), words)
        elif isinstance(cause, OSError) and cause.strerror:
            complain(f"{cause.filename or 'input or output'}: {cause.strerror}", words)
        elif isinstance(cause, MemoryError):
            complain("out of memory", words)
        else:
            hint = "" if debug else "; --debug shows where"
            complain(f"unexpected {type(cause).__name__}: {cause}{hint}", words)
        return failed()
    else:
        if code == BROKEN_PIPE:
            _discard_output()
        return code


def complain(text: str, words: Sequence[str] = ()) -> None:
    """One line on standard error, without secrets; words: those of the command line."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"datasync: {printable(' '.join(redact(text, words).split()))}\n")
        sys.stderr.flush()


def _innermost(error: BaseException) -> BaseException:
    """The error itself, where a group holds it: one that says what is wrong
    before one that does not."""
    while isinstance(error, BaseExceptionGroup):
        error = min(
            error.exceptions,
            key=lambda one: not isinstance(one, (DataSyncError, BaseExceptionGroup)),
        )
    return error


def _discard_output() -> None:
    """Nobody reads standard output any more: let the interpreter's last flush go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class LogLines(logging.Handler):
    """Log records as lines of the command; tracebacks only with `debug`.

    follows: the command goes on when its source is lost, so that this is worth a line. Another
        fails, and says why.
    """

    def __init__(self, debug: bool) -> None:
        super().__init__(logging.WARNING)
        self.follows = False
        self._program = False
        self._debug = debug
        self._skipped: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if self._program and self._has_own_handlers():
            return
        if (
            record.name == "datasync.feed"
            and record.levelno == logging.WARNING
            and not self.follows
        ):
            return
        if hasattr(record, ADVICE) and not self.follows:
            return

        of_program = record.name == "datasync.watch" and self._program
        if record.name == "datasync.watch" and not (self._debug or of_program):
            return  # the command says in its own words what it could not apply

        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage()

        if hasattr(record, MARK):
            self._skipped.append(text)
            if not self.follows:  # said at its end, by `close`
                return
            text += f" ({many(len(self._skipped), 'key')} skipped so far)"
        if error is not None and str(error) not in text:
            text += f": {type(error).__name__}: {error}"

        complain(text)
        if error is not None and (self._debug or of_program):
            sys.stderr.write(redact(traceback_of(error)))

    def hear_program(self) -> None:
        """The command runs a program of somebody else: its handlers are heard, with
        tracebacks. Where it sets up logging itself, the records are left to that."""
        self.follows = self._program = True
        for name in _LOGGERS:
            logging.getLogger(name).propagate = True

    def _has_own_handlers(self) -> bool:
        return any(
            handler is not self
            for logger in (logging.getLogger(), logging.getLogger("datasync"))
            for handler in logger.handlers
        )

    def close(self) -> None:
        """Say what a command that has ended has skipped."""
        if self._skipped and not self.follows:
            others = f" (and {len(self._skipped) - 1:,} more)" if len(self._skipped) > 1 else ""
            complain(f"skipped {many(len(self._skipped), 'key')}: {self._skipped[0]}{others}")
        self._skipped.clear()
        super().close()


@contextlib.contextmanager
def log_lines(*, debug: bool) -> Iterator[LogLines]:
    """Warnings of datasync, and what the event loop complains of, go to
    standard error while this lasts."""
    with contextlib.closing(LogLines(debug)) as handler, records_to(handler):
        yield handler


@contextlib.contextmanager
def records_to(handler: logging.Handler) -> Iterator[None]:
    """What datasync and the event loop log goes to `handler` alone while this lasts."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
