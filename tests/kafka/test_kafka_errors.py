"""What Kafka's error codes become: each by its name, with the reason and the way out."""

from __future__ import annotations

import asyncio
import re

import pytest

from datasync import BadStore, DataSync, Disconnected, OutcomeUnknown, Unauthorized
from datasync.msgsync import _kafka_errors as errors
from datasync.msgsync._kafka_errors import Code
from datasync.testing.chaos import kafka_topics as topics
from tests.kafka.kafka_server import cluster_of_three
from tests.servers import PATIENCE, until

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
_TOO_FEW = r"nothing was written.*NOT_ENOUGH_REPLICAS.*min\.insync\.replicas"
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
    for error in (errors.of_code(code, "kafka://h/t", "reading"), errors.not_written(code, "kafka://h/t")):
        assert type(error) is wanted
        assert re.fullmatch(rf"kafka://h/t: (reading|nothing).*: .+ \({code.name}\); .+", str(error))
    assert (code in errors.LATER) is (code.name in _LATER)


def test_a_code_that_nobody_knows() -> None:
    assert "error 4711" in str(errors.of_code(4711, "kafka://h/t", "reading"))


@pytest.mark.once
def test_too_few_replicas_in_sync_are_said_with_the_way_out() -> None:
    async def main() -> None:
        async with cluster_of_three() as members:
            first, second, _ = members
            await topics.make(first.port, "t", replicas=[1, 2], min_insync_replicas=2)
            url = f"{first.url}/t?timeout="
            patience = f"{2 * PATIENCE:g}"  # a broker starts meanwhile
            async with DataSync(f"{url}5") as sync, DataSync(url + patience) as patient:
                await patient.put("a/0", b"0")
                await patient.txn().put("b/1", b"0").put("b/2", b"0").commit()
                await second.kill()

                async def refused() -> bool:
                    try:
                        await sync.put("a/1", b"unknown, as long as the replica is waited for")
                    except (Disconnected, OutcomeUnknown) as error:
                        return isinstance(error, Disconnected)
                    return False

                await until(refused, "the replica is out of sync")
                for write in (sync.put("a/1", b"1"), sync.txn().put("b/1", b"1").put("b/2", b"1").commit()):
                    with pytest.raises(Disconnected, match=_TOO_FEW):
                        await write
                put = asyncio.ensure_future(patient.put("a/2", b"2"))
                await asyncio.sleep(0.5)
                assert not put.done()
                await second.start()
                await put
            found = await topics.everything(first.port, "t")
            assert found.pop("a/1", b"unknown").startswith(b"unknown")
            assert found == {"a/0": b"0", "b/1": b"0", "b/2": b"0", "a/2": b"2"}

    asyncio.run(main())
