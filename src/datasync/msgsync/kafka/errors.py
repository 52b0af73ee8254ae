"""From Kafka's error codes, and what a connection raises, to the errors of datasync."""

from __future__ import annotations

import contextlib
import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple

from aiokafka import errors as kafka

from datasync.certificates import certificate_problem
from datasync.connecting import foreign, hung_up, no_answer, not_connected
from datasync.connecting import too_large as answer_too_large
from datasync.errors import (
    AnswerTooLarge,
    BadStore,
    DataSyncError,
    Disconnected,
    Unauthorized,
    UsageError,
)
from datasync.msgsync.kafka.internals import FrameTooLarge

__all__ = [
    "FENCED", "LATER", "PERHAPS_WRITTEN", "TOO_LARGE", "UNKNOWN_TOPIC", "UNORDERED", "Aborted",
    "Code", "PartitionGone", "ValueTooLarge", "not_written", "of_code", "of_connecting",
    "of_connection", "too_large", "understanding",
]  # fmt: skip


class Code(enum.IntEnum):
    """The error codes of Kafka's protocol that its requests here may be
    answered with, by Kafka's names."""

    UNKNOWN_SERVER_ERROR = -1
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    BROKER_NOT_AVAILABLE = 8
    REPLICA_NOT_AVAILABLE = 9
    MESSAGE_TOO_LARGE = 10
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC_EXCEPTION = 17
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    UNSUPPORTED_SASL_MECHANISM = 33
    ILLEGAL_SASL_STATE = 34
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_CONFIG = 40
    NOT_CONTROLLER = 41
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    INVALID_TRANSACTION_TIMEOUT = 50
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    OPERATION_NOT_ATTEMPTED = 55
    KAFKA_STORAGE_ERROR = 56
    SASL_AUTHENTICATION_FAILED = 58
    UNKNOWN_PRODUCER_ID = 59
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    UNSUPPORTED_COMPRESSION_TYPE = 76
    OFFSET_NOT_AVAILABLE = 78
    MEMBER_ID_REQUIRED = 79
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    INVALID_RECORD = 87
    UNSTABLE_OFFSET_COMMIT = 88
    THROTTLING_QUOTA_EXCEEDED = 89
    PRODUCER_FENCED = 90
    UNKNOWN_TOPIC_ID = 100
    INCONSISTENT_TOPIC_ID = 103
    TRANSACTION_ABORTABLE = 120


UNKNOWN_TOPIC = frozenset({Code.UNKNOWN_TOPIC_OR_PARTITION, Code.UNKNOWN_TOPIC_ID})
"""No such topic, by name or by id."""
TOO_LARGE = frozenset({Code.MESSAGE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE})
UNORDERED = frozenset(
    {Code.OUT_OF_ORDER_SEQUENCE_NUMBER, Code.INVALID_PRODUCER_EPOCH, Code.UNKNOWN_PRODUCER_ID}
)
"""The broker knows another state of the producer, or none."""
PERHAPS_WRITTEN = frozenset({
    Code.UNKNOWN_SERVER_ERROR, Code.REQUEST_TIMED_OUT, Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    Code.DUPLICATE_SEQUENCE_NUMBER,
})  # fmt: skip
"""Not all replicas confirmed it, or it was written before."""
FENCED = frozenset({
    Code.INVALID_PRODUCER_EPOCH, Code.INVALID_TXN_STATE, Code.INVALID_PRODUCER_ID_MAPPING,
    Code.PRODUCER_FENCED, Code.TRANSACTION_ABORTABLE,
})  # fmt: skip
"""The transaction is not open any more, or belongs to somebody else."""


class _Means(NamedTuple):
    kind: type[DataSyncError]
    reason: str
    way_out: str


_PROTOCOL = "Kafka"
_BROKERS = "check that all brokers are up"
_RIGHTS = "give the user the rights for it"
_LOGIN = "check the user and password of the URL, and sasl="
_LOG = "see the broker's log"
_ELECTION = "try again once it has one"
_TOPIC = "make the topic, or add ?create=1 to the URL"
_COPY = "copy the messages to a new topic"

