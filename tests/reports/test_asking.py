"""Writers that ask agents what became of a write."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence

import msgspec
import pytest

from datasync import (
    BadPrefix,
    DataSync,
    Event,
    Layer,
    NotReady,
    Pending,
    Reports,
    UsageError,
    Verdict,
    WatchClosed,
    blocking,
)
from datasync.errors import UnsupportedOption
from datasync.kvdbsync.memory import MemorySource, named
from datasync.reports import answering
from datasync.reports.form import OpenKeys, Progress, Ticket, digest_of, encode
from datasync.source import Committed, Operation
from datasync.testing.contract import eventually
from datasync.testing.contract.reporting import not_applied
from tests.helpers.reports.fleet import (
    CONFIG,
    STATUS,
    agent_of,
    as_long_as,
    knows,
    leaves_nothing,
    reading,
)

Run = Callable[[Coroutine[object, object, None]], None]

ASK = Reports(STATUS, timeout=60)


async def asked(ctl: DataSync) -> None:
    """Wait until there is a ticket."""

    async def none() -> bool:
        return not [kv.key async for kv in ctl.list(STATUS + "tickets/")]

    await as_long_as(none)


class Held:
    """An agent whose handler holds each value that it is told to."""

    def __init__(self, url: str, **options: object) -> None:
        given: dict[str, object] = {"label": "vpp1", "report_to": "status/", **options}
        self.sync = DataSync(url, **given)  # type: ignore[arg-type]
        self.let = asyncio.Event()

        @self.sync.watcher("config/")
        async def config(event: Event[bytes]) -> None:
            raws = [change.raw for change in event.changes]
            if b"waits" in raws:
                raise Pending("no eth0")
            if b"holds" in raws:
                await self.let.wait()


def test_another_value_by_then_is_superseded(run: Run, memory_url: str) -> None:
    async def main() -> None:
        agent = Held(memory_url, ack_timeout=100)
        async with reading(memory_url, agent.sync) as (ctl, readers):
            await eventually(lambda: readers.of().well)
            first = asyncio.create_task(not_applied(ctl.put(CONFIG + "a", b"holds", confirm=ASK)))
            await asked(ctl)
            second = asyncio.create_task(ctl.put(CONFIG + "a", b"other", confirm=ASK))
            error = await first
            assert error.verdict is Verdict.SUPERSEDED
            assert not second.done(), "the handler has not seen it"
            agent.let.set()
            await second

    run(main())


@pytest.mark.parametrize(
    ("raw", "ack_timeout", "verdict", "reason"),
    [
        (b"waits", 100, Verdict.PENDING, "no eth0"),
        (b"holds", 0.1, Verdict.OVERDUE, "no report in time"),
    ],
)
def test_pending_and_overdue_are_told_as_they_come(
    run: Run, memory_url: str, raw: bytes, ack_timeout: float, verdict: Verdict, reason: str
) -> None:
    async def main() -> None:
        agent = Held(memory_url, ack_timeout=ack_timeout)
        async with reading(memory_url, agent.sync) as (ctl, readers):
            await eventually(lambda: readers.of().well)
            error = await not_applied(ctl.put(CONFIG + "a", raw, confirm=ASK))
            assert (error.verdict, error.outcomes[CONFIG + "a"].reason) == (verdict, reason)
            agent.let.set()

    run(main())


def test_all_any_or_named_agents(run: Run, memory_url: str) -> None:
    async def main() -> None:
        one, other = (
            agent_of(memory_url),
            DataSync(memory_url, label="vpp1", report_to="status/", agent="vpp2"),
        )

        @other.watcher("config/a/")
        async def config(event: Event[bytes]) -> None: ...

        async with other, reading(memory_url, one) as (ctl, readers):
            await eventually(lambda: readers.of("vpp1").well and readers.of("vpp2").well)

            async def verdict(key: str, raw: bytes, agents: str | Sequence[str]) -> str:
                ask = Reports(STATUS, agents=agents, timeout=60)
                try:
                    await ctl.put(CONFIG + key, raw, confirm=ask)
                except Exception as error:
                    said = error.outcomes[CONFIG + key]  # type: ignore[attr-defined]
                    return f"{said.verdict.value} at {said.agent}"
                return "accepted"

            assert await verdict("a/1", b"good", "all") == "accepted"
            assert await verdict("a/1", b"bad", "all") == "refused at vpp1"
            assert await verdict("a/2", b"bad", "any") == "accepted"
            assert await verdict("a/3", b"bad", ["vpp2"]) == "accepted"
            # who does not watch it has nothing to say among all, and is the answer where named
            assert await verdict("b/1", b"good", "all") == "accepted"
            assert await verdict("b/2", b"good", ["vpp1", "vpp2"]) == "unwatched at vpp2"
            assert await verdict("b/3", b"good", "any") == "accepted"
            assert await verdict("a/4", b"good", ["vpp1", "vpp3"]) == "absent at vpp3"

    run(main())


def progress_of(agent: str, at: float, lease: float = 30.0) -> bytes:
    return encode(
        Progress(
            agent=agent, instance="1", time=at, lease=lease, open=OpenKeys(0, "0" * 64),
            layers=[], scopes=[],
        )
    )  # fmt: skip


@pytest.mark.parametrize("wrong", [-1000.0, 1000.0])
def test_the_clock_of_an_agent_may_differ(run: Run, memory_url: str, wrong: float) -> None:
    """Once it was seen to report, it is there for its lease, and no longer."""

    async def main() -> None:
        async with DataSync(memory_url) as ctl:

            async def report(lease: float) -> None:
                at = time.time() + wrong
                await ctl.put(STATUS + "progress/other", progress_of("other", at, lease))
                agents = ctl._asking[STATUS, None]._agents
                await eventually(lambda: "other" in agents and agents["other"].time == at)

            async def is_asked(timeout: float = 0.05) -> bool:
                ask = Reports(STATUS, agents=["other"], timeout=timeout)
                error = await not_applied(ctl.put(CONFIG + "a", b"1", confirm=ask))
                return error.verdict is not Verdict.ABSENT

            await is_asked(60)  # from now on it looks on
            await report(lease=60)
            assert await is_asked()
            await report(lease=0.2)
            await as_long_as(is_asked)

    run(main())


def test_a_prefix_where_nobody_reports_is_named(run: Run, memory_url: str) -> None:
    async def main() -> None:
        async with DataSync(memory_url) as ctl:
            error = await not_applied(ctl.put("config/a", b"1", confirm=Reports("nowhere/")))
            assert str(error) == (
                "written, but absent (config/a: no agent reports below 'nowhere/'); see the reports of"
                " the agents"
            )

    run(main())


def test_who_is_not_there_holds_nobody_up(run: Run, memory_url: str) -> None:
    async def main() -> None:
        async with DataSync(memory_url) as ctl:
            await ctl.put(STATUS + "progress/gone", progress_of("gone", time.time() - 100))
            ask = Reports(STATUS, agents=["gone"], timeout=60)
            error = await not_applied(ctl.put(CONFIG + "a", b"1", confirm=ask))
            said = error.outcomes[CONFIG + "a"]
            assert (said.verdict, said.agent) == (Verdict.ABSENT, "gone")
            assert "no sign of life for 1" in said.reason
            assert await ctl.get(CONFIG + "a"), "it is written all the same"

            async with agent_of(memory_url):
                await knows(ctl, "vpp1")
            await knows(ctl, "vpp1", stopped=True)
            ask = Reports(STATUS, agents=["vpp1"], timeout=60)
            error = await not_applied(ctl.put(CONFIG + "a", b"2", confirm=ask))
            assert error.outcomes[CONFIG + "a"].reason == "it was closed"

            # it lives, as far as one can see, and answers nothing
            await ctl.put(STATUS + "progress/mute", progress_of("mute", time.time() + 3600))
            await knows(ctl, "mute")
            ask = Reports(STATUS, agents=["mute"], timeout=0.2)
            error = await not_applied(ctl.put(CONFIG + "a", b"3", confirm=ask))
            assert error.outcomes[CONFIG + "a"].reason == "no answer in time"
            assert error.verdict is Verdict.OVERDUE

    run(main())


def test_a_ticket_is_answered_after_a_restart_of_the_agent(run: Run, memory_url: str) -> None:
    async def main() -> None:
        agent = Held(memory_url, ack_timeout=100, close_timeout=0.1)
        async with reading(memory_url, agent.sync) as (ctl, readers):
            await eventually(lambda: readers.of().well)
            write = asyncio.create_task(ctl.put(CONFIG + "a", b"holds", confirm=ASK))
            await asked(ctl)
            await agent.sync.aclose()
            agent.let.set()
            async with agent_of(memory_url):
                await write

    run(main())


def test_what_a_dead_writer_left_is_swept(
    run: Run, memory_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answering, "_SWEEP", 0.02)
    monkeypatch.setattr(answering, "KEPT", 0.02)
    now = time.time()

    async def main() -> None:
        async with DataSync(memory_url) as ctl:
            await ctl.put(CONFIG + "a", b"1")
            written: dict[str, str | None] = {CONFIG + "a": digest_of(b"1")}
            old = encode(Ticket(written, 5.0, now - 3600))
            await ctl.put(STATUS + "tickets/dead/1", old)
            await ctl.put(STATUS + "answers/dead/1/vpp1", b"{}")
            fresh = encode(Ticket(written, 3600.0, now + 3600))
            await ctl.put(STATUS + "tickets/alive/1", fresh)
            await ctl.put(STATUS + "tickets/odd", b"?")
            async with agent_of(memory_url):

                async def left() -> list[str]:
                    return [kv.key async for kv in ctl.list(STATUS) if "/dead/" in kv.key]

                await as_long_as(left)

                async def unanswered() -> bool:
                    return await ctl.get(STATUS + "answers/alive/1/vpp1") is None

                await as_long_as(unanswered)
                assert await ctl.get(STATUS + "tickets/alive/1")

    with caplog.at_level(logging.WARNING, "datasync.reports"):
        run(main())
    assert "tickets/odd is not a ticket that can be read here" in caplog.text


def test_the_clock_of_a_writer_may_differ(
    run: Run, memory_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "_SWEEP", 0.02)

    async def main() -> None:
        async with reading(memory_url, agent_of(memory_url)) as (ctl, readers):
            await eventually(lambda: readers.of().well)
            long_ago = Ticket({CONFIG + "a": None}, 60.0, time.time() - 3600)
            await ctl.put(STATUS + "tickets/me/1", encode(long_ago))

            async def unanswered() -> bool:
                return await ctl.get(STATUS + "answers/me/1/vpp1") is None

            await as_long_as(unanswered)
            await asyncio.sleep(0.2)  # it would be swept by then
            assert await ctl.get(STATUS + "tickets/me/1")

    run(main())


class Slotted(MemorySource):
    """A store whose keys lie each in a slot of its own, as in a cluster of Redis."""

    capabilities = msgspec.structs.replace(MemorySource.capabilities, cas=False)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        if len(operations) > 1:
            raise UnsupportedOption("they lie in different slots; write them one by one")
        return await super().commit(operations, reply=reply)


def test_where_keys_have_no_transaction_they_are_written_one_by_one(run: Run) -> None:
    async def main() -> None:
        store = Slotted("slotted")
        async with reading(store, agent_of(store)) as (ctl, readers):
            await eventually(lambda: readers.of().well)
            await ctl.put(CONFIG + "a", b"good", confirm=ASK)
            error = await not_applied(ctl.put(CONFIG + "b", b"bad", confirm=ASK))
            assert error.verdict is Verdict.REFUSED
            await readers.sees(b="refused")

            async def left() -> list[str]:
                return [kv.key async for kv in ctl.list(STATUS + "tickets/")]

            await as_long_as(left)

    run(main())


def test_closing_ends_a_question_and_leaves_no_task(run: Run, memory_url: str) -> None:
    async def main() -> None:
        async with DataSync(memory_url) as other:
            await other.put(STATUS + "progress/mute", progress_of("mute", time.time() + 3600))
            async with DataSync(memory_url) as ctl:
                write = asyncio.create_task(ctl.put(CONFIG + "a", b"1", confirm=ASK))
                await asked(other)
            with pytest.raises(WatchClosed):
                await write
            assert not [task for task in asyncio.all_tasks() if "tickets" in task.get_name()]

    run(main())


def test_what_cannot_be_asked_is_said_before_anything_is_written(
    run: Run, memory_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="'all', 'any' or a list"):
        Reports(STATUS, agents="vpp1")
    with pytest.raises(UsageError, match="asks nobody"):
        Reports(STATUS, agents=[])
    with pytest.raises(UsageError, match="positive number of seconds"):
        Reports(STATUS, timeout=0)
    with pytest.raises(UsageError, match="takes a prefix as 'status/', got NoneType"):
        Reports(None)  # type: ignore[arg-type]
    for agents in ([""], ["vpp1", 3], 3):
        with pytest.raises(UsageError, match="a list of names, got"):
            Reports(STATUS, agents=agents)  # type: ignore[arg-type]

    async def main() -> None:
        source = named(memory_url)
        async with DataSync(source) as ctl:
            with pytest.raises(BadPrefix):
                await ctl.put(CONFIG + "a", b"1", confirm=Reports("status"))
            with pytest.raises(UsageError, match="asked by key"):
                await ctl.delete(CONFIG, prefix=True, confirm=ASK)
            assert await ctl.get(CONFIG + "a") is None

        async def hang(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(source, "open", hang)
        async with DataSync(Layer(source, optional=True)) as ctl:
            with pytest.raises(NotReady, match="nothing was written"):
                await ctl.put(CONFIG + "a", b"1", confirm=Reports(STATUS, timeout=0.1))

        two = [Layer("memory://one", name="one"), Layer("memory://two", name="two")]
        async with DataSync(*two, write_to=["one", "two"]) as ctl:
            with pytest.raises(UsageError, match="one store"):
                await ctl.put(CONFIG + "a", b"1", confirm=ASK)

    run(main())


def test_programs_without_asyncio_ask_as_well(memory_url: str) -> None:
    agent = blocking.DataSync(memory_url, label="vpp1", report_to="status/")

    @agent.watcher("config/")
    def config(event: blocking.Event[bytes]) -> None:
        if any(change.raw == b"bad" for change in event.changes):
            raise blocking.Refused("is bad")

    with agent, blocking.DataSync(memory_url, label="vpp1") as ctl:
        next(report for report in ctl.reports("status/") if report.well)
        ask = blocking.Reports("status/", timeout=60)
        ctl.put("config/a", b"good", confirm=ask)
        with pytest.raises(blocking.NotApplied, match="config/a at vpp1: is bad"):
            ctl.txn().put("config/a", b"bad").commit(confirm=ask)


def test_g9_who_has_asked_and_who_has_answered_are_gone_without_the_collector(run: Run) -> None:
    url = f"memory://{uuid.uuid4().hex}"  # it stays as long as the process

    async def session() -> None:
        async with agent_of(url) as agent, DataSync(url) as ctl:
            await eventually(lambda: agent._reporter is not None and agent._reporter.reports > 0)
            await ctl.put(CONFIG + "a", b"1", confirm=ASK)

    run(leaves_nothing(session))
