"""Documents: texts that hold keys and values, read into the bytes to store, with the place of every
mistake. One file a format; `load` and the sources that are files share them."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Callable, Iterable, Iterator

from datasync.documents.entries import BadFile, Entry
from datasync.documents.records import KeyTemplate, Record, keyed
from datasync.errors import BadKey

__all__ = [
    "FORMATS",
    "BadFile",
    "Entry",
    "KeyTemplate",
    "Record",
    "checked",
    "entries",
    "format_of",
    "keyed",
    "records",
]

FORMATS = ("jsonl", "json", "yaml", "toml", "env")

_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".env": "env",
}


def format_of(name: str) -> str | None:
    """The format that the name of a file tells; None where it tells none."""
    path = pathlib.PurePath(name)
    return _ENDINGS.get(path.suffix.lower() or path.name)


def entries(format: str, name: str, data: bytes, flatten: str | None = None) -> Iterator[Entry]:
    """The entries of a document of one of `FORMATS`.

    name: how errors call it.
    flatten: what joins the names that lead to a leaf, which then is an entry of its own; None (the
        default) for an entry a name at the top.

    Raises `BadFile`, and `MissingExtra` where a package is missing that reads the format.
    """
    reader, _ = _readers(format)
    return reader(name, data, flatten)


def records(format: str, name: str, data: bytes) -> Iterator[Record]:
    """The values of a document of one of `FORMATS` that have their keys in them: the elements of a
    list, the documents of a file of several, its lines; or all of it.

    name: how errors call it.

    Raises `BadFile` and `MissingExtra`, as `entries` does.
    """
    _, reader = _readers(format)
    return reader(name, data)


def checked(name: str, given: Iterable[Entry], check_key: Callable[[str], None]) -> Iterator[Entry]:
    """The entries of the document of that name. Raises `BadFile` for a key that stands twice, and
    for one that `check_key` rejects by a `BadKey`."""
    lines: dict[str, int] = {}
    for entry in given:
        if entry.key in lines:
            problem = f"the key {entry.key!r} is given twice, first in line {lines[entry.key]}"
            raise BadFile(name, entry.line, entry.column, problem)
        try:
            check_key(entry.key)
        except BadKey as error:
            raise BadFile(name, entry.line, entry.column, str(error)) from None
        lines[entry.key] = entry.line
        yield entry


_Readers = tuple[
    Callable[[str, bytes, str | None], Iterator[Entry]], Callable[[str, bytes], Iterator[Record]]
]


def _readers(format: str) -> _Readers:
    # each only where it is asked for: YAML needs an extra, and none costs those who read another
    match format:
        case "jsonl":
            from datasync.documents.jsonfile import json_line_records, json_lines

            return (
                lambda name, data, flatten: json_lines(name, io.BytesIO(data), flatten),
                lambda name, data: json_line_records(name, io.BytesIO(data)),
            )
        case "json":
            from datasync.documents.jsonfile import json_entries, json_records

            return json_entries, json_records
        case "yaml":
            from datasync.documents.yamlfile import yaml_entries, yaml_records

            return yaml_entries, yaml_records
        case "toml":
            from datasync.documents.tomlfile import toml_entries, toml_records

            return toml_entries, toml_records
        case _:
            from datasync.documents.envfile import env_entries, env_records

            return env_entries, env_records
