"""What reports show on the status page and among the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from datasync import AlreadyRegistered, DataSync, NotApplied, Reports
from datasync.metrics.prometheus import StatusCollector
from datasync.panels import Block, Panel, Table
from datasync.report import STATES, KeyReport, Report, WatchReport
from datasync.reports.agent import Reporter
from datasync.reports.troubles import count_of, troubles_of
from datasync.status import WatchState
from datasync.testing.contract import eventually
from tests.helpers.reports.fleet import CONFIG, STATUS, agent_of, reading

Run = Callable[[Coroutine[Any, Any, None]], None]

ASK = Reports(STATUS, timeout=60)
DOCS = Path(__file__).parents[2] / "docs"


def tables(panel: Panel, about: str = "") -> dict[str, list[list[str]]]:
    """What it shows: the rows of each table by its title."""

    def rows(blocks: Iterable[Block]) -> Iterable[tuple[str, list[list[str]]]]:
        for block in blocks:
            assert isinstance(block, Table)
            yield block.title, [row.cells for row in block.rows]

    return dict(rows(panel.blocks(about)))


def metrics(sync: DataSync) -> list[str]:
    """The lines of its metrics, as Prometheus has them."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(sync.status))
    return generate_latest(registry).decode().splitlines()


def test_the_page_shows_the_agents_that_are_read_the_gravest_first(
    run: Run, memory_url: str
) -> None:
    async def main() -> None:
        other = DataSync(memory_url, label="vpp1", report_to="status/", agent="other")
        agent = agent_of(memory_url)
        async with other, reading(memory_url, agent) as (ctl, readers):
            await ctl.put(CONFIG + "a", b"bad")
            await readers.sees(a="refused")
            await eventually(lambda: readers.of("other").well)

            panel = ctl.panels["agents"]
            shown = tables(panel)
            assert [row[:2] for row in shown["Who reports"]] == [
                ["vpp1", "open keys"],
                ["other", "well"],
            ]
            assert shown["Who reports"][0][4:] == ["1", STATUS]
            (row,) = shown["Not applied"]
            assert (row[:3], row[4]) == (["vpp1", "config/a", "refused"], "is bad")
            (same,) = tables(panel, f"{STATUS}vpp1")[f"Not applied by {STATUS}vpp1"]
            assert (same[:3], same[4]) == (row[:3], row[4]), "but for the time that has passed"
            assert [*tables(panel, f"{STATUS}other")] == ["Who reports"]

            lines = metrics(ctl)
            at = f'at="{STATUS}",panel="agents"'
            assert f'datasync_agents{{{at},state="open keys"}} 1.0' in lines
            assert f'datasync_agents{{{at},state="well"}} 1.0' in lines
            assert f'datasync_agents{{{at},state="lost"}} 0.0' in lines
            assert f'datasync_agents_open_keys{{{at},verdict="refused"}} 1.0' in lines
            assert any(line.startswith("datasync_agents_report_age_seconds{") for line in lines)

            await agent.aclose()
            await eventually(lambda: readers.of().stopped)
            assert ["vpp1", "stopped"] in [row[:2] for row in tables(panel)["Who reports"]]
        assert tables(panel) == {"Who reports": []}, "nobody reads any more"

    run(main())


def test_what_is_asked_and_answered_is_counted(run: Run, memory_url: str) -> None:
    async def main() -> None:
        async with reading(memory_url, agent_of(memory_url)) as (ctl, readers):
            await eventually(lambda: readers.of().alive)
            await ctl.put(CONFIG + "a", b"good", confirm=ASK)
            with pytest.raises(NotApplied):
                await ctl.put(CONFIG + "a", b"bad", confirm=ASK)
            lines = metrics(ctl)
            for verdict in ("accepted", "refused"):
                labels = f'at="{STATUS}",panel="agents",verdict="{verdict}"'
                assert f"datasync_asked_total{{{labels}}} 1.0" in lines
            assert f'datasync_asked_seconds_count{{at="{STATUS}",panel="agents"}} 2.0' in lines

    run(main())


