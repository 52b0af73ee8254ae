"""All keys of one source over connections to the servers that hold them: here, to one primary."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from datasync.endpoints import Endpoint
from datasync.errors import Disconnected, WatchClosed
from datasync.kvdbsync.redis.errors import TopologyChanged, of_reply
from datasync.kvdbsync.redis.keys import skipped
from datasync.kvdbsync.redis.link import Access, Command, Link, ReplyError, refuse_mode
from datasync.kvdbsync.redis.plan import Plan
from datasync.kvdbsync.redis.replies import shaped
from datasync.shared import SharedConnection, closed_on_error
from datasync.source import Committed, Operation

__all__ = ["Opener", "Shared", "Single", "Store", "report_type", "scan"]

T = TypeVar("T")

_TRUSTED = 3.0
"""Seconds before a connection is health-checked again."""
_SCANNED = 2_000
"""Keys that one SCAN looks at: more are hardly faster, and hold up the
server's other clients for longer."""
_PAGES, _BLIND, _MOST_PAGES = 1_000, 100_000, 10_000_000
"""Pages of a SCAN: those that are read without asking how many there can be; the limit where the
server does not tell how many keys it has; the limit in any case."""
_SPARSE = 64
"""Times as many places as keys that a table may have, at most."""
_LONGEST_CURSOR = 20
"""Digits; a cursor has 64 bits."""


