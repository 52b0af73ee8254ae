"""Everything but protobuf: bytes and text as they are, the types that msgspec knows
as JSON, and pydantic's."""

from __future__ import annotations

import json
import re
from typing import Any, Generic, TypeVar

import msgspec

from datasync.codec.floats import may_hold_floats, model_may_hold_floats
from datasync.codec.shared import UNDECODABLE, OfType
from datasync.errors import BadValue, DecodeError

__all__ = ["Bytes", "JsonValues", "PydanticValues", "Text"]

T = TypeVar("T")

# What msgspec says of a type mismatch; its other texts may quote the value.
_SAFE = re.compile(
    r"(Expected `[^`]*`(?: of length .*| [<>]=? .*)?(?:, got `[^`]*`)?|Object missing required "
    r"field `[^`]*`)$"
)
_AT = re.compile(r" - at `([^`]*)`$")
_LISTS = (list, tuple, set, frozenset)
"""What JSON has a list for."""


class Bytes:
    """Bytes, stored as they are."""

    content_type = "application/octet-stream"

    def encode(self, value: bytes) -> bytes:
        """`value` itself."""
        return value

    def decode(self, key: str, raw: bytes) -> bytes:
        """`raw` itself."""
        return raw


class Text:
    """Text, stored as its characters in UTF-8, as the command line and REST store it."""

    content_type = "text/plain; charset=utf-8"

    def encode(self, value: str) -> bytes:
        """The characters of `value`. Raises `BadValue`."""
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise BadValue(
                f"character {error.start} is half of a surrogate pair; store text that UTF-8 can "
                "hold, or bytes"
            ) from None

    def decode(self, key: str, raw: bytes) -> str:
        """The characters that `raw` holds. Raises `DecodeError`."""
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(key, f"it is not UTF-8 (byte {error.start})") from None


class JsonValues(OfType, Generic[T]):
    """JSON of any type that msgspec reads: Structs, dataclasses,
    TypedDicts, dict, list, int, ... but not text alone."""

    content_type = "application/json"

    def __init__(self, type_: Any) -> None:
        super().__init__(type_)
        try:
            info = msgspec.inspect.type_info(type_)
            known = not isinstance(info, msgspec.inspect.CustomType)
            self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_)
        except (TypeError, ValueError):
            known = False
        if not known:
            raise BadValue(
                f"there is no codec for {type_!r}; use bytes, str, a protobuf message, "
                "msgspec.Struct, dataclass or model"
            )
        if _may_be_text(info):
            raise BadValue(
                f"{type_!r} may be text alone, which is stored as its characters and not as JSON, "
                "so nobody could tell the two apart; use str and check it in the handler, or make "
                "it a field of a class"
            )
        self._encode = msgspec.json.Encoder(order="deterministic").encode
        self._with_floats = may_hold_floats(info)

    def encode(self, value: T) -> bytes:
        """The JSON of `value`. Raises `BadValue`."""
        try:
            try:
                raw = self._encode(value)
            except TypeError:  # msgspec sorts only keys that are text
                raw = self._encode(msgspec.to_builtins(value, str_keys=True))
            if self._with_floats and b"null" in raw:
                _check_numbers(
                    msgspec.to_builtins(value, str_keys=True, order="deterministic"),
                    json.loads(raw),
                )
        except (TypeError, ValueError, RecursionError) as error:
            raise BadValue(f"{error}; store what msgspec can write as JSON") from None
        return raw

    def decode(self, key: str, raw: bytes) -> T:
        """The value that the JSON in `raw` stands for. Raises `DecodeError`."""
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise DecodeError(key, _reason(str(error))) from None
        except UNDECODABLE:
            raise DecodeError(key, "it is not JSON" if raw else "it is empty") from None
        except Exception as error:  # of a __post_init__; its text may quote the value
            raise DecodeError(key, f"its type raises {type(error).__name__}") from None


def _may_be_text(info: msgspec.inspect.Type) -> bool:
    """Whether a str is among the values of the type."""
    match info:
        case msgspec.inspect.StrType():
            return True
        case msgspec.inspect.LiteralType(values=values):
            return any(isinstance(value, str) for value in values)
        case msgspec.inspect.UnionType(types=types):
            return any(map(_may_be_text, types))
        case msgspec.inspect.Metadata(type=inner):
            return _may_be_text(inner)
    return False


def _check_numbers(value: Any, written: Any) -> None:
    """Raise `ValueError` where a number in `value` was written as null, which nobody
    would read back as that number."""
    if type(value) is dict and type(written) is dict:
        if all(key in written for key in value):
            written = {key: written[key] for key in value}
        # otherwise they are in the order in which pydantic wrote them: its keys are text by now
        for item, its in zip(value.values(), written.values(), strict=False):
            _check_numbers(item, its)
    elif isinstance(value, _LISTS) and type(written) is list:
        for item, its in zip(value, written, strict=False):
            _check_numbers(item, its)
    elif type(value) is float and written is None:
        raise ValueError(f"JSON has no {value!r}")


def _reason(text: str) -> str:
    at = _AT.search(text)
    what = _SAFE.match(text[: at.start()] if at else text)
    return (what[0] if what else "a value that its type does not allow") + (
        f" at {at[1]}" if at else ""
    )


class PydanticValues(OfType, Generic[T]):
    """JSON of a pydantic model or dataclass, by its aliases, which is how
    pydantic reads it back."""

    content_type = "application/json"

    def __init__(self, type_: Any) -> None:
        from pydantic import TypeAdapter, ValidationError

        super().__init__(type_)
        self._adapter: TypeAdapter[T] = TypeAdapter(type_)
        self._invalid = ValidationError
        self._with_floats = model_may_hold_floats(self._adapter.core_schema)

    def encode(self, value: T) -> bytes:
        """The JSON of `value`. Raises `BadValue`."""
        try:
            raw = self._adapter.serializer.to_json(value, by_alias=True, round_trip=True)
            if self._with_floats and b"null" in raw:
                # not mode="json", which turns such numbers into None where the type does not say
                python = self._adapter.dump_python(value, by_alias=True, round_trip=True)
                _check_numbers(python, json.loads(raw))
        except (TypeError, ValueError, RecursionError) as error:
            raise BadValue(f"{error}; store what pydantic can write as JSON") from None
        return raw

    def decode(self, key: str, raw: bytes) -> T:
        """The value that the JSON in `raw` stands for. Raises `DecodeError`."""
        try:
            return self._adapter.validate_json(raw)
        except self._invalid as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            path = ".".join(map(str, first["loc"]))
            where = f"field {path!r}: " if path else ""
            raise DecodeError(key, where + first["type"].replace("_", " ")) from None
        except Exception as error:  # of a validator; its text may quote the value
            raise DecodeError(key, f"its type raises {type(error).__name__}") from None
