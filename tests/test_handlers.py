"""What may be a handler."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import datasync


class Object:
    def __init__(self) -> None:
        self.seen = 0

    async def __call__(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.seen += 1


def test_an_object_with_an_async_call_is_one_also_when_wrapped(memory_url: str) -> None:
    async def main() -> None:
        plain, inner = Object(), Object()

        @functools.wraps(inner)
        async def wrapped(event: Any) -> None:
            await inner(event)

        sync = datasync.DataSync(memory_url)
        sync.watcher("a/", name="plain")(plain)
        sync.watcher("a/", name="wrapped")(wrapped)
        async with sync:
            await sync.ready(5)
        assert (plain.seen, inner.seen) == (1, 1)

    asyncio.run(main())
