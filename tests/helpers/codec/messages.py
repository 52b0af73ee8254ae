"""Random messages and random JSON for them, and the comparison with protobuf's own reader."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any, cast

from google.protobuf import any_pb2, json_format, struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from datasync.codec import codec_for
from datasync.codec.wellknown import (
    TREES,
    enum_of,
    go_name,
    is_map,
    is_plain_struct,
    is_repeated,
    key_and_value,
    message_of,
    resolve,
    true_oneofs,
)
from datasync.errors import DecodeError
from tests.helpers.codec.odd import ODD
from tests.helpers.codec.protos import classic_pb2, known_pb2, modern_pb2

MODERN = [
    modern_pb2.Scalars,
    modern_pb2.Repeated,
    modern_pb2.Presence,
    modern_pb2.Choices,
    modern_pb2.Maps,
    modern_pb2.Names,
    modern_pb2.Tree,
    modern_pb2.Interface,
]
CLASSIC = [classic_pb2.Old]
KNOWN = [known_pb2.Plain, known_pb2.Trees]
ALL: list[type[Message]] = [*MODERN, *CLASSIC, *KNOWN]

TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            "a",
            "é",
            "\x00",
            '":',
            '\\":',
            "12:34:56:78:9a:bc",
            "\U0001f600",
            '"',
            "\\",
            "true",
            "1",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
KEYS = st.one_of(
    st.sampled_from(["", "a", "b", "[a.b]", "@type", 'x":']), st.text("abc:", max_size=3)
)
FLOAT32 = st.floats(width=32).map(lambda number: math.nan if math.isnan(number) else number)
FLOAT64 = st.floats().map(lambda number: math.nan if math.isnan(number) else number)
BYTES = st.binary(max_size=5)


def integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    edges = [
        n for n in (low, low + 1, -1, 0, 1, 2**53, 2**53 + 1, high - 1, high) if low <= n <= high
    ]
    return st.one_of(st.sampled_from(edges), st.integers(low, high))


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        known = [value.number for value in enum_of(field).values]
        return (
            st.sampled_from(known)
            if enum_of(field).is_closed
            else st.sampled_from([*known, 77, -(2**31)])
        )
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return BYTES if field.type == FieldDescriptor.TYPE_BYTES else TEXTS
    return {
        FieldDescriptor.CPPTYPE_INT32: integers(32, signed=True),
        FieldDescriptor.CPPTYPE_INT64: integers(64, signed=True),
        FieldDescriptor.CPPTYPE_UINT32: integers(32, signed=False),
        FieldDescriptor.CPPTYPE_UINT64: integers(64, signed=False),
        FieldDescriptor.CPPTYPE_FLOAT: FLOAT32,
        FieldDescriptor.CPPTYPE_DOUBLE: FLOAT64,
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    }[kind]


@st.composite
def messages(draw: st.DrawFn, cls: type[Message], depth: int = 3) -> Message:
    """A message of `cls` with random fields."""
    descriptor = cast(Descriptor, cls.DESCRIPTOR)
    message: Any = cls()
    if isinstance(message, any_pb2.Any):
        message.Pack(
            draw(messages(draw(st.sampled_from([modern_pb2.Scalars, known_pb2.Plain])), 1))
        )
        return cast(Message, message)
    if isinstance(message, struct_pb2.Value):
        json_format.ParseDict(draw(trees()), message)
        return cast(Message, message)
    fields = [field for field in descriptor.fields if depth > 0 or field.message_type is None]
    chosen = (
        draw(st.lists(st.sampled_from(fields), max_size=5, unique_by=lambda field: field.name))
        if fields
        else []
    )
    for field in chosen:
        if is_map(field):
            key, value = key_and_value(field)
            for name in draw(st.lists(scalars(key), max_size=3)):
                if value.message_type is None:
                    getattr(message, field.name)[name] = draw(scalars(value))
                else:
                    inner = draw(messages(GetMessageClass(message_of(value)), depth - 1))
                    getattr(message, field.name)[name].CopyFrom(inner)
        elif field.message_type is not None:
            made = messages(GetMessageClass(message_of(field)), depth - 1)
            if is_repeated(field):
                getattr(message, field.name).extend(draw(st.lists(made, max_size=3)))
            else:
                getattr(message, field.name).CopyFrom(draw(made))
        elif is_repeated(field):
            getattr(message, field.name).extend(draw(st.lists(scalars(field), max_size=4)))
        else:
            setattr(message, field.name, draw(scalars(field)))
    return cast(Message, message)


def trees() -> st.SearchStrategy[Any]:
    """Free JSON, as a Value holds it."""
    leaves = st.one_of(
        st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)
        ),
        max_leaves=6,
    )


class Pairs(list[tuple[str, Any]]):
    """An object of JSON as a list of members, so that a key may come twice."""


def pairs(value: Any) -> Any:
    """Parsed JSON with its objects as `Pairs`."""
    if isinstance(value, dict):
        return Pairs((key, pairs(item)) for key, item in value.items())
    return [pairs(item) for item in value] if isinstance(value, list) else value


def text(value: Any, blank: str = "") -> str:
    """JSON text of such a value, with `blank` around everything. `Raw` is written as it is."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Pairs):
        members = (
            f"{blank}{json.dumps(key)}{blank}:{blank}{text(item, blank)}{blank}"
            for key, item in value
        )
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(text(item, blank) for item in value) + "]"
    return json.dumps(value)


