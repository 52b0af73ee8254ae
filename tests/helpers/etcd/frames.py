"""The frames of a session, one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from datasync import DataSync
from datasync.source import (
    Commit,
    Frame,
    Progress,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Source,
)

__all__ = ["Reader", "fill", "reader"]


class Reader:
    """Takes the frames of a session one by one."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._frames = self._all()

    async def _all(self) -> AsyncIterator[Frame]:
        async for frames in self.session:
            for frame in frames:
                yield frame

    async def next(self) -> Any:
        """The next frame."""
        async with asyncio.timeout(60):
            return await anext(self._frames)

    async def snapshot(self) -> tuple[dict[str, bytes], SnapshotEnd]:
        """The whole snapshot."""
        assert isinstance(await self.next(), SnapshotBegin)
        items: dict[str, bytes] = {}
        while not isinstance(frame := await self.next(), SnapshotEnd):
            assert isinstance(frame, SnapshotChunk)
            items.update((key, raw) for key, raw, _ in frame.items)
        return items, frame

    async def commit(self) -> Commit:
        """The next commit; bookmarks are passed by."""
        while isinstance(frame := await self.next(), Progress):
            pass
        assert isinstance(frame, Commit)
        return frame

    async def aclose(self) -> None:
        """End the session."""
        await self.session.aclose()


async def reader(
    source: Source, scopes: Sequence[str], resume: Any = None, added: Sequence[str] = ()
) -> Reader:
    """Of a new session."""
    return Reader(await source.open(scopes, resume, added))


async def fill(sync: DataSync, count: int, prefix: str = "a/", value: bytes = b"v" * 50) -> None:
    """Store so many keys."""
    for start in range(0, count, 100):
        txn = sync.txn()
        for number in range(start, min(count, start + 100)):
            txn.put(f"{prefix}{number:05}", value)
        await txn.commit()
