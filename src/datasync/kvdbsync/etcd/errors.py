"""What an error of a call means: not reached, not allowed, not there any more, or perhaps done."""

from __future__ import annotations

from typing import NamedTuple

from datasync.certificates import BadCertificate
from datasync.connecting import foreign, no_answer, unreachable
from datasync.errors import (
    AnswerTooLarge,
    BadStore,
    DataSyncError,
    Disconnected,
    HistoryLost,
    OutcomeUnknown,
    Unauthorized,
)
from datasync.grpc_channel import (
    certificate_problem,
    connection_problem,
    grpc,
    too_large_to_receive,
)

__all__ = [
    "AnswerTooSlow", "LeaseEnded", "RequestTooLarge", "TooManyOperations",
    "is_stale_token", "not_etcd", "of_cancel", "read_error", "silent", "unknown", "write_error",
]  # fmt: skip

_Code = grpc.StatusCode
_PROTOCOL = "etcd"


class AnswerTooSlow(Disconnected):
    """There was no answer in time; where much was asked for, less may help."""


class RequestTooLarge(BadStore):
    """The write is larger than the server takes; nothing was done."""


class TooManyOperations(BadStore):
    """The transaction has more operations than the server takes; nothing was done."""


class LeaseEnded(Disconnected):
    """The lease of a write ended before it; nothing was done."""


class _Answer(NamedTuple):
    """What the server says, in a text of its own, when it surely has done nothing."""

    text: str
    error: type[DataSyncError]
    way_out: str


# The texts tell more than the codes that they come with, and some come with
# the wrong one, or with none.
_ANSWERS = (
    _Answer("authentication failed", Unauthorized, "check the user and password of the URL"),
    _Answer(
        "user name is empty",
        Unauthorized,
        "the server asks for a user: write user:password@ into the URL",
    ),
    _Answer("user name not found", Unauthorized, "check the user of the URL"),
    _Answer(
        "permission denied",
        Unauthorized,
        "grant one of the user's roles what it needs (etcdctl role)",
    ),
    _Answer("invalid auth token", Unauthorized, "check the user and password of the URL"),
    _Answer(
        "revision of auth store is old",
        Disconnected,
        "users or roles were changed meanwhile; try again",
    ),
    _Answer("too many operations", TooManyOperations, "raise the server's --max-txn-ops"),
    _Answer(
        "request is too large",
        RequestTooLarge,
        "raise the server's --max-request-bytes, or store less",
    ),
    _Answer(
        "database space exceeded",
        BadStore,
        "compact and defragment it, then disarm its alarm (etcdctl alarm disarm)",
    ),
    _Answer(
        "corrupt cluster",
        BadStore,
        "its CORRUPT alarm is on: replace the member whose data differs, then disarm it (etcdctl "
        "alarm disarm)",
    ),
    _Answer(
        "requested lease not found",
        LeaseEnded,
        "the time to live was over before the write; give a longer one",
    ),
    _Answer("too large lease TTL", BadStore, "give a shorter ttl"),
    _Answer("has been compacted", HistoryLost, "take a snapshot"),
    _Answer("no leader", Disconnected, "check that most of its members run, and reach each other"),
    _Answer(
        "raft proposal dropped",
        Disconnected,
        "check that most of its members run, and reach each other",
    ),
    _Answer("not leader", Disconnected, "its members elect a leader; try again"),
    _Answer("unhealthy cluster", Disconnected, "check its members (etcdctl endpoint health)"),
    _Answer("too many requests", Disconnected, "it has more to do than it can; try again later"),
    _Answer("not supported for learner", Disconnected, "name its voting members in the URL"),
    _Answer("not capable", BadStore, "finish the update of its members"),
)

# after one of these a write may have been done; the ways out are for a call that changes nothing
_PERHAPS = {
    "leader changed": "its members elect a leader; try again",
    "request timed out": "check its members (etcdctl endpoint health), their disks and "
    "their network",
    "server stopped": "it was stopped, or restarts; start it",
}
_STALE = ("invalid auth token", "revision of auth store is old", "user name is empty")
_REJECTED = (
    _Code.INVALID_ARGUMENT,
    _Code.NOT_FOUND,
    _Code.ALREADY_EXISTS,
    _Code.FAILED_PRECONDITION,
    _Code.OUT_OF_RANGE,
    _Code.RESOURCE_EXHAUSTED,
)


