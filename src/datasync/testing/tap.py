"""A source with an ear at its sessions: what it hands over is recorded, and passed on unchanged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from datasync.capabilities import Capabilities
from datasync.source import (
    Commit,
    Committed,
    Frame,
    Item,
    Operation,
    Progress,
    PushSession,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Source,
)

if TYPE_CHECKING:
    from datasync.testing.recorder import Recorder

__all__ = ["TappedSource"]

_REMEMBERED = 1000  # positions that a session may be resumed at


class TappedSource(Source):
    """`source`, recorded by `recorder`."""

    def __init__(self, source: Source, recorder: Recorder) -> None:
        self.name = source.name
        self._source = source
        self._recorder = recorder
        self._positions: deque[tuple[Any, int]] = deque(maxlen=_REMEMBERED)

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """Those of the source, which may learn of them only when it connects."""
        return self._source.capabilities

    @property
    def relays(self) -> bool:  # type: ignore[override]
        """As `capabilities`."""
        return self._source.relays

    async def open(self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()) -> Session:
        at = None if resume is None else self._revision_at(resume)
        try:
            session = await self._source.open(scopes, resume, added)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._recorder.session_ended(self.name, 0, error)
            raise
        number = self._recorder.session_opened(self.name, scopes, at, added)
        tapped = _TappedPush if isinstance(session, PushSession) else _TappedSession
        return tapped(session, self, number)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        return await self._source.commit(operations, reply=reply)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        return await self._source.get(key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        return await self._source.page(prefix, token, limit, keys_only=keys_only)

    async def delete_raw(self, key: bytes) -> bool:
        return await self._source.delete_raw(key)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        return await self._source.replace(items)

    def used_by(self, status: Callable[[], Any]) -> None:
        self._source.used_by(status)

    async def aclose(self) -> None:
        await self._source.aclose()

    def heard(self, session: int, frames: Sequence[Frame]) -> None:
        """Record frames that are handed over."""
        for frame in frames:
            note = self._recorder.frame
            match frame:
                case SnapshotBegin(scopes):
                    note(self.name, session, "begin", scopes=scopes)
                case SnapshotChunk(items):
                    note(self.name, session, "chunk", keys=[item[0] for item in items])
                case SnapshotEnd(position, revision, history):
                    self._positions.append((position, revision))
                    note(self.name, session, "end", revision=revision, history=history)
                case Commit(position, revision, changes):
                    self._positions.append((position, revision))
                    note(self.name, session, "commit", revision=revision, keys=[key for key, _ in changes])
                case Progress(position, revision):
                    self._positions.append((position, revision))
                    note(self.name, session, "progress", revision=revision)

    def ended(self, session: int, error: BaseException | None) -> None:
        """Record the end of a session."""
        self._recorder.session_ended(self.name, session, error)

    def _revision_at(self, position: Any) -> int | None:
        return next((revision for known, revision in reversed(self._positions) if known == position), None)


class _TappedSession(Session):
    def __init__(self, session: Session, source: TappedSource, number: int) -> None:
        self._session = session
        self._source = source
        self._number = number
        self.exclusive = session.exclusive

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        error: BaseException | None = None
        try:
            async for frames in self._session:
                self._source.heard(self._number, frames)
                yield frames
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._source.ended(self._number, error)

    async def ping(self) -> None:
        await self._session.ping()

    async def caught_up(self) -> None:
        await self._session.caught_up()

    async def aclose(self) -> None:
        await self._session.aclose()


class _TappedPush(_TappedSession, PushSession):
    def attach(self, push: Callable[[Sequence[Frame]], None]) -> None:
        assert isinstance(self._session, PushSession)

        def heard(frames: Sequence[Frame]) -> None:
            self._source.heard(self._number, frames)
            push(frames)

        self._session.attach(heard)

    def widen(self, scopes: Sequence[str], added: Sequence[str]) -> None:
        assert isinstance(self._session, PushSession)
        self._session.widen(scopes, added)

    def widen_soon(self, widen: Callable[[], None]) -> None:
        assert isinstance(self._session, PushSession)
        self._session.widen_soon(widen)
