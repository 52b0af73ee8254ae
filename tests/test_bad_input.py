"""Bad input at the front door: a typed error with the way out, before anything is done."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from datasync import DataSync
from datasync.errors import BadPrefix, BadUrl, UsageError


@pytest.mark.parametrize("url", ["etcd://[::1", "http://[", "nosuch://[::1", "memory://a\n", "sqlite:///a\x00.db"])
def test_urls(url: str) -> None:
    with pytest.raises(BadUrl, match=r"; write ") as raised:
        DataSync(url)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("label", ["", "a/b", "\udcff", 5])
def test_labels(label: Any) -> None:
    with pytest.raises(BadPrefix, match="is no name"):
        DataSync("memory://", label=label)


@pytest.mark.parametrize("prefix", ["a", "\udcff/", 5])
def test_prefixes(prefix: Any) -> None:
    with pytest.raises(BadPrefix):
        DataSync("memory://", prefix=prefix)
    with pytest.raises(BadPrefix):
        DataSync("memory://").watch("w", prefix)


@pytest.mark.parametrize("name", ["ack_timeout", "resync_timeout", "connect_timeout", "ping_interval", "ping_timeout"])
@pytest.mark.parametrize("value", [0, -1, "2", None, float("nan")])
def test_times(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name}=.* is no time to wait; give seconds above 0"):
        DataSync("memory://", **{name: value})


@pytest.mark.parametrize("confirm", [0, -1, "2", None, float("nan"), float("inf")])
def test_confirm_is_checked_before_the_write(confirm: Any) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            with pytest.raises(UsageError, match="neither True nor a time to wait"):
                await sync.put("k", b"v", confirm=confirm)
            with pytest.raises(UsageError, match="neither True nor a time to wait"):
                await sync.txn().put("k", b"v").commit(confirm=confirm)
            assert await sync.get("k") is None

    asyncio.run(main())


def test_a_listing_lets_others_have_their_turn() -> None:
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with DataSync("memory://") as sync:
            txn = sync.txn()
            for number in range(10_000):
                txn.put(f"k{number}", b"")
            await txn.commit()
            counting = asyncio.create_task(count())
            before = [turns async for _ in sync.list("")]
            counting.cancel()
            assert len(set(before)) > 5  # about one a page

    asyncio.run(main())
