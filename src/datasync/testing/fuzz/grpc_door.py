"""The gRPC server: messages of each method, made up and damaged, and frames of
HTTP/2; it never fails as such."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync import msg_pb2 as msg
from datasync.sync import DataSync
from datasync.testing.chaos.ports import free_ports
from datasync.testing.fuzz.door import Door, Finding, mutated
from datasync.transports import open_url

__all__ = ["door"]

_METHODS: dict[str, type[Message]] = {
    "/msg.DataMsgService/dataChanges": msg.DataChangeRequest,
    "/msg.DataMsgService/dataResyncs": msg.DataResyncRequests,
    "/datasync.v1.DataSync/Commit": pb.CommitRequests,
    "/datasync.v1.DataSync/Replace": pb.ReplaceRequest,
    "/datasync.v1.DataSync/Get": pb.GetRequest,
    "/datasync.v1.DataSync/List": pb.ListRequest,
    "/datasync.v1.DataSync/Watch": pb.WatchRequest,
    "/datasync.v1.DataSync/CatchUp": pb.CatchUpRequest,
    "/grpc.health.v1.Health/Watch": pb.CatchUpRequest,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": pb.GetRequest,
}
_STREAMS = ("dataChanges", "Commit", "Replace", "ServerReflectionInfo")
_TEXTS = [
    "config/a",
    "config/",
    "",
    "/",
    "a//b",
    "k" * 5000,
    "\0",
    "\u202e",
    "1",
    "x/y/",
    "config/b",
]
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PATIENCE = 0.05
"""Seconds without a message, after which a call that has no end is cancelled."""


@contextlib.asynccontextmanager
async def door() -> AsyncIterator[Door]:
    """An agent in this process."""
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    sync = DataSync(open_url(f"grpc://{address}?initial=empty"))

    @sync.watcher("config/")
    async def everything(event: object) -> None:
        del event

    async with sync, grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:

        async def case(rng: random.Random) -> str:
            if rng.random() < 0.1:
                return await _frames(rng, port)
            return await _call(rng, channel)

        async def works() -> None:
            commit = channel.stream_stream(
                "/datasync.v1.DataSync/Commit",
                pb.CommitRequests.SerializeToString,
                pb.CommitReplies.FromString,
            )
            one = pb.CommitRequest(id=7, keys=["config/works"], values=[b"1"], reply=True)
            replies = [reply async for reply in commit(iter([pb.CommitRequests(commits=[one])]))]
            if [reply.verdict for batch in replies for reply in batch.replies] != [pb.ACCEPTED]:
                raise Finding(f"it does not answer as it should: {replies}")

        yield Door(case, works)


async def _call(rng: random.Random, channel: grpc.aio.Channel) -> str:
    """One call with a few messages: how it ends."""
    method = rng.choice(list(_METHODS))
    call: Any = channel.stream_stream(method)()

    try:
        many = rng.choice([0, 1, 1, 1, 2, 5])
        for _ in range(many if method.endswith(_STREAMS) else 1):
            made = _message(rng, _METHODS[method]).SerializeToString()
            await call.write(mutated(rng, made) if rng.random() < 0.4 else made)

        if rng.random() < 0.9:
            await call.done_writing()

        async with asyncio.timeout(_PATIENCE):
            while await call.read() is not grpc.aio.EOF:
                pass
            code, details = await call.code(), await call.details()
    except TimeoutError:
        return "cancelled"
    except grpc.aio.AioRpcError as error:
        code, details = error.code(), error.details()
    except asyncio.InvalidStateError:  # it has ended before all was written
        code, details = await call.code(), await call.details()
    finally:
        call.cancel()

    if details == "Internal error from Core":
        return "ended early"  # so the client says where it has more to send

    if code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
        raise Finding(f"{method} ends with {code}: {details}")
    if not (details or "").isprintable():
        raise Finding(f"{method}: its status is not printable: {details!r}")
    return str(code.name)


async def _frames(rng: random.Random, port: int) -> str:
    """Frames of HTTP/2, of which only the form is right."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        frames = [b"\0\0\0\4\0\0\0\0\0"]  # its settings
        for _ in range(rng.randint(0, 9)):
            body = rng.randbytes(rng.choice([0, 4, 5, 8, 50]))
            stream = rng.choice([0, 1, 1, 3, 2, (1 << 31) - 1])
            kind, flags = rng.choice([*range(11), 200]), rng.choice([0, 1, 4, 5, 0xFF])
            frames.append(
                len(body).to_bytes(3, "big")
                + bytes([kind, flags])
                + stream.to_bytes(4, "big")
                + body
            )

        writer.write(
            mutated(rng, _PREFACE + b"".join(frames))
            if rng.random() < 0.3
            else _PREFACE + b"".join(frames)
        )

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while await reader.read(1 << 16):
                    pass
    except OSError:
        pass  # a reset is an answer too
    finally:
        writer.transport.abort()

    return "frames"


def _message(rng: random.Random, kind: type[Message]) -> Message:
    """One with some of its fields set."""
    made = kind()
    for field in made.DESCRIPTOR.fields:
        values = [
            _value(rng, field)
            for _ in range(rng.choice([0, 1, 1, 2, 3]) if field.is_repeated else 1)
        ]
        if rng.random() < 0.3:
            continue
        if field.is_repeated:
            getattr(made, field.name).extend(values)
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(values[0])
        else:
            setattr(made, field.name, values[0])
    return made


def _value(rng: random.Random, field: Any) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_MESSAGE:
            return _message(rng, GetMessageClass(field.message_type))
        case FieldDescriptor.TYPE_STRING:
            return rng.choice(_TEXTS)
        case FieldDescriptor.TYPE_BYTES:
            return rng.randbytes(rng.choice([0, 1, 30]))
        case FieldDescriptor.TYPE_DOUBLE:
            return rng.choice([0.0, 0.001, -1.0, 1e308, float("nan"), float("inf")])
        case FieldDescriptor.TYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.TYPE_INT64 | FieldDescriptor.TYPE_UINT64:
            return rng.choice([0, 1, 2, 1 << 31, (1 << 63) - 1])
        case _:  # 32 bits, and the values of an enumeration
            return rng.choice([0, 1, 2, 7, (1 << 31) - 1])
