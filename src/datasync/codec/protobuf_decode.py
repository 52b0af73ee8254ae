"""From parsed JSON to the arguments of a message class, by functions
compiled once for each descriptor.

`compile_message` makes a function that walks a parsed JSON object once and turns it, in place, into
keyword arguments for the message class: sub-messages stay dicts, which the class takes as they are.
It knows the usual forms: names as in the .proto, in any case, or their JSON names, and the values
that Go, this package or protobuf's own JSON write. On anything else it raises `Unusual`, and the
caller reads the text again with protobuf's own, slower reader, which decides. So whatever is
accepted here must mean the same there; nothing has to be rejected here for the right reason.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from datasync.codec.wellknown import (
    FLOAT32_MAX,
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
    message_of,
    resolve,
    true_oneofs,
)

__all__ = ["Convert", "Unusual", "compile_message"]

Convert = Callable[[Any, int, list[int]], Any]
"""(JSON value, depth of the message it lies in: 0 for none, where to note the size of
each object met) -> argument."""

_INTEGERS = frozenset({
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
})  # fmt: skip
_NO_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})
# beyond it, the float may be a rounded integer: the parser gives floats for those above 64 bits
_EXACT = 2.0**53
_UNREAD_DEPTH = 64


class Unusual(Exception):
    """A form that only protobuf's own reader is trusted with."""


def compile_message(descriptor: Descriptor, plans: dict[str, Convert]) -> Convert:
    """The converter of a message type; `plans` holds those made so far, by full
    name, so that types may recur."""
    name = descriptor.full_name
    if name not in plans:
        if name in TREES or is_plain_struct(descriptor):
            plans[name] = _well_known(descriptor, plans)
        else:
            _ordinary(descriptor, plans, name)
    return plans[name]


def _ordinary(descriptor: Descriptor, plans: dict[str, Convert], plan_name: str) -> Convert:
    """Compile the converter of a message in its plain form, and register it
    before its fields are compiled."""
    taken_as_is: dict[str, type] = {}
    converters: dict[str, Convert] = {}
    settle_rest = _Rest(descriptor)
    type_of, converter_of = taken_as_is.get, converters.get

    def convert(js: Any, depth: int, sizes: list[int]) -> Any:
        depth += 1
        if type(js) is not dict or depth > MAX_DEPTH:
            raise Unusual
        sizes.append(len(js))
        rest = None
        for key, value in js.items():
            if type(value) is type_of(key):
                continue
            converter = converter_of(key)
            if converter is not None and value is not None:
                js[key] = converter(value, depth, sizes)
            elif rest is None:
                rest = [key]
            else:
                rest.append(key)
        if rest is not None:
            settle_rest(js, rest, depth, sizes)
        return js

    plans[plan_name] = convert
    grouped = {field.name for _, fields in true_oneofs(descriptor) for field in fields}
    for key, field in resolve(descriptor).items():
        as_is, converter = _field(field, plans)
        settle_rest.fields[key] = field, as_is, converter
        if key == field.name and field.name not in grouped:
            converters[key] = converter
            if as_is is not None:
                taken_as_is[key] = as_is
    return convert


class _Rest:
    """Deals with the keys of an object that are not plainly a field with a usual value.

    Those are members of oneofs (two must not be set), JSON names that differ from the name in the
    .proto (both must not be given), names that differ in case alone, nulls, unknown keys, and
    oneofs as Go writes them: `{"Choice": {"Member": value}}`.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self.fields: dict[str, tuple[FieldDescriptor, type | None, Convert]] = {}
        self._folded = {name: field.name for name, field in folded(descriptor).items()}
        known = resolve(descriptor)
        self._go_oneofs = {
            go_name(name): {go_name(field.name): field.name for field in fields}
            for name, fields in true_oneofs(descriptor)
            if go_name(name) not in known
        }

    def __call__(self, js: dict[str, Any], keys: list[str], depth: int, sizes: list[int]) -> None:
        chosen: set[str] = set()
        for key in keys:
            value = js.pop(key)
            if key not in self.fields:
                members = self._go_oneofs.get(key)
                member = go_member(value, members) if members is not None else None
                if member is not None:
                    sizes.append(1)
                    (value,) = value.values()
                    key = member
                elif (name := self._folded.get(key.lower())) is not None:
                    key = name
                else:
                    self._skip(key, value, sizes)
                    continue

            field, as_is, converter = self.fields[key]
            if field.name in js:
                raise Unusual

            if value is None:
                if takes_null(field):
                    raise Unusual
                continue

            oneof = field.containing_oneof
            if oneof is not None:
                if oneof.name in chosen:
                    raise Unusual
                chosen.add(oneof.name)

            js[field.name] = value if type(value) is as_is else converter(value, depth, sizes)

    @staticmethod
    def _skip(key: str, value: Any, sizes: list[int]) -> None:
        if key.startswith("["):  # an extension
            raise Unusual
        if type(value) is dict or type(value) is list:
            sizes.append(_members(value, _UNREAD_DEPTH))


def go_member(value: Any, members: Mapping[str, str]) -> str | None:
    """The .proto name of the member that Go's form of a oneof sets; None if
    it is not in that form."""
    if type(value) is dict and len(value) == 1:
        ((name, content),) = value.items()
        if content is not None:
            return members.get(name)
    return None


def takes_null(field: FieldDescriptor) -> bool:
    """Whether null is a value of the field instead of its absence."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return message_of(field).full_name == "google.protobuf.Value"
    return (
        field.cpp_type == FieldDescriptor.CPPTYPE_ENUM
        and enum_of(field).full_name == "google.protobuf.NullValue"
    )


