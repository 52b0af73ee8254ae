"""Following a session without an engine."""

from __future__ import annotations

import asyncio
from typing import Any

from datasync.source import Commit, Frame, Progress, PushSession, Session, SnapshotEnd
from datasync.testing.contract.waiting import eventually

__all__ = ["Following"]


class Following:
    """Takes all that a session yields, as the engine does. `taking` is its task;
    `frames` are those it has by now."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.frames: list[Frame] = []
        self.taking = asyncio.create_task(self._take())

    async def _take(self) -> None:
        if isinstance(self.session, PushSession):
            self.session.attach(self.frames.extend)
        async for frames in self.session:
            self.frames += frames

    @property
    def commits(self) -> list[Commit]:
        """All that it has brought."""
        return [frame for frame in self.frames if type(frame) is Commit]

    @property
    def position(self) -> Any | None:
        """Where it stands, with all that it has brought; None until its snapshot is complete."""
        for frame in reversed(self.frames):
            if isinstance(frame, SnapshotEnd | Commit | Progress):
                return frame.position
        return None

    async def brings(self, count: int) -> list[Commit]:
        """All that it has brought, once it has brought so many."""
        await eventually(lambda: len(self.commits) >= count)
        return self.commits

    async def aclose(self) -> None:
        """End it."""
        self.taking.cancel()
        await asyncio.wait([self.taking])
        await self.session.aclose()
