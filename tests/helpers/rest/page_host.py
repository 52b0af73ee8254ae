"""The status page of a DataSync in this process, over a source with a hand on what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from datasync import DataSync
from datasync.options import Backoff, Options
from datasync.restsync.agent import app_for, serve_app
from datasync.serving.hub import Hub
from datasync.testing import FaultySource
from tests.helpers.rest.browser import Browser, browser
from tests.helpers.rest.served import access_of
from tests.helpers.servers import free_ports

__all__ = ["PageHost", "page_host", "seen_by"]

T = TypeVar("T")

_QUICK = Options(reconnect=Backoff(initial=0.01, maximum=0.1))


class PageHost:
    """Where the page is, and a way back into the loop from the thread that looks at it."""

    def __init__(self, sync: DataSync, source: FaultySource, hub: Hub, port: int) -> None:
        self.sync = sync
        self.source = source
        self.hub = hub
        self.port = port
        self._loop = asyncio.get_running_loop()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call it in the loop; returns when it has been."""

        async def called() -> None:
            function(*arguments)

        asyncio.run_coroutine_threadsafe(called(), self._loop).result(60)

    async def look(self, check: Callable[[PageHost, Browser], None], fragment: str = "") -> None:
        """Have a thread look at the page in a browser."""
        await asyncio.to_thread(seen_by, self.port, lambda seen: check(self, seen), fragment)


def seen_by(port: int, check: Callable[[Browser], None], fragment: str = "") -> None:
    """Look at the page that is served there; nothing in its console may be an error of its own."""
    with browser() as seen:
        seen.look()
        seen.open(f"http://127.0.0.1:{port}/{fragment}")
        check(seen)
        # what the agent refuses is told by the browser, too
        assert [one for one in seen.complaints() if "Failed to load resource" not in one] == []


@contextlib.asynccontextmanager
async def page_host(sync: DataSync, source: FaultySource) -> AsyncIterator[PageHost]:
    """Start the DataSync and serve its page within the block."""
    access = access_of(f"http://127.0.0.1:{free_ports(1)[0]}")
    hub = Hub(source, _QUICK)
    async with sync, hub:
        listener = await serve_app(app_for(hub, access, status=sync.status), access)
        try:
            yield PageHost(sync, source, hub, access.port)
        finally:
            await listener.aclose()
