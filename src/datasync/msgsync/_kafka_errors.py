"""From Kafka's error codes, and what a connection raises, to the errors of datasync."""

from __future__ import annotations

import ssl

from aiokafka import errors as kafka

from datasync.errors import BadStore, DatasyncError, Disconnected, Unauthorized, UsageError

__all__ = [
    "CONCURRENT_TRANSACTIONS", "EXISTS", "FENCED", "LATER", "NOT_TRIED", "OFFSET_OUT_OF_RANGE", "PERHAPS_WRITTEN",
    "TOO_LARGE", "UNKNOWN_TOPIC", "UNORDERED", "Aborted", "PartitionGone", "ValueTooLarge", "of_code", "of_connection",
    "too_large",
]  # fmt: skip

OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC = (3, 100)
"""No such topic, by name or by id."""
EXISTS = 36
TOO_LARGE = (10, 18)
UNORDERED = (45, 47, 59)
"""The broker knows another state of the producer, or none."""
PERHAPS_WRITTEN = (7, 20, 46)
"""Not all replicas confirmed it, or it was written before."""
FENCED = (47, 48, 49, 90)
"""The transaction is not open any more, or belongs to somebody else."""
CONCURRENT_TRANSACTIONS = 51
NOT_TRIED = 55
LATER = frozenset({5, 6, 7, 8, 9, 14, 15, 16, 19, 20, 41, 51, 56, 74, 75, 78, 89, 103})
"""No leader, a new leader, too few replicas in sync, a coordinator that is loading: it passes."""
_UNAUTHORIZED = (29, 30, 31, 33, 34, 53, 58)
_NAMES = {
    3: "the topic does not exist", 5: "the partition has no leader now", 6: "another broker leads the partition now",
    7: "the brokers did not agree in time", 15: "there is no coordinator now", 16: "another broker coordinates now",
    19: "too few replicas are in sync", 20: "too few replicas are in sync", 56: "the broker's disk fails",
    74: "the partition has another leader", 75: "the partition has another leader",
    78: "the new leader does not know yet how far it goes",
    100: "the topic does not exist", 103: "the topic is another one",
}  # fmt: skip


class ValueTooLarge(UsageError):
    """A message is larger than the topic takes; nothing was written."""


class PartitionGone(Disconnected):
    """The topic has fewer partitions than when a message was on its way to one of them; it was not written."""


class Aborted(Disconnected):
    """A transaction was aborted or fenced: nothing of it was written."""


def too_large(key: bytes) -> ValueTooLarge:
    """The error for the value of that key."""
    return ValueTooLarge(
        f"the value of {key.decode()!r} is larger than the topic takes; raise its max.message.bytes,"
        " or store less under one key"
    )


def of_code(code: int, where: str, what: str) -> DatasyncError:
    """The error for a code of Kafka's protocol; `what` could not be done."""
    if code in _UNAUTHORIZED:
        return Unauthorized(f"{where}: {what} is not permitted; give the user the rights for it")
    known = kafka.kafka_errors.get(code)
    text = _NAMES.get(code) or (known.__name__ if known is not None else f"error {code}")
    if code in LATER or code in UNKNOWN_TOPIC:
        return Disconnected(f"{where}: {what} failed: {text}")
    return BadStore(f"{where}: {what} failed: {text}")


def of_connection(error: BaseException, where: str) -> DatasyncError:
    """The error for what connecting, or waiting for an answer, raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unauthorized(f"{where}: the certificate is not trusted: {error.verify_message}; check ca=")
    if isinstance(error, kafka.BrokerResponseError) and error.errno in _UNAUTHORIZED:
        return Unauthorized(
            f"{where}: the broker rejected the user or the way to log in; check user, password and sasl="
        )
    if isinstance(error, ssl.SSLError):
        return Disconnected(f"{where}: no TLS: {error.reason or error}; write kafka:// for a plain connection")
    if isinstance(error, TimeoutError):
        return Disconnected(f"{where}: no answer in time; check that the broker is healthy")
    if isinstance(error, kafka.IncompatibleBrokerVersion | NotImplementedError):
        return BadStore(f"{where}: it is older than Kafka 3.1; update it")
    if isinstance(error, OSError):
        return Disconnected(f"{where}: {error.strerror or error}; check the address, and that Kafka runs there")
    return Disconnected(
        f"{where}: the connection broke; check that Kafka runs there, and whether it wants TLS or a user"
    )
