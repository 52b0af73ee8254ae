"""What writes to a file for the whole process: group commits, expiry and the bell.

All transactions that one turn of the loop brings, or that wait when the thread is free, are one
group. `pace.py` says whether it is written within the loop or by the thread; never by both at a
time, and in the order in which they came.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from datasync.errors import DataSyncError
from datasync.kvdbsync.sqlite.committer import Committer, Outcome
from datasync.kvdbsync.sqlite.driver import Connection, is_defective, surely_undone
from datasync.kvdbsync.sqlite.jobs import Job, answer, settle
from datasync.kvdbsync.sqlite.opened import OpenFile
from datasync.kvdbsync.sqlite.pace import Pace
from datasync.kvdbsync.sqlite.store import DeleteRaw
from datasync.source import Operation

__all__ = ["Writer"]

_GROUP = 4_096
"""Operations after which a group takes no further transaction, so that others
get their turn of the lock."""
_TICK = 1.0
"""Seconds after which a key that another process gave a TTL is noticed,
should that process have died."""
_CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
_WAL_LIMIT = 64 << 20
_WAL_PAGES = 4_000
"""What the WAL may hold before the loop waits for a checkpoint, which otherwise never
catches up with who goes on writing."""


class Writer:
    """One connection to write by, and the thread that writes by it what the
    loop does not. `ended` is done when it has ended.

    `committed` is called after each COMMIT, with whether the bell rang.
    """

    def __init__(self, file: OpenFile, committed: Callable[[bool], None]) -> None:
        self.ended: Future[None] = Future()
        self._file = file
        self._committer = Committer(file, committed)
        self._pace = Pace()
        self._turn = threading.Lock()
        """Held by who uses the connection. The loop never waits for it."""
        self._queue: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._for_thread = 0
        """How many jobs and turns are the thread's; no commit within the loop overtakes them."""
        self._collected: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        self._due = -math.inf
        self._untidy = False
        """Whether the loop has written enough for the thread to tidy up behind it."""
        self._checkpointer: Connection | None = None
        self._stopping = False
        self._begins = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="datasync-sqlite-write", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def owns(self, connection: Connection) -> bool:
        """Whether it is the one that this writes by."""
        return self._committer.owns(connection)

    def stop(self) -> None:
        self._stopping = True
        self._queue.put(None)

    # in the loop

    def submit(self, operations: Sequence[Operation | DeleteRaw], size: float) -> Job:
        """Do one transaction, which writes so many bytes; perhaps it is done on return."""
        loop = asyncio.get_running_loop()
        job = Job(operations, size, loop, self._begins)
        collected = self._collected.get(loop)
        if collected is None:
            if self._pace.fits_now(job) and self._write_within_loop([job]):
                return job
            # at the end of this turn of the loop: the tasks that one COMMIT woke
            # write together again
            self._collected[loop] = collected = []
            loop.call_soon(self._end_turn, loop)
        collected.append(job)
        return job

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        jobs = self._collected.pop(loop)
        self._pace.turned(len(jobs))
        if not (self._pace.fits(jobs) and self._write_within_loop(jobs)):
            self._hand_over(jobs)

    def _hand_over(self, jobs: list[Job]) -> None:
        if self._stopping:
            settle([(job, self._file.closing()) for job in jobs])
            return
        with self._begins:
            self._for_thread += len(jobs)
        self._queue.put(jobs)
        if self.ended.done():
            self._refuse_rest()

    def _write_within_loop(self, jobs: list[Job]) -> bool:
        """Whether it was done; otherwise nothing was, and it is the thread's."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            free = not (self._for_thread or self._stopping) and self._committer.is_open
            done = free and self._write_at_once(jobs)
        except BaseException as error:  # Ctrl-C, anywhere in there
            self._committer.roll_back(error)
            raise
        finally:
            self._turn.release()
        return done

    def _write_at_once(self, jobs: list[Job]) -> bool:
        committer = self._committer
        start = time.perf_counter()
        try:
            # this connection never waits: what others have locked is left to the thread
            committer.open(checkpoints=False).run("BEGIN IMMEDIATE")
            outcomes = committer.apply(jobs, prune=False)
        except Exception as error:
            self._undo(jobs, error)
            self._pace.failed()
            return False

        settle(committer.commit(outcomes))
        now = time.perf_counter()
        self._pace.took_within_loop(jobs, now - start, now)
        wake = committer.soonest < self._due
        if wake:
            self._due = committer.soonest
        if self._pace.ends_round():
            self._untidy = wake = True
        if wake:
            self._queue.put([])
        return True

    # in the thread

    @contextlib.contextmanager
    def _thread_turn(self) -> Iterator[None]:
        """Hold the connection: as soon as the loop, which never waits for it, lets go of it."""
        with self._begins:
            self._for_thread += 1
        try:
            with self._turn:
                yield
        finally:
            with self._begins:
                self._for_thread -= 1

    def _run(self) -> None:
        waiting: collections.deque[Job] = collections.deque()
        try:
            while self._fill(waiting) or waiting:
                if self._committer.clock.now() >= self._due:
                    with self._thread_turn():
                        self._expire()
                if self._untidy:
                    self._untidy = False
                    self._tidy_up()
                if waiting:
                    self._write_group(self._group(waiting))
        finally:
            self._close_checkpointer()
            with self._thread_turn():
                self._committer.close()
                self._file.notifier.close()
            self.ended.set_result(None)
            # what was handed over while the end was decided must not wait for ever
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                answer([(job, self._file.closing()) for job in self._queue.get_nowait() or ()])

    def _fill(self, waiting: collections.deque[Job]) -> bool:
        """Take all that was handed over, waiting for it if need be; False once it is to stop."""
        handed_over = self._queue
        if not waiting:
            try:
                jobs = handed_over.get(
                    timeout=min(_TICK, max(0.001, self._due - self._committer.clock.now()))
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
            jobs.append(job)
            size += len(job.operations)
        return jobs

    def _write_group(self, jobs: list[Job]) -> None:
        with self._turn:
            start = time.perf_counter()
            outcomes = self._write(jobs)
            now = time.perf_counter()
            self._pace.took_in_thread(now - start, now)
            pruned = self._committer.pruned
            with self._begins:
                self._for_thread -= len(jobs)
        answer(outcomes)
        if pruned:
            with self._thread_turn():
                self._bound_the_wal()

    def _write(self, jobs: list[Job]) -> list[Outcome]:
        committer = self._committer
        try:
            connection = committer.open(checkpoints=True)
            self._begin(connection, self._file.settings.lock_timeout, jobs)
            outcomes = committer.apply(jobs, prune=True)
        except Exception as error:
            self._undo(jobs, error)
            if len(jobs) > 1 and self._may_be_of_one(error):
                return [outcome for job in jobs for outcome in self._write([job])]
            return [(job, self._file.explain(error)) for job in jobs]
        self._due = min(self._due, committer.soonest)
        return committer.commit(outcomes)

    def _undo(self, jobs: Sequence[Job], error: Exception) -> None:
        self._committer.roll_back(error)
        for job in jobs:
            job.undone()

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
        committer = self._committer
        try:
            self._file.check()
            connection = committer.open(checkpoints=True)
            self._file.notifier.open()
            self._file.renew_claim()
            due = committer.next_expiry()
            if due is None or due <= committer.clock.now():
                self._begin(connection, _TICK)
                committer.expire()
                due = committer.next_expiry()
            soon = committer.clock.now() + _TICK
            self._due = soon if due is None else min(due, soon)
        except Exception as error:
            committer.roll_back(error)
            self._due = committer.clock.now() + _TICK

    def _tidy_up(self) -> None:
        """Write the WAL into the file, for what was committed within the loop, and make the log
        shorter."""
        committer = self._committer
        try:
            pages = self._checkpoint()
            with self._thread_turn():
                connection = committer.open(checkpoints=True)
                if pages > _WAL_PAGES:
                    connection.all(_CHECKPOINT)
                self._begin(connection, _TICK)
                committer.prune()
                self._bound_the_wal()
        except Exception as error:
            self._close_checkpointer()
            with self._thread_turn():
                committer.roll_back(error)

    def _close_checkpointer(self) -> None:
        checkpointer, self._checkpointer = self._checkpointer, None
        if checkpointer is not None:
            self._file.disconnect(checkpointer)

    def _checkpoint(self) -> int:
        """The pages that the WAL held."""
        if is_defective(self._file.library.version):
            # those may lose a commit of one connection while another one checkpoints
            with self._thread_turn():
                found = self._committer.open(checkpoints=True).all(_CHECKPOINT)
        else:
            if self._checkpointer is None:
                self._checkpointer = self._file.connect(write=True)
            found = self._checkpointer.all(_CHECKPOINT)
        return int(found[0][1])

    def _bound_the_wal(self) -> None:
        # it is reset when a writer finds no reader in it; many short
        # readers may prevent that for long
        with contextlib.suppress(OSError, self._file.library.error):
            if os.stat(f"{self._file.path}-wal").st_size > _WAL_LIMIT:
                self._committer.open(checkpoints=True).all("PRAGMA wal_checkpoint(TRUNCATE)")
