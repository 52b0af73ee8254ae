"""A source that stands before another, and its sessions: all goes through, but
for what a subclass changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from datasync.capabilities import Capabilities
from datasync.findings import Finding
from datasync.source import Committed, Frame, Item, Operation, PushSession, Session, Source

__all__ = ["ForwardingPush", "ForwardingSession", "ForwardingSource"]

Pass = Callable[[Sequence[Frame]], Sequence[Frame]]


class ForwardingSource(Source):
    """Asks `source` for everything, and goes by its name."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """Those of the source, which may learn of them only when it connects."""
        return self._source.capabilities

    @property
    def forwards_verdicts(self) -> bool:  # type: ignore[override]
        """As `capabilities`."""
        return self._source.forwards_verdicts

    @property
    def relative(self) -> bool:  # type: ignore[override]
        """As `capabilities`."""
        return self._source.relative

    @property
    def instead_of_writing(self) -> str:  # type: ignore[override]
        """As `capabilities`."""
        return self._source.instead_of_writing

    @property
    def trouble(self) -> str | None:  # type: ignore[override]
        """As it is now."""
        return self._source.trouble

    def attach(self, status: Callable[[], Any], panels: Mapping[str, Any]) -> None:
        self._source.attach(status, panels)

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        return await self._source.open(scopes, resume, added)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        return await self._source.commit(operations, reply=reply)

    async def delete_raw(self, key: bytes) -> bool:
        return await self._source.delete_raw(key)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        return await self._source.get(key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        return await self._source.page(prefix, token, limit, keys_only=keys_only)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        return await self._source.replace(items)

    async def diagnose(self, key: str) -> Sequence[Finding]:
        return await self._source.diagnose(key)

    async def aclose(self) -> None:
        await self._source.aclose()


class ForwardingSession(Session):
    """`session`, whose frames go through `passed`."""

    def __init__(self, session: Session, passed: Pass) -> None:
        self._session = session
        self._passed = passed
        self.exclusive = session.exclusive

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        async for frames in self._session:
            yield self._passed(frames)

    async def ping(self) -> None:
        await self._session.ping()

    async def caught_up(self) -> None:
        await self._session.caught_up()

    async def aclose(self) -> None:
        await self._session.aclose()


class ForwardingPush(ForwardingSession, PushSession):
    """The same for a session that pushes."""

    def attach(self, push: Callable[[Sequence[Frame]], None]) -> None:
        assert isinstance(self._session, PushSession)
        passed = self._passed
        self._session.attach(lambda frames: push(passed(frames)))

    def widen(self, scopes: Sequence[str], added: Sequence[str]) -> None:
        assert isinstance(self._session, PushSession)
        self._session.widen(scopes, added)

    def widen_soon(self, widen: Callable[[], None]) -> None:
        assert isinstance(self._session, PushSession)
        self._session.widen_soon(widen)
