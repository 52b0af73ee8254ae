"""The other reader: any text that the compiled converter would not take, read
by protobuf's own JSON reader.

It decides what is valid, with additions that protobuf itself would refuse or drop, but Go
writes or reads: well-known types as plain messages, oneofs as `{"Choice": {"Member": value}}`, the
largest 32-bit float, rounded up, and names that differ in case alone. The first are replaced by
their zero value, and filled in after protobuf has read the rest.

What protobuf's reader takes for nothing, though it stands for something that is not known here, is
invalid: the unknown name of an enum, and what is not an object where a message is wanted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datasync.codec.protobuf_decode import go_member
from datasync.codec.wellknown import (
    MAX_DEPTH,
    TREES,
    enum_of,
    fit_float32,
    folded,
    go_name,
    is_map,
    is_plain_struct,
    is_repeated,
    key_and_value,
    resolve,
    true_oneofs,
)

__all__ = ["Invalid", "read"]

Path = tuple[tuple[FieldDescriptor, Any], ...]
"""From a message to one inside it: fields, each with the index or key in it
(None for a singular field)."""
Fields = Mapping[str, FieldDescriptor]
"""Those of a message by the keys that name them, as `resolve` has them."""
Plain = Callable[[Descriptor, Any], Message]
"""Makes a well-known type of its plain form."""

_ZEROS: dict[str, Any] = {
    "google.protobuf.Timestamp": "1970-01-01T00:00:00Z",
    "google.protobuf.Duration": "0s",
    "google.protobuf.FieldMask": "",
    "google.protobuf.Any": {},
    "google.protobuf.BoolValue": False,
    "google.protobuf.StringValue": "",
    "google.protobuf.BytesValue": "",
}
_TYPES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


class Invalid(Exception):
    """The text is not a value of the message type; the message says why,
    without quoting the text."""


def read(cls: type[Message], raw: bytes, plain: Plain) -> Message:
    """The message that `raw` stands for. Raises `Invalid`."""
    parsed = _parse(raw)
    goal, descriptor = cls(), cast(Descriptor, cls.DESCRIPTOR)
    found: list[tuple[Path, Any]] = []
    try:
        parsed = _without_go_forms(parsed, descriptor, (), found)
        ParseDict(parsed, goal, ignore_unknown_fields=True)
    except Invalid:
        raise
    except Exception:  # protobuf's reader lets several types through, and its texts quote the value
        raise Invalid(_blame(parsed, descriptor, "")) from None
    for path, value in found:
        target: Any = goal
        for field, index in path:
            inner = target.Extensions[field] if field.is_extension else getattr(target, field.name)
            target = inner if index is None else inner[index]
        try:
            target.CopyFrom(plain(target.DESCRIPTOR, value))
        except Exception:  # for the same reason
            raise Invalid(f"field {_named(path)!r} takes {target.DESCRIPTOR.full_name}") from None
    return goal


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise Invalid(f"it is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        if not raw:
            raise Invalid("it is empty") from None
        raise Invalid(f"it is not JSON (line {error.lineno}, column {error.colno})") from None
    except (ValueError, RecursionError):
        raise Invalid("it is JSON with a number too long or nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Invalid("an object gives a key twice")
    return found


def _without_go_forms(
    value: Any, descriptor: Descriptor, path: Path, found: list[tuple[Path, Any]]
) -> Any:
    """`value` as protobuf's reader takes it; what was taken out is noted in `found`."""
    if len(path) >= MAX_DEPTH:
        raise Invalid(f"it nests more than {MAX_DEPTH} messages")

    name = descriptor.full_name
    if name in TREES:
        return value
    if is_plain_struct(descriptor):
        if type(value) is not dict:
            if name == "google.protobuf.FieldMask" and type(value) is not str:
                raise Invalid(f"field {_named(path)!r} takes {name}")
            return value
        if name == "google.protobuf.Any" and "@type" in value:
            _check_packed(value, descriptor, path)
            return value
        found.append((path, value))
        return _ZEROS.get(name, 0)

    if type(value) is not dict:
        raise Invalid(
            f"field {_named(path)!r} takes an object"
            if path
            else f"it is not a JSON object, as {name} is"
        )

    known = resolve(descriptor)
    value = _with_own_names(_without_go_oneofs(value, descriptor, known), descriptor, known)

    for key, content in value.items():
        field = known.get(key) or _extension(descriptor, key)
        if field is None or content is None:
            continue
        if field.message_type is None:
            many, where = type(content) is list, (*path, (field, None))
            scalars = [_scalar(field, item, where) for item in (content if many else [content])]
            value[key] = scalars if many else scalars[0]
        elif is_map(field) and type(content) is dict:
            each, where = key_and_value(field)[1], (*path, (field, None))
            inner = each.message_type
            if inner is None:
                value[key] = {at: _scalar(each, item, where) for at, item in content.items()}
            else:
                value[key] = {
                    at: _without_go_forms(item, inner, (*path, (field, index)), found)
                    for at, index, item in _entries(field, content)
                }
        elif is_repeated(field) and type(content) is list:
            value[key] = [
                _without_go_forms(item, field.message_type, (*path, (field, at)), found)
                for at, item in enumerate(content)
            ]
        elif not is_repeated(field):
            value[key] = _without_go_forms(
                content, field.message_type, (*path, (field, None)), found
            )
    return value


