"""Faults of the connection: cut at every frame, half-open, no longer trusted."""

from __future__ import annotations

import asyncio
import logging

import pytest

from datasync import BadStore, DataSync, Disconnected, Unauthorized, open_url
from datasync.testing.contract import eventually
from tests.faults import cut_write, half_open
from tests.load import QUICK, equal, hold, state_of, watched
from tests.redis.load import Judged
from tests.redis.redis_server import RedisServer, Tls, issued, redis_server
from tests.servers import free_ports, scratch
from tests.tcp_proxy import Resp, proxy_to


@pytest.mark.timeout(100)
def test_cut_at_every_frame() -> None:
    """At each frame of what a session begins with, of its snapshot of several pages, and of the first changes."""

    async def main() -> None:
        async with (
            redis_server() as server,
            proxy_to(server.port, Resp) as proxy,
            server.client() as writer,
        ):
            items = {f"a/{number:04}": b"x" * 100 for number in range(5000)}
            await server.fill(items)
            cut = 0
            for frame in range(1, 100):
                cuts = proxy.cuts
                proxy.cut_at(frame)
                async with watched(f"redis://127.0.0.1:{proxy.port}", "a/", ping_timeout=2.0) as (sync, probe):
                    await sync.ready(15)
                    await writer.set("a/0000", b"%d" % frame)
                    await writer.mset({"a/0001": b"%d" % frame, "a/0002": b"%d" % frame})
                    items |= dict.fromkeys(("a/0000", "a/0001", "a/0002"), b"%d" % frame)
                    await equal(probe, items)
                    # one that is cut before its snapshot is complete brings none
                    assert 1 <= len(probe.resyncs) <= 1 + sync.status().sources[0].reconnects
                    for resync in probe.resyncs:
                        assert {kv.key for kv in resync.values["a/"]} == set(items), "a part was taken for the whole"
                    hold(probe, server.history(), items)
                cut += proxy.cuts > cuts
                if proxy.cuts == cuts:
                    break
            assert cut > 10, "the proxy did not cut"

    asyncio.run(main())


def test_half_open_under_load() -> None:
    async def main() -> None:
        async with redis_server() as server:
            await half_open(server, Judged(server))

    asyncio.run(main())


def test_a_write_whose_answer_is_cut_off_is_unknown() -> None:
    async def main() -> None:
        async with redis_server() as server:
            await cut_write(server)

    asyncio.run(main())


def test_a_connection_that_the_server_refuses() -> None:
    async def main() -> None:
        async with redis_server(extra=["--maxclients", "2"]) as server, server.client() as one:
            await one.ping()
            async with server.client() as other:
                await other.ping()
                async with DataSync(server.url, **QUICK) as sync:
                    assert state_of(sync) == "lost"
                    assert "max number of clients" in (sync.status().sources[0].error or "")
                    with pytest.raises(Disconnected, match="max number of clients"):
                        await sync.put("a/1", b"1")

    asyncio.run(main())


def test_a_replica_is_not_followed() -> None:
    async def main() -> None:
        async with redis_server() as server, watched(server.url) as (sync, probe):
            await sync.ready(15)
            await sync.put("a/1", b"1", confirm=True)
            await server.do("REPLICAOF", "127.0.0.1", free_ports(1)[0])
            await eventually(lambda: "it is a replica" in (sync.status().sources[0].error or ""))
            assert probe.state == {"a/1": b"1"}
            with pytest.raises(Disconnected):
                await sync.put("a/1", b"2")
            await server.do("REPLICAOF", "NO", "ONE")
            await eventually(lambda: state_of(sync) == "following")
            await sync.put("a/1", b"3", confirm=True)

    asyncio.run(main())


def test_something_else_that_listens() -> None:
    async def main() -> None:
        async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with DataSync(f"redis://127.0.0.1:{port}", **QUICK) as sync:
                assert "protocol" in (sync.status().sources[0].error or "")

    async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())


# -- passwords -----------------------------------------------------------------------------------------------------


