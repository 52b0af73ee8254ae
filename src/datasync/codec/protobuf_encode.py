"""From a message to JSON in the dialect of Go's encoding/json, by functions
compiled once for each descriptor.

Names as in the .proto, enums and 64-bit integers as numbers, bytes in base64, well-known types as
plain messages, nothing that is unset (or zero without presence). The keys of maps are sorted, so
equal messages give equal bytes. Members of oneofs stand under their own names: what Go writes for a
oneof, Go cannot read. Go has no JSON for infinities, NaN and maps with bool keys; those are written
as protobuf JSON has them. So are extensions, which Go omits.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from math import isfinite, isnan
from struct import Struct as Packing
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from datasync.codec.wellknown import (
    FLOAT32_MAX,
    MAX_DEPTH,
    TREES,
    is_map,
    is_repeated,
    key_and_value,
    message_of,
)

__all__ = ["Write", "compile_writer"]

Write = Callable[[Any, int], Any]
"""(value, depth of the message it lies in: 0 for none) -> what the JSON
writer takes. Raises ValueError."""

_FLOAT32 = Packing("f")


class _Fields(dict[FieldDescriptor, "tuple[str, Write | None]"]):
    """For each field its name and writer (None: written as it is).
    Extensions are added as they are met."""

    def __init__(self, plans: dict[str, Write]) -> None:
        super().__init__()
        self._plans = plans

    def __missing__(self, field: FieldDescriptor) -> tuple[str, Write | None]:
        name = f"[{field.full_name}]" if field.is_extension else field.name
        self[field] = name, _field(field, self._plans)
        return self[field]


def compile_writer(descriptor: Descriptor, plans: dict[str, Write]) -> Write:
    """The writer of a message type; `plans` holds those made so far, by full
    name, so that types may recur."""
    if descriptor.full_name in plans:
        return plans[descriptor.full_name]
    if descriptor.full_name in TREES:
        return _tree
    fields = _Fields(plans)

    def write(message: Any, depth: int) -> dict[str, Any]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests more than {MAX_DEPTH} messages")
        js = {}
        for field, value in message.ListFields():
            name, convert = fields[field]
            js[name] = value if convert is None else convert(value, depth)
        return js

    plans[descriptor.full_name] = write
    for field in descriptor.fields:
        fields[field]
    return write


def _field(field: FieldDescriptor, plans: dict[str, Write]) -> Write | None:
    if is_map(field):
        return _map(field, plans)
    one = _single(field, plans)
    if not is_repeated(field):
        return one
    if one is None:
        return lambda value, _depth: value[:]
    return lambda value, depth: [one(item, depth) for item in value]


def _single(field: FieldDescriptor, plans: dict[str, Write]) -> Write | None:
    if field.message_type is not None:
        return compile_writer(message_of(field), plans)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return _float
    return _double if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else None


def _map(field: FieldDescriptor, plans: dict[str, Write]) -> Write:
    key, item = key_and_value(field)
    kind, one = key.cpp_type, _single(item, plans)
    name: Callable[[Any], str] = str
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        name = ("false", "true").__getitem__

    def pairs(value: Any, depth: int) -> dict[str, Any]:
        items = (
            value.items()
            if kind == FieldDescriptor.CPPTYPE_STRING
            else [(name(key), value[key]) for key in value]
        )
        if one is None:
            return dict(sorted(items))
        return {key: one(item, depth) for key, item in sorted(items)}

    return pairs


def _bytes(value: bytes, _depth: int) -> str:
    return b2a_base64(value, newline=False).decode()


def _double(value: float, _depth: int) -> float | str:
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _float(value: float, depth: int) -> float | str:
    """The shortest decimal that is this 32-bit float, as Go writes it, unless
    protobuf's reader finds it too large."""
    if not isfinite(value):
        return _double(value, depth)
    for digits in (6, 7, 8, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) <= FLOAT32_MAX and _FLOAT32.unpack(_FLOAT32.pack(short))[0] == value:
            return short
    return value


def _tree(message: Any, depth: int) -> Any:
    """A Struct, Value or ListValue as the JSON it stands for."""
    depth += 1
    if depth > MAX_DEPTH:
        raise ValueError(f"it nests more than {MAX_DEPTH} messages")
    name = message.DESCRIPTOR.name
    if name == "Struct":
        return {key: _tree(value, depth) for key, value in sorted(message.fields.items())}
    if name == "ListValue":
        return [_tree(value, depth) for value in message.values]
    kind = message.WhichOneof("kind")
    if kind is None:
        raise ValueError(
            "a google.protobuf.Value in it has no kind; set one, its null_value for null"
        )
    value = getattr(message, kind)
    if kind in ("struct_value", "list_value"):
        return _tree(value, depth)
    if kind == "number_value" and not isfinite(value):
        raise ValueError(
            "a google.protobuf.Value in it is infinite or not a number; JSON has no such numbers"
        )
    return None if kind == "null_value" else value
