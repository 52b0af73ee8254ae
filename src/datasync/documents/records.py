"""Records: values of a document that have no key beside them, but in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from datasync.documents.entries import BadFile, Entry

__all__ = ["KeyTemplate", "Record", "keyed"]

_FIELD = re.compile(r"\{([^{}]*)\}")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Record(NamedTuple):
    """A value as JSON, and where it begins in the file."""

    raw: bytes
    line: int
    column: int


class KeyTemplate:
    """How the key of a record is made of its members: `name`, `metadata.name`, or a text with such
    names in braces, `config/{kind}/{metadata.name}`. Raises `ValueError`."""

    def __init__(self, text: str) -> None:
        template = text if "{" in text or "}" in text else "{" + text + "}"
        # text and names in turn
        self._parts = _FIELD.split(template)
        if any("{" in part or "}" in part for part in self._parts):
            raise ValueError("a brace has no partner")
        if len(self._parts) == 1 or not all(all(name.split(".")) for name in self._parts[1::2]):
            raise ValueError("name a member, for example name or config/{kind}/{metadata.name}")

    def key(self, raw: bytes) -> str:
        """The key of the record `raw`. Raises `ValueError`."""
        texts = [
            _member(raw, part) if index % 2 else part for index, part in enumerate(self._parts)
        ]
        return "".join(texts)


def keyed(name: str, records: Iterable[Record], template: KeyTemplate) -> Iterator[Entry]:
    """The records of the document of that name under the keys that they hold. Raises `BadFile`."""
    for raw, line, column in records:
        try:
            key = template.key(raw)
        except ValueError as error:
            raise BadFile(name, line, column, str(error)) from None
        yield Entry(key, raw, line, column)


def _member(raw: bytes, path: str) -> str:
    """The text of a member; of a number or a boolean as it stands. Raises `ValueError`."""
    value = raw
    for name in path.split("."):
        found = _members.decode(value).get(name) if value[:1] == b"{" else None
        if found is None:
            raise ValueError(f"the record has no member {path!r}, which its key is made of")
        value = bytes(found)
    if value[:1] == b'"':
        return msgspec.json.decode(value, type=str)
    if value[:1] in b"{[" or value == b"null":
        raise ValueError(f"the member {path!r}, which the key is made of, is not text or a number")
    return value.decode()
