"""The methods of a service as grpc takes them. What cannot be parsed ends its call, and is no news for the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from datasync._grpc import grpc
from datasync.errors import OutcomeUnknown
from datasync.texts import logger, printable

__all__ = ["Unread", "fail", "of_one", "of_stream", "unexpected", "write"]

log = logger("datasync.grpc")

_STALLED = 60.0
"""Seconds within which a client has to make room for a message, by reading those before it."""

M = TypeVar("M", bound=Message)


def of_one(
    handler: Callable[[M, Any], Awaitable[Any]],
    request: type[M],
    reply: type[Message] | None = None,
    *,
    many: bool = False,
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method that takes one message. many: it writes its replies itself. Without `reply` they are bytes."""

    async def call(raw: bytes, context: Any) -> Any:
        try:
            message = request.FromString(raw)
        except DecodeError:
            return _malformed(context, request)
        try:
            return await handler(message, context)
        except Unread:
            return _unread(context)

    make = grpc.unary_stream_rpc_method_handler if many else grpc.unary_unary_rpc_method_handler
    return make(call, response_serializer=None if reply is None else reply.SerializeToString)


def of_stream(
    handler: Callable[[AsyncIterator[M], Any], Awaitable[Any]],
    request: type[M],
    reply: type[Message],
    *,
    many: bool = False,
) -> grpc.RpcMethodHandler[Any, Any]:
    """The same for one that takes a stream."""

    async def call(requests: AsyncIterator[M], context: Any) -> Any:
        try:
            return await handler(requests, context)
        except DecodeError:
            return _malformed(context, request)
        except Unread:
            return _unread(context)

    make = grpc.stream_stream_rpc_method_handler if many else grpc.stream_unary_rpc_method_handler
    return make(call, request_deserializer=request.FromString, response_serializer=reply.SerializeToString)


class Unread(Exception):
    """The client does not read."""


async def write(context: Any, message: object) -> None:
    """Send a message of a stream; waits while the client does not read.

    Raises `Unread`, which ends the call, where that lasts: what is kept for the client is let go.
    """
    try:
        async with asyncio.timeout(_STALLED):
            await context.write(message)
    except TimeoutError:
        raise Unread from None


def fail(context: Any, code: grpc.StatusCode, text: str) -> None:
    """End a call in this way, once its handler returns.

    Unlike `context.abort`, whose error and the call hold each other, and with them the server's thread.
    """
    context.set_code(code)
    context.set_details(printable(text))


def unexpected(name: str, error: Exception) -> OutcomeUnknown:
    """What a client hears of an error that should not be; whoever runs the server finds it in the log."""
    log.error("%s: unexpected error in a commit", name, exc_info=error)
    return OutcomeUnknown("the server failed in a way that it did not expect; read the key, and see its log")


def _malformed(context: Any, request: type[Message]) -> None:
    fail(context, grpc.StatusCode.INVALID_ARGUMENT, f"this is no {request.DESCRIPTOR.full_name}")


def _unread(context: Any) -> None:
    fail(context, grpc.StatusCode.UNAVAILABLE, f"nothing was read for {_STALLED:g} s; call again")
