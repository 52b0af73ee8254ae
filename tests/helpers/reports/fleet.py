"""Agents that report, who reads them, and the stores between them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from datasync import DataSync, Event, NotApplied, Refused, Report, Reports, Source, Verdict
from datasync.outcome import KeyOutcome
from datasync.testing.contract import eventually
from tests.helpers.etcd.etcd_server import NEW, etcd_server
from tests.helpers.redis.redis_server import redis_server

__all__ = [
    "CONFIG",
    "STATUS",
    "Readers",
    "agent_of",
    "as_long_as",
    "at_rest",
    "asked_and_answered",
    "digest",
    "knows",
    "not_applied",
    "opened",
    "reading",
    "reported_and_settled",
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


class Readers:
    """What was read of each agent last, and how often."""

    def __init__(self, sync: DataSync, prefix: str = STATUS) -> None:
        self.last: dict[str, Report] = {}
        self.all: list[Report] = []
        self._reports = sync.reports(prefix)

    async def _read(self) -> None:
        async with contextlib.aclosing(self._reports) as reports:
            async for report in reports:
                self.last[report.agent] = report
                self.all.append(report)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[Readers]:
        """Within the block they read."""
        task = asyncio.create_task(self._read())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def of(self, agent: str = "vpp1") -> Report:
        """What an agent reported last; there has to be something."""
        assert agent in self.last, f"{agent} has not reported"
        return self.last[agent]

    async def sees(self, *, agent: str = "vpp1", **verdicts: str) -> Report:
        """Wait until these are the open keys of an agent, by the ends of their names."""

        def seen() -> bool:
            opened = self.of(agent).open.items()
            return {key.rpartition("/")[2]: told.verdict for key, told in opened} == verdicts

        await eventually(seen, what=f"{agent} reports {verdicts}")
        return self.of(agent)


@contextlib.asynccontextmanager
async def reading(
    url: str | Source, agent: DataSync, *, ready: bool = True
) -> AsyncIterator[tuple[DataSync, Readers]]:
    """A controller that reads, beside a running agent, which has settled its first RESYNC if it is
    to be `ready`.
    """
    async with agent, DataSync(url) as ctl, Readers(ctl).reading() as readers:
        if ready:
            await agent.ready(60)
        yield ctl, readers


async def at_rest(ctl: DataSync, pause: float) -> None:
    """Wait until nobody else has written anything for so many seconds; what is written elsewhere
    makes all look again.
    """
    for _ in range(100):
        before = await ctl.put("elsewhere", b"") or 0
        await asyncio.sleep(pause)
        if await ctl.put("elsewhere", b"") == before + 1:
            return
    pytest.fail("they go on reporting")


async def reported_and_settled(url: str) -> None:
    """What every store has to bring to those who read: what is refused, that it is settled, and
    what is left of it when the agent was away.
    """
    async with reading(url, agent_of(url)) as (ctl, readers):
        await ctl.put(CONFIG + "a", b"good")
        await ctl.put(CONFIG + "b", b"bad")
        report = await readers.sees(b="refused")
        refused = report.open["config/b"]
        assert (refused.reason, refused.digest) == ("is bad", digest(b"bad"))
        assert (refused.watch, report.alive, report.well) == ("config", True, False)

        await ctl.put(CONFIG + "b", b"good")
        report = await readers.sees()
        assert report.scopes == ["config/"]
        await ctl.put(CONFIG + "c", b"bad")
        await readers.sees(c="refused")

    # what it left stays as it was, until it knows better
    async with DataSync(url) as ctl, Readers(ctl).reading() as readers:
        report = await readers.sees(c="refused")
        assert (report.stopped, report.alive) == (True, False)
        await ctl.delete(CONFIG + "c")
        async with agent_of(url):
            await readers.sees()
            await eventually(lambda: readers.of().alive)


async def not_applied(write: Awaitable[object]) -> NotApplied:
    """What a write that is not applied raises."""
    with pytest.raises(NotApplied) as caught:
        await write
    return caught.value


async def knows(ctl: DataSync, agent: str, *, stopped: bool = False) -> None:
    """Wait until a writer that has asked before knows of this agent."""
    agents = ctl._asking[STATUS]._agents
    await eventually(lambda: agent in agents and agents[agent].stopped is stopped)


async def asked_and_answered(url: str) -> None:
    """What every store has to bring back to a writer that asks."""
    ask = Reports(STATUS, timeout=60)
    async with DataSync(url) as ctl:
        error = await not_applied(ctl.put(CONFIG + "a", b"early", confirm=ask))
        assert error.verdict is Verdict.ABSENT
        async with reading(url, agent_of(url)) as (_, readers):
            await eventually(lambda: readers.of().well)
            await knows(ctl, "vpp1")
            await ctl.put(CONFIG + "a", b"good", confirm=ask)
            await ctl.delete(CONFIG + "a", confirm=ask)

            error = await not_applied(ctl.put(CONFIG + "b", b"bad", confirm=ask))
            refused = KeyOutcome(Verdict.REFUSED, "is bad", "vpp1")
            assert (error.verdict, error.outcomes) == (refused.verdict, {CONFIG + "b": refused})
            assert "b at vpp1: is bad" in str(error)

            txn = ctl.txn().put(CONFIG + "c", b"good").put(CONFIG + "d", b"bad")
            error = await not_applied(txn.commit(confirm=ask))
            assert error.outcomes == {CONFIG + "d": refused}
            error = await not_applied(ctl.put("/vnf-agent/vpp1/other", b"", confirm=ask))
            assert error.verdict is Verdict.UNWATCHED

            async def left() -> list[str]:
                return [
                    kv.key
                    for below in ("tickets/", "answers/")
                    async for kv in ctl.list(STATUS + below)
                ]

            await as_long_as(left)


async def as_long_as(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until it is not true any more."""
    async with asyncio.timeout(60):
        while await condition():  # noqa: ASYNC110 - it is asked of a store
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def opened(store: str) -> AsyncIterator[str]:
    """The URL of an empty store of that kind."""
    match store:
        case "sqlite":
            with tempfile.TemporaryDirectory() as directory:
                yield f"sqlite:///{Path(directory) / 'store.db'}"
        case "redis":
            async with redis_server() as redis:
                yield redis.url
        case "etcd":
            async with etcd_server(NEW) as etcd:
                yield etcd.url
        case _:
            raise AssertionError(store)
