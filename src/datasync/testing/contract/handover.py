"""G2: from the snapshot to the changes without a gap and without an overlap, while
somebody writes all the time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from datasync import DataSync
from datasync.source import SnapshotEnd
from datasync.testing.contract.following import Following
from datasync.testing.contract.harness import Store
from datasync.testing.contract.probe import Probe
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.traffic import Traffic, explain, part
from datasync.testing.contract.waiting import eventually
from datasync.testing.trace.checker import check
from datasync.testing.trace.recorder import Recorder
from datasync.testing.trace.records import Delivered, Reported

STARTS = 20


class Handover(Base):
    """No gap, no overlap (G2)."""

    @scenario()
    async def test_g2_starting_under_a_continuous_writer(self, store: Store) -> None:
        async with store.other() as writer:
            traffic = Traffic(writer, store.capabilities, seed=1)
            async with traffic.running():
                for _ in range(STARTS):
                    sync = store.open()
                    probes = _watch_all(store, sync)
                    async with sync:
                        await sync.ready(60)
                        await traffic.more(10)
                        async with traffic.paused():
                            for probe in probes:
                                await probe.reaches(part(traffic.state, probe.prefixes))
                                explain(probe, traffic, store.capabilities)

    @scenario()
    async def test_g2_registered_at_any_moment_of_the_start(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            for turns in range(12):
                async with store.open() as sync:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    probe = store.probe(sync, "probe", "a/")
                    await probe.reaches({"a/1": b"1"})
                    assert len(probe.resyncs) == 1

    @scenario()
    async def test_g2_the_trace_of_starting_under_a_continuous_writer_holds(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            traffic = Traffic(writer, store.capabilities, seed=4)
            async with traffic.running():
                for _ in range(STARTS // 4):
                    recorder = Recorder(root=store.prefix)
                    source = recorder.source(store.source())
                    sync = store.open(url=source)
                    async with traffic.paused():
                        traffic.recorded(recorder, source.name, store.prefix)

                    watched = {"a": ("a/",), "b": ("b/",), "both": ("b/", "a/")}
                    for name, prefixes in watched.items():
                        handler = recorder.wrap(_slow, *prefixes, name=name)
                        sync.watcher(*prefixes, name=name)(handler)
                    probe = store.probe(sync, "probe", "")

                    async with sync:
                        await sync.ready(60)
                        await traffic.more(20)
                        async with traffic.paused():
                            await probe.reaches(traffic.state)

                            wanted = {
                                name: part(traffic.state, prefixes)
                                for name, prefixes in watched.items()
                            }
                            await _settled(recorder, wanted)
                            assert probe.changes

                            stored = {store.prefix + key: raw for key, raw in traffic.state.items()}
                            recorder.stored(source.name, stored, max(traffic.revisions.values()))
                            recorder.quiet()
                            violations = check(recorder.trace, latency=60.0)
                    assert not violations, "; ".join(map(str, violations[:5]))

    @scenario()
    async def test_g2_watches_added_under_a_continuous_writer(self, store: Store) -> None:
        async with store.other() as writer:
            traffic = Traffic(writer, store.capabilities, seed=2)
            async with traffic.running(), store.open() as sync:
                probes: list[Probe] = []
                for number in range(10):
                    prefixes = [("a/",), ("b/",), ("a/", "b/")][number % 3]
                    probes.append(store.probe(sync, f"watch {number}", *prefixes))
                    await traffic.more(4)
                await sync.ready(60)
                async with traffic.paused():
                    for probe in probes:
                        await probe.reaches(part(traffic.state, probe.prefixes))
                        explain(probe, traffic, store.capabilities)

    @scenario()
    async def test_g2_changes_while_a_resync_is_applied_arrive_once(self, store: Store) -> None:
        async with store.other() as writer:
            traffic = Traffic(writer, store.capabilities, seed=3)
            async with traffic.running():
                await traffic.more(5)
                sync = store.open()
                probes = _watch_all(store, sync)
                for probe in probes:
                    probe.gate.clear()
                async with sync:
                    for probe in probes:
                        await probe.hears(1)
                        await traffic.more(5)
                        probe.gate.set()
                    await traffic.more(5)
                    async with traffic.paused():
                        for probe in probes:
                            await probe.reaches(part(traffic.state, probe.prefixes))
                            assert len(probe.resyncs) == 1
                            explain(probe, traffic, store.capabilities)

    @scenario()
    async def test_g2_a_session_resumes_where_its_position_stood(self, store: Store) -> None:
        """However far the session that told the position has come since, and as plain
        data, where somebody keeps it."""
        source = store.source()
        if not source.capabilities.resume:
            return
        scopes = [f"{store.prefix}a/"]
        async with store.other() as writer:
            before = Following(await source.open(scopes))
            await eventually(lambda: any(type(frame) is SnapshotEnd for frame in before.frames))
            positions = []
            for number in range(5):
                await writer.put(f"a/{number}", b"")
                positions.append((await before.brings(number + 1))[-1].position)
            await before.session.caught_up()

            for number, position in enumerate(positions):
                if source.capabilities.durable:
                    position = json.loads(json.dumps(position))
                after = Following(await source.open(scopes, position))
                behind = [f"{store.prefix}a/{later}" for later in range(number + 1, 5)]
                commits = await after.brings(len(behind))
                assert [key for commit in commits for key, _ in commit.changes] == behind
                await after.aclose()
            await before.aclose()
            await source.aclose()


def _watch_all(store: Store, sync: DataSync, **options: Any) -> list[Probe]:
    return [
        store.probe(sync, "a", "a/", **options),
        store.probe(sync, "b", "b/", **options),
        store.probe(sync, "both", "b/", "a/", **options),
    ]


async def _slow(event: Any) -> None:
    await asyncio.sleep(0)


async def _settled(recorder: Recorder, wanted: Mapping[str, Mapping[str, bytes]]) -> None:
    """Wait until each watch of a trace has reported all that brings it to its state."""

    def settled() -> bool:
        assert _applied(recorder) == wanted
        return True

    await eventually(settled)


def _applied(recorder: Recorder) -> dict[str, dict[str, bytes]]:
    """What each watch of a trace has reported as applied so far: key by key, the last value."""
    given = {record.event: record for record in recorder.trace if isinstance(record, Delivered)}
    states: dict[str, dict[str, bytes]] = {}
    for record in recorder.trace:
        if isinstance(record, Reported):
            state = states.setdefault(given[record.event].watch, {})
            for step in given[record.event].changes:
                if step.raw is None:
                    state.pop(step.key, None)
                else:
                    state[step.key] = step.raw
    return states