def _members(value: Any, room: int) -> int:
    """The number of members of all objects in `value`.

    What protobuf's reader may take for something other than what the text says is `Unusual`: a
    float that may have been an integer of more than 64 bits, and nesting deeper than every
    parser supports.
    """
    if type(value) is dict:
        below: Any = value.values()
        count = len(value)
    elif type(value) is list:
        below, count = value, 0
    elif type(value) is float and abs(value) >= _EXACT:
        raise Unusual
    else:
        return 0
    if not room:
        raise Unusual
    for item in below:
        count += _members(item, room - 1)
    return count


def _well_known(descriptor: Descriptor, plans: dict[str, Convert]) -> Convert:
    """Go's plain form is an ordinary message; the other form is left to protobuf's
    reader, for this value alone."""
    has_plain_form = is_plain_struct(descriptor)
    is_any = descriptor.full_name == "google.protobuf.Any"
    is_mask = descriptor.full_name == "google.protobuf.FieldMask"
    plain = (
        _ordinary(descriptor, plans, descriptor.full_name + " (plain)") if has_plain_form else None
    )
    cls = GetMessageClass(descriptor)

    def convert(value: Any, depth: int, sizes: list[int]) -> Any:
        if plain is not None and type(value) is dict:
            if is_any and "@type" in value:
                raise Unusual
            return plain(value, depth, sizes)
        if is_mask and type(value) is not str:  # protobuf's reader takes `[]` and 0, too
            raise Unusual
        sizes.append(_members(value, _UNREAD_DEPTH))
        return ParseDict(
            value, cls(), ignore_unknown_fields=True, max_recursion_depth=MAX_DEPTH - depth
        )

    return convert


def _field(field: FieldDescriptor, plans: dict[str, Convert]) -> tuple[type | None, Convert]:
    """For one field: the type of JSON values that the class takes as they are,
    and what converts the others."""
    if is_map(field):
        return None, _map(field, plans)
    as_is, one = _single(field, plans)
    if not is_repeated(field):
        return as_is, one
    if as_is is None:
        return None, _repeated(one)
    only = frozenset({as_is})

    def several(value: Any, depth: int, sizes: list[int]) -> Any:
        if type(value) is not list:
            raise Unusual
        if {*map(type, value)} <= only:
            return value
        return [item if type(item) is as_is else one(item, depth, sizes) for item in value]

    return None, several


def _repeated(one: Convert) -> Convert:
    def several(value: Any, depth: int, sizes: list[int]) -> Any:
        if type(value) is not list:
            raise Unusual
        return [one(item, depth, sizes) for item in value]

    return several


def _single(field: FieldDescriptor, plans: dict[str, Convert]) -> tuple[type | None, Convert]:
    """The same for one value of the field. The message class checks the
    numbers of integers and enums."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return None, compile_message(message_of(field), plans)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return int, _enum(enum_of(field))
    if kind in _INTEGERS:
        return int, _integer
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return float, _double
    if kind == FieldDescriptor.CPPTYPE_FLOAT:
        return None, _float
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return bool, _no_other
    return (None, _bytes) if field.type == FieldDescriptor.TYPE_BYTES else (str, _no_other)


def _map(field: FieldDescriptor, plans: dict[str, Convert]) -> Convert:
    key_field, value_field = key_and_value(field)
    as_is, one = _single(value_field, plans)
    only = frozenset({as_is})
    wrap = (
        GetMessageClass(value_field.message_type) if value_field.message_type is not None else None
    )
    convert_key: Callable[[str], Any] | None = None
    if key_field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        convert_key = {"true": True, "false": False}.__getitem__
    elif key_field.cpp_type in _INTEGERS:
        convert_key = _integer_key

    def pairs(value: Any, depth: int, sizes: list[int]) -> Any:
        if type(value) is not dict:
            raise Unusual
        sizes.append(len(value))
        if wrap is not None:  # not every protobuf makes messages of the dicts in a map
            for key, item in value.items():
                made = one(item, depth, sizes)
                value[key] = wrap(**made) if type(made) is dict else made
        elif not {*map(type, value.values())} <= only:
            for key, item in value.items():
                if type(item) is not as_is:
                    value[key] = one(item, depth, sizes)
        return (
            value
            if convert_key is None
            else {convert_key(key): item for key, item in value.items()}
        )

    return pairs


def _integer_key(text: str) -> int:
    number = int(text)
    if str(number) != text:  # 01 and 1 would be one key
        raise Unusual
    return number


def _no_other(value: Any, depth: int, sizes: list[int]) -> Any:
    raise Unusual


def _integer(value: Any, depth: int, sizes: list[int]) -> int:
    if type(value) is str and len(value) < 21:
        number = int(value)
        if str(number) == value:
            return number
    elif type(value) is float and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    raise Unusual


def _double(value: Any, depth: int, sizes: list[int]) -> float:
    # the parser gives no infinities and no NaN; they come as text
    if type(value) is int or type(value) is float:
        return float(value)
    if type(value) is str and value in _NO_NUMBERS:
        return float(value)
    raise Unusual


def _float(value: Any, depth: int, sizes: list[int]) -> float:
    number: float = fit_float32(_double(value, depth, sizes))
    if FLOAT32_MAX < abs(number) < inf:
        raise Unusual
    return number


def _bytes(value: Any, depth: int, sizes: list[int]) -> bytes:
    if type(value) is not str or len(value) % 4 or "-" in value or "_" in value:
        raise Unusual
    return a2b_base64(value + "====")


def _enum(enum: EnumDescriptor) -> Convert:
    numbers = {name: value.number for name, value in enum.values_by_name.items()}

    def number(value: Any, depth: int, sizes: list[int]) -> int:
        if type(value) is str and value in numbers:
            return numbers[value]
        raise Unusual

    return number
