"""All keys of some ranges at one revision, without asking the server for any but its newest.

Each page is read at the newest revision, so no compaction is too quick for it. The watch, begun
before the first page, brings all that changes meanwhile; what it brought wins over what the pages
hold. At any revision that it has reached once the last page is read, both together are the exact
state: a key in no event since is in its page as it is still.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from operator import itemgetter

from datasync.errors import AnswerTooLarge
from datasync.kvdbsync.etcd.channel import RANGE, Link
from datasync.kvdbsync.etcd.cluster import Turn
from datasync.kvdbsync.etcd.errors import AnswerTooSlow, not_etcd
from datasync.kvdbsync.etcd.keys import Range, items_of, range_of
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.kvdbsync.etcd.stride import Stride
from datasync.kvdbsync.etcd.watch import Changes
from datasync.source import Frame, Item, Scopes, SnapshotBegin, SnapshotChunk

__all__ = ["Snapshot", "read_page"]

_LARGEST = 10_000
"""Keys a page: larger ones are hardly faster, and block the loop for longer."""
_TOGETHER = 128
"""Ranges a page."""
_FIRST = 100
_GROWTH = 10
_AIM = 16 << 20
"""Bytes a page, as far as the page before tells."""
_SAMPLE = 100
"""Keys of it that are measured."""
_SHARE = 0.25
"""Of the time that a request may take: no page should take longer, as far
as the page before tells."""
_TRIES = 3
"""How often a single key that did not come in time is asked for again."""
_TURNS = 2
"""Turns of the loop until a request is on its way: that of its task, and that of
the call which grpc starts."""


async def read_page(
    turn: Turn, range_: Range, limit: int, revision: int = 0, *, keys_only: bool = False
) -> tuple[pb.RangeResponse, int]:
    """One page from the start of the range, and the limit that it took: a smaller
    one where values are large."""
    while True:
        request = pb.RangeRequest(
            key=range_.key,
            range_end=range_.end,
            limit=limit,
            revision=revision,
            keys_only=keys_only,
        )
        try:
            answer = await turn.ask(RANGE, request)
        except AnswerTooLarge:
            if limit == 1:
                raise
            limit = max(1, limit // 8)
        else:
            _check_more(answer, range_, turn.endpoint)
            return answer, limit


def _check_more(answer: pb.RangeResponse, range_: Range, endpoint: str) -> None:
    """Raise `Disconnected` where a page is said to go on, but gets nowhere."""
    if answer.more and (not answer.kvs or answer.kvs[-1].key < range_.key):
        raise not_etcd(endpoint)


class _Pages:
    """The pages of some ranges, as many ranges in one as the server takes. The
    next is on its way meanwhile."""

    def __init__(self, link: Link, ranges: Sequence[Range]) -> None:
        self.revision = 0
        """That of the newest page."""
        self._link = link
        self._left = deque(Stride(*range_) for range_ in ranges)
        self._together = _TOGETHER
        self._limit = _FIRST
        self._tries = _TRIES
        self._aim = min(_AIM, link.access.max_answer // 4)

    async def read(self) -> list[pb.KeyValue]:
        """The next page; there is one where any range is left."""
        began = time.monotonic()
        found, limit = await self._ask()
        kvs: list[pb.KeyValue] = []
        rest: list[Stride] = []
        for response in found:
            asked = self._left.popleft()
            _check_more(response, asked.asked, self._link.endpoint)
            kvs += response.kvs
            if (left := asked.behind(response, limit)) is not None:
                rest.append(left)
        self._left.extendleft(reversed(rest))
        if any(response.more for response in found):  # else it tells little of larger ones
            self._adapt(kvs, time.monotonic() - began)
        return kvs

    async def all(self) -> AsyncIterator[list[pb.KeyValue]]:
        """All pages that are left."""
        following: asyncio.Task[list[pb.KeyValue]] | None = None
        page: list[pb.KeyValue] = []
        try:
            while self._left:
                following = asyncio.ensure_future(self.read())
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                if page:
                    yield page
                page = await following
            if page:
                yield page
        finally:
            if following is not None and not following.done():
                following.cancel()
                await asyncio.wait([following])

    async def _ask(self) -> tuple[list[pb.RangeResponse], int]:
        """What the first ranges that are left have, as many of them as fit, and how many keys of
        each may have come."""
        while True:
            some = list(itertools.islice(self._left, self._together))
            each = -(-self._limit // len(some))
            try:
                self.revision, found = await self._link.ask_together(
                    [
                        pb.RangeRequest(key=key, range_end=end, limit=each)
                        for key, end in (stride.asked for stride in some)
                    ]
                )
            except (AnswerTooLarge, AnswerTooSlow) as error:
                if len(some) == each == 1:
                    # G8: on a slow line, what came too late before is still ahead of this answer
                    if isinstance(error, AnswerTooLarge) or not self._tries:
                        raise
                    self._tries -= 1
                self._limit = max(1, self._limit // 8)
                self._together = min(self._together, self._limit)
            else:
                return found, each

    def _adapt(self, kvs: Sequence[pb.KeyValue], took: float) -> None:
        sample = kvs[:: len(kvs) // _SAMPLE + 1]
        each = sum(kv.ByteSize() for kv in sample) // len(sample) + 1
        in_time = int(len(kvs) * _SHARE * self._link.access.timeout / max(took, 0.001))
        self._limit = max(1, min(_LARGEST, self._limit * _GROWTH, self._aim // each, in_time))


class Snapshot:
    """What lies in `scopes`, while it is read: `begin`, then `finish` while each
    revision of the watch is folded in."""

    def __init__(self, link: Link, scopes: Sequence[str]) -> None:
        self.complete = False
        """Whether all pages are read; once the watch has got to `revision` as
        well, `frames` may be asked for."""
        self.newest: Item = ("", b"", 0)
        """The key that was written last."""
        self._scopes = scopes
        self._within = Scopes(scopes)
        self._pages = _Pages(link, [range_of(scope) for scope in scopes])
        self._items: deque[Sequence[Item]] = deque()
        self._changed: dict[str, tuple[bytes | None, int]] = {}

    @property
    def revision(self) -> int:
        """That of the newest page read."""
        return self._pages.revision

    async def begin(self) -> None:
        """Read the first page. Raises `Disconnected`, `Unauthorized`, `BadStore`."""
        if self._scopes:
            self._items.append(items_of(await self._pages.read()))

    async def finish(self) -> None:
        """Read the others. Raises as `begin` does."""
        async for page in self._pages.all():
            self._items.append(items_of(page))
        self.complete = True

    def fold(self, revision: int, changes: Changes) -> None:
        """Take in what the watch brought."""
        for key, raw in changes:
            if key in self._within:
                self._changed[key] = (raw, revision)

    def frames(self) -> Iterator[list[Frame]]:
        """All but the end. Called once; `newest` is known after it."""
        frames: list[Frame] = [SnapshotBegin(self._scopes)]
        for items in self._final():
            if items:
                self.newest = max(self.newest, max(items, key=itemgetter(2)), key=itemgetter(2))
                yield [*frames, SnapshotChunk(items)]
                frames = []
        if frames:
            yield frames

    def _final(self) -> Iterator[Sequence[Item]]:
        changed = self._changed
        while self._items:
            items = self._items.popleft()
            yield [item for item in items if item[0] not in changed] if changed else items
        yield [(key, raw, revision) for key, (raw, revision) in changed.items() if raw is not None]
