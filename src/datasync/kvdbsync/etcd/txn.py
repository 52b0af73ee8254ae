"""Writes: one etcd transaction for all operations, leases for what has a TTL. A value by itself
is put, which costs the server half of what a transaction does."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

from datasync.errors import (
    BadValue,
    Conflict,
    DataSyncError,
    OutcomeUnknown,
    UnsupportedOption,
    WatchClosed,
)
from datasync.kvdbsync.etcd.channel import LEASE_GRANT, LEASE_REVOKE, PUT, TXN
from datasync.kvdbsync.etcd.cluster import Turn
from datasync.kvdbsync.etcd.errors import (
    LeaseEnded,
    RequestTooLarge,
    TooManyOperations,
    not_etcd,
    unknown,
)
from datasync.kvdbsync.etcd.keys import range_of
from datasync.kvdbsync.etcd.leases import Leases
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.source import Check, Committed, Delete, Operation, Put

__all__ = ["delete_raw", "revoke", "write"]

_LONGEST = 9_000_000_000
"""Seconds; etcd grants no longer lease."""


async def write(
    turn: Turn, operations: Sequence[Operation], known: Leases
) -> tuple[Committed, list[int]]:
    """Do all operations in one transaction; with the leases that nothing hangs on
    since. Raises as `Source.commit`."""
    try:
        return await _write(turn, operations, known)
    except LeaseEnded:  # it took longer than the time that was asked for
        return await _write(turn, operations, known)


async def _write(
    turn: Turn, operations: Sequence[Operation], known: Leases
) -> tuple[Committed, list[int]]:
    leases: dict[int, int] = {}
    for operation in operations:
        if type(operation) is Put and operation.ttl is not None:
            seconds = _whole_seconds(operation.key, operation.ttl)
            if seconds not in leases:
                # one that was granted but not heard of ends by itself: nothing was written
                lease = (await turn.ask(LEASE_GRANT, pb.LeaseGrantRequest(TTL=seconds))).ID
                if not lease:  # with it the key would stay for ever
                    raise not_etcd(turn.endpoint)
                leases[seconds] = lease
    try:
        match operations:
            case [Put(key, raw)]:
                committed = await _put(turn, key, raw, next(iter(leases.values()), 0))
            case _:
                committed = await _transact(turn, operations, leases)
    except DataSyncError as error:
        if not isinstance(error, OutcomeUnknown | WatchClosed):
            # else the key may hang on it, or nothing may be sent
            for lease in leases.values():
                await revoke(turn, lease)
        raise

    attached = {
        operation.key: leases[math.ceil(operation.ttl)]
        for operation in operations
        if type(operation) is Put and operation.ttl is not None
    }
    gone = [
        operation.key
        for operation in operations
        if type(operation) is not Check and operation.key not in attached
    ]
    ttls = {lease: seconds for seconds, lease in leases.items()}
    return committed, known.written(committed.revision or 0, attached, ttls, gone)


async def revoke(turn: Turn, lease: int) -> None:
    """End a lease that nothing hangs on; where that fails, it ends by itself."""
    with contextlib.suppress(DataSyncError):
        await turn.ask(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease))


async def delete_raw(turn: Turn, key: bytes) -> bool:
    """Delete one key, text or not; whether it was there."""
    request = pb.TxnRequest()
    request.success.add().request_delete_range.MergeFrom(pb.DeleteRangeRequest(key=key))
    answer = await turn.tell(TXN, request)
    if len(answer.responses) != 1:
        raise unknown(turn.endpoint)
    return bool(answer.responses[0].response_delete_range.deleted)


def _whole_seconds(key: str, ttl: float) -> int:
    """etcd counts in whole seconds: never less than was asked for."""
    seconds = math.ceil(ttl)
    if seconds > _LONGEST:
        raise BadValue(
            f"the ttl of {key!r} is longer than etcd grants; it is at most {_LONGEST} seconds"
        )
    return seconds


async def _put(turn: Turn, key: str, raw: bytes, lease: int) -> Committed:
    request = pb.PutRequest(key=key.encode(), value=raw, lease=lease)
    try:
        answer = await turn.tell(PUT, request)
    except RequestTooLarge:
        raise _too_large(turn, request, key) from None
    if not answer.header.revision:
        raise unknown(turn.endpoint)
    return Committed(answer.header.revision)


async def _transact(
    turn: Turn, operations: Sequence[Operation], leases: dict[int, int]
) -> Committed:
    request = pb.TxnRequest()
    checks: list[Check] = []

    for operation in operations:
        key = operation.key.encode()
        if type(operation) is Put:
            lease = leases[math.ceil(operation.ttl)] if operation.ttl is not None else 0
            request.success.add().request_put.MergeFrom(
                pb.PutRequest(key=key, value=operation.raw, lease=lease)
            )
        elif type(operation) is Delete:
            start, end = range_of(operation.key) if operation.prefix else (key, b"")
            request.success.add().request_delete_range.MergeFrom(
                pb.DeleteRangeRequest(key=start, range_end=end)
            )
        elif type(operation) is Check:
            checks.append(operation)
            request.compare.add(target=pb.Compare.MOD, key=key, mod_revision=operation.revision)
            request.failure.add().request_range.MergeFrom(pb.RangeRequest(key=key, keys_only=True))

    try:
        answer = await turn.tell(TXN, request)
    except TooManyOperations:
        raise UnsupportedOption(
            f"{len(operations)} operations are more than {turn.endpoint} takes in one transaction; "
            "raise the server's --max-txn-ops (128 unless set), or write them in several "
            "transactions"
        ) from None
    except RequestTooLarge:
        largest = max(
            operations, key=lambda operation: len(operation.raw) if type(operation) is Put else 0
        )
        raise _too_large(turn, request, largest.key) from None

    if not answer.succeeded:
        raise _conflict(checks, answer, turn.endpoint)
    if len(answer.responses) != len(request.success):
        raise unknown(turn.endpoint)

    existed = [
        response.response_delete_range.deleted > 0
        for response in answer.responses
        if response.WhichOneof("response") == "response_delete_range"
    ]
    return Committed(answer.header.revision, existed)


def _too_large(turn: Turn, request: pb.PutRequest | pb.TxnRequest, largest: str) -> BadValue:
    return BadValue(
        f"{request.ByteSize()} bytes are more than {turn.endpoint} takes in one write (the "
        f"largest value is that of {largest!r}); raise the server's --max-request-bytes (1.5 MiB "
        "unless set), or store less"
    )


def _conflict(checks: Sequence[Check], answer: pb.TxnResponse, endpoint: str) -> DataSyncError:
    """The first check that did not hold; `OutcomeUnknown` where the answer does not say which."""
    for check, response in zip(checks, answer.responses, strict=False):
        kvs = response.response_range.kvs
        if (kvs[0].mod_revision if kvs else 0) != check.revision:
            return Conflict(check.key, check.revision)
    return unknown(endpoint)
