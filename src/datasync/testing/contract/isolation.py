"""G9: a slow watch delays nobody but itself, and what waits for it stays small."""

from __future__ import annotations

import asyncio
from typing import Any

from datasync.testing.contract.harness import Store, Writer, fill
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually

MANY = 500


class Isolation(Base):
    """Isolation and bounded memory (G9)."""

    @scenario()
    async def test_g9_a_stuck_watch_delays_no_other(self, store: Store) -> None:
        caps = store.capabilities
        limit = 50
        async with store.other() as writer:
            sync = store.open(ack_timeout=60, backlog=limit)
            stuck, quick = store.probe(sync, "stuck", "a/"), store.probe(sync, "quick", "a/")
            async with sync:
                await sync.ready(60)
                stuck.gate.clear()
                wanted = await _put_in_turn(writer, MANY, keys=10)
                await eventually(lambda: quick.state == wanted)
                # the quick one has everything, the stuck one still sits on its first event
                assert len(stuck.events) == 2
                await eventually(lambda: sync.status().watches[1].backlog == 0)
                assert 0 < sync.status().watches[0].backlog <= limit
                stuck.gate.set()
                await eventually(lambda: stuck.state == wanted)
        if caps.every_value:
            assert stuck.commits == MANY
            assert [len(event.changes) for event in stuck.changes] == [1, 10]

    @scenario()
    async def test_g9_a_sleeping_watch_ends_with_the_same_state(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open(backlog=20)
            slow: dict[str, bytes | None] = {}
            quick = store.probe(sync, "quick", "a/")

            @sync.watcher("a/", name="slow")
            async def sleeper(event: Any) -> None:
                await asyncio.sleep(0.01)
                slow.update((change.key, change.raw) for change in event.changes)

            async with sync:
                await sync.ready(60)
                wanted = await _put_in_turn(writer, 300, keys=30)
                await eventually(lambda: slow == quick.state == wanted)

    @scenario()
    async def test_g9_a_fold_keeps_the_first_previous_and_the_last_value(
        self, store: Store
    ) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            await fill(writer, {"a/1": b"first", "a/2": b"first"}, caps)

            sync = store.open(ack_timeout=60, backlog=2)
            probe, witness = store.probe(sync, "probe", "a/"), store.probe(sync, "witness", "a/")
            async with sync:
                await sync.ready(60)

                probe.gate.clear()
                await writer.put("a/0", b"0")
                await eventually(lambda: probe.changes)

                for number in range(20):
                    await writer.put("a/1", b"%d" % number)
                await writer.delete("a/2")
                await writer.put("a/passing", b"here")
                await writer.delete("a/passing")
                await writer.put("a/0", b"last")

                wanted = {"a/0": b"last", "a/1": b"19"}
                await eventually(lambda: witness.state == wanted)
                probe.gate.set()
                await eventually(lambda: probe.state == wanted)

        if not caps.every_value:
            return

        fold = probe.changes[1]
        assert len(probe.changes) == 2
        assert {change.key: change.prev and change.prev.raw for change in fold.changes} == {
            "a/0": b"0",
            "a/1": b"first",
            "a/2": b"first",
        }
        assert fold.commits == 24
        if caps.revisions and caps.order == "total":
            assert fold.revision >= witness.events[-1].revision

    @scenario()
    async def test_g9_a_watch_without_a_reader_stays_small(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open(ack_timeout=0.05, backlog=10)
            stream = sync.watch("stream", "a/")
            quick = store.probe(sync, "quick", "a/")
            async with sync:
                await sync.ready(60)
                wanted = await _put_in_turn(writer, 100, keys=5)
                await eventually(lambda: quick.state == wanted)
                assert {watch.name: watch for watch in sync.status().watches}[
                    "stream"
                ].backlog <= 10
                async for event in stream:
                    assert {change.key: change.raw for change in event.changes} == wanted
                    break


async def _put_in_turn(writer: Writer, number: int, *, keys: int) -> dict[str, bytes]:
    """The state after that. Order may hold by key alone, and a fold may bring the newest value of a
    key early: that the key written last has its value says nothing of the others."""
    state = {}
    for turn in range(number):
        key = f"a/{turn % keys}"
        state[key] = b"%d" % turn
        await writer.put(key, state[key])
    return state
