"""What reports show on the status page and among the metrics: of the agents that a DataSync reads,
of what it asks them, and of what it reports itself.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from datasync.panels import Block, Measure, Panel, Row, Table, Tone
from datasync.report import STATES, Report
from datasync.reports.agent import Reporter
from datasync.reports.asking import Asking
from datasync.reports.reader import Fleet
from datasync.reports.troubles import Trouble, count_of, troubles_of
from datasync.texts import printable, span

__all__ = ["AgentsPanel", "ReportsPanel"]

_ROWS, _TEXT = 50, 300
"""Rows of a table, and characters of each text, at most: the page asks for all this every
second."""
_TONES: dict[str, Tone] = {
    "well": "good", "waiting": "work", "resyncing": "work", "pending": "work", "stopped": "idle",
    "open keys": "warn", "overdue": "warn", "unattended": "warn", "refused": "warn",
}  # fmt: skip
"""Of states and verdicts; all others are bad."""
_VERDICTS = ("refused", "failed", "pending", "overdue")


class AgentsPanel(Panel):
    """Agents that report: the gravest first, what they have not applied and why; chosen, one of
    them alone.

    fleets, askings: those that are read, and asked, now.
    """

    name = "agents"

    def __init__(self, fleets: Collection[Fleet], askings: Collection[Asking]) -> None:
        self._fleets = fleets
        self._askings = askings

    def measures(self) -> Iterable[Measure]:
        """Agents by state, their open keys by verdict, how old their reports are; what was asked,
        and how long it took."""
        states: Counter[tuple[str, str]] = Counter()
        verdicts: Counter[tuple[str, str]] = Counter()
        ages: dict[str, float] = {}
        for prefix, reports in self._reports().items():
            for report in reports:
                states[prefix, report.state] += 1
                verdicts.update((prefix, told.verdict) for told in report.open.values())
            followed = (report.age for report in reports if not report.stopped)
            ages[prefix] = max(0.0, max(followed, default=0.0))

        yield Measure(
            "datasync_agents",
            "gauge",
            "Agents that report below the prefix, by state.",
            [({"at": at, "state": state}, states[at, state]) for at in ages for state in STATES],
        )
        yield Measure(
            "datasync_agents_open_keys",
            "gauge",
            "Keys that these agents have not simply applied, by verdict.",
            [
                ({"at": at, "verdict": what}, verdicts[at, what])
                for at in ages
                for what in _VERDICTS
            ],
        )
        yield Measure(
            "datasync_agents_report_age_seconds",
            "gauge",
            "Age of the oldest of their last reports, without agents that were stopped.",
            [({"at": at}, age) for at, age in ages.items()],
        )

        askings = list(self._askings)
        yield Measure(
            "datasync_asked_total",
            "counter",
            "Writes whose outcome agents were asked for, by verdict.",
            [
                ({"at": asking.prefix, "verdict": verdict.value}, count)
                for asking in askings
                for verdict, count in asking.verdicts.copy().items()
            ],
        )
        yield Measure(
            "datasync_asked_seconds",
            "histogram",
            "Time from such a write to the verdict.",
            [({"at": asking.prefix}, asking.durations.taken()) for asking in askings],
        )

    def blocks(self, about: str) -> Iterator[Block]:
        """What the page shows. about: an agent, by where it reports and its name."""
        told = [(at, report) for at, reports in self._reports().items() for report in reports]
        told.sort(key=lambda one: (-STATES.index(one[1].state), one[1].agent))
        now = time.time()
        yield Table(
            "Who reports",
            ["agent", "state", "reported", "revision", "open keys", "at"],
            [_agent(at, report) for at, report in told[:_ROWS]],
            max(0, len(told) - _ROWS),
        )
        chosen = [report for at, report in told if not about or about == at + report.agent]
        troubles = ((report.agent, one) for report in chosen for one in troubles_of(report))
        rows = [_trouble(now, agent, one) for agent, one in islice(troubles, _ROWS)]
        if rows:
            title = f"Not applied by {_short(about)}" if about else "Not applied"
            head = ["agent", "key or watch", "state", "for", "why"]
            yield Table(title, head, rows, sum(map(count_of, chosen)) - len(rows))

    def _reports(self) -> dict[str, list[Report]]:
        """Of each prefix that is read, however many read it."""
        return {fleet.prefix: fleet.reports() for fleet in list(self._fleets)}


class ReportsPanel(Panel):
    """What the agent reports, and answers, itself."""

    name = "reports"

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def measures(self) -> Iterable[Measure]:
        """What it wrote, what failed, and how it answers."""
        reporter, answering = self._reporter, self._reporter.answering
        yield Measure(
            "datasync_reports_total", "counter", "Reports written.", [({}, reporter.reports)]
        )
        yield Measure(
            "datasync_reports_records_total",
            "counter",
            "Records of open keys that were written or deleted with them.",
            [({}, reporter.records)],
        )
        yield Measure(
            "datasync_reports_failures_total",
            "counter",
            "Tries to report or to answer that have failed.",
            [({}, reporter.failures)],
        )
        yield Measure(
            "datasync_reports_age_seconds",
            "gauge",
            "Age of the last report that was written.",
            [({}, age) for age in (reporter.age,) if age is not None],
        )
        yield Measure(
            "datasync_tickets_open",
            "gauge",
            "Tickets that are not answered yet.",
            [({}, answering.waiting)],
        )
        yield Measure(
            "datasync_tickets_answered_total",
            "counter",
            "Tickets answered, by the worst verdict.",
            [
                ({"verdict": verdict.value}, count)
                for verdict, count in answering.verdicts.copy().items()
            ],
        )
        yield Measure(
            "datasync_tickets_seconds",
            "histogram",
            "Time from seeing a ticket to its answer.",
            [({}, answering.durations.taken())],
        )

    def blocks(self, about: str) -> Iterator[Block]:
        """What the page shows."""
        reporter = self._reporter
        age = "not yet" if reporter.age is None else f"{span(reporter.age)} ago"
        cells = [
            _short(reporter.agent),
            age,
            f"{reporter.reports:,}",
            f"{sum(reporter.answering.verdicts.copy().values()):,}",
            f"{reporter.answering.waiting:,}",
            _short(reporter.where),
        ]
        row = Row(cells, "good" if reporter.trouble is None else "bad")
        head = ["as", "last", "reports", "tickets answered", "waiting", "to"]
        yield Table("What this agent reports", head, [row])
        if reporter.trouble is not None:
            yield Table("Not reported", ["why"], [Row([_short(reporter.trouble)], "bad")])


def _agent(at: str, report: Report) -> Row:
    state = report.state
    cells = [
        _short(report.agent),
        state,
        f"{span(report.age)} ago",
        _revisions(report),
        f"{len(report.open):,}",
        _short(at),
    ]
    return Row(cells, _TONES.get(state, "bad"), at + report.agent)


def _revisions(report: Report) -> str:
    of_layers: Sequence[int | None] = [layer.revision for layer in report.layers]
    return ", ".join("-" if revision is None else f"{revision:,}" for revision in of_layers)


def _trouble(now: float, agent: str, trouble: Trouble) -> Row:
    lasted = span(now - trouble.since) if trouble.since else ""
    cells = [_short(agent), _short(trouble.what), trouble.state, lasted, _short(trouble.reason)]
    return Row(cells, _TONES.get(trouble.state, "bad"))


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
