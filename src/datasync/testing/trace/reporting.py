"""The validators of reports (docs/reports.md): of what agents write of themselves, what readers
believe, and what writers hear who ask them. Each yields (what it is about, line).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from datasync.testing.trace import records as t
from datasync.testing.trace.agents import (
    ACCEPTED,
    AgentTrace,
    Kept,
    agents_of,
    decoded,
    digest_of,
    records_in,
    sum_of,
)
from datasync.testing.trace.history import History
from datasync.testing.trace.index import TraceIndex
from datasync.testing.trace.model import WatchModel

__all__ = ["answered", "believed", "progress", "records", "rest", "settled"]

Lines = Iterator[tuple[str, str]]

_SLOW = 15.0
"""Seconds that a writer may hear later than it waits, for its write takes time as well."""
_RENEW = 10.0
_KEPT = 60.0 + 2 * 10.0
"""Seconds behind its deadline after which a ticket is swept."""


def answered(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """Who writes hears what agents said of this very value: nothing is called accepted that was
    not, and no verdict is about another value."""
    agents = agents_of(index)
    for heard in (record for record in index.trace if isinstance(record, t.AgentsHeard)):
        about = f"the write of {', '.join(sorted(heard.values))} that asked {heard.agents}"
        if heard.at > heard.since + heard.timeout + _SLOW:
            yield about, f"was answered after {heard.at - heard.since:.1f} s"
        accepted = {key: raw for key, raw in heard.values.items() if key not in heard.outcomes}
        if accepted and not _accepted_by(agents, accepted, heard):
            yield about, f"is told that {', '.join(sorted(accepted))} was accepted, which was not"
        for key, (verdict, reason, name) in heard.outcomes.items():
            agent = agents.get(name)
            if agent is None:
                if verdict not in ("absent", "overdue"):
                    yield about, f"hears that {key!r} is {verdict}, and of no agent"
            elif not _is_true(agent, key, heard.values[key], verdict, reason, heard.at):
                yield about, f"hears that {key!r} is {verdict} ({reason}) at {name}, which is wrong"


def _accepted_by(
    agents: Mapping[str, AgentTrace], values: Mapping[str, bytes | None], heard: t.AgentsHeard
) -> bool:
    by = {
        name
        for name, agent in agents.items()
        if all(
            agent.has_said(key, digest_of(raw), *ACCEPTED, heard.at) for key, raw in values.items()
        )
    }
    return bool(by) if isinstance(heard.agents, str) else by.issuperset(heard.agents)


def _is_true(
    agent: AgentTrace, key: str, raw: bytes | None, verdict: str, reason: str, at: float
) -> bool:
    match verdict:
        case "refused" | "pending" | "failed":
            return agent.has_said(key, digest_of(raw), verdict, reason, at)
        case "unwatched":
            return key not in agent.scopes
        case "superseded":
            # without revisions nobody can tell what came before it from what came behind it
            return not agent.source.capabilities.revisions or _is_overtaken(agent, key, raw)
        case _:
            return verdict in ("overdue", "absent")


def _is_overtaken(agent: AgentTrace, key: str, raw: bytes | None) -> bool:
    """Whether another value stood there later, or the store has another history since."""
    histories = agent.source.histories
    for number, position in agent.source.moments(key, raw, None):
        later = [cell for cell in histories[number].cells.get(key, ()) if cell[0] > position]
        if any(cell[1] != raw for cell in later) or number < len(histories) - 1:
            return True
    return False


def records(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """What an agent writes of a key it has said of that very value."""
    for agent in agents_of(index).values():
        for key, all_kept in agent.records.items():
            for kept in all_kept:
                told = kept.told
                if not told or kept.found:
                    continue
                verdict, reason, digest = told["verdict"], told["reason"], told["digest"]
                true = told["key"] == key and (
                    agent.has_said(key, digest, verdict, reason, kept.at)
                    if verdict != "overdue"
                    else key in agent.scopes
                )
                if not true:
                    yield agent.name, f"reports of {key!r} {kept.told}, which it has not said"


def progress(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """An agent's progress never goes back in time, but with the store."""
    for agent in agents_of(index).values():
        gone: set[str] = set()
        before: dict[str, Any] = {}
        era = -1
        for kept in agent.progress:
            told = kept.told
            if kept.era != era or not told:
                gone, before, era = set(), told, kept.era
                continue
            if told["instance"] in gone:
                yield agent.name, f"reports as {told['instance']}, which has ended"
            elif before and told["instance"] != before["instance"]:
                gone.add(before["instance"])
            elif before and told["time"] < before["time"]:
                yield agent.name, f"reports of {told['time']} behind {before['time']}"
            elif before and (back := _goes_back(before, told)):
                yield agent.name, back
            before = told


