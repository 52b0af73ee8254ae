"""Reading: get, list, views, and what status() tells."""

from __future__ import annotations

import asyncio
import json
import threading

import msgspec
import pytest

from datasync import BadPrefix, NotReady, WatchClosed
from datasync.testing.contract.harness import Store, fill
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually

MANY = 2_500


class Entry(msgspec.Struct):
    """A typed value of the tests."""

    number: int


class Reading(Base):
    """Reading and looking at it."""

    @scenario()
    async def test_get_finds_one_key(self, store: Store) -> None:
        async with store.other() as writer, store.open() as sync:
            assert await sync.get("a/1") is None
            revision = await writer.put("a/1", b"1")
            found = await sync.get("a/1")
            assert found is not None
            assert (found.key, found.raw, found.value, found.revision) == (
                "a/1",
                b"1",
                b"1",
                revision or 0,
            )

    @scenario()
    async def test_list_goes_through_all_pages_in_key_order(self, store: Store) -> None:
        wanted = {f"a/{i:05}": b"%d" % i for i in range(MANY)}
        async with store.other() as writer, store.open() as sync:
            await fill(writer, wanted | {"ab/1": b"no", "b/1": b"no"}, store.capabilities)
            found = [(kv.key, kv.raw) async for kv in sync.list("a/")]
            assert found == sorted(wanted.items())
            keys = [(kv.key, kv.raw) async for kv in sync.list("a/", keys_only=True)]
            assert keys == [(key, b"") for key in sorted(wanted)]
            assert len([kv async for kv in sync.list("")]) == MANY + 2
            assert [kv async for kv in sync.list("nothing/")] == []
            with pytest.raises(BadPrefix):
                [kv async for kv in sync.list("a")]

    @scenario()
    async def test_list_can_be_left_early_and_stays_as_it_began(self, store: Store) -> None:
        wanted = {f"a/{i:05}": b"old" for i in range(MANY)}
        async with store.other() as writer, store.open() as sync:
            await fill(writer, wanted, store.capabilities)
            async for kv in sync.list("a/"):
                assert kv.key == "a/00000"
                break
            found = {}
            async for kv in sync.list("a/"):
                found[kv.key] = kv.raw
                if kv.key == "a/00000":
                    await writer.put(f"a/{MANY - 1:05}", b"new")
                    await writer.delete(f"a/{MANY - 2:05}")
            if store.capabilities.snapshot == "exact":
                assert found == wanted
            else:
                # put right by nobody here, but what nobody touched is all there
                touched = {f"a/{MANY - 1:05}", f"a/{MANY - 2:05}"}
                assert {key for key in found if key not in touched} == wanted.keys() - touched

    @scenario()
    async def test_view_is_the_current_state(self, store: Store) -> None:
        async with store.other() as writer:
            await fill(
                writer,
                {"a/1": b'{"number":1}', "a/2": b'{"number":2}', "b/1": b"no"},
                store.capabilities,
            )

            sync = store.open()
            view = sync.view("a/", type=Entry)
            with pytest.raises(NotReady):
                view["a/1"]
            with pytest.raises(NotReady):
                len(view)

            async with sync:
                await sync.ready(60)
                await asyncio.wait_for(view.at_least(0), 60)

                assert dict(view) == {"a/1": Entry(1), "a/2": Entry(2)}
                assert list(view) == ["a/1", "a/2"]
                assert (len(view), "a/1" in view, "b/1" in view, view.get("a/3")) == (
                    2,
                    True,
                    False,
                    None,
                )

                with pytest.raises(KeyError):
                    view["b/1"]

                revision = await writer.put("a/3", b'{"number":3}')
                if revision is not None:
                    await asyncio.wait_for(view.at_least(revision), 60)
                    assert view["a/3"] == Entry(3)

                await writer.delete("a/1")
                await eventually(lambda: dict(view) == {"a/2": Entry(2), "a/3": Entry(3)})

                # without any watch: a view added while running
                late = sync.view("b/")
                await asyncio.wait_for(late.at_least(0), 60)
                assert dict(late) == {"b/1": b"no"}

    @scenario()
    async def test_view_waits_for_a_revision_within_its_time(self, store: Store) -> None:
        if not store.capabilities.revisions:
            # nothing to wait for: only its being ready can be
            async with store.open() as sync:
                await asyncio.wait_for(sync.view("a/").at_least(0), 60)
            return
        async with store.other() as writer:
            revision = await writer.put("a/1", b"1")
            assert revision is not None
            sync = store.open()
            view = sync.view("a/")
            async with sync:
                await asyncio.wait_for(view.at_least(revision), 60)
                assert view["a/1"] == b"1"
                with pytest.raises(TimeoutError):
                    await view.at_least(revision + 100_000, timeout=0.05)
                waiting = asyncio.ensure_future(view.at_least(revision + 100_000))
                await asyncio.sleep(0)
            with pytest.raises(WatchClosed):
                await asyncio.wait_for(waiting, 60)

    @scenario(writes=True)
    async def test_g12_a_view_shows_whole_transactions_in_any_thread(self, store: Store) -> None:
        keys = [f"a/{number}" for number in range(20)]
        async with store.open() as sync:
            view = sync.view("a/")
            await fill(sync, dict.fromkeys(keys, b"0"), store.capabilities)
            await sync.ready(60)
            await eventually(lambda: len(view) == len(keys))
            written = threading.Event()

            def read() -> list[set[bytes]]:
                seen = [set(view.values())]
                while not written.is_set():
                    seen.append({value for _, value in view.items()})
                    assert list(view) == sorted(keys)
                    assert view["a/1"].isdigit()
                return seen

            reading = asyncio.ensure_future(asyncio.to_thread(read))
            for number in range(1, 21):
                await fill(sync, dict.fromkeys(keys, b"%d" % number), store.capabilities)
            written.set()
            seen = await reading
            if store.capabilities.atomic:
                assert all(len(values) == 1 for values in seen), "a half of a transaction (G4)"
                numbers = [int(value) for (value,) in seen]
                assert numbers == sorted(numbers), "went back in time (G3)"

    @scenario()
    async def test_status_is_plain_data(self, store: Store) -> None:
        async with store.other() as writer:
            await writer.put("a/1", b"1")
            sync = store.open()
            store.probe(sync, "probe", "a/", keys=["single"])
            assert [watch.name for watch in sync.status().watches] == ["probe"]
            async with sync:
                await sync.ready(60)
                await writer.put("a/1", b"2")
                await eventually(lambda: sync.status().watches[0].events == 2)
                status = sync.status()
                plain = json.loads(json.dumps(msgspec.to_builtins(status)))
                assert plain["watches"][0]["scopes"] == ["a/", "single"]
                assert plain["watches"][0]["changes"] == 2
                assert plain["watches"][0]["failing"] is None
                assert plain["watches"][0]["resync"]["keys"] == 1
                assert plain["watches"][0]["resync"]["reason"]
                assert plain["sources"][0]["state"] == "following"
                assert plain["sources"][0]["error"] is None
                text = repr(status) + repr(sync) + json.dumps(plain)
                assert not [secret for secret in store.secrets if secret in text]