def test_an_agent_shows_what_it_reports_itself(run: Run, memory_url: str) -> None:
    async def main() -> None:
        agent = agent_of(memory_url)
        before = tables(agent.panels["reports"])
        assert before["What this agent reports"][0][:2] == ["vpp1", "not yet"]
        assert not [line for line in metrics(agent) if line.startswith("datasync_reports_age")]

        async with reading(memory_url, agent) as (ctl, readers):
            await eventually(lambda: readers.of().alive)
            with pytest.raises(NotApplied):
                await ctl.put(CONFIG + "a", b"bad", confirm=ASK)
            await readers.sees(a="refused")
            records = 'datasync_reports_records_total{panel="reports"} 1.0'
            await eventually(lambda: records in metrics(agent))
            (row,) = tables(agent.panels["reports"])["What this agent reports"]
            assert row[3:] == ["1", "0", f"status/ in {memory_url}"]

            lines = metrics(agent)
            labels = '{panel="reports",verdict="refused"}'
            assert f"datasync_tickets_answered_total{labels} 1.0" in lines
            assert 'datasync_tickets_seconds_count{panel="reports"} 1.0' in lines
            assert 'datasync_tickets_open{panel="reports"} 0.0' in lines
            assert [line for line in lines if line.startswith("datasync_reports_age_seconds{")]

    run(main())


def test_an_agent_that_cannot_report_says_why(
    run: Run, memory_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: Reporter) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Reporter, "_read", fails)

    async def main() -> None:
        async with agent_of(memory_url) as agent:
            panel = agent.panels["reports"]
            await eventually(
                lambda: tables(panel).get("Not reported") == [["OSError: the disk is full"]]
            )
            failed = [line for line in metrics(agent) if line.startswith("datasync_reports_fail")]
            assert float(failed[0].split()[-1]) > 0

    run(main())


def test_the_names_of_these_panels_are_taken(memory_url: str) -> None:
    class Mine(Panel):
        def __init__(self, name: str) -> None:
            self.name = name

    for name in ("agents", "reports"):
        with pytest.raises(AlreadyRegistered):
            DataSync(memory_url).show(Mine(name))


def report(**fields: Any) -> Report:
    """One of an agent that is well but for that."""
    now = {
        "agent": "vpp1", "instance": "1", "time": 9e9, "lease": 30.0, "stopped": False,
        "rival": None, "layers": [], "scopes": [], "more_scopes": 0, "watches": [], "open": {},
    }  # fmt: skip
    return Report(**{**now, **fields})


def watch(state: str) -> WatchReport:
    return WatchReport(state, state, ["a/"])


def test_the_state_of_an_agent_is_its_gravest() -> None:
    refused = {"a": KeyReport("a", "refused", "is bad", None, 1.0, "config")}
    assert report().state == "well"
    assert report(open=refused).state == "open keys"
    assert report(open=refused, watches=[watch("overdue"), watch("failing")]).state == "failing"
    assert report(watches=[watch("overdue"), watch("of a later version")]).state == "overdue"
    assert report(watches=[watch("overdue")], rival="2").state == "rival"
    assert report(rival="2", time=1.0).state == "lost"
    assert report(time=1.0, stopped=True).state == "stopped"
    never = {WatchState.FOLLOWING.value, WatchState.CLOSED.value}
    assert {state.value for state in WatchState} - never < {*STATES}


def test_the_troubles_of_an_agent_are_told_one_by_one() -> None:
    refused = {"a": KeyReport("a", "refused", "is bad", None, 1.0, "config")}
    one = report(rival="2", watches=[watch("failing")], open=refused)
    told = [(trouble.what, trouble.state) for trouble in troubles_of(one)]
    assert told == [("vpp1", "rival"), ("failing", "failing"), ("a", "refused")]
    assert count_of(one) == len(told)


def test_the_documentation_has_all_of_these_metrics(run: Run, memory_url: str) -> None:
    text = (DOCS / "reports.md").read_text()

    async def main() -> None:
        async with reading(memory_url, agent_of(memory_url)) as (ctl, readers):
            await eventually(lambda: readers.of().alive)
            await asyncio.sleep(0)
            panels = [*ctl.status().panels, *agent_of(memory_url).status().panels]
            assert {panel.name for panel in panels} == {"agents", "reports"}
            for panel in panels:
                for measure in panel.measures:
                    assert f"| `{measure.name}` | {measure.kind} |" in text, measure.name

    run(main())


def test_the_status_of_an_agent_is_plain_data(memory_url: str) -> None:
    names = [one["name"] for one in msgspec.to_builtins(agent_of(memory_url).status())["panels"]]
    assert names == ["reports"]
