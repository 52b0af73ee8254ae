"""The thread that writes to a file for the whole process: group commits, expiry and the bell.

All transactions that wait when it is free go into one SQLite transaction, each with a revision of
its own, so they share one COMMIT. A Conflict is found before its transaction has written
anything, so it needs no savepoint.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import math
import os
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from datasync.errors import Conflict, DataSyncError, OutcomeUnknown, WatchClosed
from datasync.kvdbsync.sqlite.clock import Clock
from datasync.kvdbsync.sqlite.driver import Connection, surely_undone
from datasync.kvdbsync.sqlite.follower import settle
from datasync.kvdbsync.sqlite.opened import OpenFile
from datasync.kvdbsync.sqlite.store import DeleteRaw, Transactions, next_expiry
from datasync.source import Committed, Operation

__all__ = ["Job", "Writer"]

_GROUP = 4_096
"""Operations after which a group takes no further transaction, so that others
get their turn of the lock."""
_TICK = 1.0
"""Seconds after which a key that another process gave a TTL is noticed,
should that process have died."""
_WAL_LIMIT = 64 << 20


class Job:
    """One transaction that somebody waits for. Its `future` is done after the
    COMMIT, or once it was withdrawn."""

    __slots__ = ("_begun", "_lock", "_withdrawn", "future", "loop", "operations")

    def __init__(
        self,
        operations: Sequence[Operation | DeleteRaw],
        loop: asyncio.AbstractEventLoop,
        lock: threading.Lock,
    ) -> None:
        self.operations = operations
        self.loop = loop
        self.future: asyncio.Future[Committed] = loop.create_future()
        self._lock = lock
        self._begun = self._withdrawn = False

    def begin(self) -> bool:
        """In the writer's thread: False if nobody wants it any more; else it can
        only be withdrawn as begun."""
        with self._lock:
            self._begun = not (self._withdrawn or self.future.cancelled())
            return self._begun

    @property
    def wanted(self) -> bool:
        """Whether it is still to be done."""
        return not (self._withdrawn or self.future.cancelled())

    def undone(self) -> None:
        """In the writer's thread: it was rolled back."""
        with self._lock:
            self._begun = False

    def withdraw(self, what: str) -> bool:
        """In its loop: whether it is being carried out. Otherwise it never will be,
        and who waits hears so now."""
        with self._lock:
            self._withdrawn = True
            begun = self._begun
        if not begun and not self.future.done():
            self.future.set_exception(
                WatchClosed(f"{what} was closed, nothing was written; open it again")
            )
        return begun

    def give_up(self, what: str) -> None:
        """In its loop: have nobody wait for it any longer."""
        if not self.future.done():
            self.future.set_exception(
                OutcomeUnknown(
                    f"{what} was closed while it wrote; read it again to see whether the write "
                    "is there"
                )
            )


