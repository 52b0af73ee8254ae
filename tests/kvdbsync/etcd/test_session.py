"""The session itself, frame by frame: the edge of the snapshot, fragments,
the proof of the history.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from datasync import BadStore, DataSync, Disconnected, HistoryLost, open_url
from datasync.kvdbsync.etcd.session import EtcdSession
from datasync.source import Commit
from tests.helpers.etcd.etcd_server import DEBIAN, NEW, etcd_server, versions
from tests.helpers.etcd.frames import reader
from tests.helpers.servers import listening, require


@versions
def test_a_transaction_in_many_fragments_is_one_commit(version: str) -> None:
    async def main() -> None:
        large = ["--max-txn-ops", "20000", "--max-request-bytes", str(20 << 20)]
        async with etcd_server(version, extra=large) as server, DataSync(server.url) as writer:
            source = open_url(server.url)
            frames = await reader(source, ["a/"])
            _, end = await frames.snapshot()
            await frames.aclose()
            for value in (b"1", b"2"):
                txn = writer.txn()
                for number in range(10_000):
                    txn.put(f"a/{number:05}", value * 500)
                await txn.commit()
            # fragments may be as large as a request, so the server is to take but small ones
            at = server.command.index("--max-request-bytes")
            server.command[at + 1] = "1000"
            await server.kill()
            await server.start()
            frames = await reader(source, ["a/"], end.position)
            for value in (b"1", b"2"):
                commit = await frames.commit()
                assert len(commit.changes) == 10_000
                assert {raw for _, raw in commit.changes} == {value * 500}
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


@versions
def test_the_proof_of_the_history(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as writer:
            await writer.put("a/1", b"1")
            await writer.put("a/2", b"2")
            source = open_url(server.url)
            frames = await reader(source, ["a/"])
            _, end = await frames.snapshot()
            position = end.position
            assert (position.key, position.at) == ("a/2", position.revision)

            async def first(resume: Any) -> Commit:
                resumed = await reader(source, ["a/"], resume)
                commit = await resumed.commit()
                await resumed.aclose()
                return commit

            async def assert_lost(resume: Any) -> None:
                with pytest.raises(HistoryLost) as caught:
                    await source.open(["a/"], resume)
                assert caught.value.changed

            # whatever happened to the newest key since
            await writer.put("a/2", b"22")
            assert dict((await first(position)).changes) == {"a/2": b"22"}
            await writer.delete("a/2")
            assert dict((await first(position)).changes) == {"a/2": b"22"}
            # what an application kept as JSON
            assert dict((await first(json.loads(json.dumps(position)))).changes) == {"a/2": b"22"}

            await assert_lost(position._replace(cluster=7))
            await assert_lost(position._replace(crc=7))
            await assert_lost(position._replace(at=position.at - 1))
            await assert_lost(position._replace(key="a/3"))
            await assert_lost(position._replace(revision=10_000))
            await assert_lost(position._replace(lead=position.lead + 10_000))
            for nonsense in ("text", [1, 2], ["x"] * 8):
                await assert_lost(nonsense)

            # a deletion is known, and proven, as well
            await frames.commit()
            gone = (await frames.commit()).position
            assert (gone.gone, gone.gone_at) == ("a/2", gone.revision)
            await writer.put("a/4", b"4")
            assert dict((await first(gone)).changes) == {"a/4": b"4"}
            # another one than the newest
            resumed = await reader(source, ["a/"], gone)
            await resumed.commit()
            await writer.delete("a/1")
            another = (await resumed.commit()).position
            assert (another.key, another.gone) == ("a/4", "a/1")
            await writer.put("a/5", b"5")
            assert dict((await first(another)).changes) == {"a/5": b"5"}
            await assert_lost(another._replace(gone="a/4"))
            await resumed.aclose()
            await assert_lost(gone._replace(gone="a/1"))
            await assert_lost(gone._replace(gone="a/none"))

            # what the proof needs is compacted: no new history, but a new snapshot
            await server.compact()
            with pytest.raises(HistoryLost, match="compacted") as caught:
                await source.open(["a/"], position)
            assert not caught.value.changed
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


@versions
def test_an_empty_store_can_be_resumed_too(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as writer:
            source = open_url(server.url)
            frames = await reader(source, ["a/"])
            items, end = await frames.snapshot()
            assert not items
            await frames.aclose()
            await writer.put("a/1", b"1")
            frames = await reader(source, ["a/"], end.position)
            assert dict((await frames.commit()).changes) == {"a/1": b"1"}
            await frames.aclose()
            await server.empty()
            with pytest.raises(HistoryLost) as caught:
                await source.open(
                    ["a/"], end.position._replace(revision=1, lead=end.position.lead + 50)
                )
            assert caught.value.changed
            await source.aclose()

    asyncio.run(main())


@versions
def test_keys_that_are_no_text_are_left_alone_and_reported(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as sync:
            await server.put_raw(b"a/\xff", b"1")
            await sync.put("a/1", b"1")
            source = open_url(server.url)
            frames = await reader(source, ["a/"])
            items, _ = await frames.snapshot()
            assert items == {"a/1": b"1"}
            await server.put_raw(b"a/\xff", b"2")
            await sync.put("a/1", b"2")
            assert dict((await frames.commit()).changes) == {"a/1": b"2"}
            assert [kv.key async for kv in sync.list("a/")] == ["a/1"]
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if "UTF-8" in record.getMessage()]
    assert len(said) <= 1


def test_who_watches_nothing_still_learns_that_the_server_is_gone() -> None:
    async def main() -> None:
        async with etcd_server(DEBIAN) as server:
            source = open_url(server.url)
            frames = await reader(source, [])
            await frames.snapshot()
            async with DataSync(server.url) as writer:
                revision = await writer.put("a/1", b"1")
            await frames.session.ping()
            assert (await frames.next()).revision == revision
            await server.kill()
            with pytest.raises(Disconnected):
                await frames.session.ping()
            await frames.aclose()
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


@versions
def test_a_signed_token_that_ends_while_the_snapshot_is_read(version: str, tmp_path: Path) -> None:
    """Using such a token does not make it last, and a watch that begins with an
    expired one is refused.
    """

    openssl = require("openssl", "apt-get install -y openssl")
    private, public = str(tmp_path / "private.pem"), str(tmp_path / "public.pem")
    for command in (
        ["genrsa", "-out", private, "2048"],
        ["rsa", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run([openssl, *command], check=True, capture_output=True)
    token = f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=2s"

    async def main() -> None:
        async with etcd_server(version, extra=["--auth-token", token]) as server:
            await server.ask_for_passwords({"agent": "s3cret"})
            url = f"etcd://agent:s3cret@127.0.0.1:{server.port}"
            async with DataSync(url) as writer:
                await writer.put("a/1", b"1")
                source = open_url(url)
                frames = await reader(source, ["a/"])
                await asyncio.sleep(3.5)  # the token ends
                assert (await frames.snapshot())[0] == {"a/1": b"1"}
                await writer.put("a/1", b"2")
                assert dict((await frames.commit()).changes) == {"a/1": b"2"}
                await frames.aclose()
                await source.aclose()

    asyncio.run(main())


def test_a_ping_that_is_given_up_does_not_end_the_watch() -> None:
    """As its time-out does: on a machine that is busy, just when it writes to the watch."""

    async def main() -> None:
        async with etcd_server(NEW) as server, DataSync(server.url) as writer:
            source = open_url(server.url)
            frames = await reader(source, ["a/"])
            await frames.snapshot()
            session = frames.session
            assert isinstance(session, EtcdSession)
            given_up = 0
            for number in range(20):
                # so that the watch has to be asked how far it is
                await writer.put("b", b"%d" % number)
                ping = asyncio.ensure_future(session.ping())
                while not ping.done():
                    await asyncio.sleep(0)
                    if session._watch._writing.locked():
                        given_up += ping.cancel()
            assert given_up
            await writer.put("a/1", b"1")
            assert dict((await frames.commit()).changes) == {"a/1": b"1"}
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


def test_something_else_than_etcd() -> None:
    async def main() -> None:
        async def hang_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
            pass

        async with listening(hang_up) as port:
            with pytest.raises((Disconnected, BadStore)):
                await open_url(f"etcd://127.0.0.1:{port}?timeout=1").open(["a/"])

    asyncio.run(main())


@versions
def test_the_keys_and_values_of_the_go_package(version: str) -> None:
    """What it stores lies under /vnf-agent/<label>/, as JSON;
    others see what we store in the same place.
    """

    async def main() -> None:
        async with etcd_server(version) as server:
            await server.put_raw(
                b"/vnf-agent/vpp1/config/interface/eth0", b'{"name":"eth0","enabled":true}'
            )
            await server.put_raw(b"/vnf-agent/vpp2/config/interface/eth0", b"{}")
            async with DataSync(server.url, label="vpp1") as sync:
                assert [kv.key async for kv in sync.list("config/")] == ["config/interface/eth0"]
                await sync.put("config/interface/eth1", {"name": "eth1"})
                async with sync.of_agent("vpp2") as other:
                    assert (await other.get("config/interface/eth0")) is not None
            assert (await server.everything())[
                "/vnf-agent/vpp1/config/interface/eth1"
            ] == b'{"name":"eth1"}'

    asyncio.run(main())