def _goes_back(before: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    for old, new in zip(before["layers"], told["layers"], strict=True):
        was, now = old.get("revision", 0), new.get("revision", 0)
        if old.get("history") == new.get("history") and now < was:
            return f"has settled {now} of {new['name']} behind {was}"
    return ""


def settled(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """Up to the revision that an agent reports it has said what became of each key."""
    for agent in agents_of(index).values():
        for kept in agent.progress:
            for layer in () if kept.found else kept.told.get("layers", ()):
                revision, name = layer.get("revision"), layer.get("history")
                histories = [one for one in agent.source.histories if one.name == name]
                if revision is None or layer["name"] != agent.source.name or not histories:
                    continue
                # where a backup was put back nobody can say which of them it was
                if len(histories) == 1:
                    yield from _unsettled(agent, kept.told, histories[0], revision)


def _unsettled(
    agent: AgentTrace, told: Mapping[str, Any], history: History, revision: int
) -> Lines:
    position, time = history.position(revision), told["time"]
    said = agent.said_between(agent.life(told["instance"]), time)
    for key, raw, at in history.state(agent.scopes, position):
        if raw in said[key]:
            continue
        if not any(later > position for one in said[key] for later in history.moments(key, one)):
            yield (
                agent.name,
                f"reports that it has settled {revision}, and {key!r}, written at {at}, was not",
            )


def believed(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """A reader believes a progress with the records that belong to it, and never an older one."""
    agents = agents_of(index)
    read: dict[tuple[str, str], tuple[int, int]] = {}
    era = 0
    for record in index.trace:
        era += isinstance(record, t.HistoryStarted)
        if not isinstance(record, t.ReportRead):
            continue
        agent = agents[record.agent]
        where = f"{record.reader}, of {agent.name} at {record.time}"
        written = [
            (number, kept.told)
            for number, kept in enumerate(agent.progress)
            if kept.era <= era
            and (kept.told.get("instance"), kept.told.get("time")) == (record.instance, record.time)
        ]
        for key, raw in record.records.items():
            if raw not in [kept.raw for kept in agent.records.get(key, ())]:
                yield where, f"believes a record of {key!r} that was never written"
        if not any(told["open"] == sum_of(record.records) for _, told in written):
            yield where, f"believes {len(record.records)} records that do not belong to it"
        number = written[-1][0] if written else -1
        before, then = read.get((record.reader, agent.name), (-1, era))
        if number < before and era == then:
            yield where, "goes back in time"
        read[record.reader, agent.name] = number, era


def rest(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """When nothing happens any more, agents have reported what stands there, readers know it, and
    nobody writes but signs of life."""
    if index.quiet is None:
        return
    for agent in agents_of(index).values():
        stored = index.stored.get(agent.entry.source)
        if stored is None:
            continue
        place = agent.entry.place
        last = [kept for kept in agent.progress if kept.raw is not None][-1:]
        if not last or f"{place}progress/{agent.name}" not in stored.values:
            yield agent.name, "reports nothing at the end"
            continue
        yield from _reported(agent, last[0], stored)
        yield from _ended(agent, stored)
        yield from _quiet(agent, index.quiet, stored)
        read = [
            record
            for record in index.trace
            if isinstance(record, t.ReportRead) and record.agent == agent.name
        ]
        for reader in {record.reader for record in read}:
            newest = [record for record in read if record.reader == reader][-1]
            if newest.time < last[0].told["time"] - 1.5 * _RENEW:
                yield reader, f"has not read the last report of {agent.name}"


def _reported(agent: AgentTrace, last: Kept, stored: t.Stored) -> Lines:
    """What it says of itself is so."""
    root = f"{agent.entry.place}open/{agent.name}/"
    told, found = last.told, dict(records_in(stored.values, root))
    if told["open"] != sum_of(found):
        yield agent.name, f"reports {told['open']}, and there is {sum_of(found)}"
    if told.get("watches") or told.get("stopped") or told.get("rival"):
        yield agent.name, f"does not just follow at the end: {told.get('watches')}, {last.raw!r}"
    reported = {
        key: (one["verdict"], one["reason"], one["digest"])
        for key, one in ((key, decoded(raw)) for key, raw in found.items())
    }
    wanted = agent.open_for(stored.values)
    if reported != wanted:
        yield agent.name, f"reports {reported} at the end, and it is {wanted}"

    can, history = agent.source.capabilities, agent.source.histories[-1]
    if can.revisions and can.order == "total":
        newest = max(
            (at for key in history.cells if key in agent.scopes for _, _, at in history.cells[key]),
            default=0,
        )
        [layer] = told["layers"]
        if layer.get("history") != history.name or layer.get("revision", 0) < newest:
            yield agent.name, f"has settled {layer} at the end, and {newest} was written"


def _ended(agent: AgentTrace, stored: t.Stored) -> Lines:
    """What was asked and answered is gone, or will be swept."""
    place = agent.entry.place
    tickets = dict(records_in(stored.values, f"{place}tickets/"))
    for number, raw in tickets.items():
        if decoded(raw)["deadline"] < stored.at - _KEPT:
            yield agent.name, f"has not swept the ticket {number}"
    expires = agent.source.capabilities.ttl  # which is waited for by nobody
    for number in () if expires else dict(records_in(stored.values, f"{place}answers/")):
        if number.rpartition("/")[0] not in tickets:
            yield agent.name, f"has left the answer {number}, and there is no such ticket"


def _quiet(agent: AgentTrace, quiet: t.Quiet, stored: t.Stored) -> Lines:
    """Behind the end of all else there are its signs of life alone."""
    signs = [kept for kept in agent.progress if kept.at > quiet.at]
    if len(signs) > (stored.at - quiet.at) / _RENEW + 2:
        yield agent.name, f"reports {len(signs)} times, though nothing happens"
    for all_kept in agent.records.values():
        if any(kept.at > quiet.at for kept in all_kept):
            yield agent.name, f"goes on writing of {all_kept[-1].key!r}, though nothing happens"
