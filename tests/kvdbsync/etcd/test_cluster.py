"""Three members: the leader is killed, and one is cut off from the others."""

from __future__ import annotations

import asyncio

import pytest

from datasync import DataSync, Disconnected
from datasync.kvdbsync.etcd.cluster import _Slots
from datasync.testing.contract import eventually
from tests.helpers.etcd.etcd_server import EtcdServer, cluster_of_three, versions
from tests.helpers.etcd.load import judge, watched
from tests.helpers.load import QUICK, equal, writing


def test_a_slot_that_is_free_goes_to_who_has_waited_longest() -> None:
    async def main() -> None:
        slots, order = _Slots(1), list[int]()
        gate = asyncio.Event()

        async def use(number: int) -> None:
            if not slots.take():
                await slots.wait()
            try:
                order.append(number)
                await gate.wait()
            finally:
                slots.give_back()

        tasks = [asyncio.create_task(use(number)) for number in range(6)]
        await asyncio.sleep(0)
        tasks[1].cancel()  # while it waits
        gate.set()
        await asyncio.wait(tasks[:2])
        tasks[2].cancel()  # its turn has come, and it has not begun
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert order in ([0, 3, 4, 5], [0, 2, 3, 4, 5])
        assert isinstance(results[1], asyncio.CancelledError)
        assert slots.take()  # none is lost
        assert not slots.take()

    asyncio.run(main())


def url_of(members: list[EtcdServer]) -> str:
    return "etcd://" + ",".join(f"127.0.0.1:{member.port}" for member in members)


@pytest.mark.once
@versions
@pytest.mark.alone("members of etcd")
def test_the_leader_is_killed_in_mid_stream(version: str) -> None:
    async def main() -> None:
        async with cluster_of_three(version) as members:
            async with (
                watched(url_of(members)) as (sync, probe),
                writing(url_of(members) + "?timeout=1") as load,
            ):
                await sync.ready(60)
                for _ in range(3):
                    await load.more(30)
                    leader = await leader_of(members)
                    await leader.kill()
                    await load.more(30)
                    await eventually(lambda: sync.status().sources[0].state == "following")
                    await leader.start()
            async with watched(url_of(members)) as (again, fresh):
                await again.ready(60)
                wanted = dict(fresh.state)
            assert len(probe.resyncs) == 1
            log = await members[0].history()
            judge(probe, [entry for entry in log if entry[0] <= probe.events[-1].revision])
            written = dict(log)
            for revision, (key, value) in load.acknowledged.items():
                assert value is None or written[revision] == {key: value}
            assert wanted == await members[1].everything()

    asyncio.run(main())


@pytest.mark.once
@versions
@pytest.mark.alone("members of etcd")
def test_no_time_travel_to_a_member_that_is_cut_off(version: str) -> None:
    """The others are gone for one that still runs, and has an old state:
    nobody may read it as the newest.
    """

    async def main() -> None:
        async with cluster_of_three(version) as members:
            leader = await leader_of(members)
            behind = next(member for member in members if member is not leader)
            others = [member for member in members if member is not behind]
            async with DataSync(url_of(others), **QUICK) as writer:
                await writer.put("a/1", b"old")
                async with watched(f"{behind.url},{url_of(others)[7:]}?timeout=1") as (sync, probe):
                    await sync.ready(60)
                    assert probe.state == {"a/1": b"old"}
                    # the one that it follows is cut off, as far as the others are concerned
                    await behind.pause()
                    await writer.put("a/1", b"new")
                    await equal(probe, {"a/1": b"new"})
                    # now it comes back alone
                    for member in others:
                        await member.pause()
                    behind.resume()
                    await eventually(lambda: sync.status().sources[0].state == "lost")
                    async with watched(f"{behind.url}?timeout=1") as (stranger, fresh):
                        with pytest.raises(Disconnected):
                            await stranger.get("a/1")
                        await asyncio.sleep(1)
                        assert not fresh.events, "it showed what only a part of the cluster knows"
                        assert stranger.status().sources[0].state == "lost"
                        for member in others:
                            member.resume()
                        await stranger.ready(60)
                        assert fresh.state == {"a/1": b"new"}
                    await eventually(lambda: sync.status().sources[0].state == "following")
                    await writer.put("a/1", b"newest")
                    await equal(probe, {"a/1": b"newest"})
                    assert len(probe.resyncs) == 1
                    revisions = [event.revision for event in probe.events]
                    assert revisions == sorted(revisions)

    asyncio.run(main())


async def leader_of(members: list[EtcdServer]) -> EtcdServer:
    """The member that leads."""
    async with asyncio.timeout(60):
        while True:
            for member in members:
                if member.running and await member.is_leader():
                    return member
            await asyncio.sleep(0.02)
