"""The contract suite on sqlite://, with each of the two libraries."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator

import pytest

from datasync import DataSync, Source
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite.driver import load_driver
from datasync.testing.contract import ContractSuite, Store


class SqliteFile:
    """A store in a file that is reached through a link,
    so that it can be lost while others go on writing.
    """

    def __init__(self, directory: str, library: str) -> None:
        self.library = library
        self.real = f"{directory}/real"
        self.link = f"{directory}/link"
        os.mkdir(self.real)
        os.symlink(self.real, self.link)

    async def lose(self) -> None:
        os.unlink(self.link)

    async def restore(self) -> None:
        os.symlink(self.real, self.link)

    async def empty(self) -> None:
        async with DataSync(SqliteSource(f"{self.real}/fresh.db", library=self.library)) as fresh:
            await fresh.delete("nothing")
        for rest in ("-wal", "-shm"):
            os.unlink(f"{self.real}/file.db{rest}")
        os.rename(f"{self.real}/fresh.db", f"{self.real}/file.db")

    async def compact(self) -> None:
        connection = load_driver(self.library).connect(f"{self.real}/file.db", "rw")
        connection.run("PRAGMA busy_timeout=5000")
        connection.run("DELETE FROM log WHERE revision < (SELECT max(revision) FROM log)")
        connection.close()

    async def put_raw(self, key: bytes, value: bytes) -> None:
        """Store it under a key of another type than TEXT,
        as one flipped bit or another program does.
        """
        connection = load_driver(self.library).connect(f"{self.real}/file.db", "rw")
        connection.run("PRAGMA busy_timeout=5000")
        connection.run(
            "REPLACE INTO kv VALUES(CAST(? AS BLOB), ?, (SELECT max(revision) FROM log), NULL)",
            (key, value),
        )
        connection.close()

    async def has_raw(self, key: bytes) -> bool:
        connection = load_driver(self.library).connect(f"{self.real}/file.db", "rw")
        found = connection.all("SELECT 1 FROM kv WHERE CAST(key AS BLOB) = ?", (key,))
        connection.close()
        return bool(found)


class Suite(ContractSuite):
    library: str

    def source(self, path: str) -> str | Source:
        """By its URL where that leads to the library, or as an object."""
        preferred = load_driver(None).name == self.library
        return f"sqlite:///{path}" if preferred else SqliteSource(path, library=self.library)

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        with tempfile.TemporaryDirectory() as directory:
            file = SqliteFile(directory, self.library)
            yield Store(
                url=self.source(f"{file.link}/file.db"),
                direct=self.source(f"{file.real}/file.db"),
                lose=file.lose,
                restore=file.restore,
                empty=file.empty,
                compact=file.compact,
                odd_keys=[b"a/odd", b"a/\xff"],
                put_raw=file.put_raw,
                has_raw=file.has_raw,
            )


class TestSqliteStandardModule(Suite):
    library = "sqlite3"


class TestSqliteApsw(Suite):
    library = "apsw"

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("apsw", reason="install it with: pip install 'datasync[sqlite]'")
