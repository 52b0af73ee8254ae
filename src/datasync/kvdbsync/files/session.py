"""A session: it pushes what the looks at the files bring into one engine."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from datasync.scopes import Scopes, is_prefix
from datasync.source import (
    Commit,
    Frame,
    PushSession,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)

__all__ = ["FilesSession"]

State = Mapping[str, bytes]


class FilesSession(PushSession):
    """Follows the state of a source.

    state: asked for what there is; None before the files were good for the first time.
    fresh: brings the state up to date; raises where the files are gone.
    answered: returns once the file system has answered.
    closed: told that this one ends.
    """

    def __init__(
        self,
        scopes: Sequence[str],
        state: Callable[[], State | None],
        fresh: Callable[[], Awaitable[object]],
        answered: Callable[[], Awaitable[object]],
        closed: Callable[[FilesSession], object],
    ) -> None:
        self._scopes = Scopes(scopes)
        self._state = state
        self._fresh = fresh
        self._answered = answered
        self._closed = closed
        self._push: Callable[[Sequence[Frame]], None] | None = None
        self._outbox: deque[Sequence[Frame]] = deque()
        self._pushing = False
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def attach(self, push: Callable[[Sequence[Frame]], None]) -> None:
        self._push = push
        self.begin()

    def begin(self) -> None:
        """Show all of a state that is ready; a session that is not attached will."""
        self._show(self._scopes)

    def widen(self, scopes: Sequence[str], added: Sequence[str]) -> None:
        self._scopes = Scopes(scopes)
        self._show(Scopes(added), same_history=True)

    def _show(self, scopes: Scopes, *, same_history: bool = False) -> None:
        state = self._state()
        if self._push is not None and state is not None:
            self._send(_snapshot(state, scopes, same_history=same_history))

    def commit(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        """Show what has changed, as far as it lies in the scopes."""
        if self._push is not None and (kept := self._scopes.keep(changes)):
            self._send([Commit(0, 0, kept)])

    def fail(self, error: Exception) -> None:
        """End: nothing follows the files any more."""
        self._push = None
        if not self._end.done():
            self._end.set_exception(error)
            self._end.exception()  # who iterates hears of it

    def _send(self, frames: Sequence[Frame]) -> None:
        """Push frames. Handlers run meanwhile, and may register more: that goes out after it."""
        self._outbox.append(frames)
        if self._pushing or self._push is None:
            return
        self._pushing = True
        try:
            while self._outbox:
                self._push(self._outbox.popleft())
        finally:
            self._pushing = False

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        await asyncio.shield(self._end)
        return
        yield  # an async generator that yields nothing

    async def ping(self) -> None:
        await self._answered()

    async def caught_up(self) -> None:
        await self._fresh()

    async def aclose(self) -> None:
        self._push = None
        if not self._end.done():
            self._end.set_result(None)
        self._closed(self)


def _snapshot(state: State, scopes: Scopes, *, same_history: bool) -> list[Frame]:
    items = [
        (key, state[key], 0)
        for scope in scopes.minimal()
        for key in (_under(state, scope) if is_prefix(scope) else [scope])
        if key in state
    ]
    end = SnapshotEnd(0, same_history=same_history)
    return [SnapshotBegin(list(scopes)), SnapshotChunk(items), end]


def _under(state: State, prefix: str) -> list[str]:
    return sorted(key for key in state if key.startswith(prefix))
