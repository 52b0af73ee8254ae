"""What protobuf descriptors mean for the JSON of Go's encoding/json, shared by reading and writing.

Two groups of Google's well-known types need care. Go's `encoding/json` knows nothing of the forms
that protobuf JSON gives to a Timestamp, a Duration, a FieldMask, a wrapper or an Any: it writes the
plain struct, so we do as well, and read both. Struct, Value and ListValue have JSON methods of
their own in Go since golang/protobuf 1.4 (before, Go could not read back what it wrote), so they
have only the form that protobuf JSON gives them.
"""

from __future__ import annotations

import math
import re
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

__all__ = [
    "FLOAT32_MAX",
    "MAX_DEPTH",
    "TREES",
    "enum_of",
    "fit_float32",
    "folded",
    "go_name",
    "is_map",
    "is_plain_struct",
    "is_repeated",
    "key_and_value",
    "message_of",
    "resolve",
    "true_oneofs",
]

MAX_DEPTH = 100
"""How many messages may lie inside each other, the outermost included: the limit of
protobuf's own JSON reader."""

FLOAT32_MAX = float.fromhex("0x1.fffffep+127")
_FLOAT32_MAX_IN_GO = 3.4028235e38

TREES = frozenset({"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"})
"""The well-known types that are free JSON, in Go as here."""

_PLAIN_STRUCTS = frozenset(
    {
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
        "google.protobuf.FieldMask",
        "google.protobuf.Any",
    }
)


def is_plain_struct(descriptor: Descriptor) -> bool:
    """Whether Go writes this type as an ordinary message, while protobuf
    JSON has another form for it."""
    return (
        descriptor.full_name in _PLAIN_STRUCTS
        or descriptor.file.name == "google/protobuf/wrappers.proto"
    )


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether the field is repeated; maps are."""
    try:
        return bool(field.is_repeated)
    except AttributeError:  # protobuf before 6.31
        return bool(cast(Any, field).label == FieldDescriptor.LABEL_REPEATED)


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.type == FieldDescriptor.TYPE_MESSAGE and bool(
        message_of(field).GetOptions().map_entry
    )


def key_and_value(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """The fields that the keys and the values of a map are."""
    fields = message_of(field).fields_by_name
    return fields["key"], fields["value"]


def message_of(field: FieldDescriptor) -> Descriptor:
    """The type of a field that holds messages."""
    return cast(Descriptor, field.message_type)


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The type of a field that holds an enum."""
    return cast(EnumDescriptor, field.enum_type)


def true_oneofs(descriptor: Descriptor) -> list[tuple[str, list[FieldDescriptor]]]:
    """The oneofs and their members, without those that only carry the
    presence of a proto3 `optional`."""
    oneofs = [(oneof.name, list(oneof.fields)) for oneof in descriptor.oneofs]
    return [
        (name, fields) for name, fields in oneofs if len(fields) > 1 or name != "_" + fields[0].name
    ]


def resolve(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Every key that protobuf JSON reads as a field of the message; where two fields
    claim it, the JSON name wins."""
    keys = {field.name: field for field in descriptor.fields}
    keys.update((field.json_name, field) for field in descriptor.fields)
    return keys


def folded(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """The fields by their names in lower case: where no key is exactly one, Go's encoding/json
    takes one that differs in case alone, and of several fields the first."""
    return {field.name.lower(): field for field in reversed(descriptor.fields)}


def fit_float32(value: Any) -> Any:
    """`value`, but the largest 32-bit float instead of the decimal that Go writes for
    it, which is a little larger."""
    if type(value) is float and FLOAT32_MAX < abs(value) <= _FLOAT32_MAX_IN_GO:
        return math.copysign(FLOAT32_MAX, value)
    return value


def go_name(name: str) -> str:
    """The name that Go's generator makes of one in a .proto file: `my_field_2`
    becomes `MyField_2`, `_x` `XX`."""
    head, rest = ("X", name[1:]) if name.startswith("_") else ("", name)
    return head + re.sub(
        "_(?=[a-z])|([0-9]|.[a-z]*)",
        lambda word: (word[1] or "")[:1].upper() + (word[1] or "")[1:],
        rest,
    )
