"""What a source can promise, as a value that the engine, the suite, the
docs and the CLI read alike."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Capabilities"]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The promises of a source; whatever is not promised is refused loudly, never imitated.

    order: "total" (all changes of a watch in revision order) or "key" (each key for itself).
    atomic: the changes of one transaction arrive in one event.
    snapshot: "exact" (all at one revision) or "fuzzy" (put right by the changes after it).
    every_value: False where only the latest value of a key may be seen.
    revisions: writes and values carry a revision.
    resume: a session can continue after a position.
    ttl: writes with `ttl=` are supported.
    cas: writes with `if_revision=` are supported.
    transactions: several writes can be done together, all or nothing.
    reply: the verdict of the watches behind the source reaches the publisher.
    max_operations: operations per transaction, unless the server is configured otherwise; None
        where there is no limit.
    durable: what was acknowledged survives the end of the process.
    writable: it takes writes at all.
    """

    order: Literal["total", "key"]
    atomic: bool
    snapshot: Literal["exact", "fuzzy"]
    every_value: bool
    revisions: bool
    resume: bool
    ttl: bool
    cas: bool
    reply: bool
    durable: bool
    transactions: bool = True
    writable: bool = True
    max_operations: int | None = None
