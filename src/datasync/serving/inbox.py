"""The inbox: what remote clients push to an agent, and no store keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from datasync.errors import NotReady
from datasync.kvdbsync.memory import MemorySession, MemorySource, result_of
from datasync.outcome import Tally
from datasync.source import Committed, Item, Operation, Scopes, Session

__all__ = ["Inbox"]

_REOPENING = 1.0
"""Seconds within which an engine that closed its session, to watch more, has opened the next."""


class Inbox(MemorySource):
    """A memory store whose whole content a client replaces (a RESYNC), or changes.

    Until the first `replace` it is not ready: its sessions bring nothing, and
    everything else raises `NotReady`.
    name: how messages and `status()` call it.
    empty: begin ready, and empty.
    """

    def __init__(self, name: str, *, empty: bool = False) -> None:
        super().__init__()
        self.name = name
        self.ready = empty
        self._followed = asyncio.Event()
        self._followed.set()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        self._followed.set()
        if not self.ready:
            return MemorySession(self, Scopes(scopes), ())
        return await super().open(scopes, resume, added)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        """Hold just these keys from now on; none at all means that everything is gone.

        All watches are resynced, and `result` is their verdict, or a future of it. A later one of
        two items with the same key counts.
        """
        self._enter()
        await self._until_followed()
        self.widenings.now()
        self._revision += 1
        self._items = {key: (raw, self._revision) for key, raw in items}
        self._order.forget()
        for _, timer in self._expiries.values():
            timer.cancel()
        self._expiries.clear()
        self._clear_log()
        self.ready = True
        sessions, written = list(self._sessions), self._revision
        tally = Tally(expected=1 + len(sessions))
        self._send([(session, self._snapshot(session.scopes, tally)) for session in sessions])
        tally.close()
        return Committed(written, (), tally.result or result_of(tally))

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        self._check_ready()
        if reply and not self._followed.is_set():
            await self._until_followed()
        return await super().commit(operations, reply=reply)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        self._check_ready()
        return await super().get(key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        self._check_ready()
        return await super().page(prefix, token, limit, keys_only=keys_only)

    def widened(self, session: MemorySession, added: Scopes) -> None:
        if self.ready:  # else the first state that is pushed shows all of it
            super().widened(session, added)

    def left(self, session: MemorySession) -> None:
        super().left(session)
        self._followed.clear()

    async def _until_followed(self) -> None:
        """An engine between two sessions would have no say in the verdict:
        give it the time to come back."""
        if not self._followed.is_set():
            try:
                async with asyncio.timeout(_REOPENING):
                    await self._followed.wait()
            except TimeoutError:
                self._followed.set()  # it will not come back

    def _check_ready(self) -> None:
        if not self.ready:
            raise NotReady(
                f"{self.name} has not been given its state yet; send all of it (a RESYNC) first, "
                "or begin with ?initial=empty"
            )
