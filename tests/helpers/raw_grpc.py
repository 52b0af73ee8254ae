"""A gRPC server of a few lines, which answers with whatever bytes a test has for it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from datasync.grpc_channel import grpc

__all__ = ["Answers", "answering"]

Answers = Mapping[str, Callable[[bytes], Any] | grpc.StatusCode]
"""By method, as in /package.Service/Method: from the bytes of a request to those of its answer.

An asynchronous generator makes it a stream both ways, and is called with each request; a status
ends each call at once.
"""


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def service(self, details: Any) -> Any:
        answer = self._answers.get(details.method)
        if answer is None:
            return None
        if isinstance(answer, grpc.StatusCode):

            async def ended(requests: Any, context: Any) -> None:
                context.set_code(answer)

            return grpc.stream_stream_rpc_method_handler(ended)

        if inspect.isasyncgenfunction(answer):

            async def stream(requests: Any, context: Any) -> Any:
                async for request in requests:
                    async for reply in answer(request):
                        yield reply

            return grpc.stream_stream_rpc_method_handler(stream)

        async def one(request: bytes, context: Any) -> bytes:
            return bytes(answer(request))

        return grpc.unary_unary_rpc_method_handler(one)


@contextlib.asynccontextmanager
async def answering(answers: Answers) -> AsyncIterator[int]:
    """The port of a server on this machine that answers so within the block."""
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((_Handler(answers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)
