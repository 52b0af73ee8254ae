"""Files of keys and values as lines NAME=value, as shells and Docker Compose read them (`.env`).

Nothing is put in for `$NAME`: a value is what stands there. A line that is none is an error with
its place, where the libraries for such files skip it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from datasync.documents.entries import BadFile, Entry, Place, document, text_bytes
from datasync.documents.records import Record

__all__ = ["env_entries", "env_records"]

_NAME = re.compile(r"(?:export[ \t]+)?([^\s=#'\"]+)[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n\f]|#[^\n]*)*")
_INDENT = re.compile(r"[ \t]*")
_PLAIN = re.compile(r"[^\n]*")
_COMMENT = re.compile(r"[ \t]#.*", re.DOTALL)
_QUOTES = ("'", '"')
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_END = re.compile(r"[ \t]*(?:#[^\n]*)?\r?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}


def env_entries(name: str, data: bytes, flatten: str | None = None) -> Iterator[Entry]:
    """The entries of a `.env` file. Nothing in it is nested: `flatten` changes nothing. Raises
    `BadFile`."""
    text = document(name, data)
    at, place = 0, Place(text)
    while (at := _after(_BLANK, text, at)) < len(text):
        line, column = place.of(at)
        found = _NAME.match(text, at)
        if found is None or text[found.end() : found.end() + 1] != "=":
            raise BadFile(name, line, column, "expected NAME=value")
        begin = found.end() + 1
        try:
            value, at = _value(text, begin)
        except ValueError as error:
            raise BadFile(name, *place.of(begin), str(error)) from None
        yield Entry(found[1], text_bytes(value), line, column + found.start(1) - found.start())


def env_records(name: str, data: bytes) -> Iterator[Record]:
    """A `.env` file as one record, of texts. Raises `BadFile`."""
    members = {entry.key: entry.raw.decode() for entry in env_entries(name, data)}
    yield Record(json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode(), 1, 1)


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins there, and where its line ends. Raises `ValueError`."""
    opening = _after(_INDENT, text, at)
    quote = text[opening : opening + 1]
    if quote not in _QUOTES:
        end_of_line = _after(_PLAIN, text, at)
        return _COMMENT.sub("", text[at:end_of_line]).strip(), end_of_line

    quoted = (_SINGLE if quote == "'" else _DOUBLE).match(text, opening)
    if quoted is None:
        raise ValueError(f"the quote {quote} is not closed")
    end = _END.match(text, quoted.end())
    if end is None:
        raise ValueError("there is something after the closing quote; put all of it in quotes")
    value = quoted[1]
    return value if quote == "'" else _ESCAPE.sub(_unescaped, value), end.end()


def _unescaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[1], found[0])


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    assert found is not None
    return found.end()
