"""A session on a file: first a snapshot or what comes after a position, read in one
go, then the log as it grows."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future

from datasync.errors import Disconnected, HistoryLost
from datasync.kvdbsync.sqlite.driver import Connection
from datasync.kvdbsync.sqlite.file import SharedFile
from datasync.kvdbsync.sqlite.follower import Tail
from datasync.kvdbsync.sqlite.reader import read_apart
from datasync.kvdbsync.sqlite.rows import Ranges
from datasync.kvdbsync.sqlite.store import Head, Position, changes_behind, head, history
from datasync.shared import closed_on_error
from datasync.skipped_keys import SkippedKeys
from datasync.source import Frame, Session, SnapshotBegin, SnapshotChunk, SnapshotEnd

__all__ = ["SqliteSession"]

_CLOSE_TIMEOUT = 5.0
_BATCH, _BATCH_BYTES = 512, 1 << 20
_PORTION = 512
"""Rows and commits, about, that its reader gets at once: then the loop has its turn."""
_AHEAD = 8
"""Chunks of a snapshot that are read before the first of them is taken, ..."""
_IDLE = 1.0
"""... unless nobody takes any for so many seconds: an open read lets the WAL grow."""


class SqliteSession(Session):
    """Holds its file from `start` to `aclose`. `named` gives the history of a
    snapshot its name for the engine."""

    def __init__(
        self,
        file: SharedFile,
        name: str,
        scopes: Sequence[str],
        added: Sequence[str],
        resume: Position | None,
        named: Callable[[Connection, str], str],
        seen: Callable[[Position], None],
        skipped: SkippedKeys,
    ) -> None:
        self._file = file
        self._name = name
        self._kept = [scope for scope in scopes if scope not in added]
        self._added = list(added)

        self._resume = resume
        self._named = named
        self._seen = seen
        self._skipped = skipped

        self._loop = asyncio.get_running_loop()
        self._waiting: collections.deque[tuple[Sequence[Frame], int, int]] = collections.deque()
        """What was read, with its bytes and the number of its rows or commits."""

        self._room = threading.Semaphore(_AHEAD)
        self._is_read = True
        """Whether somebody takes what the reading thread hands over."""

        self._error: Exception | None = None
        self._closed = self._released = False
        self._waiter: asyncio.Future[None] | None = None

        # who resumes has taken over all up to there, though nothing may come after it
        self._given = self._taken = -1 if resume is None or added else resume[1]
        """The revision that was handed over last, and how far that is taken over."""

        self._moved = asyncio.Event()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._tail: Tail | None = None

        file.hold()
        self._reading = read_apart(file, self._read)
        self._reading.add_done_callback(lambda reading: self._in_loop(self._read_ended, reading))

    async def start(self) -> None:
        """Return once it stands: the proof of `resume` holds, or the snapshot has begun."""
        async with closed_on_error(self.aclose):
            await self._opened

    # in the reading thread

    def _read(self, connection: Connection) -> None:
        name = history(connection)
        now = head(connection)

        ranges = Ranges([*self._kept, *self._added])
        resume = self._resume

        if resume is None:
            label = self._named(connection, name)
            self._in_loop(self._set_opened)
            self._tail = self._make_tail((name, now.revision, now.nonce), ranges)
            self._snapshot(connection, [*self._kept, *self._added], now, label)
            return

        if resume[0] != name:
            raise HistoryLost(
                f"{self._file.path} has another history by now; take a snapshot", changed=True
            )

        if not self._added:
            # the rest is the follower's, which reads no faster than it is read
            changes_behind(connection, resume, 0, 1)
            self._in_loop(self._set_opened)
            self._tail = self._make_tail(resume, ranges)
            return

        batch = changes_behind(connection, resume, _BATCH, _BATCH_BYTES)
        self._in_loop(self._set_opened)
        kept = Ranges(self._kept)

        while batch.commits and not self._closed:
            frames = kept.cut(batch.commits)
            self._hand_over(frames, batch.size)
            batch = changes_behind(connection, frames[-1].position, _BATCH, _BATCH_BYTES)

        self._tail = self._make_tail((name, now.revision, now.nonce), ranges)
        self._snapshot(connection, self._added, now, self._named(connection, name))

    def _make_tail(self, position: Position, ranges: Ranges) -> Tail:
        return Tail(self._name, position, ranges, self._loop, self._deliver, self._fail)

    def _snapshot(self, connection: Connection, scopes: list[str], now: Head, label: str) -> None:
        tail = self._tail
        assert tail is not None
        self._hand_over([SnapshotBegin(scopes)], 0)
        for rows in Ranges(scopes).read(connection, self._skipped):
            if self._closed or self._file.lost is not None:
                self._file.check()
                return
            self._hand_over([SnapshotChunk(rows)], 0, len(rows))
        self._hand_over([SnapshotEnd(tail.position, now.revision, label)], 0)

    def _hand_over(self, frames: Sequence[Frame], size: int, rows: int = 0) -> None:
        self._is_read = self._is_read and self._room.acquire(timeout=_IDLE)
        self._in_loop(self._deliver, frames, size, rows)

    def _in_loop(self, call: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed without closing the session
            self._loop.call_soon_threadsafe(call, *args)

    # in the loop

    def _set_opened(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _read_ended(self, reading: Future[None]) -> None:
        error = reading.exception()
        if error is not None:
            assert isinstance(error, Exception)
            if self._opened.done():
                self._fail(error)
            else:
                self._opened.set_exception(error)
        elif self._tail is not None and not self._closed:
            self._file.follower.add(self._tail)

    def _deliver(self, frames: Sequence[Frame], size: int, rows: int = 0) -> None:
        self._waiting.append((frames, size, rows or len(frames)))
        self._wake()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake()
        self._moved.set()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        return self

    async def __anext__(self) -> Sequence[Frame]:
        self._taken = self._given
        self._moved.set()
        if self._waiting:
            await asyncio.sleep(0)  # however much there is to read, others have their turn
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

        frames: list[Frame] = []
        size = weight = 0
        while self._waiting and weight < _PORTION:
            batch, bytes_, rows = self._waiting.popleft()
            frames += batch
            size += bytes_
            weight += rows
            self._room.release()
        if self._tail is not None and size:
            self._tail.taken += size
            if self._tail.paused:
                self._file.follower.wake()
        position = getattr(frames[-1], "position", None)
        if position is not None:
            self._given = position[1]
            self._seen(position)
        return frames

    async def ping(self) -> None:
        self._file.check_name(self._name)
        await self._file.follower.call(lambda connection: None)

    async def caught_up(self) -> None:
        self._file.check_name(self._name)
        goal = (await self._file.follower.call(head)).revision
        self._file.follower.wake()  # the bell of another process may not have been heard yet
        while self._taken < goal:
            if self._error is not None or self._closed:
                raise self._error or Disconnected(
                    f"{self._file.path} is being closed; open it again"
                )
            self._moved.clear()
            await self._moved.wait()

    async def aclose(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._room.release()
        self._wake()
        self._moved.set()
        if self._released:
            return
        self._released = True
        try:
            reading = asyncio.gather(asyncio.wrap_future(self._reading), return_exceptions=True)
            await asyncio.wait((reading,), timeout=_CLOSE_TIMEOUT)
        finally:
            tail, self._tail = self._tail, None  # G9: it leads back here, and what was read does
            del self._reading
            if tail is not None:
                self._file.follower.remove(tail)
            await self._file.release()