_MEANS: dict[int, _Means] = {
    Code.LEADER_NOT_AVAILABLE: _Means(Disconnected, "the partition has no leader now", _ELECTION),
    Code.NOT_LEADER_OR_FOLLOWER: _Means(
        Disconnected, "another broker leads the partition now", "try again"
    ),
    Code.REQUEST_TIMED_OUT: _Means(Disconnected, "the brokers did not agree in time", _BROKERS),
    Code.BROKER_NOT_AVAILABLE: _Means(Disconnected, "a broker is not available", _BROKERS),
    Code.REPLICA_NOT_AVAILABLE: _Means(Disconnected, "a replica is not available", _BROKERS),
    Code.NETWORK_EXCEPTION: _Means(Disconnected, "the brokers cannot reach each other", _BROKERS),
    Code.CORRUPT_MESSAGE: _Means(Disconnected, "it came garbled", "try again"),
    Code.COORDINATOR_LOAD_IN_PROGRESS: _Means(
        Disconnected, "the coordinator is loading", "try again"
    ),
    Code.COORDINATOR_NOT_AVAILABLE: _Means(Disconnected, "there is no coordinator now", _BROKERS),
    Code.NOT_COORDINATOR: _Means(Disconnected, "another broker coordinates now", "try again"),
    Code.NOT_ENOUGH_REPLICAS: _Means(
        Disconnected,
        "too few replicas are in sync",
        "start the brokers that are missing, or lower min.insync.replicas",
    ),
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND: _Means(
        Disconnected,
        "too few replicas are in sync",
        "start the brokers that are missing, or lower min.insync.replicas",
    ),
    Code.NOT_CONTROLLER: _Means(Disconnected, "another broker controls now", "try again"),
    Code.CONCURRENT_TRANSACTIONS: _Means(
        Disconnected, "the transaction before is still being ended", "try again"
    ),
    Code.KAFKA_STORAGE_ERROR: _Means(
        Disconnected, "the broker's disk fails", "check the disk, or move the partition"
    ),
    Code.FENCED_LEADER_EPOCH: _Means(Disconnected, "the partition has another leader", "try again"),
    Code.UNKNOWN_LEADER_EPOCH: _Means(
        Disconnected, "the partition has another leader", "try again"
    ),
    Code.OFFSET_NOT_AVAILABLE: _Means(
        Disconnected, "the new leader does not know yet how far it goes", "try again"
    ),
    Code.THROTTLING_QUOTA_EXCEEDED: _Means(
        Disconnected, "a quota is used up", "raise the quota, or ask less"
    ),
    Code.UNSTABLE_OFFSET_COMMIT: _Means(
        Disconnected, "a transaction holds the group's offsets", "try again"
    ),
    Code.INCONSISTENT_TOPIC_ID: _Means(Disconnected, "the topic is another one now", "try again"),
    Code.UNKNOWN_TOPIC_OR_PARTITION: _Means(Disconnected, "the topic does not exist", _TOPIC),
    Code.UNKNOWN_TOPIC_ID: _Means(Disconnected, "the topic does not exist any more", _TOPIC),
    Code.TOPIC_AUTHORIZATION_FAILED: _Means(
        Unauthorized, "the user lacks rights on the topic", _RIGHTS
    ),
    Code.GROUP_AUTHORIZATION_FAILED: _Means(
        Unauthorized, "the user may not Read the group", _RIGHTS
    ),
    Code.CLUSTER_AUTHORIZATION_FAILED: _Means(
        Unauthorized, "the user lacks rights on the cluster", _RIGHTS
    ),
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: _Means(
        Unauthorized,
        "the user may not Write to transactional ids that begin with datasync-",
        _RIGHTS,
    ),
    Code.UNSUPPORTED_SASL_MECHANISM: _Means(
        Unauthorized, "the broker does not take this way to log in", _LOGIN
    ),
    Code.ILLEGAL_SASL_STATE: _Means(
        Unauthorized, "the broker expects another way to log in", _LOGIN
    ),
    Code.SASL_AUTHENTICATION_FAILED: _Means(Unauthorized, "the broker rejected the user", _LOGIN),
    Code.UNKNOWN_SERVER_ERROR: _Means(BadStore, "the broker failed", _LOG),
    Code.OFFSET_OUT_OF_RANGE: _Means(BadStore, "the partition does not reach there", _LOG),
    Code.MESSAGE_TOO_LARGE: _Means(
        BadStore, "a message is too large", "raise the topic's max.message.bytes"
    ),
    Code.RECORD_LIST_TOO_LARGE: _Means(
        BadStore, "a batch is too large", "raise the topic's segment.bytes"
    ),
    Code.INVALID_TOPIC_EXCEPTION: _Means(
        BadStore, "the topic cannot be used", "name another topic"
    ),
    Code.ILLEGAL_GENERATION: _Means(
        BadStore, "the group was shared out without this member", "join it again"
    ),
    Code.UNKNOWN_MEMBER_ID: _Means(
        BadStore, "the group was shared out without this member", "join it again"
    ),
    Code.REBALANCE_IN_PROGRESS: _Means(BadStore, "the group is being shared out", "join it again"),
    Code.INCONSISTENT_GROUP_PROTOCOL: _Means(
        BadStore, "the group is of clients that share in another way", "name another group="
    ),
    Code.INVALID_GROUP_ID: _Means(
        BadStore, "the broker takes no such group", "name another group="
    ),
    Code.INVALID_SESSION_TIMEOUT: _Means(
        BadStore,
        "the broker allows no session of 6 s",
        "let group.min.session.timeout.ms be 6000 or less",
    ),
    Code.GROUP_MAX_SIZE_REACHED: _Means(BadStore, "the group is full", "raise group.max.size"),
    Code.FENCED_INSTANCE_ID: _Means(
        BadStore, "another member has taken its place", "name another group="
    ),
    Code.MEMBER_ID_REQUIRED: _Means(
        BadStore, "the group wants to name its member", "join it again"
    ),
    Code.UNSUPPORTED_VERSION: _Means(BadStore, "it is older than Kafka 3.1", "update it"),
    Code.TOPIC_ALREADY_EXISTS: _Means(BadStore, "the topic exists", "use it without ?create=1"),
    Code.INVALID_PARTITIONS: _Means(
        BadStore, "not so many partitions", "choose partitions= otherwise"
    ),
    Code.INVALID_REPLICATION_FACTOR: _Means(
        BadStore, "not so many replicas", "choose replication= up to the number of brokers"
    ),
    Code.INVALID_CONFIG: _Means(
        BadStore, "a setting of the topic is refused", "make the topic yourself"
    ),
    Code.INVALID_REQUEST: _Means(BadStore, "the broker refuses the request", _LOG),
    Code.POLICY_VIOLATION: _Means(
        BadStore, "it breaks a policy of the cluster", "keep to the policy, or change it"
    ),
    Code.UNSUPPORTED_FOR_MESSAGE_FORMAT: _Means(BadStore, "the topic has an old format", _COPY),
    Code.UNSUPPORTED_COMPRESSION_TYPE: _Means(BadStore, "the compression is not supported", _COPY),
    Code.INVALID_RECORD: _Means(
        BadStore, "the broker refuses the message", "see the topic's settings"
    ),
    Code.OUT_OF_ORDER_SEQUENCE_NUMBER: _Means(
        BadStore, "a message before it is missing", "write it again"
    ),
    Code.DUPLICATE_SEQUENCE_NUMBER: _Means(BadStore, "it was written before", "read the key"),
    Code.UNKNOWN_PRODUCER_ID: _Means(
        BadStore, "the broker has forgotten the producer", "write it again"
    ),
    Code.INVALID_PRODUCER_EPOCH: _Means(
        Disconnected, "a newer producer has taken over", "try again"
    ),
    Code.INVALID_TXN_STATE: _Means(
        Disconnected, "the transaction is not open any more", "try again"
    ),
    Code.INVALID_PRODUCER_ID_MAPPING: _Means(
        Disconnected, "the transaction's id has expired", "try again"
    ),
    Code.PRODUCER_FENCED: _Means(Disconnected, "a newer producer has taken over", "try again"),
    Code.TRANSACTION_ABORTABLE: _Means(
        Disconnected, "the transaction must be aborted", "try again"
    ),
    Code.INVALID_TRANSACTION_TIMEOUT: _Means(
        BadStore,
        "the broker allows no transaction of 10 s",
        "let transaction.max.timeout.ms be 10000 or more",
    ),
    Code.OPERATION_NOT_ATTEMPTED: _Means(BadStore, "another part of it failed", _LOG),
}
_LOGIN_FAILED = frozenset(code for code, means in _MEANS.items() if means.kind is Unauthorized)
LATER = frozenset(
    code
    for code, means in _MEANS.items()
    if means.kind is Disconnected and code not in UNKNOWN_TOPIC | FENCED
)
"""No leader, a new leader, too few replicas in sync, a coordinator that is loading: it passes."""


