"""The thread that follows the log of a file for all sessions in the
process, and answers its single reads.

It waits on inotify itself, so that a commit of another process needs one change of
threads until its frames are in the event loop. The log is read once for all sessions
that stand at the same position.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

from datasync.errors import Disconnected, HistoryLost
from datasync.frames import Frame
from datasync.kvdbsync.sqlite.bell import CommitWatcher
from datasync.kvdbsync.sqlite.driver import Connection
from datasync.kvdbsync.sqlite.opened import OpenFile
from datasync.kvdbsync.sqlite.rows import Ranges
from datasync.kvdbsync.sqlite.store import Batch, Position, changes_behind

__all__ = ["Follower", "Tail"]

T = TypeVar("T")

_WITH_BELL, _WITHOUT_BELL = 1.0, 0.25
"""Seconds between two looks at the log and the file itself that nobody asked for."""
_BATCH, _BATCH_BYTES = 512, 1 << 20
_AHEAD_BYTES = 8 << 20


class Tail:
    """The position of one session in the log, and the way to hand it frames:
    both are called in its event loop.

    `name` is the path by which it was opened.
    """

    def __init__(
        self,
        name: str,
        position: Position,
        ranges: Ranges,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[Sequence[Frame], int], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self.name = name
        self.position = position
        self.ranges = ranges
        self.loop = loop
        self.deliver = deliver
        self.fail = fail
        # each is written by one thread only: what was handed over so far, what was
        # taken by the session's reader
        self.sent = 0
        self.taken = 0
        self.paused = False

    def has_room(self) -> bool:
        """Whether the session is to be read for. One that is not read
        itself must not fill the memory."""
        if self.sent - self.taken < _AHEAD_BYTES:
            return True
        self.paused = True
        # the reader may have taken it all before it could see that it must wake us
        self.paused = self.sent - self.taken >= _AHEAD_BYTES
        return not self.paused


class Follower:
    """One thread with one connection to read by. `ended` is done when it has ended.

    In the thread, `prepare` gives it its first connection, and `last`
    returns when nobody else has one.
    """

    def __init__(
        self,
        file: OpenFile,
        watcher: CommitWatcher,
        prepare: Callable[[], Connection],
        last: Callable[[], None],
    ) -> None:
        self.ended: Future[None] = Future()
        self._file = file
        self._watcher = watcher
        self._prepare = prepare
        self._last = last
        self._tails: list[Tail] = []
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._connection: Connection | None = None
        self._stopping = False
        self._awake = self._news = False
        self._sleeper, self._waker = socket.socketpair()
        for end in (self._sleeper, self._waker):
            end.setblocking(False)
        self._thread = threading.Thread(
            target=self._run, name="datasync-sqlite-follow", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self.wake()

    @property
    def hears(self) -> bool:
        """Whether commits of other processes wake it at once."""
        return self._watcher.watching

    def committed(self, rang: bool) -> None:
        """Told by the writer of this process: wake, unless there is no
        session, or the bell does so."""
        if self._tails and not (rang and self._watcher.watching):
            self.wake()

    def wake(self, *, news: bool = True) -> None:
        """Make it look at the log now, or at the calls only. From any thread."""
        self._news = self._news or news
        if not self._awake:
            self._awake = True
            try:
                self._waker.send(b"!")
            except OSError:
                return  # it has ended, or is awake as it is

    def add(self, tail: Tail) -> None:
        """Begin to follow for a session."""
        self._calls.append(lambda: self._tails.append(tail))
        self.wake()
        if self._stopping:  # it may have ended without seeing this
            tail.fail(self._file.closing())

    def remove(self, tail: Tail) -> None:
        """End it. What was handed over before may still arrive."""
        self._calls.append(lambda: self._tails.remove(tail) if tail in self._tails else None)
        self.wake()

    def ask(self, read: Callable[[Connection], T]) -> Future[T]:
        """The result of `read`, run in this thread outside of any transaction."""
        done: Future[T] = Future()

        def answer() -> None:
            with contextlib.suppress(InvalidStateError):  # it was cancelled, or this was stopped
                try:
                    self._file.check()
                    self._file.check_schema(self._reader())
                    done.set_result(read(self._reader()))
                except InvalidStateError:
                    raise
                except Exception as error:
                    self._failed(error)
                    done.set_exception(self._file.explain(error))

        self._calls.append(answer)
        self.wake(news=False)
        if self._stopping:  # it may have ended without seeing this
            with contextlib.suppress(InvalidStateError):
                done.set_exception(self._file.closing())
        return done

    async def call(self, read: Callable[[Connection], T]) -> T:
        """As `ask`, waited for."""
        return await asyncio.wrap_future(self.ask(read))

    def _run(self) -> None:
        try:
            try:
                self._connection = self._prepare()
            except Exception:  # the error is with those who wait for the file
                return
            self._loop()
        finally:
            # of two that close at the same time neither would be the last
            # one, who tidies the WAL away
            self._last()
            self._close()
            self._file.end()
            self._watcher.close()
            self._sleeper.close()
            self._waker.close()
            self.ended.set_result(None)

    def _loop(self) -> None:
        watcher = self._watcher
        with selectors.DefaultSelector() as selector:
            selector.register(self._sleeper, selectors.EVENT_READ)
            listening = more = False
            look = 0.0
            while not self._stopping:
                if bool(self._tails) != listening:
                    listening = not listening
                    if watcher.fd >= 0:
                        (
                            selector.register(watcher.fd, selectors.EVENT_READ)
                            if listening
                            else selector.unregister(watcher.fd)
                        )
                    look = 0.0

                wait: float | None = None
                if listening:
                    wait = 0.0 if more else max(0.0, look - time.monotonic())
                elif self._file.read_only:
                    # nobody else here looks whether the files are still those that are open
                    wait = _WITH_BELL

                for key, _ in selector.select(wait):
                    if key.fd == watcher.fd:
                        self._news = True
                        if watcher.read():
                            look = 0.0
                    else:
                        self._drain()

                while self._calls:
                    self._calls.popleft()()

                if time.monotonic() >= look:
                    if self._tails:
                        watcher.watch()
                    self._check()
                    look = time.monotonic() + (_WITH_BELL if watcher.watching else _WITHOUT_BELL)
                    self._news = True

                if self._news or more:
                    self._news = False
                    more = self._follow()

        while self._calls:
            self._calls.popleft()()
        self._end(self._tails, self._file.closing())

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._sleeper.recv(4096)
        # only now: a caller that saw it set, and so sent nothing, is served in this very turn
        self._awake = False

    def _check(self) -> None:
        try:
            self._file.check()
            if self._tails:
                self._file.check_schema(self._reader())
        except Disconnected as error:
            self._end(self._tails, error)
        except Exception as error:
            self._give_up(self._tails, error)
        for name in {tail.name for tail in self._tails}:
            try:
                self._file.check_name(name)
            except Disconnected as error:
                self._end([tail for tail in self._tails if tail.name == name], error)

    def _follow(self) -> bool:
        """Hand on what is new; whether there is more to be read at once."""
        standing: dict[Position, list[Tail]] = {}
        for tail in self._tails:
            if tail.has_room():
                standing.setdefault(tail.position, []).append(tail)
        more = False
        for position, tails in standing.items():
            try:
                batch = changes_behind(self._reader(), position, _BATCH, _BATCH_BYTES)
            except HistoryLost as error:
                self._end(tails, error)
            except Exception as error:
                self._give_up(tails, error)
            else:
                more = more or batch.more
                for tail in tails:
                    self._hand_over(tail, batch)
        return more

    def _hand_over(self, tail: Tail, batch: Batch) -> None:
        if batch.commits:
            frames = tail.ranges.cut(batch.commits)
            tail.position = frames[-1].position
            tail.sent += batch.size
            try:
                tail.loop.call_soon_threadsafe(tail.deliver, frames, batch.size)
            except RuntimeError:  # its loop was closed without closing the session
                self._tails.remove(tail)

    def _give_up(self, tails: list[Tail], error: Exception) -> None:
        self._failed(error)
        known = self._file.explain(error)
        # what else is wrong with the file is found when it is reopened
        self._end(tails, known if isinstance(known, Disconnected) else Disconnected(str(known)))

    def _end(self, tails: list[Tail], error: Exception) -> None:
        for tail in list(tails):
            self._tails.remove(tail)
            try:
                tail.loop.call_soon_threadsafe(tail.fail, error)
            except RuntimeError:
                continue

    def _reader(self) -> Connection:
        if self._connection is None:
            self._connection = self._file.connect()
        return self._connection

    def _failed(self, error: Exception) -> None:
        """A connection that failed is not used again."""
        if isinstance(error, self._file.library.error):
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._file.disconnect(connection)
