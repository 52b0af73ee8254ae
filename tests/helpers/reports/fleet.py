"""Agents that report, and who reads them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

from datasync import DataSync, Event, Refused, Source
from datasync.testing.contract import eventually
from datasync.testing.contract.reporting import Readers
from datasync.testing.contract.waiting import nothing_but, ours, without_collector

__all__ = [
    "CONFIG",
    "STATUS",
    "agent_of",
    "as_long_as",
    "digest",
    "knows",
    "leaves_nothing",
    "reading",
]

CONFIG = "/vnf-agent/vpp1/config/"
"""What these agents watch, by the names of a DataSync without a root."""

STATUS = "/vnf-agent/vpp1/status/"
"""Where the agents of these tests report, by such names."""


def digest(raw: bytes) -> str:
    """As a report names a value."""
    return hashlib.sha256(raw).hexdigest()


def agent_of(url: str | Source, **options: object) -> DataSync:
    """An agent that refuses values of b"bad", and fails at b"boom"."""
    given: dict[str, object] = {"label": "vpp1", "report_to": "status/", **options}
    sync = DataSync(url, **given)  # type: ignore[arg-type]

    @sync.watcher("config/")
    async def config(event: Event[bytes]) -> None:
        if any(change.raw == b"boom" for change in event.changes):
            raise RuntimeError("boom")
        refused = {change.key: "is bad" for change in event.changes if change.raw == b"bad"}
        if refused:
            raise Refused(refused)

    return sync


@contextlib.asynccontextmanager
async def reading(
    url: str | Source, agent: DataSync, *, ready: bool = True
) -> AsyncIterator[tuple[DataSync, Readers]]:
    """A controller that reads, beside a running agent, which has settled its first RESYNC if it is
    to be `ready`.
    """
    async with agent, DataSync(url) as ctl, Readers(ctl, STATUS).reading() as readers:
        if ready:
            await agent.ready(60)
        yield ctl, readers


async def knows(ctl: DataSync, agent: str, *, stopped: bool = False) -> None:
    """Wait until a writer that has asked before knows of this agent."""
    agents = ctl._asking[STATUS, None]._agents
    await eventually(lambda: agent in agents and agents[agent].stopped is stopped)


async def as_long_as(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until it is not true any more."""
    async with asyncio.timeout(60):
        while await condition():  # noqa: ASYNC110 - it is asked of a store
            await asyncio.sleep(0.02)


async def leaves_nothing(session: Callable[[], Awaitable[None]]) -> None:
    """G9: what a session has used is gone behind it, without the collector."""
    with without_collector():
        await session()  # caches are full by then
        before = ours()
        await session()
        await eventually(lambda: nothing_but(before), what="a closed DataSync is gone")
