"""Files of keys and values as JSON (one mapping, or an export of another program) or JSON lines,
read with the place of every mistake.

The text of a number, list or object is kept as it stands in the file, without the blanks between
its parts: nothing is rounded or reordered on the way into the store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import msgspec

from datasync.codec.shared import UNDECODABLE
from datasync.documents.entries import (
    BYTES,
    DEEPEST,
    BadFile,
    Entry,
    Place,
    decoded_base64,
    document,
    is_mapping,
    text_bytes,
)
from datasync.documents.exports import exported
from datasync.documents.records import Record

__all__ = ["json_entries", "json_line_records", "json_lines", "json_records"]

_ETCD_LINE = b'{"header"'
_KEY_MEMBER = re.compile(rb'"key"[ \t\r\n]*:[ \t\r\n]*')
_BLANK = re.compile(r"[ \t\r\n]*")
_STRING_OR_BLANK = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")|[ \t\r\n]+')


_OF_A_LINE = ("key", "value", "value_base64", "revision")
"""What a line may hold: the last two as the commands write them with `--json`."""

Member = tuple[str, int, int, int, Any]
"""The name of a member, where it stands, where its value begins and ends, and the value."""


class _Number(str):
    """The text of a number: told from a string, and never computed with."""

    __slots__ = ()


class _Problem(Exception):
    """What is wrong at an offset of the text."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(problem)
        self.problem, self.offset = problem, offset

    def in_file(self, name: str, text: str) -> BadFile:
        """The error of the file of that name, which holds the text."""
        return BadFile(name, *Place(text).of(self.offset), self.problem)


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice in one object")
    return members


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_float=_Number, parse_int=_Number, parse_constant=_no_constant
)


def json_entries(name: str, data: bytes, flatten: str | None = None) -> Iterator[Entry]:
    """The entries of a JSON file that is one mapping of keys to values.

    flatten: what joins the names that lead to a leaf, which then is an entry of its own.

    Raises `BadFile`.
    """
    text = document(name, data)
    if (others := exported(name, text.encode())) is not None:
        yield from others
        return

    place = Place(text)
    try:
        for member in _object(text, 0, "a mapping of keys to values"):
            for key, at, begin, end, value in _leaves(text, member, flatten):
                raw = _raw(text, begin, end, value)
                yield Entry(key, raw, *place.of(at), is_mapping(value))
    except _Problem as wrong:
        raise wrong.in_file(name, text) from None


def json_records(name: str, data: bytes) -> Iterator[Record]:
    """The elements of a JSON file that is a list, or the one object that it is. Raises
    `BadFile`."""
    text = document(name, data)
    place = Place(text)
    try:
        begin = _skip(text, 0)
        value, end = _value(text, begin)
        if _skip(text, end) < len(text):
            raise _Problem("there is something after the end", _skip(text, end))
        elements = _elements(text, begin) if isinstance(value, list) else [(begin, end, value)]
        for first, last, element in elements:
            yield Record(_raw(text, first, last, element), *place.of(first))
    except _Problem as wrong:
        raise wrong.in_file(name, text) from None


def json_line_records(name: str, lines: Iterable[bytes]) -> Iterator[Record]:
    """The values of a file with one on each line; empty lines count for nothing. Raises
    `BadFile`."""
    for number, data in enumerate(lines, 1):
        if data.strip():
            try:
                for record in json_records(name, data.rstrip(b"\r\n")):
                    yield record._replace(line=number)
            except BadFile as error:
                raise BadFile(name, number, error.column, error.problem) from None


