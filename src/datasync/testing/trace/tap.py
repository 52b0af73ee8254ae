"""A source whose sessions are recorded: what they hand over is noted, and passed on unchanged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from datasync.forwarding import ForwardingPush, ForwardingSession, ForwardingSource
from datasync.source import (
    Commit,
    Frame,
    Progress,
    PushSession,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Source,
)

__all__ = ["SessionListener", "TappedSource"]

_REMEMBERED = 1000  # positions that a session may be resumed at


class SessionListener(Protocol):
    """Who wants to know what sessions do; a `Recorder` does."""

    def session_opened(
        self, source: str, scopes: Sequence[str], resume: int | None, added: Sequence[str]
    ) -> int:
        """A session was opened, after the revision `resume`; returns its number."""

    def frame(self, source: str, session: int, kind: str, **carried: Any) -> None:
        """A session hands over a frame."""

    def session_ended(self, source: str, session: int, error: BaseException | None) -> None:
        """A session ended, or could not be opened (session 0)."""


class TappedSource(ForwardingSource):
    """`source`, whose sessions `listener` hears of."""

    def __init__(self, source: Source, listener: SessionListener) -> None:
        super().__init__(source)
        self._listener = listener
        self._positions: deque[tuple[Any, int]] = deque(maxlen=_REMEMBERED)

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        at = None if resume is None else self._revision_at(resume)
        try:
            session = await self._source.open(scopes, resume, added)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._listener.session_ended(self.name, 0, error)
            raise
        number = self._listener.session_opened(self.name, scopes, at, added)
        tapped = _TappedPush if isinstance(session, PushSession) else _TappedSession
        return tapped(session, self, number)

    def heard(self, session: int, frames: Sequence[Frame]) -> None:
        """Record frames that are handed over."""
        for frame in frames:
            note = self._listener.frame
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
                    note(
                        self.name,
                        session,
                        "commit",
                        revision=revision,
                        keys=[key for key, _ in changes],
                    )
                case Progress(position, revision):
                    self._positions.append((position, revision))
                    note(self.name, session, "progress", revision=revision)

    def ended(self, session: int, error: BaseException | None) -> None:
        """Record the end of a session."""
        self._listener.session_ended(self.name, session, error)

    def _revision_at(self, position: Any) -> int | None:
        return next(
            (revision for known, revision in reversed(self._positions) if known == position), None
        )


class _TappedSession(ForwardingSession):
    def __init__(self, session: Session, source: TappedSource, number: int) -> None:
        def heard(frames: Sequence[Frame]) -> Sequence[Frame]:
            # G9: it does not lead back to this session
            source.heard(number, frames)
            return frames

        super().__init__(session, heard)
        self._source = source
        self._number = number

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        error: BaseException | None = None
        try:
            async for frames in super().__aiter__():
                yield frames
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._source.ended(self._number, error)


class _TappedPush(_TappedSession, ForwardingPush):
    pass
