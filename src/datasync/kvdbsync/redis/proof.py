"""The proof that a session may follow, before it is one: what its user and
the server let it read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from datasync.errors import AnswerTooLarge, BadStore, Disconnected, Unauthorized
from datasync.kvdbsync.redis.link import Link
from datasync.kvdbsync.redis.snapshot import Caution
from datasync.kvdbsync.redis.store import Store, scan

__all__ = ["prove_readable"]

_ENOUGH = 1_000
_LOOK = 0.2
"""Keys that are tried, and seconds in which they are sought."""
_READ = 256 << 10
"""Bytes that are read to see that it is permitted."""
_LARGE = 32 << 10
"""No server is set to end connections for an answer of less, so only a larger one is tried."""
_PATIENCE = 1.0
"""Seconds; a server that ends the connection because of an answer does so
before it sends any of it."""


async def prove_readable(
    store: Store, names: Sequence[str], pattern: str | None, caution: Caution
) -> None:
    """Read what failed the last time, or some keys that match the pattern;
    `names` are those of the scopes.

    The name of a scope is a key like those in it, so a user who may not read the scope is told so.
    Raises `Unauthorized`, which says what may not be read, `BadStore`, `Disconnected`.
    """
    keys = caution.suspects
    if not keys and pattern is not None:
        keys = [
            key
            for found in await asyncio.gather(*(_some(link, pattern) for link in store.links))
            for key in found
        ]

    sizes = dict(zip(keys, await store.sizes(keys), strict=True))
    some, left = [name.encode() for name in names], _READ
    for key, size in sizes.items():
        if size <= left:
            some.append(key)
            left -= size
    await _read(store, some)

    largest = max(sizes, key=sizes.__getitem__, default=b"")
    if sizes.get(largest, 0) >= _LARGE:
        await _read_apart(store, largest, sizes[largest])
    if caution.suspects:
        caution.learn(list(sizes.values()))


async def _some(link: Link, pattern: str) -> Sequence[bytes]:
    """Some keys that match."""
    found: list[bytes] = []
    time = asyncio.get_running_loop().time
    deadline = time() + _LOOK
    async with contextlib.aclosing(scan(link, pattern)) as pages:
        async for keys in pages:
            found += keys
            if len(found) >= _ENOUGH or time() > deadline:
                break
    return found


async def _read(store: Store, keys: Sequence[bytes]) -> None:
    try:
        await store.fetch(keys)
    except Unauthorized as error:
        for key in keys:
            try:
                await store.fetch([key])
            except Unauthorized:
                what = repr(key.decode(errors="replace")) if key else "the database as a whole"
                raise Unauthorized(f"{error} ({what} may not be read)") from None
        raise


async def _read_apart(store: Store, key: bytes, size: int) -> None:
    """On a connection of its own, which the server may end."""
    beside = store.owner(key)
    link = await Link.connect(beside.endpoint, beside.access)
    try:
        await asyncio.wait((link.send(("GET", key)),), timeout=_PATIENCE)
        if link.error is None:
            return
        if isinstance(link.error, AnswerTooLarge):
            raise _in_the_way(link.error, key, size)
    finally:
        await link.aclose()
    await store.ping()  # raises where it is the server that has gone
    if beside.error is None:
        raise BadStore(
            f"{beside.address}: the server ends the connection when the value of "
            f"{key.decode(errors='replace')!r} ({size} bytes) is read; raise "
            "client-output-buffer-limit, or store less under one key"
        )
    raise Disconnected(str(beside.error))


def _in_the_way(error: AnswerTooLarge, key: bytes, size: int) -> AnswerTooLarge:
    return AnswerTooLarge(
        f"{error} (it is the value of {key.decode(errors='replace')[:200]!r}, {size} bytes)"
    )