def _named(path: Path) -> str:
    return ".".join(field.name for field, _ in path)


def _scalar(field: FieldDescriptor, value: Any, path: Path) -> Any:
    """One value of a field, as protobuf's reader takes it."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return fit_float32(value)
    if field.enum_type is not None and type(value) is str and not _names(enum_of(field), value):
        raise Invalid(f"field {_named(path)!r} takes {field.enum_type.full_name}")
    return value


def _names(enum: EnumDescriptor, text: str) -> bool:
    """Whether the text is the name of a value, or its number, which protobuf's reader takes."""
    if text in enum.values_by_name:
        return True
    try:
        int(text)
    except ValueError:
        return False
    return True


def _check_packed(value: dict[str, Any], descriptor: Descriptor, path: Path) -> None:
    """Raise `Invalid` for what an Any must not hold; the rest protobuf's reader decides."""
    content: Any = {key: item for key, item in value.items() if key != "@type"}
    try:
        inner = descriptor.file.pool.FindMessageTypeByName(str(value["@type"]).rpartition("/")[2])
    except KeyError:
        return
    if inner.full_name in TREES or is_plain_struct(inner):
        content = content.get("value")
    if content is not None:
        _without_go_forms(content, inner, path, [])


def _with_own_names(value: dict[str, Any], descriptor: Descriptor, known: Fields) -> dict[str, Any]:
    """Keys that differ from the name of a field in case alone are that name."""
    unknown = [key for key in value if key not in known]
    fields = folded(descriptor) if unknown else {}
    for key in unknown:
        if (field := fields.get(key.lower())) is not None:
            if field.name in value:
                raise Invalid(f"field {field.name!r} is given twice")
            value[field.name] = value.pop(key)
    return value


def _without_go_oneofs(
    value: dict[str, Any], descriptor: Descriptor, known: Fields
) -> dict[str, Any]:
    value = dict(value)
    for name, fields in true_oneofs(descriptor):
        key = go_name(name)
        if key in value and key not in known:
            member = go_member(value[key], {go_name(field.name): field.name for field in fields})
            if member is None:
                continue
            if value.get(member) is not None:
                raise Invalid(f"oneof {name!r} is set twice")
            (value[member],) = value.pop(key).values()
    return value


def _entries(field: FieldDescriptor, content: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The entries of a map: the key in the text, in the message, and the value."""
    kind = key_and_value(field)[0].cpp_type
    for key, value in content.items():
        if kind == FieldDescriptor.CPPTYPE_STRING:
            yield key, key, value
        elif kind == FieldDescriptor.CPPTYPE_BOOL:
            yield key, key == "true", value
        else:
            try:
                yield key, _integer(key), value
            except ValueError:
                raise Invalid(f"field {field.name!r} takes integers as keys") from None


def _integer(text: str) -> int:
    """The key of a map: as newer protobuf reads it, `1.0` is one too. Raises `ValueError`."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


def _extension(descriptor: Descriptor, key: str) -> FieldDescriptor | None:
    if not (key.startswith("[") and key.endswith("]")):
        return None
    try:
        found: FieldDescriptor = descriptor.file.pool.FindExtensionByName(key[1:-1])
    except KeyError:
        return None
    return found if found.containing_type is descriptor else None


def _blame(value: Any, descriptor: Descriptor, path: str) -> str:
    """Why protobuf's reader refuses `value`, found by trying each field alone."""
    if type(value) is not dict:
        return (
            f"field {path!r} takes an object"
            if path
            else f"it is not a JSON object, as {descriptor.full_name} is"
        )
    known = resolve(descriptor)
    for key, content in value.items():
        try:
            ParseDict({key: content}, GetMessageClass(descriptor)(), ignore_unknown_fields=True)
        except Exception:  # whatever it raises, this is the field
            field = known.get(key)
            if field is None:
                return (
                    f"an extension in {path!r} has a wrong value"
                    if path
                    else "an extension has a wrong value"
                )
            return _blame_field(field, content, f"{path}.{field.name}" if path else field.name)
    return f"the fields of {path!r} exclude each other" if path else "its fields exclude each other"


def _blame_field(field: FieldDescriptor, content: Any, path: str) -> str:
    inner, items = field.message_type, [content]
    if inner is not None and is_map(field):
        if type(content) is not dict:
            return f"field {path!r} takes an object"
        field, items = key_and_value(field)[1], list(content.values())
        inner = field.message_type
    elif is_repeated(field):
        if type(content) is not list:
            return f"field {path!r} takes a list"
        items = content
    if inner is None:
        wanted = field.enum_type.full_name if field.enum_type is not None else _TYPES[field.type]
        return f"field {path!r} takes {wanted}"
    if inner.full_name not in TREES and not is_plain_struct(inner):
        for item in items:
            try:
                ParseDict(item, GetMessageClass(inner)(), ignore_unknown_fields=True)
            except Exception:  # whatever it raises, this is the item
                return _blame(item, inner, path)
    return f"field {path!r} takes {inner.full_name}"
