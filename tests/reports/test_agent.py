"""What an agent reports of itself, unasked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine

import pytest

from datasync import DataSync, Event, Failed, Layer, Outcomes, Pending, Refused, UsageError
from datasync.errors import Disconnected
from datasync.kvdbsync.memory import named
from datasync.reports import agent as reporting
from datasync.source import Committed, Operation
from datasync.testing.contract import eventually
from datasync.testing.contract.reporting import Readers
from tests.helpers.reports.fleet import (
    CONFIG,
    STATUS,
    agent_of,
    digest,
    reading,
)

Run = Callable[[Coroutine[object, object, None]], None]


def test_the_settled_revision_follows_the_commits_of_its_watches(run: Run, memory_url: str) -> None:
    async def main() -> None:
        async with reading(memory_url, agent_of(memory_url)) as (ctl, readers):
            began = time.monotonic()
            for number in range(50):
                revision = await ctl.put(CONFIG + "a", b"%d" % number)
            await eventually(
                lambda: [layer.revision for layer in readers.of().layers] == [revision]
            )
            layer = readers.of().layers[0]
            assert (layer.name, bool(layer.history)) == (memory_url, True)
            most = (time.monotonic() - began) / reporting._PAUSE + 3
            assert len(readers.all) <= most, "a report stands for many transactions"

    run(main())


def test_failing_pending_and_overdue_keys_are_told_with_the_value_they_are_about(
    run: Run, memory_url: str
) -> None:
    async def main() -> None:
        agent = DataSync(
            memory_url, label="vpp1", report_to="status/", ack_timeout=0.05, retries=1000
        )
        hangs = asyncio.Event()

        @agent.watcher("config/", name="told")
        async def config(event: Event[bytes]) -> None:
            said = {b"waits": Pending("no eth0"), b"broken": Failed("no device")}
            outcomes = {c.key: said[c.raw] for c in event.changes if c.raw in said}
            if outcomes:
                raise Outcomes(outcomes)

        @agent.watcher("fails/")
        async def fails(event: Event[bytes]) -> None:
            if any(change.raw == b"boom" for change in event.changes):
                raise RuntimeError("boom")

        @agent.watcher("hangs/")
        async def hang(event: Event[bytes]) -> None:
            if any(change.raw == b"forever" for change in event.changes):
                await hangs.wait()

        root = "/vnf-agent/vpp1/"
        async with reading(memory_url, agent) as (ctl, readers):
            await ctl.put(root + "config/a", b"waits")
            await ctl.put(root + "config/b", b"broken")
            await ctl.put(root + "fails/c", b"boom")
            await ctl.put(root + "hangs/d", b"forever")
            report = await readers.sees(a="pending", b="failed", c="failed", d="overdue")
            told = report.open
            assert (told["config/a"].reason, told["config/b"].reason) == ("no eth0", "no device")
            assert told["fails/c"].reason == "RuntimeError: boom"
            assert told["hangs/d"].digest == digest(b"forever")
            await eventually(
                lambda: (
                    {watch.name: watch.state for watch in readers.of().watches}
                    == {"fails": "failing", "hang": "overdue"}
                )
            )
            await eventually(lambda: readers.of().open["fails/c"].attempt > 2)

            # a delete that is still open has no value
            agent.watches["told"].report({"config/a": Pending("soon")})
            await eventually(lambda: readers.of().open["config/a"].reason == "soon")
            hangs.set()
            await ctl.put(root + "fails/c", b"well")
            await ctl.put(root + "config/b", b"well")
            await ctl.put(root + "config/a", b"well")
            await readers.sees()

    run(main())


def test_a_refused_delete_has_no_digest(run: Run, memory_url: str) -> None:
    async def main() -> None:
        agent = DataSync(memory_url, label="vpp1", report_to="status/")

        @agent.watcher("config/")
        async def config(event: Event[bytes]) -> None:
            kept = {change.key: Pending("is in use") for change in event.changes if not change.raw}
            if kept:
                raise Outcomes(kept)

        async with reading(memory_url, agent) as (ctl, readers):
            await ctl.put(CONFIG + "a", b"1")
            await ctl.delete(CONFIG + "a")
            report = await readers.sees(a="pending")
            assert report.open["config/a"].digest is None

    run(main())


def test_a_verdict_is_never_about_another_value(run: Run, memory_url: str) -> None:
    """While a newer value is with the handler, what was refused is the older one."""

    async def main() -> None:
        agent = DataSync(memory_url, label="vpp1", report_to="status/")
        going_on = asyncio.Event()

        @agent.watcher("config/")
        async def config(event: Event[bytes]) -> None:
            raws = [change.raw for change in event.changes]
            if b"second" in raws:
                await going_on.wait()
            elif b"first" in raws:
                raise Refused("is bad")

        async with reading(memory_url, agent) as (ctl, readers):
            await ctl.put(CONFIG + "a", b"first")
            await ctl.put(CONFIG + "a", b"second")
            report = await readers.sees(a="refused")
            assert report.open["config/a"].digest == digest(b"first")
            going_on.set()
            await readers.sees()

    run(main())


def test_what_an_earlier_life_left_stays_until_the_first_resync_has_settled_it(
    run: Run, memory_url: str
) -> None:
    async def main() -> None:
        async with reading(memory_url, agent_of(memory_url)) as (ctl, readers):
            await ctl.put(CONFIG + "a", b"bad")
            await readers.sees(a="refused")

        going_on = asyncio.Event()
        again = DataSync(memory_url, label="vpp1", report_to="status/")

        @again.watcher("config/")
        async def config(event: Event[bytes]) -> None:
            await going_on.wait()

        async with reading(memory_url, again, ready=False) as (ctl, readers):
            await eventually(lambda: readers.of().alive)
            report = await readers.sees(a="refused")
            assert [watch.state for watch in report.watches] == ["resyncing"]
            assert [layer.revision for layer in report.layers] == [None]
            going_on.set()
            await readers.sees()
            await eventually(lambda: readers.of().well)

    run(main())


def test_two_agents_of_one_name_are_found_and_said(
    run: Run, memory_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            agent_of(memory_url),
            reading(memory_url, agent_of(memory_url)) as (ctl, readers),
        ):
            for number in range(3):
                await ctl.put(CONFIG + "a", b"%d" % number)
            await eventually(lambda: any(report.rival for report in readers.all))

    with caplog.at_level(logging.WARNING, "datasync.reports"):
        run(main())
    assert "another agent named 'vpp1' reports there as well" in caplog.text


def test_a_store_that_takes_no_reports_delays_them_and_nothing_else(
    run: Run, memory_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = named(f"{memory_url}-reports")
    commit, lost = source.commit, True

    async def losable(operations: list[Operation], *, reply: bool = False) -> Committed:
        if lost:
            raise Disconnected("the store is lost; it is tried again")
        return await commit(operations, reply=reply)

    monkeypatch.setattr(source, "commit", losable)

    async def main() -> None:
        nonlocal lost
        agent = agent_of(memory_url, report_to=source)
        async with agent, DataSync(memory_url) as ctl, DataSync(source) as reader:
            with caplog.at_level(logging.INFO, "datasync.reports"):
                async with Readers(reader, STATUS).reading() as readers:
                    await eventually(lambda: "cannot report" in caplog.text)
                    await ctl.put(CONFIG + "a", b"bad")
                    await eventually(lambda: agent.status().watches[0].failing is not None)
                    assert not readers.last
                    lost = False
                    await readers.sees(a="refused")
                    await eventually(lambda: "reports again" in caplog.text)

    run(main())


def test_it_renews_what_it_said_as_a_sign_of_life(
    run: Run, memory_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_RENEW", 0.05)

    async def main() -> None:
        async with reading(memory_url, agent_of(memory_url)) as (_, readers):
            await eventually(lambda: len({report.time for report in readers.all}) > 3)

    run(main())


def test_many_keys_are_reported_in_portions(run: Run, memory_url: str) -> None:
    async def main() -> None:
        async with reading(memory_url, agent_of(memory_url)) as (ctl, readers):
            txn = ctl.txn()
            for number in range(1234):
                txn.put(f"{CONFIG}{number}", b"bad")
            await txn.commit()
            await eventually(lambda: len(readers.of().open) == 1234)
            await ctl.delete(CONFIG, prefix=True)
            await readers.sees()

    run(main())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"agent": "a"}, "report_to='status/'"),
        ({"report_to": "status/"}, "needs a name"),
        ({"report_to": "status/", "agent": "a/b"}, "not a name"),
        ({"report_to": "", "label": "a"}, "a prefix of its own"),
        ({"report_to": "status", "label": "a"}, "status/"),
        ({"report_to": "/status/", "label": "a"}, "starts with '/'"),
        ({"report_to": 3, "label": "a"}, "a prefix as 'status/'"),
        ({"report_to": "file:///etc/agent/", "label": "a"}, "takes no writes"),
    ],
)
def test_where_it_cannot_report_it_says_so(options: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        DataSync("memory://", **options)  # type: ignore[arg-type]


def test_one_source_takes_the_reports() -> None:
    layers = [Layer("memory://one", name="one"), Layer("memory://two", name="two")]
    with pytest.raises(UsageError, match="write_to="):
        DataSync(*layers, report_to="status/", agent="a")
    with pytest.raises(UsageError, match="2 of several"):
        DataSync(*layers, report_to="status/", agent="a", write_to=["one", "two"])
    DataSync(*layers, report_to="status/", agent="a", write_to="two")
    DataSync(*layers, report_to="memory://three", agent="a")


@pytest.mark.parametrize("scope", ["", "status/", "status/open/", "status/progress/vpp1"])
def test_a_watch_never_sees_the_reports_of_its_own(scope: str, memory_url: str) -> None:
    source = named(memory_url)
    for to in ("status/", source):
        sync = DataSync(source, label="vpp1", report_to=to)
        scopes = {"keys": [scope]} if scope[-1:] not in ("", "/") else {}
        with pytest.raises(UsageError, match="would see the reports"):
            sync.watch("late", *(() if scopes else (scope,)), **scopes)  # type: ignore[call-overload]
        watch = sync.watch("config", "config/")
        if not scopes:
            with pytest.raises(UsageError, match="would see the reports"):
                watch.add_prefix(scope)
    DataSync(source, label="vpp1", report_to="memory://elsewhere").watch("all", "")