class Store(abc.ABC):
    """Connections to all primaries."""

    links: Sequence[Link]

    @property
    def ready(self) -> bool:
        """Whether all connections stand, as far as can be known."""
        return all(link.ready for link in self.links)

    @abc.abstractmethod
    async def fetch(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of keys now; None for those that are not there or hold no string. Raises
        `Disconnected`, `Unauthorized`, `BadStore`."""

    @abc.abstractmethod
    def owner(self, key: bytes) -> Link:
        """The connection to the primary that has the key, as far as is known."""

    async def sizes(self, keys: Sequence[bytes]) -> Sequence[int]:
        """The bytes of the values of keys now; 0 also where that cannot be told."""
        by_owner: dict[Link, list[int]] = {}
        for index, key in enumerate(keys):
            by_owner.setdefault(self.owner(key), []).append(index)
        asked = [
            (link, mine, link.send(*(("STRLEN", keys[at]) for at in mine)))
            for link, mine in by_owner.items()
        ]
        sizes = [0] * len(keys)
        for link, mine, answer in asked:
            for index, reply in zip(mine, await link.answered(answer), strict=True):
                sizes[index] = reply if isinstance(reply, int) else 0
        return sizes

    @abc.abstractmethod
    async def write(self, operations: Sequence[Operation]) -> Committed:
        """What `Source.commit` does."""

    @abc.abstractmethod
    async def unlink(self, keys: Sequence[bytes]) -> bool:
        """Delete keys, of whatever type; whether any was there. Raises as `write` does."""

    @abc.abstractmethod
    async def ping(self) -> None:
        """Have all primaries answer, and see that they still are the
        primaries. Raises `Disconnected`."""

    async def aclose(self) -> None:
        """Close all connections."""
        async with contextlib.AsyncExitStack() as closing:
            # G12: each, though one of them is cancelled
            for link in self.links:
                closing.push_async_callback(link.aclose)


Opener = Callable[[], Awaitable[Store]]


class Single(Store):
    """One server."""

    def __init__(self, link: Link) -> None:
        self.links = (link,)
        self._link = link

    @classmethod
    async def open(cls, endpoint: Endpoint, access: Access) -> Single:
        """Connect. Raises `Disconnected`, `Unauthorized`, `BadStore`."""
        link = await Link.connect(endpoint, access)
        async with closed_on_error(link.aclose):
            refuse_mode(link, "standalone")
            refuse_replica(link)
        return cls(link)

    def owner(self, key: bytes) -> Link:
        return self._link

    async def fetch(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        [answer] = await self._link.ask(("MGET", *keys))
        values: list[bytes | None] = shaped(answer, list[bytes | None], self._link.address)
        if len(values) != len(keys):
            raise Disconnected(
                f"{self._link.address}: MGET of {len(keys)} keys has {len(values)} values; check "
                "what stands before it"
            )
        if None in values and not skipped.full:
            self._report_types(
                [key for key, value in zip(keys, values, strict=True) if value is None]
            )
        return values

    def _report_types(self, keys: Sequence[bytes]) -> None:
        """Report those that are there after all. Nobody waits for the answers."""

        def report(answer: asyncio.Future[list[Any]]) -> None:
            if not answer.cancelled() and answer.exception() is None:
                for key, kind in zip(keys, answer.result(), strict=True):
                    if isinstance(kind, bytes) and kind not in (b"none", b"string"):
                        report_type(key, kind.decode(errors="replace"))

        self._link.send(*(("TYPE", key) for key in keys)).add_done_callback(report)

    async def write(self, operations: Sequence[Operation]) -> Committed:
        plan = Plan(operations)
        return plan.committed(await plan.tell(self._link), self._link.address)

    async def unlink(self, keys: Sequence[bytes]) -> bool:
        [deleted] = await self._link.tell(("UNLINK", *keys))
        if isinstance(deleted, ReplyError):
            raise of_reply(deleted, self._link.address)
        count: int = shaped(deleted, int, self._link.address)
        return count > 0

    async def ping(self) -> None:
        await self._link.ping()


class Shared:
    """The store that all requests share; opened when it is needed."""

    def __init__(self, opener: Opener, timeout: float) -> None:
        self._opener = opener
        self._timeout = timeout
        self._connection: SharedConnection[Store] = SharedConnection()
        self._opening: asyncio.Task[Store] | None = None
        self._checked = 0.0
        self._closes = 0

    async def use(
        self,
        request: Callable[[Store], Awaitable[T]],
        again: tuple[type[Disconnected], ...] = (TopologyChanged,),
    ) -> T:
        """The result of `request`, which is made again where it ends in such an error: at
        first where a cluster says that its primaries are others now. Once, over what may be a
        new store; not after a close."""
        closes = self._closes
        try:
            try:
                return await self._connection.use(self._trusted or await self._ready(), request)
            except again:
                if closes != self._closes:
                    raise
                return await self._connection.use(self._trusted or await self._ready(), request)
        except Disconnected:
            if closes != self._closes:  # G12: nothing was sent
                raise WatchClosed(
                    "it was closed before the request was sent; nothing was done"
                ) from None
            raise

    async def aclose(self) -> None:
        """Close all connections at once. Of the requests under way, those that were sent
        hear `OutcomeUnknown` where they write, and all others `WatchClosed`. A later
        request opens a store again."""
        self._closes += 1
        opening, self._opening = self._opening, None
        try:
            if opening is not None:
                opening.cancel()
                await asyncio.wait((opening,))
        finally:  # G12: if this is cancelled meanwhile, too
            await self._connection.aclose()

    @property
    def _trusted(self) -> Store | None:
        """The store, where it was known to be good a moment ago."""
        fresh = asyncio.get_running_loop().time() - self._checked <= _TRUSTED
        return self._connection.ready if fresh else None

    async def _ready(self) -> Store:
        """The store, once it is known to be good or was reopened; all who wait for
        it at a time share the try."""
        opening = self._opening
        if opening is None or opening.done():
            opening = self._opening = asyncio.ensure_future(self._open())
            # if nobody waits any more
            opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait((opening,))
        if opening.cancelled():
            raise Disconnected("it was closed")
        try:
            return opening.result()
        finally:
            del opening  # G9: its error knows this frame, which would keep all who waited

    async def _open(self) -> Store:
        store = await self._still_good()
        if store is None:
            try:
                async with asyncio.timeout(2 * self._timeout):
                    store = await self._connection.reopen(self._opener)
            except TimeoutError:
                raise Disconnected(
                    "still not connected; check that the server is healthy"
                ) from None
        self._checked = asyncio.get_running_loop().time()
        return store

    async def _still_good(self) -> Store | None:
        """The store, where its servers answer and are the ones to write to."""
        store = self._connection.ready
        if store is not None:
            with contextlib.suppress(TimeoutError, Disconnected):
                async with asyncio.timeout(self._timeout):
                    await store.ping()
                return store
        return None


async def scan(link: Link, pattern: str, *conditions: str) -> AsyncGenerator[Sequence[bytes], None]:
    """The keys that match, page by page, some perhaps twice. The next page is
    asked for before one is yielded."""
    command: Command = ("MATCH", pattern, "COUNT", _SCANNED, *conditions)
    following = link.send(("SCAN", 0, *command))
    seen: set[bytes] = set()
    patience = _PAGES
    while True:
        [page] = link.good(await link.answered(following))
        cursor, keys = shaped(page, tuple[bytes, list[bytes]], link.address)
        if cursor == b"0":
            yield keys
            return
        if cursor in seen or len(cursor) > _LONGEST_CURSOR:
            raise _endless(link, "its cursor comes back to an earlier one")
        seen.add(cursor)
        if len(seen) >= patience:
            patience = await _pages_of(link)
            if len(seen) >= patience:
                raise _endless(
                    link,
                    f"{len(seen)} pages, more than its keys need, or without leave to ask DBSIZE",
                )

        following = link.send(("SCAN", cursor, *command))
        yield keys


async def _pages_of(link: Link) -> int:
    """The pages that a scan may have: a table is never much larger than the keys in it need."""
    [size] = await link.answered(link.send(("DBSIZE",)))
    if not isinstance(size, int):  # not everybody may ask
        return _BLIND
    return min(_MOST_PAGES, _PAGES + _SPARSE * size // _SCANNED)


def _endless(link: Link, why: str) -> Disconnected:
    return Disconnected(
        f"{link.address}: SCAN does not end ({why}); check the server, and what stands before it"
    )


def refuse_replica(link: Link) -> None:
    """Raise `Disconnected` for a replica: it takes no writes, and does not
    announce that it was reloaded."""
    if link.role != "master":
        raise Disconnected(
            f"{link.address}: it is a replica; name the primary, or write redis+sentinel://"
        )


def report_type(key: bytes, kind: str) -> None:
    """Report a key that holds something else than a string."""
    skipped.report(key, "Redis", f"it holds a {kind}; store a string to have it watched")
