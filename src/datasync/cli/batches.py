"""Keys that are written in atomic batches: with progress, and with a word on how far it came where
it ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from datasync import DataSync, Source
from datasync.cli.sources import hears_verdicts
from datasync.errors import DataSyncError
from datasync.terminal.output import Progress, many
from datasync.terminal.process import complain

__all__ = ["BATCH", "KeyWrite", "Written", "write_batches", "write_together"]

BATCH = 1000
"""Keys in one transaction, unless told otherwise."""


class KeyWrite(NamedTuple):
    """One key to store or, without a value, to delete; `seen`: only if it is at that revision."""

    key: str
    raw: bytes | None
    seen: int | None = None


class Written(NamedTuple):
    """What became of it all: how many keys, in how many commits (`unit` is the word for one), up to
    which revision."""

    keys: int
    commits: int
    unit: str
    revision: int | None

    def members(self) -> dict[str, int | None]:
        """The same for a script."""
        return {"keys": self.keys, f"{self.unit}s": self.commits, "revision": self.revision}

    def __str__(self) -> str:
        at = "" if self.revision is None else f", revision {self.revision}"
        return f"{many(self.keys, 'key')} in {many(self.commits, self.unit)}{at}"


async def write_together(
    sync: DataSync,
    writes: Iterable[KeyWrite],
    *,
    transactions: bool = True,
    confirm: bool = False,
) -> int | None:
    """Write in one transaction, where the source has such; returns the revision."""
    if transactions:
        txn = sync.txn()
        for key, raw, seen in writes:
            if seen is not None:
                txn.if_revision(key, seen)
            if raw is None:
                txn.delete(key)
            else:
                txn.put(key, raw)
        return await txn.commit(confirm=confirm)

    revision = None
    for key, raw, seen in writes:
        if raw is None:
            await sync.delete(key, if_revision=seen, confirm=confirm)
        else:
            revision = await sync.put(key, raw, if_revision=seen, confirm=confirm)
    return revision


async def write_batches(
    sync: DataSync,
    source: Source,
    writes: Iterable[KeyWrite],
    total: int,
    size: int | None,
    again: str,
) -> Written:
    """Write all of it through a DataSync that is started.

    total: how many writes these are.
    size: keys in a batch; by default `BATCH`, or as many as the source takes.
    again: what is to be done where it ends early.

    Raises `DataSyncError`, which tells how many keys were written before.
    """
    can = source.capabilities
    confirm = hears_verdicts(source)
    size = size or min(BATCH, can.max_operations or BATCH)
    if not can.transactions:
        complain(f"{source.name} has no transactions: the keys are written one by one")
        size = 1

    done = commits = 0
    revision = None
    try:
        with Progress("keys", total) as progress:
            for batch in _batches(writes, size):
                revision = await write_together(
                    sync, batch, transactions=can.transactions, confirm=confirm
                )
                done, commits = done + len(batch), commits + 1
                progress.update(done)
    except asyncio.CancelledError:
        if done:
            complain(f"ended early; at least {_so_far(done, total)}; {again}")
        raise
    except DataSyncError as error:
        if done:
            raise DataSyncError(f"{error} ({_so_far(done, total)}; {again})") from error
        raise
    return Written(done, commits, "transaction" if can.transactions else "write", revision)


def _so_far(done: int, total: int) -> str:
    return f"{done:,} of {total:,} keys were written before"


def _batches(writes: Iterable[KeyWrite], size: int) -> Iterator[Sequence[KeyWrite]]:
    batch: list[KeyWrite] = []
    for write in writes:
        batch.append(write)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
