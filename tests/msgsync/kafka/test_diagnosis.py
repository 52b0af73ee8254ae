"""What `datasync doctor` finds out of a topic."""

from __future__ import annotations

import asyncio

import pytest

from datasync import BadStore, open_url
from datasync.findings import Finding, Severity
from datasync.testing.chaos import kafka_topics as topics
from tests.helpers.kafka.kafka_server import KafkaServer

pytestmark = pytest.mark.once


async def found_at(url: str) -> list[Finding]:
    """All of it."""
    source = open_url(url)
    source.create = False
    try:
        return list(await source.diagnose("datasync-doctor"))
    finally:
        await source.aclose()


def about(found: list[Finding], what: str) -> list[Finding]:
    """Those about one part."""
    return [finding for finding in found if finding.about == what]


def test_the_settings_of_the_topic_are_told_with_what_to_change(server: KafkaServer) -> None:
    async def main() -> None:
        good, bad = topics.new_name(), topics.new_name()
        await topics.make(server.inner, good, partitions=2)
        await topics.make(server.inner, bad, cleanup_policy="delete", delete_retention_ms=1000)
        base = f"kafka://127.0.0.1:{server.port}"

        found = await found_at(f"{base}/{good}")
        assert [one.severity for one in about(found, "settings")] == [Severity.OK]
        assert "2 partitions" in about(found, "server")[0].text
        [replicas] = about(found, "replicas")
        assert replicas.severity is Severity.WARNING
        assert "a single replica" in replicas.text

        policy, retention = about(await found_at(f"{base}/{bad}"), "settings")
        assert policy.severity is retention.severity is Severity.WARNING
        assert policy.advice == "set cleanup.policy=compact"
        assert "for 1 s" in retention.text

        with pytest.raises(BadStore, match="does not exist"):
            await found_at(f"{base}/{topics.new_name()}?create=1")

    asyncio.run(main())
