"""Codecs, each beside the plainest call that does the same: protobuf's own JSON, msgspec, pydantic.

Microseconds a call of this thread on the processor, for nothing waits: the best of several rounds
in which the two take turns.
"""

from __future__ import annotations

import functools
import json
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pydantic
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

from bench.instructions import Work
from bench.rows import Row
from datasync.codec import codec_for

_FIELDS: dict[str, list[tuple[Any, ...]]] = {
    "Address": [("ip", Field.TYPE_STRING), ("prefix_length", Field.TYPE_UINT32)],
    "Interface": [
        ("name", Field.TYPE_STRING), ("description", Field.TYPE_STRING),
        ("type", Field.TYPE_UINT32), ("enabled", Field.TYPE_BOOL),
        ("phys_address", Field.TYPE_STRING), ("mtu", Field.TYPE_UINT32),
        ("ip_addresses", Field.TYPE_STRING, "*"), ("created_at", Field.TYPE_INT64),
        ("address", "Address"),
    ],
    "Network": [("name", Field.TYPE_STRING), ("interfaces", "Interface", "*")],
}  # fmt: skip


def _classes() -> tuple[Any, Any]:
    """The message classes Interface and Network."""
    file = descriptor_pb2.FileDescriptorProto(
        name="bench_codec.proto", package="bench", syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, *repeated) in enumerate(fields, 1):
            made = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                made.type, made.type_name = Field.TYPE_MESSAGE, f".bench.{kind}"
            else:
                made.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    get = message_factory.GetMessageClass
    return get(pool.FindMessageTypeByName("bench.Interface")), get(
        pool.FindMessageTypeByName("bench.Network")
    )


def _interface(number: int) -> dict[str, Any]:
    return {
        "name": f"tap-{number}",
        "description": "to the spine, rack 4",
        "type": 3,
        "enabled": True,
        "phys_address": "12:34:56:78:9a:bc",
        "mtu": 1500,
        "ip_addresses": ["192.168.10.1/24", "10.0.0.1/8"],
        "created_at": 1_700_000_000,
        "address": {"ip": "10.1.1.1", "prefix_length": 24},
    }


class Address(msgspec.Struct):
    ip: str
    prefix_length: int


class Interface(msgspec.Struct):
    name: str
    description: str
    type: int
    enabled: bool
    phys_address: str
    mtu: int
    ip_addresses: list[str]
    created_at: int
    address: Address


class AddressModel(pydantic.BaseModel):
    ip: str
    prefix_length: int


class InterfaceModel(pydantic.BaseModel):
    name: str
    description: str
    type: int
    enabled: bool
    phys_address: str
    mtu: int
    ip_addresses: list[str]
    created_at: int
    address: AddressModel


def _beside(
    what: str, by: str, ours: Callable[[], object], plain: Callable[[], object], *, quick: bool
) -> Row:
    """One line: both in turns, so that what else the machine does meets both."""
    number, rounds = (200, 3) if quick else (5_000, 15)
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for at, call in enumerate((ours, plain)):
            taken = timeit.timeit(call, timer=time.thread_time, number=number)
            best[at] = min(best[at], taken / number * 1e6)
    return Row(what=what, unit="µs", ours=best[0], beside={by: best[1]})


def _protobuf(cls: Any, content: dict[str, Any], *, quick: bool) -> Iterator[Row]:
    codec, binary = codec_for(cls), codec_for(cls, "proto")
    raw = json.dumps(content, separators=(",", ":")).encode()
    message = json_format.Parse(raw, cls())
    assert codec.decode("k", raw) == message
    stored = message.SerializeToString()
    yield _beside(
        f"protobuf, JSON of {len(raw)} bytes: decode",
        "json_format",
        lambda: codec.decode("k", raw),
        lambda: json_format.Parse(raw, cls(), ignore_unknown_fields=True),
        quick=quick,
    )
    yield _beside(
        f"protobuf, JSON of {len(raw)} bytes: encode",
        "json_format",
        lambda: codec.encode(message),
        lambda: json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None),
        quick=quick,
    )
    yield _beside(
        f"protobuf, binary of {len(stored)} bytes: decode",
        "FromString",
        lambda: binary.decode("k", stored),
        lambda: cls.FromString(stored),
        quick=quick,
    )


def run(quick: bool) -> Iterator[Row]:
    """The rows: microseconds a call."""
    small, large = _classes()
    yield from _protobuf(small, _interface(0), quick=quick)
    yield from _protobuf(
        large, {"name": "lab", "interfaces": [_interface(n) for n in range(8)]}, quick=quick
    )
    raw = json.dumps(_interface(0), separators=(",", ":")).encode()
    struct, decoder, encoder = (
        codec_for(Interface),
        msgspec.json.Decoder(Interface),
        msgspec.json.Encoder(),
    )
    made = decoder.decode(raw)
    yield _beside(
        "Struct: decode",
        "msgspec",
        lambda: struct.decode("k", raw),
        lambda: decoder.decode(raw),
        quick=quick,
    )
    yield _beside(
        "Struct: encode",
        "msgspec",
        lambda: struct.encode(made),
        lambda: encoder.encode(made),
        quick=quick,
    )
    model, plain = codec_for(InterfaceModel), InterfaceModel.model_validate_json(raw)
    yield _beside(
        "pydantic: decode",
        "model_validate_json",
        lambda: model.decode("k", raw),
        lambda: InterfaceModel.model_validate_json(raw),
        quick=quick,
    )
    yield _beside(
        "pydantic: encode",
        "model_dump_json",
        lambda: model.encode(plain),
        plain.model_dump_json,
        quick=quick,
    )


# -- instructions ----------------------------------------------------------------------------------


def _calls(make: Callable[[], Callable[[], object]]) -> Work:
    """As many calls of what is made as are asked for."""

    def work(times: int) -> None:
        call = make()
        for _ in range(times):
            call()

    return work


def _struct() -> Interface:
    return msgspec.convert(_interface(0), Interface)


def _model() -> InterfaceModel:
    return InterfaceModel.model_validate(_interface(0))


COUNTED: dict[str, Work] = {
    "Struct: encode": _calls(lambda: functools.partial(codec_for(Interface).encode, _struct())),
    "Struct: encode, msgspec": _calls(
        lambda: functools.partial(msgspec.json.Encoder().encode, _struct())
    ),
    "pydantic: encode": _calls(
        lambda: functools.partial(codec_for(InterfaceModel).encode, _model())
    ),
    "pydantic: encode, model_dump_json": _calls(lambda: _model().model_dump_json),
}
