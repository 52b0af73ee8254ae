"""All keys of some ranges at one revision, page by page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from datasync.errors import BadStore
from datasync.kvdbsync._etcd_channel import MAX_ANSWER, RANGE, Link
from datasync.kvdbsync._etcd_errors import AnswerTooLarge
from datasync.kvdbsync._etcd_keys import Range
from datasync.kvdbsync._etcd_pb import etcd_pb2 as pb

__all__ = ["Reader", "read_page"]

_LARGEST = 10_000
"""Keys a page: larger ones are hardly faster, and block the loop for longer."""
_FIRST = 100
_GROWTH = 10
_AIM = MAX_ANSWER // 4
"""Bytes a page, as far as the page before tells."""
_SAMPLE = 100
"""Keys of it that are measured."""
_SHARE = 0.25
"""Of the time that a request may take: no page should take longer, as far as the page before tells."""
_TURNS = 2
"""Turns of the loop until a request is on its way: that of its task, and that of the call which grpc starts."""


async def read_page(
    link: Link, range_: Range, limit: int, revision: int = 0, *, keys_only: bool = False
) -> tuple[pb.RangeResponse, int]:
    """One page from the start of the range, and the limit that it took: a smaller one where values are large."""
    while True:
        request = pb.RangeRequest(
            key=range_.key, range_end=range_.end, limit=limit, revision=revision, keys_only=keys_only
        )
        try:
            return await link.ask(RANGE, request), limit
        except AnswerTooLarge as error:
            if limit == 1:
                raise BadStore(str(error)) from None
            limit = max(1, limit // 8)


class Reader:
    """Reads ranges at the revision of the first page (or the one given). The next page is on its way meanwhile."""

    def __init__(self, link: Link, ranges: Sequence[Range], revision: int = 0) -> None:
        self.revision = revision
        """The revision of all pages; known after `begin`."""
        self._link = link
        self._ranges = list(ranges)
        self._limit = _FIRST
        self._first: pb.RangeResponse | None = None

    async def begin(self) -> None:
        """Read the first page. Raises `Disconnected`, `Unauthorized`, `HistoryLost`, `BadStore`."""
        self._first = await self._read(self._ranges[0])
        self.revision = self.revision or self._first.header.revision

    async def pages(self) -> AsyncIterator[pb.RangeResponse]:
        """All pages that have keys in them; each range is complete, or this raises."""
        page, self._first = self._first, None
        for number, range_ in enumerate(self._ranges):
            if page is None or number:
                page = await self._read(range_)
            while page.more:
                following = asyncio.ensure_future(self._read(Range(page.kvs[-1].key + b"\0", range_.end)))
                try:
                    for _ in range(_TURNS):
                        await asyncio.sleep(0)
                    yield page
                    page = await following
                finally:
                    if not following.done():
                        following.cancel()
                        await asyncio.wait([following])
            if page.kvs:
                yield page

    async def _read(self, range_: Range) -> pb.RangeResponse:
        began = time.monotonic()
        page, limit = await read_page(self._link, range_, self._limit, self.revision)
        if page.kvs:
            took = max(time.monotonic() - began, 0.001)
            sample = page.kvs[:: len(page.kvs) // _SAMPLE + 1]
            each = sum(kv.ByteSize() for kv in sample) // len(sample) + 1
            in_time = int(limit * _SHARE * self._link.access.timeout / took)
            self._limit = max(1, min(_LARGEST, limit * _GROWTH, _AIM // each, in_time))
        return page