def is_stale_token(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server refused the call, before doing anything, only
    because the token has expired."""
    return any(text in (error.details() or "") for text in _STALE)


def read_error(error: grpc.aio.AioRpcError, endpoint: str) -> DataSyncError:
    """The error of a call that changes nothing."""
    code, text = error.code(), _one_line(error.details())
    if (known := _not_done(error, endpoint)) is not None:
        return known
    if "is a future revision" in text:
        return HistoryLost(
            f"{endpoint}: older than what was seen before; take a snapshot", changed=True
        )
    if too_large_to_receive(error):
        return AnswerTooLarge(
            f"{endpoint}: {text}; give a larger max_answer= in the URL, or store smaller values"
        )
    if code is _Code.DEADLINE_EXCEEDED:
        return silent(endpoint)
    for perhaps, way_out in _PERHAPS.items():
        if perhaps in text:
            return Disconnected(f"{endpoint}: {text}; {way_out}")
    return unreachable(endpoint, text or code.name, _PROTOCOL)


def write_error(error: grpc.aio.AioRpcError, endpoint: str) -> DataSyncError:
    """The error of a call that changes something, once it may have been sent."""
    code, text = error.code(), _one_line(error.details())
    if (known := _not_done(error, endpoint, "nothing was written; ")) is not None:
        return known
    if too_large_to_receive(error):  # it came after the write
        return OutcomeUnknown(f"{endpoint}: {text}; read the key to see whether it was written")
    if code is _Code.RESOURCE_EXHAUSTED and "larger than max" in text:
        return RequestTooLarge(f"{endpoint}: {text}")
    if code in _REJECTED:
        return BadStore(f"{endpoint}: {text}; nothing was written")
    why = (
        silent(endpoint) if code is _Code.DEADLINE_EXCEEDED else f"{endpoint}: {text or code.name}"
    )
    return OutcomeUnknown(f"{why}; read the key to see whether it was written")


def silent(endpoint: str) -> AnswerTooSlow:
    """The error of a call that changes nothing, and has no answer in time."""
    return AnswerTooSlow(str(no_answer(endpoint, _PROTOCOL)))


def not_etcd(endpoint: str) -> Disconnected:
    """The error of a call that changes nothing, whose answer is not one of etcd's."""
    return foreign(endpoint, _PROTOCOL)


def unknown(endpoint: str) -> OutcomeUnknown:
    """The error of a write whose answer is not one of etcd's."""
    return OutcomeUnknown(
        f"{endpoint}: the answer is not understood; read the key to see whether it was written"
    )


def of_cancel(reason: str, endpoint: str) -> DataSyncError:
    """The error of a watch that the server ended for `reason`."""
    text = _one_line(reason)
    if (answer := _find(text)) is not None:
        return answer.error(f"{endpoint}: {text}; {answer.way_out}")
    return Disconnected(f"{endpoint}: the server ended the watch: {text or 'no reason given'}")


def _not_done(error: grpc.aio.AioRpcError, endpoint: str, done: str = "") -> DataSyncError | None:
    """The error of a call that surely was not carried out, with what to say of that;
    None where that is not sure."""
    code, text = error.code(), _one_line(error.details())
    if (problem := certificate_problem(error)) is not None:
        return BadCertificate(f"{endpoint}: {problem}")
    if (unreached := connection_problem(error, endpoint, _PROTOCOL)) is not None:
        return unreached
    if (answer := _find(text)) is not None:
        return answer.error(f"{endpoint}: {text}; {done}{answer.way_out}")
    if code in (_Code.UNAUTHENTICATED, _Code.PERMISSION_DENIED):
        return Unauthorized(
            f"{endpoint}: {text}; check the user and password of the URL, and the user's roles"
        )
    if code is _Code.UNIMPLEMENTED:
        return foreign(endpoint, _PROTOCOL, "a method of its version 3 is missing")
    return None


def _find(text: str) -> _Answer | None:
    return next((answer for answer in _ANSWERS if answer.text in text), None)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").replace("etcdserver: ", "").split())
