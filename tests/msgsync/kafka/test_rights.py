"""Rights: who lacks one that a watch needs hears so at the start; later it is shown,
and nothing is connected again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasync import DataSync, Unauthorized, open_url
from datasync.findings import Severity
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import eventually
from tests.helpers.kafka.kafka_server import KafkaServer, java, run
from tests.helpers.load import QUICK, state_of
from tests.helpers.servers import started

pytestmark = pytest.mark.once

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


class Strict(KafkaServer):
    """A broker that lets alice do only what she was given;
    clients that come by `inner` may do anything.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory,
            protocol="SASL_PLAINTEXT",
            settings=[
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users=User:ANONYMOUS",
                "sasl.enabled.mechanisms=PLAIN",
                f'listener.name.clients.plain.sasl.jaas.config={_PLAIN} user_alice="s3cret";',
            ],
        )

    def url_of(self, topic: str, query: str = "") -> str:
        return f"kafka://alice:s3cret@127.0.0.1:{self.port}/{topic}?{query}"

    async def allow(self, topic: str, *operations: str, change: str = "--add") -> None:
        """Give alice rights on a topic, or take them away."""
        command = java(
            "org.apache.kafka.tools.AclCommand",
            "--bootstrap-server",
            f"127.0.0.1:{self.inner}",
            change,
            "--force",
        )
        chosen = [part for operation in operations for part in ("--operation", operation)]
        await run(*command, "--allow-principal", "User:alice", "--topic", topic, *chosen)


@pytest.fixture(scope="module")
def strict() -> Iterator[Strict]:
    with started(Strict) as server:
        yield server


def test_a_user_without_read_hears_so_at_the_start_and_later_it_is_shown(
    strict: Strict, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(strict.inner, topic, partitions=3)
        sync = DataSync(strict.url_of(topic), **QUICK)
        view = sync.view("")
        with pytest.raises(Unauthorized, match="rights on the topic"):
            await sync.start()

        await strict.allow(topic, "Describe", "DescribeConfigs", "Write")
        for group in ("", "group=workers"):
            sync = DataSync(strict.url_of(topic, group), **QUICK)
            view = sync.view("")
            with pytest.raises(
                Unauthorized, match=r"right to Read on the topic.*TOPIC_AUTHORIZATION_FAILED"
            ):
                await sync.start()
        # who only writes need not read
        async with DataSync(strict.url_of(topic), **QUICK) as writer:
            await writer.put("a/1", b"1")
            with pytest.raises(Unauthorized):
                await writer.get("a/1")

        await strict.allow(topic, "Read")
        async with DataSync(strict.url_of(topic), **QUICK) as sync:
            view = sync.view("")
            await sync.ready(60)
            assert dict(view) == {"a/1": b"1"}
            sync2 = DataSync(strict.url_of(topic, "group=workers"), **QUICK)
            view2 = sync2.view("")
            with pytest.raises(Unauthorized, match="Read the group"):
                await sync2.start()
            del view2

            await strict.allow(topic, "Read", change="--remove")
            await eventually(lambda: "right to Read" in (sync.status().sources[0].error or ""))
            await asyncio.sleep(1)  # several tries
            assert state_of(sync) == "lost"
            assert sync.status().sources[0].reconnects == 0
            assert "connected again" not in caplog.text
            await strict.allow(topic, "Read")
            await eventually(lambda: state_of(sync) == "following")
            await sync.put("a/2", b"2")
            await eventually(lambda: dict(view) == {"a/1": b"1", "a/2": b"2"})

    with caplog.at_level(logging.INFO, "datasync"):
        asyncio.run(main())
    assert "s3cret" not in caplog.text


def test_who_may_not_read_the_settings_watches_more_while_running(strict: Strict) -> None:
    """G8: for how long tombstones are kept is not known, so no position is proven:
    the topic is read again.
    """

    async def main() -> None:
        topic = topics.new_name()
        await topics.make(strict.inner, topic, partitions=2)
        await strict.allow(topic, "Describe", "Read", "Write")
        async with DataSync(strict.url_of(topic), **QUICK) as sync:
            one = sync.view("a/")
            await sync.ready(60)
            await sync.put("a/1", b"1")
            await sync.put("b/1", b"1")
            await eventually(lambda: dict(one) == {"a/1": b"1"})
            other = sync.view("b/")
            await sync.ready(60)
            assert dict(other) == {"b/1": b"1"}
            await sync.put("a/1", b"2")
            await sync.put("b/1", b"2")
            await eventually(lambda: (one["a/1"], other["b/1"]) == (b"2", b"2"))
            assert sync.status().sources[0].reconnects == 0

    asyncio.run(main())


def test_a_doctor_hears_what_a_user_may_do(strict: Strict) -> None:
    async def permissions(topic: str) -> list[tuple[Severity, str]]:
        source = open_url(strict.url_of(topic))
        try:
            found = await source.diagnose("datasync-doctor")
        finally:
            await source.aclose()
        return [(one.severity, one.text) for one in found if one.about == "permissions"]

    async def main() -> None:
        topic = topics.new_name()
        await topics.make(strict.inner, topic)
        await strict.allow(topic, "Describe", "Write")
        assert await permissions(topic) == [(Severity.ERROR, "may not read the topic")]
        await strict.allow(topic, "Read", "DescribeConfigs")
        assert await permissions(topic) == [(Severity.OK, "may read and write")]
        await strict.allow(topic, "Write", change="--remove")
        assert await permissions(topic) == [(Severity.WARNING, "may not write to the topic")]

    asyncio.run(main())
