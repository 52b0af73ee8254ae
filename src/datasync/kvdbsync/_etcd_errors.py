"""What an error of a call means: not reached, not allowed, not there any more, or perhaps done."""

from __future__ import annotations

from datasync._grpc import certificate_problem, grpc
from datasync.errors import BadStore, DatasyncError, Disconnected, HistoryLost, OutcomeUnknown, Unauthorized

__all__ = [
    "AnswerTooLarge", "BadCertificate", "RequestTooLarge", "TooManyOperations",
    "is_stale_token", "of_cancel", "of_read", "of_write",
]  # fmt: skip

_Code = grpc.StatusCode

# etcd's own texts, which tell more than the codes it gives them
_STALE = ("invalid auth token", "revision of auth store is old", "user name is empty")
_CREDENTIALS = ("authentication failed", "user name is empty", "revision of auth store is old")
_NEVER_SENT = (
    "failed to connect to all addresses",
    "no leader",  # asked for by `hasleader`, and answered before anything is proposed
    "too many requests",
    "not supported for learner",
)
_REJECTED = (
    _Code.INVALID_ARGUMENT,
    _Code.NOT_FOUND,
    _Code.ALREADY_EXISTS,
    _Code.FAILED_PRECONDITION,
    _Code.OUT_OF_RANGE,
    _Code.RESOURCE_EXHAUSTED,
)


class AnswerTooLarge(BadStore):
    """The answer is larger than the client takes; ask for less."""


class BadCertificate(Unauthorized):
    """The certificate of the member could not be verified."""


class RequestTooLarge(BadStore):
    """The write is larger than the server takes; nothing was done."""


class TooManyOperations(BadStore):
    """The transaction has more operations than the server takes; nothing was done."""


def is_stale_token(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server refused the call, before doing anything, only because the token has expired."""
    return _has(error.details() or "", _STALE)


def of_read(error: grpc.aio.AioRpcError, endpoint: str) -> DatasyncError:
    """The error of a call that changes nothing."""
    code, text = error.code(), _one_line(error.details())
    if code in (_Code.UNAUTHENTICATED, _Code.PERMISSION_DENIED) or _has(text, _CREDENTIALS):
        return Unauthorized(f"{endpoint}: {text}; check the user and password of the URL, and the user's roles")
    if (problem := certificate_problem(error)) is not None:
        return BadCertificate(f"{endpoint}: {problem}")
    if "has been compacted" in text:
        return HistoryLost(f"{endpoint}: compacted since; take a snapshot")
    if "is a future revision" in text:
        return HistoryLost(f"{endpoint}: older than what was seen before; take a snapshot", changed=True)
    if "too many operations" in text:
        return TooManyOperations(f"{endpoint}: {text}")
    if code is _Code.RESOURCE_EXHAUSTED and "larger than max" in text:
        return AnswerTooLarge(f"{endpoint}: {text}; store smaller values")
    if code is _Code.UNIMPLEMENTED:
        return BadStore(f"{endpoint}: it does not speak etcd's v3 protocol; check the address")
    if code is _Code.DEADLINE_EXCEEDED:
        return Disconnected(f"{endpoint}: no answer in time; check that the cluster is healthy")
    return Disconnected(f"{endpoint}: {text or code.name}; check the address, and that etcd runs there")


def of_cancel(reason: str, endpoint: str) -> DatasyncError:
    """The error of a watch that the server ended for `reason`."""
    text = _one_line(reason)
    if "permission denied" in text or _has(text, _CREDENTIALS):
        return Unauthorized(f"{endpoint}: {text}; check the user and password of the URL, and the user's roles")
    return Disconnected(f"{endpoint}: the server ended the watch: {text or 'no reason given'}")


def of_write(error: grpc.aio.AioRpcError, endpoint: str) -> DatasyncError:
    """The error of a call that changes something, once it may have been sent."""
    code, text = error.code(), _one_line(error.details())
    if "too many operations" in text:
        return TooManyOperations(f"{endpoint}: {text}")
    if "request is too large" in text or (code is _Code.RESOURCE_EXHAUSTED and "larger than max" in text):
        return RequestTooLarge(f"{endpoint}: {text}")
    if "database space exceeded" in text:
        return BadStore(f"{endpoint}: {text}; compact and defragment it, then disarm its alarm")
    known = of_read(error, endpoint)
    if isinstance(known, Unauthorized) or code is _Code.UNIMPLEMENTED:
        return known
    if _has(text, _NEVER_SENT):
        return Disconnected(f"{endpoint}: {text}; nothing was written, try again")
    if code in _REJECTED:
        return BadStore(f"{endpoint}: {text}; nothing was written")
    return OutcomeUnknown(f"{endpoint}: {text or code.name}; read the key to see whether it was written")


def _has(text: str, parts: tuple[str, ...]) -> bool:
    return any(part in text for part in parts)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").replace("etcdserver: ", "").split())
