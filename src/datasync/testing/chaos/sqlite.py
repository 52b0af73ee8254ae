"""sqlite://: a file behind a link, with another process that writes to it."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from datasync.kvdbsync.sqlite.driver import Connection, load_driver
from datasync.sync import DataSync
from datasync.testing.chaos.clock import clock_faults
from datasync.testing.chaos.disk import Disk
from datasync.testing.chaos.process import Process
from datasync.testing.chaos.store import Begin, Fault, Log, Store

__all__ = ["SqliteFile", "SqliteStore"]


class SqliteFile:
    """A store's file as it is read past datasync: its table `log` is the log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0
        self._kept: list[tuple[int, Mapping[str, bytes | None]]] = []
        self._backup = path.with_name("backup.db")

    async def make(self) -> None:
        """Make it, empty."""
        async with DataSync(f"sqlite:///{self.path}") as sync:
            await sync.delete("nothing")

    def begin(self) -> Begin:
        """See `Store.begin`."""
        with _Opened(self.path) as connection:
            connection.run("BEGIN")  # all at one moment
            rows = connection.all("SELECT key, value, revision FROM kv ORDER BY key")
            [(revision,)] = connection.all("SELECT max(revision) FROM log")
            [(name,)] = connection.all("SELECT value FROM meta WHERE name = 'history'")
        self._seen = revision
        self._kept.clear()
        return Begin(name, revision, [(key, bytes(raw), at) for key, raw, at in rows])

    def keep(self) -> None:
        """Take over the log as far as it goes now."""
        with _Opened(self.path) as connection:
            rows = connection.all(
                "SELECT revision, changes FROM log WHERE revision > ? ORDER BY revision",
                (self._seen,),
            )
        for revision, changes in rows:
            self._kept.append((revision, dict(msgspec.msgpack.decode(changes))))
            self._seen = revision

    def state(self) -> tuple[Mapping[str, bytes], int]:
        """See `Store.state`."""
        begin = SqliteFile(self.path).begin()
        return {key: raw for key, raw, _ in begin.items}, begin.revision

    def log(self) -> Log:
        """See `Store.log`."""
        self.keep()
        log = list(self._kept)
        self._kept.clear()
        return log

    def compact(self) -> None:
        """Forget the log."""
        self.keep()
        with _Opened(self.path) as connection:
            connection.run("DELETE FROM log WHERE revision < ?", (self._seen,))

    def back_up(self) -> None:
        """Keep a copy of what there is."""
        self._backup.unlink(missing_ok=True)
        with _Opened(self.path) as connection:
            connection.run("VACUUM INTO ?", (str(self._backup),))

    def restore(self) -> bool:
        """Put the copy in its place. Returns whether that is another state of the store: where
        nothing was written since the copy was made, nobody can tell the two apart."""
        other = _place(self._backup) != _place(self.path)
        copy = self._backup.with_name("copy.db")
        shutil.copyfile(self._backup, copy)
        self._replace(copy)
        return other

    async def empty(self) -> None:
        """Put an empty store in its place."""
        fresh = SqliteFile(self.path.with_name("fresh.db"))
        await fresh.make()
        self._replace(fresh.path)

    def _replace(self, by: Path) -> None:
        for rest in ("-wal", "-shm"):
            self.path.with_name(self.path.name + rest).unlink(missing_ok=True)
        by.replace(self.path)


def _place(path: Path) -> tuple[Any, ...]:
    """The newest row of the log of the store at `path`, which no other history has."""
    with _Opened(path) as connection:
        [row] = connection.all("SELECT revision, nonce FROM log ORDER BY revision DESC LIMIT 1")
    return row


class _Opened:
    """A connection within the block, by the library that datasync uses itself: two in
    one process break its locks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Connection:
        self._connection = load_driver(None).connect(str(self._path), "rw")
        self._connection.run("PRAGMA busy_timeout=10000")
        return self._connection

    def __exit__(self, *_: object) -> None:
        if self._connection.in_transaction():
            self._connection.run("ROLLBACK")
        self._connection.close()


class SqliteStore(Store):
    """Faults are those of the file, and of the other process."""

    agents = True

    def __init__(self) -> None:
        self._disk = disk = Disk()
        real, self._link = disk.path / "real", disk.path / "link"
        real.mkdir()
        self._link.symlink_to(real)
        self._file = SqliteFile(real / "file.db")
        self.url, self.direct = f"sqlite:///{self._link}/file.db", f"sqlite:///{self._file.path}"
        library = load_driver(None)
        self.version = f"SQLite {'.'.join(map(str, library.version))} by {library.name}"
        command = [sys.executable, "-m", "datasync.testing.chaos.writer", self.direct]
        self._writer = Process(command, 0, disk.path)
        self.faults = disk.faults(lane="file") | clock_faults(self.direct, lane="file") | {
            "kill -9 of another writer": Fault("writer", 3, self._kill),
            "SIGSTOP of another writer": Fault("writer", 3, self._stop),
            "file out of reach": Fault("file", 2, self._out_of_reach),
            "compaction": Fault("file", 2, self._compact),
            "backup": Fault("file", 2, self._back_up),
        }  # fmt: skip
        self.renewals = {"restore of a backup": self._restore, "emptied": self._empty}
        self.left_out = disk.left_out | {"the line": "there is none"}

    async def start(self) -> None:
        await self._file.make()
        self._file.back_up()

    async def aclose(self) -> None:
        self._writer.end()
        self._disk.remove()

    async def part(self) -> None:
        await self.hush()

    async def rejoin(self) -> None:
        if not self._writer.running:
            self._writer.spawn()

    async def hush(self) -> None:
        if self._writer.running:
            await self._writer.kill()

    async def begin(self) -> Begin:
        return self._file.begin()

    async def log(self) -> Log:
        return self._file.log()

    async def state(self) -> tuple[Mapping[str, bytes], int]:
        return self._file.state()

    async def _kill(self, rng: random.Random, seconds: float) -> None:
        await self._writer.kill()
        try:
            await asyncio.sleep(rng.choice([0.0, seconds]))
        finally:
            self._writer.spawn()

    async def _stop(self, rng: random.Random, seconds: float) -> None:
        await self._writer.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._writer.resume()

    async def _out_of_reach(self, rng: random.Random, seconds: float) -> None:
        os.unlink(self._link)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.symlink(self._file.path.parent, self._link)

    async def _compact(self, rng: random.Random, seconds: float) -> None:
        await asyncio.to_thread(self._file.compact)

    async def _back_up(self, rng: random.Random, seconds: float) -> None:
        await asyncio.to_thread(self._file.back_up)

    async def _restore(self) -> None:
        self._file.restore()

    async def _empty(self) -> None:
        await self._file.empty()
