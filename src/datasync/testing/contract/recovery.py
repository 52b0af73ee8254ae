"""G8: losing the source and getting it back. All tests here need hooks of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from datasync import BadStore, DataSync, Disconnected, HistoryChanged, OutcomeUnknown
from datasync.testing.contract.harness import Hook, Store, Writer, fill
from datasync.testing.contract.probe import Probe
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually

T = TypeVar("T")
START = {"a/gone": b"1", "a/kept": b"2", "a/old": b"3"}
BEHIND = {"a/kept": b"2", "a/old": b"4", "a/new": b"5"}
SOON = 15.0
"""Seconds within which a loss is to be noticed; the pings of these tests are much quicker."""
PINGS: dict[str, Any] = {"ping_interval": 0.1, "ping_timeout": 0.3}


async def _call(hook: Hook | None) -> None:
    assert hook is not None
    await hook()


async def _change_all(writer: Writer) -> None:
    """Make of START what BEHIND is."""
    await writer.delete("a/gone")
    await writer.put("a/old", b"4")
    await writer.put("a/new", b"5")


async def once_reachable(call: Callable[[], Awaitable[T]]) -> T:
    """The result of `call()`, which is repeated as long as the source says
    that it cannot be reached."""
    deadline = asyncio.get_running_loop().time() + SOON
    while True:
        try:
            return await call()
        except Disconnected:
            assert asyncio.get_running_loop().time() < deadline, "it does not come back"
        await asyncio.sleep(0.01)


def _following(sync: DataSync) -> bool:
    return sync.status().sources[0].state == "following"


class Recovery(Base):
    """Lost connections, new histories (G8, and G3 for the latter)."""

    @scenario("lose", "restore")
    async def test_g8_a_lost_source_comes_back_with_everything_that_happened_meanwhile(
        self, store: Store
    ) -> None:
        await self._lose_and_restore(store, store.lose, store.restore)

    @scenario("freeze", "thaw")
    async def test_g8_a_source_that_does_not_answer_is_a_lost_one(self, store: Store) -> None:
        await self._lose_and_restore(store, store.freeze, store.thaw)

    async def _lose_and_restore(
        self, store: Store, lose: Hook | None, restore: Hook | None
    ) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            await fill(writer, START, caps)

            sync = store.open(**PINGS)
            first, second = store.probe(sync, "first", "a/"), store.probe(sync, "second", "a/")
            async with sync:
                view = sync.view("a/")
                await sync.ready(60)
                assert _following(sync)

                before = sync.status().sources[0]
                await _call(lose)
                await eventually(lambda: not _following(sync), SOON)
                lost = sync.status().sources[0]
                assert lost.error
                assert lost.since >= before.since

                if store.direct is not None:
                    await _change_all(writer)

                # nothing is emptied, nothing is made up
                assert first.state == second.state == START
                assert {key: bytes(value) for key, value in view.items()} == START
                assert len(first.events) == len(second.events) == 1

                await _call(restore)
                if store.direct is None:
                    await once_reachable(lambda: _change_all(writer))

                await eventually(lambda: first.state == second.state == BEHIND)
                await eventually(lambda: _following(sync))
                again = sync.status().sources[0]
                assert again.reconnects > before.reconnects
                await eventually(lambda: dict(view) == BEHIND)

                for probe in (first, second):
                    self._check_reasons(probe, resumed=caps.resume)

    @staticmethod
    def _check_reasons(probe: Probe, *, resumed: bool) -> None:
        if resumed:
            assert len(probe.resyncs) == 1, (
                f"it can resume, but began again: {probe.resyncs[-1].reason}"
            )
        else:
            assert len(probe.resyncs) >= 2
            assert probe.resyncs[1].reason != probe.resyncs[0].reason
            assert "new history" not in probe.resyncs[1].reason

    @scenario("lose", "restore")
    async def test_g8_recovery_resync_always_begins_anew(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, START, store.capabilities)
            sync = store.open(recovery="resync", **PINGS)
            probes = [store.probe(sync, f"watch {i}", "a/") for i in range(3)]
            async with sync:
                await sync.ready(60)
                await _call(store.lose)
                await eventually(lambda: not _following(sync), SOON)
                await _call(store.restore)
                await eventually(lambda: all(len(probe.resyncs) == 2 for probe in probes))
                await sync.ready(60)
        for probe in probes:
            again = probe.resyncs[1]
            assert {kv.key: kv.raw for kv in again.values["a/"]} == START
            assert not again.changes
            assert again.reason != probe.resyncs[0].reason

    @scenario("lose", "restore")
    async def test_g8_lost_again_and_again(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open(**PINGS)
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                for number in range(5):
                    await _call(store.lose)
                    if number % 2:
                        await eventually(lambda: not _following(sync), SOON)
                    await _call(store.restore)
                    await eventually(lambda: _following(sync))
                    await writer.put(f"a/{number}", b"%d" % number)
                    await probe.reaches({f"a/{n}": b"%d" % n for n in range(number + 1)})
                assert len(probe.state) == 5

    @scenario("lose", "restore")
    async def test_g8_lost_in_the_middle_of_a_resync(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, START, store.capabilities)
            sync = store.open(**PINGS)
            probe, behind = store.probe(sync, "probe", "a/"), store.probe(sync, "behind", "a/")
            probe.gate.clear()
            async with sync:
                await eventually(lambda: probe.events)
                await _call(store.lose)
                await eventually(lambda: not _following(sync), SOON)
                probe.gate.set()
                # the snapshot was complete: the round goes on without the source
                await eventually(lambda: probe.state == behind.state == START)
                await _call(store.restore)
                await eventually(lambda: _following(sync))
                await writer.put("a/new", b"new")
                await eventually(lambda: probe.state == behind.state == START | {"a/new": b"new"})

    @scenario("lose", "restore")
    async def test_g8_starting_while_the_source_is_lost(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, START, store.capabilities)
        await _call(store.lose)
        sync = store.open(**PINGS)
        probe = store.probe(sync, "probe", "a/")
        # the start waits, or returns at once, or (a file that is not there) says what is wrong
        starting = asyncio.ensure_future(sync.start())
        try:
            await asyncio.wait([starting], timeout=0.1)
            assert not probe.events
            await _call(store.restore)
            try:
                await starting
            except BadStore:
                sync = store.open(**PINGS)
                probe = store.probe(sync, "probe", "a/")
                await sync.start()
            await sync.ready(60)
            assert probe.state == START
        finally:
            await sync.aclose()

    @scenario("lose", "restore", writes=True)
    async def test_g10_a_write_while_the_source_is_lost_says_so(self, store: Store) -> None:
        async with store.open(**PINGS) as sync:
            await sync.put("a/1", b"1")
            await _call(store.lose)
            async with asyncio.timeout(60):
                with pytest.raises((Disconnected, OutcomeUnknown)) as caught:
                    await sync.put("a/1", b"2")
            await _call(store.restore)

            found = await once_reachable(lambda: sync.get("a/1"))
            assert found is not None
            assert found.raw in (
                (b"1",) if isinstance(caught.value, Disconnected) else (b"1", b"2")
            )

    @scenario("compact")
    async def test_g8_compaction_while_following_does_no_harm(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open()
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                for number in range(5):
                    await writer.put("a/1", b"%d" % number)
                    await _call(store.compact)
                await writer.put("a/2", b"2")
                await eventually(lambda: probe.state == {"a/1": b"4", "a/2": b"2"})

    @scenario("lose", "restore", "compact", "direct")
    async def test_g8_compaction_while_away_is_a_resync_with_the_deletes(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            await fill(writer, START, store.capabilities)
            sync = store.open(**PINGS)
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                await _call(store.lose)
                await eventually(lambda: not _following(sync), SOON)
                await _change_all(writer)
                await _call(store.compact)
                await _call(store.restore)
                await eventually(lambda: probe.state == BEHIND)
        again = probe.resyncs[1]
        assert "new history" not in again.reason
        assert {change.key: change.raw for change in again.changes} == {
            "a/gone": None,
            "a/old": b"4",
            "a/new": b"5",
        }

    @scenario("empty")
    async def test_g3_an_emptied_store_is_a_new_history(self, store: Store) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            await fill(writer, START, caps)

            sync = store.open(**PINGS)
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                view = sync.view("a/")
                await sync.ready(60)

                waiting = None
                if caps.revisions:
                    newest = max(kv.revision for kv in probe.resyncs[0].values["a/"])
                    waiting = asyncio.ensure_future(view.at_least(newest + 1000))

                await _call(store.empty)
                await eventually(lambda: not probe.state)
                await eventually(lambda: not view)
                if waiting is not None:
                    with pytest.raises(HistoryChanged):
                        await asyncio.wait_for(waiting, 60)

        again = probe.resyncs[1]
        if caps.revisions:
            assert "new history" in again.reason

        assert {change.key: change.raw for change in again.changes} == dict.fromkeys(START)
        assert {change.key: change.prev and change.prev.raw for change in again.changes} == START

    @scenario("empty")
    async def test_g8_an_emptied_store_is_followed_on(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, START, store.capabilities)
            sync = store.open(**PINGS)
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                await _call(store.empty)
                await eventually(lambda: not probe.state)
                async with store.other() as newcomer:
                    await newcomer.put("a/kept", b"again")
                    await eventually(lambda: probe.state == {"a/kept": b"again"})

    @scenario("expire_session")
    async def test_g8_a_session_that_the_server_ends_is_replaced(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, START, store.capabilities)
            sync = store.open(**PINGS)
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                await _call(store.expire_session)
                await _change_all(writer)
                await eventually(lambda: probe.state == BEHIND)
