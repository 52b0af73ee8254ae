"""The server: both services, health and reflection, on one address."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2

from datasync.connecting import cannot_listen, check_free
from datasync.endpoints import TlsFiles
from datasync.errors import Disconnected
from datasync.grpc_channel import grpc
from datasync.grpcsync import datasync_pb2, msg_pb2, msg_service, service
from datasync.grpcsync.methods import Methods, fail
from datasync.grpcsync.wire import MAX_MESSAGE
from datasync.serving.access import WANTS_TOKEN, Access
from datasync.serving.hub import Hub
from datasync.tasks import end_tasks

__all__ = ["Server"]

_GRACE = 0.5
"""Seconds that calls under way have to end when the server does; watches never would."""
_CALLS, _CHECKS = 10_000, 1000
"""Calls at a time; of these, such as ask for the server's health, which need no token."""
_HEALTH = "grpc.health.v1.Health"
_REFLECTION = reflection.SERVICE_NAME
_SERVICES = (msg_service.SERVICE, service.SERVICE, _HEALTH, _REFLECTION)
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # a value that a store took can be larger than what is taken here
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
]


class Server:
    """Serves what `hub` follows, which is to be started and ended by the caller. `async
    with` starts and ends this."""

    def __init__(self, access: Access, hub: Hub) -> None:
        access.check_bind()
        self.port = access.port
        """Where it listens by now: a free port where any would do."""
        self._access = access
        self._server: grpc.aio.Server | None = None
        self._door = _Door(access)
        self._hub = hub

    async def start(self) -> None:
        """Listen. Raises `BadStore` where that cannot be, `Disconnected` where the
        files of TLS cannot be used now."""
        access, hub = self._access, self._hub
        server = grpc.aio.server(options=_OPTIONS, interceptors=[self._door])
        checks, make = health.HealthServicer(), Methods(access.port)
        names = _SERVICES[:2]
        for name in names:
            await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        for name, methods in (
            (msg_service.SERVICE, msg_service.MsgService(hub, make).methods()),
            (service.SERVICE, service.DataSyncService(hub, make).methods()),
            (_HEALTH, _health(checks, make)),
            (_REFLECTION, _reflection(_SERVICES, make)),
        ):
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(name, dict(methods)),)
            )
        # grpc would not say why, and write to standard error
        await check_free(access.name, access.host, access.port)
        self._listen(server)
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
        await server.start()
        self._server = server

    async def aclose(self) -> None:
        """Stop listening, and end the calls. May be called twice."""
        server, self._server = self._server, None
        if server is not None:
            try:
                await server.stop(_GRACE)
            finally:  # at once, where the time for it is over
                await server.stop(None)
                await self._door.closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _listen(self, server: grpc.aio.Server) -> None:
        access = self._access
        try:
            if access.files is None:
                self.port = server.add_insecure_port(access.authority)
            else:
                self.port = server.add_secure_port(access.authority, _credentials(access.files))
        except RuntimeError:  # it was taken just now
            raise cannot_listen(access.name, OSError(errno.EADDRINUSE, "")) from None


def _credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Each handshake goes by the files as they are then, or as they were
    when they last could be used."""
    shown = files.read()

    def configuration() -> grpc.ServerCertificateConfiguration:
        ca, cert, key = shown
        assert key is not None and cert is not None  # `check_bind` saw to it
        return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=ca)

    def renewed() -> Any:  # None: it is the same as before
        nonlocal shown
        with contextlib.suppress(Disconnected):
            if (now := files.read()) != shown:
                shown = now
                return configuration()
        return None

    return grpc.dynamic_ssl_server_credentials(configuration(), renewed, files.ca is not None)


def _is_news(record: logging.LogRecord) -> bool:
    """False: that a client of ours was gone before its answer. grpc logs some of them with their
    tracebacks, so any client could fill the log."""
    text = record.getMessage()
    return not (
        text.startswith("ExecuteBatchError") and any(f"[/{name}/" in text for name in _SERVICES)
    )


def _health(checks: Any, make: Methods) -> Mapping[str, Any]:
    """Not as grpc would add it, which logs each message that does not parse as
    an error, with its traceback."""
    request, reply = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    return {
        "Check": make.of_one(checks.Check, request),
        "Watch": make.of_one(checks.Watch, request, reply, many=True),
    }


def _reflection(names: Sequence[str], make: Methods) -> Mapping[str, Any]:
    servicer = reflection.aio.ReflectionServicer(names, pool=_descriptors())

    async def reflect(requests: Any, context: Any) -> None:
        await context.send_initial_metadata(())
        replies = servicer.ServerReflectionInfo(requests, context)
        async with make.outgoing(context) as out, contextlib.aclosing(replies):
            async for reply in replies:
                await out.send(reply)

    request = reflection_pb2.ServerReflectionRequest
    return {"ServerReflectionInfo": make.of_stream(reflect, request, many=True)}


def _descriptors() -> DescriptorPool:
    """What reflection tells of: all services, and nothing else that this process may know."""
    pool = DescriptorPool()
    for module in (msg_pb2, datasync_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool


class _Door(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Lets nobody in without the token, where there is one; only whether the
    server is alive may be asked by all.

    It knows who is inside: grpc does not wait for the ends of the calls that it cancels.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._calls: set[asyncio.Task[Any]] = set()
        self._checks: set[asyncio.Task[Any]] = set()

    async def intercept_service(
        self, continuation: Any, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        call = asyncio.current_task()  # the handler runs in it, too
        assert call is not None
        is_check = handler_call_details.method.startswith(f"/{_HEALTH}/")
        calls, most = (self._checks, _CHECKS) if is_check else (self._calls, _CALLS)
        calls.add(call)
        call.add_done_callback(calls.discard)
        if len(calls) > most:  # G9: a stream is kept as long as its client likes
            return _TOO_MANY
        if is_check:
            return await continuation(handler_call_details)
        kind, token = "", ""
        for key, value in handler_call_details.invocation_metadata or ():
            if key == "authorization" and isinstance(value, str):
                kind, _, token = value.partition(" ")
        if self._access.admits(token if kind.lower() == "bearer" else None):
            return await continuation(handler_call_details)
        return _TURNED_AWAY

    async def closed(self) -> None:
        """Cancel the calls that are still under way, and wait for their ends."""
        await end_tasks(*self._calls, *self._checks)


def _refusal(code: grpc.StatusCode, text: str) -> Any:
    """What handles a call that is not let in."""

    async def refuse(_: Any, context: Any) -> None:
        fail(context, code, text)

    return grpc.stream_stream_rpc_method_handler(refuse)


_TURNED_AWAY = _refusal(grpc.StatusCode.UNAUTHENTICATED, WANTS_TOKEN)
_TOO_MANY = _refusal(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "so many calls are open already; end some, or try again later",
)
