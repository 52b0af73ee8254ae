"""Protobuf messages, stored as JSON in the dialect of Go's encoding/json,
or in protobuf's binary form.

Reading JSON takes every form that protobuf JSON allows, and Go's own besides: well-known types as
plain messages, and oneofs as `{"Choice": {"Member": value}}`. Unknown fields are ignored, by Go as
here, so that an older reader can read what a newer writer stored; a message read from JSON and
written again has lost them. As in protobuf's own reader, missing required fields of proto2 are not
an error in JSON; the binary form cannot be written without them.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

import orjson
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError as Malformed
from google.protobuf.message import EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

from datasync.codec.protobuf_decode import Convert, Unusual, compile_message
from datasync.codec.protobuf_encode import compile_writer
from datasync.codec.protobuf_strict import Invalid, read
from datasync.codec.shared import OfType
from datasync.errors import BadValue, DecodeError

__all__ = ["BinaryMessages", "JsonMessages"]

M = TypeVar("M", bound=Message)


class JsonMessages(OfType, Generic[M]):
    """Messages of one class as JSON."""

    content_type = "application/json"

    def __init__(self, cls: type[M]) -> None:
        super().__init__(cls)
        self._cls = cls
        self._plans: dict[str, Convert] = {}
        descriptor = cast(Descriptor, cls.DESCRIPTOR)
        self._convert = compile_message(descriptor, self._plans)
        self._write = compile_writer(descriptor, {})

    def encode(self, value: M) -> bytes:
        """The JSON of `value`; equal messages give equal bytes. Raises `BadValue`."""
        try:
            return orjson.dumps(self._write(value, 0))
        except (ValueError, TypeError) as error:  # TypeError: what orjson raises
            raise BadValue(f'{error}; JSON cannot hold it, codec="proto" can') from None

    def decode(self, key: str, raw: bytes) -> M:
        """The message that the JSON in `raw` stands for. Raises `DecodeError`."""
        try:
            sizes: list[int] = []
            made = self._convert(orjson.loads(raw), 0, sizes)
            # The parser keeps the last of several equal keys, where protobuf's reader sees an
            # error. So count: with blanks taken out, the text has a quote and a colon for each
            # member of an object, and a few more only if strings contain the two. As many as there
            # are members left means that none was lost.
            if raw.translate(None, b" \t\r\n").count(b'":') != sum(sizes):
                raise Unusual
            return self._cls(**made) if type(made) is dict else made
        except Exception:  # whatever the reason, protobuf's own reader decides
            try:
                return read(self._cls, raw, self._plain)  # type: ignore[return-value]
            except Invalid as error:
                raise DecodeError(key, str(error)) from None

    def _plain(self, descriptor: Descriptor, value: Any) -> Message:
        """A well-known type of its plain form."""
        return GetMessageClass(descriptor)(**compile_message(descriptor, self._plans)(value, 0, []))


class BinaryMessages(OfType, Generic[M]):
    """Messages of one class in protobuf's binary form."""

    content_type = "application/x-protobuf"
    dialect = "proto"

    def __init__(self, cls: type[M]) -> None:
        super().__init__(cls)
        self._cls = cls

    def encode(self, value: M) -> bytes:
        """The binary form of `value`; equal messages give equal bytes. Raises `BadValue`."""
        try:
            return value.SerializeToString(deterministic=True)
        except (EncodeError, ValueError) as error:
            raise BadValue(f"{error}; set what is missing") from None

    def decode(self, key: str, raw: bytes) -> M:
        """The message that `raw` stands for. Raises `DecodeError`."""
        try:
            return self._cls.FromString(raw)
        except (Malformed, ValueError, RuntimeWarning):
            raise DecodeError(
                key, f"it is not the binary form of {self._cls.DESCRIPTOR.full_name}"
            ) from None
