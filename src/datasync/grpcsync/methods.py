"""The methods of a service as grpc takes them. What cannot be parsed ends its call,
and is not news for the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from datasync.errors import OutcomeUnknown
from datasync.grpc_channel import grpc
from datasync.grpcsync import unsent
from datasync.grpcsync.unsent import Messages, Outgoing, Unread
from datasync.texts import logger, printable

__all__ = ["Methods", "fail", "unexpected"]

log = logger("datasync.grpc")

M = TypeVar("M", bound=Message)
_Code = grpc.StatusCode


class Methods:
    """Makes them, and sends what they answer. port: where the server listens."""

    def __init__(self, port: int) -> None:
        self._unsent = Messages(port)

    def of_one(
        self,
        handler: Callable[[M, Any], Awaitable[Any]],
        request: type[M],
        reply: type[Message] | None = None,
        *,
        many: bool = False,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """A method that takes one message. many: it writes its replies itself, as bytes; as
        messages where it says of which type they are, in `reply`."""

        async def answered(raw: bytes, context: Any) -> Any:
            try:
                message = request.FromString(raw)
            except DecodeError:
                return _malformed(context, request)
            return await handler(message, context)

        make = grpc.unary_stream_rpc_method_handler if many else grpc.unary_unary_rpc_method_handler
        serializer = None if reply is None else reply.SerializeToString
        return make(self._call(answered), response_serializer=serializer)

    def of_stream(
        self,
        handler: Callable[[AsyncIterator[M], Any], Awaitable[Any]],
        request: type[M],
        *,
        many: bool = False,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The same for one that takes a stream."""

        async def answered(requests: AsyncIterator[M], context: Any) -> Any:
            try:
                return await handler(requests, context)
            except DecodeError:
                return _malformed(context, request)

        make = (
            grpc.stream_stream_rpc_method_handler if many else grpc.stream_unary_rpc_method_handler
        )
        return make(self._call(answered), request_deserializer=request.FromString)

    def outgoing(self, context: Any) -> Outgoing:
        """What a call of many messages writes with: see there."""
        return Outgoing(self._unsent, context)

    def _call(self, answered: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Any]:
        """What grpc calls: its answer is bytes, or None where it has none or has written them."""

        async def call(asked: Any, context: Any) -> bytes | None:
            try:
                reply = await answered(asked, context)
            except Unread as unread:  # the client may come back, and read the rest
                fail(
                    context,
                    _Code.UNAVAILABLE,
                    f"nothing was read for {unsent.STALLED:g} s; call again",
                )
                self._unsent.end_with_task(unread.pending, unread=True)
                return None

            raw: bytes | None = None if reply is None else reply.SerializeToString()
            size = len(raw or b"")
            if size and not self._unsent.has_room(size):
                fail(
                    context,
                    _Code.RESOURCE_EXHAUSTED,
                    "so many answers wait to be read; try again later",
                )
                raw, size = None, 0
            # grpc sends it in this task, too
            connection = self._unsent.connection(context)
            self._unsent.end_with_task(self._unsent.begin(connection, size))
            return raw

        return call


def fail(context: Any, code: grpc.StatusCode, text: str) -> None:
    """End a call in this way, once its handler returns.

    Unlike `context.abort`, whose error and the call hold each other, and
    with them the server's thread.
    """
    context.set_code(code)
    context.set_details(printable(text))


def unexpected(name: str, error: Exception) -> OutcomeUnknown:
    """What a client hears of an unexpected error; the server's log has its traceback."""
    log.error("%s: unexpected error in a commit", name, exc_info=error)
    return OutcomeUnknown(
        "the server failed in a way that it did not expect; read the key, and see its log"
    )


def _malformed(context: Any, request: type[Message]) -> None:
    fail(context, _Code.INVALID_ARGUMENT, f"this is not a {request.DESCRIPTOR.full_name}")
