"""What of an agent's report is not well, one by one: for people who look after it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from datasync.report import Report

__all__ = ["Trouble", "count_of", "troubles_of"]


class Trouble(msgspec.Struct, frozen=True):
    """A watch that does not just follow, a key that is not simply applied, or a name used twice.

    what: the watch, the key, or the agent.
    state: a `WatchState` value, a verdict, or "rival".
    since: in seconds since the epoch, by the clock of who reads; 0 where it is not known.
    reason: why; may be empty.
    """

    what: str
    state: str
    since: float = 0.0
    reason: str = ""


def troubles_of(report: Report) -> Iterator[Trouble]:
    """Those of one agent."""
    if report.rival is not None:
        yield Trouble(report.agent, "rival", reason="another agent reports by the same name")
    for watch in report.watches:
        since = watch.since + report.behind if watch.since else 0.0
        yield Trouble(watch.name, watch.state, since, watch.reason)
    for told in report.open.values():
        yield Trouble(told.key, told.verdict, told.since + report.behind, told.reason)


def count_of(report: Report) -> int:
    """How many these are."""
    return (report.rival is not None) + len(report.watches) + len(report.open)
