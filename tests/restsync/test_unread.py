"""Clients that do not read: what is sent to them comes in parts, is bounded, and has an end."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasync import DataSync
from datasync.kvdbsync.memory import MemorySource
from datasync.restsync._limits import Limits
from datasync.restsync.agent import RestSource
from datasync.source import Put
from datasync.testing.contract import eventually
from tests.helpers.certificates import Authority
from tests.helpers.rest.agents import agent
from tests.helpers.rest.served import access_of, served
from tests.helpers.servers import free_ports, require

Run = Callable[[Any], None]
KEYS, VALUE = 40, b"x" * 100_000


def test_a_snapshot_is_cut_by_bytes(run: Run) -> None:
    """One event holds everybody up while it is made, however few its keys are."""

    async def main() -> None:
        source = MemorySource("large")
        await source.commit([Put(f"large/{number:02}", VALUE) for number in range(KEYS)])
        async with served(source) as server:
            port = server.access.port
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 << 20)
            writer.write(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            told = await asyncio.wait_for(reader.readuntil(b"event: snapshot-end"), 60)
            writer.close()
            events = told.split(b"event: ")
            assert sum(event.startswith(b"snapshot-chunk\n") for event in events) >= KEYS // 3
            assert max(map(len, events)) < 600_000
            async with DataSync(server.url) as client:
                view = client.view("large/")
                await client.ready(60)
                assert len(view) == KEYS

    run(main())


class Deaf:
    """A client that asks, and reads nothing of the answer."""

    def __init__(self) -> None:
        self.socket: socket.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setblocking(False)
        self._reset = False

    async def ask(self, port: int, request: bytes) -> Deaf:
        """Connect, and send this."""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, ("127.0.0.1", port))
        await loop.sock_sendall(self.socket, request)
        return self

    @property
    def reset(self) -> bool:
        """Whether the other side has cut the connection; the system tells that once."""
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._reset |= error == errno.ECONNRESET
        return self._reset


def get(path: str, *headers: str) -> bytes:
    """A request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", *headers, "\r\n"]).encode()


@pytest.mark.parametrize(
    "request_",
    [
        get("/v1/keys"),
        get("/v1/keys", "connection: close"),
        get("/v1/keys/config/a") * 5,
        get("/v1/keys/config/small") * 200,
        get("/v1/events"),
    ],
    ids=["a page", "one before the close", "a value", "many small ones", "a watcher"],
)
def test_who_takes_nothing_is_cut_off(run: Run, request_: bytes) -> None:
    """With its connection: a close would wait until all is sent."""

    async def main() -> None:
        async with agent(limits=Limits(stalled=0.3)) as it:
            for key, size in (*((key, 1_000_000) for key in "abcde"), ("small", 50_000)):
                await it.ask("PUT", f"/v1/keys/config/{key}", b"x" * size)
            client = await Deaf().ask(it.port, request_)
            await eventually(lambda: client.reset, 60)
            await eventually(lambda: len(it.source._hub.watchers) == 0, 60)
            client.socket.close()
            assert (await it.ask("GET", "/v1/keys/config/b")).body == b"x" * 1_000_000

    run(main())


def test_what_waits_unsent_is_bounded_in_sum(run: Run) -> None:
    """Those that have taken nothing for longest go; who reads gets all of it."""

    async def main() -> None:
        async with agent(limits=Limits(unsent=10_000_000)) as it:
            for key in "abc":
                await it.ask("PUT", f"/v1/keys/config/{key}", b"x" * 1_000_000)
            clients: list[Deaf] = []

            def cut() -> int:
                return sum(client.reset for client in clients)

            for number in range(8):  # three of them fit
                clients.append(await Deaf().ask(it.port, get("/v1/keys")))
                await eventually(lambda: number - 2 <= cut(), 60)  # noqa: B023 - within this turn
            assert len((await it.ask("GET", "/v1/keys")).json["items"]) == 3
            await eventually(lambda: cut() == 6, 60)
            assert not clients[-1].reset
            for client in clients:
                client.socket.close()

    run(main())


def test_who_takes_nothing_is_cut_off_with_tls(run: Run, tmp_path: Path) -> None:
    """There is one more buffer on the way."""
    authority = Authority(require("openssl", "apt-get install -y openssl"), tmp_path / "ours")
    authority.issue("server")
    [port] = free_ports(1)
    query = f"?cert={authority.cert('server')}&key={authority.key('server')}"
    trust = ssl.create_default_context(cafile=authority.ca)

    def ask(client: Deaf) -> None:
        client.socket.close()
        client.socket = trust.wrap_socket(
            socket.create_connection(("127.0.0.1", port), 60), server_hostname="127.0.0.1"
        )
        client.socket.sendall(get("/v1/keys"))

    async def main() -> None:
        access = access_of(f"rests://127.0.0.1:{port}{query}")
        source = RestSource(access, empty=True, limits=Limits(stalled=0.3))
        async with DataSync(source) as sync:
            for key in "abcdefgh":
                await sync.put(key, b"x" * 1_000_000)
            client = Deaf()
            await asyncio.to_thread(ask, client)
            await eventually(lambda: client.reset, 60)
            client.socket.close()

    run(main())
