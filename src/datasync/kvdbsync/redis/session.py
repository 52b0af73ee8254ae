"""One session: everything tracked first, then a snapshot, then what the server says has changed."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from datasync.errors import Disconnected, Unauthorized
from datasync.kvdbsync.redis.keys import scan_pattern, tracked, wanted_of
from datasync.kvdbsync.redis.proof import prove_readable
from datasync.kvdbsync.redis.replies import shaped
from datasync.kvdbsync.redis.snapshot import Batch, Caution, ended, read_snapshot
from datasync.kvdbsync.redis.store import Store
from datasync.scopes import is_prefix
from datasync.source import (
    Commit,
    Frame,
    Scopes,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)

__all__ = ["RedisSession"]

_BESIDE = 128
"""Bytes that a key which waits takes beside its name."""
_CHECKED = 100
"""Scopes whose permissions are looked at."""


class RedisSession(Session):
    """Follows the keys of `scopes` at all primaries. Made by `start`."""

    def __init__(self, store: Store, scopes: Sequence[str], caution: Caution) -> None:
        self._store = store
        self._caution = caution
        self._scopes = scopes
        # what is announced is what was tracked: mostly just the scopes
        exact = tracked(self._scopes) == self._scopes and all(map(is_prefix, self._scopes))
        self._wanted = None if exact else Scopes(self._scopes)
        self._batch = Batch(caution)
        self._wake = asyncio.Event()
        self._closed = False
        # pushes in the order in which they came, each with its keys that are not in an earlier one
        # (None: a flush), and between them those who wait until all before is taken over
        self._pushes: deque[Sequence[bytes] | asyncio.Future[None] | None] = deque()
        self._waiting: set[bytes] = set()
        self._size = 0
        """Bytes that these take."""
        self._flushed = False
        """Whether there is a flush among them."""
        self._reading: (
            tuple[Sequence[Sequence[str]], asyncio.Future[Sequence[bytes | None]]] | None
        ) = None

    @classmethod
    async def start(cls, store: Store, scopes: Sequence[str], caution: Caution) -> RedisSession:
        """A session that is known to work: changes are announced, and the scopes may be read.
        Raises `Disconnected`, `Unauthorized`, `BadStore`."""
        minimal = list(Scopes(scopes).minimal())
        if minimal:
            await prove_readable(store, minimal[:_CHECKED], scan_pattern(minimal), caution)
        session = cls(store, minimal, caution)
        for link in store.links:
            link.pushed, link.lost = (
                functools.partial(session._pushed, link.address),
                session._wake.set,
            )
        if minimal:
            prefixes = [part for prefix in tracked(minimal) for part in ("PREFIX", prefix)]
            for link in store.links:
                await link.ask(
                    ("CLIENT", "TRACKING", "ON", "BCAST", *prefixes), ("SCAN", 0, "COUNT", 1)
                )
        return session

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        try:
            async for frames in self._snapshot(again=False):
                yield frames

            while True:
                await self._news()
                self._ask()
                while self._reading is not None:
                    commits = await self._changes()
                    # the server finds the next values while the engine takes over these
                    self._ask()
                    yield commits

                self._answer_waiting()
                if self._pushes and self._pushes[0] is None:
                    # of any database: read it all again, and let the difference
                    # tell whether it was this one
                    self._pushes.popleft()
                    self._flushed = False
                    async for frames in self._snapshot(again=True):
                        yield frames
        finally:
            self._closed = True
            self._answer_waiting()

    async def ping(self) -> None:
        await self._store.ping()

    async def caught_up(self) -> None:
        # the server sends a push before, or together with, the answer to the write that it is about
        for link in self._store.links:
            await link.ask(("PING",))
        if not self._closed:
            waiter = asyncio.get_running_loop().create_future()
            self._pushes.append(waiter)
            self._wake.set()
            await waiter

    async def aclose(self) -> None:
        self._closed = True
        self._answer_waiting()
        self._wake.set()
        await self._store.aclose()
        if self._reading is not None:
            await ended(self._reading[1])

    def _pushed(self, server: str, push: Sequence[Any]) -> None:
        if push[:1] != [b"invalidate"]:
            return
        _, keys = shaped(push, tuple[bytes, list[bytes] | None], server)
        if keys is None:
            if not self._flushed:
                self._flushed = True
                self._pushes.append(None)
        else:
            waiting = self._waiting
            if new := [key for key in keys if key not in waiting]:
                waiting.update(new)
                self._pushes.append(new)
                self._size += _size_of(new)
        if self._size > self._caution.most:
            self._forget()
        self._wake.set()

    def _forget(self) -> None:
        """G9: more has changed than may wait here. None of it is needed where everything is
        read again, as after a flush."""
        waiters = [waiter for waiter in self._pushes if isinstance(waiter, asyncio.Future)]
        self._pushes = deque([None, *waiters])
        self._flushed = True
        self._waiting.clear()
        self._size = 0

    async def _snapshot(self, *, again: bool) -> AsyncIterator[Sequence[Frame]]:
        begin: list[Frame] = [SnapshotBegin(self._scopes)]
        if self._scopes:
            async for items in read_snapshot(self._store, self._scopes, self._batch, self._fetch):
                yield [*begin, SnapshotChunk(items)]
                begin = []
        yield [*begin, SnapshotEnd(None, same_history=again)]

    async def _fetch(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of keys. Where they cannot be read, the next session tries
        just these before it begins."""
        try:
            return await self._store.fetch(keys)
        except (Disconnected, Unauthorized):
            if not self._closed:
                self._caution.suspects = keys
            raise

    async def _news(self) -> None:
        """Wait for a push. Raises `Disconnected` once a connection is lost."""
        while not self._pushes:
            for link in self._store.links:
                if link.error is not None:
                    raise link.error
            if self._closed:
                raise Disconnected("the session is closed")
            self._wake.clear()
            await self._wake.wait()  # the engine's pings end it

    def _ask(self) -> None:
        """Ask for the values of the next keys that were pushed, unless
        something else comes before."""
        groups: list[Sequence[str]] = []
        keys: list[bytes] = []
        while self._pushes and len(keys) < self._batch.limit:
            push = self._pushes[0]
            if push is None or isinstance(push, asyncio.Future):
                break
            mine, texts = wanted_of(self._take(push, self._batch.limit - len(keys)), self._wanted)
            keys.extend(mine)
            groups.append(texts)
        self._reading = (groups, asyncio.ensure_future(self._fetch(keys))) if keys else None

    async def _changes(self) -> list[Frame]:
        """One commit for each of the pushes: their keys with what is there now."""
        assert self._reading is not None
        groups, fetching = self._reading
        values = await fetching
        self._batch.note(values)
        following = iter(values)
        # zip asks for a text first, so it takes no value too many
        return [
            Commit(None, 0, list(zip(texts, following, strict=False))) for texts in groups if texts
        ]

    def _take(self, push: Sequence[bytes], limit: int) -> Sequence[bytes]:
        """At most so many keys of the first push; what changes from now on is asked for again."""
        if len(push) > limit:
            self._pushes[0] = push[limit:]
            push = push[:limit]
        else:
            self._pushes.popleft()
        self._waiting.difference_update(push)
        self._size -= _size_of(push)
        return push

    def _answer_waiting(self) -> None:
        """All before the first of the pushes has been taken over; nothing more
        will be, once this is closed."""
        while self._pushes and (self._closed or isinstance(self._pushes[0], asyncio.Future)):
            waiter = self._pushes.popleft()
            if isinstance(waiter, asyncio.Future) and not waiter.done():
                waiter.set_result(None)


def _size_of(keys: Sequence[bytes]) -> int:
    """Bytes that keys which wait take."""
    return sum(map(len, keys)) + _BESIDE * len(keys)
