"""A source seen from below a prefix: the keys of one DataSync are relative to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import msgspec

from datasync.capabilities import Capabilities
from datasync.errors import Conflict
from datasync.source import (
    Check,
    Commit,
    Committed,
    Delete,
    Frame,
    Item,
    Operation,
    PushSession,
    Put,
    Reply,
    Result,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Source,
)

__all__ = ["Rooted"]


class Rooted(Source):
    """`source`, with `root` put before every key on the way in and taken off on the way out."""

    def __init__(self, source: Source, root: str) -> None:
        self.name = source.name
        self._source = source
        self._root = root

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """Those of the source, which may learn of them only when it connects."""
        return self._source.capabilities

    @property
    def relays(self) -> bool:  # type: ignore[override]
        """As `capabilities`."""
        return self._source.relays

    def used_by(self, status: Callable[[], Any]) -> None:
        self._source.used_by(status)

    async def open(self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()) -> Session:
        root = self._root
        session = await self._source.open([root + scope for scope in scopes], resume, [root + scope for scope in added])
        cut = _cutter(root)
        return _RootedPush(session, cut) if isinstance(session, PushSession) else _RootedSession(session, cut)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        root = self._root
        whole: list[Operation] = []
        for operation in operations:
            match operation:
                case Put(key, raw, ttl, content_type):
                    whole.append(Put(root + key, raw, ttl, content_type))
                case Delete(key, prefix):
                    whole.append(Delete(root + key, prefix))
                case Check(key, revision):
                    whole.append(Check(root + key, revision))
        try:
            committed = await self._source.commit(whole, reply=reply)
        except Conflict as conflict:
            raise Conflict(conflict.key.removeprefix(root), conflict.expected) from None
        if committed.by_key:
            by_key = {key[len(root) :]: revision for key, revision in committed.by_key.items()}
            committed = msgspec.structs.replace(committed, by_key=by_key)
        match committed.result:
            case None:
                return committed
            case Result() as result:
                return msgspec.structs.replace(committed, result=self._cut_reasons(result))
            case future:
                ours: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
                future.add_done_callback(lambda done: self._hand_over(done, ours))
                return msgspec.structs.replace(committed, result=ours)

    def _hand_over(self, theirs: asyncio.Future[Result], ours: asyncio.Future[Result]) -> None:
        if not ours.done() and not theirs.cancelled():
            ours.set_result(self._cut_reasons(theirs.result()))

    def _cut_reasons(self, result: Result) -> Result:
        if not result.reasons:
            return result
        reasons = {key.removeprefix(self._root): reason for key, reason in result.reasons.items()}
        return Result(result.verdict, reasons)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        return await self._source.get(self._root + key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        items, following = await self._source.page(self._root + prefix, token, limit, keys_only=keys_only)
        at = len(self._root)
        return [(key[at:], raw, revision) for key, raw, revision in items], following

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        return await self._source.replace((self._root + key, raw) for key, raw in items)

    async def aclose(self) -> None:
        await self._source.aclose()


Cut = Callable[[Sequence[Frame]], Sequence[Frame]]


def _cutter(root: str) -> Cut:
    at = len(root)

    def whole(reply: Reply | None) -> Reply | None:
        """The publisher hears of the keys by the names that it gave them."""
        if reply is None:
            return None
        return lambda result: reply(
            Result(result.verdict, {root + key: reason for key, reason in result.reasons.items()})
            if result.reasons
            else result
        )

    def cut(frames: Sequence[Frame]) -> Sequence[Frame]:
        return [one(frame) for frame in frames]

    def one(frame: Frame) -> Frame:
        match frame:
            case Commit(position, revision, changes, reply, final):
                return Commit(position, revision, [(key[at:], raw) for key, raw in changes], whole(reply), final)
            case SnapshotChunk(items):
                return SnapshotChunk([(key[at:], raw, revision) for key, raw, revision in items])
            case SnapshotBegin(scopes):
                return SnapshotBegin([scope[at:] for scope in scopes])
            case SnapshotEnd(reply=reply):
                return msgspec.structs.replace(frame, reply=whole(reply))
            case _:
                return frame

    return cut


class _RootedSession(Session):
    def __init__(self, session: Session, cut: Cut) -> None:
        self._session = session
        self._cut = cut

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        async for frames in self._session:
            yield self._cut(frames)

    async def ping(self) -> None:
        await self._session.ping()

    async def caught_up(self) -> None:
        await self._session.caught_up()

    async def aclose(self) -> None:
        await self._session.aclose()


class _RootedPush(_RootedSession, PushSession):
    def attach(self, push: Callable[[Sequence[Frame]], None]) -> None:
        assert isinstance(self._session, PushSession)
        cut = self._cut
        self._session.attach(lambda frames: push(cut(frames)))
