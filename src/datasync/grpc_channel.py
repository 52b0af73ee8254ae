"""grpc, told before its first use to leave standard error and forks alone: what fails
is raised, and logged here."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Its care for forks can end the child with an abort; a child cannot use what
# it inherits anyway (`Forked`).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from datasync.certificates import client_not_accepted, server_not_accepted
from datasync.connecting import foreign, no_answer, no_tls, unknown_name, unreachable
from datasync.errors import Disconnected

__all__ = [
    "CHANNEL_OPTIONS",
    "await_detached",
    "certificate_problem",
    "channel_credentials",
    "connection_problem",
    "grpc",
    "is_closed",
    "parsed",
    "received_at_most",
    "too_large_to_receive",
]

T = TypeVar("T")
M = TypeVar("M", bound=Message)

CHANNEL_OPTIONS = [
    # a connection of its own: a snapshot does not hold up writes
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]


def received_at_most(most: int) -> tuple[str, int]:
    """The option of a channel that bounds one message from the server, in bytes."""
    return "grpc.max_receive_message_length", min(most, 2**31 - 1)


def too_large_to_receive(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call ended because of that option."""
    code, text = error.code(), error.details() or ""
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED and "Received message larger than max" in text


def channel_credentials(
    ca: bytes | None, key: bytes | None, cert: bytes | None
) -> grpc.ChannelCredentials:
    """For a client; without `ca` it trusts the authorities of this system, else grpc's own list."""
    path = ssl.get_default_verify_paths().cafile
    if ca is None and path is not None:
        ca = Path(path).read_bytes()
    return grpc.ssl_channel_credentials(ca, key, cert)


def parsed(kind: type[M]) -> Callable[[bytes], M | None]:
    """Makes a message of an answer; None of what is not such a message.

    grpc makes that of it, too, but logs it with a traceback each time: a
    broken server would fill the log.
    """

    def parse(raw: bytes) -> M | None:
        try:
            return kind.FromString(raw)
        except DecodeError:
            return None

    return parse


async def await_detached(call: Awaitable[T]) -> T:
    """Await something of grpc. Its error leaves without the frames that would keep the channel, and
    with it a thread, alive until the next garbage collection."""
    try:
        return await call
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError) as error:
        raise error.with_traceback(None) from None
    finally:
        del call


def is_closed(error: BaseException) -> bool:
    """Whether an error of `await_detached` says that this side ended the call, not
    the task that waits for it."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.InvalidStateError) or (
        isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
    )


def certificate_problem(error: grpc.aio.AioRpcError) -> str | None:
    """What is wrong with the certificate of one of the two sides, and the way
    out; None where it is not that."""
    text = error.details() or ""
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        return None
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return server_not_accepted(
            text.rpartition("CERTIFICATE_VERIFY_FAILED")[2].strip(" :]").removesuffix(": OK")
        )
    if "TSI_DATA_CORRUPTED" in text:  # it said why, but grpc does not
        return client_not_accepted()
    return None


def connection_problem(
    error: grpc.aio.AioRpcError, server: str, protocol: str
) -> Disconnected | None:
    """That a call found no connection, or a server of another kind at its end: it was surely not
    done. None where it is about something else."""
    text = " ".join((error.details() or "").split())
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        return None
    if "errors resolving" in text or "DNS resolution failed" in text:
        return unknown_name(server)
    if "Failed parsing HTTP/2" in text or "an http1.x server" in text:
        return foreign(server, protocol, "no HTTP/2")
    if "WRONG_VERSION_NUMBER" in text or "Handshake read failed" in text:
        return no_tls(server, "wrong version number" if "WRONG_VERSION" in text else "it hangs up")
    if "before receiving settings frame" in text:
        return no_answer(server, protocol)
    if "failed to connect to all addresses" in text:
        if text.endswith("Socket closed"):
            return foreign(server, protocol, "it hangs up")
        return unreachable(
            server, text.rpartition("Failed to connect to remote host: ")[2].lower(), protocol
        )
    return None
