"""From page to page through a range, each page with an end of its own.

With every page etcd counts all that the range of the request holds, whatever the limit, so pages of
one range would cost the square of its keys. A page therefore asks for the keys that begin as its
first one does, in as many bytes as leave about as many keys as it takes.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from datasync.kvdbsync.etcd.keys import OPEN_END, Range, end_of
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb

__all__ = ["Stride"]

_MOST = 8
"""Pages that the range of a request may hold: to count a key costs the server about a tenth of what
it costs to send it."""


class Stride(NamedTuple):
    """What is left of a range, and how far its next page reaches.

    start: the first key that may be left.
    end: that of the whole range.
    depth: how many bytes of `start` the keys of the next page begin with; 0 for all that is left.
    seen: how many keys were found since a page last reached its own end.
    """

    start: bytes
    end: bytes
    depth: int = 0
    seen: int = 0

    @property
    def asked(self) -> Range:
        """What the next page is asked for."""
        if not self.depth:
            return Range(self.start, self.end)
        bound = end_of(self.start[: self.depth])
        within = bound != OPEN_END and (self.end == OPEN_END or bound < self.end)
        return Range(self.start, bound if within else self.end)

    def behind(self, page: pb.RangeResponse, limit: int) -> Stride | None:
        """What is left after the page that was asked for, of at most `limit` keys; None for
        nothing."""
        seen = self.seen + len(page.kvs)
        if page.more:
            first, last = page.kvs[0].key, page.kvs[-1].key
            depth = self.depth
            if page.count > _MOST * limit:
                depth = depth + 1 if depth else max(1, _alike(first, last))
            return Stride(last + b"\0", self.end, min(depth, len(last)), seen)

        bound = self.asked.end
        if bound == self.end:
            return None
        return Stride(bound, self.end, self.depth - (seen < limit))


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
