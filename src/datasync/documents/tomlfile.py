"""Files of keys and values as TOML, read by the standard library.

What that keeps is kept: the text of a float, and of a string. An integer is written in decimal, a
date or time as RFC 3339 has it.
"""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

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
from datasync.documents.records import Record

__all__ = ["toml_entries", "toml_records"]

_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_BEGINS = re.compile(
    r"""^[ \t]*\[{0,2}[ \t]*(?:"(?P<basic>[^"\n]*)"|'(?P<literal>[^'\n]*)'|(?P<bare>[\w-]+))""",
    re.MULTILINE,
)
_DOTTED = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)++""")
_MOST_DOTS = 1000
"""In a key: tomllib takes the square of their number."""


class _Float(str):
    """The text of a float: told from a string, and never computed with."""

    __slots__ = ()


def toml_entries(name: str, data: bytes, flatten: str | None = None) -> Iterator[Entry]:
    """The entries of a TOML file, whose keys and tables at the top are keys.

    flatten: what joins the names that lead to a leaf, which then is an entry of its own.

    Raises `BadFile`.
    """
    text = document(name, data)
    table, places = _table(name, text), _places(text)
    for key, value in table.items():
        line, column = places.get(key, (1, 1))
        try:
            for leaf, inner in _leaves(key, value, flatten):
                yield Entry(leaf, _raw(inner), line, column, is_mapping(inner))
        except ValueError as error:
            raise BadFile(name, line, column, str(error)) from None


def toml_records(name: str, data: bytes) -> Iterator[Record]:
    """A TOML file as one record. Raises `BadFile`."""
    try:
        yield Record(_raw(_table(name, document(name, data))), 1, 1)
    except ValueError as error:
        raise BadFile(name, 1, 1, str(error)) from None


def _table(name: str, text: str) -> dict[str, Any]:
    for found in _DOTTED.finditer(text):
        if found[0].count(".") > _MOST_DOTS:
            raise BadFile(name, *Place(text).of(found.start()), "nested too deeply")
    try:
        return tomllib.loads(text, parse_float=_Float)
    except tomllib.TOMLDecodeError as error:
        raise _bad(name, text, str(error)) from None
    except RecursionError:
        raise BadFile(name, 1, 1, "nested too deeply") from None
    except ValueError:  # Python makes no integer of more than some thousand digits
        raise BadFile(name, 1, 1, "an integer has too many digits") from None


def _bad(name: str, text: str, message: str) -> BadFile:
    """What tomllib says, with its place taken out of the message."""
    found = _PLACE.fullmatch(message)
    problem = message if found is None else found[1]
    if found is not None and found[2]:
        line, column = int(found[2]), int(found[3])
    else:
        line, column = Place(text).of(len(text))
    return BadFile(name, line, column, problem[:1].lower() + problem[1:])


def _places(text: str) -> dict[str, tuple[int, int]]:
    """Line and column where each key and table at the top begins, which tomllib does not tell: the
    first line that can be it."""
    places: dict[str, tuple[int, int]] = {}
    place = Place(text)
    for found in _BEGINS.finditer(text):
        group = found.lastgroup or 0
        places.setdefault(found[group], place.of(found.start(group)))
    return places


def _leaves(key: str, value: Any, flatten: str | None, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if flatten is None or not is_mapping(value):
        yield key, value
        return
    if depth == DEEPEST:
        raise ValueError("nested too deeply")
    for name, inner in value.items():
        yield from _leaves(key + flatten + name, inner, flatten, depth + 1)


def _raw(value: Any) -> bytes:
    """The bytes to store: a text or a number as it stands, anything else as compact JSON.
    Raises `ValueError`."""
    if isinstance(value, dict) and value.keys() == {BYTES}:
        return decoded_base64(value[BYTES])
    if type(value) is str or isinstance(value, _MOMENTS):
        return text_bytes(_text(value))
    parts: list[str] = []
    _write(value, 0, parts)
    return text_bytes("".join(parts))


def _write(value: Any, depth: int, parts: list[str]) -> None:
    """Append a value as JSON."""
    if isinstance(value, dict | list) and depth == DEEPEST:
        raise ValueError("nested too deeply")

    match value:
        case dict():
            parts.append("{")
            for index, (name, inner) in enumerate(value.items()):
                parts.append(f"{',' if index else ''}{json.dumps(name, ensure_ascii=False)}:")
                _write(inner, depth + 1, parts)
            parts.append("}")
        case list():
            parts.append("[")
            for index, inner in enumerate(value):
                parts.append("," if index else "")
                _write(inner, depth + 1, parts)
            parts.append("]")
        case bool():
            parts.append("true" if value else "false")
        case int():
            parts.append(str(value))
        case _Float():
            parts.append(_number(value))
        case _:
            parts.append(json.dumps(_text(value), ensure_ascii=False))


def _number(text: str) -> str:
    """A float as JSON spells it, digit by digit."""
    if text.lstrip("+-") in ("inf", "nan"):
        raise ValueError(f"{text} is not a JSON number; put it in quotes")
    return text.lstrip("+").replace("_", "")


_MOMENTS = (datetime.date, datetime.time)  # a datetime is a date


def _text(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, _MOMENTS) else str(value)
