"""The status page, metrics and health of any DataSync, whatever its sources: an application to
mount, or a server of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from datasync.panels import Panel
from datasync.restsync._health import Health
from datasync.restsync._mounted import stop_signals
from datasync.restsync._overview import StatusOf
from datasync.restsync.agent import app_for, listen
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.serving.known import Known
from datasync.status import StatusAddress

__all__ = ["StatusPage", "serve"]


class StatusPage:
    """The page of one DataSync; its `app` follows that from the first request on.

    known: what the DataSync knows.
    status: its `DataSync.status`.
    panels: those that it shows, by name, as they are by now.
    check: raises where the DataSync cannot be used here and now.
    access: who may come; without it, whatever the application is mounted in says so.
    """

    def __init__(
        self,
        known: Known,
        status: StatusOf,
        panels: Mapping[str, Panel],
        check: Callable[[], None],
        access: Access | None = None,
    ) -> None:
        self._hub = Hub(known)
        self.app = app_for(self._hub, access, status=status, panels=panels, wake=self._wake)
        self._check = check
        self._mounted = contextlib.ExitStack()
        self._is_mounted = access is None

    async def _wake(self) -> None:
        """Follow the DataSync. Raises `WrongLoop`, `Forked`, `WatchClosed`."""
        if self._hub.following or self._hub.closed:
            return
        self._check()
        if self._is_mounted:
            self._mounted.enter_context(stop_signals(self.app.end_streams))
        await self._hub.start()

    async def aclose(self) -> None:
        """Follow it no longer; streams end."""
        self._mounted.close()
        self.app.end_streams()
        await self._hub.aclose()


async def serve(
    known: Known,
    status: StatusOf,
    panels: Mapping[str, Panel],
    ready: Callable[[], bool],
    check: Callable[[], None],
    closing: contextlib.AsyncExitStack,
    address: str,
    health: str | None,
) -> StatusAddress:
    """Listen at `address` with the page, and at `health` for probes alone.

    ready: what the probes ask.
    closing: ends it all.

    Raises `BadUrl`, `UsageError`, `BadStore` where nothing can listen there.
    """
    access = Access.to_listen(address, "http", "serve_status")
    access.check_bind()
    probes = None if health is None else Access.to_listen(health, "http", "health=")

    async with contextlib.AsyncExitStack() as begun:
        if probes is not None:  # G11: for anybody, and nothing is behind it
            probes = await _listen(Health(ready), probes, begun)
        page = StatusPage(known, status, panels, check, access)
        access = await _listen(page.app, access, begun, stalled=page.app.limits.stalled)
        begun.push_async_callback(page.aclose)  # before the server, which waits for its streams
        closing.push_async_callback(begun.pop_all().aclose)
    return StatusAddress(_url(access), None if probes is None else _url(probes))


async def _listen(
    app: Any, access: Access, begun: contextlib.AsyncExitStack, **options: Any
) -> Access:
    """Where it listens by now, with the port that was free where any would do."""
    listener = await listen(app, access, **options)
    begun.push_async_callback(listener.aclose)
    return access.at_port(listener.port)


def _url(access: Access) -> str:
    return f"{'https' if access.tls else 'http'}://{access.authority}"
