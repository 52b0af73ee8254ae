"""The two requests that name a topic by its id (KIP-516), in the versions
that Kafka has spoken since 3.1.

A fetch by id can never read another topic that took the name over. Fields
are as in Kafka's protocol guide.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from datasync.msgsync.kafka.internals import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Request,
    RequestStruct,
    Response,
    Schema,
    TaggedFields,
)

__all__ = ["DIVERGING_EPOCH", "FetchById", "TopicMetadata"]

DIVERGING_EPOCH = 0
"""The tag of a partition's answer that says: the log was cut off before the offset asked for."""
_READ_COMMITTED = 1
_CONSUMER = -1
_NO_ID = bytes(16)


class Uuid(AbstractType[bytes]):
    """16 bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class MetadataResponse(Response):
    """Brokers and topics; of each topic its id and partitions."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("index", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", Uuid), ("name", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicMetadata(Request[_MetadataRequest]):
    """Where the partitions of the topic of that name are."""

    API_KEY = 3

    def __init__(self, topic: str, *, leave: bool = False) -> None:
        """leave: also what this user may do with it."""
        self._topic = topic
        self._leave = leave

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class([(_NO_ID, self._topic, {})], False, self._leave, {})


class FetchResponse(Response):
    """The records of each partition, and how far it goes."""

    API_KEY = 1
    API_VERSION = 13
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("index", Int32),
                        ("error_code", Int16),
                        ("high_watermark", Int64),
                        ("last_stable_offset", Int64),
                        ("log_start_offset", Int64),
                        (
                            "aborted",
                            CompactArray(
                                ("producer_id", Int64),
                                ("first_offset", Int64),
                                ("tags", TaggedFields),
                            ),
                        ),
                        ("preferred_read_replica", Int32),
                        ("records", CompactBytes),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _FetchRequest(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 1
    API_VERSION = 13
    RESPONSE_TYPE = FetchResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("max_wait_ms", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("index", Int32),
                        ("current_leader_epoch", Int32),
                        ("fetch_offset", Int64),
                        ("last_fetched_epoch", Int32),
                        ("log_start_offset", Int64),
                        ("max_bytes", Int32),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        (
            "forgotten",
            CompactArray(
                ("topic_id", Uuid), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("rack_id", CompactString()),
        ("tags", TaggedFields),
    )


class FetchById(Request[_FetchRequest]):
    """Committed records of partitions, each (index, leader epoch, offset, epoch
    of the record before or -1)."""

    API_KEY = 1

    def __init__(
        self,
        topic: bytes,
        partitions: Sequence[tuple[int, int, int, int]],
        wait_ms: int,
        most: int,
        each: int,
    ) -> None:
        self._topic = topic
        self._partitions: list[Any] = [
            (index, leader_epoch, offset, epoch, -1, each, {})
            for index, leader_epoch, offset, epoch in partitions
        ]
        self._wait_ms = wait_ms
        self._most = most

    def build(self, request_struct_class: type[_FetchRequest]) -> _FetchRequest:
        topics: list[Any] = [(self._topic, self._partitions, {})]
        # without a fetch session: its id is 0, its epoch -1
        return request_struct_class(
            _CONSUMER, self._wait_ms, 1, self._most, _READ_COMMITTED, 0, -1, topics, [], "", {}
        )
