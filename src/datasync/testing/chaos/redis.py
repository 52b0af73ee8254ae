"""redis://: one server behind a proxy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from datasync.testing.chaos.disk import Disk
from datasync.testing.chaos.process import program
from datasync.testing.chaos.proxy import Resp, TcpProxy
from datasync.testing.chaos.redis_server import RedisServer
from datasync.testing.chaos.store import Begin, Fault, Log, Proxied, line_faults, process_faults

__all__ = ["RedisStore"]

_USER, _PASSWORD = "chaos", "once"


class RedisStore(Proxied):
    """Its log is the append-only file that it writes."""

    def __init__(self) -> None:
        self._disk = disk = Disk()
        binary = program("redis-server", "apt-get install -y redis-server")
        user = ["--user", _USER, "on", f">{_PASSWORD}", "~*", "&*", "+@all"]
        self._server = server = RedisServer(binary, disk.path, extra=user)
        self.proxy = proxy = TcpProxy(server.port, Resp)
        self._counted = 0
        self.faults = line_faults(proxy) | process_faults(server) | disk.faults(server) | {
            "clients killed": Fault("server", 2, self._kill_clients),
            "role": Fault("server", 1, self._lock_out),
            "backup": Fault("server", 1, self._back_up),
        }  # fmt: skip
        self.renewals = {"restore of a backup": self._restore, "emptied": server.empty}
        self.left_out = disk.left_out | {"clock steps": "the clock of the machine is not this command's to set"}

    async def start(self) -> None:
        await self._server.start()
        self._backup = await self._server.back_up()
        await self.proxy.start()
        self.url = f"redis://{_USER}:{_PASSWORD}@127.0.0.1:{self.proxy.port}?timeout=2"
        self.direct = f"{self._server.url}?timeout=2"
        self.version = f"Redis {(await self._server.info('server'))['redis_version']}"

    async def aclose(self) -> None:
        await self.proxy.aclose()
        self._server.end()
        self._disk.remove()

    async def begin(self) -> Begin:
        self._counted = len(self._server.history())
        return Begin("", 0, [(key, raw, 0) for key, raw in (await self._server.everything()).items()])

    async def log(self) -> Log:
        log = self._server.history()[self._counted :]
        self._counted += len(log)
        return log

    async def state(self) -> tuple[Mapping[str, bytes], int]:
        return await self._server.everything(), 0

    async def _kill_clients(self, rng: random.Random, seconds: float) -> None:
        await self._server.do("CLIENT", "KILL", "TYPE", rng.choice(["normal", "pubsub"]), "SKIPME", "yes")

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
