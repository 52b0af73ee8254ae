"""Files of keys and values as YAML: mappings, read with the place of every mistake (needs the
extra `cli`).

A plain scalar is what the core schema of YAML 1.2 makes of it, and no more: `no`, `22:22` and
`2001-01-01` are texts. The values are written from what PyYAML parses, never from Python's
numbers: nothing is rounded.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from datasync.documents.entries import (
    BYTES,
    DEEPEST,
    BadFile,
    Entry,
    Place,
    decoded_base64,
    document,
    text_bytes,
)
from datasync.documents.records import Record
from datasync.errors import MissingExtra

try:
    import yaml
except ModuleNotFoundError:
    raise MissingExtra(
        "YAML needs the package PyYAML; install it with: pip install 'datasync[cli]', or use JSON "
        "or JSON lines"
    ) from None

__all__ = ["yaml_entries", "yaml_line", "yaml_records"]

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_quoted = json.JSONEncoder(ensure_ascii=False).encode
_STANDARD = "tag:yaml.org,2002:"
_TEXT, _NULL, _BOOL, _INT, _FLOAT, _BINARY, _MERGE, _LIST, _MAPPING = (
    _STANDARD + kind
    for kind in ("str", "null", "bool", "int", "float", "binary", "merge", "seq", "map")
)
_CORE = {
    _NULL: (re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    _BOOL: (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    _INT: (
        re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
        list("-+0123456789"),
    ),
    _FLOAT: (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        list("-+.0123456789"),
    ),
}
"""What a plain scalar may be beside a text (YAML 1.2.2, 10.3.2), and its first characters."""
_DECIMAL = re.compile(r"([-+]?)0*([0-9]*)(?:(\.)([0-9]*))?([eE][-+]?[0-9]+)?\Z")
_MOST_NODES = 1_000_000
_DEEPEST = DEEPEST + 1  # the mapping that is the document is a level too


_PLAIN = {tag: pattern for tag, (pattern, _) in _CORE.items()} | {_MERGE: re.compile(r"<<\Z")}
"""The core schema, and beside it only `<<`."""
_BY_FIRST: dict[str, list[str]] = {"<": [_MERGE]}


class _Dumper(_SafeDumper):  # type: ignore[misc]
    """Puts in quotes what readers of either version would not take for a text."""


for _tag, (_pattern, _first) in _CORE.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
    for _letter in _first:
        _BY_FIRST.setdefault(_letter, []).append(_tag)


def _represent_float(dumper: Any, value: float) -> Any:
    text = repr(value)  # as JSON has it: its text is what comes back
    return dumper.represent_scalar(dumper.resolve(yaml.ScalarNode, text, (True, False)), text)


_Dumper.add_representer(float, _represent_float)


Members = dict[str, tuple[Any, Any]]
"""The nodes of the name and the value of each member of a mapping."""


class _Wrong(Exception):
    """What is wrong at a node."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem, self.mark = problem, mark


def yaml_entries(name: str, data: bytes, flatten: str | None = None) -> Iterator[Entry]:
    """The entries of a YAML file whose documents are mappings of keys to values.

    flatten: what joins the names that lead to a leaf, which then is an entry of its own.

    Raises `BadFile`.
    """
    for start, composer in _documents(name, data):
        with _places(name):
            if not isinstance(start, yaml.MappingStartEvent):
                raise _Wrong("expected a mapping of keys to values", start.start_mark)
            parts = composer.parts(start)
            for key, value in zip(parts, parts, strict=True):
                if not isinstance(key, yaml.ScalarEvent) or key.tag != _TEXT:
                    raise _Wrong("the key is not text; put it in quotes", key.start_mark)
                yield from _Value().entries(key.value, key.start_mark, value, flatten)


def yaml_records(name: str, data: bytes) -> Iterator[Record]:
    """The documents of a YAML file, and of one that is a list, its elements. Raises `BadFile`."""
    for start, composer in _documents(name, data):
        with _places(name):
            is_list = isinstance(start, yaml.SequenceStartEvent)
            for node in composer.parts(start) if is_list else [composer.node(start)]:
                (entry,) = _Value().entries("", node.start_mark, node, None)
                yield Record(entry.raw, entry.line, entry.column)


def _documents(name: str, data: bytes) -> Iterator[tuple[Any, _Composer]]:
    """How each document of a file begins, without those that hold nothing, and what makes its
    nodes, which is to be done before the next one. Raises `BadFile`.

    No more than a part of a large document is held at a time: the garbage collector would look at
    all of it over and over, which takes longer than parsing it.
    """
    text = document(name, data)
    try:
        with _places(name):
            yield from _begun(_SafeLoader(text))
    except yaml.reader.ReaderError as error:
        problem = "a character that YAML does not allow"
        raise BadFile(name, *Place(text).of(error.position), problem) from None


