"""G1 and G6: a RESYNC comes first, is complete, and comes to the watches in
the order of registration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from datasync import ResyncEvent
from datasync.testing.contract.harness import Store, fill
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually

WATCHES = 10
STARTS = 20


class Resyncs(Base):
    """RESYNC first (G1), in order (G6)."""

    @scenario()
    async def test_g1_the_first_event_is_a_complete_resync(self, store: Store) -> None:
        wanted = {f"a/{i:05}": b"%d" % i for i in reversed(range(1200))}
        wanted |= {f"b/x/{i:03}": b"b%d" % i for i in range(100)}
        async with store.other() as writer:
            await fill(
                writer,
                wanted | {"c/other": b"no", "ab/other": b"no", "a": b"no"},
                store.capabilities,
            )
        sync = store.open()
        probe = store.probe(sync, "probe", "b/x/", "a/")
        async with sync:
            await sync.ready(60)
            (event,) = probe.events
            assert isinstance(event, ResyncEvent)
            assert set(event.values) == {"b/x/", "a/"}
            assert {kv.key: kv.raw for values in event.values.values() for kv in values} == wanted
            assert {change.key for change in event.changes} == wanted.keys()
            assert event.attempt == 1
            assert probe.state == wanted

    @scenario()
    async def test_g1_revisions_of_a_resync_are_those_of_the_writes(self, store: Store) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            revisions = {key: await writer.put(key, b"value") for key in ("a/1", "a/2", "a/3")}
            sync = store.open()
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
        (event,) = probe.resyncs
        got = {kv.key: kv.revision for kv in event.values["a/"]}
        if caps.revisions:
            assert got == revisions
            assert event.revision >= max(got.values())
        else:
            assert revisions == dict.fromkeys(got)

    @scenario()
    async def test_g1_an_empty_store_gives_an_empty_resync(self, store: Store) -> None:
        sync = store.open()
        probe = store.probe(sync, "probe", "a/", keys=["single"])
        async with sync:
            await sync.ready(60)
            (event,) = probe.events
            assert isinstance(event, ResyncEvent)
            assert {prefix: list(values) for prefix, values in event.values.items()} == {
                "a/": [],
                "single": [],
            }
            assert not event.changes

    @scenario()
    async def test_g1_a_failed_resync_is_retried_and_no_change_comes_before(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open()
            probe = store.probe(
                sync, "probe", "a/", answers=[ValueError("first"), ValueError("second")]
            )
            probe.gate.clear()
            async with sync:
                await eventually(lambda: probe.events)
                await writer.put("a/2", b"2")
                await writer.delete("a/1")
                probe.gate.set()
                await sync.ready(60)
                await writer.put("a/3", b"3")
                await eventually(lambda: probe.state == {"a/2": b"2", "a/3": b"3"})
        assert [event.attempt for event in probe.resyncs] == [1, 2, 3]
        assert all(isinstance(event, ResyncEvent) for event in probe.events[:3])

    @scenario()
    async def test_g1_the_values_of_a_resync_do_not_move(self, store: Store) -> None:
        seen: list[list[tuple[str, bytes, int]]] = []
        async with store.other() as writer:
            await fill(writer, {f"a/{i}": b"old" for i in range(5)}, store.capabilities)
            sync = store.open()
            follower = store.probe(sync, "follower", "a/")

            @sync.watcher("a/")
            async def reader(event: Any) -> None:
                if not isinstance(event, ResyncEvent):
                    return
                first = []
                for kv in event.values["a/"]:
                    first.append((kv.key, kv.raw, kv.revision))
                    if kv.key == "a/1":
                        await writer.put("a/3", b"new")
                        await writer.delete("a/4")
                        await writer.put("a/00", b"more")
                        await eventually(lambda: len(follower.seen) == 3)
                seen.extend([first, [(kv.key, kv.raw, kv.revision) for kv in event.values["a/"]]])

            async with sync:
                await sync.ready(60)
        assert [[key for key, _, _ in values] for values in seen] == [
            [f"a/{i}" for i in range(5)]
        ] * 2
        assert seen[0] == seen[1]
        assert {raw for _, raw, _ in seen[0]} == {b"old"}

    @scenario()
    async def test_g6_resyncs_come_in_the_order_of_registration(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, {f"w{i}/key": b"value" for i in range(WATCHES)}, store.capabilities)
        # names and prefixes sort otherwise than they are registered
        order = [(7 * i + 3) % WATCHES for i in range(WATCHES)]
        for _ in range(STARTS):
            steps: list[tuple[str, int]] = []

            def handler(number: int, steps: list[tuple[str, int]] = steps) -> Callable[[Any], Any]:
                async def handle(event: Any) -> None:
                    steps.append(("begin", number))
                    for _ in range(number % 3):
                        await asyncio.sleep(0)
                    steps.append(("end", number))

                return handle

            sync = store.open()
            for number in order:
                sync.watcher(f"w{number}/", name=f"watch {number}")(handler(number))
            async with sync:
                await sync.ready(60)
            assert steps == [(step, number) for number in order for step in ("begin", "end")]

    @scenario()
    async def test_g6_changes_come_once_all_watches_before_have_settled(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open()
            first, second, third = (
                store.probe(sync, name, "a/") for name in ("first", "second", "third")
            )
            second.gate.clear()
            async with sync:
                await eventually(lambda: second.events)
                await writer.put("a/1", b"1")
                await eventually(lambda: first.state == {"a/1": b"1"})
                assert not third.events
                second.gate.set()
                await sync.ready(60)
                await eventually(lambda: second.state == third.state == {"a/1": b"1"})
        assert isinstance(third.events[0], ResyncEvent)

    @scenario()
    async def test_g6_an_overdue_resync_is_passed_by(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open(resync_timeout=0.05)
            stuck, next_one = store.probe(sync, "stuck", "a/"), store.probe(sync, "next", "a/")
            stuck.gate.clear()
            async with sync:
                await eventually(lambda: next_one.resynced)
                await writer.put("a/2", b"2")
                await eventually(lambda: next_one.state == {"a/1": b"1", "a/2": b"2"})
                assert len(stuck.events) == 1
                stuck.gate.set()
                await eventually(lambda: stuck.state == next_one.state)

    @scenario()
    async def test_g6_a_stream_that_nobody_iterates_is_passed_by(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open(ack_timeout=0.05)
            stream = sync.watch("stream", "a/")
            behind = store.probe(sync, "behind", "a/")
            async with sync:
                await eventually(lambda: behind.resynced)
                await writer.put("a/2", b"2")
                await eventually(lambda: len(behind.state) == 2)
                async for event in stream:
                    assert isinstance(event, ResyncEvent)
                    assert [kv.key for kv in event.values["a/"]] == ["a/1", "a/2"]
                    event.done()
                    break

    @scenario()
    async def test_g6_a_round_on_request(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open()
            first, second = store.probe(sync, "first", "a/"), store.probe(sync, "second", "a/")
            async with sync:
                await sync.ready(60)
                sync.resync()
                await eventually(lambda: len(first.resyncs) == len(second.resyncs) == 2)
                sync.resync("second")
                await eventually(lambda: len(second.resyncs) == 3)
                await writer.put("a/2", b"2")
                await eventually(lambda: len(first.state) == len(second.state) == 2)
        assert len(first.resyncs) == 2
        assert [len(event.changes) for event in second.resyncs] == [1, 0, 0]

    @scenario()
    async def test_g6_a_report_of_an_older_round_does_not_count_in_a_newer(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open(resync_timeout=0.1)
            late, behind = store.probe(sync, "late", "a/"), store.probe(sync, "behind", "a/")
            late.gate.clear()
            async with sync:
                await eventually(lambda: len(behind.resyncs) == 1)
                await writer.put("a/2", b"2")
                await eventually(lambda: len(behind.state) == 2)
                sync.resync()
                await eventually(lambda: len(behind.resyncs) == 2)
                assert len(late.events) == 1
                late.gate.set()
                await eventually(lambda: late.state == behind.state)
                await writer.put("a/3", b"3")
                await eventually(lambda: len(late.state) == len(behind.state) == 3)
        # the second round still owes it a RESYNC: what it reported was made before that round
        assert len(late.resyncs) == 2

    @scenario()
    async def test_g6_a_handler_never_runs_twice_at_once(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open(ack_timeout=0.03, resync_timeout=0.03)
            slow, witness = store.probe(sync, "slow", "a/"), store.probe(sync, "witness", "a/")
            async with sync:
                await sync.ready(60)
                slow.gate.clear()
                await writer.put("a/1", b"1")
                await eventually(lambda: slow.changes)
                await eventually(lambda: sync.status().watches[0].state == "overdue")
                await writer.put("a/1", b"2")
                sync.resync()
                await eventually(
                    lambda: len(witness.resyncs) == 2 and witness.state == {"a/1": b"2"}
                )
                assert len(slow.events) == 2
                slow.gate.set()
                await eventually(lambda: slow.state == {"a/1": b"2"})
