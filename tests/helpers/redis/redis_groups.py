"""Several Redis servers for tests: a primary watched over by sentinels, and a cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any

import redis.exceptions

from tests.helpers.redis.redis_server import RedisServer, Tls, client_of, program
from tests.helpers.servers import Process, free_ports, scratch, until

__all__ = [
    "ClusterServer",
    "Sentinel",
    "Watchers",
    "redis_cluster",
    "watched_by_one",
    "watched_over",
]

NAME = "mymaster"
_SILENT_MS = 1500
"""Longer than a process waits for its turn on a busy machine,
or a primary is replaced that nobody has ended.
"""


class Sentinel(Process):
    """One sentinel. `config` is added to its file."""

    def __init__(
        self,
        directory: Path,
        primary: int,
        quorum: int,
        *,
        tls: Tls | None = None,
        config: str = "",
    ) -> None:
        [port] = free_ports(1)
        file = directory / f"sentinel-{port}.conf"
        file.write_text(
            f"bind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary} {quorum}\n"
            f"sentinel down-after-milliseconds {NAME} {_SILENT_MS}\nsentinel failover-timeout "
            f"{NAME} 2000\n"
            f"{config}\n"
        )
        ports = ["--port", str(port)] if tls is None else tls.flags(port)
        super().__init__([program(), str(file), *ports, "--sentinel"], port, directory)
        self._tls = tls

    async def knows(self) -> tuple[int, int]:
        """How many replicas of the primary, and how many other sentinels."""
        async with client_of(self.port, self._tls) as client:
            said = await client.execute_command("SENTINEL", "MASTER", NAME)  # type: ignore[no-untyped-call]
        known = said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True))
        texts = {_text(key): _text(value) for key, value in known.items()}
        return int(texts["num-slaves"]), int(texts["num-other-sentinels"])


class Watchers:
    """Servers, of which one is the primary and the others are its replicas, and sentinels."""

    def __init__(
        self, servers: list[RedisServer], sentinels: list[Sentinel], tls: Tls | None = None
    ) -> None:
        self.servers = servers
        self.sentinels = sentinels
        self._tls = tls

    def url(self, timeout: int = 5) -> str:
        """For a DataSync; more options may follow."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}?timeout={timeout}{_options(self._tls)}"

    async def primary(self) -> RedisServer:
        """The one that says so, with all others following it."""
        found: list[RedisServer] = []

        async def agreed() -> bool:
            roles = [await self.role(server) for server in self.servers]
            found[:] = [
                server
                for server, role in zip(self.servers, roles, strict=True)
                if role[0] == b"master"
            ]
            linked = [role for role in roles if role[0] == b"slave" and role[3] == b"connected"]
            return len(found) == 1 and len(linked) == len(self.servers) - 1

        await until(agreed, "one primary, and the others follow it")
        return found[0]

    @staticmethod
    async def role(server: RedisServer) -> Any:
        """What the server says that it is; [b"gone"] while it cannot be asked.

        A sentinel that gives a server another role ends the connections of all its clients,
        whatever they are about just then.
        """
        with contextlib.suppress(redis.exceptions.ConnectionError):
            return await server.do("ROLE")
        return [b"gone"]


@contextlib.asynccontextmanager
async def watched_over(
    *, tls: Tls | None = None, config: str = "", extra: Sequence[str] = ()
) -> AsyncIterator[Watchers]:
    """A primary, its replica and three sentinels that know each other; ended with the block.

    `config` is added to the file of the sentinels, `extra` to what the servers are started with.
    """
    async with scratch() as directory:
        extra = ["--repl-diskless-sync-delay", "0", *extra]
        first, second = (RedisServer(directory, tls=tls, extra=extra) for _ in range(2))
        second.command += ["--replicaof", "127.0.0.1", str(first.port)]
        sentinels = [Sentinel(directory, first.port, 2, tls=tls, config=config) for _ in range(3)]
        watchers = Watchers([first, second], sentinels, tls)
        async with _running([first, second, *sentinels]):
            await watchers.primary()

            async def acquainted() -> bool:
                return all([await sentinel.knows() == (1, 2) for sentinel in sentinels])

            await until(acquainted, "the sentinels know each other")
            yield watchers


@contextlib.asynccontextmanager
async def watched_by_one(*, tls: Tls | None = None, config: str = "") -> AsyncIterator[Watchers]:
    """A primary alone, and one sentinel with more in its file; ended with the block."""
    async with scratch() as directory:
        server = RedisServer(directory, tls=tls)
        sentinel = Sentinel(directory, server.port, 1, tls=tls, config=config)
        async with _running([server, sentinel]):
            yield Watchers([server], [sentinel], tls)


@contextlib.asynccontextmanager
async def _running(processes: Sequence[Process]) -> AsyncIterator[None]:
    try:
        for process in processes:
            await process.start()
        yield
    finally:
        for process in processes:
            process.end()


