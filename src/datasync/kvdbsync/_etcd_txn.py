"""Writes: one etcd transaction for all operations, leases for what has a TTL."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

from datasync.errors import BadValue, Conflict, DatasyncError, OutcomeUnknown, UnsupportedOption
from datasync.kvdbsync._etcd_channel import LEASE_GRANT, LEASE_REVOKE, TXN, Link
from datasync.kvdbsync._etcd_errors import RequestTooLarge, TooManyOperations
from datasync.kvdbsync._etcd_keys import range_of
from datasync.kvdbsync._etcd_pb import etcd_pb2 as pb
from datasync.source import Check, Committed, Delete, Operation, Put

__all__ = ["delete_raw", "write"]

_LONGEST = 9_000_000_000
"""Seconds; etcd grants no longer lease."""


async def write(link: Link, operations: Sequence[Operation]) -> Committed:
    """Do all operations in one transaction. Raises as `Source.commit` does."""
    leases: dict[int, int] = {}
    for operation in operations:
        if type(operation) is Put and operation.ttl is not None:
            seconds = _whole_seconds(operation.key, operation.ttl)
            if seconds not in leases:
                # one that was granted but not heard of ends by itself: nothing was written
                leases[seconds] = (await link.ask(LEASE_GRANT, pb.LeaseGrantRequest(TTL=seconds))).ID
    try:
        return await _transact(link, operations, leases)
    except DatasyncError as error:
        if not isinstance(error, OutcomeUnknown):  # else the key may hang on the lease
            for lease in leases.values():
                with contextlib.suppress(DatasyncError):
                    await link.tell(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease))
        raise


async def delete_raw(link: Link, key: bytes) -> bool:
    """Delete one key, text or not; whether it was there."""
    request = pb.TxnRequest()
    request.success.add().request_delete_range.MergeFrom(pb.DeleteRangeRequest(key=key))
    answer = await link.tell(TXN, request)
    return bool(answer.responses[0].response_delete_range.deleted)


def _whole_seconds(key: str, ttl: float) -> int:
    """etcd counts in whole seconds: never less than was asked for."""
    seconds = math.ceil(ttl)
    if seconds > _LONGEST:
        raise BadValue(f"the ttl of {key!r} is longer than etcd grants; it is at most {_LONGEST} seconds")
    return seconds


async def _transact(link: Link, operations: Sequence[Operation], leases: dict[int, int]) -> Committed:
    request = pb.TxnRequest()
    checks: list[Check] = []
    for operation in operations:
        key = operation.key.encode()
        if type(operation) is Put:
            lease = leases[math.ceil(operation.ttl)] if operation.ttl is not None else 0
            request.success.add().request_put.MergeFrom(pb.PutRequest(key=key, value=operation.raw, lease=lease))
        elif type(operation) is Delete:
            start, end = range_of(operation.key) if operation.prefix else (key, b"")
            request.success.add().request_delete_range.MergeFrom(pb.DeleteRangeRequest(key=start, range_end=end))
        elif type(operation) is Check:
            checks.append(operation)
            request.compare.add(target=pb.Compare.MOD, key=key, mod_revision=operation.revision)
            request.failure.add().request_range.MergeFrom(pb.RangeRequest(key=key, keys_only=True))
    try:
        answer = await link.tell(TXN, request)
    except TooManyOperations:
        raise UnsupportedOption(
            f"{len(operations)} operations are more than {link.endpoint} takes in one transaction; raise the server's"
            " --max-txn-ops (128 unless set), or write them in several transactions"
        ) from None
    except RequestTooLarge:
        largest = max(operations, key=lambda operation: len(operation.raw) if type(operation) is Put else 0)
        raise BadValue(
            f"{request.ByteSize()} bytes are more than {link.endpoint} takes in one write (the largest value is that of"
            f" {largest.key!r}); raise the server's --max-request-bytes (1.5 MiB unless set), or store less"
        ) from None
    if not answer.succeeded:
        raise _conflict(checks, answer)
    existed = [
        response.response_delete_range.deleted > 0
        for response in answer.responses
        if response.WhichOneof("response") == "response_delete_range"
    ]
    return Committed(answer.header.revision, existed)


def _conflict(checks: Sequence[Check], answer: pb.TxnResponse) -> Conflict:
    """The first check that did not hold."""
    for check, response in zip(checks, answer.responses, strict=True):
        kvs = response.response_range.kvs
        if (kvs[0].mod_revision if kvs else 0) != check.revision:
            return Conflict(check.key, check.revision)
    raise AssertionError("the server refused a transaction whose checks all hold")