class ValueTooLarge(UsageError):
    """A message is larger than the topic takes; nothing was written."""


class PartitionGone(Disconnected):
    """The topic has fewer partitions than when a message was on its way to one
    of them; it was not written."""


class Aborted(Disconnected):
    """A transaction was aborted or fenced: nothing of it was written."""


def too_large(key: bytes) -> ValueTooLarge:
    """The error for the value of that key."""
    return ValueTooLarge(
        f"the value of {key.decode()!r} is larger than the topic takes; raise its "
        "max.message.bytes, or store less under one key"
    )


def of_code(code: int, where: str, what: str) -> DataSyncError:
    """The error for a code of Kafka's protocol; `what` could not be done."""
    means = _means(code)
    return _said(
        means,
        code,
        where,
        f"{what} {'is not permitted' if means.kind is Unauthorized else 'failed'}",
    )


def not_written(code: int, where: str) -> DataSyncError:
    """The error for a code that answers a write, and leaves no doubt that it was not done."""
    return _said(_means(code), code, where, "nothing was written")


def _means(code: int) -> _Means:
    return _MEANS.get(code) or _Means(BadStore, "the broker says no", _LOG)


def _said(means: _Means, code: int, where: str, what: str) -> DataSyncError:
    name = Code(code).name if code in _MEANS else f"error {code}"
    return means.kind(f"{where}: {what}: {means.reason} ({name}); {means.way_out}")


