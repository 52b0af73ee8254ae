"""http:// and grpc+watch://, with TLS and without: an SQLite file that `datasync
serve` serves, behind a proxy."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datasync import DataSync, Event, ResyncEvent
from datasync.syncbase.delivery import NEW_HISTORY
from datasync.testing.chaos.certificates import Certificates
from datasync.testing.chaos.disk import Disk
from datasync.testing.chaos.ports import free_ports
from datasync.testing.chaos.process import Process
from datasync.testing.chaos.proxy import Framing, Http2, TcpProxy, Tls
from datasync.testing.chaos.sqlite import SqliteFile
from datasync.testing.chaos.store import Begin, Fault, Log, Proxied, line_faults, process_faults

__all__ = ["ServeProcess", "ServedFile", "ServedStore"]

_NOTICED = 60.0
"""Seconds, at most, within which a server has seen that its file is another one."""


class ServeProcess(Process):
    """Serves `source` on a free loopback port. protocol: the name of the option, grpc or http. tls:
    the options of its URL, where it speaks that."""

    def __init__(
        self,
        source: str,
        directory: Path,
        protocol: str = "grpc",
        extra: Sequence[str] = (),
        tls: str = "",
    ) -> None:
        [port] = free_ports(1)
        address = f"{protocol}s://127.0.0.1:{port}?{tls}" if tls else f"127.0.0.1:{port}"
        command = [
            sys.executable,
            "-m",
            "datasync",
            "serve",
            source,
            f"--{protocol}",
            address,
            *extra,
        ]
        super().__init__(command, port, directory)

    async def restart(self) -> None:
        """kill -9, and start it again."""
        if self.running:
            await self.kill()
        await self.start()


class ServedFile(Proxied):
    """An SQLite file, and the servers between it and its watchers: the first of them serves it, the
    last one stands behind the proxy. Its log is that of the file.

    scheme: that of `url`.
    disk: where the file lies.
    tls: the options of `url` for TLS, if it speaks that.
    """

    def __init__(
        self,
        scheme: str,
        disk: Disk,
        file: SqliteFile,
        servers: Sequence[ServeProcess],
        framing: Callable[[], Framing],
        tls: str = "",
    ) -> None:
        self._scheme = scheme
        self._disk = disk
        self._file = file
        self._servers = servers
        self._tls = tls
        self.direct = f"sqlite:///{file.path}"
        self.logs = [server.log for server in servers]
        self.proxy = TcpProxy(servers[-1].port, framing)
        self.faults: dict[str, Fault] = line_faults(self.proxy)
        if scheme == "http":
            del self.faults["cut within"]  # HTTP/1.1 has no frames to count

    async def start(self) -> None:
        await self._file.make()
        self._file.back_up()
        for server in self._servers:
            await server.start()
        await self.proxy.start()
        self.url = f"{self._scheme}://127.0.0.1:{self.proxy.port}?timeout=2&{self._tls}"

    async def aclose(self) -> None:
        await self.proxy.aclose()
        for server in self._servers:
            server.end()
        self._disk.remove()

    async def begin(self) -> Begin:
        return self._file.begin()

    async def log(self) -> Log:
        return self._file.log()

    async def state(self) -> tuple[Mapping[str, bytes], int]:
        return self._file.state()


class ServedStore(ServedFile):
    """With one server. The other writer writes to the file."""

    def __init__(self, scheme: str) -> None:
        disk = Disk()
        file = SqliteFile(disk.path / "file.db")
        protocol = "http" if scheme.startswith("http") else "grpc"

        certificates = (
            Certificates(disk.path / "certificates") if scheme in ("https", "grpcs+watch") else None
        )
        tls = (
            ""
            if certificates is None
            else f"cert={{}}&key={{}}&ca={certificates.known}".format(*certificates.server)
        )

        server = ServeProcess(f"sqlite:///{file.path}", disk.path, protocol, tls=tls)
        self._server = server
        if certificates is None:
            super().__init__(scheme, disk, file, [server], Http2)
        else:
            super().__init__(scheme, disk, file, [server], Tls, certificates.client)

        self.version = f"datasync serve --{protocol} of SQLite"
        self.faults |= process_faults(server) | disk.faults(server) | {
            "compaction": Fault("server", 2, self._compact),
            "backup": Fault("server", 2, self._back_up),
        }  # fmt: skip
        if certificates is not None:
            self.faults |= certificates.faults(self.proxy)

        self.renewals = {
            "restore of a backup": self._restore,
            "restore while the server is down": self._restore_unseen,
            "emptied": self._empty,
        }
        self.left_out = disk.left_out | {
            "clock steps": "that of another process is not this command's to set; see sqlite://",
        }

    async def _compact(self, rng: random.Random, seconds: float) -> None:
        await asyncio.to_thread(self._file.compact)

    async def _back_up(self, rng: random.Random, seconds: float) -> None:
        await asyncio.to_thread(self._file.back_up)

    async def _restore(self) -> None:
        """Done once the server tells its watchers; were it killed before that, nobody could."""
        told = asyncio.Event()
        sync = DataSync(f"{self._scheme}://127.0.0.1:{self._server.port}?{self._tls}")

        @sync.watcher("")
        async def handle(event: Event[bytes]) -> None:
            if isinstance(event, ResyncEvent) and event.reason == NEW_HISTORY:
                told.set()

        async with sync, asyncio.timeout(_NOTICED):
            await sync.ready()
            if self._file.restore():
                await told.wait()

    async def _restore_unseen(self) -> None:
        await self._server.kill()
        self._file.restore()
        await self._server.start()

    async def _empty(self) -> None:
        await self._server.kill()
        await self._file.empty()
        await self._server.start()
