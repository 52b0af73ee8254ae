"""The primary is found by sentinels, and found again after a fail-over under load."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import pytest
import redis.exceptions

from datasync import BadStore, DataSync, Disconnected, OutcomeUnknown, Unauthorized, open_url
from datasync.testing.contract import eventually
from tests.helpers.faults import closed_wherever_it_is_cancelled
from tests.helpers.load import QUICK, STEADY, equal, state_of, watched, writing, written
from tests.helpers.redis.redis_groups import NAME, watched_by_one, watched_over
from tests.helpers.redis.redis_server import client_of, issued
from tests.helpers.servers import until

pytestmark = [pytest.mark.once, pytest.mark.alone("group of Redis servers")]


@pytest.mark.parametrize("fault", ["killed", "killed, over TLS", "stopped"])
def test_fail_over_under_load(fault: str, tmp_path: Path) -> None:
    tls = issued(tmp_path / "ours") if "TLS" in fault else None

    async def main() -> None:
        async with watched_over(tls=tls) as group, watched(group.url()) as (sync, probe):
            await sync.ready(60)
            async with writing(group.url(timeout=1)) as load:
                await load.more(50)
                primary = await group.primary()
                [other] = [server for server in group.servers if server is not primary]
                await (primary.pause() if fault == "stopped" else primary.kill())
                await eventually(lambda: state_of(sync) == "lost", 60)
                before = dict(probe.state)
                assert before, "nothing is emptied"
                await load.more(50)
                await eventually(lambda: state_of(sync) == "following", 60)
                # it comes back, and does not know yet that it is no primary any more
                if fault == "stopped":
                    primary.resume()
                else:
                    await primary.start()
                await load.more(200)
            await equal(probe, await other.everything())
            assert len(probe.resyncs) == 1 + sync.status().sources[0].reconnects

    asyncio.run(main())


def test_a_primary_that_is_cut_off_from_its_sentinels_is_left_under_load() -> None:
    """It goes on answering its clients, who would never know;
    also one that only writes now and then.
    """
    watcher = ["--user", "watcher", "on", ">s3cret", "allchannels", "~*", "+@all"]

    async def main() -> None:
        config = f"sentinel auth-user {NAME} watcher\nsentinel auth-pass {NAME} s3cret"
        async with (
            watched_over(config=config, extra=watcher) as group,
            watched(group.url()) as (sync, probe),
            DataSync(group.url()) as writer,
        ):
            await sync.ready(60)
            await writer.put("a/1", b"1")
            primary = await group.primary()
            [other] = [server for server in group.servers if server is not primary]
            async with writing(primary.url) as load:
                await load.more(20)
                # it answers the sentinels no more
                await primary.do("ACL", "SETUSER", "watcher", "-@all")

                async def replaced() -> bool:
                    return bool((await group.role(other))[0] == b"master")

                await until(replaced, "the sentinels have a new primary")
                await eventually(lambda: sync.status().sources[0].reconnects)

                async def follows() -> bool:
                    # one that is on its way just then is told so
                    with contextlib.suppress(
                        Disconnected, OutcomeUnknown, redis.exceptions.ConnectionError
                    ):
                        await writer.put("a/2", b"2")
                        return "a/2" in await other.everything()
                    return False

                await until(follows, "the writer has left it, too")
                assert (await primary.do("ROLE"))[0] == b"master", "it does not know"
            await equal(probe, await other.everything())

    asyncio.run(main())


def test_sentinels_that_cannot_be_asked_any_more(caplog: pytest.LogCaptureFixture) -> None:
    """The watch goes on; that a fail-over would be missed is said once,
    and that it would not be any more.
    """

    def said() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "datasync.redis"]

    async def main() -> None:
        users = "user default off\nuser watcher on >s3cret +@all"
        async with (
            watched_by_one(config=users) as group,
            watched(f"{group.url()}&sentinel_user=watcher&sentinel_password=s3cret", **STEADY) as (
                sync,
                probe,
            ),
        ):
            await sync.ready(60)
            await sync.put("a/0", b"0", confirm=True)
            async with client_of(
                group.sentinels[0].port, username="watcher", password="s3cret"
            ) as client:
                await client.execute_command("ACL", "SETUSER", "watcher", ">changed", "<s3cret")  # type: ignore[no-untyped-call]
                await eventually(said)
                assert "sentinel_user= and sentinel_password=" in said()[0]
                await sync.put("a/1", b"1", confirm=True)
                await asyncio.sleep(1)  # several pings
                assert len(said()) == 1
                assert sync.status().sources[0].reconnects == 0
                await client.execute_command("ACL", "SETUSER", "watcher", ">s3cret")  # type: ignore[no-untyped-call]
                await eventually(lambda: len(said()) == 2)
                assert "again" in said()[1]
            assert probe.state == {"a/0": b"0", "a/1": b"1"}

    with caplog.at_level(logging.INFO, "datasync"):
        asyncio.run(main())
    assert "s3cret" not in caplog.text


def test_a_primary_that_the_sentinels_do_not_know() -> None:
    async def main() -> None:
        async with watched_over() as group:
            with pytest.raises(BadStore, match="check the name"):
                await DataSync(group.url().replace("mymaster", "another")).start()
            # one that is not there costs nothing but its time
            await group.sentinels[0].kill()
            async with watched(group.url()) as (sync, probe):
                await sync.ready(60)
                await sync.put("a/1", b"1", confirm=True)
                assert probe.state == {"a/1": b"1"}
                # the other two still know
                primary = await group.primary()
                await sync.put("a/2", b"2", confirm=True)
                await primary.do("CLIENT", "KILL", "TYPE", "normal")
                await eventually(lambda: sync.status().sources[0].reconnects)
                await written(sync, "a/3", b"3")
                assert set(probe.state) == {"a/1", "a/2", "a/3"}

    asyncio.run(main())


def test_certificates_of_sentinels_and_their_primary(tmp_path: Path) -> None:
    tls, foreign = issued(tmp_path / "ours"), issued(tmp_path / "foreign").authority

    async def main() -> None:
        async with watched_by_one(tls=tls) as group:
            good = group.url()
            async with watched(good) as (sync, probe):
                await sync.ready(60)
                await sync.put("a/1", b"1", confirm=True)
                assert probe.state == {"a/1": b"1"}
            with pytest.raises(Unauthorized, match=r"certificate was not accepted.*\?ca="):
                await DataSync(good.replace(str(tls.authority.ca), str(foreign.ca))).start()
            shown = tls.shown_by(tls.authority)
            for stranger in (
                good.replace(f"&{shown}", ""),
                good.replace(shown, tls.shown_by(foreign)),
            ):
                with pytest.raises(Unauthorized, match=r"client's certificate.*\?cert="):
                    await DataSync(stranger).start()
            async with DataSync(good.partition("?")[0], **QUICK) as plain:
                assert state_of(plain) == "lost"

    asyncio.run(main())


def test_sentinels_that_ask_for_a_user_and_password(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        users = "user default off\nuser watcher on >s3cret +@connection +sentinel"
        async with watched_by_one(config=users) as group:
            wrong = "&sentinel_user=watcher&sentinel_password=wr0ng"
            for options in (wrong, "&sentinel_password=wr0ng", "&sentinel_user=watcher", ""):
                sync = DataSync(group.url() + options, **QUICK)
                sync.watch("all", "")
                with pytest.raises(
                    Unauthorized, match="sentinel_user= and sentinel_password="
                ) as caught:
                    await sync.start()
                assert "wr0ng" not in f"{caught.value} {caught.value!r} {sync.status()!r} {sync!r}"
            good = f"{group.url()}&sentinel_user=watcher&sentinel_password=s3cret"
            async with watched(good) as (sync, probe):
                await sync.ready(60)
                await sync.put("a/1", b"1", confirm=True)
                assert probe.state == {"a/1": b"1"}
                assert "s3cret" not in f"{sync.status()!r} {sync!r} {open_url(good)!r}"
        for secret in ("s3cret", "wr0ng"):
            assert secret not in caplog.text

    with caplog.at_level(logging.DEBUG, "datasync"):
        asyncio.run(main())


def test_closed_wherever_that_is_cancelled() -> None:
    async def main() -> None:
        async with watched_by_one() as group:
            await closed_wherever_it_is_cancelled(
                group.url(), group.servers[0].port, group.sentinels[0].port
            )

    asyncio.run(main())
