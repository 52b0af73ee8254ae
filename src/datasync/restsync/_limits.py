"""What a REST server takes at most, so that no client can use it up."""

from __future__ import annotations

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds. What is beyond is answered with 413,
    414 or 429, never taken in part.

    value, key: of one value, of the UTF-8 form of one key.
    state: the body of a whole state or a transaction.
    operations: in a transaction.
    keys: in a whole state.
    page: items of an answer.
    page_bytes: its values together.
    bodies: those of requests that are not answered yet, together, as far as they are larger than
    64 KiB; beyond, a request is refused.
    streams: event streams open at a time.
    writes: writes that wait for their verdict at a time.
    verdict_time: for a verdict, unless the client asks for less.
    stalled: for a client to take the next 64 KiB of what it is sent; it is cut off then.
    unsent: whole answers that are larger than that, together, until their clients have taken them;
        beyond, the client that has taken nothing for longest is cut off.
    cursor: for a client that is to come back for the next page.
    """

    value: int = 4 << 20
    key: int = 4096
    state: int = 64 << 20
    operations: int = 10_000
    keys: int = 1_000_000
    page: int = 10_000
    page_bytes: int = 8 << 20
    bodies: int = 256 << 20
    streams: int = 10_000
    writes: int = 10_000
    verdict_time: float = 60.0
    stalled: float = 60.0
    unsent: int = 256 << 20
    cursor: float = 60.0
