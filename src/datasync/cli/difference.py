"""What differs between two states: key by key, and member by member where a key holds a JSON object
in both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from datasync.terminal.output import Output, fields, shown
from datasync.texts import printable

__all__ = ["Difference", "differences", "show_difference"]

Path = tuple[str, ...]

_MARKS = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "changed": ("~", "yellow"),
}


class Difference(NamedTuple):
    """A key that differs: what it holds on either side, None where it is absent."""

    key: str
    old: bytes | None
    new: bytes | None

    @property
    def op(self) -> Literal["added", "removed", "changed"]:
        """What happens to the key on the way from old to new."""
        return "added" if self.old is None else "removed" if self.new is None else "changed"


def differences(a: Mapping[str, bytes], b: Mapping[str, bytes]) -> Iterator[Difference]:
    """What changes on the way from `a` to `b`, in the order of the keys."""
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            yield Difference(key, a.get(key), b.get(key))


def show_difference(output: Output, difference: Difference) -> None:
    """Print it: a line for each key and for each member, or with --json an object for each key."""
    key, old, new = difference
    if output.json:
        values = ({} if new is None else fields("value", new)) | (
            {} if old is None else fields("prev", old)
        )
        output.record(op=difference.op, key=key, **values)
        return

    mark, colour = _MARKS[difference.op]
    members = _members(old, new)
    if members:
        output.line(output.paint(f"{mark} {printable(key)}", colour))
        for op, name, change in members:
            mark, colour = _MARKS[op]
            output.line("    " + output.paint(f"{mark} {printable(name)}  {change}", colour))
        return
    values_shown = " -> ".join(shown(value) for value in (old, new) if value is not None)
    output.line(output.paint(f"{mark} {printable(key)}  {values_shown}", colour))


def _members(old: bytes | None, new: bytes | None) -> list[tuple[str, str, str]]:
    """The members that differ, as operation, name and values; none unless both are objects."""
    before, after = _object(old), _object(new)
    if before is None or after is None:
        return []
    found = []
    for path in sorted(before.keys() | after.keys()):
        name, was, now = ".".join(path), before.get(path), after.get(path)
        if was is None:
            found.append(("added", name, str(now)))
        elif now is None:
            found.append(("removed", name, was))
        elif was != now:
            found.append(("changed", name, f"{was} -> {now}"))
    return found


class _Number(str):
    """A number as it is spelled: 1.0 and 1.00 are two values of a store."""

    __slots__ = ()


class _AsItStands(Exception):
    """A member that is given twice: which of them counts is for others to say."""


def _object(raw: bytes | None) -> dict[Path, str] | None:
    """The members of a JSON object, inner ones by the names that lead to them, and their values
    as JSON."""
    if raw is None or not raw.lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(
            raw.decode(),
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
            object_pairs_hook=_unique,
        )
        return dict(_leaves((), value))
    except (ValueError, RecursionError, _AsItStands):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _AsItStands
    return members


def _leaves(outer: Path, value: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _leaves((*outer, name), inner)
        else:
            yield (*outer, name), printable(_spelled(inner))


def _spelled(value: Any) -> str:
    """A value as JSON, its numbers as they stood."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(_spelled, value))}]"
    if isinstance(value, dict):
        members = (f"{_spelled(name)}:{_spelled(inner)}" for name, inner in value.items())
        return f"{{{','.join(members)}}}"
    return json.dumps(value, ensure_ascii=False)
