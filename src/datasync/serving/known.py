"""What a DataSync knows, as a source: a hub serves it, and nothing more is asked of any store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from datasync.capabilities import Capabilities
from datasync.checks import read_only
from datasync.errors import NotReady
from datasync.frames import Commit, Frame, SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.source import (
    ROW_BYTES,
    Committed,
    Held,
    Item,
    Operation,
    PushSession,
    Session,
    Source,
)
from datasync.syncbase.engine import Engine
from datasync.syncbase.mirror import Diff

__all__ = ["Commits", "Known"]

Commits = Callable[[Sequence[Operation], bool], Awaitable[Committed]]
"""Writes, and waits for the verdict of the watches where it is asked to."""


class Known(Source):
    """The merged state of all sources of a DataSync, as far as its watches and views want it.

    engine: that of the DataSync.
    sources: its own, whose promises hold here too where there is only one.
    commit: how it writes; None (the default) where nothing may be written.
    """

    def __init__(
        self, engine: Engine, sources: Sequence[Source], commit: Commits | None = None
    ) -> None:
        self.name = ", ".join(layer.name for layer in engine.layers)
        self._engine = engine
        self._sources = sources
        self._commit = commit

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """Those of the one source; of several, what is true of each key for itself."""
        can = self._sources[0].capabilities
        if len(self._sources) > 1:
            can = msgspec.structs.replace(
                can, order="key", snapshot="fuzzy", every_value=False, revisions=False, cas=False
            )
        # positions are not kept, and the state goes with the process
        return msgspec.structs.replace(
            can,
            resume=False,
            durable=False,
            writable=can.writable and self._commit is not None,
            reply=self._commit is not None and (can.reply or self._engine.has_watches),
        )

    @property
    def instead_of_writing(self) -> str:  # type: ignore[override]
        """What a writer is to do where the page only reads, or the source does."""
        if self._commit is None:
            return "this page only reads: write to the source, or make the page writable=True"
        return self._sources[0].instead_of_writing

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        return _KnownSession(self._engine)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        if self._commit is None:
            raise read_only(self)
        return await self._commit(operations, reply)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        self._check_ready()
        record = self._engine.read(key)
        return None if record is None else (record.raw, record.revision)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        if token is None:
            self._check_ready()
            rows = self._engine.items(prefix)
            token = Held(rows, 0, sum(ROW_BYTES + len(record.raw) for _, record in rows))
        shown, following = token.page(limit)
        items = [(key, b"" if keys_only else record.raw, record.revision) for key, record in shown]
        return items, following

    def _check_ready(self) -> None:
        if not self._engine.started:
            raise NotReady(f"the state of {self.name} is not complete yet; try again later")


class _KnownSession(PushSession):
    """Pushes what the engine takes over, once its first state is complete."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._push: Callable[[Sequence[Frame]], None] | None = None
        self._epochs: list[int] | None = None
        """Of the layers, as of the last snapshot; None before the first."""
        self._due: asyncio.Handle | None = None
        self._closed = asyncio.Event()

    def attach(self, push: Callable[[Sequence[Frame]], None]) -> None:
        self._push = push
        self._engine.look_on(self)
        self._show()

    def widen(self, scopes: Sequence[str], added: Sequence[str]) -> None:
        """A hub follows everything from the start: there is nothing wider."""

    def committed(self, diffs: Sequence[Diff], revision: int) -> None:
        if self._due is None and self._epochs is not None:  # else the snapshot to come shows it
            changes = [(key, None if new is None else new.raw) for key, _, new in diffs]
            self._send([Commit(None, revision, changes)])

    def replaced(self) -> None:
        # snapshots of several layers, and what they make superfluous, come together
        if self._due is None:
            self._due = asyncio.get_running_loop().call_soon(self._show)

    def _show(self) -> None:
        """Push all that is known, unless it is not complete yet."""
        self._due = None
        if not self._engine.started:
            return
        items = [(key, record.raw, record.revision) for key, record in self._engine.items("")]
        layers = self._engine.layers
        epochs = [layer.epoch for layer in layers]
        same, self._epochs = epochs == self._epochs, epochs
        revision = max(layer.revision for layer in layers)
        end = SnapshotEnd(None, revision, same_history=same)
        self._send([SnapshotBegin([""]), SnapshotChunk(items), end])

    def _send(self, frames: Sequence[Frame]) -> None:
        assert self._push is not None
        self._push(frames)

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        await self._closed.wait()
        return
        yield  # an async generator that yields nothing

    async def caught_up(self) -> None:
        await self._engine.fresh()

    async def aclose(self) -> None:
        self._closed.set()
        if self._due is not None:
            self._due.cancel()
        if self._push is not None:
            self._engine.look_away(self)
            self._push = None
