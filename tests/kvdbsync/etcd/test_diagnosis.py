"""What `datasync doctor` finds out of an etcd cluster."""

from __future__ import annotations

import asyncio

import pytest

from datasync import Source, Unauthorized, open_url
from datasync.errors import Conflict
from datasync.findings import Finding, Severity
from datasync.kvdbsync.etcd.versions import advice
from datasync.source import Check, Put
from tests.helpers.certificates import Authority
from tests.helpers.etcd.etcd_server import (
    DEBIAN,
    NEW,
    EtcdServer,
    cluster_of_three,
    etcd_server,
    tls_flags,
    versions,
)
from tests.helpers.servers import require, scratch, until

pytestmark = pytest.mark.once


async def found_at(url: str) -> list[Finding]:
    """All of it."""
    source = open_url(url)
    try:
        return list(await source.diagnose("datasync-doctor"))
    finally:
        await source.aclose()


def about(found: list[Finding], what: str) -> list[Finding]:
    """Those about one part."""
    return [finding for finding in found if finding.about == what]


@versions
def test_a_member_tells_its_version_and_what_is_known_of_it(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server:
            found = await found_at(server.url)
            runs = await server.version()
            [told] = about(found, "server")
            assert f"127.0.0.1:{server.port} runs etcd {runs}" in told.text
            known = advice(runs)
            if known is None:
                assert (told.severity, told.advice) == (Severity.OK, "")
            else:
                assert told.severity is Severity.WARNING
                assert told.advice == f"update{known.rpartition('update')[2]}"
            [size] = about(found, "size")
            assert size.severity is Severity.OK
            assert not about(found, "alarm")

            await server.alarm(1)
            [alarm] = about(await found_at(server.url), "alarm")
            assert alarm.severity is Severity.ERROR
            assert "NOSPACE" in alarm.text
            assert "defragment" in alarm.advice

    asyncio.run(main())


def test_a_small_quota_is_told() -> None:
    async def main() -> None:
        async with etcd_server(NEW, extra=["--quota-backend-bytes", "2097152"]) as server:
            source = open_url(server.url)
            for number in range(28):
                await source.commit([Put(f"k{number}", bytes(65536))])
            await source.aclose()
            # the server writes to its file now and then
            found: list[Finding] = []

            async def look() -> bool:
                found[:] = about(await found_at(server.url), "size")
                return found[0].severity is Severity.WARNING

            await until(look, "a warning")
            [size] = found
            assert "of a quota of 2.0 MiB; when it is full" in size.text

    asyncio.run(main())


@pytest.mark.parametrize("compacted", [False, True])
def test_a_history_that_nobody_compacts_is_told(
    compacted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasync.kvdbsync.etcd.diagnosis._LONG", 10)

    async def main() -> None:
        async with etcd_server(DEBIAN) as server:
            source = open_url(server.url)
            for number in range(20):
                await source.commit([Put("k", b"%d" % number)])
            await source.aclose()
            if compacted:
                await server.compact()
            [history] = about(await found_at(server.url), "history")
            if compacted:
                assert history.severity is Severity.OK
            else:
                assert history.severity is Severity.WARNING
                assert history.text.startswith("all of its 21 revisions are kept")
                assert "--auto-compaction-retention" in history.advice

    asyncio.run(main())


def test_each_member_is_asked() -> None:
    async def main() -> None:
        async with cluster_of_three(DEBIAN) as members:
            members[1].end()
            hosts = ",".join(f"127.0.0.1:{member.port}" for member in members)
            found = await found_at(f"etcd://{hosts}?timeout=2")
            assert len(about(found, "server")) == 2
            [gone] = about(found, "member")
            assert gone.severity is Severity.ERROR
            assert f"127.0.0.1:{members[1].port}: connection refused" in gone.text

    asyncio.run(main())


def test_who_may_not_write_hears_it_and_nothing_is_written() -> None:
    async def tried(source: Source) -> None:
        try:
            await source.commit([Check("a/doctor", 2**62 - 1), Put("a/doctor", b"")])
        finally:
            await source.aclose()

    async def main() -> None:
        async with etcd_server(DEBIAN) as server:
            await server.ctl("role", "add", "reader")
            await server.ctl("role", "grant-permission", "reader", "--prefix=true", "read", "a/")
            await server.ctl("user", "add", "reader:pass")
            await server.ctl("user", "grant-role", "reader", "reader")
            await server.ask_for_passwords({"writer": "pass"})
            at = f"127.0.0.1:{server.port}"
            with pytest.raises(Unauthorized):
                await tried(open_url(f"etcd://reader:pass@{at}"))
            with pytest.raises(Conflict):
                await tried(open_url(f"etcd://writer:pass@{at}"))
            assert await server.everything() == {}

    asyncio.run(main())


def test_a_certificate_that_ends_soon_is_told() -> None:
    async def main() -> None:
        async with scratch() as directory:
            ours = Authority(require("openssl", "apt-get install -y openssl"), directory / "ca")
            ours.issue("long")
            ours.issue("short", days=3)
            ours.issue("client")
            files = f"ca={ours.ca}&cert={ours.cert('client')}&key={ours.key('client')}"
            for name, severity in (("long", Severity.OK), ("short", Severity.WARNING)):
                (directory / name).mkdir()
                server = EtcdServer(DEBIAN, directory / name, tls=tls_flags(ours, name))
                try:
                    await server.start()
                    [shown] = about(
                        await found_at(f"etcds://127.0.0.1:{server.port}?{files}"), "certificate"
                    )
                finally:
                    server.end()
                assert shown.severity is severity
                if name == "short":
                    assert "ends in 3 days" in shown.text

    asyncio.run(main())
