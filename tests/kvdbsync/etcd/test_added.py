"""Scopes that are added to a session, and sessions that are asked to catch up:
as fresh as the cluster, in order.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from datasync import DataSync, Disconnected, open_url
from datasync.source import Commit, Progress, SnapshotBegin, SnapshotEnd
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import Probe, eventually
from datasync.testing.contract.following import Following
from tests.helpers.etcd.etcd_server import DEBIAN, NEW, etcd_server, versions
from tests.helpers.etcd.frames import reader


class Follower(Following):
    """Tells positions, and what commits changed."""

    async def caught_up(self) -> Any:
        """The position then."""
        async with asyncio.timeout(60):
            await self.session.caught_up()
        return next(
            frame.position
            for frame in reversed(self.frames)
            if isinstance(frame, Commit | Progress | SnapshotEnd)
        )

    def changes(self) -> list[dict[str, bytes | None]]:
        """What all commits so far changed."""
        return [dict(frame.changes) for frame in self.commits]

    async def aclose(self) -> None:
        """End it."""
        await self.session.aclose()
        await self.taking


@versions
def test_added_scopes_are_as_fresh_as_the_cluster(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as writer:
            await writer.txn().put("a/1", b"1").put("b/1", b"1").put("c", b"1").commit()
            source = open_url(server.url)
            frames = await reader(source, ["a/"])
            _, end = await frames.snapshot()
            await frames.aclose()
            # known and added scopes in one transaction; what comes and goes; what nobody asked for
            await writer.txn().put("a/1", b"2").put("b/1", b"2").commit()
            await writer.delete("c")
            await writer.put("bb", b"nobody's")
            await writer.put("a/passing", b"")
            await writer.delete("a/passing")
            await writer.put("b/2", b"3")
            head = await writer.delete("b/1") and await server.head()
            frames = await reader(source, ["a/", "b/", "c"], end.position, ["b/", "c"])
            assert dict((await frames.commit()).changes) == {"a/1": b"2"}
            assert dict((await frames.commit()).changes) == {"a/passing": b""}
            assert dict((await frames.commit()).changes) == {"a/passing": None}
            while isinstance(begin := await frames.next(), Progress):
                pass
            assert isinstance(begin, SnapshotBegin)
            assert list(begin.scopes) == ["b/", "c"]
            assert [item for chunk in [await frames.next()] for item in chunk.items] == [
                ("b/2", b"3", head - 1)
            ]
            end = await frames.next()
            assert isinstance(end, SnapshotEnd)
            assert end.revision >= head
            await writer.txn().put("a/1", b"3").put("b/1", b"3").put("c", b"3").commit()
            assert dict((await frames.commit()).changes) == {"a/1": b"3", "b/1": b"3", "c": b"3"}
            await frames.aclose()
            # its position is that of all scopes
            await writer.put("c", b"4")
            frames = await reader(source, ["a/", "b/", "c"], end.position)
            assert dict((await frames.commit()).changes) == {"a/1": b"3", "b/1": b"3", "c": b"3"}
            assert dict((await frames.commit()).changes) == {"c": b"4"}
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


@versions
def test_a_wider_scope_takes_in_one_that_is_known(version: str) -> None:
    async def main() -> None:
        async with etcd_server(version) as server, DataSync(server.url) as writer:
            await writer.txn().put("a/b/1", b"1").put("a/c", b"1").commit()
            source = open_url(server.url)
            frames = await reader(source, ["a/b/"])
            _, end = await frames.snapshot()
            await frames.aclose()
            await writer.txn().put("a/b/1", b"2").put("a/c", b"2").commit()
            frames = await reader(source, ["a/", "a/b/"], end.position, ["a/"])
            assert dict((await frames.commit()).changes) == {"a/b/1": b"2"}
            assert (await frames.snapshot())[0] == {"a/b/1": b"2", "a/c": b"2"}
            await writer.put("a/c", b"3")
            assert dict((await frames.commit()).changes) == {"a/c": b"3"}
            await frames.aclose()
            await source.aclose()

    asyncio.run(main())


@versions
def test_what_was_acknowledged_before_is_in_the_resync_of_a_watch_that_is_added(
    version: str,
) -> None:
    """Through a line that is slower than the one the writer has, 10 times; nothing is replayed."""

    async def main() -> None:
        async with (
            etcd_server(version) as server,
            proxy_to(server.port) as proxy,
            DataSync(server.url) as writer,
            DataSync(f"etcd://127.0.0.1:{proxy.port}") as sync,
        ):
            await writer.put("a/0", b"0")
            known = Probe(name="a", prefixes=["a/"])
            sync.watcher("a/", name="a")(known)
            await sync.ready()
            proxy.rate = 50_000
            for number in range(10):
                for _ in range(10):
                    await (
                        writer.txn()
                        .put(f"busy/{number}/x", b"%d" % number)
                        .put("a/0", b"%d" % number)
                        .commit()
                    )
                revision = await writer.put(f"busy/{number}/y", b"%d" % number)
                added = Probe(name=f"busy{number}", prefixes=[f"busy/{number}/"])
                sync.watcher(f"busy/{number}/", name=added.name)(added)
                await eventually(partial(getattr, added, "resynced"))
                assert len(added.state) == 2
                assert revision is not None
                assert added.resyncs[0].revision >= revision
                done = await writer.put("a/0", b"done %d" % number)
                await eventually(partial(reached, known, done))
                assert len(added.events) == 1
            known.check()
            assert len(known.resyncs) == 1
            assert sync.status().sources[0].reconnects == 0

    asyncio.run(main())


def reached(probe: Probe, revision: int | None) -> bool:
    """Whether it was shown that revision."""
    return probe.events[-1].revision == revision


@versions
def test_catching_up(version: str) -> None:
    async def main() -> None:
        async with (
            etcd_server(version) as server,
            proxy_to(server.port) as proxy,
            DataSync(server.url) as writer,
        ):
            await writer.txn().put("a/1", b"1").put("a/2", b"1").put("c/1", b"1").commit()
            source = open_url(f"etcd://127.0.0.1:{proxy.port}")
            follower = Follower(await source.open(["a/", "c/"]))
            position = await follower.caught_up()  # the snapshot as well
            assert position.revision >= await server.head()
            proxy.rate = 20_000
            for number in range(20):
                await writer.put("a/1", b"%d" % number)
                await follower.caught_up()
                assert follower.changes()[-1] == {"a/1": b"%d" % number}
            await writer.delete("a/2")
            await follower.caught_up()
            assert follower.changes()[-1] == {"a/2": None}
            await writer.put("c/passing", b"")
            await writer.delete("c/passing")
            await follower.caught_up()
            assert follower.changes()[-2:] == [{"c/passing": b""}, {"c/passing": None}]
            proxy.rate = None

            # what others write moves the position, and so no compaction harms it
            for _ in range(300):
                await writer.put("b/1", b"")
            before = len(follower.changes())
            position = await follower.caught_up()
            assert position.revision == await server.head()
            assert len(follower.changes()) == before
            await server.compact()
            resumed = Follower(await source.open(["a/", "b/", "c/"], position, ["b/"]))
            assert (await resumed.caught_up()).revision == position.revision
            assert [type(frame).__name__ for frame in resumed.frames] == [
                "SnapshotBegin", "SnapshotChunk", "SnapshotEnd",
            ]  # fmt: skip
            await resumed.aclose()

            # the old position was compacted under the live session
            for _ in range(10):
                await writer.put("b/1", b"")
            await server.compact()
            position = await follower.caught_up()
            assert position.revision == await server.head()
            await writer.put("a/1", b"last")
            await follower.caught_up()
            assert follower.changes()[-1] == {"a/1": b"last"}
            await follower.aclose()
            with pytest.raises(Disconnected):
                await follower.session.caught_up()
            await source.aclose()

    asyncio.run(main())


def test_catching_up_ends_with_the_session() -> None:
    async def main() -> None:
        async with etcd_server(NEW) as server, proxy_to(server.port) as proxy:
            source = open_url(f"etcd://127.0.0.1:{proxy.port}")
            follower = Follower(await source.open(["a/"]))
            await follower.caught_up()
            async with DataSync(server.url) as writer:
                await writer.put("a/1", b"1")
            proxy.rate = 1
            waiting = asyncio.ensure_future(follower.session.caught_up())
            await asyncio.sleep(0.1)
            await proxy.refuse()
            with pytest.raises(Disconnected):
                await follower.taking
            with pytest.raises(Disconnected):
                await waiting
            await follower.session.aclose()
            await source.aclose()

    asyncio.run(main())


def test_without_scopes_there_is_nothing_to_catch_up_with_but_the_revision() -> None:
    async def main() -> None:
        async with etcd_server(DEBIAN) as server, DataSync(server.url) as writer:
            source = open_url(server.url)
            follower = Follower(await source.open([]))
            revision = await writer.put("a/1", b"1")
            assert (await follower.caught_up()).revision == revision
            await follower.aclose()
            await source.aclose()

    asyncio.run(main())
