"""redis:// and rediss://: one server behind a proxy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from datasync.testing.chaos.certificates import Certificates
from datasync.testing.chaos.disk import Disk
from datasync.testing.chaos.ports import free_ports
from datasync.testing.chaos.process import program
from datasync.testing.chaos.proxy import Resp, TcpProxy, Tls
from datasync.testing.chaos.redis_server import RedisServer
from datasync.testing.chaos.store import Begin, Fault, Log, Proxied, line_faults, process_faults

__all__ = ["RedisStore"]

_TLS = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
_USER, _PASSWORD = "chaos", "once"


class RedisStore(Proxied):
    """Its log is the append-only file that it writes."""

    agents = True

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._disk = disk = Disk()
        binary = program("redis-server", "apt-get install -y redis-server")
        user = ["--user", _USER, "on", f">{_PASSWORD}", "~*", "&*", "+@all"]

        self._certificates = (
            Certificates(disk.path / "certificates") if scheme == "rediss" else None
        )
        plain, secure = free_ports(2)
        tls = self._tls(secure)

        self._server = server = RedisServer(binary, disk.path, port=plain, extra=[*user, *tls])
        self.logs = [server.log]
        self.proxy = proxy = TcpProxy(secure, Tls) if tls else TcpProxy(plain, Resp)

        self._counted = 0
        self.faults = line_faults(proxy) | process_faults(server) | disk.faults(server) | {
            "clients killed": Fault("server", 2, self._kill_clients),
            "role": Fault("server", 1, self._lock_out),
            "backup": Fault("server", 1, self._back_up),
        }  # fmt: skip
        if self._certificates is not None:
            self.faults |= self._certificates.faults(
                proxy, partial(self._reload, *self._certificates.server)
            )

        self.renewals = {"restore of a backup": self._restore, "emptied": server.empty}
        self.left_out = disk.left_out | {
            "clock steps": "the clock of the machine is not this command's to set"
        }

    async def start(self) -> None:
        await self._server.start()
        self._backup = await self._server.back_up()
        await self.proxy.start()
        tls = "" if self._certificates is None else f"&{self._certificates.client}"
        self.url = (
            f"{self._scheme}://{_USER}:{_PASSWORD}@127.0.0.1:{self.proxy.port}?timeout=2{tls}"
        )
        self.direct = f"{self._server.url}?timeout=2"
        self.version = f"Redis {(await self._server.info('server'))['redis_version']}"

    async def aclose(self) -> None:
        await self.proxy.aclose()
        self._server.end()
        self._disk.remove()

    async def begin(self) -> Begin:
        self._counted = len(self._server.history())
        return Begin(
            "", 0, [(key, raw, 0) for key, raw in (await self._server.everything()).items()]
        )

    async def log(self) -> Log:
        log = self._server.history()[self._counted :]
        self._counted += len(log)
        return log

    async def state(self) -> tuple[Mapping[str, bytes], int]:
        return await self._server.everything(), 0

    def _tls(self, port: int) -> list[str]:
        """What makes the server listen on that port, too."""
        if self._certificates is None:
            return []
        files = zip(_TLS, (*self._certificates.server, self._certificates.known), strict=True)
        return [
            "--tls-port",
            str(port),
            *(word for name, path in files for word in (f"--{name}", str(path))),
        ]

    async def _reload(self, cert: Path, key: Path) -> None:
        await self._server.do("CONFIG", "SET", _TLS[0], str(cert), _TLS[1], str(key))

    async def _kill_clients(self, rng: random.Random, seconds: float) -> None:
        await self._server.do(
            "CLIENT", "KILL", "TYPE", rng.choice(["normal", "pubsub"]), "SKIPME", "yes"
        )

    async def _lock_out(self, rng: random.Random, seconds: float) -> None:
        await self._server.do("ACL", "SETUSER", _USER, rng.choice(["off", "-@read", "-@all"]))
        await self._server.do("CLIENT", "KILL", "USER", _USER)
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._server.do("ACL", "SETUSER", _USER, "on", "+@all")

    async def _back_up(self, rng: random.Random, seconds: float) -> None:
        self._backup = await self._server.back_up()

    async def _restore(self) -> None:
        await self._server.restore(self._backup)
