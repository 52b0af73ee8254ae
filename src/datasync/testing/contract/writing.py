"""G10: honest writes. What the source cannot do is said, what it did is told."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from datasync import (
    BadKey,
    BadPrefix,
    BadValue,
    Conflict,
    DecodeError,
    Op,
    UnsupportedOption,
    UsageError,
)
from datasync.testing.contract.harness import Store, fill
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually

MEGABYTE = 2**20
ODD_KEYS = (
    "ключ/значение",
    "鍵",
    "emoji/🧩",
    "with space",
    "dots/../and/./more",
    "double//slash",
    "quote'\"quote",
    "percent%2Fpercent%",
    "back\\slash",
    "star*?[x]{y}",
    "new\nline\ttab",
    "#hash?query=1&x",
    "a\u0301 is not \u00e1",
    "\u00e1",
    "UPPER/lower",
    "upper/LOWER",
    ".hidden",
    "-dash",
    "trailing/slash/",
    "x" * 80,
)


class Record(msgspec.Struct):
    """A typed value of the tests."""

    name: str


class Writing(Base):
    """Honest writes (G10)."""

    @scenario(writes=True)
    async def test_g10_a_write_is_told_its_own_revision_though_handlers_write(
        self, store: Store
    ) -> None:
        if not store.capabilities.revisions:
            return
        async with store.open() as sync:

            @sync.watcher("a/")
            async def handler(event: Any) -> None:
                for change in event.changes:
                    await sync.put(f"status/{change.key}", b"seen")

            await sync.ready(60)
            for confirm in (False, True):
                revision = await sync.put("a/1", b"%d" % confirm, confirm=confirm)
                kept = await sync.get("a/1")
                assert kept is not None
                assert kept.revision == revision
                if store.capabilities.cas:
                    revision = await sync.put(
                        "a/1", b"cas %d" % confirm, if_revision=revision, confirm=confirm
                    )
                if store.capabilities.transactions:
                    revision = (
                        await sync.txn()
                        .put("a/1", b"txn %d" % confirm)
                        .put("a/2", b"1")
                        .commit(confirm=confirm)
                    )
                    kept = await sync.get("a/1")
                    assert kept is not None
                    assert kept.revision == revision

    @scenario(writes=True)
    async def test_g10_put_tells_the_revision(self, store: Store) -> None:
        async with store.open() as sync:
            revisions = [await sync.put(f"a/{i % 2}", b"%d" % i) for i in range(4)]
            if not store.capabilities.revisions:
                assert revisions == [None] * 4
                return
            # where revisions can be asked for, 0 means that a key is absent
            least = 1 if store.capabilities.cas else 0
            assert all(isinstance(revision, int) and revision >= least for revision in revisions)
            if store.capabilities.order == "total":
                assert revisions == sorted(set(revisions), key=lambda revision: revision or 0)
            kept = await sync.get("a/1")
            assert kept is not None
            assert kept.revision == revisions[3]

    @scenario(writes=True)
    async def test_g10_delete_tells_whether_there_was_something(self, store: Store) -> None:
        async with store.open() as sync:
            await fill(
                sync,
                {"a/1": b"1", "a/2": b"2", "a/b/3": b"3", "ab": b"stays", "b/1": b"stays"},
                store.capabilities,
            )
            assert await sync.delete("a/1") is True
            assert await sync.delete("a/1") is False
            assert await sync.get("a/1") is None
            assert await sync.delete("a/", prefix=True) is True
            assert await sync.delete("a/", prefix=True) is False
            assert [kv.key async for kv in sync.list("")] == ["ab", "b/1"]
            with pytest.raises(BadPrefix):
                await sync.delete("a", prefix=True)
            assert await sync.delete("", prefix=True) is True
            assert [kv.key async for kv in sync.list("")] == []

    @scenario(writes=True)
    async def test_g10_a_deleted_prefix_arrives_as_deletes(self, store: Store) -> None:
        caps = store.capabilities
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await fill(sync, {f"a/{i}": b"%d" % i for i in range(20)} | {"b/1": b"1"}, caps)
            await eventually(lambda: len(probe.state) == 20)
            before = len(probe.changes)
            await sync.delete("a/", prefix=True)
            await eventually(lambda: not probe.state)
            deletes = [change for event in probe.changes[before:] for change in event.changes]
            assert {change.op for change in deletes} == {Op.DELETE}
            assert sorted(change.prev.raw for change in deletes if change.prev) == sorted(
                b"%d" % i for i in range(20)
            )
            if caps.atomic:
                assert len(probe.changes) == before + 1

    @scenario(writes=True)
    async def test_g10_a_transaction_is_done_whole(self, store: Store) -> None:
        caps = store.capabilities
        async with store.open() as sync:
            await sync.put("a/old", b"old")
            txn = sync.txn().put("a/1", b"1").put("a/2", b"2").delete("a/old")
            if not caps.transactions:
                with pytest.raises(UnsupportedOption):
                    await txn.commit()
                assert [kv.key async for kv in sync.list("a/")] == ["a/old"]
                return
            revision = await txn.commit()
            assert (revision is not None) is caps.revisions
            assert {kv.key: kv.raw async for kv in sync.list("a/")} == {"a/1": b"1", "a/2": b"2"}
            if caps.revisions:
                assert {kv.revision async for kv in sync.list("a/")} == {revision}
            with pytest.raises(UsageError):
                await sync.txn().put("a/1", b"x").delete("a/1").commit()
            with pytest.raises(UsageError):
                await sync.txn().delete("a/", prefix=True).put("a/1", b"x").commit()
            kept = await sync.get("a/1")
            assert kept is not None
            assert kept.raw == b"1"

    @scenario(writes=True)
    async def test_g10_if_revision(self, store: Store) -> None:
        async with store.open() as sync:
            if not store.capabilities.cas:
                with pytest.raises(UnsupportedOption):
                    await sync.put("a/1", b"1", if_revision=0)
                with pytest.raises(UnsupportedOption):
                    await sync.delete("a/1", if_revision=1)
                with pytest.raises(UnsupportedOption):
                    await sync.txn().if_revision("a/1", 0).put("a/1", b"1").commit()
                assert await sync.get("a/1") is None
                return
            first = await sync.put("a/1", b"1", if_revision=0)
            with pytest.raises(Conflict) as caught:
                await sync.put("a/1", b"2", if_revision=0)
            assert (caught.value.key, caught.value.expected) == ("a/1", 0)
            second = await sync.put("a/1", b"2", if_revision=first)
            with pytest.raises(Conflict):
                await sync.delete("a/1", if_revision=first)
            assert await sync.delete("a/1", if_revision=second) is True
            await sync.put("a/1", b"3", if_revision=0)

    @scenario(writes=True)
    async def test_g10_a_conflict_leaves_nothing_behind(self, store: Store) -> None:
        caps = store.capabilities
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")

        async with sync:
            await sync.ready(60)
            revision = await sync.put("a/1", b"1")
            txn = sync.txn().put("a/2", b"2").delete("a/1").if_revision("a/3", 5).put("a/4", b"4")

            if not (caps.cas and caps.transactions):
                with pytest.raises(UnsupportedOption):
                    await txn.commit()
            else:
                with pytest.raises(Conflict) as caught:
                    await txn.commit()
                assert caught.value.key == "a/3"

            assert [kv.key async for kv in sync.list("a/")] == ["a/1"]
            if caps.cas and caps.transactions:
                assert revision is not None
                await (
                    sync.txn()
                    .if_revision("a/1", revision)
                    .if_revision("a/2", 0)
                    .put("a/2", b"2")
                    .commit()
                )
            else:
                await sync.put("a/2", b"2")

            await eventually(lambda: probe.state == {"a/1": b"1", "a/2": b"2"})
        assert sorted(key for key, _ in probe.seen) == ["a/1", "a/2"]

    @scenario(writes=True)
    async def test_g10_ttl_ends_in_a_delete_with_its_previous_value(self, store: Store) -> None:
        caps = store.capabilities
        ttl = store.shortest_ttl
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)

            if not caps.ttl:
                with pytest.raises(UnsupportedOption):
                    await sync.put("a/1", b"1", ttl=ttl)
                with pytest.raises(UnsupportedOption):
                    await sync.txn().put("a/1", b"1", ttl=ttl).commit()
                assert await sync.get("a/1") is None
                return

            await sync.put("a/kept", b"short", ttl=ttl)
            await sync.put("a/kept", b"for good")
            await sync.put("a/1", b"1", ttl=ttl)

            while not caps.every_value and ("a/1", b"1") not in probe.seen:
                # on a busy machine it has ended before the source, which tells the
                # latest value only, has read it
                await asyncio.sleep(ttl)
                ttl *= 2
                await sync.put("a/1", b"1", ttl=ttl)

            await eventually(lambda: ("a/1", b"1") in probe.seen)
            while await sync.get("a/1") is not None:  # noqa: ASYNC110 - the last of several puts may live on
                await asyncio.sleep(ttl)

            await eventually(lambda: probe.state == {"a/kept": b"for good"}, 20 * ttl + 10)
            last = probe.changes[-1].changes[-1]
            assert (last.op, last.key, last.prev and last.prev.raw) == (Op.DELETE, "a/1", b"1")

            # the second write took the time limit away
            assert await sync.get("a/kept") is not None

            wrong: Any
            for wrong in (0, -1, float("nan"), "soon"):
                with pytest.raises(UsageError):
                    await sync.put("a/1", b"1", ttl=wrong)

    @scenario(writes=True)
    async def test_g10_bad_input_is_named_and_nothing_is_written(self, store: Store) -> None:
        bad: Any
        async with store.open(prefix=store.prefix or "under/") as sync:
            for bad in ("", "/a", 7, None, b"a"):
                with pytest.raises(BadKey):
                    await sync.put(bad, b"value")
                with pytest.raises(BadKey):
                    await sync.delete(bad)
                with pytest.raises(BadKey):
                    await sync.get(bad)
                with pytest.raises(BadKey):
                    sync.txn().put(bad, b"value")
            for bad in (object(), lambda: None):
                with pytest.raises(BadValue, match="a/1"):
                    await sync.put("a/1", bad)
            for bad in ("a", 7):
                with pytest.raises(BadPrefix):
                    [kv async for kv in sync.list(bad)]
            for bad in ("1", 1.5, -1):
                with pytest.raises(UsageError):
                    await sync.put("a/1", b"value", if_revision=bad)
            for bad in ("1", 0, -1, True, float("inf"), float("nan")):
                with pytest.raises(BadValue, match="the ttl of 'a/1' must be a positive number"):
                    await sync.put("a/1", b"value", ttl=bad)
            assert [kv.key async for kv in sync.list("")] == []

    @scenario(writes=True)
    async def test_g10_unusual_keys_and_values_come_back_as_they_were(self, store: Store) -> None:
        caps = store.capabilities

        wanted = {f"k/{key}": key.encode() for key in ODD_KEYS}
        wanted |= {
            "v/empty": b"",
            "v/zero": b"\x00" * 3,
            "v/all": bytes(range(256)),
            "v/large": bytes(i * i % 251 for i in range(1024)) * (MEGABYTE // 1024),
        }

        sync = store.open()
        probe, single = (
            store.probe(sync, "probe", "k/", "v/"),
            store.probe(sync, "single", keys=["k/鍵"]),
        )

        async with sync:
            await sync.ready(60)
            await fill(sync, wanted, caps)
            await eventually(lambda: probe.state == wanted)
            await eventually(lambda: single.state == {"k/鍵": "鍵".encode()})

            for key, value in wanted.items():
                kept = await sync.get(key)
                assert kept is not None, key
                assert kept.raw == value

            listed = [kv.key async for kv in sync.list("k/")]
            assert listed == sorted(f"k/{key}" for key in ODD_KEYS)

        # the same by a RESYNC
        again = store.open()
        probe = store.probe(again, "probe", "k/", "v/")
        async with again:
            await again.ready(60)
            assert probe.state == wanted
            for key in wanted:
                assert await again.delete(key) is True
            await eventually(lambda: not probe.state)

    @scenario(writes=True)
    async def test_g10_typed_values(self, store: Store) -> None:
        async with store.open() as sync:
            await sync.put("a/1", Record("one"))
            kept = await sync.get("a/1", type=Record)
            assert kept is not None
            assert kept.value == Record("one")
            assert msgspec.json.decode(kept.raw) == {"name": "one"}
            await sync.put("a/2", b"{nonsense")
            broken = await sync.get("a/2", type=Record)
            assert broken is not None
            with pytest.raises(DecodeError, match="a/2"):
                _ = broken.value
            assert broken.raw == b"{nonsense"
            values = [kv async for kv in sync.list("a/", type=Record)]
            assert values[0].value == Record("one")

    @scenario(writes=True)
    async def test_g10_label_and_prefix_are_where_keys_live(self, store: Store) -> None:
        label = "vpp1"
        async with store.open(label=label) as sync:
            await sync.put("config/1", b"1")
            assert [kv.key async for kv in sync.list("")] == ["config/1"]
            async with sync.of_agent("vpp2") as neighbour:
                assert await neighbour.get("config/1") is None
                await neighbour.put("config/1", b"2")
            kept = await sync.get("config/1")
            assert kept is not None
            assert kept.raw == b"1"
        async with store.open(prefix="/vnf-agent/") as whole:
            found = {kv.key: kv.raw async for kv in whole.list("")}
            assert found == {"vpp1/config/1": b"1", "vpp2/config/1": b"2"}
        with pytest.raises(UsageError):
            store.open(label=label, prefix="/vnf-agent/")

    @scenario(writes=True)
    async def test_g10_watches_and_errors_name_keys_below_the_prefix(self, store: Store) -> None:
        sync = store.open(label="vpp1")
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            await sync.put("a/1", b"1", confirm=True)
            assert probe.seen == [("a/1", b"1")]
            if store.capabilities.cas:
                with pytest.raises(Conflict) as caught:
                    await sync.put("a/1", b"2", if_revision=0)
                assert caught.value.key == "a/1"

    @scenario(writes=True)
    async def test_g10_what_was_acknowledged_is_there_for_the_next(self, store: Store) -> None:
        async with store.open() as keeper:
            async with store.open() as sync:
                await sync.put("a/1", b"1")
            async with store.open() as sync:
                assert await sync.get("a/1") is not None
            assert await keeper.get("a/1") is not None
        if store.capabilities.durable:
            # nobody has it open any more
            again = store.open()
            probe = store.probe(again, "probe", "a/")
            async with again:
                await again.ready(60)
                assert probe.state == {"a/1": b"1"}
