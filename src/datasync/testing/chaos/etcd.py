"""etcd://: one member behind a proxy."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from datasync.testing.chaos.etcd_server import EtcdServer
from datasync.testing.chaos.process import program
from datasync.testing.chaos.proxy import TcpProxy
from datasync.testing.chaos.store import Begin, Fault, Log, Proxied, line_faults, process_faults

__all__ = ["EtcdStore"]

_NO_SPACE = 1


class EtcdStore(Proxied):
    """Its log is what etcd's own watch tells."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="datasync-chaos-"))
        self._server = server = EtcdServer(program("etcd", "apt-get install -y etcd-server"), self._directory)
        self._proxy = proxy = TcpProxy(server.port)
        self._seen = 0
        self._kept: list[tuple[int, Mapping[str, bytes | None]]] = []
        self.faults = line_faults(proxy) | process_faults(server) | {
            "compaction": Fault("server", 2, self._compact),
            "backup": Fault("server", 1, self._back_up),
            "no space": Fault("server", 1, self._fill),
        }  # fmt: skip
        self.renewals = {"restore of a backup": self._restore, "emptied": server.empty}
        self.left_out = {
            "full disk": "it writes into space that it has reserved; its alarm of no space is raised instead",
            "clock steps": "the clock of the machine is not this command's to set",
        }

    async def start(self) -> None:
        await self._server.start()
        self._backup = await self._server.back_up()
        await self._proxy.start()
        self.url = f"etcd://127.0.0.1:{self._proxy.port}?timeout=2"
        self.direct = f"{self._server.url}?timeout=2"
        self.version = f"etcd {await self._server.version()}"

    async def aclose(self) -> None:
        await self._proxy.aclose()
        self._server.end()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def begin(self) -> Begin:
        items, revision, cluster = await self._server.rows()
        self._seen = revision
        self._kept.clear()
        return Begin(cluster, revision, items)

    async def log(self) -> Log:
        await self._keep()
        log = list(self._kept)
        self._kept.clear()
        return log

    async def state(self) -> tuple[Mapping[str, bytes], int]:
        items, revision, _ = await self._server.rows()
        return {key: raw for key, raw, _ in items}, revision

    async def _keep(self) -> None:
        """Take over the log as far as it goes now."""
        new = await self._server.history(self._seen + 1)
        self._kept += new
        if new:
            self._seen = new[-1][0]

    async def _compact(self, rng: random.Random, seconds: float) -> None:
        await self._keep()
        await self._server.compact(self._seen)
        await asyncio.sleep(0)

    async def _fill(self, rng: random.Random, seconds: float) -> None:
        await self._server.alarm(_NO_SPACE)
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._server.alarm(_NO_SPACE, on=False)

    async def _back_up(self, rng: random.Random, seconds: float) -> None:
        self._backup = await self._server.back_up()

    async def _restore(self) -> None:
        await self._server.restore(self._backup)
