"""G1, G7, G9: what is registered while running is as good as what was there
before, and disturbs nothing."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from datasync import ChangeEvent, DataSync, NotApplied, Refused, ResyncEvent, Verdict, WatchState
from datasync.testing.contract.harness import Store, Writer
from datasync.testing.contract.probe import Probe
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually

ROUNDS = 12


async def refuses(event: Any) -> None:
    """A handler that accepts RESYNCs and refuses all changes."""
    if isinstance(event, ChangeEvent):
        raise Refused(dict.fromkeys((change.key for change in event.changes), "no"))


async def is_refused(sync: DataSync, key: str, value: bytes) -> None:
    """Put, and expect the verdict of a watch that refuses."""
    with pytest.raises(NotApplied) as caught:
        await sync.put(key, value, confirm=True)
    assert caught.value.verdict is Verdict.REFUSED


class Registering(Base):
    """Watches, prefixes and views that are registered while the DataSync runs (G1, G7, G9)."""

    @scenario()
    async def test_g1_a_watch_of_something_new_holds_what_was_acknowledged_before(
        self, store: Store
    ) -> None:
        async with store.other() as writer, store.open() as sync:
            for number in range(ROUNDS):
                expected = await _written(writer, f"{number}/")
                await _is_fresh(store.probe(sync, f"watch {number}", f"{number}/"), expected)

    @scenario()
    async def test_g1_a_watch_of_something_known_holds_what_was_acknowledged_before(
        self, store: Store
    ) -> None:
        async with store.other() as writer, store.open() as sync:
            store.probe(sync, "always", "a/")
            await sync.ready(60)
            for number in range(ROUNDS):
                expected = await _written(writer, f"a/{number}/")
                await _is_fresh(store.probe(sync, f"watch {number}", f"a/{number}/"), expected)

    @scenario()
    async def test_g1_a_prefix_that_is_added_holds_what_was_acknowledged_before(
        self, store: Store
    ) -> None:
        async with store.other() as writer, store.open() as sync:
            probe = store.probe(sync, "probe", "a/", "b/", "c/")  # and what it is widened to
            watch = sync.watches["probe"]
            await sync.ready(60)
            watch.remove_prefix("b/")
            watch.remove_prefix("c/")
            expected = await _written(writer, "a/")
            for prefix in ("b/", "c/"):
                await probe.reaches(expected)
                await eventually(lambda: watch.state is WatchState.FOLLOWING)
                expected |= await _written(writer, prefix)
                events = len(probe.events)
                watch.add_prefix(prefix)
                await probe.hears(events + 1)
                assert isinstance(probe.events[events], ResyncEvent)
                assert probe.state == expected

    @scenario()
    async def test_g1_a_view_holds_what_was_acknowledged_before(self, store: Store) -> None:
        async with store.other() as writer, store.open() as sync:
            store.probe(sync, "always", "a/")
            await sync.ready(60)
            for number in range(ROUNDS):
                for prefix in f"a/{number}/", f"b/{number}/":
                    expected = await _written(writer, prefix)
                    view = sync.view(prefix)
                    await view.at_least(0, timeout=60)
                    assert dict(view) == expected

    @scenario()
    async def test_g1_a_resync_tells_how_far_it_is_known(self, store: Store) -> None:
        can = store.capabilities
        if not can.revisions or can.order != "total":
            pytest.skip("its revisions do not tell how far all keys are known")
        async with store.other() as writer, store.open() as sync:
            store.probe(sync, "always", "a/")
            await sync.ready(60)
            for number in range(ROUNDS):
                written = await writer.put("b/1", b"%d" % number)  # concerns nobody here
                probe = store.probe(sync, f"watch {number}", "a/")
                await probe.hears(1)
                if written is not None:
                    assert probe.resyncs[0].revision >= written

    @scenario()
    async def test_g9_watches_that_come_hold_up_none_that_is_there(self, store: Store) -> None:
        async with store.other() as writer, store.open() as sync:
            always = store.probe(sync, "always", "a/")
            await sync.ready(60)
            adding = asyncio.create_task(_add_watches(store, sync))
            try:
                for number in range(3 * ROUNDS):
                    value = b"%d" % number
                    await writer.put("a/1", value)
                    await always.reaches({"a/1": value}, 30)
            finally:
                adding.cancel()
                await asyncio.wait([adding])
            assert len(always.resyncs) == 1
            assert sync.status().sources[0].reconnects == 0
            await sync.ready(60)

    @scenario(writes=True)
    async def test_g7_the_verdict_of_a_watch_that_was_registered_just_now(
        self, store: Store
    ) -> None:
        async with store.open() as sync:
            for number in range(ROUNDS):
                probe = store.probe(sync, f"watch {number}", f"{number}/")
                # the write is a part of its first RESYNC, or comes after it: its
                # watch has a say in both cases
                await sync.put(f"{number}/key", b"1", confirm=True)
                assert probe.state == {f"{number}/key": b"1"}

    @scenario(writes=True)
    async def test_g7_registering_takes_no_verdict_from_watches_that_are_there(
        self, store: Store
    ) -> None:
        async with store.open() as sync:
            sync.watcher("a/", name="refuses")(refuses)
            await sync.ready(60)
            for number in range(ROUNDS):
                write = asyncio.create_task(is_refused(sync, "a/1", b"%d" % number))
                for _ in range(number % 6):
                    await asyncio.sleep(0)
                store.probe(sync, f"watch {number}", f"b/{number}/")
                await write
                await is_refused(sync, "a/1", b"%d, and again" % number)


async def _written(writer: Writer, prefix: str) -> dict[str, bytes]:
    """What somebody else has written under `prefix`, and was told to be done."""
    for number in range(5):
        await writer.put(f"{prefix}{number % 3}", b"%d" % number)
    await writer.delete(f"{prefix}0")
    return {f"{prefix}1": b"4", f"{prefix}2": b"2"}


async def _is_fresh(probe: Probe, expected: dict[str, bytes]) -> None:
    await eventually(lambda: probe.resyncs)
    assert probe.state == expected
    assert not probe.changes  # nothing is replayed that the RESYNC could hold


async def _add_watches(store: Store, sync: DataSync) -> None:
    for number in itertools.count():
        store.probe(sync, f"watch {number}", f"{number % 10}/{number}/")
        await asyncio.sleep(0.05)
