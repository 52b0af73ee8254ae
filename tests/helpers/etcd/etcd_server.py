"""etcd servers for tests: Debian's, and a newer one built from the Go module proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from datasync.testing.chaos import etcd_server as etcd_server_process
from tests.helpers.certificates import Authority
from tests.helpers.servers import Announce, built, quietly, require, scratch

__all__ = [
    "DEBIAN",
    "NEW",
    "EtcdServer",
    "cluster_of_three",
    "etcd_server",
    "program",
    "tls_flags",
    "versions",
]

DEBIAN, NEW = "3.4", "3.6"
versions = pytest.mark.parametrize("version", [DEBIAN, NEW])


def program(version: str, announce: Announce = quietly) -> str:
    """The path of the server of that version; skips or fails the test where there is none."""
    if version == DEBIAN:
        return require("etcd", "apt-get install -y etcd-server")
    return built(Path(__file__).parent / "server36", "etcd/etcd-3.6", announce)


class EtcdServer(etcd_server_process.EtcdServer):
    """One etcd member of that version. `port` is that of its clients."""

    def __init__(
        self, version: str, directory: Path, *, tls: Sequence[str] = (), extra: Sequence[str] = ()
    ) -> None:
        super().__init__(program(version), directory, tls=tls, extra=extra)

    async def ctl(self, *args: str, user: str | None = None, said: str = "") -> str:
        require("etcdctl", "apt-get install -y etcd-client")
        return await super().ctl(*args, user=user, said=said)


def tls_flags(authority: Authority, name: str) -> list[str]:
    """What makes a server show this certificate, and ask its clients for one of
    the same authority.
    """
    return [
        "--cert-file", str(authority.cert(name)), "--key-file", str(authority.key(name)),
        "--client-cert-auth", "--trusted-ca-file", str(authority.ca),
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def etcd_server(
    version: str, *, extra: Sequence[str] = (), start: bool = True
) -> AsyncIterator[EtcdServer]:
    """A server of its own, ended with the block."""
    async with scratch() as directory:
        server = EtcdServer(version, directory, extra=extra)
        try:
            if start:
                await server.start()
            yield server
        finally:
            server.end()


@contextlib.asynccontextmanager
async def cluster_of_three(version: str) -> AsyncIterator[list[EtcdServer]]:
    """Three members of one cluster."""
    async with scratch() as directory:
        members = [EtcdServer(version, directory) for _ in range(3)]
        peers = ",".join(
            f"m{member.port}=http://127.0.0.1:{member.peer_port}" for member in members
        )
        for member in members:
            member.command[member.command.index("--initial-cluster") + 1] = peers
        try:
            await asyncio.gather(*(member.start() for member in members))
            yield members
        finally:
            for member in members:
                member.end()
