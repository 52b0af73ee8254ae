"""Naming: a store may hold keys that the API cannot name; they are skipped and
said once, and can be deleted."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from datasync.skipped_keys import MARK
from datasync.testing.contract.harness import Store, Writer
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually


class _Said(logging.Handler):
    """The keys of which the log says that they are skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, MARK):
            self.keys.append(getattr(record, MARK))


@contextlib.contextmanager
def _said() -> Iterator[list[str]]:
    handler, log = _Said(), logging.getLogger("datasync")
    log.addHandler(handler)
    try:
        yield handler.keys
    finally:
        log.removeHandler(handler)


class Naming(Base):
    """Keys without a name: nobody but a foreign program writes them."""

    @scenario()
    async def test_keys_without_a_name_below_the_prefix_are_skipped_and_said_once(
        self, store: Store
    ) -> None:
        below = f"{store.prefix}p/"
        with _said() as said:
            async with store.other() as writer, store.open() as whole:
                for key in ("p/", "p/a", "p//b"):
                    await writer.put(key, b"1")
                sync = store.open(prefix=below)
                probe = store.probe(sync, "probe", "")
                view = sync.view("")
                async with sync:
                    await sync.ready(60)
                    assert probe.state == {"a": b"1"} == dict(view)
                    assert [kv.key async for kv in sync.list("")] == ["a"]

                    # while it follows: written, written again, in one
                    # transaction with another, deleted
                    for key in ("p/", "p//b", "p//c"):
                        await writer.put(key, b"2")
                    await _together(store, writer, {"p//d": b"1", "p/d": b"1"})
                    await writer.delete("p//c")
                    await writer.put("p/e", b"1")
                    await eventually(
                        lambda: probe.state == {"a": b"1", "d": b"1", "e": b"1"} == dict(view)
                    )
                    assert [kv.key async for kv in sync.list("")] == ["a", "d", "e"]
                    assert [kv.key async for kv in whole.list("p/")] == [
                        "p/",
                        "p//b",
                        "p//d",
                        "p/a",
                        "p/d",
                        "p/e",
                    ]

                    # the prefix above takes them along
                    if store.capabilities.writable:
                        assert await sync.delete("", prefix=True)
                    else:
                        await writer.delete("p/", prefix=True)
                    await eventually(lambda: probe.state == {} == dict(view))
                    assert [kv.key async for kv in whole.list("")] == []

        # of what was there and gone again between two looks at a key nobody needs to hear
        nameless = [repr(f"{below}{rest}".encode()) for rest in ("", "/b", "/c", "/d")]
        assert len(said) == len(set(said)), said
        assert set(said) <= set(nameless), said
        assert {nameless[0], nameless[1], nameless[3]} <= set(said), said

    @scenario("put_raw")
    async def test_keys_that_the_api_cannot_name_are_skipped_and_said_once(
        self, store: Store
    ) -> None:
        assert store.put_raw is not None
        with _said() as said:
            async with store.other() as writer:
                await writer.put("a/1", b"1")
                for key in store.odd_keys:
                    await store.put_raw(key, b"odd")
                sync = store.open()
                probe = store.probe(sync, "probe", "")
                async with sync:
                    await sync.ready(60)
                    assert probe.state == {"a/1": b"1"}

                    # while it follows
                    for key in store.odd_keys:
                        await store.put_raw(key, b"odd again")
                    await writer.put("a/2", b"2")
                    await eventually(lambda: probe.state == {"a/1": b"1", "a/2": b"2"})
                    assert [kv.key async for kv in sync.list("")] == ["a/1", "a/2"]
                    found = await sync.get("a/1")
                    assert found is not None and found.raw == b"1"

                    assert len(said) == len(set(said)), said
                    assert len(said) <= len(store.odd_keys)

                    # by its bytes: one that has no name, and one that has
                    source = store.source()
                    for key in store.odd_keys:
                        assert await source.delete_raw(key)
                    assert await source.delete_raw(b"a/1")
                    assert not await source.delete_raw(b"a/never")
                    await source.aclose()
                    await eventually(lambda: probe.state == {"a/2": b"2"})

    @scenario("put_raw", "has_raw")
    async def test_deleting_the_prefix_above_deletes_keys_that_the_api_cannot_name(
        self, store: Store
    ) -> None:
        assert store.put_raw is not None and store.has_raw is not None
        async with store.other() as writer, store.open() as sync:
            for key in store.odd_keys:
                await writer.put("a/1", b"1")
                await store.put_raw(key, b"odd")
                assert await store.has_raw(key), key
                assert await sync.delete("a/" if key.startswith(b"a/") else "", prefix=True)
                assert not await store.has_raw(key), key


async def _together(store: Store, writer: Writer, items: dict[str, bytes]) -> None:
    """In one transaction, where the source has any."""
    if not store.capabilities.transactions:
        for key, value in items.items():
            await writer.put(key, value)
        return
    txn = writer.txn()
    for key, value in items.items():
        txn.put(key, value)
    await txn.commit()
