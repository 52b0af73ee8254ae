"""G3, G4, G5: changes in order, transactions whole, and the previous value of each."""

from __future__ import annotations

import pytest

from datasync import Op, Refused, UnsupportedOption, UsageError
from datasync.testing.contract.harness import Store, fill
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually

MANY = 10_000


class Changes(Base):
    """Order (G3), atomic groups (G4), previous values (G5)."""

    @scenario()
    async def test_g3_changes_of_one_key_come_in_order(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open()
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                values = [b"%d" % i for i in range(200)]
                for value in values:
                    await writer.put("a/key", value)
                await eventually(lambda: probe.state == {"a/key": values[-1]})
        seen = [raw for _, raw in probe.seen]
        if store.capabilities.every_value:
            assert seen == values
        else:
            assert [int(raw or b"-1") for raw in seen] == sorted(
                {int(raw or b"-1") for raw in seen}
            )

    @scenario()
    async def test_g3_changes_of_a_watch_come_in_revision_order(self, store: Store) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            sync = store.open()
            probe = store.probe(sync, "probe", "a/", "b/")
            async with sync:
                await sync.ready(60)
                written = [(f"{'ab'[i % 2]}/{i % 7}", b"%d" % i) for i in range(200)]
                revisions = [await writer.put(key, value) for key, value in written]
                wanted = dict(written)
                await eventually(lambda: probe.state == wanted)
        if caps.order == "total" and caps.every_value:
            assert probe.seen == written
        if caps.order == "total" and caps.revisions:
            assert [event.revision for event in probe.changes] == revisions
            assert [
                change.revision for event in probe.changes for change in event.changes
            ] == revisions
        if not caps.revisions:
            assert {change.revision for event in probe.changes for change in event.changes} == {0}

    @scenario()
    async def test_g4_a_transaction_comes_as_one_event(self, store: Store) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            await fill(writer, {"a/old": b"old", "b/old": b"old"}, caps)

            sync = store.open()
            left, right, both = (
                store.probe(sync, name, *prefixes)
                for name, prefixes in (("left", ["a/"]), ("right", ["b/"]), ("both", ["a/", "b/"]))
            )

            async with sync:
                await sync.ready(60)
                txn = (
                    writer.txn()
                    .put("a/1", b"1")
                    .put("b/1", b"1")
                    .delete("a/old")
                    .put("b/2", b"2")
                    .put("c/1", b"1")
                )
                if not caps.transactions:
                    with pytest.raises(UnsupportedOption):
                        await txn.commit()
                    return

                revision = await txn.commit()
                await eventually(
                    lambda: both.state == {"a/1": b"1", "b/1": b"1", "b/2": b"2", "b/old": b"old"}
                )
                await eventually(lambda: left.state == {"a/1": b"1"} and len(right.state) == 3)

        if caps.atomic:
            keys = [
                [{change.key for change in event.changes} for event in probe.changes]
                for probe in (left, right, both)
            ]
            assert keys == [[{"a/1", "a/old"}], [{"b/1", "b/2"}], [{"a/1", "a/old", "b/1", "b/2"}]]

        if caps.atomic and caps.revisions:
            assert {event.revision for probe in (left, right, both) for event in probe.changes} == {
                revision
            }

    @scenario()
    async def test_g4_a_large_transaction_is_not_split_by_a_small_backlog(
        self, store: Store
    ) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            sync = store.open(backlog=1, ack_timeout=30)
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)

                probe.gate.clear()
                await writer.put("a/first", b"first")
                await eventually(lambda: probe.changes)

                for value in (b"1", b"2"):
                    txn = writer.txn()
                    for i in range(MANY):
                        txn.put(f"a/{i:05}", value)
                    if not caps.transactions:
                        with pytest.raises(UnsupportedOption):
                            await txn.commit()
                        probe.gate.set()
                        return
                    await txn.commit()

                probe.gate.set()
                await eventually(
                    lambda: len(probe.state) == MANY + 1 and probe.state["a/00000"] == b"2"
                )
                # who sees only the latest values may see the two as one
                await eventually(lambda: probe.commits >= (3 if caps.every_value else 2))

        if caps.atomic:
            assert {len(event.changes) for event in probe.changes[1:]} == {MANY}
            assert all(
                len({change.raw for change in event.changes}) == 1 for event in probe.changes[1:]
            )
            if caps.every_value:
                assert sum(event.commits for event in probe.changes) == 3

    @scenario()
    async def test_g4_a_dependent_watch_gets_its_part_afterwards(self, store: Store) -> None:
        caps = store.capabilities
        async with store.other() as writer:
            sync = store.open()
            # b/ is registered first: only `after` can hold it back
            other = store.probe(sync, "other", "b/")
            base = store.probe(sync, "base", "a/")
            dependent = store.probe(sync, "dependent", "b/", after=["base"])
            async with sync:
                await sync.ready(60)
                base.gate.clear()
                await fill(writer, {"a/1": b"1", "b/1": b"1"}, caps)
                await eventually(lambda: base.changes and other.state == {"b/1": b"1"})
                if caps.atomic:
                    assert not dependent.changes
                base.gate.set()
                await eventually(
                    lambda: dependent.state == {"b/1": b"1"} and base.state == {"a/1": b"1"}
                )

    @scenario()
    async def test_g4_a_dependent_watch_waits_only_until_the_others_have_settled(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            sync = store.open(ack_timeout=0.05)
            base = store.probe(sync, "base", "a/")
            dependent = store.probe(sync, "dependent", "b/", after=["base"])
            async with sync:
                await sync.ready(60)
                base.gate.clear()
                await fill(writer, {"a/1": b"1", "b/1": b"1"}, store.capabilities)
                await eventually(lambda: dependent.state == {"b/1": b"1"})
                assert not base.state
                base.gate.set()
                await eventually(lambda: base.state == {"a/1": b"1"})
                base.answers.append(ValueError("once"))
                await fill(writer, {"a/1": b"2", "b/1": b"2"}, store.capabilities)
                await eventually(
                    lambda: dependent.state == {"b/1": b"2"} and base.state == {"a/1": b"2"}
                )
        unknown = store.open()
        with pytest.raises(UsageError, match="nobody"):
            unknown.watch("watch", "a/", after=["nobody"])

    @scenario()
    async def test_g5_every_watch_on_a_key_has_its_own_chain_of_previous_values(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            await writer.put("a/key", b"0")

            sync = store.open()
            probes = [store.probe(sync, f"watch {i}", "a/") for i in range(3)]
            probes.append(store.probe(sync, "single", keys=["a/key"]))

            async with sync:
                await sync.ready(60)
                for step in (b"1", b"2", None, b"3"):
                    await (writer.delete("a/key") if step is None else writer.put("a/key", step))
                    for probe in probes:
                        await probe.reaches({} if step is None else {"a/key": step})

        for probe in probes:
            chain = [
                (change.op, change.prev and change.prev.raw, change.raw)
                for event in probe.changes
                for change in event.changes
            ]

            put, delete = Op.PUT, Op.DELETE
            assert chain == [
                (put, b"0", b"1"),
                (put, b"1", b"2"),
                (delete, b"2", None),
                (put, None, b"3"),
            ]

    @scenario()
    async def test_g5_what_changes_nothing_is_not_delivered(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/key", b"same")
            sync = store.open()
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                await writer.put("a/key", b"same")
                await writer.put("a/key", b"other")
                await eventually(lambda: probe.state == {"a/key": b"other"})
                await writer.delete("a/unknown")
                await writer.put("a/unknown", b"known")
                await eventually(lambda: len(probe.state) == 2)
        assert probe.seen == [("a/key", b"other"), ("a/unknown", b"known")]

    @scenario()
    async def test_g5_a_dirty_key_is_delivered_whatever_comes(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/old", b"1")
            sync = store.open()
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                for key, refused, then in (("a/old", b"2", b"1"), ("a/new", b"1", None)):
                    probe.answers.append(Refused({key: "not this one"}))
                    await writer.put(key, refused)
                    await eventually(lambda: probe.dirty)
                    # the key is dirty now: going back to what was accepted
                    # is delivered all the same
                    await (writer.delete(key) if then is None else writer.put(key, then))
                    await eventually(lambda: not probe.dirty)
        assert probe.seen == [("a/old", b"1"), ("a/new", None)]

    @scenario()
    async def test_g5_a_failed_key_is_delivered_though_it_is_back_where_it_was(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            await writer.put("a/old", b"1")
            sync = store.open(ack_timeout=60)
            probe, witness = store.probe(sync, "probe", "a/"), store.probe(sync, "witness", "a/")

            async with sync:
                await sync.ready(60)

                for key, failed, then in (("a/old", b"2", b"1"), ("a/new", b"1", None)):
                    probe.gate.clear()
                    probe.answers.append(ValueError("once"))
                    before = len(probe.events)

                    await writer.put(key, failed)
                    await probe.hears(before + 1)
                    await (writer.delete(key) if then is None else writer.put(key, then))
                    await eventually(lambda: witness.seen and len(witness.seen) % 2 == 0)
                    await witness.reaches({"a/old": b"1"})

                    # nothing differs from what was accepted, but nobody knows
                    # what the failure left behind
                    probe.gate.set()
                    await probe.hears(before + 2)
                    await eventually(lambda: not probe.dirty)

        assert probe.seen == [("a/old", b"1"), ("a/new", None)]
        assert [event.attempt for event in probe.changes] == [1, 2, 1, 2]

    @scenario()
    async def test_g5_a_change_carries_the_keys_of_its_commits_only(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open()
            probe = store.probe(sync, "probe", "a/")
            async with sync:
                await sync.ready(60)
                probe.answers.append(Refused({"a/1": "not this one"}))
                await writer.put("a/1", b"1")
                await eventually(lambda: probe.dirty == {"a/1"})
                await writer.put("a/2", b"2")
                await eventually(lambda: probe.state == {"a/2": b"2"})
                assert [change.key for change in probe.changes[-1].changes] == ["a/2"]
                sync.resync()
                await eventually(lambda: probe.state == {"a/1": b"1", "a/2": b"2"})
        assert [change.key for change in probe.resyncs[-1].changes] == ["a/1"]
