"""All keys of some ranges at one revision, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from datasync.errors import BadStore
from datasync.kvdbsync._etcd_channel import MAX_ANSWER, RANGE, Link
from datasync.kvdbsync._etcd_errors import AnswerTooLarge
from datasync.kvdbsync._etcd_keys import Range
from datasync.kvdbsync._etcd_pb import etcd_pb2 as pb

__all__ = ["Reader", "read_page"]

_LARGEST = 10_000
"""Keys a page: larger ones are hardly faster, and block the loop for longer."""
_FIRST = 1_000
_GROWTH = 10
_AIM = MAX_ANSWER // 4
"""Bytes a page, as far as the page before tells."""


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
                    yield page
                    page = await following
                finally:
                    if not following.done():
                        following.cancel()
                        await asyncio.wait([following])
            if page.kvs:
                yield page

    async def _read(self, range_: Range) -> pb.RangeResponse:
        page, limit = await read_page(self._link, range_, self._limit, self.revision)
        if page.kvs:
            each = page.ByteSize() // len(page.kvs) + 1
            self._limit = max(1, min(_LARGEST, limit * _GROWTH, _AIM // each))
        return page
