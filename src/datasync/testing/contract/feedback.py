"""G7, the side of the watch: what a handler reports decides what comes next."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec

from datasync import Backoff, ChangeEvent, Refused, ResyncEvent, Retry
from datasync.testing.contract.harness import Store, fill
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually


class Item(msgspec.Struct):
    """A typed value of the tests."""

    number: int


class Feedback(Base):
    """Reports, retries and refusals (G7)."""

    @scenario()
    async def test_g7_a_failed_event_is_retried_together_with_what_came_behind(
        self, store: Store
    ) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            await writer.put("a/1", b"0")

            sync = store.open()
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)

                probe.gate.clear()
                probe.answers.extend([ValueError("once"), ValueError("twice")])
                await writer.put("a/1", b"1")
                await eventually(lambda: probe.changes)

                await writer.put("a/2", b"2")
                await writer.put("a/1", b"3")
                if caps.order == "total":
                    await eventually(lambda: sync.status().watches[0].backlog >= 2)

                probe.gate.set()
                await eventually(lambda: probe.state == {"a/1": b"3", "a/2": b"2"})

        attempts = [event.attempt for event in probe.changes]
        assert attempts[:3] == [1, 2, 3]

        if caps.order == "total" and caps.every_value:
            assert [len(event.changes) for event in probe.changes] == [1, 2, 2]
            assert [event.commits for event in probe.changes] == [1, 3, 3]

    @scenario()
    async def test_g7_retry_says_when(self, store: Store) -> None:
        loop = asyncio.get_running_loop()
        times: list[float] = []
        async with store.other() as writer:
            sync = store.open(retry=Backoff(initial=50.0, maximum=50.0))

            @sync.watcher("a/")
            async def handler(event: Any) -> None:
                if isinstance(event, ChangeEvent):
                    times.append(loop.time())
                    if len(times) == 1:
                        raise Retry("not yet", after=0.1)

            async with sync:
                await sync.ready(60)
                await writer.put("a/1", b"1")
                await eventually(lambda: len(times) == 2)
        # the lower bound only: how late it comes is up to the machine
        assert times[1] - times[0] >= 0.099

    @scenario()
    async def test_g7_after_the_last_try_comes_a_resync_of_that_watch_alone(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open(retries=2)
            probe, other = store.probe(sync, "probe", "a/"), store.probe(sync, "other", "a/")
            async with sync:
                await sync.ready(60)
                probe.answers.extend([ValueError(f"try {i}") for i in range(6)])
                await writer.put("a/1", b"2")
                await eventually(lambda: probe.state == {"a/1": b"2"} and not probe.dirty)
                assert other.state == probe.state
        assert len(other.resyncs) == 1
        assert len(probe.resyncs) > 2
        assert probe.resyncs[-1].reason != probe.resyncs[0].reason

    @scenario()
    async def test_g7_refused_keys_stay_as_they_were(self, store: Store) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            await fill(writer, {"a/1": b"old", "a/2": b"old"}, caps)

            sync = store.open()
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)

                probe.answers.append(Refused({"a/1": "not now"}))
                if caps.atomic:
                    await fill(writer, {"a/1": b"new", "a/2": b"new"}, caps)
                else:
                    await writer.put("a/1", b"new")
                    await eventually(lambda: probe.dirty)
                    await writer.put("a/2", b"new")

                await eventually(lambda: probe.state == {"a/1": b"old", "a/2": b"new"})
                assert probe.dirty == {"a/1"}

                await writer.put("a/2", b"newer")
                await eventually(lambda: probe.state["a/2"] == b"newer")
                await writer.put("a/1", b"newer")
                await eventually(lambda: probe.state["a/1"] == b"newer")

        assert [raw for key, raw in probe.seen if key == "a/1"] == [b"newer"]
        assert {event.attempt for event in probe.events} == {1}

    @scenario()
    async def test_g7_keys_refused_in_a_resync_stay_as_they_were(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, {"a/1": b"1", "a/2": b"2"}, store.capabilities)
            sync = store.open()
            probe = store.probe(sync, "probe", "a/", answers=[Refused({"a/1": "not now"})])
            async with sync:
                await sync.ready(60)
                assert probe.state == {"a/2": b"2"}
                sync.resync()
                await eventually(lambda: probe.state == {"a/1": b"1", "a/2": b"2"})
        assert [change.key for change in probe.resyncs[1].changes] == ["a/1"]

    @scenario()
    async def test_g7_refusing_a_foreign_key_is_a_failure(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open()
            seen: list[Any] = []

            @sync.watcher("a/")
            async def handler(event: Any) -> None:
                if isinstance(event, ChangeEvent):
                    seen.append(event)
                    if len(seen) == 1:
                        raise Refused({"a/foreign": "never seen"})

            async with sync:
                await sync.ready(60)
                await writer.put("a/1", b"1")
                await eventually(lambda: len(seen) == 2)
        assert [event.attempt for event in seen] == [1, 2]

    @scenario()
    async def test_g7_a_late_report_counts_for_the_watch(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open(ack_timeout=0.05)
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                probe.gate.clear()
                await writer.put("a/1", b"2")
                await eventually(lambda: sync.status().watches[0].state == "overdue")
                await writer.put("a/1", b"3")
                probe.gate.set()
                await eventually(lambda: probe.state == {"a/1": b"3"})
        assert probe.seen == [("a/1", b"2"), ("a/1", b"3")]

    @scenario()
    async def test_g7_doubled_and_stale_reports_are_harmless(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open()
            probe = store.probe(sync, "probe", "a/")

            @sync.watcher("a/", name="twice")
            async def twice(event: Any) -> None:
                event.done()
                event.done()

            async with sync:
                await sync.ready(60)
                for value in (b"1", b"2", b"3"):
                    await writer.put("a/1", value)
                    await probe.reaches({"a/1": value})
                    for event in probe.events:
                        event.done()
                await writer.delete("a/1")
                await eventually(lambda: not probe.state)
        assert probe.seen == [("a/1", b"1"), ("a/1", b"2"), ("a/1", b"3"), ("a/1", None)]

    @scenario()
    async def test_g7_a_deferred_event_stays_open_until_its_report_from_any_thread(
        self, store: Store
    ) -> None:
        events: list[Any] = []
        async with store.other() as writer:
            sync = store.open(ack_timeout=30)

            @sync.watcher("a/")
            async def handler(event: Any) -> None:
                events.append(event)
                if isinstance(event, ChangeEvent):
                    event.defer()

            witness = store.probe(sync, "witness", "a/")
            async with sync:
                await sync.ready(60)
                await writer.put("a/1", b"1")
                await eventually(lambda: len(events) == 2)
                await writer.put("a/1", b"2")
                await eventually(lambda: witness.state == {"a/1": b"2"})
                assert len(events) == 2
                thread = threading.Thread(target=events[1].done)
                thread.start()
                await eventually(lambda: len(events) == 3)
                thread.join()
                events[2].done()
        assert [change.raw for event in events[1:] for change in event.changes] == [b"1", b"2"]

    @scenario()
    async def test_g7_a_plain_function_runs_in_a_thread_of_its_own(self, store: Store) -> None:
        threads: set[int] = set()
        state: dict[str, bytes] = {}
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open()

            @sync.watcher("a/")
            def handler(event: Any) -> None:
                threads.add(threading.get_ident())
                if isinstance(event, ResyncEvent):
                    state.update((kv.key, kv.raw) for kv in event.values["a/"])
                elif event.attempt == 1:
                    raise ValueError("once")
                else:
                    state.update((change.key, change.raw) for change in event.changes)

            async with sync:
                await sync.ready(60)
                await writer.put("a/2", b"2")
                await eventually(lambda: state == {"a/1": b"1", "a/2": b"2"})
        assert threading.get_ident() not in threads

    @scenario()
    async def test_g7_a_stream_accepts_by_asking_for_the_next(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            async with store.open() as sync:
                stream = sync.watch("stream", "a/")
                kinds: list[Any] = []
                async for event in stream:
                    kinds.append((type(event), event.attempt))
                    if len(kinds) < 3:
                        await writer.put("a/1", b"v%d" % len(kinds))
                    else:
                        break
                # a new loop over it fails the event that the last one left open
                async for event in stream:
                    kinds.append((type(event), event.attempt))
                    event.done()
                    break
        assert kinds == [(ResyncEvent, 1), (ChangeEvent, 1), (ChangeEvent, 1), (ChangeEvent, 2)]

    @scenario()
    async def test_g7_values_that_do_not_decode_are_named_and_left_out(self, store: Store) -> None:
        good = msgspec.json.encode(Item(1))
        seen: list[tuple[set[str], set[str]]] = []
        async with store.other() as writer:
            await fill(writer, {"a/1": good, "a/2": b"{nonsense", "a/3": b"[]"}, store.capabilities)
            sync = store.open()

            @sync.watcher("a/", type=Item)
            async def handler(event: Any) -> None:
                pairs = event.changes if isinstance(event, ChangeEvent) else event.values["a/"]
                assert all(isinstance(pair.value, Item) for pair in pairs)
                seen.append(({pair.key for pair in pairs}, set(event.undecodable)))

            async with sync:
                await sync.ready(60)
                await eventually(lambda: seen)
                assert seen == [({"a/1"}, {"a/2", "a/3"})]
                await writer.put("a/2", good)
                await eventually(lambda: len(seen) == 2)
                await writer.put("a/1", b"{nonsense")
                await eventually(lambda: len(seen) == 3)
        assert seen[1:] == [({"a/2"}, set()), (set(), {"a/1"})]

    @scenario()
    async def test_g7_what_a_handler_does_to_its_event_never_comes_again(
        self, store: Store
    ) -> None:
        items = {
            "a/1": msgspec.json.encode(Item(1)),
            "a/2": b"{nonsense",
            "a/3": msgspec.json.encode(Item(3)),
        }
        seen: list[tuple[str, int, int | None]] = []
        failing = [False]
        async with store.other() as writer:
            await fill(writer, items, store.capabilities)
            sync = store.open()

            @sync.watcher("a/", type=Item)
            async def handler(event: Any) -> None:
                changes = sorted(event.changes, key=lambda change: change.key)
                event.changes.clear()
                for change in changes:
                    seen.append(
                        (change.key, change.value.number, change.prev and change.prev.value.number)
                    )
                    change.value.number = 99
                    if change.prev is not None:
                        change.prev.value.number = 99
                if failing.pop():
                    failing.append(False)
                    raise ValueError("once")
                failing.append(False)

            async with sync:
                await sync.ready(60)
                assert seen == [("a/1", 1, None), ("a/1", 1, None), ("a/3", 3, None)]
                seen.clear()
                failing[:] = [True]
                await writer.put("a/1", msgspec.json.encode(Item(2)))
                await eventually(lambda: len(seen) == 2)
                assert seen == [("a/1", 2, 1), ("a/1", 2, 1)]
                await writer.put("a/3", msgspec.json.encode(Item(4)))
                await eventually(lambda: len(seen) == 3)
                assert seen[2] == ("a/3", 4, 3)

    @scenario()
    async def test_g7_status_shows_what_is_failing_and_why(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open(retry=Backoff(initial=0.05, maximum=0.05))
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                assert sync.status().watches[0].failing is None
                probe.answers.extend([ValueError("no such table")] * 3)
                await writer.put("a/1", b"1")
                await eventually(lambda: sync.status().watches[0].failing)
                failing = sync.status().watches[0].failing
                assert failing is not None
                assert "no such table" in failing.why
                assert failing.since > 0
                await eventually(lambda: probe.state == {"a/1": b"1"})
                await eventually(lambda: sync.status().watches[0].failing is None)

    @scenario()
    async def test_g7_a_time_out_or_cancellation_within_a_handler_is_a_failure(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            sync = store.open()
            attempts: list[int] = []

            @sync.watcher("a/")
            async def handler(event: Any) -> None:
                if not isinstance(event, ChangeEvent):
                    return
                attempts.append(event.attempt)
                if event.attempt == 1:
                    async with asyncio.timeout(0.01):
                        await asyncio.Event().wait()
                if event.attempt == 2:
                    inner = asyncio.ensure_future(asyncio.Event().wait())
                    asyncio.get_running_loop().call_soon(inner.cancel)
                    await inner

            witness = store.probe(sync, "witness", "a/")
            async with sync:
                await sync.ready(60)
                await writer.put("a/1", b"1")
                await eventually(lambda: attempts == [1, 2, 3])
                await writer.put("a/1", b"2")
                await eventually(lambda: len(attempts) == 4 and witness.state == {"a/1": b"2"})
