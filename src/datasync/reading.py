"""Reads that go to the sources themselves, whatever the watches have seen so far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from datasync.codec import codec_for
from datasync.events import KeyVal, record_type
from datasync.keyspace import KeySpace
from datasync.lifetime import Lifetime
from datasync.options import Options
from datasync.source import Item, Source

__all__ = ["Reader", "pages_of"]

_PAGE = 1000


async def pages_of(
    source: Source, prefix: str, *, keys_only: bool = False
) -> AsyncIterator[Sequence[Item]]:
    """What a source has below a prefix, page by page. Raises what a page raises."""
    token: Any = None
    while True:
        items, token = await source.page(prefix, token, _PAGE, keys_only=keys_only)
        yield items
        if token is None:
            return
        # a source may have the next page at hand; others want their turn
        await asyncio.sleep(0)


class Reader:
    """Reads from the sources of one DataSync. A later one overrides an earlier one key by key."""

    def __init__(
        self, sources: Sequence[Source], life: Lifetime, keys: KeySpace, options: Options
    ) -> None:
        self._sources = sources
        self._life = life
        self._keys = keys
        self._options = options

    async def get(self, key: str, kind: type[Any]) -> KeyVal[Any] | None:
        """See `DataSync.get`."""
        self._life.check()
        self._keys.check_key(key)
        decode = codec_for(kind, self._options.codec).decode
        for source in reversed(self._sources):
            found = await source.get(key)
            if found is not None:
                return KeyVal(key, record_type(source.name)(*found), decode)
        return None

    async def list(
        self, prefix: str, kind: type[Any], *, keys_only: bool
    ) -> AsyncIterator[KeyVal[Any]]:
        """See `DataSync.list`."""
        async for page in self.pages(prefix, kind, keys_only=keys_only):
            for found in page:
                yield found

    async def pages(
        self, prefix: str, kind: type[Any], *, keys_only: bool
    ) -> AsyncIterator[Sequence[KeyVal[Any]]]:
        """The same, page by page."""
        self._life.check()
        self._keys.check_prefix(prefix)
        decode = codec_for(kind, self._options.codec).decode
        seen: set[str] = set()
        several = len(self._sources) > 1

        for source in reversed(self._sources):
            make = record_type(source.name)
            async for items in pages_of(source, prefix, keys_only=keys_only):
                if several:
                    items = [item for item in items if item[0] not in seen]
                    seen.update(key for key, _, _ in items)
                yield [KeyVal(key, make(raw, revision), decode) for key, raw, revision in items]
