"""What is private of aiokafka, each by its name: a version that has another of them fails here,
and says which.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from aiokafka import conn

import datasync
from datasync.msgsync.kafka import internals

_TRANSACTION = ["transactional_id", "producer_id", "producer_epoch"]
NAMED: dict[str, list[str] | None] = {
    # module:name, and the parameters that are given, in order where they are given by place; None:
    # not called, or of C
    "aiokafka.codec:gzip_decode": ["payload"],
    "aiokafka.codec:lz4_decode": ["payload"],
    "aiokafka.codec:snappy_decode": ["payload"],
    "aiokafka.codec:zstd_decode": ["payload"],
    "aiokafka.conn:AIOKafkaConnection": ["host", "port"],
    "aiokafka.coordinator.protocol:ConsumerProtocolMemberAssignment": None,
    "aiokafka.coordinator.protocol:ConsumerProtocolMemberMetadata": None,
    "aiokafka.partitioner:murmur2": ["data"],
    "aiokafka.protocol.abstract:AbstractType": None,
    "aiokafka.protocol.admin:CreateTopicsRequest": ["create_topic_requests", "timeout", "validate_only"],
    "aiokafka.protocol.admin:DescribeConfigsRequest": ["resources"],
    "aiokafka.protocol.api:Request": None,
    "aiokafka.protocol.api:RequestStruct": None,
    "aiokafka.protocol.api:Response": None,
    "aiokafka.protocol.commit:OffsetCommitRequest": [
        "consumer_group", "consumer_group_generation_id", "consumer_id", "retention_time", "topics",
    ],
    "aiokafka.protocol.coordination:FindCoordinatorRequest": ["coordinator_key", "coordinator_type"],
    "aiokafka.protocol.group:HeartbeatRequest": ["group", "generation_id", "member_id"],
    "aiokafka.protocol.group:JoinGroupRequest": [
        "group", "session_timeout", "rebalance_timeout", "member_id", "group_instance_id",
        "protocol_type", "group_protocols",
    ],
    "aiokafka.protocol.group:LeaveGroupRequest": ["group", "member_id"],
    "aiokafka.protocol.group:SyncGroupRequest": [
        "group", "generation_id", "member_id", "group_instance_id", "group_assignment",
    ],
    "aiokafka.protocol.offset:OffsetRequest": ["replica_id", "isolation_level", "topics"],
    "aiokafka.protocol.produce:ProduceRequest": ["transactional_id", "required_acks", "timeout", "topics"],
    "aiokafka.protocol.transaction:AddPartitionsToTxnRequest": [*_TRANSACTION, "topics"],
    "aiokafka.protocol.transaction:EndTxnRequest": [*_TRANSACTION, "transaction_result"],
    "aiokafka.protocol.transaction:InitProducerIdRequest": ["transactional_id", "transaction_timeout_ms"],
    **{
        f"aiokafka.protocol.types:{name}": None
        for name in ("Boolean", "CompactArray", "CompactBytes", "CompactString", "Int8", "Int16", "Int32", "Int64",
                     "TaggedFields")
    },
    "aiokafka.protocol.types:Schema": ["fields"],
    "aiokafka.record.default_records:DefaultRecordBatchBuilder": None,
    "aiokafka.record.memory_records:MemoryRecords": None,
    "aiokafka.record.util:decode_varint": ["buffer", "pos"],
}  # fmt: skip
MEMBERS: dict[str, list[str] | None] = {
    "aiokafka.conn:AIOKafkaConnection._create_reader_task": ["self"],
    "aiokafka.conn:AIOKafkaConnection.close": ["self", "reason", "exc"],
    "aiokafka.conn:AIOKafkaConnection.connect": ["self"],
    "aiokafka.conn:AIOKafkaConnection.connected": ["self"],
    "aiokafka.conn:AIOKafkaConnection.send": ["self", "request"],
    "aiokafka.coordinator.protocol:ConsumerProtocolMemberAssignment.decode": None,
    "aiokafka.coordinator.protocol:ConsumerProtocolMemberMetadata.encode": None,
    "aiokafka.protocol.api:Request.build": ["self", "request_struct_class"],
    "aiokafka.record.default_records:DefaultRecordBatchBuilder.append": [
        "self", "offset", "timestamp", "key", "value", "headers",
    ],
    "aiokafka.record.default_records:DefaultRecordBatchBuilder.build": None,
    "aiokafka.record.memory_records:MemoryRecords.has_next": None,
    "aiokafka.record.memory_records:MemoryRecords.next_batch": None,
}  # fmt: skip
OPTIONS = [
    "client_id", "request_timeout_ms", "security_protocol", "ssl_context", "sasl_mechanism",
    "sasl_plain_username", "sasl_plain_password",
]  # fmt: skip
PUBLIC = {"aiokafka", "aiokafka.admin", "aiokafka.admin.config_resource", "aiokafka.errors"}
"""What aiokafka documents; errors are used as they are, the clients by the tools of tests."""


def found(name: str) -> Any:
    module, _, path = name.partition(":")
    one: Any = importlib.import_module(module)
    for part in path.split("."):
        one = getattr(one, part)
    return one


def imported(path: Path) -> set[str]:
    """What a file takes from aiokafka, as module:name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "aiokafka":
            names |= {f"{node.module}:{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                f"{alias.name}:"
                for alias in node.names
                if alias.name.partition(".")[0] == "aiokafka"
            }
    return names


@pytest.mark.parametrize("name", [*NAMED, *MEMBERS])
def test_what_is_private_is_what_it_was(name: str) -> None:
    given = (NAMED | MEMBERS)[name]
    one = found(name)
    if given is not None:
        assert list(inspect.signature(one).parameters)[: len(given)] == given


def test_all_that_is_private_stands_in_one_module_and_here() -> None:
    assert imported(Path(internals.__file__)) == set(NAMED)
    for path in Path(datasync.__file__).parent.rglob("*.py"):
        if path != Path(internals.__file__):
            assert {name.partition(":")[0] for name in imported(path)} <= PUBLIC, path


def test_the_options_of_a_connection() -> None:
    assert set(OPTIONS) <= set(inspect.signature(conn.AIOKafkaConnection).parameters)


def test_where_a_connection_can_be_bounded_and_cut() -> None:
    """The reader is there before the task that reads begins,
    and it is called for no more than this.
    """
    connecting = inspect.getsource(conn.AIOKafkaConnection.connect)
    assert (
        0
        < connecting.index("self._reader, self._writer")
        < connecting.index("self._create_reader_task()")
    )
    source = inspect.getsource(conn)
    assert {part.split("(")[0] for part in source.split("reader.")[1:]} <= {"readexactly", "at_eof"}
    assert "self._writer.close()" in inspect.getsource(conn.AIOKafkaConnection.close)


def test_what_is_left_out_of_its_log_is_still_said_so() -> None:
    source = inspect.getsource(conn)
    assert 'log.exception("Unexpected exception in AIOKafkaConnection")' in source
    assert "log = logging.getLogger(__name__)" in source
    sasl = importlib.import_module("aiokafka.protocol.admin")
    assert [name for name in vars(sasl) if name.startswith("Sasl") and name.endswith("Request")]
