"""Faults of the connection: cut at every frame, half-open, no longer trusted."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

import pytest

from datasync import DataSync, Disconnected, Unauthorized, open_url
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import Probe, eventually
from tests.helpers.certificates import Authority
from tests.helpers.etcd.etcd_server import NEW, EtcdServer, etcd_server, tls_flags, versions
from tests.helpers.etcd.load import Judged, cluster_of, judge, watched
from tests.helpers.faults import cut_write, half_open
from tests.helpers.load import QUICK, STEADY, equal, written
from tests.helpers.load import watched as recorded
from tests.helpers.servers import listening, require, scratch


@pytest.mark.long
@versions
def test_cut_at_every_frame(version: str) -> None:
    """At each frame of what a session begins with, of its snapshot of several pages,
    and of the first changes.
    """

    async def main() -> None:
        async with (
            etcd_server(version) as server,
            proxy_to(server.port) as proxy,
            DataSync(server.url) as writer,
        ):
            items = {f"a/{number:04}": b"x" * 100 for number in range(1200)}
            for start in range(0, len(items), 120):
                txn = writer.txn()
                for key in list(items)[start : start + 120]:
                    txn.put(key, items[key])
                await txn.commit()
            cut, history = 0, await cluster_of(server.url)
            for frame in range(1, 200):
                cuts = proxy.cuts
                proxy.cut_at(frame)
                url = f"etcd://127.0.0.1:{proxy.port}"
                async with recorded(url, "a/", history=history, revision=1, ping_timeout=2.0) as (
                    sync,
                    probe,
                ):
                    await sync.ready(60)
                    await writer.put("a/0000", b"%d" % frame)
                    await (
                        writer.txn()
                        .put("a/0001", b"%d" % frame)
                        .put("a/0002", b"%d" % frame)
                        .commit()
                    )
                    items |= dict.fromkeys(("a/0000", "a/0001", "a/0002"), b"%d" % frame)
                    await equal(probe, items)
                    assert len(probe.resyncs) == 1
                    assert {kv.key for kv in probe.resyncs[0].values["a/"]} == set(items)
                    judge(probe, await server.history())
                cut += proxy.cuts > cuts
                if proxy.cuts == cuts:
                    break
            assert cut > 10, "the proxy did not cut"

    asyncio.run(main())


@versions
def test_half_open_under_load(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server:
            await half_open(server, Judged(server))

    asyncio.run(main())


@versions
def test_a_write_whose_answer_is_cut_off_is_unknown(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server:
            await cut_write(server)

    asyncio.run(main())


@pytest.mark.long
@pytest.mark.once
@versions
def test_several_endpoints(version: str) -> None:
    async def main() -> None:
        async with (
            etcd_server(version) as server,
            proxy_to(server.port) as first,
            proxy_to(server.port) as second,
        ):
            url = f"etcd://127.0.0.1:{first.port},127.0.0.1:{second.port}"
            await first.refuse()
            async with watched(url, **STEADY) as (sync, probe):
                await sync.ready(60)
                assert await sync.put("a/1", b"1", confirm=True)
                assert sync.status().sources[0].reconnects == 0
                await first.start()
                await second.refuse()
                await eventually(lambda: sync.status().sources[0].reconnects and probe.state)
                await sync.put("a/1", b"2", confirm=True)
                # one that keeps silent is left behind as well
                await second.start()
                first.pause()
                await eventually(lambda: sync.status().sources[0].reconnects == 2, 60)
                assert (await sync.get("a/1")) is not None
                await eventually(lambda: probe.state == {"a/1": b"2"})
                assert len(probe.resyncs) == 1
            judge(probe, await server.history())

    asyncio.run(main())


# -- passwords -------------------------------------------------------------------------------------


@versions
def test_passwords(version: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with etcd_server(version) as server:
            await server.ask_for_passwords({"agent": "s3cret"})
            address = f"127.0.0.1:{server.port}"
            for wrong in (
                f"etcd://agent:wr0ng@{address}",
                f"etcd://nobody:wr0ng@{address}",
                f"etcd://{address}",
            ):
                sync = DataSync(wrong, **QUICK)
                sync.watch("all", "")
                with pytest.raises(Unauthorized) as caught:
                    await sync.start()
                assert "wr0ng" not in str(caught.value)
            async with watched(f"etcd://agent:s3cret@{address}") as (sync, probe):
                await sync.ready(60)
                await sync.put("a/1", b"1", confirm=True)
                # changed while it runs: shown, and tried again
                await server.ctl(
                    "user",
                    "passwd",
                    "agent",
                    "--interactive=false",
                    user="root:root",
                    said="changed\n",
                )
                await eventually(
                    lambda: "user and password" in (sync.status().sources[0].error or "")
                )
                assert sync.status().sources[0].state == "lost"
                with pytest.raises(Unauthorized):
                    await sync.put("a/1", b"2")
                await server.ctl(
                    "user",
                    "passwd",
                    "agent",
                    "--interactive=false",
                    user="root:root",
                    said="s3cret\n",
                )
                await eventually(lambda: sync.status().sources[0].state == "following")
                await sync.put("a/1", b"3", confirm=True)
                assert probe.state == {"a/1": b"3"}
                assert len(probe.resyncs) == 1
        for secret in ("s3cret", "wr0ng"):
            assert secret not in caplog.text
            assert secret not in repr(open_url(f"etcd://agent:{secret}@{address}")) + repr(
                sync.status()
            )

    with caplog.at_level(logging.DEBUG, "datasync"):
        asyncio.run(main())


@pytest.mark.once
@versions
def test_tokens_are_renewed(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version, extra=["--auth-token-ttl", "1"]) as server:
            await server.ask_for_passwords({"agent": "s3cret"})
            url = f"etcd://agent:s3cret@127.0.0.1:{server.port}"
            async with (
                watched(url, ping_interval=60) as (sync, probe),
                DataSync(url, ping_interval=60) as writer,
            ):
                await sync.ready(60)
                for number in range(2):
                    await writer.put("a/1", b"%d" % number)
                    await equal(probe, {"a/1": b"%d" % number})
                    await asyncio.sleep(2.5)  # the token ends, with nothing to tell us
                results = await asyncio.gather(
                    *(writer.put(f"a/{number}", b"3") for number in range(20))
                )
                assert len(set(results)) == 20
                await eventually(lambda: len(probe.state) == 20)
                assert sync.status().sources[0].reconnects == 0

    asyncio.run(main())


@versions
def test_a_user_who_may_only_read_a_part(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server:
            await server.ctl("role", "add", "reader")
            await server.ctl(
                "role", "grant-permission", "reader", "--prefix=true", "read", "/vnf-agent/vpp1/"
            )
            await server.ctl("user", "add", "agent:s3cret")
            await server.ctl("user", "grant-role", "agent", "reader")
            await server.ask_for_passwords({})
            url = f"etcd://agent:s3cret@127.0.0.1:{server.port}"
            root = DataSync(f"etcd://root:root@127.0.0.1:{server.port}", label="vpp1")
            async with root, watched(url, "config/a/", "config/b/", label="vpp1") as (sync, probe):
                await sync.ready(60)
                await root.put("config/b/1", b"1")
                await eventually(lambda: probe.state == {"config/b/1": b"1"})
                with pytest.raises(Unauthorized):
                    await sync.put("config/b/1", b"2")
            sync = DataSync(url, prefix="/vnf-agent/vpp2/")
            sync.watch("all", "")
            with pytest.raises(Unauthorized):
                await sync.start()

    asyncio.run(main())


async def user_of(server: EtcdServer, *prefixes: str) -> str:
    """The URL of a user who may read these prefixes, and nothing else."""
    await server.ctl("role", "add", "reader")
    for prefix in prefixes:
        await server.ctl("role", "grant-permission", "reader", "--prefix=true", "read", prefix)
    await server.ctl("user", "add", "agent:s3cret")
    await server.ctl("user", "grant-role", "agent", "reader")
    await server.ask_for_passwords({})
    return f"etcd://agent:s3cret@127.0.0.1:{server.port}"


@versions
def test_a_user_who_may_read_nothing_between_two_prefixes(version: str) -> None:
    """Each is watched for itself; transactions stay whole, and all is in order."""

    async def main() -> None:
        async with etcd_server(version) as server:
            url = await user_of(server, "config/", "policy/")
            root = DataSync(f"etcd://root:root@127.0.0.1:{server.port}")
            async with root, watched(url, "config/", "policy/", **STEADY) as (sync, probe):
                await sync.ready(60)
                for number in range(30):
                    value = b"%d" % number
                    await (
                        root.txn()
                        .put("policy/1", value)
                        .put("config/1", value)
                        .put("other/1", value)
                        .commit()
                    )
                    await root.put(f"policy/{number % 3}+", value)
                    await root.put("other/2", value)
                    await root.put(f"config/{number % 3}+", value)
                    await root.delete(f"policy/{number % 3}+")
                await eventually(lambda: len(probe.changes) >= 4 * 30)
                together = [event for event in probe.changes if len(event.changes) == 2]
                assert len(together) == 30
                assert len(probe.changes) == 4 * 30
                revisions = [event.revision for event in probe.events]
                assert revisions == sorted(revisions)
                probe.check()

                late = Probe(name="late", prefixes=["policy/x/"])
                sync.watcher("policy/x/", name="late")(late)
                await root.put("policy/x/1", b"late")
                await eventually(lambda: late.state == {"policy/x/1": b"late"})
                assert sync.status().sources[0].reconnects == 0
            for prefixes, keys, denied in (
                (["config/", "other/"], [], "other/"),
                (["config/"], ["config"], "config"),
            ):
                sync = DataSync(url)
                sync.watch("all", *prefixes, keys=keys)
                with pytest.raises(Unauthorized, match=f"may not read {denied!r}"):
                    await sync.start()

    asyncio.run(main())


@versions
def test_a_password_for_a_server_that_asks_for_it_only_later(version: str) -> None:
    async def main() -> None:
        async with (
            etcd_server(version) as server,
            proxy_to(server.port) as proxy,
            watched(f"etcd://agent:s3cret@127.0.0.1:{proxy.port}") as (sync, probe),
        ):
            await sync.ready(60)
            await sync.put("a/1", b"1", confirm=True)
            await server.ask_for_passwords({"agent": "s3cret"})
            await sync.put("a/1", b"2", confirm=True)
            proxy.cut()
            await written(sync, "a/1", b"3")
            assert probe.state == {"a/1": b"3"}
            assert len(probe.resyncs) == 1

    asyncio.run(main())


# -- TLS -------------------------------------------------------------------------------------------


@versions
def test_tls(version: str) -> None:
    async def main() -> None:
        openssl = require("openssl", "apt-get install -y openssl")
        async with scratch() as directory:
            ours, foreign = (
                Authority(openssl, directory / "ours"),
                Authority(openssl, directory / "foreign"),
            )
            ours.issue("server")
            ours.issue("expired", days=-1)
            ours.issue("client")
            foreign.issue("client")
            server = EtcdServer(version, directory, tls=tls_flags(ours, "server"))
            try:
                await server.start()
                address = f"127.0.0.1:{server.port}"
                good = f"etcds://{address}?ca={ours.ca}&cert={ours.cert('client')}&key={ours.key('client')}"
                async with watched(good) as (sync, probe):
                    await sync.ready(60)
                    await sync.put("a/1", b"1", confirm=True)
                    assert probe.state == {"a/1": b"1"}
                    # expired while it runs: shown, and tried again
                    await server.kill()
                    there = server.command
                    swap = {
                        str(ours.cert("server")): ours.cert("expired"),
                        str(ours.key("server")): ours.key("expired"),
                    }
                    server.command = [str(swap.get(word, word)) for word in there]
                    await server.start()
                    await eventually(lambda: "expired" in (sync.status().sources[0].error or ""))
                    await eventually(lambda: sync.status().sources[0].state == "lost")
                    assert probe.state == {"a/1": b"1"}
                    await server.kill()
                    server.command = there
                    await server.start()
                    await eventually(lambda: sync.status().sources[0].state == "following", 60)
                    await written(sync, "a/1", b"2")
                    assert len(probe.resyncs) == 1
                for wrong in (f"?ca={foreign.ca}", ""):
                    with pytest.raises(Unauthorized, match=r"certificate.*\?ca="):
                        await DataSync(f"etcds://{address}{wrong}").start()
                for stranger in ("", f"&cert={foreign.cert('client')}&key={foreign.key('client')}"):
                    with pytest.raises(Unauthorized, match=r"certificate.*\?cert="):
                        await DataSync(f"etcds://{address}?ca={ours.ca}{stranger}").start()
                async with DataSync(f"etcd://{address}", **QUICK) as plain:
                    assert plain.status().sources[0].state == "lost"
                    with pytest.raises(Disconnected):
                        await plain.get("a/1")
                server.end()
                server = EtcdServer(version, directory, tls=tls_flags(ours, "expired"))
                await server.start()
                expired = good.replace(address, f"127.0.0.1:{server.port}")
                with pytest.raises(Unauthorized, match="expired"):
                    await DataSync(expired).start()
            finally:
                server.end()

    asyncio.run(main())


@versions
def test_certificates_that_are_renewed_under_the_same_names(version: str) -> None:
    async def main() -> None:
        openssl = require("openssl", "apt-get install -y openssl")
        async with scratch() as directory:
            ours, theirs = (
                Authority(openssl, directory / "ours"),
                Authority(openssl, directory / "theirs"),
            )
            for authority in (ours, theirs):
                authority.issue("server")
                authority.issue("client")
            server = EtcdServer(version, directory, tls=tls_flags(ours, "server"))
            try:
                await server.start()
                files = f"ca={ours.ca}&cert={ours.cert('client')}&key={ours.key('client')}"
                async with watched(f"etcds://127.0.0.1:{server.port}?{files}") as (sync, probe):
                    await sync.ready(60)
                    await sync.put("a/1", b"1", confirm=True)
                    await server.kill()
                    for old, new in (
                        (ours.ca, theirs.ca),
                        (ours.cert("server"), theirs.cert("server")),
                        (ours.key("server"), theirs.key("server")),
                        (ours.cert("client"), theirs.cert("client")),
                        (ours.key("client"), theirs.key("client")),
                    ):
                        old.write_bytes(new.read_bytes())
                    await server.start()
                    await eventually(lambda: sync.status().sources[0].state == "following", 60)
                    await written(sync, "a/1", b"2")
                    assert probe.state == {"a/1": b"2"}
                    assert len(probe.resyncs) == 1
            finally:
                server.end()

    asyncio.run(main())


# -- names and times -------------------------------------------------------------------------------


@versions
def test_a_slow_first_answer_has_the_time_that_the_url_gives_it(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, proxy_to(server.port) as proxy:
            proxy.pause()
            sync = DataSync(
                f"etcd://127.0.0.1:{proxy.port}?timeout=20", connect_timeout=30, ping_interval=60
            )
            sync.watch("all", "")
            asyncio.get_running_loop().call_later(4, proxy.resume)
            began = asyncio.get_running_loop().time()
            async with sync:
                await sync.ready(60)
                assert sync.status().sources[0].error is None
            assert asyncio.get_running_loop().time() - began >= 4
            # and no more than that
            proxy.pause()
            source = open_url(f"etcd://127.0.0.1:{proxy.port}?timeout=1")
            began = asyncio.get_running_loop().time()
            with pytest.raises(Disconnected):
                await source.open([""])
            assert asyncio.get_running_loop().time() - began < 4
            proxy.resume()
            await eventually(lambda: not proxy.connections)

    asyncio.run(main())


def test_a_name_with_two_addresses_is_tried_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them takes connections, and says nothing; in both orders."""

    async def main() -> None:
        async with etcd_server(NEW) as server:
            found = ["127.0.0.1", "127.0.0.2"]
            resolve = socket.getaddrinfo

            def two(host: str, *args: Any, **options: Any) -> Any:
                if host != "two.test":
                    return resolve(host, *args, **options)
                return [
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, args[0]))
                    for address in found
                ]

            monkeypatch.setattr(socket, "getaddrinfo", two)

            async def say_nothing(
                incoming: asyncio.StreamReader, writer: asyncio.StreamWriter
            ) -> None:
                await incoming.read()

            async with listening(say_nothing, "127.0.0.2", server.port):
                for _ in range(2):
                    async with watched(f"etcd://two.test:{server.port}?timeout=1") as (sync, probe):
                        await sync.ready(60)
                        await sync.put("a/1", b"1", confirm=True)
                        assert (await sync.get("a/1")) is not None
                        assert probe.state == {"a/1": b"1"}
                        await sync.delete("a/1")
                    found.reverse()

    asyncio.run(main())


def test_a_name_that_cannot_be_resolved_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hang(*_: object, **__: object) -> Any:
        answered.wait(120)
        raise socket.gaierror("no such name")

    async def main() -> None:
        with pytest.raises(Disconnected, match="resolved; check"):
            await open_url("etcd://nowhere.invalid").open([""])
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        try:
            async with asyncio.timeout(60):
                with pytest.raises(Disconnected, match="not resolved in time"):
                    await open_url("etcd://nowhere.invalid?timeout=0.5").get("a")
        finally:
            answered.set()

    asyncio.run(main())
