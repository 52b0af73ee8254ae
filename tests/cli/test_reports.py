"""put --confirm and status --agents: what agents make of it, over a store."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from datasync import blocking
from tests.helpers.command_line import Command

URL = "sqlite:///a.db"
STATUS = "/vnf-agent/vpp1/status/"


@pytest.fixture
def agent(cli: Command) -> Iterator[blocking.DataSync]:
    """One that refuses what is bad."""
    sync = blocking.DataSync(URL, label="vpp1", report_to="status/")

    @sync.watcher("config/")
    def config(event: blocking.Event[bytes]) -> None:
        bad = {change.key: "is bad" for change in event.changes if change.raw == b"bad"}
        if bad:
            raise blocking.Refused(bad)

    with sync, blocking.DataSync(URL) as reader:
        next(report for report in reader.reports(STATUS) if report.well)
        yield sync


def test_put_and_del_wait_for_agents(cli: Command, agent: blocking.DataSync) -> None:
    ask = ["--label", "vpp1", "--confirm", "status/"]
    result = cli("put", URL, "config/a", "good", *ask)
    assert (result.code, result.err) == (0, "")
    assert result.out.strip().isdigit()
    result = cli("put", URL, "config/a", "bad", *ask, "--agents", "vpp1")
    assert (result.code, result.out) == (1, "")
    assert "written, but refused (config/a at vpp1: is bad)" in result.error
    result = cli("put", URL, "config/a", "good", *ask, "--agents", "vpp1,vpp2")
    assert "config/a at vpp2: no such agent reports below 'status/'" in result.error
    assert cli("del", URL, "config/a", *ask, "--agents", "any").out == "deleted\n"

    assert "--confirm PREFIX" in cli("put", URL, "config/a", "1", "--agents", "any").error
    assert "--confirm PREFIX" in cli("put", URL, "config/a", "1", "--at", URL).error
    assert "leave out --confirm" in cli("del", URL, "config/a", "--raw", "--confirm", "s/").error


def test_put_asks_agents_that_report_in_another_store(cli: Command) -> None:
    sync = blocking.DataSync(URL, label="vpp1", report_to="sqlite:///reports.db")

    @sync.watcher("config/")
    def config(event: blocking.Event[bytes]) -> None:
        pass

    with sync, blocking.DataSync("sqlite:///reports.db") as reader:
        next(report for report in reader.reports(STATUS) if report.well)
        ask = ["--label", "vpp1", "--confirm", "status/", "--agents", "vpp1"]
        result = cli("put", URL, "config/a", "1", *ask, "--at", "sqlite:///reports.db")
        assert (result.code, result.err) == (0, "")
        assert "no such agent reports below" in cli("put", URL, "config/a", "1", *ask).error


def test_status_shows_all_agents_of_a_store(cli: Command, agent: blocking.DataSync) -> None:
    result = cli("status", "--agents", URL)
    assert result.code == 0
    head, line = result.out.splitlines()
    assert head.split() == ["agent", "state", "reported", "revision", "at"]
    assert line.split()[:2] == ["vpp1", "well"]
    assert line.endswith(STATUS)
    result = cli("status", "--agents", URL, "--check")
    assert (result.code, result.out) == (0, "all well\n")

    agent.put("config/a", b"bad")
    with blocking.DataSync(URL) as reader:
        next(report for report in reader.reports(STATUS) if report.open)
    result = cli("status", "--agents", URL, "--check")
    assert result.code == 1
    assert "open keys" in result.out
    assert "config/a: refused for" in result.out
    assert "is bad" in result.out
    told = json.loads(cli("status", "--agents", URL, "--json").out)
    assert (told["agent"], told["state"], told["at"]) == ("vpp1", "open keys", STATUS)
    assert told["open"]["config/a"]["reason"] == "is bad"

    agent.close()
    assert "stopped" in cli("status", "--agents", URL).out
    assert "leave out --watch" in cli("status", "--agents", URL, "--watch").error


def test_a_store_without_agents_says_so(cli: Command) -> None:
    cli("put", URL, "a", "1")
    cli("put", URL, "job/progress/7", "50 %")
    result = cli("status", "--agents", URL)
    assert (result.code, result.out) == (0, "no agent reports there\n")
    assert cli("status", "--agents", URL, "--check").code == 1
    assert "no file" in cli("status", "--agents", "sqlite:///none.db").error
