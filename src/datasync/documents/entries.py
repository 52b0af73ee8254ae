"""What a document holds: keys with the bytes to store, each with its place; and what is wrong with
one that does not parse."""

from __future__ import annotations

import base64
import binascii
import codecs
from typing import Any, NamedTuple

from datasync.errors import DataSyncError

__all__ = [
    "BYTES",
    "DEEPEST",
    "BadFile",
    "Entry",
    "Place",
    "decoded_base64",
    "document",
    "is_mapping",
    "text_bytes",
]

BYTES = "$base64"
"""The only member of an object that stands for bytes which are not text."""

DEEPEST = 100
"""How many lists and objects within each other `dump` writes as a structure, which the reader of
each format takes; what is deeper is written as a text."""


class BadFile(DataSyncError):
    """A file that does not parse; the message names the file, the line and the column."""

    def __init__(self, name: str, line: int, column: int, problem: str) -> None:
        super().__init__(f"{name}, line {line}, column {column}: {problem}")
        self.name, self.line, self.column, self.problem = name, line, column, problem

    def __reduce__(self) -> tuple[type[BadFile], tuple[str, int, int, str]]:
        return type(self), (self.name, self.line, self.column, self.problem)


class Entry(NamedTuple):
    """One key with its value, where the key stands in the file, and whether the value is a
    mapping there."""

    key: str
    raw: bytes
    line: int
    column: int
    mapping: bool = False


class Place:
    """Lines and columns of a text, counted on from one offset to the next."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line, self._start, self._seen = 1, 0, 0  # the line that begins at `start`

    def of(self, at: int) -> tuple[int, int]:
        """The line and the column of an offset, which is never before the last one."""
        self._line += self._text.count("\n", self._seen, at)
        # to look no further back keeps a file on one line from costing its length for each entry
        self._start = max(self._start, self._text.rfind("\n", self._seen, at) + 1)
        self._seen = at
        return self._line, at - self._start + 1


def document(name: str, data: bytes) -> str:
    """The text of a file in UTF-8, without a byte order mark. Raises `BadFile`."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadFile(name, 1, 1, "the file is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        raise BadFile(name, line, column, f"byte 0x{data[error.start]:02x} is not UTF-8") from None


def is_mapping(value: Any) -> bool:
    """Whether it has members, and is not bytes."""
    return isinstance(value, dict) and bool(value) and value.keys() != {BYTES}


def text_bytes(text: str) -> bytes:
    """The UTF-8 of a text. Raises `ValueError` for half a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{text[error.start]!a} is half a character and has no UTF-8") from None


def decoded_base64(text: Any) -> bytes:
    """The bytes of {"$base64": text}. Raises `ValueError`."""
    if type(text) is not str:
        raise ValueError(f'"{BYTES}" takes a text in base64')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError) as error:
        raise ValueError(f'the text of "{BYTES}" is not base64: {error}') from None
