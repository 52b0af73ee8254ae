"""Messages of our own service, between this version and the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool

from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync.wire import operations_of, request_of
from datasync.source import Put
from datasync.traceparent import carrying

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def before() -> Mapping[str, Any]:
    """The messages as they were without traces."""
    file = descriptor_pb2.FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    for message in file.message_type:
        for field in list(message.field):
            if field.name == "traceparent":
                message.field.remove(field)
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"datasync.v1.{name}"))
        for name in ("CommitRequest", "ReplaceRequest")
    }


def test_a_trace_goes_by_a_server_that_knows_none(before: Mapping[str, Any]) -> None:
    with carrying(TRACE):
        (sent,) = pb.CommitRequests.FromString(request_of(7, [Put("a", b"1")], reply=True)).commits
    assert sent.traceparent == TRACE
    read = before["CommitRequest"].FromString(sent.SerializeToString())
    assert (read.id, read.keys, read.values, read.reply) == (7, ["a"], [b"1"], True)

    state = pb.ReplaceRequest(keys=["a"], values=[b"1"], traceparent=TRACE)
    read = before["ReplaceRequest"].FromString(state.SerializeToString())
    assert (read.keys, read.values) == (["a"], [b"1"])


def test_a_client_that_knows_no_traces_is_understood(before: Mapping[str, Any]) -> None:
    sent = before["CommitRequest"](id=7, keys=["a"], values=[b"1"], reply=True)
    read = pb.CommitRequest.FromString(sent.SerializeToString())
    assert operations_of(read) == [Put("a", b"1")]
    assert (read.id, read.reply, read.traceparent) == (7, True, "")


def test_transactions_that_are_joined_are_one_message_again() -> None:
    sent = [request_of(number, [Put(f"k/{number}", b"1")], reply=False) for number in range(3)]
    read = pb.CommitRequests.FromString(b"".join(sent)).commits
    assert [(one.id, one.keys[:]) for one in read] == [(n, [f"k/{n}"]) for n in range(3)]