def _options(tls: Tls | None) -> str:
    return "" if tls is None else f"&tls=1&{tls.options}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class ClusterServer(RedisServer):
    """One member of a cluster.

    `host` is the name that it announces to clients, which then use it.
    """

    def __init__(self, directory: Path, *, tls: Tls | None = None, host: str = "") -> None:
        port, bus = free_ports(2)
        super().__init__(
            directory,
            port=port,
            tls=tls,
            extra=[
                "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port",
                str(bus),
                "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
            ],
        )  # fmt: skip
        if host:
            self.command += [
                "--cluster-announce-hostname",
                host,
                "--cluster-preferred-endpoint-type",
                "hostname",
            ]
        self._host = host

    async def id(self) -> str:
        """What the others call it."""
        return str((await self.do("CLUSTER", "MYID")).decode())

    async def meet(self, other: ClusterServer) -> None:
        """Bring another one into the cluster."""
        bus = other.command[other.command.index("--cluster-port") + 1]
        await self.do("CLUSTER", "MEET", "127.0.0.1", other.port, bus)

    async def knows(self, count: int) -> bool:
        """Whether it is on good terms with so many, itself included, and knows their host names."""
        nodes = await self.do("CLUSTER", "NODES")
        lines = nodes.values() if isinstance(nodes, dict) else nodes.decode().splitlines()
        return (
            len(
                [line for line in lines if "handshake" not in str(line) and self._host in str(line)]
            )
            == count
        )

    async def state(self) -> str:
        """ "ok" where all slots are served."""
        info = await self.do("CLUSTER", "INFO")
        return str(
            info["cluster_state"]
            if isinstance(info, dict)
            else info.decode().split("\r\n")[0].split(":")[1]
        )


class Cluster:
    """Members that know each other; the first three have a third of the slots each."""

    def __init__(self, members: list[ClusterServer], host: str, tls: Tls | None) -> None:
        self.members = members
        self._host = host or "127.0.0.1"
        self._tls = tls

    def url(self, timeout: int = 5) -> str:
        """For a DataSync; more options may follow."""
        hosts = ",".join(f"{self._host}:{member.port}" for member in self.members[:2])
        return f"redis+cluster://{hosts}?timeout={timeout}{_options(self._tls)}"

    async def form(self) -> None:
        """Make a cluster of all members: three primaries, the others are their replicas."""
        first, *others = self.members
        for other in others:
            await first.meet(other)
        for member in self.members:

            def knows_all(member: ClusterServer = member) -> Awaitable[bool]:
                return member.knows(len(self.members))

            await until(knows_all, "all know each other")
        for number, member in enumerate(self.members[:3]):
            await member.do(
                "CLUSTER", "ADDSLOTSRANGE", number * 16384 // 3, (number + 1) * 16384 // 3 - 1
            )
        for number, member in enumerate(self.members[3:]):
            wanted = await self.members[number % 3].id()

            async def replicates(member: ClusterServer = member, wanted: str = wanted) -> bool:
                try:
                    await member.do("CLUSTER", "REPLICATE", wanted)
                except redis.exceptions.ResponseError:
                    return False
                return True

            await until(replicates, "it becomes a replica")
        await self.healthy(self.members)

    async def healthy(self, members: list[ClusterServer]) -> None:
        """Wait until each of these says that all slots are served."""

        async def ok() -> bool:
            return all([await member.state() == "ok" for member in members])

        await until(ok, "the cluster serves all slots")

    async def move(self, slot: int, source: ClusterServer, target: ClusterServer) -> None:
        """Move one slot with all its keys, as redis-cli does."""
        ids = await source.id(), await target.id()
        await target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        await source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        while keys := await source.do("CLUSTER", "GETKEYSINSLOT", slot, 10):
            await source.do("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            await asyncio.sleep(0)
        for member in (target, source):
            await member.do("CLUSTER", "SETSLOT", slot, "NODE", ids[1])

    async def everything(self, members: list[ClusterServer] | None = None) -> dict[str, bytes]:
        """What these members hold; members that all run, and are primaries."""
        state: dict[str, bytes] = {}
        for member in members or self.members:
            async with member.client() as client:
                async for key in client.scan_iter(count=1000):
                    value: Any = await client.get(key)
                    if value is not None:
                        state[key.decode()] = value
        return state


@contextlib.asynccontextmanager
async def redis_cluster(
    primaries: int = 3, replicas: int = 0, *, tls: Tls | None = None, host: str = ""
) -> AsyncIterator[Cluster]:
    """A cluster, ended with the block."""
    async with scratch() as directory:
        members = [
            ClusterServer(directory, tls=tls, host=host) for _ in range(primaries + replicas)
        ]
        try:
            await asyncio.gather(*(member.start() for member in members))
            cluster = Cluster(members, host, tls)
            await cluster.form()
            yield cluster
        finally:
            for member in members:
                member.end()
