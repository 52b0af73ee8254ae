"""A tree of relays: an SQLite file, and servers of which each serves the one above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from datasync.testing.chaos.disk import Disk
from datasync.testing.chaos.proxy import Http2
from datasync.testing.chaos.served import ServedFile, ServeProcess
from datasync.testing.chaos.sqlite import SqliteFile
from datasync.testing.chaos.store import process_faults

__all__ = ["Tree", "TreeStore"]

_SCHEMES = {"grpc": "grpc+watch", "http": "http"}


class Tree:
    """One server a level, the first of which serves `source`; the next one follows it, and so on.
    protocols: grpc or http, of each level."""

    def __init__(self, source: str, directory: Path, protocols: Sequence[str]) -> None:
        self.servers: list[ServeProcess] = []
        self.urls: list[str] = []
        """How each of them is followed, the root first."""
        for protocol in protocols:
            server = ServeProcess(source, directory, protocol)
            self.servers.append(server)
            source = f"{_SCHEMES[protocol]}://127.0.0.1:{server.port}?timeout=2"
            self.urls.append(source)

    async def start(self) -> None:
        """Start all of them, and wait until they listen."""
        for server in self.servers:
            await server.start()

    def end(self) -> None:
        """Kill all of them."""
        for server in self.servers:
            server.end()


class TreeStore(ServedFile):
    """What chaos is done to: any server of a tree, and the line to the lowest one."""

    def __init__(self, protocols: Sequence[str]) -> None:
        disk = Disk()
        file = SqliteFile(disk.path / "file.db")
        servers = Tree(f"sqlite:///{file.path}", disk.path, protocols).servers
        super().__init__(_SCHEMES[protocols[-1]], disk, file, servers, Http2)
        self.version = f"{len(protocols)} levels of datasync serve"
        for level, server in enumerate(servers):
            for name, fault in process_faults(server).items():
                self.faults[f"{name} of level {level}"] = fault._replace(lane=f"level {level}")
        self.renewals = {
            "restore while the root is down": self._restore_unseen,
            "emptied, and all levels killed": self._empty,
        }
        self.left_out: Mapping[str, str] = {}

    async def _restore_unseen(self) -> None:
        root = self._servers[0]
        await root.kill()
        self._file.restore()
        await root.start()

    async def _empty(self) -> None:
        for server in self._servers:
            await server.kill()
        await self._file.empty()
        for server in self._servers:
            await server.start()