class Raw:
    """A piece of JSON, or of something like it, kept as text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Raw({self.text!r})"


@st.composite
def mutated(draw: st.DrawFn, cls: type[Message]) -> bytes:
    """The JSON of some message of `cls`, changed here and there."""
    message = draw(messages(cls))
    try:
        whole = json.loads(
            codec_for(cls).encode(message)
            if draw(st.booleans())
            else json_format.MessageToJson(
                message,
                preserving_proto_field_name=draw(st.booleans()),
                use_integers_for_enums=draw(st.booleans()),
            )
        )
    except json_format.SerializeToJsonError:
        whole = {}
    tree = pairs(whole)
    for _ in range(draw(st.integers(0, 3))):
        tree = _changed(draw, tree, cast(Descriptor, cls.DESCRIPTOR))
    raw = text(tree, draw(st.sampled_from(["", "", "", " ", "\n\t"]))).encode(
        "utf-8", "surrogatepass"
    )
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(raw)))
        put = draw(
            st.one_of(
                st.sampled_from([b"", b" ", b"\xff", b"\xef\xbb\xbf", b'"', b",", b"}", b"\x00"]),
                BYTES,
            )
        )
        raw = raw[:at] + put + raw[at + draw(st.integers(0, 2)) :]
    return raw


def _changed(draw: st.DrawFn, tree: Any, descriptor: Descriptor) -> Any:
    """One change at a random place: an odd value, a key more, a key twice, another name."""
    if not isinstance(tree, Pairs | list) or (tree and draw(st.integers(0, 5)) == 0) or tree == []:
        return (
            Raw(draw(st.sampled_from(ODD)))
            if not isinstance(tree, Pairs)
            else _more(draw, tree, descriptor)
        )
    if not tree:
        return _more(draw, cast(Pairs, tree), descriptor)
    at = draw(st.integers(0, len(tree) - 1))
    if not isinstance(tree, Pairs):
        return [*tree[:at], _changed(draw, tree[at], descriptor), *tree[at + 1 :]]
    key, value = tree[at]
    field = resolve(descriptor).get(key)
    inner = (
        field.message_type if field is not None and field.message_type is not None else descriptor
    )
    what = draw(st.integers(0, 5))
    if what == 0:
        return _more(draw, tree, descriptor)
    if what == 1:
        changed = (draw(_names(descriptor)), value)
    elif what == 2:
        return Pairs(
            [*tree, (key, draw(st.sampled_from([value, Raw(draw(st.sampled_from(ODD)))])))]
        )
    else:
        changed = (key, _changed(draw, value, inner))
    return Pairs([*tree[:at], changed, *tree[at + 1 :]])


def _more(draw: st.DrawFn, tree: Pairs, descriptor: Descriptor) -> Pairs:
    return Pairs([*tree, (draw(_names(descriptor)), Raw(draw(st.sampled_from(ODD))))])


def _names(descriptor: Descriptor) -> st.SearchStrategy[str]:
    known = [
        name
        for field in descriptor.fields
        for name in (field.name, field.json_name, field.name.upper(), go_name(field.name))
    ]
    odd = [
        "",
        "unknown",
        "[no.such]",
        "[datasync.tests.classic.ext_number]",
        "[datasync.tests.classic.ext_words]",
        "@type",
    ]
    return st.sampled_from(
        [*known, *odd, *(go_name(name) for name, _ in true_oneofs(descriptor)), "1", "-1", "true"]
    )


def reference(cls: type[Message], raw: bytes) -> bytes | None:
    """What protobuf's own reader makes of it, behind the rules that are ours; None for an error."""
    try:
        with contextlib.suppress(RecursionError):  # nothing of ours lies so deep
            whole = json.loads(
                raw.decode(),
                object_pairs_hook=Pairs,
                parse_int=Raw,
                parse_float=Raw,
                parse_constant=Raw,
            )
            renamed = ours(whole, cast(Descriptor, cls.DESCRIPTOR))
            raw = raw if renamed == whole else text(renamed).encode("utf-8", "surrogatepass")
        return bits(json_format.Parse(raw, cls(), ignore_unknown_fields=True))
    except Exception:  # it lets several types through
        return None


