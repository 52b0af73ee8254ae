"""A cluster: every primary is tracked, slots move under load, a primary is lost,
transactions keep to one slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from pathlib import Path

import pytest

from datasync import (
    DataSync,
    Disconnected,
    OutcomeUnknown,
    Unauthorized,
    UnsupportedOption,
    open_url,
)
from datasync.kvdbsync.redis.cluster import slot_of
from datasync.source import Session
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import eventually
from tests.helpers.faults import catches_up, closed_beside_requests, closed_wherever_it_is_cancelled
from tests.helpers.load import QUICK, STEADY, equal, state_of, watched, writing
from tests.helpers.redis.redis_groups import ClusterServer, redis_cluster
from tests.helpers.redis.redis_server import issued
from tests.helpers.servers import scratch, until

pytestmark = [pytest.mark.once, pytest.mark.alone("group of Redis servers")]


def test_keys_transactions_and_prefixes() -> None:
    async def main() -> None:
        async with (
            redis_cluster() as cluster,
            watched(cluster.url(), "a/", "{b}/", **STEADY) as (sync, probe),
        ):
            await sync.ready(60)
            items = {f"a/{number}": b"%d" % number for number in range(300)}
            await asyncio.gather(
                *(sync.put(key, value, confirm=True) for key, value in items.items())
            )
            assert probe.state == items
            held = [await member.do("DBSIZE") for member in cluster.members]
            assert all(held), "each of them has a part"
            with pytest.raises(UnsupportedOption, match=r"different slots.*braces"):
                await sync.txn().put("a/1", b"x").put("a/2", b"x").commit()
            with pytest.raises(UnsupportedOption, match="by itself"):
                await sync.txn().put("a/1", b"x").delete("b/", prefix=True).commit()
            await sync.txn().put("{b}/1", b"1").put("{b}/2", b"2").commit(confirm=True)
            await sync.txn().put("{b}/1", b"3").delete("{b}/2").commit(confirm=True)
            assert probe.state == items | {"{b}/1": b"3"}
            assert [kv.key async for kv in sync.list("a/")] == sorted(items)
            found = await sync.get("a/7")
            assert found is not None
            assert found.raw == b"7"
            await cluster.members[0].do("FLUSHALL")
            left = await cluster.everything()
            await equal(probe, left)
            assert 0 < len(left) < 300
            assert await sync.delete("a/", prefix=True, confirm=True) is True
            assert await sync.delete("a/", prefix=True) is False
            assert await sync.delete("a/1") is False
            await cluster.members[1].do("CLUSTER", "COUNTKEYSINSLOT", 1)
            assert sync.status().sources[0].reconnects == 0
            assert len(probe.resyncs) == 1

        # a member of another type, and one whose value is no string
        async with redis_cluster() as cluster, watched(cluster.url(), "a/") as (sync, probe):
            await sync.ready(60)
            key = "a/in a cluster"
            for member in cluster.members:
                if slot_of(key) * 3 // 16384 == cluster.members.index(member):
                    await member.do("LPUSH", key, "1")
            await sync.put("a/1", b"1", confirm=True)
            assert probe.state == {"a/1": b"1"}
            assert await sync.get(key) is None

    asyncio.run(main())


def test_slots_move_under_load() -> None:
    async def main() -> None:
        async with redis_cluster() as cluster, watched(cluster.url(), **STEADY) as (sync, probe):
            await sync.ready(60)
            first, second, third = cluster.members
            # many keys in the slots that move, so that a move takes its time
            slots = [slot_of(f"w/{number}") for number in range(7)]
            async with DataSync(cluster.url()) as filling:
                for slot, number in zip(slots, range(7), strict=True):
                    await asyncio.gather(
                        *(
                            filling.put(f"still/{slot}/{each}{{w/{number}}}", b"%d" % each)
                            for each in range(100)
                        )
                    )
            async with writing(cluster.url()) as load:
                for round_ in range(3):
                    for slot in slots:
                        source = cluster.members[(slot * 3 // 16384 + round_) % 3]
                        target = cluster.members[(slot * 3 // 16384 + round_ + 1) % 3]
                        await cluster.move(slot, source, target)
                    await load.more(50)
            await equal(probe, await cluster.everything())
            assert load.unknown == 0
            assert len([key for key in probe.state if key.startswith("still/")]) == 700
            assert len(probe.resyncs) == 1, "all primaries were tracked all along"
            assert sync.status().sources[0].reconnects == 0
            assert {first, second, third} == set(cluster.members)

    asyncio.run(main())


def test_slots_move_to_a_member_that_joined_later() -> None:
    async def main() -> None:
        async with (
            redis_cluster() as cluster,
            scratch() as directory,
            watched(cluster.url()) as (sync, probe),
        ):
            await sync.ready(60)
            newcomer = ClusterServer(directory)
            try:
                await newcomer.start()
                async with writing(cluster.url()) as load:
                    await load.more(20)
                    await cluster.members[0].meet(newcomer)
                    for member in [*cluster.members, newcomer]:
                        await until(lambda member=member: member.knows(4), "it has joined")  # type: ignore[misc]
                    await cluster.healthy([newcomer])
                    for number in range(7):
                        slot = slot_of(f"w/{number}")
                        await cluster.move(slot, cluster.members[slot * 3 // 16384], newcomer)
                    await load.more(100)
                await equal(probe, await cluster.everything([*cluster.members, newcomer]))
                assert set(await cluster.everything([newcomer])) == set(probe.state)
                assert state_of(sync) == "following"
            finally:
                newcomer.end()

    asyncio.run(main())


def test_a_primary_is_lost_and_its_replica_takes_over() -> None:
    async def main() -> None:
        async with redis_cluster(3, 3) as cluster, watched(cluster.url(timeout=1)) as (sync, probe):
            await sync.ready(60)
            async with writing(cluster.url(timeout=1)) as load:
                await load.more(100)
                await cluster.members[0].kill()
                await eventually(lambda: state_of(sync) == "lost", 60)
                before = dict(probe.state)
                assert before, "nothing is emptied"
                await eventually(lambda: state_of(sync) == "following", 60)
                await load.more(100)
            primaries = [cluster.members[3], *cluster.members[1:3]]
            await equal(probe, await cluster.everything(primaries))
            for resync in probe.resyncs:
                assert sum(1 for _ in resync.values[""]) or resync.reason == "start"

    asyncio.run(main())


def test_a_cluster_that_lacks_a_part_is_not_read() -> None:
    async def main() -> None:
        async with redis_cluster() as cluster:
            async with DataSync(cluster.url()) as sync:
                await asyncio.gather(*(sync.put(f"a/{number}", b"1") for number in range(30)))
            await cluster.members[2].kill()
            async with watched(cluster.url(timeout=1), **QUICK) as (sync, probe):
                await asyncio.sleep(1.5)  # until the others have noticed, and a while longer
                assert not probe.events
                assert state_of(sync) == "lost"
                await cluster.members[2].start()
                await eventually(lambda: len(probe.state) == 30, 60)

    asyncio.run(main())


def test_a_member_that_is_silent_behind_one_that_is_busy() -> None:
    """Its connection stands, and what the other sends does not hide that nothing comes over it."""

    async def main() -> None:
        async with redis_cluster() as cluster, proxy_to(cluster.members[2].port) as proxy:
            busy, other, silent = cluster.members
            await silent.do("CONFIG", "SET", "cluster-announce-port", proxy.port)

            async def announced() -> bool:
                return f":{proxy.port}" in str(await busy.do("CLUSTER", "NODES"))

            await until(announced, "the others know of the proxy")
            ending = False

            async def write() -> None:
                async with busy.client() as client:
                    for number in itertools.count():
                        if ending:
                            return
                        await client.set("w/3", b"%d" % number)

            assert slot_of("w/3") * 3 // 16384 == 0
            async with watched(cluster.url(), ping_interval=1) as (sync, probe):
                await sync.ready(60)
                writing = asyncio.ensure_future(write())
                await eventually(lambda: len(probe.seen) > 100)
                proxy.pause()
                await eventually(lambda: state_of(sync) == "lost", 60)
                proxy.resume()
                await eventually(lambda: state_of(sync) == "following")
                ending = True
                await writing
                await equal(probe, await cluster.everything([busy, other, silent]))

    asyncio.run(main())


def test_members_that_hang_do_not_keep_from_asking_the_others() -> None:
    """Not even where they take all the time that a try has."""

    async def main() -> None:
        with contextlib.ExitStack() as held:
            hanging = [
                held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
                for _ in range(3)
            ]
            async with redis_cluster() as cluster:
                hosts = ",".join(
                    f"127.0.0.1:{port}" for port in [*hanging, cluster.members[0].port]
                )
                url = f"redis+cluster://{hosts}?timeout=1"
                async with watched(url, connect_timeout=1.5) as (sync, _):
                    await sync.ready(60)

    asyncio.run(main())


def test_a_prefix_of_which_a_part_cannot_be_deleted() -> None:
    async def main() -> None:
        async with redis_cluster() as cluster:
            outcomes = []
            for paused in cluster.members:
                async with DataSync(cluster.url(timeout=1)) as sync:
                    await asyncio.gather(*(sync.put(f"a/{number}", b"1") for number in range(60)))
                    others = [member for member in cluster.members if member is not paused]
                    before = await cluster.everything(others)
                    await paused.pause()
                    with pytest.raises((Disconnected, OutcomeUnknown)) as caught:
                        await sync.delete("a/", prefix=True)
                    paused.resume()
                    # the others answer nobody once they have missed it for a second
                    for member in cluster.members:
                        await until(lambda member=member: member.knows(3), "it is back")  # type: ignore[misc]
                    await cluster.healthy(cluster.members)
                    untouched = await cluster.everything(others) == before
                    assert isinstance(caught.value, Disconnected) is untouched
                    outcomes.append(untouched)
            assert False in outcomes

    asyncio.run(main())


def test_no_connection_is_left_wherever_opening_is_cancelled() -> None:
    async def main() -> None:
        async with redis_cluster() as cluster:
            source = open_url(cluster.url())
            turns, done = 0, False
            while not done:
                turns += 1
                opening = asyncio.ensure_future(source.open(["a/"]))
                for _ in range(turns):
                    await asyncio.sleep(0)
                    done = opening.done()
                opening.cancel()
                [outcome] = await asyncio.gather(opening, return_exceptions=True)
                if isinstance(outcome, Session):
                    await outcome.aclose()
            assert turns > 10

            async def alone() -> bool:
                clients = [
                    str(await member.do("CLIENT", "LIST", "TYPE", "normal"))
                    for member in cluster.members
                ]
                return all(text.count("id=") == 1 for text in clients)

            await until(alone, "all connections are closed", 5)

    asyncio.run(main())


@pytest.mark.parametrize("host", ["", "localhost"])
def test_certificates_of_a_cluster(host: str, tmp_path: Path) -> None:
    """They name the address of the members, or the host name that these announce."""
    tls = issued(tmp_path / "ours", f"DNS:{host}" if host else "IP:127.0.0.1")
    foreign = issued(tmp_path / "foreign").authority

    async def main() -> None:
        async with redis_cluster(tls=tls, host=host) as cluster:
            good = cluster.url()
            async with watched(good, ping_timeout=10.0) as (sync, probe):
                await sync.ready(60)
                items = {f"a/{number}": b"%d" % number for number in range(30)}
                await asyncio.gather(
                    *(sync.put(key, value, confirm=True) for key, value in items.items())
                )
                # one is found where it went
                await cluster.move(slot_of("a/1"), cluster.members[1], cluster.members[0])
                await sync.put("a/1", b"moved", confirm=True)
                assert probe.state == await cluster.everything() == items | {"a/1": b"moved"}
                assert len(probe.resyncs) == 1
            await cluster.members[1].kill()  # an error that lasts is told before one that may pass
            with pytest.raises(Unauthorized, match=r"certificate was not accepted.*\?ca="):
                await DataSync(good.replace(str(tls.authority.ca), str(foreign.ca))).start()
            shown = tls.shown_by(tls.authority)
            for stranger in (
                good.replace(f"&{shown}", ""),
                good.replace(shown, tls.shown_by(foreign)),
            ):
                with pytest.raises(Unauthorized, match=r"client's certificate.*\?cert="):
                    await DataSync(stranger).start()

    asyncio.run(main())


def test_caught_up_holds_what_others_were_told_is_done_at_any_primary() -> None:
    async def main() -> None:
        async with redis_cluster() as cluster, DataSync(cluster.url()) as other:
            await catches_up(cluster.url(), other.put, rounds=100)

    asyncio.run(main())


def test_closed_wherever_that_is_cancelled() -> None:
    async def main() -> None:
        async with redis_cluster() as cluster:
            await closed_wherever_it_is_cancelled(
                cluster.url(), *(member.port for member in cluster.members)
            )

    asyncio.run(main())


@pytest.mark.parametrize("connected", [True, False])
def test_closed_beside_requests_to_members_that_hang(connected: bool) -> None:
    async def main() -> None:
        async with redis_cluster() as cluster:

            async def pause() -> None:
                for member in cluster.members:
                    await member.pause()

            async def resume() -> None:
                for member in cluster.members:
                    member.resume()
                for member in cluster.members:  # they find out that it was all of them

                    async def whole(member: ClusterServer = member) -> bool:
                        return "cluster_state:ok" in str(await member.do("CLUSTER", "INFO"))

                    await until(whole, "the cluster is whole again")

            await closed_beside_requests(
                cluster.url(), pause, resume, cluster.everything, connected=connected
            )

    asyncio.run(main())


def test_a_user_who_may_not_read_a_key_at_one_of_the_primaries() -> None:
    async def main() -> None:
        async with redis_cluster() as cluster:
            for member in cluster.members:
                await member.do("ACL", "SETUSER", "agent", "on", ">s3cret", "~a/", "~a/1*", "+@all")
            async with DataSync(cluster.url()) as writer:
                await asyncio.gather(*(writer.put(f"a/1{number}", b"1") for number in range(20)))
                url = cluster.url().replace("://", "://agent:s3cret@")
                async with watched(url, "a/") as (sync, probe):
                    await sync.ready(60)
                    assert len(probe.state) == 20
                await writer.put("a/2", b"2")
                sync = DataSync(url)
                sync.watch("all", "a/")
                with pytest.raises(Unauthorized, match=r"\('a/2' may not be read\)"):
                    await sync.start()

    asyncio.run(main())
