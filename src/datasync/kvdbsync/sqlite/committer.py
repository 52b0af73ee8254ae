"""What one group of transactions takes, from its BEGIN to what became of each.

All of a group go into one SQLite transaction, each with a revision of its own, so they share one
COMMIT. A Conflict is found before its transaction has written anything, so it needs no savepoint.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence

from datasync.errors import Conflict, DataSyncError, OutcomeUnknown
from datasync.kvdbsync.sqlite.clock import Clock
from datasync.kvdbsync.sqlite.driver import Connection, surely_undone
from datasync.kvdbsync.sqlite.jobs import Job
from datasync.kvdbsync.sqlite.opened import OpenFile
from datasync.kvdbsync.sqlite.store import Transactions, next_expiry
from datasync.source import Committed

__all__ = ["Committer", "Outcome"]

Outcome = tuple[Job, Committed | Exception]

_CHECKPOINT = 1_000
"""Pages in the WAL with which a COMMIT writes them into the file, as SQLite has it by itself."""


class Committer:
    """The connection to write by. Used by one thread at a time, though not always the same.

    `committed` is called after each COMMIT, with whether the bell rang.
    """

    def __init__(self, file: OpenFile, committed: Callable[[bool], None]) -> None:
        self.clock = Clock()
        self.pruned = False
        """Whether the group that was applied last also made the log shorter."""
        self._file = file
        self._committed = committed
        self._connection: Connection | None = None
        self._transactions: Transactions | None = None
        self._checkpoints = True

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def owns(self, connection: Connection) -> bool:
        """Whether it is the one that this writes by."""
        return connection is self._connection

    def open(self, *, checkpoints: bool) -> Connection:
        """The connection, opened now if need be. `checkpoints`: whether its COMMITs may write the
        WAL into the file, with two syncs."""
        if self._connection is None:
            self._connection = self._file.connect(write=True)
            self._transactions = Transactions(self._connection, self._file.settings.keep)
            self._checkpoints = True
        if self._checkpoints is not checkpoints:
            pages = _CHECKPOINT if checkpoints else 0
            self._connection.all(f"PRAGMA wal_autocheckpoint={pages}")
            self._checkpoints = checkpoints
        return self._connection

    def apply(self, jobs: Sequence[Job], *, prune: bool) -> list[Outcome]:
        """Do what is still wanted of the jobs, in the SQLite transaction that has begun, up to
        where only its COMMIT is left to do. Raises where nothing can be done of all of them."""
        connection, transactions = self._begun()
        # what the wall clock does is looked at every second, when keys expire
        anchored = not self.clock.goes(connection)
        if anchored:
            self.clock.anchor(connection)
        now = self.clock.now()

        outcomes: list[Outcome] = []
        for job in jobs:
            # G12: what was not begun when its source was closed never is
            if job.begin():
                try:
                    outcomes.append((job, transactions.apply(job.operations, now)))
                except Conflict as conflict:
                    outcomes.append((job, conflict))
        transactions.finish()
        self.pruned = prune and transactions.prune()
        self._file.check()
        if not (transactions.changed or anchored):
            connection.run("ROLLBACK")
        return outcomes

    def commit(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Send the COMMIT, unless nothing was changed; what became of each then."""
        connection = self._connection
        assert connection is not None
        if not connection.in_transaction() or (failed := self._commit(connection)) is None:
            return outcomes
        return [
            (job, outcome if isinstance(outcome, Conflict) else failed) for job, outcome in outcomes
        ]

    @property
    def soonest(self) -> float:
        """When the first of the keys written last expires."""
        return math.inf if self._transactions is None else self._transactions.soonest

    def next_expiry(self) -> float | None:
        """When the next key of the store expires; None where the clock that
        tells that is still to be set."""
        connection = self.open(checkpoints=True)
        return next_expiry(connection) if self.clock.is_set(connection) else None

    def expire(self) -> None:
        """Delete some of what has expired, in the SQLite transaction that has begun, and commit."""
        connection, transactions = self._begun()
        anchored = not self.clock.is_set(connection)
        if anchored:
            self.clock.anchor(connection)
        transactions.expire(self.clock.now())
        transactions.finish()
        transactions.prune()
        if transactions.changed or anchored:
            self._commit(connection)
        else:
            connection.run("ROLLBACK")

    def prune(self) -> None:
        """Make the log shorter, in the SQLite transaction that has begun, and commit."""
        connection, transactions = self._begun()
        self.pruned = transactions.prune()
        if self.pruned:
            self._commit(connection)
        else:
            connection.run("ROLLBACK")

    def _begun(self) -> tuple[Connection, Transactions]:
        connection, transactions = self._connection, self._transactions
        assert connection is not None
        assert transactions is not None
        if transactions.begin():
            self._file.check_schema(connection)
        return connection, transactions

    def _commit(self, connection: Connection) -> Exception | None:
        """Send the COMMIT; what became of it if it did not succeed."""
        file = self._file
        try:
            connection.run("COMMIT")
        except Exception as error:
            undone = isinstance(error, file.library.error) and surely_undone(
                file.library.code(error)
            )
            self.roll_back(error)
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

    def roll_back(self, error: BaseException) -> None:
        """Undo what was begun and not committed, because of this error."""
        library = self._file.library
        self.clock = Clock()  # perhaps it was set in what is undone now
        if self._transactions is not None:
            self._transactions.forget()
        if self._connection is not None:
            try:
                if self._connection.in_transaction():
                    self._connection.run("ROLLBACK")
            except library.error:
                self.close()
        if (
            isinstance(error, library.error)
            and library.code(error) != sqlite3.SQLITE_BUSY
            and not surely_undone(library.code(error))
        ):
            self.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._transactions = None
        if connection is not None:
            self._file.disconnect(connection)
