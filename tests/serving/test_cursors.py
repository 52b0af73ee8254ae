"""Cursors of remote clients: shared, expired by a timer, bounded in number and bytes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from datasync.kvdbsync.memory import MemorySource
from datasync.serving.cursors import Cursors
from datasync.source import Held, Put
from datasync.testing.contract import eventually

Run = Callable[[Any], None]
MEBIBYTE = 1 << 20


async def filled() -> MemorySource:
    store = MemorySource()
    await store.commit([Put(f"a/{number}", b"1") for number in range(10)])
    return store


def test_lists_of_the_same_state_share_their_snapshot(run: Run) -> None:
    async def main() -> None:
        store = await filled()
        _, first = await store.page("a/", None, 4)
        _, second = await store.page("a/", None, 2)
        assert isinstance(first, Held)
        assert isinstance(second, Held)
        assert first.rows is second.rows
        assert first.size > 1000

        await store.commit([Put("b", b"1")])
        _, third = await store.page("a/", None, 4)
        _, other = await store.page("", None, 4)
        assert isinstance(third, Held)
        assert isinstance(other, Held)
        assert third.rows is not first.rows
        assert other.rows is not third.rows
        keys = [f"a/{number}" for number in range(4, 8)]
        for held in first, third:
            assert [key for key, _, _ in (await store.page("a/", held, 4))[0]] == keys

        kept = Cursors()
        names = [kept.keep(None, (), token) for token in (first, second)]
        assert kept.bytes == first.size
        for name in names:
            assert kept.bytes == first.size
            kept.take(name)
        assert kept.bytes == 0

    run(main())


def test_a_snapshot_goes_with_the_last_cursor_without_another_list(run: Run) -> None:
    async def main() -> None:
        store, kept = await filled(), Cursors(0.01)
        _, token = await store.page("a/", None, 4)
        assert isinstance(token, Held)
        rows = weakref.ref(token.rows)
        kept.keep(None, (), token)
        del token

        def gone() -> bool:
            gc.collect()
            return rows() is None

        await eventually(gone)
        assert (len(kept), kept.bytes) == (0, 0)

    run(main())


@pytest.mark.parametrize(
    ("size", "most"), [(MEBIBYTE, 64), (20 * MEBIBYTE, 4), (500 * MEBIBYTE, 4), (0, 1024)]
)
def test_the_oldest_are_forgotten_where_there_are_too_many(run: Run, size: int, most: int) -> None:
    async def main() -> None:
        kept = Cursors()
        names = [kept.keep(number, (), Held([], number, size)) for number in range(1500)]
        assert len(kept) == most
        assert kept.bytes == most * size
        assert kept.take(names[-most - 1]) is None
        for number in range(1500 - most, 1500):
            cursor = kept.take(names[number])
            assert cursor is not None
            assert (cursor.what, cursor.token.start) == (number, number)
            assert kept.take(names[number]) is None
        assert kept.bytes == 0

    run(main())


def test_items_that_were_read_and_not_shown_count_as_well(run: Run) -> None:
    async def main() -> None:
        kept = Cursors()
        for number in range(100):
            kept.keep(number, [("key", bytes(MEBIBYTE), 1)] * 4, None)
        assert 60 * MEBIBYTE < kept.bytes < 70 * MEBIBYTE

    run(main())
