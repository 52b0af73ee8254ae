"""What each answer of a server means: one table, and the real alarms."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from datasync import BadStore, DataSync, Disconnected, HistoryLost, OutcomeUnknown, Unauthorized
from datasync.grpc_channel import grpc
from datasync.kvdbsync.etcd import errors
from datasync.testing.contract import Probe
from tests.helpers.etcd.etcd_server import etcd_server, versions

_Code = grpc.StatusCode
_NOSPACE, _CORRUPT = 1, 2


# code, text, what a write raises, what a read raises, a part of the way out
@pytest.mark.parametrize(
    ("code", "text", "write_error", "read_error", "way_out"),
    [
        (_Code.INVALID_ARGUMENT, "authentication failed, invalid user ID or password", Unauthorized, None, "password"),
        (_Code.INVALID_ARGUMENT, "user name is empty", Unauthorized, None, "user:password@"),
        (_Code.FAILED_PRECONDITION, "user name not found", Unauthorized, None, "user"),
        (_Code.PERMISSION_DENIED, "permission denied", Unauthorized, None, "roles"),
        (_Code.UNAUTHENTICATED, "invalid auth token", Unauthorized, None, "password"),
        (_Code.UNAUTHENTICATED, "anything", Unauthorized, None, "password"),
        (_Code.INVALID_ARGUMENT, "revision of auth store is old", Disconnected, None, "try again"),
        (_Code.INVALID_ARGUMENT, "too many operations in txn request", errors.TooManyOperations, None, "--max-txn-ops"),
        (_Code.INVALID_ARGUMENT, "request is too large", errors.RequestTooLarge, None, "--max-request-bytes"),
        (_Code.RESOURCE_EXHAUSTED, "mvcc: database space exceeded", BadStore, None, "defragment"),
        (_Code.DATA_LOSS, "corrupt cluster", BadStore, None, "CORRUPT alarm"),
        (_Code.NOT_FOUND, "requested lease not found", errors.LeaseEnded, None, "longer"),
        (_Code.OUT_OF_RANGE, "too large lease TTL", BadStore, None, "shorter"),
        (_Code.OUT_OF_RANGE, "mvcc: required revision has been compacted", HistoryLost, None, "snapshot"),
        (_Code.UNAVAILABLE, "no leader", Disconnected, None, "most of its members"),
        (_Code.UNKNOWN, "raft proposal dropped", Disconnected, None, "most of its members"),
        (_Code.FAILED_PRECONDITION, "not leader", Disconnected, None, "elect"),
        (_Code.UNAVAILABLE, "unhealthy cluster", Disconnected, None, "endpoint health"),
        (_Code.RESOURCE_EXHAUSTED, "too many requests", Disconnected, None, "later"),
        (_Code.UNAVAILABLE, "rpc not supported for learner", Disconnected, None, "voting members"),
        (_Code.UNAVAILABLE, "not capable", BadStore, None, "update"),
        (_Code.UNAVAILABLE, "failed to connect to all addresses; last error: x", Disconnected, None, "address"),
        (
            _Code.UNAVAILABLE,
            "failed to connect to all addresses; last error: x: timed out before receiving settings frame",
            Disconnected, None, "server is healthy",
        ),
        (_Code.UNIMPLEMENTED, "unknown service", Disconnected, None, "check the address"),
        (_Code.INVALID_ARGUMENT, "duplicate key given in txn request", BadStore, Disconnected, ""),
        (_Code.UNAVAILABLE, "leader changed", OutcomeUnknown, Disconnected, ""),
        (_Code.UNAVAILABLE, "request timed out", OutcomeUnknown, Disconnected, ""),
        (
            _Code.UNAVAILABLE, "request timed out, possibly due to previous leader failure",
            OutcomeUnknown, Disconnected, "",
        ),
        (_Code.UNAVAILABLE, "server stopped", OutcomeUnknown, Disconnected, ""),
        (_Code.UNAVAILABLE, "Socket closed", OutcomeUnknown, Disconnected, ""),
        (_Code.DEADLINE_EXCEEDED, "Deadline Exceeded", OutcomeUnknown, errors.AnswerTooSlow, "healthy"),
        (_Code.INTERNAL, "", OutcomeUnknown, Disconnected, ""),
    ],
)  # fmt: skip
def test_each_answer(
    code: Any, text: str, write_error: type, read_error: type | None, way_out: str
) -> None:
    unconnected = text.startswith("failed to connect")
    details = text if unconnected else f"etcdserver: {text}"  # which grpc says itself
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
    written, read = errors.write_error(error, "host:2379"), errors.read_error(error, "host:2379")
    assert type(written) is write_error
    assert type(read) is (read_error or write_error)
    assert way_out in str(written)
    assert way_out in str(read)
    assert "etcdserver" not in str(written) + str(read)
    understood = code is not _Code.UNIMPLEMENTED and "anything" not in text and not unconnected
    if not isinstance(written, OutcomeUnknown) and understood:
        assert "nothing was written" in str(written)
    if "leader" in text or "timed out" in text:
        assert "check the address" not in str(read)


@versions
@pytest.mark.parametrize(
    ("alarm", "way_out"), [(_NOSPACE, "defragment"), (_CORRUPT, "CORRUPT alarm")]
)
def test_alarms_are_named(version: str, alarm: int, way_out: str) -> None:
    """What is surely not written is said to be so, with a ttl or without."""

    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            await sync.put("a/1", b"1")
            probe = Probe(name="all")
            sync.watcher("", name="all")(probe)
            await sync.ready(60)
            await server.alarm(alarm)
            with pytest.raises(BadStore, match=way_out):
                await sync.put("a/1", b"2")
            with pytest.raises(BadStore, match=way_out):
                await sync.put("a/1", b"2", ttl=100)
            with pytest.raises(BadStore, match=way_out):
                await sync.txn().put("a/1", b"2", ttl=100).put("a/2", b"2").commit()
            # reading goes on
            kv = await sync.get("a/1")
            assert kv is not None
            assert kv.raw == b"1"
            assert probe.state == {"a/1": b"1"}

    asyncio.run(main())