def _begun(loader: _SafeLoader) -> Iterator[tuple[Any, _Composer]]:
    """The same of what the loader reads, which is over with the last one."""
    try:
        while (event := loader.get_event()) is not None:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            start = loader.get_event()
            if not _is_nothing(start):
                yield start, _Composer(loader.get_event)
    finally:
        loader.dispose()


class _Composer:
    """Makes the nodes of one document of what the parser reads.

    PyYAML's own, which asks its resolver for each scalar, takes twice the time; and libyaml's makes
    them by recursion, of any depth.
    """

    def __init__(self, next_event: Callable[[], Any]) -> None:
        self._next = next_event
        self._anchored: dict[str, Any] = {}
        self._above: list[Any] = []
        """The collections that have begun and not ended."""

    def parts(self, start: Any) -> Iterator[Any]:
        """The nodes in the collection that begins with the event, each when it is asked for."""
        self._begin(start)
        while not isinstance(event := self._next(), yaml.CollectionEndEvent):
            yield self.node(event)
        self._above.pop()

    def node(self, event: Any) -> Any:
        """The node that begins with the event."""
        next_event, anchored, above = self._next, self._anchored, self._above
        outside = len(above)
        while True:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                event.tag = _tag_of(event)  # and so it is a node, without the making of one
                if event.anchor is not None:
                    anchored[event.anchor] = event
                node = event
            elif kind in _COLLECTIONS:
                self._begin(event)
                event = next_event()
                continue
            elif kind is yaml.AliasEvent:
                node = self._anchored_at(event)
            else:
                node = above.pop()
                if kind is yaml.MappingEndEvent:
                    node.value = [*zip(node.value[::2], node.value[1::2], strict=True)]

            if len(above) == outside:
                return node
            above[-1].value.append(node)
            event = next_event()

    def _begin(self, event: Any) -> None:
        """A collection begins."""
        if len(self._above) == _DEEPEST:
            raise _Wrong("nested too deeply", event.start_mark)
        make, tag = _COLLECTIONS[type(event)]
        node = make(_explicit(event) or tag, [], event.start_mark)
        if event.anchor is not None:
            self._anchored[event.anchor] = node
        self._above.append(node)

    def _anchored_at(self, alias: Any) -> Any:
        node = self._anchored.get(alias.anchor)
        if node is None:
            raise _Wrong(
                f"the anchor {alias.anchor!r} of an alias is not defined before it",
                alias.start_mark,
            )
        if node in self._above:
            raise _Wrong("the value contains itself", node.start_mark)
        return node


_COLLECTIONS = {
    yaml.MappingStartEvent: (yaml.MappingNode, _MAPPING),
    yaml.SequenceStartEvent: (yaml.SequenceNode, _LIST),
}


def _is_nothing(event: Any) -> bool:
    """Whether a document that begins so is empty."""
    return isinstance(event, yaml.ScalarEvent) and not event.value and _tag_of(event) == _NULL


def _explicit(event: Any) -> str | None:
    """The tag that is written there."""
    return None if event.tag in (None, "!") else str(event.tag)


def _tag_of(event: Any) -> str:
    """That of a scalar: without one, a plain one is what the core schema makes of it."""
    if event.tag is not None and (tag := _explicit(event)) is not None:
        return tag
    if not event.implicit[0]:
        return _TEXT
    text = event.value
    for tag in _BY_FIRST.get(text[:1], ()):
        if _PLAIN[tag].match(text):
            return tag
    return _TEXT


@contextlib.contextmanager
def _places(name: str) -> Iterator[None]:
    """What is wrong within the block is told with its place in the file of that name."""
    try:
        yield
    except _Wrong as wrong:
        raise BadFile(name, wrong.mark.line + 1, wrong.mark.column + 1, wrong.problem) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise BadFile(name, line, column, error.problem or "is not YAML") from None
    except RecursionError:
        raise BadFile(name, 1, 1, "nested too deeply") from None


