"""memory://: nothing to break but the application's own ways."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from datasync.kvdbsync.memory import MemorySource
from datasync.source import Commit, Frame, PushSession
from datasync.testing.chaos.store import Begin, Log, Store
from datasync.transports import open_url

__all__ = ["MemoryStore"]


class MemoryStore(Store):
    """A store in this process; a session of its own is its log."""

    def __init__(self) -> None:
        self.url = self.direct = f"memory://chaos-{uuid.uuid4().hex}"
        self.version = "in this process"
        self.faults = {}
        self.renewals = {}
        self.left_out = {"kill -9, SIGSTOP, the line": "there is no server and no line"}
        self._log: list[tuple[int, Mapping[str, bytes | None]]] = []
        self._session: PushSession | None = None

    async def start(self) -> None:
        source = open_url(self.url)
        assert isinstance(source, MemorySource)
        self._source = source
        session = await source.open([""])
        assert isinstance(session, PushSession)
        session.attach(self._heard)
        self._session = session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.aclose()

    async def part(self) -> None:
        pass

    async def rejoin(self) -> None:
        pass

    async def begin(self) -> Begin:
        self._log.clear()
        items, _ = await self._source.page("", None, 1 << 30)
        _, revision = await self.state()
        return Begin("", revision, items)

    async def log(self) -> Log:
        log = list(self._log)
        self._log.clear()
        return log

    async def state(self) -> tuple[Mapping[str, bytes], int]:
        items, _ = await self._source.page("", None, 1 << 30)
        committed = await self._source.commit([])  # which writes nothing, and tells where it stands
        return {key: raw for key, raw, _ in items}, committed.revision or 0

    def _heard(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if isinstance(frame, Commit):
                self._log.append((frame.revision, dict(frame.changes)))
