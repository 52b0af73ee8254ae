"""Between values and the bytes that are stored: which codec serves which type.

bytes are stored as they are, text as its characters. Protobuf messages are stored as JSON in the
dialect of Go's `encoding/json`, or, with the dialect "proto", in their binary form. msgspec
Structs, dataclasses, pydantic models and whatever else msgspec knows are stored as JSON. Neither
protobuf nor pydantic is imported before one of their classes is asked for.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeVar, cast

from datasync.codec.plain import Bytes, JsonValues, PydanticValues, Text
from datasync.codec.shared import OfType
from datasync.errors import BadValue, MissingExtra, UsageError

__all__ = ["Codec", "codec_for", "encode"]

T = TypeVar("T")


class Codec(Protocol[T]):
    """How values of one type are stored."""

    content_type: str

    def encode(self, value: T) -> bytes:
        """The bytes to store; equal values give equal bytes. Raises `BadValue`."""

    def decode(self, key: str, raw: bytes) -> T:
        """The value that `raw`, stored under `key`, stands for. Raises `DecodeError`."""


_codecs: dict[str, dict[Any, Codec[Any]]] = {"json": {}, "proto": {}}


def codec_for(type_: type[T], dialect: str = "json") -> Codec[T]:
    """The codec of a type, made once. `dialect` is "json" or "proto"; it
    matters to protobuf messages alone.

    Raises `BadValue` for a type that no codec serves, `MissingExtra` if a package is needed for it.
    """
    try:
        codecs = _codecs[dialect]
    except (KeyError, TypeError):
        raise UsageError(f'there is no codec {dialect!r}; use "json" or "proto"') from None
    try:
        found = codecs.get(type_)
        if found is None:
            found = codecs[type_] = _make(type_, dialect)
    except TypeError:
        raise BadValue(f"{type_!r} is not a type that values can have; pass a class") from None
    return cast(Codec[T], found)


OfType.found_by = staticmethod(codec_for)


def encode(key: str, value: object, dialect: str) -> bytes:
    """The bytes to store for `value` under `key`, by the codec of its type.
    Raises `BadValue` naming the key."""
    type_ = type(value)
    if type_ is bytes:
        return cast(bytes, value)
    if type_ is bytearray or type_ is memoryview:
        return bytes(cast("bytearray | memoryview", value))
    try:
        if value is None:
            raise BadValue("None is not a value; use delete() to remove a key")
        codec = _codecs[dialect].get(type_) or codec_for(type_, dialect)
        return codec.encode(value)
    except BadValue as error:
        raise BadValue(f"the value for {key!r} cannot be stored: {error}") from None


def _make(type_: Any, dialect: str) -> Codec[Any]:
    if type_ is bytes:
        return Bytes()
    if type_ is str:
        return Text()
    if type_ is None or type_ is type(None):  # a null alone, which no value can be
        raise BadValue("None is not a type that values can have; use bytes, or leave out type=")
    if type_ in (bytearray, memoryview):
        raise BadValue(f"values cannot be read as {type_.__name__}; use bytes")
    if _is_message(type_):
        try:
            from datasync.codec.protobuf import BinaryMessages, JsonMessages
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"protobuf messages need the module {error.name}; install it with: pip install "
                "'datasync[protobuf]'"
            ) from None
        return BinaryMessages(type_) if dialect == "proto" else JsonMessages(type_)
    if hasattr(type_, "__pydantic_validator__"):
        return PydanticValues(type_)
    return JsonValues(type_)


def _is_message(type_: Any) -> bool:
    module = sys.modules.get("google.protobuf.message")
    return module is not None and isinstance(type_, type) and issubclass(type_, module.Message)
