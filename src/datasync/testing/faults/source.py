"""A source in memory that fails on demand: for tests of handlers, of the engine, and of
whatever stands in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasync.errors import (
    Conflict,
    HistoryLost,
    OutcomeUnknown,
    UnsupportedOption,
)
from datasync.source import (
    Check,
    Committed,
    Delete,
    Item,
    Operation,
    Put,
    Result,
    Session,
    Source,
)
from datasync.testing.faults.session import FaultyPushSession, FaultySession
from datasync.testing.faults.store import FaultyStore, Position

__all__ = ["FaultySource"]


class FaultySource(FaultyStore, Source):
    """A whole store in this process, and a hand on everything that can go wrong with it.

        source = FaultySource({"config/a": b"1"}) sync = datasync.DataSync(source)
        source.write({"config/a": b"2", "config/b": None})     # a commit by somebody else
        source.disconnect(after=3)                             # the session breaks after three
        more frames

    It behaves as its `capabilities` say, and can imitate any source by them. Faults stay
    until they are taken back, all at once by `heal()`. Everything is immediate unless
    `delay` (seconds before each frame) says otherwise; waits are on the clock of the loop,
    so on a `SimLoop` they take no time.

    chunk: how many items are in one SnapshotChunk; a snapshot is read chunk by chunk, and commits
        may come between.
    batch: how many frames at most a session yields at once.
    partitions: with order="key", how many groups of keys go their own pace.
    push: sessions push their frames, as in-process sources may; `delay` and `hang` then do not hold
        frames back.
    bookmarks: a commit that lies outside the scopes of a session shows there as a bookmark.
    """

    # -- the source --------------------------------------------------------------------------------

    def attach(self, status: Callable[[], Any], panels: Mapping[str, Any]) -> None:
        self._users += 1

    async def aclose(self) -> None:
        self._users = max(0, self._users - 1)
        if self._hanging is not None and not self._users:
            hanging, self._hanging = self._hanging, asyncio.Event()
            hanging.set()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        if self._hanging_open is not None:
            await self._hanging_open.wait()
        await self.pause(self.delay)
        self.stumble("open")
        if self._down is not None:
            raise self._down
        if isinstance(resume, Position):
            if resume.history != self._histories:
                raise HistoryLost(
                    f"{self.name}: that position belongs to another history", changed=True
                )
            if min(resume.at) < self._compacted:
                raise HistoryLost(f"{self.name}: that position has been compacted")
        kind = FaultyPushSession if self._push else FaultySession
        session = kind(self, self._histories, scopes, resume, added)
        if self._cut_next is not None:
            session.cut(*self._cut_next)
            self._cut_next = None
        self._sessions.append(session)
        self.opened += 1
        return session

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        await self.answer()
        self.stumble("commit")

        changes: dict[str, bytes | None] = {}
        existed = []

        for operation in operations:
            match operation:
                case Check(key, revision):
                    if self.state.get(key, (b"", 0))[1] != revision:
                        raise Conflict(key, revision)
                case Put(key, raw):
                    changes[key] = raw
                case Delete(key, prefix):
                    keys = (
                        [known for known in sorted(self.state) if known.startswith(key)]
                        if prefix
                        else [key]
                    )
                    existed.append(any(known in self.state for known in keys))
                    changes.update(dict.fromkeys(keys))

        if len(changes) > 1 and not self.capabilities.transactions:
            raise UnsupportedOption(f"{self.name} has no transactions; write the keys one by one")

        verdict: asyncio.Future[Result] | None = None
        if reply:
            verdict = asyncio.get_running_loop().create_future()
            self._verdicts.add(verdict)
            verdict.add_done_callback(self._verdicts.discard)

        revision = self.write(changes, None if verdict is None else _settle(verdict))

        for operation in operations:
            if isinstance(operation, Put) and operation.ttl is not None:
                record = self.state[operation.key]
                asyncio.get_running_loop().call_later(
                    operation.ttl, self._expire, operation.key, record
                )

        if self._lost_acknowledgements:
            self._lost_acknowledgements -= 1
            self.disconnect()
            raise OutcomeUnknown(
                f"{self.name}: the connection died before the answer; read the key"
            )

        await self.pause(self.write_delay)
        return Committed(revision if self.capabilities.revisions else None, existed, verdict)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        await self.answer()
        return self.state.get(key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        await self.answer()
        rows, start = token or (
            [(key, *self.state[key]) for key in sorted(self.state) if key.startswith(prefix)],
            0,
        )
        page = rows[start : start + limit]
        if keys_only:
            page = [(key, b"", at) for key, _, at in page]
        return page, (rows, start + limit) if start + limit < len(rows) else None


def _settle(future: asyncio.Future[Result]) -> Callable[[Result], None]:
    return lambda result: None if future.done() else future.set_result(result)
