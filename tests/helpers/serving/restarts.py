"""Runs of a server at one address, one after another,
and a watcher that follows through all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from datasync import DataSync
from datasync.grpcsync.server import Server
from datasync.options import Backoff, Options
from datasync.serving.hub import Hub
from datasync.source import Source
from datasync.testing.contract import Probe, eventually
from tests.helpers.load import QUICK
from tests.helpers.rest.served import Served, access_of
from tests.helpers.servers import free_ports

__all__ = ["following", "free_address", "put", "serving", "shows"]


@contextlib.asynccontextmanager
async def serving(scheme: str, address: str, source: Source) -> AsyncIterator[None]:
    """A run of a server, at this address."""
    if scheme == "http":
        server = Served(source, access_of(f"http://{address}"))
        await server.start()
        try:
            yield
        finally:
            await server.stop()
    else:
        options = Options(reconnect=Backoff(initial=0.01, maximum=0.1))
        async with Hub(source, options) as hub, Server(access_of(f"grpc://{address}"), hub):
            yield


@contextlib.asynccontextmanager
async def following(scheme: str, address: str) -> AsyncIterator[tuple[DataSync, Probe]]:
    """A watcher of all that is shown at this address, through all runs of the server."""
    sync = DataSync(f"{scheme}://{address}", **QUICK)
    probe = Probe()
    sync.watcher("", name="probe", ack_timeout=60, resync_timeout=60)(probe)
    async with sync:
        await sync.ready(60)
        yield sync, probe


async def put(url: str, *keys: str) -> None:
    async with DataSync(url, **QUICK) as writer:
        for key in keys:
            await writer.put(key, key.encode())


async def shows(probe: Probe, *keys: str) -> None:
    await eventually(lambda: probe.state == {key: key.encode() for key in keys}, 60)


def free_address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"