def json_lines(name: str, lines: Iterable[bytes], flatten: str | None = None) -> Iterator[Entry]:
    """The entries of a file with one {"key": ..., "value": ...} on each line;
    empty lines count for nothing.

    Reads one line at a time. flatten: as for `json_entries`. Raises `BadFile`.
    """
    for number, data in enumerate(lines, 1):
        if (entry := _plain_line(number, data)) is not None:
            yield entry
            continue
        if not data.strip():
            continue
        if data.startswith(_ETCD_LINE) and (others := exported(name, data, number)) is not None:
            yield from others
            continue

        try:
            text = document(name, data).rstrip("\r\n")
        except BadFile as error:
            raise BadFile(name, number, error.column, error.problem) from None

        found: dict[str, tuple[int, int, int, Any]] = {}
        try:
            for member, at, begin, end, value in _object(text, 0, '{"key": ..., "value": ...}'):
                if member not in _OF_A_LINE:
                    raise _Problem(f'a line has the members "key" and "value", not {member!r}', at)
                if member in found:
                    raise _Problem(f"{member!r} is given twice in one object", at)
                found[member] = (at, begin, end, value)

            if "value_base64" in found:
                at, begin, end, value = found["value_base64"]
                if "value" in found:
                    raise _Problem('"value" is given too', at)
                found["value"] = (at, begin, end, {BYTES: value})
            for member in ("key", "value"):
                if member not in found:
                    raise _Problem(f'the member "{member}" is missing', len(text))

            _, place, _, key = found["key"]
            if type(key) is not str:
                raise _Problem("the key is not text", place)
            given = (key, place, *found["value"][1:])
            for leaf, at, begin, end, value in _leaves(text, given, flatten):
                yield Entry(leaf, _raw(text, begin, end, value), number, at + 1)
        except _Problem as wrong:
            raise BadFile(name, number, wrong.offset + 1, wrong.problem) from None


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    value: str
    revision: int = 0


_decode_line = msgspec.json.Decoder(_Line).decode


def _plain_line(number: int, data: bytes) -> Entry | None:
    """The entry of a line as `dump` writes most of them, three times faster; None
    for what needs a closer look."""
    if data.count(b'"key"') != 1 or data.count(b'"value"') != 1:
        return None  # a member twice would go unnoticed
    try:
        line = _decode_line(data)
    except UNDECODABLE:
        return None
    place = _KEY_MEMBER.search(data)
    assert place is not None
    return Entry(line.key, line.value.encode(), number, len(data[: place.end()].decode()) + 1)


def _leaves(text: str, member: Member, flatten: str | None, depth: int = 0) -> Iterator[Member]:
    """The member itself, or with `flatten` the leaves below it, named by the way to them."""
    name, at, begin, end, value = member
    if flatten is None or not is_mapping(value):
        yield member
        return
    if depth == DEEPEST:
        raise _Problem("nested too deeply", at)
    for inner, place, first, last, below in _object(text[begin:end], 0, "an object"):
        leaf = (name + flatten + inner, begin + place, begin + first, begin + last, below)
        yield from _leaves(text, leaf, flatten, depth + 1)


def _object(text: str, at: int, expected: str) -> Iterator[Member]:
    """The members of the object in `text`."""
    at = _skip(text, at)
    if text[at : at + 1] != "{":
        raise _Problem(f"expected {expected}", at)

    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        at += 1
    else:
        while True:
            if text[at : at + 1] != '"':
                raise _Problem("expected a key in double quotes", at)
            place = at
            key, at = _value(text, at)
            at = _skip(text, at)
            if text[at : at + 1] != ":":
                raise _Problem("expected ':' after the key", at)

            begin = _skip(text, at + 1)
            value, end = _value(text, begin)
            yield key, place, begin, end, value

            at = _skip(text, end)
            if text[at : at + 1] == "}":
                at += 1
                break
            if text[at : at + 1] != ",":
                raise _Problem("expected ',' or '}'", at)
            at = _skip(text, at + 1)

    at = _skip(text, at)
    if at < len(text):
        raise _Problem("there is something after the end", at)


def _elements(text: str, at: int) -> Iterator[tuple[int, int, Any]]:
    """Where each element of the list in `text` begins and ends, and the element."""
    at = _skip(text, at + 1)
    while text[at] != "]":
        value, end = _value(text, at)
        yield at, end, value
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        problem = error.msg[0].lower() + error.msg[1:]
        # the place, which Python names next, stands in front here
        problem = problem.removesuffix(" at").removesuffix(" starting")
        raise _Problem(problem, error.pos) from None
    except ValueError as error:  # from the hooks, which do not know the offset
        raise _Problem(str(error), at) from None
    except RecursionError:
        raise _Problem("nested too deeply", at) from None


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    assert blank is not None
    return blank.end()


def _raw(text: str, begin: int, end: int, value: Any) -> bytes:
    """The bytes to store for the value that stands in text[begin:end]."""
    try:
        if type(value) is str:
            return text_bytes(value)
        if isinstance(value, dict) and value.keys() == {BYTES}:
            return decoded_base64(value[BYTES])
        return text_bytes(_STRING_OR_BLANK.sub(r"\1", text[begin:end]))
    except ValueError as error:
        raise _Problem(str(error), begin) from None
