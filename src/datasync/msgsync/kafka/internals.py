"""All that is taken of aiokafka beside its errors: it is private there, and
may be another with each version.

`tests/msgsync/kafka/test_internals.py` names each of these, with what is expected of it.
"""

from __future__ import annotations

import logging
from typing import Any

from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.conn import AIOKafkaConnection
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.partitioner import murmur2
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
)
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

__all__ = [
    "AbstractType", "AddPartitionsToTxnRequest", "Boolean", "CompactArray", "CompactBytes",
    "CompactString", "Connection", "ConsumerProtocolMemberAssignment",
    "ConsumerProtocolMemberMetadata", "CreateTopicsRequest", "DefaultRecordBatchBuilder",
    "DescribeConfigsRequest", "EndTxnRequest", "FindCoordinatorRequest", "FrameTooLarge",
    "HeartbeatRequest", "InitProducerIdRequest", "Int8", "Int16", "Int32", "Int64",
    "JoinGroupRequest", "LeaveGroupRequest", "MemoryRecords", "OffsetCommitRequest",
    "OffsetRequest", "ProduceRequest", "Request", "RequestStruct", "Response", "Schema",
    "SyncGroupRequest", "TaggedFields", "decode_varint", "gzip_decode",
    "lz4_decode", "murmur2", "snappy_decode", "zstd_decode",
]  # fmt: skip


def _holds_no_password(record: logging.LogRecord) -> bool:
    args = record.args if isinstance(record.args, tuple) else ()
    return not any("Sasl" in type(argument).__name__ for argument in args)


def _is_about_no_answer(record: logging.LogRecord) -> bool:
    return record.msg != "Unexpected exception in AIOKafkaConnection"


_log = logging.getLogger("aiokafka.conn")
# at level DEBUG the client writes down whole requests, those with a password too
_log.addFilter(_holds_no_password)
# an answer that cannot be read is the error of all calls that wait, and
# needs no traceback beside it
_log.addFilter(_is_about_no_answer)


class FrameTooLarge(ConnectionError):
    """The broker announces more than `most` bytes at once, or less than nothing."""

    def __init__(self, most: int) -> None:
        super().__init__(f"a frame is larger than {most} bytes")
        self.most = most


class Connection(AIOKafkaConnection):  # type: ignore[misc] # it has no types
    """The client's own, but for the bound. `most`: bytes of one answer."""

    _reader: Any
    _writer: Any

    def __init__(self, host: str, port: int, most: int, **more: Any) -> None:
        super().__init__(host, port, **more)
        self._most = most

    def _create_reader_task(self) -> Any:
        # called for each connection, just before its first answer
        self._reader = _Bounded(self._reader, self._most)
        return super()._create_reader_task()

    def close(self, reason: Any = None, exc: BaseException | None = None) -> Any:
        if exc is not None:
            exc.__traceback__ = None  # G9: it leads back here, from the task that reads
        # G12: at once; a broker that does not answer is not waited for, neither to take
        # the rest nor for the end of TLS
        if self._writer is not None:
            self._writer.transport.abort()
        return super().close(reason, exc)


class _Bounded:
    """A reader that waits for no more than `most` bytes at once."""

    def __init__(self, reader: Any, most: int) -> None:
        self._reader = reader
        self._most = most

    async def readexactly(self, size: int) -> bytes:
        if not 0 <= size <= self._most:
            raise FrameTooLarge(self._most)
        data: bytes = await self._reader.readexactly(size)
        return data

    def at_eof(self) -> bool:
        return bool(self._reader.at_eof())