class Writer:
    """One thread with one connection to write by. `ended` is done when it has ended.

    `committed` is called behind each COMMIT, with whether the bell rang.
    """

    def __init__(self, file: OpenFile, committed: Callable[[bool], None]) -> None:
        self.ended: Future[None] = Future()
        self._file = file
        self._committed = committed
        self._queue: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._collected: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        self._connection: Connection | None = None
        self._clock = Clock()
        self._due = -math.inf
        self._stopping = False
        self._begins = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="datasync-sqlite-write", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def owns(self, connection: Connection) -> bool:
        """Whether it is the one that this writes by."""
        return connection is self._connection

    def stop(self) -> None:
        self._stopping = True
        self._queue.put(None)

    def submit(self, operations: Sequence[Operation | DeleteRaw]) -> Job:
        """Do one transaction."""
        loop = asyncio.get_running_loop()
        job = Job(operations, loop, self._begins)
        collected = self._collected.get(loop)
        if collected is None:
            # handed over at the end of this turn of the loop: the tasks that one
            # COMMIT woke write together again
            self._collected[loop] = collected = []
            loop.call_soon(self._hand_over, loop)
        collected.append(job)
        return job

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        jobs = self._collected.pop(loop)
        if self._stopping:
            self._answer([(job, self._file.closing()) for job in jobs])
        else:
            self._queue.put(jobs)
            if self.ended.done():
                self._refuse_rest()

    def _refuse_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._answer(
                    [(job, self._file.closing()) for job in self._queue.get_nowait() or ()]
                )

    def _run(self) -> None:
        waiting: collections.deque[Job] = collections.deque()
        try:
            while self._fill(waiting) or waiting:
                if self._clock.now() >= self._due:
                    self._expire()
                if waiting:
                    self._write(self._group(waiting))
        finally:
            self._close()
            self._file.notifier.close()
            self.ended.set_result(None)
            # what was handed over while the end was decided must not wait for ever
            self._refuse_rest()

    def _fill(self, waiting: collections.deque[Job]) -> bool:
        """Take all that was handed over, waiting for it if need be; False once it is to stop."""
        handed_over = self._queue
        if not waiting:
            try:
                jobs = handed_over.get(
                    timeout=min(_TICK, max(0.001, self._due - self._clock.now()))
                )
            except queue.Empty:
                # another process may have written a TTL since
                self._due = -math.inf
                return True
            if jobs is None:
                return False
            waiting.extend(jobs)
        while not handed_over.empty():
            jobs = handed_over.get()
            if jobs is None:
                # again for the next round, when all that is waiting has been done
                handed_over.put(None)
                break
            waiting.extend(jobs)
        return True

    @staticmethod
    def _group(waiting: collections.deque[Job]) -> list[Job]:
        jobs: list[Job] = []
        size = 0
        while waiting and size < _GROUP:
            job = waiting.popleft()
            if job.wanted:
                jobs.append(job)
                size += len(job.operations)
        return jobs

    def _write(self, jobs: list[Job]) -> None:
        outcomes: list[tuple[Job, Committed | Exception]] = []
        connection = None
        try:
            connection = self._open()
            self._begin(connection, self._file.settings.lock_timeout, jobs)
            self._file.check_schema(connection)
            # G12: what was not begun when its source was closed never is
            jobs = [job for job in jobs if job.begin()]
            transactions = Transactions(connection, self._file.settings.keep)
            anchored = self._anchor(connection)
            now = self._clock.now()
            for job in jobs:
                try:
                    outcomes.append((job, transactions.apply(job.operations, now)))
                except Conflict as conflict:
                    outcomes.append((job, conflict))
            pruned = transactions.prune()
            self._file.check()
            if not (transactions.changed or anchored):
                connection.run("ROLLBACK")
        except Exception as error:
            self._roll_back(connection, error)
            for job in jobs:
                job.undone()
            if len(jobs) > 1 and self._may_be_of_one(error):
                for job in jobs:
                    self._write([job])
            else:
                self._answer([(job, self._file.explain(error)) for job in jobs])
            return
        if transactions.changed or anchored:
            if (failed := self._commit(connection)) is not None:
                outcomes = [
                    (job, outcome if isinstance(outcome, Conflict) else failed)
                    for job, outcome in outcomes
                ]
            else:
                self._due = min(self._due, transactions.soonest)
        self._answer(outcomes)
        if pruned:
            self._bound_the_wal(connection)

    def _commit(self, connection: Connection) -> Exception | None:
        """Send the COMMIT; what became of it if it did not succeed."""
        file = self._file
        try:
            connection.run("COMMIT")
        except Exception as error:
            undone = isinstance(error, file.library.error) and surely_undone(
                file.library.code(error)
            )
            self._roll_back(connection, error)
            if undone:
                return file.explain(error)
            return OutcomeUnknown(
                f"{file.path}: the commit failed half-way ({error}); read it again to see if it "
                "is there"
            )
        try:
            file.check()
        except DataSyncError:
            return OutcomeUnknown(f"{file.lost}; read it again to see whether the write is there")
        finally:
            self._committed(file.notifier.notify())
        return None

    def _may_be_of_one(self, error: Exception) -> bool:
        """Whether a smaller transaction might succeed where the group failed."""
        library = self._file.library
        if isinstance(error, library.error):
            return library.code(error) != sqlite3.SQLITE_BUSY and surely_undone(library.code(error))
        return not isinstance(error, DataSyncError)

    def _begin(self, connection: Connection, patience: float, jobs: Sequence[Job] = ()) -> None:
        """Get the write lock, unless nobody wants the `jobs` any more. Short random waits, since
        another process may write without pause."""
        deadline = time.monotonic() + patience
        pause = 0.0002
        while True:
            try:
                connection.run("BEGIN IMMEDIATE")
            except self._file.library.error as error:
                if (
                    self._file.library.code(error) != sqlite3.SQLITE_BUSY
                    or time.monotonic() > deadline
                    or self._stopping
                ):
                    raise
                if jobs and not any(job.wanted for job in jobs):
                    raise
            else:
                return
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - no secret
            pause = min(pause * 1.5, 0.004)

    def _expire(self) -> None:
        """Delete what has expired, some of it at a time, and see when to do so next."""
        connection = None
        try:
            self._file.check()
            connection = self._open()
            self._file.notifier.open()
            self._file.renew_claim()
            if (
                self._clock.is_set(connection)
                and (due := next_expiry(connection)) > self._clock.now()
            ):
                self._due = min(due, self._clock.now() + _TICK)
                return
            self._begin(connection, _TICK)
            self._file.check_schema(connection)
            transactions = Transactions(connection, self._file.settings.keep)
            anchored = self._anchor(connection)
            transactions.expire(self._clock.now())
            transactions.prune()
            if not (transactions.changed or anchored):
                connection.run("ROLLBACK")
            else:
                self._commit(connection)
            self._due = min(next_expiry(connection), self._clock.now() + _TICK)
        except Exception as error:
            self._roll_back(connection, error)
            self._due = self._clock.now() + _TICK

    def _anchor(self, connection: Connection) -> bool:
        """See to it that the clock of the store is set; whether that was written
        down, and so is to be committed."""
        if self._clock.is_set(connection):
            return False
        self._clock.anchor(connection)
        return True

    def _bound_the_wal(self, connection: Connection) -> None:
        # it is reset when a writer finds no reader in it; many short
        # readers may prevent that for long
        with contextlib.suppress(OSError, self._file.library.error):
            if os.stat(f"{self._file.path}-wal").st_size > _WAL_LIMIT:
                connection.all("PRAGMA wal_checkpoint(TRUNCATE)")

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._file.connect(write=True)
        return self._connection

    def _roll_back(self, connection: Connection | None, error: Exception) -> None:
        library = self._file.library
        self._clock = Clock()  # perhaps it was set in what is undone now
        if connection is not None:
            try:
                if connection.in_transaction():
                    connection.run("ROLLBACK")
            except library.error:
                self._close()
        if (
            isinstance(error, library.error)
            and library.code(error) != sqlite3.SQLITE_BUSY
            and not surely_undone(library.code(error))
        ):
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._file.disconnect(connection)

    @staticmethod
    def _answer(outcomes: Sequence[tuple[Job, Any]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Committed], Any]]] = {}
        for job, outcome in outcomes:
            by_loop.setdefault(job.loop, []).append((job.future, outcome))
        for loop, pairs in by_loop.items():
            settle(loop, pairs)
