"""A tree of relays: an SQLite file, and servers of which each serves the one above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from datasync.testing.chaos.disk import Disk
from datasync.testing.chaos.proxy import Http2, TcpProxy
from datasync.testing.chaos.served import ServeProcess
from datasync.testing.chaos.sqlite import SqliteFile
from datasync.testing.chaos.store import Begin, Log, Proxied, line_faults, process_faults

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


class TreeStore(Proxied):
    """What chaos is done to: any server of a tree, and the line to the lowest one."""

    def __init__(self, protocols: Sequence[str]) -> None:
        self._scheme = _SCHEMES[protocols[-1]]
        self._disk = disk = Disk()
        self._file = SqliteFile(disk.path / "file.db")
        self.direct = f"sqlite:///{self._file.path}"
        self._tree = tree = Tree(self.direct, disk.path, protocols)
        self.logs = [server.log for server in tree.servers]
        self.proxy = TcpProxy(tree.servers[-1].port, Http2)
        self.version = f"{len(protocols)} levels of datasync serve"
        self.faults = line_faults(self.proxy)
        if self._scheme == "http":
            del self.faults["cut within"]
        for level, server in enumerate(tree.servers):
            for name, fault in process_faults(server).items():
                self.faults[f"{name} of level {level}"] = fault._replace(lane=f"level {level}")
        self.renewals = {
            "restore while the root is down": self._restore_unseen,
            "emptied, and all levels killed": self._empty,
        }
        self.left_out: Mapping[str, str] = {}

    async def start(self) -> None:
        await self._file.make()
        self._file.back_up()
        await self._tree.start()
        await self.proxy.start()
        self.url = f"{self._scheme}://127.0.0.1:{self.proxy.port}?timeout=2"

    async def aclose(self) -> None:
        await self.proxy.aclose()
        self._tree.end()
        self._disk.remove()

    async def begin(self) -> Begin:
        return self._file.begin()

    async def log(self) -> Log:
        return self._file.log()

    async def state(self) -> tuple[Mapping[str, bytes], int]:
        begin = SqliteFile(self._file.path).begin()
        return {key: raw for key, raw, _ in begin.items}, begin.revision

    async def _restore_unseen(self) -> None:
        root = self._tree.servers[0]
        await root.kill()
        self._file.restore()
        await root.start()

    async def _empty(self) -> None:
        for server in self._tree.servers:
            await server.kill()
        await self._file.empty()
        for server in self._tree.servers:
            await server.start()
