"""Registering watches: prefixes and keys, their rules, and changing them while everything runs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from datasync import AlreadyRegistered, BadKey, BadPrefix, ResyncEvent, WatchState
from datasync.testing.contract.harness import Store, fill
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually


class Plain(msgspec.Struct):
    """One reading of a value."""

    numbers: list[int]


class Watching(Base):
    """What a watch covers."""

    @scenario()
    async def test_keys_single_keys_are_watched_by_name(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(
                writer, {"a/1": b"1", "a/1/deeper": b"no", "a/10": b"no"}, store.capabilities
            )
            sync = store.open()
            probe = store.probe(sync, "probe", keys=["a/1", "a/2"])
            mixed = store.probe(sync, "mixed", "b/", keys=["a/2"])
            async with sync:
                await sync.ready(60)
                assert set(probe.resyncs[0].values) == {"a/1", "a/2"}
                await fill(
                    writer,
                    {"a/2": b"2", "a/1/deeper": b"again", "a/10": b"again", "b/1": b"b"},
                    store.capabilities,
                )
                await eventually(lambda: mixed.state == {"a/2": b"2", "b/1": b"b"})
                await eventually(lambda: probe.state == {"a/1": b"1", "a/2": b"2"})
                await writer.delete("a/1")
                await eventually(lambda: probe.state == {"a/2": b"2"})

    @scenario()
    async def test_prefix_does_not_match_its_neighbours(self, store: Store) -> None:
        async with store.other() as writer:
            sync = store.open()
            probe, everything = (
                store.probe(sync, "probe", "a/b/"),
                store.probe(sync, "everything", ""),
            )
            async with sync:
                await sync.ready(60)
                neighbours = {
                    "a/b": b"no",
                    "a/bc": b"no",
                    "a/bc/1": b"no",
                    "a/b0": b"no",
                    "b/1": b"no",
                }
                await fill(writer, neighbours | {"a/b/1": b"yes"}, store.capabilities)
                await eventually(
                    lambda: len(everything.state) == 6 and probe.state == {"a/b/1": b"yes"}
                )
        assert [key for key, _ in probe.seen] == ["a/b/1"]

    @scenario()
    async def test_prefix_rules(self, store: Store) -> None:
        sync = store.open()
        for prefix in ("a/b", "a"):
            with pytest.raises(BadPrefix, match=prefix):
                sync.watch("bad", prefix)

        wrong: Any
        for wrong in (b"a/", 7, None):
            with pytest.raises(BadPrefix):
                sync.watch("bad", wrong)

        for wrong in ("", 7):
            with pytest.raises(BadKey):
                sync.watch("bad", keys=[wrong])

        watch = sync.watch("twice", "a/")
        with pytest.raises(AlreadyRegistered, match="twice"):
            sync.watch("twice", "b/")
        with pytest.raises(AlreadyRegistered, match="c/"):
            sync.watch("again", "c/", "c/")

        with pytest.raises(BadPrefix):
            watch.add_prefix("b")
        with pytest.raises(AlreadyRegistered):
            watch.add_prefix("a/")

        # nothing of what was rejected has been registered
        assert [watch.name for watch in sync.status().watches] == ["twice"]

    @scenario()
    async def test_prefixes_that_overlap(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, {"a/1": b"1", "a/b/1": b"2"}, store.capabilities)
            sync = store.open()
            probe = store.probe(sync, "probe", "a/", "a/b/", keys=["a/b/1"])
            async with sync:
                await sync.ready(60)
                values = {
                    prefix: [kv.key for kv in found]
                    for prefix, found in probe.resyncs[0].values.items()
                }
                assert values == {"a/": ["a/1", "a/b/1"], "a/b/": ["a/b/1"], "a/b/1": ["a/b/1"]}
                await writer.put("a/b/1", b"3")
                await eventually(lambda: probe.state == {"a/1": b"1", "a/b/1": b"3"})
        assert [key for key, _ in probe.seen] == ["a/b/1"]

    @scenario()
    async def test_add_and_remove_prefix_while_running(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(writer, {"a/1": b"1", "b/1": b"1", "c/1": b"1"}, store.capabilities)

            sync = store.open()
            other = store.probe(sync, "other", "c/")
            async with sync, store.stream(sync, "probe", "a/") as (watch, probe):
                await eventually(lambda: probe.state == {"a/1": b"1"})

                probe.prefixes = ("a/", "b/")
                watch.add_prefix("b/")
                await eventually(lambda: probe.state == {"a/1": b"1", "b/1": b"1"})
                widened = probe.resyncs[-1]
                assert set(widened.values) == {"a/", "b/"}
                assert [(change.key, change.raw) for change in widened.changes] == [("b/1", b"1")]

                await writer.put("b/1", b"2")
                await eventually(lambda: probe.state["b/1"] == b"2")

                watch.remove_prefix("a/")
                await eventually(lambda: probe.state == {"b/1": b"2"})
                narrowed = probe.resyncs[-1]
                assert list(narrowed.values) == ["b/"]
                assert [
                    (change.key, change.prev and change.prev.raw) for change in narrowed.changes
                ] == [("a/1", b"1")]

                await writer.put("a/1", b"unseen")
                await writer.put("b/2", b"2")
                await eventually(lambda: probe.state == {"b/1": b"2", "b/2": b"2"})

                # a prefix that nobody watched in between comes back with what it holds now
                watch.add_prefix("a/")
                await eventually(
                    lambda: probe.state == {"a/1": b"unseen", "b/1": b"2", "b/2": b"2"}
                )

        assert len(probe.resyncs) == 4
        assert len(other.events) == 1

    @scenario()
    async def test_prefixes_added_in_one_go_under_a_writer(self, store: Store) -> None:
        async with (
            store.other() as writer,
            store.open() as sync,
            store.stream(sync, "probe", "p0/") as (watch, probe),
        ):
            await eventually(lambda: probe.resynced)
            probe.prefixes = tuple(f"p{number}/" for number in range(5))
            for number in range(1, 5):
                await writer.put(f"p{number}/before", b"1")
                watch.add_prefix(f"p{number}/")
                await writer.put(f"p{number}/behind", b"2")
            wanted = {f"p{number}/before": b"1" for number in range(1, 5)}
            wanted |= {f"p{number}/behind": b"2" for number in range(1, 5)}
            await eventually(lambda: probe.state == wanted)
            for number in range(1, 4):
                watch.remove_prefix(f"p{number}/")
                await writer.put(f"p{number}/before", b"3")
                await writer.put(f"p{number + 1}/behind", b"%d" % number)
            await eventually(lambda: probe.state == {"p4/before": b"1", "p4/behind": b"3"})

    @scenario()
    async def test_a_prefix_that_is_watched_again_beside_a_new_one_is_followed(
        self, store: Store
    ) -> None:
        async with store.other() as writer, store.open() as sync:
            store.probe(sync, "always", "a/")
            store.probe(sync, "first", "b/")
            await sync.ready(60)
            sync.watches["first"].close()
            store.probe(sync, "new", "c/")
            again = store.probe(sync, "again", "b/")
            await sync.ready(60)
            await writer.put("b/1", b"1")
            await eventually(lambda: again.state == {"b/1": b"1"})

    @scenario()
    async def test_close_while_running(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open()
            witness = store.probe(sync, "witness", "a/")
            async with sync, store.stream(sync, "probe", "a/") as (watch, probe):
                await eventually(lambda: probe.resynced)
                watch.close()
                watch.close()
                assert watch.state is WatchState.CLOSED
                await writer.put("a/1", b"2")
                await eventually(lambda: witness.state == {"a/1": b"2"})
                assert [status.name for status in sync.status().watches] == ["witness"]
                # the name is free again
                again = store.probe(sync, "probe", "a/")
                await eventually(lambda: again.state == {"a/1": b"2"})
        assert len(probe.events) == 1

    @scenario()
    async def test_closing_the_watch_whose_turn_it_is_does_not_stop_the_round(
        self, store: Store
    ) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            async with store.open() as sync, store.stream(sync, "stuck", "a/") as (watch, stuck):
                behind = store.probe(sync, "behind", "a/")
                await sync.ready(60)
                stuck.gate.clear()
                sync.resync()
                await eventually(lambda: len(stuck.events) == 2)
                assert len(behind.events) == 1
                watch.close()
                await eventually(lambda: len(behind.resyncs) == 2)
                stuck.gate.set()

    @scenario()
    async def test_two_types_on_one_key_share_no_object(self, store: Store) -> None:
        objects: dict[str, list[Any]] = {"dict": [], "plain": [], "again": []}
        async with store.other() as writer:
            await writer.put("a/1", b'{"numbers":[1]}')
            sync = store.open()

            def keep(name: str, type_: Any) -> None:
                @sync.watcher("a/", name=name, type=type_)
                async def handler(event: Any) -> None:
                    pairs = event.values["a/"] if isinstance(event, ResyncEvent) else event.changes
                    for pair in pairs:
                        assert pair.value is pair.value, "decoded more than once"
                        objects[name].append(pair.value)
                        (pair.value["numbers"] if type_ is dict else pair.value.numbers).append(99)

            keep("dict", dict)
            keep("plain", Plain)
            keep("again", Plain)
            async with sync:
                await sync.ready(60)
                await writer.put("a/1", b'{"numbers":[2]}')
                await eventually(lambda: all(len(found) == 2 for found in objects.values()))
        assert objects["dict"] == [{"numbers": [1, 99]}, {"numbers": [2, 99]}]
        assert objects["plain"] == objects["again"] == [Plain([1, 99]), Plain([2, 99])]