class _Value:
    """The value of one key, written as JSON with its aliases written out: no more than
    `_MOST_NODES` parts, no deeper than `DEEPEST`."""

    def __init__(self) -> None:
        self._left = _MOST_NODES

    def entries(
        self, key: str, mark: Any, node: Any, flatten: str | None, depth: int = 0
    ) -> Iterator[Entry]:
        members = self._members(node, depth) if isinstance(node, yaml.MappingNode) else {}
        mapping = bool(members) and members.keys() != {BYTES}
        if mapping and flatten is not None:
            for name, (place, value) in members.items():
                yield from self.entries(
                    key + flatten + name, place.start_mark, value, flatten, depth + 1
                )
            return

        try:
            raw = self._raw(node, members, depth)
        except ValueError as error:
            raise _Wrong(str(error), node.start_mark) from None
        yield Entry(key, raw, mark.line + 1, mark.column + 1, mapping)

    def _raw(self, node: Any, members: Members, depth: int) -> bytes:
        """The bytes to store: a text or a number as it stands, anything else as compact JSON.
        Raises `ValueError`."""
        if isinstance(node, yaml.ScalarEvent):
            self._count(node)
            if node.tag == _BINARY:
                return decoded_base64("".join(node.value.split()))
            json_text = self._scalar(node)
            as_it_stands = node.tag in (_TEXT, _INT, _FLOAT) or not node.value
            return text_bytes(node.value if as_it_stands else json_text)

        if members.keys() == {BYTES}:
            _, encoded = members[BYTES]
            return decoded_base64(encoded.value if encoded.tag == _TEXT else None)
        parts: list[str] = []
        if isinstance(node, yaml.MappingNode):
            self._write_members(members, depth + 1, parts)
        else:
            self._write(node, depth, parts)
        return text_bytes("".join(parts))

    def _write(self, node: Any, depth: int, parts: list[str]) -> None:
        if isinstance(node, yaml.ScalarEvent):
            self._count(node)
            parts.append(self._scalar(node))
        elif isinstance(node, yaml.MappingNode):
            self._write_members(self._members(node, depth), depth + 1, parts)
        else:
            self._enter(node, depth, _LIST)
            parts.append("[")
            for index, item in enumerate(node.value):
                parts.append("," if index else "")
                self._write(item, depth + 1, parts)
            parts.append("]")

    def _write_members(self, members: Members, depth: int, parts: list[str]) -> None:
        parts.append("{")
        for index, (name, (_, value)) in enumerate(members.items()):
            parts.append(f"{',' if index else ''}{_quoted(name)}:")
            self._write(value, depth, parts)
        parts.append("}")

    def _scalar(self, node: Any) -> str:
        """A scalar as JSON."""
        text = node.value
        if node.tag == _TEXT:
            return _quoted(text)
        if node.tag == _BINARY:
            raise _Wrong(
                f'bytes within a value cannot be written as JSON; write a text, or {{"{BYTES}": '
                "...} as the whole value",
                node.start_mark,
            )

        if node.tag not in _CORE:
            raise _unknown_tag(node)
        if not _CORE[node.tag][0].match(text):
            raise _Wrong(
                "a value is not of the type that its tag names; leave out the tag", node.start_mark
            )

        if node.tag == _NULL:
            return "null"
        if node.tag == _BOOL:
            return str(text.lower())

        number = _json_number(text)
        if number is None:
            raise _Wrong(f"{text} is not a JSON number; put it in quotes", node.start_mark)
        return number

    def _members(self, node: Any, depth: int) -> Members:
        """What `<<` merges gives way to what the mapping itself has, and to what was merged
        before it."""
        self._enter(node, depth, _MAPPING)
        own: Members = {}
        merged: Members = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(other, yaml.MappingNode):
                        raise _Wrong("<< takes mappings", other.start_mark)
                    for name, member in self._members(other, depth + 1).items():
                        self._count(other)
                        merged.setdefault(name, member)
                continue
            if not isinstance(key, yaml.ScalarEvent) or key.tag != _TEXT:
                raise _Wrong("the name of a member is not text; put it in quotes", key.start_mark)
            if key.value in own:
                raise _Wrong(f"{key.value!r} is given twice in one mapping", key.start_mark)
            own[key.value] = (key, value)
        return merged | own

    def _enter(self, node: Any, depth: int, tag: str) -> None:
        """Refuse what JSON cannot hold, or no memory."""
        self._count(node)
        if node.tag != tag:
            raise _unknown_tag(node)
        if depth >= DEEPEST:
            raise _Wrong("nested too deeply", node.start_mark)

    def _count(self, node: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise _Wrong(
                f"the value has more than {_MOST_NODES:,} parts with its aliases written out",
                node.start_mark,
            )


def _unknown_tag(node: Any) -> _Wrong:
    tag = str(node.tag).replace(_STANDARD, "!!")
    return _Wrong(f"the tag {tag!r} means nothing here; leave it out", node.start_mark)


def _json_number(text: str) -> str | None:
    """The same number as JSON spells it, digit by digit; None for infinity and NaN."""
    if text[:2] in ("0o", "0x"):
        return str(int(text, 0))
    decimal = _DECIMAL.match(text)
    if decimal is None:
        return None
    sign, whole, dot, fraction, exponent = decimal.groups()
    behind = f".{fraction or '0'}" if dot else ""
    return f"{sign.replace('+', '')}{whole or '0'}{behind}{exponent or ''}"


def yaml_line(key: str, value: Any) -> str:
    """One member of the mapping that is the whole file, as YAML text."""

    def written(*, allow_unicode: bool) -> str:
        text: str = yaml.dump(
            {key: value}, Dumper=_Dumper, allow_unicode=allow_unicode, default_flow_style=False,
            sort_keys=False,
            width=2**20,
        )  # fmt: skip
        return text

    text = written(allow_unicode=True)
    # what YAML knows as printable may turn the direction of text
    hides = not text.replace("\n", "").isprintable()
    return written(allow_unicode=False) if hides else text
