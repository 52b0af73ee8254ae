"""rest://host:port - an agent that HTTP clients push to (Go: restsync); `rests://` speaks TLS.

`rest://127.0.0.1:9191[?initial=empty&token=...]`; docs/rest.md has the whole of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from datasync.connecting import cannot_listen, check_free
from datasync.endpoints import is_loopback
from datasync.panels import Panel
from datasync.restsync._limits import Limits
from datasync.restsync._mounted import only_worker, stop_signals
from datasync.restsync._overview import StatusOf
from datasync.restsync._panels import JoinedPanels
from datasync.restsync.app import RestApp
from datasync.restsync.listener import Listener
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.serving.inbox import Inbox
from datasync.source import Committed, Item, Operation, Session, Source
from datasync.status import Status, joined
from datasync.transports import Url

__all__ = ["RestSource", "app_for", "from_url", "listen", "serve_app", "serving"]


def from_url(url: Url) -> RestSource:
    """The agent that listens where the URL says."""
    access = Access.of_url(url, tls=url.scheme == "rests")
    return RestSource(access, empty=url.option("initial", _initial, False))


def _initial(text: str) -> bool:
    if text != "empty":
        raise ValueError(f"takes empty, or is left out, not {text!r}")
    return True


class RestSource(Source):
    """What HTTP clients have pushed.

    access: where to listen, and who may come. Without it nothing listens: mount `app` in an
        application of your own, which then says who may come.
    empty: begin ready and empty, instead of waiting for the first whole state.
    """

    capabilities = Inbox.capabilities

    def __init__(
        self,
        access: Access | None = None,
        *,
        empty: bool = False,
        limits: Limits = Limits(),  # noqa: B008 - immutable
    ) -> None:
        self.name = "rest://" if access is None else access.name
        self._access = access
        self._inbox = Inbox(self.name, empty=empty)
        self._hub = Hub(self._inbox)
        self._attached: dict[StatusOf, Mapping[str, Panel]] = {}
        """The DataSyncs that use it, by their statuses, with their panels."""
        self._kept = False
        self._starting = asyncio.Lock()
        self._listener: Listener | None = None
        self._running = False
        self._mounted = contextlib.ExitStack()
        self.app = app_for(
            self._hub, access, status=lambda: joined(self._attached),
            panels=JoinedPanels(self._attached.values()), limits=limits,
        )  # fmt: skip

    def attach(self, status: Callable[[], Any], panels: Mapping[str, Any]) -> None:
        self._forget_closed()
        self._attached[status] = panels

    def _forget_closed(self) -> None:
        """G9: a status leads to its DataSync, which is gone once it is closed."""
        for status in [known for known in self._attached if _closed(known())]:
            del self._attached[status]

    async def start(self) -> None:
        """Listen until `stop`, also while no DataSync uses this. Raises `BadStore`
        where that is not possible."""
        self._kept = True
        await self._run()

    async def stop(self) -> None:
        """End what `start` began."""
        self._kept = False
        await self.aclose()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        await self._run()
        return await self._inbox.open(scopes, resume, added)

    async def _run(self) -> None:
        async with self._starting:
            if self._running:
                return
            try:
                if self._access is None:
                    self._mounted.enter_context(only_worker(self.name))
                    self._mounted.enter_context(stop_signals(self.app.end_streams))
                    self.app.begin_streams()
                await self._hub.start()
                if self._access is not None:
                    self._listener = await serve_app(self.app, self._access)
                self._running = True
            finally:
                if not self._running:
                    await self._stop()

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        return await self._inbox.commit(operations, reply=reply)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        return await self._inbox.get(key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        return await self._inbox.page(prefix, token, limit, keys_only=keys_only)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        return await self._inbox.replace(items)

    async def aclose(self) -> None:
        self._forget_closed()
        if not self._kept and self._inbox.followers <= 1:  # one is the hub
            await self._stop()

    async def _stop(self) -> None:
        self._running = False
        self._mounted.close()
        await self._hub.aclose()
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.aclose()


def app_for(hub: Hub, access: Access | None, **more: Any) -> RestApp:
    """The application for a hub that lets in the clients that `access` admits."""
    if access is None:
        return RestApp(hub, **more)
    return RestApp(
        hub,
        admits=None if access.token is None else access.admits,
        local=is_loopback(access.host) and access.token is None,
        **more,
    )


def _closed(status: Status) -> bool:
    return all(source.state == "closed" for source in status.sources)


async def serve_app(app: RestApp, access: Access) -> Listener:
    """Serve the application where `access` says. Raises `BadStore` where
    nothing can listen, `BadUrl`."""
    access.check_bind()
    return await listen(app, access, stalled=app.limits.stalled)


async def listen(app: Any, access: Access, **options: Any) -> Listener:
    """Serve any application there. Who may reach it is for the caller to see to; `options` are
    those of `Listener`. Raises `BadStore`."""
    contexts = None if access.files is None else access.files.server_contexts()
    await check_free(access.name, access.host, access.port)
    listener = Listener(app, contexts, **options)
    try:
        await listener.start(access.host, access.port)
    except (OSError, UnicodeError) as error:
        raise cannot_listen(access.name, error) from None
    return listener


@contextlib.asynccontextmanager
async def serving(access: Access, hub: Hub) -> AsyncIterator[Listener]:
    """Serve what `hub` follows within the block. Raises `BadStore`, `BadUrl`."""
    listener = await serve_app(app_for(hub, access), access)
    try:
        yield listener
    finally:
        await listener.aclose()
