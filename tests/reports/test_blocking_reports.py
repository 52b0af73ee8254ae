"""Reports for programs without asyncio."""

from __future__ import annotations

from datasync.blocking import DataSync, Event, Refused


def test_reports_are_iterated_plainly(memory_url: str) -> None:
    agent = DataSync(memory_url, label="vpp1", report_to="status/")

    @agent.watcher("config/")
    def config(event: Event[bytes]) -> None:
        if event.changes:
            raise Refused("is bad")

    with agent, DataSync(memory_url) as ctl:
        agent.put("config/a", b"1")
        reports = ctl.reports("/vnf-agent/vpp1/status/")
        report = next(report for report in reports if report.open)
        assert report.open["config/a"].reason == "is bad"
        reports.close()  # type: ignore[attr-defined]
        assert not ctl.watches
