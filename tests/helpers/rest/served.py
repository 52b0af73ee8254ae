"""A source served over HTTP by this process, on a free loopback port;
it can be emptied, and end.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from datasync.kvdbsync.memory import MemorySource
from datasync.options import Backoff, Options
from datasync.restsync.agent import app_for, serve_app
from datasync.restsync.listener import Listener
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.source import Source
from datasync.transports import Url
from tests.helpers.servers import free_ports

__all__ = ["Served", "access_of", "served"]

_QUICK = Options(reconnect=Backoff(initial=0.01, maximum=0.1))


def access_of(text: str) -> Access:
    """The access that a URL gives."""
    url = Url(text)
    access = Access.of_url(url, tls=url.scheme in ("https", "rests"))
    url.finish()
    return access


class Served:
    """A server that can be emptied."""

    def __init__(self, source: Source, access: Access) -> None:
        self.source = source
        self.access = access
        self.hub = Hub(source, _QUICK)
        self._listener: Listener | None = None

    @property
    def url(self) -> str:
        """For a client."""
        return f"http://{self.access.authority}"

    async def start(self) -> None:
        """Serve."""
        await self.hub.start()
        self._listener = await serve_app(app_for(self.hub, self.access), self.access)

    async def stop(self) -> None:
        """End; the port stays ours to use again."""
        await self.hub.aclose()
        if self._listener is not None:
            await self._listener.aclose()

    async def empty(self) -> None:
        """Serve another store, which is empty, at the same place."""
        await self.stop()
        self.source = MemorySource("served")
        self.hub = Hub(self.source, _QUICK)
        await self.start()

    async def compact(self) -> None:
        """Forget what was before now."""
        self.hub.log.restart()


@contextlib.asynccontextmanager
async def served(source: Source | None = None, *, query: str = "") -> AsyncIterator[Served]:
    """Serve a source, a store in memory unless told otherwise, within the block."""
    access = access_of(f"http://127.0.0.1:{free_ports(1)[0]}{query}")
    server = Served(source or MemorySource("served"), access)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
