"""Files of keys and values as YAML: one mapping, read with the place of every
mistake (needs the extra `cli`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from datasync.cli.jsonfile import BYTES, BadFile, Entry, decoded_base64, document, text_bytes
from datasync.errors import MissingExtra

try:
    import yaml
except ModuleNotFoundError:
    raise MissingExtra(
        "YAML needs the package PyYAML; install it with: pip install 'datasync[cli]', or use JSON "
        "or JSON lines"
    ) from None

__all__ = ["yaml_entries", "yaml_line"]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_MOST_NODES = 1_000_000
_DEEPEST = 100
_INDENTED = re.compile(rf"^[ \-?:]{{{_DEEPEST + 1}}}", re.MULTILINE)


class _Wrong(Exception):
    """What is wrong at a node."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem, self.mark = problem, mark


def yaml_entries(name: str, data: bytes) -> Iterator[Entry]:
    """The entries of a YAML file that is one mapping of keys to values; reads
    it whole. Raises `BadFile`."""
    text = document(name, data)
    loader = _Loader(text)
    try:
        try:
            _check_depth(text)
            root = loader.get_single_node()
            if root is None:
                return
            if not isinstance(root, yaml.MappingNode):
                raise _Wrong("expected a mapping of keys to values", root.start_mark)
            for key, value in root.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT:
                    raise _Wrong("the key is not text; put it in quotes", key.start_mark)
                mark = key.start_mark
                yield Entry(key.value, _raw(loader, value), mark.line + 1, mark.column + 1)
        finally:
            loader.dispose()
    except _Wrong as wrong:
        raise BadFile(name, wrong.mark.line + 1, wrong.mark.column + 1, wrong.problem) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise BadFile(name, line, column, error.problem or "is not YAML") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        problem = "a character that YAML does not allow"
        raise BadFile(
            name, before.count("\n") + 1, len(before) - before.rfind("\n"), problem
        ) from None
    except RecursionError:
        raise BadFile(name, 1, 1, "nested too deeply") from None


def _check_depth(text: str) -> None:
    """Refuse what is nested so deeply that libyaml, which builds its nodes by
    recursion, would end the process."""
    if text.count("[") + text.count("{") <= _DEEPEST and not _INDENTED.search(text):
        return  # each level takes a bracket, or a column
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise _Wrong("nested too deeply", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _raw(loader: Any, node: Any) -> bytes:
    """The bytes to store for the value of a node: a text as it is, anything
    else as compact JSON."""
    mark = node.start_mark
    if not isinstance(node, yaml.ScalarNode):
        _check_members(node, (), [_MOST_NODES])
    try:
        value = loader.construct_object(node, deep=True)
        if isinstance(value, bytes):  # !!binary
            return value
        if isinstance(value, str):
            return text_bytes(value)
        if isinstance(value, dict) and value.keys() == {BYTES}:
            return decoded_base64(value[BYTES])
        return text_bytes(
            json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        )
    except yaml.MarkedYAMLError:
        raise
    except TypeError as error:
        # json names the type: a date, a set, bytes below the top
        kind = str(error).split(" ")[3] if str(error).startswith("Object of type") else "this"
        raise _Wrong(
            f"a value of the type {kind} cannot be written as JSON; put it in quotes", mark
        ) from None
    except ValueError as error:
        raise _Wrong(str(error), mark) from None
    except (LookupError, AttributeError, ArithmeticError):  # which is how the library says it
        raise _Wrong(
            "a value is not of the type that its tag names; leave out the tag", mark
        ) from None


def _check_members(node: Any, above: tuple[Any, ...], left: list[int]) -> None:
    """Refuse what JSON cannot hold: member names that are not text or are given
    twice, a value that contains itself.

    Every alias counts as what it stands for; `left` is how many nodes may still come.
    """
    left[0] -= 1
    if left[0] < 0:
        raise _Wrong(
            f"the value has more than {_MOST_NODES:,} parts with its aliases written out",
            node.start_mark,
        )
    if node in above:
        raise _Wrong("the value contains itself", node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_members(item, (*above, node), left)
    elif isinstance(node, yaml.MappingNode):
        names = set()
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT:
                raise _Wrong("the name of a member is not text; put it in quotes", key.start_mark)
            if key.value in names:
                raise _Wrong(f"{key.value!r} is given twice in one mapping", key.start_mark)
            names.add(key.value)
            _check_members(value, (*above, node), left)


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
