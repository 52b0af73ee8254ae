"""What Kafka's error codes become: each by its name, with the reason and the way out."""

from __future__ import annotations

import re

import pytest

from datasync import BadStore, Disconnected, Unauthorized
from datasync.msgsync.kafka import errors
from datasync.msgsync.kafka.errors import Code

_LATER = """
    CORRUPT_MESSAGE LEADER_NOT_AVAILABLE NOT_LEADER_OR_FOLLOWER REQUEST_TIMED_OUT BROKER_NOT_AVAILABLE
    REPLICA_NOT_AVAILABLE NETWORK_EXCEPTION COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR
    NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND NOT_CONTROLLER CONCURRENT_TRANSACTIONS KAFKA_STORAGE_ERROR
    FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH OFFSET_NOT_AVAILABLE THROTTLING_QUOTA_EXCEEDED UNSTABLE_OFFSET_COMMIT
    INCONSISTENT_TOPIC_ID
""".split()
_UNAUTHORIZED = """
    TOPIC_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED UNSUPPORTED_SASL_MECHANISM
    ILLEGAL_SASL_STATE TRANSACTIONAL_ID_AUTHORIZATION_FAILED SASL_AUTHENTICATION_FAILED
""".split()
_GONE = """
    UNKNOWN_TOPIC_OR_PARTITION UNKNOWN_TOPIC_ID INVALID_PRODUCER_EPOCH INVALID_TXN_STATE INVALID_PRODUCER_ID_MAPPING
    PRODUCER_FENCED TRANSACTION_ABORTABLE
""".split()


@pytest.mark.parametrize("code", Code, ids=lambda code: code.name)
def test_each_code_has_its_name_a_reason_and_a_way_out(code: Code) -> None:
    wanted: type[Exception] = BadStore
    if code.name in (*_LATER, *_GONE):
        wanted = Disconnected
    elif code.name in _UNAUTHORIZED:
        wanted = Unauthorized
    for error in (
        errors.of_code(code, "kafka://h/t", "reading"),
        errors.not_written(code, "kafka://h/t"),
    ):
        assert type(error) is wanted
        assert re.fullmatch(
            rf"kafka://h/t: (reading|nothing).*: .+ \({code.name}\); .+", str(error)
        )
    assert (code in errors.LATER) is (code.name in _LATER)


def test_a_code_that_nobody_knows() -> None:
    assert "error 4711" in str(errors.of_code(4711, "kafka://h/t", "reading"))
