"""What `load` reads and `dump` writes as one interface: files of each format, and directories."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import msgspec

from datasync.documents import FORMATS as READ_FORMATS
from datasync.documents import (
    BadFile,
    Entry,
    KeyTemplate,
    checked,
    entries,
    format_of,
    keyed,
    records,
)
from datasync.documents.directory import Found, documents_in
from datasync.documents.entries import BYTES, DEEPEST
from datasync.documents.jsonfile import json_line_records, json_lines
from datasync.errors import DataSyncError, UsageError
from datasync.terminal.output import json_line
from datasync.terminal.process import standard_input

__all__ = [
    "FORMATS",
    "READ_FORMATS",
    "BadFile",
    "Directory",
    "Entry",
    "File",
    "Keys",
    "Loadable",
    "format_named",
    "opened",
    "readable",
    "writer",
]

FORMATS = ("jsonl", "json", "yaml")
"""Those that `dump` writes; `load` reads more."""

Write = Callable[[str, bytes], object]


def format_named(name: str, formats: Sequence[str] = READ_FORMATS) -> str:
    """The format that the name of a file tells; "-" is JSON lines. Raises `UsageError`.

    formats: those that may be named by an option instead.
    """
    if name == "-":
        return "jsonl"
    kind = format_of(name)
    if kind is None:
        raise UsageError(
            f"the name {name!r} does not tell the format; add --format {'|'.join(formats)}"
        )
    return kind


class Keys(NamedTuple):
    """What the entries of a file are; by default each name at the top is the key of one.

    flatten: what joins the names that lead to a leaf, which then is an entry of its own.
    template: how the key of a record is made, which then is an entry of its own.
    """

    flatten: str | None = None
    template: KeyTemplate | None = None

    def entries(self, format: str, name: str, data: bytes) -> Iterator[Entry]:
        """The entries of a document. Raises `BadFile`."""
        if self.template is not None:
            return keyed(name, records(format, name, data), self.template)
        return entries(format, name, data, self.flatten)

    def entries_of_lines(self, name: str, lines: Iterable[bytes]) -> Iterator[Entry]:
        """The same for JSON lines; no more than one is held at a time."""
        if self.template is not None:
            return keyed(name, json_line_records(name, lines), self.template)
        return json_lines(name, lines, self.flatten)

    def nested(self, entries: Iterable[Entry]) -> int:
        """How many names at the top look like parts of a nested document: they hold mappings, and
        no slash."""
        if self != _BY_NAME:
            return 0
        return sum(entry.mapping and "/" not in entry.key for entry in entries)


_BY_NAME = Keys()


class File:
    """A file of keys and values; iterating yields its entries. `check` it first."""

    def __init__(self, name: str, file: BinaryIO, format: str, keys: Keys = _BY_NAME) -> None:
        self.name = name
        self._keys = keys
        self._file = file
        self._format = format
        self._kept: list[Entry] | None = None

    def check(self, check_key: Callable[[str], None]) -> int:
        """Read everything once and return the number of entries.

        Raises `BadFile` for what does not parse, a key that `check_key`
        rejects, and a key that stands twice.
        """
        entries = checked(self.name, self._read(), check_key)
        if self._format == "jsonl":
            # a mapping is parsed as a whole anyway; only JSON lines are worth a second
            # reading instead of the memory
            return sum(1 for _ in entries)
        self._kept = list(entries)
        return len(self._kept)

    def __iter__(self) -> Iterator[Entry]:
        return self._read() if self._kept is None else iter(self._kept)

    def _read(self) -> Iterator[Entry]:
        self._file.seek(0)
        if self._format == "jsonl":
            return self._keys.entries_of_lines(self.name, self._file)
        return self._keys.entries(self._format, self.name, self._file.read())

    def nested(self) -> int:
        """As `Keys.nested`. None do in JSON lines, which name each key."""
        return self._keys.nested(self._kept or ())


class Directory:
    """A directory of such files, in one; what `File` has. The keys of `net.yaml` begin with
    `net/`."""

    def __init__(self, name: str, keys: Keys = _BY_NAME) -> None:
        self.name = name
        self._keys = keys
        self._kept: list[Entry] = []
        self._nested = 0

    def check(self, check_key: Callable[[str], None]) -> int:
        """As `File.check`; a key of two files is a mistake of the second one."""
        owners: dict[str, str] = {}
        for path, _, kind, prefix in _documents(self.name):
            with readable(path) as file:
                read = list(self._keys.entries(kind, path, file.read()))
            self._nested += self._keys.nested(read)
            before = prefix if self._keys.template is None else ""
            placed = (entry._replace(key=before + entry.key) for entry in read)
            for entry in checked(path, placed, check_key):
                if entry.key in owners:
                    problem = f"the key {entry.key!r} is given by {owners[entry.key]} too"
                    raise BadFile(path, entry.line, entry.column, problem)
                owners[entry.key] = path
                self._kept.append(entry)
        return len(self._kept)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._kept)

    def nested(self) -> int:
        """As `Keys.nested`."""
        return self._nested


Loadable = File | Directory
"""What `opened` opens."""


def _documents(directory: str) -> list[Found]:
    try:
        found, _ = documents_in(directory)
    except OSError as error:
        raise DataSyncError(f"{error.filename}: {error.strerror}") from None
    if not found:
        raise UsageError(
            f"{directory} holds no file of a format that is known; end the names in .yaml, .json, "
            ".jsonl, .toml or .env"
        )
    return found


def readable(name: str) -> BinaryIO:
    """The file of that name, opened. Raises `DataSyncError`."""
    try:
        return pathlib.Path(name).open("rb")
    except OSError as error:
        raise DataSyncError(f"{name}: {error.strerror}; name a file that can be read") from None


@contextlib.contextmanager
def opened(name: str, format: str | None, keys: Keys = _BY_NAME) -> Iterator[Loadable]:
    """The file or directory of that name, "-" for standard input; the format by the name of the
    file unless given."""
    if name != "-" and os.path.isdir(name):
        if format is not None:
            raise UsageError(
                f"{name} is a directory, in which the name of each file tells its format; leave "
                "out --format"
            )
        yield Directory(name, keys)
        return

    kind = format or format_named(name)
    shown = name
    if name == "-":
        # most who pipe a file of another format here have not heard of this one
        shown = "standard input" if format else f"standard input (as {kind}; see --format)"
    with contextlib.ExitStack() as stack:
        file = standard_input() if name == "-" else stack.enter_context(readable(name))
        if name == "-" or not file.seekable():
            # it is read twice, which a pipe cannot be
            copy = stack.enter_context(tempfile.TemporaryFile())
            while data := os.read(file.fileno(), 1 << 16):  # Ctrl-C takes effect between two reads
                copy.write(data)
            file = copy
        yield File(shown, file, kind, keys)


@contextlib.contextmanager
def writer(file: BinaryIO, format: str) -> Iterator[Write]:
    """A function that writes one key with its value; what must stand before and
    after them all is written too.

    In every format the bytes that `load` reads back are exactly those written here.
    """
    if format == "jsonl":
        yield lambda key, raw: file.write(
            json_line(msgspec.json.encode({"key": key, "value": _text_or_base64(raw)})) + b"\n"
        )
    elif format == "json":
        behind = b"{\n"

        def write(key: str, raw: bytes) -> None:
            nonlocal behind
            # what hides characters is written as a text, in which they are escaped: a
            # structure is read as it stands
            plain = _structure(raw) is not _NONE and raw.decode().isprintable()
            value = raw if plain else msgspec.json.encode(_text_or_base64(raw))
            file.write(behind + b"  " + json_line(msgspec.json.encode(key) + b": " + value))
            behind = b",\n"

        yield write
        file.write(b"{}\n" if behind == b"{\n" else b"\n}\n")
    else:
        from datasync.documents.yamlfile import yaml_line

        empty = True

        def write_yaml(key: str, raw: bytes) -> None:
            nonlocal empty
            empty = False
            value = _structure(raw)
            file.write(yaml_line(key, _text_or_base64(raw) if value is _NONE else value).encode())

        yield write_yaml
        if empty:
            file.write(b"{}\n")


_NONE: Any = object()


def _structure(raw: bytes) -> Any:
    """What `raw` is as JSON, if reading the same structure in a file gives
    exactly `raw` again; else `_NONE`."""
    if raw[:1] not in (b"{", b"["):
        return _NONE
    try:
        value = json.loads(raw)
        same = (
            json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
            == raw
        )
    except (ValueError, RecursionError):
        return _NONE
    if not same or (isinstance(value, dict) and value.keys() == {BYTES}) or _too_deep(value):
        return _NONE
    return value


def _too_deep(value: Any) -> bool:
    """Whether there are more than `DEEPEST` lists and objects within each other."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _text_or_base64(raw: bytes) -> str | dict[str, str]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {BYTES: base64.b64encode(raw).decode()}
