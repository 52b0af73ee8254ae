"""What the command line prints: values made safe to look at, JSON lines,
colours, a progress bar."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import msgspec

from datasync.texts import printable

__all__ = ["Cell", "Output", "Progress", "fields", "json_line", "many", "redact", "shown"]

Cell = str | tuple[str, str]
"""What stands in a table, in a colour or not."""

# user:password@ in a URL, up to the last @ of the word; and its query, which may hold a token
_PASSWORD = re.compile(r"(://[^:/@\s]*):\S*@")
_QUERY = re.compile(r"(\w://[^\s?'\"]*\?)[^\s'\"]+")


def redact(text: str, words: Sequence[str] = ()) -> str:
    """`text` without the passwords and queries of the URLs in it; the last net
    under every error that is printed.

    words: those of the command line; wherever one of them stands in `text`, what may be a user with
        a password is left out.
    """
    for word in words:
        start, at, _ = word.rpartition("@")
        whole = _without_query(word)
        for secret, instead in ((word, whole), (start + at, f"...{at}" if ":" in start else "")):
            if instead:
                for form in (secret, repr(secret)[1:-1]):
                    text = text.replace(form, instead)
    return _QUERY.sub(r"\1...", _PASSWORD.sub(r"\1:***@", text))


def _without_query(word: str) -> str:
    """What shows of a word of the command line that has a query or the like, as a URL may, also
    one that was not typed right; "" for another, of which all may."""
    found = re.search(r":.*?[?#]", word, re.DOTALL)
    if found is None:
        return ""
    behind = found.end()
    user, at, place = word[: behind - 1].rpartition("@")
    if "@" in word[behind:]:
        return "..."  # it may end the password or stand in it
    return f"{'...@' if ':' in user else user + at}{place}{word[behind - 1]}..."


def json_line(data: bytes) -> bytes:
    """JSON on one line, as the same JSON in which nothing moves the cursor or hides characters."""
    text = data.decode(errors="replace")
    if text.isprintable():
        return text.encode()
    return "".join(ch if ch.isprintable() else json.dumps(ch)[1:-1] for ch in text).encode()


def shown(raw: bytes, *, lines: bool = False) -> str:
    """A value as text: UTF-8 with control characters escaped (save line ends and tabs
    with `lines`), else base64."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(raw).decode()
    if lines:
        return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
    return printable(text) if text else '""'


def fields(name: str, raw: bytes) -> dict[str, str]:
    """A value as a member of a JSON line: `name` where it is text,
    `name`_base64 where it is not."""
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}


def many(number: int, unit: str) -> str:
    """A number with its unit, in words."""
    return f"{number:,} {unit}" + "s" * (number != 1)


class Output:
    """Standard output, as lines for a person or (`json`) as one object a line for a script.

    Colours and tables that fit come from rich, on a terminal where it is installed.
    """

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self.terminal = sys.stdout.isatty()

    def paint(self, text: str, colour: str) -> str:
        """`text` in a colour, or dim, on a terminal that wants it."""
        if not (self.terminal and _wants_colours()) or (pretty := _pretty()) is None:
            return text
        before, after = pretty.codes(colour)
        return f"{before}{text}{after}"

    def line(self, text: str) -> None:
        """Print one line; buffered until `flush`."""
        sys.stdout.write(text + "\n")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Print a table; on a terminal it fits the width."""
        pretty = _pretty() if self.terminal and os.environ.get("TERM") != "dumb" else None
        if pretty is not None:
            pretty.show_table(head, rows, colours=_wants_colours())
            return
        texts = [head, *([_text_of(cell) for cell in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        for row in texts:
            self.line("  ".join(map(str.ljust, row, widths)).rstrip())

    def record(self, **members: Any) -> None:
        """Print one JSON object, in UTF-8 whatever the locale; buffered until `flush`."""
        sys.stdout.buffer.write(json_line(msgspec.json.encode(members)) + b"\n")

    def flush(self) -> None:
        """Hand over what was printed; raises BrokenPipeError when nobody reads it any more."""
        sys.stdout.flush()


class Progress:
    """A bar on standard error while that is a terminal and rich is installed; otherwise nothing.
    Used as a context manager."""

    def __init__(self, what: str, total: int) -> None:
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        pretty = _pretty() if terminal else None
        self._bar = None if pretty is None else pretty.Bar()
        self._what = what
        self._total = total
        self._began = time.monotonic()
        self._next = 0.0

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self.update(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int | None = None) -> None:
        """Show that `done` of the total (which may only be known by now) are done;
        at most ten times a second."""
        self._total = self._total if total is None else total
        now = time.monotonic()
        if self._bar is None or (now < self._next and done < self._total):
            return
        self._next = now + 0.1
        rate = done / max(now - self._began, 1e-3)
        self._bar.show(
            done, self._total, f"{done:,} of {self._total:,} {self._what}, {rate:,.0f}/s"
        )


def _wants_colours() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _pretty() -> ModuleType | None:
    """What rich does for a terminal; None where it is not installed. Loaded where a terminal is to
    be shown something: it takes longer than most commands."""
    try:
        from datasync.terminal import pretty
    except ModuleNotFoundError:
        return None
    return pretty


def _text_of(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]
