"""Text on its way out of the process: in errors, the status, answers, log lines and on a terminal.

It may come from a server, a handler or a file that nobody here wrote, and moves no cursor, begins
no line of a log, hides nothing, and is always text that UTF-8 can hold.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from typing import Any

__all__ = ["ADVICE", "in_one_line", "logger", "printable", "span", "traceback_of"]

ADVICE = "datasync_advice"
"""An attribute of records that advise on what is installed: a command that ends at once, which
somebody types often, leaves them out."""


def printable(text: str) -> str:
    """`text` with escapes for what would move the cursor, hide characters,
    or is not a character."""
    if text.isprintable():
        return text
    return "".join(
        ch if ch.isprintable() else ch.encode("unicode_escape", "surrogatepass").decode()
        for ch in text
    )


def span(seconds: float) -> str:
    """A time span as a person says it."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def in_one_line(error: BaseException) -> str:
    """An error in one line: its class, and what it says, if it can say anything."""
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:
        return f"{kind} (which cannot be shown as text)"
    return printable(f"{kind}: {text}") if text else kind


def traceback_of(error: BaseException) -> str:
    """A traceback in which each error is one line."""
    return _joined(traceback.format_exception(error))


def _joined(parts: Iterable[str]) -> str:
    return "".join(map(_printable_part, parts))


def _printable_part(part: str) -> str:
    if part.startswith((" ", "\n", "Traceback ")):  # of the stack
        return "\n".join(map(printable, part.split("\n")))
    return printable(part.removesuffix("\n")) + "\n"


def logger(name: str) -> logging.Logger:
    """The logger of that name, whose lines are printable and lines, whatever they tell of."""
    log = logging.getLogger(name)
    log.addFilter(_printable_record)  # which is there once, however often it is added
    return log


def _printable_record(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(map(_printable_argument, record.args))
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        parts = traceback.format_exception(error)
        if (told := _joined(parts)) != "".join(parts):
            record.exc_text = told.rstrip("\n")  # what formatters take instead of making it
    return True


def _printable_argument(argument: Any) -> Any:
    return printable(str(argument)) if isinstance(argument, str | BaseException) else argument
