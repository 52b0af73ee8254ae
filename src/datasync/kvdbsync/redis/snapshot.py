"""All values of some scopes, read piece by piece while others write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from datasync.endpoints import MAX_ANSWER
from datasync.errors import AnswerTooLarge
from datasync.kvdbsync.redis.keys import scan_pattern, single_keys, wanted_of
from datasync.kvdbsync.redis.store import Store, scan
from datasync.source import Item, Scopes

__all__ = ["Batch", "Caution", "Fetch", "Values", "ended", "read_snapshot"]

_MOST = 5_000
_FIRST = 100
_SAMPLE = 500
_GROWTH = 10
_AIM = 8 << 20
"""Bytes of one answer, as far as the one before tells."""
_BESIDE = 128
"""What a value takes beside its bytes, at most."""
_LEAST = 64 << 10
"""Bytes of one answer where the server ended the connection because of larger ones."""

Fetch = Callable[[Sequence[bytes]], Awaitable[Sequence[bytes | None]]]
Keys = tuple[Sequence[bytes], Sequence[str]]


class Caution:
    """What a source has learned of how much it may read at once. Its sessions share it."""

    def __init__(self, most: int = MAX_ANSWER) -> None:
        self.most = most
        """Bytes that one answer may have."""
        self.suspects: Sequence[bytes] = ()
        """Keys that were asked for when reading failed the last time."""
        self.aim = min(_AIM, most // 4)
        """Bytes that one answer should have, as far as that can be told before."""
        self.largest = 0
        """The largest value among those that were suspects."""

    def learn(self, sizes: Sequence[int]) -> None:
        """The suspects are of these sizes, and each of them alone can be
        read: read less of them at once."""
        self.suspects = ()
        self.largest = max(self.largest, *sizes)
        self.aim = max(min(_LEAST, self.most // 4), self.largest, min(self.aim, sum(sizes) // 2))


class Batch:
    """How many values to ask for at once: fewer where they are large."""

    def __init__(self, caution: Caution | None = None) -> None:
        self._caution = caution or Caution()
        self.limit = max(1, min(_FIRST, self._caution.aim // (self._caution.largest or 1)))

    def note(self, values: Sequence[bytes | None]) -> None:
        """Learn from an answer."""
        some = values[:: len(values) // _SAMPLE + 1]
        each = sum([len(value) for value in some if value is not None]) // (len(some) or 1) + 1
        # no answer is too large while no value is larger than the largest that was ever in the way
        surely = (
            self._caution.most // (self._caution.largest + _BESIDE)
            if self._caution.largest
            else _MOST
        )
        self.limit = max(1, min(_MOST, surely, self.limit * _GROWTH, self._caution.aim // each))


class Values:
    """The values of some keys. Where an answer with several of them was too large, which ends the
    connection, reading goes on where it was, with fewer at a time."""

    def __init__(self, keys: Sequence[bytes], caution: Caution) -> None:
        self._keys = keys
        self._caution = caution
        self._read: list[bytes | None] = []
        self._were_too_large = False

    async def read(self, store: Store) -> Sequence[bytes | None]:
        """All of them; those that were read before are not asked for again.
        Raises as `Store.fetch` does."""
        if self._were_too_large:
            await self._take_less(store)

        batch = Batch(self._caution)
        while len(self._read) < len(self._keys):
            start = len(self._read)
            try:
                some = await store.fetch(self._keys[start : start + batch.limit])
            except AnswerTooLarge:
                self._were_too_large = True
                raise
            batch.note(some)
            self._read.extend(some)
        return self._read

    async def _take_less(self, store: Store) -> None:
        sizes = await store.sizes(self._keys[len(self._read) :])
        most = self._caution.most
        if not 0 < max(sizes) <= most:
            # nobody may ask, or one is too large by itself: one at a time shows which
            self._caution, sizes = Caution(most), [most]
        self._caution.learn(sizes)


async def ended(fetching: asyncio.Future[Sequence[bytes | None]]) -> None:
    """Wait for the end of a fetch whose result nobody needs any more."""
    await asyncio.wait([fetching])
    if not fetching.cancelled():
        fetching.exception()  # the next read raises what ended the connection


async def read_snapshot(
    store: Store, scopes: Sequence[str], batch: Batch, fetch: Fetch
) -> AsyncIterator[list[Item]]:
    """(key, value, 0) of all keys in the scopes, some perhaps twice. Values are read while keys are
    being sought, and the next ones while some are yielded."""
    reading: tuple[Sequence[str], asyncio.Future[Sequence[bytes | None]]] | None = None
    try:
        async for keys, texts in _keys(store, scopes, batch):
            before, reading = reading, (texts, asyncio.ensure_future(fetch(keys)))
            if before is not None:
                yield _items(before[0], await before[1], batch)
        if reading is not None:
            yield _items(reading[0], await reading[1], batch)
    finally:
        if reading is not None:
            reading[1].cancel()
            await ended(reading[1])


def _items(texts: Sequence[str], values: Sequence[bytes | None], batch: Batch) -> list[Item]:
    batch.note(values)
    return [
        (text, value, 0) for text, value in zip(texts, values, strict=True) if value is not None
    ]


async def _keys(store: Store, scopes: Sequence[str], batch: Batch) -> AsyncIterator[Keys]:
    """All keys of the scopes, at most `batch.limit` at a time."""
    for part in _parts(*wanted_of(single_keys(scopes), None), batch):
        yield part
    pattern = scan_pattern(scopes)
    if pattern is None:
        return
    wanted = None if len(scopes) == 1 else Scopes(scopes)  # one prefix: it is what the pattern says
    for link in store.links:
        async for found in scan(link, pattern):
            for part in _parts(*wanted_of(found, wanted), batch):
                yield part


def _parts(keys: Sequence[bytes], texts: Sequence[str], batch: Batch) -> list[Keys]:
    limit = batch.limit
    return [(keys[at : at + limit], texts[at : at + limit]) for at in range(0, len(keys), limit)]
