"""etcd:// and etcds://: one member behind a proxy."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from datasync.testing.chaos.certificates import Certificates
from datasync.testing.chaos.etcd_server import EtcdServer
from datasync.testing.chaos.ports import free_ports
from datasync.testing.chaos.process import program
from datasync.testing.chaos.proxy import Framing, Http2, TcpProxy, Tls
from datasync.testing.chaos.store import Begin, Fault, Log, Proxied, line_faults, process_faults

__all__ = ["EtcdStore"]

_NO_SPACE = 1
_NAME, _PASSWORD = "chaos", "once"


class EtcdStore(Proxied):
    """Its log is what etcd's own watch tells."""

    agents = True

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._directory = Path(tempfile.mkdtemp(prefix="datasync-chaos-"))
        binary = program("etcd", "apt-get install -y etcd-server")
        self._server = server = EtcdServer(binary, self._directory, extra=["--bcrypt-cost", "4"])
        self.logs = [server.log]

        self._certificates = (
            Certificates(self._directory / "certificates") if scheme == "etcds" else None
        )

        self.proxy = proxy = TcpProxy(*self._listening())
        self._seen = 0
        self._kept: list[tuple[int, Mapping[str, bytes | None]]] = []

        self.faults = line_faults(proxy) | process_faults(server) | {
            "compaction": Fault("server", 2, self._compact),
            "backup": Fault("server", 1, self._back_up),
            "no space": Fault("server", 1, self._fill),
            "role": Fault("server", 1, self._lock_out),
        }  # fmt: skip
        if self._certificates is not None:
            self.faults |= self._certificates.faults(proxy)

        self.renewals = {"restore of a backup": self._restore, "emptied": self._empty}
        self.left_out = {
            "full disk": "it writes into space that it has reserved; its alarm of no space is "
            "raised instead",
            "clock steps": "the clock of the machine is not this command's to set",
        }

    async def start(self) -> None:
        await self._server.start()
        await self._make_user()
        self._backup = await self._server.back_up()
        await self.proxy.start()
        tls = "" if self._certificates is None else f"&{self._certificates.client}"
        self.url = (
            f"{self._scheme}://{_NAME}:{_PASSWORD}@127.0.0.1:{self.proxy.port}?timeout=2{tls}"
        )
        self.direct = f"etcd://root:{self._server.password}@127.0.0.1:{self._server.port}?timeout=2"
        self.version = f"etcd {await self._server.version()}"

    async def aclose(self) -> None:
        await self.proxy.aclose()
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

    def _listening(self) -> tuple[int, Callable[[], Framing]]:
        """The port that clients are led to, and what comes from it."""
        server = self._server
        if self._certificates is None:
            return server.port, Http2
        [port] = free_ports(1)
        server.command[server.command.index("--listen-client-urls") + 1] += (
            f",https://127.0.0.1:{port}"
        )
        cert, key = map(str, self._certificates.server)
        server.command += ["--cert-file", cert, "--key-file", key]
        server.command += ["--client-cert-auth", "--trusted-ca-file", str(self._certificates.known)]
        return port, Tls

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

    async def _make_user(self) -> None:
        await self._server.ask_for_passwords({})
        await self._as_root("user", "add", f"{_NAME}:{_PASSWORD}")
        await self._as_root("role", "add", _NAME)
        await self._grant()
        await self._as_root("user", "grant-role", _NAME, _NAME)

    async def _grant(self) -> None:
        await self._as_root("role", "grant-permission", _NAME, "readwrite", "", "--prefix")

    async def _as_root(self, *args: str) -> None:
        await self._server.ctl(*args, user=f"root:{self._server.password}")

    async def _lock_out(self, rng: random.Random, seconds: float) -> None:
        await self._as_root("role", "revoke-permission", _NAME, "", "--prefix")
        self.proxy.cut()  # a watch that is there already goes on
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._grant()

    async def _back_up(self, rng: random.Random, seconds: float) -> None:
        self._backup = await self._server.back_up()

    async def _restore(self) -> None:
        await self._server.restore(self._backup)

    async def _empty(self) -> None:
        self._server.password = None
        await self._server.empty()
        await self._make_user()
