"""What is shared: a source by several DataSyncs, and its connection by all their
requests. The last user closes it."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from datasync.errors import Disconnected, OutcomeUnknown
from datasync.source import Source

__all__ = ["SharedConnection", "SharedSource", "closed_on_error"]

T = TypeVar("T")


class SharedSource(Source):
    """A source that is closed with the last DataSync that uses it."""

    _users = 0

    def attach(self, status: Callable[[], Any], panels: Mapping[str, Any]) -> None:
        self._users += 1

    async def aclose(self) -> None:
        self._users = max(0, self._users - 1)
        if not self._users:
            await self._close()

    @abc.abstractmethod
    async def _close(self) -> None:
        """Close all connections; a later request opens them again."""


class Connection(Protocol):
    """What can be shared.

    ready: whether it stands, as far as can be known.
    aclose: may be called twice.
    """

    @property
    def ready(self) -> bool: ...

    async def aclose(self) -> None: ...


C = TypeVar("C", bound=Connection)


@contextlib.asynccontextmanager
async def closed_on_error(close: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """G12: what was opened is closed where the block fails, whose error may be kept."""
    try:
        yield
    except BaseException:
        await close()
        raise


class SharedConnection(Generic[C]):
    """The one that new requests go over, and those that older requests still do."""

    def __init__(self) -> None:
        self._current: C | None = None
        self._users: dict[C, int] = {}

    @property
    def ready(self) -> C | None:
        """The one for new requests, where it stands."""
        return self._current if self._current is not None and self._current.ready else None

    async def reopen(self, opener: Callable[[], Awaitable[C]]) -> C:
        """Have new requests go over what `opener` opens; never two of them at a time: the one
        before is released first."""
        await self.release()
        connection = self._current = await opener()
        return connection

    async def release(self) -> None:
        """Have no new request go over the one there is, which is closed once nobody uses it any
        more."""
        before, self._current = self._current, None
        if before is not None and before not in self._users:
            await before.aclose()

    async def use(self, connection: C, request: Callable[[C], Awaitable[T]]) -> T:
        """The result of a request over that connection; where it fails, no
        new request goes over it."""
        self._users[connection] = self._users.get(connection, 0) + 1
        try:
            return await request(connection)
        except (Disconnected, OutcomeUnknown):
            if self._current is connection:
                self._current = None
            raise
        finally:
            self._users[connection] -= 1
            if not self._users[connection]:
                del self._users[connection]
                if connection is not self._current:
                    await connection.aclose()

    async def aclose(self) -> None:
        """Close all at once."""
        open_ones = {*self._users, *(() if self._current is None else (self._current,))}
        self._current = None
        async with contextlib.AsyncExitStack() as closing:
            # G12: each, though one of them is cancelled
            for one in open_ones:
                closing.push_async_callback(one.aclose)
