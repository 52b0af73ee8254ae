"""Reports: who writes hears what agents made of it, by the store between them (docs/reports.md)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from datasync import (
    DataSync,
    Event,
    NotApplied,
    Outcomes,
    Pending,
    Refused,
    Report,
    Reports,
    Source,
    UsageError,
    Verdict,
)
from datasync.kvdbsync.memory import MemorySource
from datasync.outcome import KeyOutcome
from datasync.testing.contract.harness import Store
from datasync.testing.contract.probe import Probe
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually
from datasync.testing.faults.muted import MutedSource

__all__ = ["Readers", "Reporting", "not_applied"]

STATUS = "status/"
ASK = Reports(STATUS, timeout=60)
_QUIET = 0.5
"""Seconds, more than twice the time between two reports of an agent that has something to say."""


class Agent:
    """An agent that reports. What it makes of a value is told by the value: it refuses b"bad",
    applies b"waits" later, and holds b"holds" until `let` is set.
    """

    def __init__(
        self,
        store: Store,
        name: str = "vpp1",
        *,
        source: Source | None = None,
        report_to: str | Source = STATUS,
        **options: Any,
    ) -> None:
        self.name = name
        self.sync = store.open(url=source, agent=name, report_to=report_to, **options)
        self.seen: dict[str, bytes | None] = {}
        self.let = asyncio.Event()
        register: Any = self.sync.watcher("config/", name="config")
        register(self._apply)

    @contextlib.asynccontextmanager
    async def running(self, readers: Readers) -> AsyncIterator[None]:
        """Within the block it runs; it has reported that it has settled all that there was."""
        async with self.sync:
            await self.sync.ready(60)
            await eventually(lambda: readers.of(self.name).alive)
            yield

    async def _apply(self, event: Event[bytes]) -> None:
        outcomes: dict[str, Refused | Pending] = {}
        for change in event.changes:
            self.seen[change.key] = change.raw
            if change.raw == b"bad":
                outcomes[change.key] = Refused("is bad")
            elif change.raw == b"waits":
                outcomes[change.key] = Pending("no eth0")
        if b"holds" in (change.raw for change in event.changes):
            await self.let.wait()
        if outcomes:
            raise Outcomes(outcomes)


class Readers:
    """What was read of each agent last, and all of it."""

    def __init__(self, sync: DataSync, prefix: str) -> None:
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


class Reporting(Base):
    """Agents that report, readers, and writers that wait for the verdicts of agents."""

    @scenario()
    async def test_reports_need_a_source_that_takes_writes_and_are_not_watched_by_their_agent(
        self, store: Store
    ) -> None:
        if not store.capabilities.writable:
            with pytest.raises(UsageError, match="takes no writes"):
                Agent(store)
            return
        agent = Agent(store)
        with pytest.raises(UsageError, match="would see the reports"):
            agent.sync.watch("all", STATUS)

    @scenario(writes=True)
    async def test_reports_say_how_far_an_agent_is_until_it_is_closed(self, store: Store) -> None:
        caps, agent = store.capabilities, Agent(store)
        async with store.open() as ctl, Readers(ctl, STATUS).reading() as readers:
            async with agent.running(readers):
                revision = await ctl.put("config/a", b"1")
                counted = revision if caps.revisions and caps.order == "total" else None
                await eventually(
                    lambda: [layer.revision for layer in readers.of().layers] == [counted]
                )
                await eventually(lambda: readers.of().well)
                assert readers.of().scopes == ["config/"]
            await eventually(lambda: readers.of().stopped)
            assert not readers.of().alive

    @scenario(writes=True)
    async def test_a_key_that_is_not_applied_is_reported_until_it_is_settled(
        self, store: Store
    ) -> None:
        async with _meeting(store, Agent(store)) as (ctl, readers):
            await ctl.put("config/a", b"bad")
            await ctl.put("config/b", b"waits")
            report = await readers.sees(a="refused", b="pending")
            refused, pending = report.open["config/a"], report.open["config/b"]
            assert (refused.reason, refused.digest) == ("is bad", _digest(b"bad"))
            assert (pending.reason, pending.digest) == ("no eth0", _digest(b"waits"))
            assert (refused.watch, report.alive, report.well) == ("config", True, False)

            await ctl.put("config/a", b"good")
            await ctl.delete("config/b")
            await readers.sees()

    @scenario(writes=True)
    async def test_a_writer_that_asks_hears_the_verdict_of_each_key(self, store: Store) -> None:
        async with _meeting(store, Agent(store)) as (ctl, _):
            await ctl.put("config/a", b"good", confirm=ASK)
            await ctl.delete("config/a", confirm=ASK)

            error = await not_applied(ctl.put("config/a", b"bad", confirm=ASK))
            refused = KeyOutcome(Verdict.REFUSED, "is bad", "vpp1")
            assert (error.verdict, error.outcomes) == (refused.verdict, {"config/a": refused})
            assert (error.revision is not None) is store.capabilities.revisions
            if store.capabilities.transactions:
                txn = ctl.txn().put("config/a", b"good").put("config/b", b"waits")
                error = await not_applied(txn.commit(confirm=ASK))
                pending = KeyOutcome(Verdict.PENDING, "no eth0", "vpp1")
                assert error.outcomes == {"config/b": pending}

            error = await not_applied(ctl.put("other", b"1", confirm=ASK))
            assert error.verdict is Verdict.UNWATCHED
            nobody = Reports(STATUS, agents=["nobody"], timeout=60)
            error = await not_applied(ctl.put("config/a", b"1", confirm=nobody))
            assert error.verdict is Verdict.ABSENT

    @scenario(writes=True)
    async def test_a_value_that_was_overtaken_is_not_told_as_accepted(self, store: Store) -> None:
        agent = Agent(store, ack_timeout=100)
        async with _meeting(store, agent) as (ctl, _):
            await ctl.put("config/a", b"good", confirm=ASK)
            overtaken = asyncio.create_task(not_applied(ctl.put("config/a", b"holds", confirm=ASK)))
            await eventually(lambda: agent.seen["config/a"] == b"holds" or overtaken.done())
            await ctl.put("config/a", b"other")
            assert (await overtaken).verdict is Verdict.SUPERSEDED
            agent.let.set()

    @scenario(writes=True)
    async def test_an_agent_that_reports_elsewhere_is_asked_there(self, store: Store) -> None:
        elsewhere = MemorySource("reports")
        agent = Agent(store, report_to=elsewhere, ack_timeout=100)
        ask = Reports(STATUS, timeout=60, at=elsewhere)
        async with (
            store.open() as ctl,
            store.open(url=elsewhere) as there,
            Readers(there, STATUS).reading() as readers,
            agent.running(readers),
        ):
            await ctl.put("config/a", b"good", confirm=ask)
            error = await not_applied(ctl.put("config/a", b"bad", confirm=ask))
            assert error.outcomes == {"config/a": KeyOutcome(Verdict.REFUSED, "is bad", "vpp1")}
            await readers.sees(a="refused")
            await ctl.delete("config/a", confirm=ask)
            error = await not_applied(ctl.put("other", b"1", confirm=ask))
            assert error.verdict is Verdict.UNWATCHED

            held = asyncio.create_task(not_applied(ctl.put("config/a", b"holds", confirm=ask)))
            await eventually(lambda: agent.seen["config/a"] == b"holds")
            overtaking = asyncio.create_task(ctl.put("config/a", b"other", confirm=ask))
            assert (await held).verdict is Verdict.SUPERSEDED
            agent.let.set()
            await overtaking

    @scenario(writes=True)
    async def test_an_agent_that_dies_before_it_reports_reports_when_it_is_back(
        self, store: Store
    ) -> None:
        source = MutedSource(store.source())
        agent = Agent(store, source=source)
        async with store.open() as ctl, Readers(ctl, STATUS).reading() as readers:
            async with agent.running(readers):
                await ctl.put("config/a", b"good", confirm=ASK)
                source.mute = True
                asked = asyncio.create_task(not_applied(ctl.put("config/a", b"bad", confirm=ASK)))
                # what cannot be reported is applied all the same
                await eventually(lambda: agent.seen["config/a"] == b"bad")
            assert not asked.done()
            assert (readers.of().open, readers.of().stopped) == ({}, False)

            async with Agent(store).running(readers):
                error = await asked
                assert error.outcomes == {"config/a": KeyOutcome(Verdict.REFUSED, "is bad", "vpp1")}
                report = await readers.sees(a="refused")
                assert report.open["config/a"].digest == _digest(b"bad")

    @scenario("lose", "restore", writes=True)
    async def test_a_store_that_is_lost_delays_reports(self, store: Store) -> None:
        assert store.lose is not None
        assert store.restore is not None
        async with _meeting(store, Agent(store), url=store.direct) as (ctl, readers):
            await ctl.put("config/a", b"good", confirm=ASK)
            await store.lose()
            asked = asyncio.create_task(not_applied(ctl.put("config/a", b"bad", confirm=ASK)))
            await ctl.put("config/b", b"waits")
            await store.restore()
            assert (await asked).verdict is Verdict.REFUSED
            await readers.sees(a="refused", b="pending")

    @scenario(writes=True)
    async def test_two_agents_on_one_store_come_to_rest(self, store: Store) -> None:
        one, two = Agent(store), Agent(store, "vpp2")
        async with _meeting(store, one) as (ctl, readers), two.running(readers):
            status = store.probe(ctl, "status", STATUS)
            error = await not_applied(ctl.put("config/a", b"bad", confirm=ASK))
            assert error.verdict is Verdict.REFUSED
            await readers.sees(agent="vpp1", a="refused")
            await readers.sees(agent="vpp2", a="refused")

            agents = ["vpp1", "vpp2"]
            records = [f"{STATUS}open/{agent}/config/a" for agent in agents]
            progress = [f"{STATUS}progress/{agent}" for agent in agents]
            # the ticket and its answers go
            await eventually(lambda: sorted(status.state) == records + progress)
            await _at_rest(status)
            assert sorted(status.state) == records + progress


@contextlib.asynccontextmanager
async def _meeting(
    store: Store, agent: Agent, *, url: str | Source | None = None
) -> AsyncIterator[tuple[DataSync, Readers]]:
    """A controller that reads, beside a running agent."""
    async with (
        store.open(url=url) as ctl,
        Readers(ctl, STATUS).reading() as readers,
        agent.running(readers),
    ):
        yield ctl, readers


async def not_applied(write: Awaitable[object]) -> NotApplied:
    """What a write that is not applied raises."""
    with pytest.raises(NotApplied) as caught:
        await write
    return caught.value


async def _at_rest(status: Probe) -> None:
    """Wait until no report, ticket or answer has come for a while."""
    for _ in range(40):
        before = len(status.events)
        await asyncio.sleep(_QUIET)
        if len(status.events) == before:
            return
    raise AssertionError("they go on reporting")


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