_NOT_UNDERSTOOD = (
    AssertionError, AttributeError, LookupError, OverflowError, TypeError, ValueError,
    struct.error, kafka.CorruptRecordException,
)  # fmt: skip


@contextlib.contextmanager
def understanding(where: str) -> Iterator[None]:
    """Raises `Disconnected` where an answer that is taken apart in the
    block is not one of Kafka's."""
    try:
        yield
    except OSError:  # that of a certificate is a ValueError, too
        raise
    except _NOT_UNDERSTOOD as error:
        raise foreign(where, _PROTOCOL, str(error)) from None


def of_connecting(error: Exception, where: str, *, tls: bool) -> DataSyncError:
    """The error for what connecting raised, with the first answers: to which
    versions there are, and who one is."""
    if isinstance(error.__cause__, FrameTooLarge):  # as the first words of most other protocols are
        why = f"its first answer has more than {error.__cause__.most} bytes"
        return AnswerTooLarge(
            f"{foreign(where, _PROTOCOL, why)}, and whether it wants TLS; or give a larger "
            "max_answer= in the URL"
        )
    if isinstance(error, kafka.KafkaConnectionError):
        return hung_up(where, _PROTOCOL, tls=tls)
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return not_connected(error, where, _PROTOCOL, tls=tls)
    return of_connection(error, where)


def of_connection(error: BaseException, where: str) -> DataSyncError:
    """The error for what waiting for an answer raised."""
    if isinstance(error.__cause__, FrameTooLarge):
        return answer_too_large(where, error.__cause__.most)
    if (problem := certificate_problem(error)) is not None:
        return Unauthorized(f"{where}: {problem}")
    if isinstance(error, kafka.BrokerResponseError) and error.errno in _LOGIN_FAILED:
        return Unauthorized(f"{where}: the broker rejected the user or the way to log in; {_LOGIN}")
    if isinstance(error, TimeoutError):
        return no_answer(where, _PROTOCOL)
    if isinstance(error, kafka.IncompatibleBrokerVersion | NotImplementedError):
        return BadStore(f"{where}: it is older than Kafka 3.1; update it")
    if isinstance(error, OSError):
        return not_connected(error, where, _PROTOCOL, tls=False)
    return Disconnected(
        f"{where}: the connection broke; check that Kafka runs there, and whether it wants TLS "
        "or a user"
    )
