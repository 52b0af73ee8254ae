"""What `datasync doctor` finds out of a Redis server."""

from __future__ import annotations

import asyncio
import time

import pytest

from datasync import open_url
from datasync.findings import Finding, Severity, clock_finding
from tests.helpers.redis.redis_groups import redis_cluster, watched_by_one
from tests.helpers.redis.redis_server import redis_server

pytestmark = pytest.mark.once


async def found_at(url: str) -> list[Finding]:
    """All of it."""
    source = open_url(url)
    try:
        return list(await source.diagnose("a/datasync-doctor"))
    finally:
        await source.aclose()


def about(found: list[Finding], what: str) -> list[Finding]:
    """Those about one part."""
    return [finding for finding in found if finding.about == what]


def test_settings_that_lose_data_are_told_with_what_to_change() -> None:
    async def main() -> None:
        async with redis_server() as server, server.client() as client:
            found = await found_at(server.url)
            version = str((await server.info("server"))["redis_version"])
            [told] = about(found, "server")
            assert told.text == f"127.0.0.1:{server.port} runs Redis {version}"
            assert [one.severity for one in about(found, "clock")] == [Severity.OK]
            assert [one.severity for one in about(found, "permissions")] == [Severity.OK]
            assert [one.severity for one in about(found, "eviction")] == [Severity.OK]

            await client.config_set("maxmemory", 64 << 20)
            await client.config_set("maxmemory-policy", "allkeys-lru")
            await client.config_set("appendonly", "no")
            await client.config_set("save", "")
            found = await found_at(server.url)
            [eviction] = about(found, "eviction")
            assert eviction.severity is Severity.WARNING
            assert "beyond 64.0 MiB" in eviction.text
            assert "allkeys-lru" in eviction.text
            assert "noeviction" in eviction.advice
            [persistence] = about(found, "persistence")
            assert persistence.severity is Severity.WARNING
            assert "keeps nothing" in persistence.text
            assert persistence.advice == "CONFIG SET appendonly yes"

            await client.config_set("appendonly", "yes")
            [persistence] = about(await found_at(server.url), "persistence")
            assert persistence.severity is Severity.OK

    asyncio.run(main())


def test_what_a_user_may_do_is_asked_and_not_tried() -> None:
    async def main() -> None:
        async with redis_server() as server, server.client() as client:
            allowed = "on >pass ~a/* +@read +@connection +acl|whoami +acl|dryrun +time +select"
            assert client
            await server.do("ACL", "SETUSER", "reader", *allowed.split())
            found = await found_at(f"redis://reader:pass@127.0.0.1:{server.port}")
            reasons = [
                one for one in about(found, "permissions") if one.severity is Severity.WARNING
            ]
            [refused] = reasons
            assert refused.text.startswith(f"may not write at 127.0.0.1:{server.port}: ")
            assert "ACL SETUSER" in refused.advice
            untold = [one.text for one in about(found, "permissions") if one not in reasons]
            assert untold == [f"settings at 127.0.0.1:{server.port}: this user may not ask for it"]
            assert await server.everything() == {}

    asyncio.run(main())


def test_clocks_that_differ_are_told() -> None:
    now = time.time()
    for theirs, severity in (
        (now, Severity.OK),
        (now - 1, Severity.OK),
        (now + 600, Severity.WARNING),
        (now - 600, Severity.WARNING),
    ):
        found = clock_finding("it", theirs, now, now + 0.1)
        assert found.severity is severity
    assert "600 s behind" in found.text
    # a slow answer is not a difference
    assert clock_finding("it", now + 5, now, now + 10).severity is Severity.OK


def test_each_primary_of_a_cluster_and_the_one_behind_sentinels_are_asked() -> None:
    async def main() -> None:
        async with redis_cluster() as cluster:
            found = await found_at(cluster.url())
            ports = {member.port for member in cluster.members[:3]}
            told = {int(one.text.split()[0].rpartition(":")[2]) for one in about(found, "server")}
            assert told == ports
        async with watched_by_one() as watchers:
            found = await found_at(watchers.url())
            [server] = about(found, "server")
            primary = await watchers.primary()
            assert server.text.startswith(f"127.0.0.1:{primary.port} runs Redis ")

    asyncio.run(main())
