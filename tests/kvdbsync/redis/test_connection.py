"""Faults of the connection: cut at every frame, half-open, no longer trusted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
from collections.abc import AsyncIterator

import pytest

from datasync import BadStore, DataSync, Disconnected, OutcomeUnknown, Unauthorized, open_url
from datasync.source import Put
from datasync.testing.chaos.proxy import Resp, proxy_to
from datasync.testing.contract import eventually
from tests.helpers.faults import cut_write, half_open
from tests.helpers.load import QUICK, STEADY, equal, hold, state_of, watched, written
from tests.helpers.redis.load import Judged
from tests.helpers.redis.redis_server import RedisServer, Tls, issued, redis_server
from tests.helpers.servers import free_ports, listening, scratch


@pytest.mark.long
def test_cut_at_every_frame() -> None:
    """At each frame of what a session begins with, of its snapshot of several pages,
    and of the first changes.
    """

    async def main() -> None:
        async with (
            redis_server() as server,
            proxy_to(server.port, Resp) as proxy,
            server.client() as writer,
        ):
            items = {f"a/{number:04}": b"x" * 100 for number in range(800)}
            await server.fill(items)
            cut = 0
            for frame in range(1, 100):
                cuts = proxy.cuts
                proxy.cut_at(frame)
                async with watched(f"redis://127.0.0.1:{proxy.port}", "a/", ping_timeout=2.0) as (
                    sync,
                    probe,
                ):
                    await sync.ready(60)
                    await writer.set("a/0000", b"%d" % frame)
                    await writer.mset({"a/0001": b"%d" % frame, "a/0002": b"%d" % frame})
                    items |= dict.fromkeys(("a/0000", "a/0001", "a/0002"), b"%d" % frame)
                    await equal(probe, items)
                    # one that is cut before its snapshot is complete brings none
                    assert 1 <= len(probe.resyncs) <= 1 + sync.status().sources[0].reconnects
                    for resync in probe.resyncs:
                        assert {kv.key for kv in resync.values["a/"]} == set(items), (
                            "a part was taken for the whole"
                        )
                    hold(probe, server.history(), items)
                cut += proxy.cuts > cuts
                if proxy.cuts == cuts:
                    break
            assert cut > 10, "the proxy did not cut"

    asyncio.run(main())


def test_writes_that_are_cut_at_every_frame() -> None:
    """What is acknowledged was done, what is surely not done was not,
    and a transaction never in part.
    """

    async def main() -> None:
        async with redis_server() as server, proxy_to(server.port, Resp) as proxy:
            outcomes: dict[str, type[Exception] | None] = {}
            for frame in range(1, 30):
                cuts = proxy.cuts
                proxy.cut_at(frame)
                source = open_url(f"redis://127.0.0.1:{proxy.port}")
                for number in range(4):
                    name = f"{frame}/{number}/"
                    keys = [f"{name}{each}" for each in range(1 + number % 2 * 2)]
                    try:
                        await source.commit([Put(key, b"1") for key in keys])
                        outcomes[name] = None
                    except (Disconnected, OutcomeUnknown) as error:
                        outcomes[name] = type(error)
                await source.aclose()
                if proxy.cuts == cuts:
                    break
            written = {min(changes)[:-1]: len(changes) for _, changes in server.history()}
            for name, outcome in outcomes.items():
                assert outcome is OutcomeUnknown or (name in written) is (outcome is None)
                assert name not in written or written[name] == (3 if name[-2] in "13" else 1)
            assert list(outcomes.values()).count(OutcomeUnknown) > 5
            assert proxy.cuts > 5

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


class _Turns(selectors.DefaultSelector):
    """Counts the turns of a loop: it looks for events once in each,
    and waits there while it has nothing to do.
    """

    count = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.count += 1
        return super().select(timeout)


@pytest.mark.alone("crowd")
def test_ten_thousand_requests_wait_for_one_connection() -> None:
    """They go on together as soon as it stands, not one a turn of the loop."""
    selector = _Turns()

    async def main() -> None:
        async with redis_server() as server:
            source = open_url(server.url)
            before = selector.count
            assert set(await asyncio.gather(*(source.get("a/1") for _ in range(10_000)))) == {None}
            assert selector.count - before < 1_000
            await source.aclose()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main())


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
            await sync.ready(60)
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
        async with (
            listening(_answer) as port,
            DataSync(f"redis://127.0.0.1:{port}", **QUICK) as sync,
        ):
            assert "does not answer as Redis does" in (sync.status().sources[0].error or "")

    async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    asyncio.run(main())


# -- passwords -------------------------------------------------------------------------------------


def test_passwords(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with redis_server(
            extra=["--requirepass", "r00t", *_user("agent", "~* +@all")]
        ) as server:
            address = f"127.0.0.1:{server.port}"
            for wrong in (
                f"redis://agent:wr0ng@{address}",
                f"redis://:wr0ng@{address}",
                f"redis://{address}",
            ):
                sync = DataSync(wrong, **QUICK)
                sync.watch("all", "")
                with pytest.raises(Unauthorized, match="check the user and password") as caught:
                    await sync.start()
                assert "wr0ng" not in str(caught.value)
            async with watched(f"redis://agent:s3cret@{address}") as (sync, probe):
                await sync.ready(60)
                await sync.put("a/1", b"1", confirm=True)
                # changed while it runs: shown once it connects again, and tried again
                await _set_password(server, ">changed", "<s3cret")
                await eventually(
                    lambda: "user and password" in (sync.status().sources[0].error or "")
                )
                assert state_of(sync) == "lost"
                with pytest.raises(Unauthorized):
                    await sync.put("a/1", b"2")
                await _set_password(server, ">s3cret", "<changed")
                await eventually(lambda: state_of(sync) == "following")
                await sync.put("a/1", b"3", confirm=True)
                assert probe.state == {"a/1": b"3"}
            async with watched(f"redis://:r00t@{address}") as (sync, probe):
                await sync.ready(60)
                assert probe.state == {"a/1": b"3"}
        for secret in ("s3cret", "wr0ng", "r00t"):
            assert secret not in caplog.text
            assert secret not in repr(open_url(f"redis://agent:{secret}@{address}")) + repr(
                sync.status()
            )

    with caplog.at_level(logging.DEBUG, "datasync"):
        asyncio.run(main())


def _user(name: str, rules: str) -> list[str]:
    """What makes a server know a user with the password s3cret."""
    return ["--user", name, "on", ">s3cret", *rules.split()]


@contextlib.asynccontextmanager
async def _agent(rules: str) -> AsyncIterator[tuple[RedisServer, DataSync]]:
    """A server with a user of these rules, and a DataSync of that user."""
    async with (
        redis_server(extra=_user("agent", rules)) as server,
        DataSync(f"redis://agent:s3cret@127.0.0.1:{server.port}") as sync,
    ):
        yield server, sync


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
                await sync.ready(60)
                await root.put("config/b/1", b"1")
                await eventually(lambda: probe.state == {"config/b/1": b"1"})
                with pytest.raises(Unauthorized, match="ACL"):
                    await sync.put("config/b/1", b"2")
            sync = DataSync(url, prefix="/vnf-agent/vpp2/")
            sync.watch("all", "")
            with pytest.raises(Unauthorized, match=r"ACL \('/vnf-agent/vpp2/' may not be read\)"):
                await sync.start()
            sync = DataSync(url)
            sync.watch("all", "")
            with pytest.raises(
                Unauthorized, match=r"ACL \(the database as a whole may not be read\)"
            ):
                await sync.start()
            sync = DataSync(url.replace("agent", "other"))
            sync.watch("all", "")
            with pytest.raises(Unauthorized, match="ACL"):
                await sync.start()

    asyncio.run(main())


def test_a_user_who_may_read_some_keys_of_a_prefix() -> None:
    """The name of the prefix is among them.

    It hears so at the start, later it is shown, and it is not connected.
    """

    async def main() -> None:
        async with redis_server(extra=_user("agent", "~a/ ~a/1* +@all")) as server:
            await server.fill({"a/1": b"1", "a/2": b"2"})
            url = f"redis://agent:s3cret@127.0.0.1:{server.port}"
            sync = DataSync(url, **QUICK)
            sync.watch("all", "a/")
            with pytest.raises(Unauthorized, match=r"\('a/2' may not be read\)"):
                await sync.start()
            await server.do("DEL", "a/2")
            async with watched(url, "a/", **STEADY) as (sync, probe):
                await sync.ready(60)
                await server.fill({"a/2": b"2"})
                await eventually(
                    lambda: "'a/2' may not be read" in (sync.status().sources[0].error or "")
                )
                await asyncio.sleep(0.5)  # several tries
                assert state_of(sync) == "lost"
                assert sync.status().sources[0].reconnects == 0
                await server.do("ACL", "SETUSER", "agent", "~a/*")
                await eventually(lambda: probe.state == {"a/1": b"1", "a/2": b"2"})

    asyncio.run(main())


@pytest.mark.parametrize("lacks", ["scan", "mget", "client|tracking"])
def test_a_user_who_lacks_a_command_of_a_watch(lacks: str) -> None:
    async def main() -> None:
        async with redis_server(extra=_user("agent", f"~* +@all -{lacks}")) as server:
            sync = DataSync(f"redis://agent:s3cret@127.0.0.1:{server.port}")
            sync.watch("all", "")
            with pytest.raises(Unauthorized, match=f"'{lacks.replace('|', '.')}' command.*ACL"):
                await sync.start()

    asyncio.run(main())


@pytest.mark.parametrize("lacks", ["multi", "exec", "set"])
def test_a_user_who_lacks_a_command_of_a_transaction(lacks: str) -> None:
    """It is not done in part, and the connection serves others afterwards."""

    async def main() -> None:
        async with _agent(f"~* +@all -{lacks}") as (server, sync):
            await server.fill({"a/0": b"0"})
            for _ in range(2):
                with pytest.raises(Unauthorized, match=f"'{lacks}' command.*ACL"):
                    await sync.txn().delete("a/0").put("a/1", b"1").put("a/2", b"2").commit()
            found = await sync.get("a/0")
            assert found is not None
            assert found.raw == b"0"
            assert await server.everything() == {"a/0": b"0"}

    asyncio.run(main())


def test_a_user_who_loses_a_command_of_transactions() -> None:
    async def main() -> None:
        async with _agent("~* +@all") as (server, sync):
            await sync.txn().put("a/1", b"1").put("a/2", b"1").commit()
            await server.do("ACL", "SETUSER", "agent", "-multi")
            with pytest.raises(OutcomeUnknown, match=r"'multi' command.*; read the keys"):
                await sync.txn().put("a/1", b"2").put("a/2", b"2").commit()
            with pytest.raises(Unauthorized, match=r"'multi' command.*ACL"):
                await sync.txn().put("a/1", b"3").put("a/2", b"3").commit()
            assert b"3" not in (await server.everything()).values()

    asyncio.run(main())


def test_a_prefix_of_which_a_user_may_write_a_part() -> None:
    async def main() -> None:
        async with _agent("~a/x* +@all") as (server, sync):
            some = {"a/x1": b"1", "a/y1": b"1"}
            await server.fill(some)
            with pytest.raises(Unauthorized, match="ACL"):
                await sync.delete("a/", prefix=True)
            assert await server.everything() == some, "nothing was done"
            # more than the server looks at in one go: it finds out in the midst of them
            many = {f"a/x{number:05}": b"1" for number in range(20_000)}
            await server.fill(some | many)
            with pytest.raises((Unauthorized, OutcomeUnknown)) as caught:
                await sync.delete("a/", prefix=True)
            untouched = len(await server.everything()) == len(some | many)
            assert isinstance(caught.value, Unauthorized) is untouched

    asyncio.run(main())


def test_a_password_for_a_server_that_asks_for_none() -> None:
    async def main() -> None:
        async with (
            redis_server() as server,
            watched(f"redis://:s3cret@127.0.0.1:{server.port}") as (sync, _),
        ):
            await sync.ready(60)
            await sync.put("a/1", b"1", confirm=True)

    asyncio.run(main())


# -- TLS -------------------------------------------------------------------------------------------


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
                    await sync.ready(60)
                    await sync.put("a/1", b"1" * (1 << 20), confirm=True)
                    assert probe.state == {"a/1": b"1" * (1 << 20)}
                for wrong in (f"?ca={foreign.ca}", ""):
                    with pytest.raises(Unauthorized, match=r"certificate.*\?ca="):
                        await DataSync(f"rediss://{address}{wrong}").start()
                for stranger in ("", f"&{tls.shown_by(foreign)}"):
                    with pytest.raises(Unauthorized, match=r"certificate.*\?cert="):
                        await DataSync(
                            f"rediss://{address}?ca={tls.authority.ca}{stranger}"
                        ).start()
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


def test_renewed_certificates_are_used_at_the_next_connection() -> None:
    """Under the same names, also those of another authority;
    in the midst of a renewal it is tried again.
    """

    async def main() -> None:
        async with scratch() as directory:
            tls, renewed = issued(directory / "ours"), issued(directory / "renewed")
            ours, new = tls.authority, renewed.authority
            first = RedisServer(directory, tls=tls)
            (directory / "second").mkdir()
            second = RedisServer(directory / "second", port=first.port, tls=renewed)
            try:
                await first.start()
                async with watched(f"rediss://127.0.0.1:{first.port}?{tls.options}") as (
                    sync,
                    probe,
                ):
                    await sync.ready(60)
                    await sync.put("a/1", b"1", confirm=True)
                    ours.cert("client").write_bytes(new.cert("client").read_bytes())
                    await first.kill()
                    await second.start()
                    await eventually(
                        lambda: "do not belong together" in (sync.status().sources[0].error or "")
                    )
                    assert state_of(sync) == "lost"
                    ours.key("client").write_bytes(new.key("client").read_bytes())
                    ours.ca.write_bytes(new.ca.read_bytes())
                    await eventually(lambda: state_of(sync) == "following")
                    await written(sync, "a/1", b"2")
                    assert probe.state == {"a/1": b"2"}
            finally:
                first.end()
                second.end()

    asyncio.run(main())


def test_a_write_of_which_the_server_understood_nothing() -> None:
    """Over TLS it says so with an alert, which is no refusal of a certificate;
    the write may have been done before.
    """

    async def garble(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, garbling: asyncio.Event
    ) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data[:-1] + bytes([data[-1] ^ 1]) if garbling.is_set() else data)
        writer.close()

    async def main() -> None:
        async with scratch() as directory:
            tls, garbling = issued(directory / "ours"), asyncio.Event()
            server = RedisServer(directory, tls=tls)

            async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                answers, target = await asyncio.open_connection("127.0.0.1", server.port)
                with contextlib.closing(target):
                    await asyncio.gather(
                        garble(reader, target, garbling), garble(answers, writer, asyncio.Event())
                    )

            try:
                await server.start()
                async with (
                    listening(between) as port,
                    DataSync(f"rediss://127.0.0.1:{port}?{tls.options}") as sync,
                ):
                    await sync.put("a/1", b"1")
                    garbling.set()
                    with pytest.raises(OutcomeUnknown, match="read the key"):
                        await sync.put("a/1", b"2")
            finally:
                server.end()

    asyncio.run(main())


def test_a_server_of_another_kind() -> None:
    async def main() -> None:
        [bus] = free_ports(1)  # else it takes one that may be in use
        async with redis_server(
            extra=["--cluster-enabled", "yes", "--cluster-port", str(bus)]
        ) as server:
            with pytest.raises(BadStore, match=r"redis\+cluster://"):
                await DataSync(server.url).start()
        async with redis_server() as server:
            address = f"127.0.0.1:{server.port}"
            with pytest.raises(BadStore, match="redis://"):
                await DataSync(f"redis+cluster://{address}").start()
            with pytest.raises(BadStore, match="redis://"):
                await DataSync(f"redis+sentinel://{address}/name").start()

    asyncio.run(main())