def test_passwords(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with redis_server(extra=["--requirepass", "r00t", *_user("agent", "~* +@all")]) as server:
            address = f"127.0.0.1:{server.port}"
            for wrong in (f"redis://agent:wr0ng@{address}", f"redis://:wr0ng@{address}", f"redis://{address}"):
                sync = DataSync(wrong, **QUICK)
                sync.watch("all", "")
                with pytest.raises(Unauthorized, match="check the user and password") as caught:
                    await sync.start()
                assert "wr0ng" not in str(caught.value)
            async with watched(f"redis://agent:s3cret@{address}") as (sync, probe):
                await sync.ready(15)
                await sync.put("a/1", b"1", confirm=True)
                # changed while it runs: shown once it connects again, and tried again
                await _set_password(server, ">changed", "<s3cret")
                await eventually(lambda: "user and password" in (sync.status().sources[0].error or ""))
                assert state_of(sync) == "lost"
                with pytest.raises(Unauthorized):
                    await sync.put("a/1", b"2")
                await _set_password(server, ">s3cret", "<changed")
                await eventually(lambda: state_of(sync) == "following")
                await sync.put("a/1", b"3", confirm=True)
                assert probe.state == {"a/1": b"3"}
            async with watched(f"redis://:r00t@{address}") as (sync, probe):
                await sync.ready(15)
                assert probe.state == {"a/1": b"3"}
        for secret in ("s3cret", "wr0ng", "r00t"):
            assert secret not in caplog.text
            assert secret not in repr(open_url(f"redis://agent:{secret}@{address}")) + repr(sync.status())

    with caplog.at_level(logging.DEBUG, "datasync"):
        asyncio.run(main())


def _user(name: str, rules: str) -> list[str]:
    """What makes a server know a user with the password s3cret."""
    return ["--user", name, "on", ">s3cret", *rules.split()]


async def _set_password(server: RedisServer, *rules: str) -> None:
    await server.do("ACL", "SETUSER", "agent", *rules, password="r00t")
    await server.do("CLIENT", "KILL", "USER", "agent", password="r00t")


def test_a_user_who_may_only_read_a_part() -> None:
    async def main() -> None:
        users = [
            *_user("agent", "~/vnf-agent/vpp1/* +@connection +scan +mget +get +type"),
            *_user("other", "~* +@connection"),
        ]
        async with redis_server(extra=users) as server:
            url = f"redis://agent:s3cret@127.0.0.1:{server.port}"
            root = DataSync(server.url, label="vpp1")
            async with root, watched(url, "config/a/", "config/b/", label="vpp1") as (sync, probe):
                await sync.ready(15)
                await root.put("config/b/1", b"1")
                await eventually(lambda: probe.state == {"config/b/1": b"1"})
                with pytest.raises(Unauthorized, match="ACL"):
                    await sync.put("config/b/1", b"2")
            sync = DataSync(url, prefix="/vnf-agent/vpp2/")
            sync.watch("all", "")
            with pytest.raises(Unauthorized, match="ACL"):
                await sync.start()
            sync = DataSync(url.replace("agent", "other"))
            sync.watch("all", "")
            with pytest.raises(Unauthorized, match="ACL"):
                await sync.start()

    asyncio.run(main())


def test_a_password_for_a_server_that_asks_for_none() -> None:
    async def main() -> None:
        async with redis_server() as server, watched(f"redis://:s3cret@127.0.0.1:{server.port}") as (sync, _):
            await sync.ready(15)
            await sync.put("a/1", b"1", confirm=True)

    asyncio.run(main())


# -- TLS -----------------------------------------------------------------------------------------------------------


def test_tls() -> None:
    async def main() -> None:
        async with scratch() as directory:
            tls, foreign = issued(directory / "ours"), issued(directory / "foreign").authority
            tls.authority.issue("expired", days=-1)
            server = RedisServer(directory, tls=tls)
            try:
                await server.start()
                address = f"127.0.0.1:{server.port}"
                good = f"rediss://{address}?{tls.options}"
                async with watched(good) as (sync, probe):
                    await sync.ready(15)
                    await sync.put("a/1", b"1" * (1 << 20), confirm=True)
                    assert probe.state == {"a/1": b"1" * (1 << 20)}
                for wrong in (f"?ca={foreign.ca}", ""):
                    with pytest.raises(Unauthorized, match=r"certificate.*\?ca="):
                        await DataSync(f"rediss://{address}{wrong}").start()
                for stranger in ("", f"&{tls.shown_by(foreign)}"):
                    with pytest.raises(Unauthorized, match=r"certificate.*\?cert="):
                        await DataSync(f"rediss://{address}?ca={tls.authority.ca}{stranger}").start()
                async with DataSync(f"redis://{address}", **QUICK) as plain:
                    assert state_of(plain) == "lost"
                    with pytest.raises(Disconnected):
                        await plain.get("a/1")
                server.end()
                server = RedisServer(directory, tls=Tls(tls.authority, "expired"))
                await server.start()
                with pytest.raises(Unauthorized, match="expired"):
                    await DataSync(good.replace(address, f"127.0.0.1:{server.port}")).start()
            finally:
                server.end()

    asyncio.run(main())


def test_a_server_of_another_kind() -> None:
    async def main() -> None:
        async with redis_server(extra=["--cluster-enabled", "yes"]) as server:
            with pytest.raises(BadStore, match=r"redis\+cluster://"):
                await DataSync(server.url).start()
        async with redis_server() as server:
            address = f"127.0.0.1:{server.port}"
            with pytest.raises(BadStore, match="redis://"):
                await DataSync(f"redis+cluster://{address}").start()
            with pytest.raises(BadStore, match="redis://"):
                await DataSync(f"redis+sentinel://{address}/name").start()

    asyncio.run(main())
