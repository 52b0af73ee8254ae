"""Redis servers for tests, and the plain client that stands beside datasync."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import redis.asyncio
import redis.exceptions

from datasync.testing.chaos import redis_server as redis_server_process
from tests.helpers.certificates import Authority
from tests.helpers.servers import free_ports, require, scratch

__all__ = ["RedisServer", "Tls", "client_of", "issued", "program", "redis_server"]


def program() -> str:
    """The path of the server; skips or fails the test where there is none."""
    return require("redis-server", "apt-get install -y redis-server")


class Tls(NamedTuple):
    """The certificate `name`, which a server shows;
    it asks its clients for one of the same authority.
    """

    authority: Authority
    name: str = "server"

    def flags(self, port: int) -> list[str]:
        """What makes a server speak TLS at that port, also to its like, and nothing else."""
        return [
            "--port", "0", "--tls-port", str(port), "--tls-replication", "yes", "--tls-cluster",
            "yes", "--tls-cert-file", str(self.authority.cert(self.name)),
            "--tls-key-file", str(self.authority.key(self.name)), "--tls-ca-cert-file",
            str(self.authority.ca),
        ]  # fmt: skip

    @property
    def options(self) -> str:
        """Those of a URL with the certificate `client`, which is let in."""
        return f"ca={self.authority.ca}&{self.shown_by(self.authority)}"

    @staticmethod
    def shown_by(authority: Authority) -> str:
        """Those of a URL with the certificate `client` of an authority."""
        return f"cert={authority.cert('client')}&key={authority.key('client')}"


def issued(directory: Path, subject: str = "IP:127.0.0.1") -> Tls:
    """TLS with an authority of its own, which issued `server` and `client`."""
    authority = Authority(require("openssl", "apt-get install -y openssl"), directory)
    authority.issue("server", subject=subject)
    authority.issue("client")
    return Tls(authority)


@contextlib.asynccontextmanager
async def client_of(
    port: int, tls: Tls | None = None, **options: Any
) -> AsyncIterator[redis.asyncio.Redis]:
    """A plain client, which trusts any server."""
    if tls is not None:
        cert, key = tls.authority.cert("client"), tls.authority.key("client")
        options |= {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
        options |= {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}
    async with redis_server_process.client_of(port, **options) as client:
        yield client


class RedisServer(redis_server_process.RedisServer):
    """One server. `tls` replaces the plain port."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        tls: Tls | None = None,
        extra: Sequence[str] = (),
        kept: bool = True,
    ) -> None:
        port = port or free_ports(1)[0]
        ports = () if tls is None else tls.flags(port)
        super().__init__(program(), directory, port=port, ports=ports, extra=extra, kept=kept)
        self._tls = tls

    @contextlib.asynccontextmanager
    async def client(
        self, database: int = 0, password: str | None = None
    ) -> AsyncIterator[redis.asyncio.Redis]:
        """A plain client."""
        async with client_of(self.port, self._tls, db=database, password=password) as client:
            yield client


@contextlib.asynccontextmanager
async def redis_server(
    *, extra: Sequence[str] = (), start: bool = True
) -> AsyncIterator[RedisServer]:
    """A server of its own, ended with the block."""
    async with scratch() as directory:
        server = RedisServer(directory, extra=extra)
        try:
            if start:
                await server.start()
            yield server
        finally:
            server.end()