def ours(value: Any, descriptor: Descriptor) -> Any:
    """Names in another case are those of the fields, as in Go; `ValueError` for the unknown name
    of an enum, and for what is not an object where a message is wanted: protobuf drops them."""
    name = descriptor.full_name
    if name in TREES:
        return value
    if is_plain_struct(descriptor):
        if name == "google.protobuf.FieldMask" and not isinstance(value, str | Pairs):
            raise ValueError(name)
        if name == "google.protobuf.Any" and isinstance(value, Pairs):
            return packed(value, descriptor)
        return value
    if not isinstance(value, Pairs):
        raise ValueError(name)
    known = resolve(descriptor)
    found = Pairs()
    for key, item in value:
        if key not in known:
            alike = [field.name for field in descriptor.fields if field.name.lower() == key.lower()]
            key = alike[0] if alike else key
        field = known.get(key)
        if key.startswith("["):
            with contextlib.suppress(KeyError):
                field = descriptor.file.pool.FindExtensionByName(key[1:-1])
        found.append((key, item if field is None or item is None else ours_of(field, item)))
    return found


def ours_of(field: FieldDescriptor, value: Any) -> Any:
    """The same for the value of a field."""
    if is_map(field):
        each = key_and_value(field)[1]
        if isinstance(value, Pairs):
            return Pairs((key, ours_one(each, item)) for key, item in value)
        return value
    if is_repeated(field) and isinstance(value, list) and not isinstance(value, Pairs):
        return [ours_one(field, item) for item in value]
    return value if is_repeated(field) else ours_one(field, value)


def ours_one(field: FieldDescriptor, value: Any) -> Any:
    """The same for one value of it."""
    if field.message_type is not None:
        return ours(value, message_of(field))
    if isinstance(value, str) and (enum := field.enum_type) is not None:
        assert value in enum.values_by_name or isinstance(int(value), int)
    return value


def packed(value: Pairs, descriptor: Descriptor) -> Pairs:
    """The same for an Any, in which the names stay as they are."""
    content = dict(value)
    if "@type" in content:
        with contextlib.suppress(KeyError):
            inner = descriptor.file.pool.FindMessageTypeByName(
                str(content["@type"]).rpartition("/")[2]
            )
            rest = Pairs((key, item) for key, item in value if key != "@type")
            known = inner.full_name in TREES or is_plain_struct(inner)
            if not known or content.get("value") is not None:
                ours(content["value"] if known else rest, inner)
    return value


def decoded(cls: type[Message], raw: bytes) -> bytes | None:
    """What the codec makes of it; None for an error."""
    codec = codec_for(cls)
    try:
        return bits(codec.decode("some/key", raw))
    except DecodeError:
        return None


def bits(message: Message) -> bytes:
    """A form in which messages with NaN compare, too."""
    return message.SerializePartialToString(deterministic=True)


def has_go_form(value: Any, descriptor: Descriptor) -> bool:
    """Whether parsed JSON has somewhere what Go writes and protobuf's reader refuses or drops."""
    if not isinstance(value, dict) or descriptor.full_name in TREES:
        return False
    if is_plain_struct(descriptor):
        return not (descriptor.name == "Any" and "@type" in value)
    known = resolve(descriptor)
    if any(
        go_name(name) in value and go_name(name) not in known for name, _ in true_oneofs(descriptor)
    ):
        return True
    for key, content in value.items():
        field = known.get(key)
        if key.startswith("["):
            try:
                field = descriptor.file.pool.FindExtensionByName(key[1:-1])
            except KeyError:
                field = None
        if field is None or field.message_type is None:
            continue
        inner = (
            cast(Descriptor, key_and_value(field)[1].message_type)
            if is_map(field)
            else message_of(field)
        )
        items = content if isinstance(content, list) else [content]
        if is_map(field) and isinstance(content, dict):
            items = list(content.values())
        if inner is not None and any(has_go_form(item, inner) for item in items):
            return True
    return False


def parsed(raw: bytes) -> Any:
    """What the text is as JSON; None if it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
