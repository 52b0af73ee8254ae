"""Servers that serve one another: what a watcher behind several of them may rely on."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datasync import DataSync, Disconnected, HistoryLost, open_url
from datasync.forwarding import ForwardingSource
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.hub import Hub
from datasync.source import Put, Session
from datasync.syncbase.delivery import NEW_HISTORY
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.chaos.run import play
from datasync.testing.chaos.schedule import draw
from datasync.testing.chaos.sqlite import SqliteFile
from datasync.testing.contract import Probe, eventually
from tests.helpers.load import QUICK, hold, watched, writing
from tests.helpers.serving.restarts import free_address, put, serving, shows
from tests.helpers.serving.tree import Tree, TreeStore

Run = Callable[[Any], None]
schemes = pytest.mark.parametrize("scheme", ["grpc+watch", "http"])
trees = pytest.mark.parametrize("protocols", [("grpc", "http", "grpc"), ("http", "grpc", "http")])


@pytest.mark.long
@trees
@pytest.mark.once
def test_three_levels_keep_the_guarantees_while_they_are_killed(
    run: Run, protocols: Sequence[str], tmp_path: Path
) -> None:
    async def main() -> None:
        file, rng = SqliteFile(tmp_path / "file.db"), random.Random(1)
        await file.make()
        url, began = f"sqlite:///{file.path}", file.begin()
        tree = Tree(url, tmp_path, protocols)
        await tree.start()
        try:
            async with contextlib.AsyncExitStack() as stack:
                follow, history = stack.enter_async_context, (began.history, began.revision)
                root = await follow(writing(url, pause=0.01))
                below = await follow(writing(tree.urls[-1], pause=0.01))
                leaves = [
                    await follow(watched(at, history=history[0], revision=history[1]))
                    for at in (*tree.urls, tree.urls[-1])
                ]
                writer = await follow(DataSync(url))
                for number, server in enumerate([*tree.servers, rng.choice(tree.servers)]):
                    await root.more(50)
                    await server.kill()
                    await root.more(rng.choice([0, 100]))
                    acknowledged = await writer.put(f"mark/{number}", b"")
                    await server.start()
                    await _begins_with(tree.urls[-1], f"mark/{number}")
                    await leaves[-1][0].view("mark/").at_least(acknowledged or 0)
                    await below.more(5)
                # what is still under way would come after the state that all are held against
                await asyncio.gather(root.end(), below.end())

                newest = await writer.put("mark/last", b"")
                state = {key: raw for key, raw, _ in SqliteFile(file.path).begin().items}
                for sync, probe in leaves:
                    await sync.view("").at_least(newest or 0)
                    await eventually(lambda probe=probe: probe.state == state, 60)  # type: ignore[misc]
        finally:
            tree.end()

        log = file.log()
        for _, probe in leaves:
            hold(probe, log, state, newest or 0)
        done = dict(log)
        for load in (root, below):
            assert all(
                done[revision][key] == value
                for revision, (key, value) in load.acknowledged.items()
                if value is not None  # else there may have been nothing to delete
            )

    run(main())


async def _begins_with(url: str, key: str) -> None:
    """G1: a new watch shows at once what the root had acknowledged."""
    probe, sync = Probe(), DataSync(url, **QUICK)
    sync.watcher("", name="probe")(probe)
    async with sync:
        await sync.ready(60)
        assert key in {kv.key for kv in probe.resyncs[0].values[""]}


@pytest.mark.long
@pytest.mark.once
def test_chaos_in_a_tree_finds_nothing() -> None:
    async def one_round() -> Sequence[str]:
        store = TreeStore(("http", "grpc", "grpc"))
        try:
            await store.start()
            return (await play(store, draw(8, 0, store, 4.0), 8)).findings
        finally:
            await store.aclose()

    assert asyncio.run(one_round()) == []


class ByKey(MemorySource):
    """A store whose keys are ordered each for itself."""

    capabilities = msgspec.structs.replace(MemorySource.capabilities, order="key", atomic=False)


@schemes
def test_a_relay_that_does_not_know_its_source_yet_promises_nothing_for_it(
    run: Run, scheme: str
) -> None:
    """It took what an exact store promises for the promises of any, and its watchers
    never heard of others."""

    async def main() -> None:
        upper, lower = free_address(), free_address()
        leaf = open_url(f"{scheme}://{lower}")
        sync = DataSync(leaf, **QUICK)
        probe = Probe()
        sync.watcher("", name="probe")(probe)
        async with serving(scheme, lower, open_url(f"{scheme}://{upper}")), sync:
            await eventually(lambda: sync.status().sources[0].state == "loading", 60)
            async with serving(scheme, upper, store := ByKey("root")):
                await store.commit([Put("a", b"a")])
                await shows(probe, "a")
                assert leaf.capabilities.order == "key"
                assert not leaf.capabilities.atomic

    run(main())


@schemes
def test_a_new_history_is_told_to_who_was_away_while_it_began(
    run: Run, scheme: str, tmp_path: Path
) -> None:
    """A relay that lived on took its own log for the proof, whatever its source had become."""

    async def main() -> None:
        file, upper, lower = SqliteFile(tmp_path / "file.db"), free_address(), free_address()
        url = f"sqlite:///{file.path}"
        await put(url, "a")
        file.back_up()
        await put(url, "lost")
        port = int(lower.rpartition(":")[2])
        async with contextlib.AsyncExitStack() as stack:
            root = contextlib.AsyncExitStack()
            await root.enter_async_context(serving(scheme, upper, open_url(url)))
            await stack.enter_async_context(serving(scheme, lower, open_url(f"{scheme}://{upper}")))
            line = await stack.enter_async_context(proxy_to(port))
            away, near = Probe(), Probe()
            for probe, at in ((away, f"127.0.0.1:{line.port}"), (near, lower)):
                sync = DataSync(f"{scheme}://{at}", **QUICK)
                sync.watcher("", name="probe", ack_timeout=60, resync_timeout=60)(probe)
                await stack.enter_async_context(sync)
                await shows(probe, "a", "lost")

            await line.refuse()
            file.restore()  # while the root runs, which tells it by another name
            await shows(near, "a")
            await put(url, "b", "c", "d")
            await root.aclose()  # and knows nothing of that name once it is started again
            await root.enter_async_context(serving(scheme, upper, open_url(url)))
            stack.push_async_exit(root)
            await put(url, "e")
            await shows(near, "a", "b", "c", "d", "e")

            await line.start()
            await shows(away, "a", "b", "c", "d", "e")
            assert away.resyncs[-1].reason == NEW_HISTORY
            away.check()

    run(main())


class Counting(ForwardingSource):
    """Counts the sessions that are opened to prove a position."""

    proofs = 0

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        self.proofs += not scopes
        return await super().open(scopes, resume, added)


def test_those_who_come_back_together_share_a_proof(run: Run, tmp_path: Path) -> None:
    """Behind a relay that was started again, each of them had the root asked."""

    async def main() -> None:
        url = f"sqlite:///{tmp_path}/file.db"
        await put(url, "a")
        async with Hub(open_url(url)) as hub:
            await eventually(lambda: hub.ready, 60)
            earlier = hub.log.position(hub.log.seq)
        source = Counting(open_url(url))
        async with Hub(source) as hub:
            await eventually(lambda: hub.ready, 60)
            await asyncio.gather(*(hub.prove(earlier) for _ in range(200)))
            assert 0 < source.proofs <= 8
            with pytest.raises(HistoryLost, match="another run"):
                hub.subscribe([""], earlier, encode=repr)

            hub.lost(hub._layer, Disconnected("lost"))
            proofs = source.proofs
            await hub.prove(earlier)
            assert source.proofs == proofs + 1

    run(main())
