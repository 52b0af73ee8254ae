"""The validators of reports (docs/reports.md): of what agents write of themselves, what readers
believe, and what writers hear who ask them. Each yields (what it is about, line).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator, Mapping
from typing import Any

from datasync.testing.trace import records as t
from datasync.testing.trace.agents import (
    ACCEPTED,
    AgentTrace,
    Kept,
    Life,
    agents_of,
    decoded,
    digest_of,
    records_in,
    sum_of,
)
from datasync.testing.trace.history import History
from datasync.testing.trace.index import SLACK, TraceIndex
from datasync.testing.trace.model import WatchModel

__all__ = ["answered", "believed", "present", "progress", "records", "rest", "rivals", "settled"]

Lines = Iterator[tuple[str, str]]

_SLOW = 15.0
"""Seconds that a writer may hear later than it waits, for its write takes time as well."""
_LATE = 10.0
"""Seconds that a write may be late in the trace, where the store tells of it."""
_STALE = 15.0
"""Seconds that what a writer sees may be behind, while there are faults."""
_FRESH = 1.0
"""And where there are none."""
_FORGOTTEN = 30.0 + 2 * 10.0
"""Seconds after which a rival that reports no more is named no more."""
_RENEW = 10.0
_KEPT = 60.0 + 2 * 10.0
"""Seconds past its time after which a ticket is swept."""


def answered(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """Who writes hears what agents said of this very value: nothing is called accepted that was
    not, and no verdict is about another value."""
    agents = agents_of(index)
    late = math.inf if index.tells_late else _LATE
    for about, heard in _heard(index):
        if heard.at > heard.since + heard.timeout + _SLOW:
            yield about, f"was answered after {heard.at - heard.since:.1f} s"
        accepted = {key: raw for key, raw in heard.values.items() if key not in heard.outcomes}
        if accepted and not _accepted_by(agents, accepted, heard):
            yield about, f"is told that {', '.join(sorted(accepted))} was accepted, which was not"
        for key, (verdict, reason, name) in heard.outcomes.items():
            agent = agents.get(name)
            if agent is None:  # of nobody by that name, of nobody at all, or nobody was asked
                if verdict not in ("absent", "overdue"):
                    yield about, f"hears that {key!r} is {verdict}, and of no agent"
            elif not _is_true(agent, key, heard, late):
                yield about, f"hears that {key!r} is {verdict} ({reason}) at {name}, which is wrong"


def _heard(index: TraceIndex) -> Iterator[tuple[str, t.AgentsHeard]]:
    """What writers heard of agents, each with what it is about."""
    for record in index.trace:
        if isinstance(record, t.AgentsHeard):
            keys = ", ".join(sorted(record.values))
            yield f"the write of {keys} that asked {record.agents}", record


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


def _is_true(agent: AgentTrace, key: str, heard: t.AgentsHeard, late: float) -> bool:
    raw, (verdict, reason, _) = heard.values[key], heard.outcomes[key]
    match verdict:
        case "refused" | "pending" | "failed":
            return agent.has_said(key, digest_of(raw), verdict, reason, heard.at)
        case "unwatched":
            return key not in agent.scopes
        case "superseded":
            return agent.was_overtaken(key, raw, heard.at + late)
        case _:
            return verdict in ("overdue", "absent")


def present(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """Who writes is told that an agent is absent where there is none, it was closed, or its last
    sign of life is older than it promised, by what the writer could see; nobody waits for one that
    has been gone for longer; and where all is well each one answers in time."""
    agents = agents_of(index)
    if index.tells_late:
        return
    for about, heard in _heard(index):
        for verdict, reason, name in heard.outcomes.values():
            if verdict == "absent":
                asked = [agents[name]] if name else agents.values()
                for agent in asked:
                    if not any(_may_be_absent(agent, kept, heard) for kept in _seen(agent, heard)):
                        yield about, f"hears that {agent.name} is absent ({reason}), and it is not"
            elif verdict == "overdue" and heard.calm:
                yield about, f"hears that {name or 'nobody'} is overdue ({reason}), and all is well"
            elif verdict == "overdue" and name:
                seen = _seen(agents[name], heard)
                if not any(_may_be_there(agents[name], kept, heard) for kept in seen):
                    yield about, f"waits for {name}, which has been gone for long"


def _seen(agent: AgentTrace, heard: t.AgentsHeard) -> Iterator[Kept | None]:
    """What the writer may have seen of its progress when it asked."""
    return agent.seen_between(heard.since - _stale(heard), heard.at)


def _stale(heard: t.AgentsHeard) -> float:
    return _FRESH if heard.calm else _STALE


def _may_be_absent(agent: AgentTrace, kept: Kept | None, heard: t.AgentsHeard) -> bool:
    if kept is None or kept.told.get("stopped") or kept.found:  # that may be of any age
        return True
    gone_at: float = kept.at + kept.told["lease"]
    if gone_at <= heard.at + SLACK:
        return True
    # by the clocks alone, for who has not seen it report
    ahead = heard.ahead - _ahead(agent, kept)
    return gone_at <= heard.at + ahead + SLACK and not _knows_clock(agent, heard)


def _knows_clock(agent: AgentTrace, heard: t.AgentsHeard) -> bool:
    """Whether the writer has seen it report, since its clock had to be learned again."""
    gone = [kept.at for kept in agent.progress if kept.raw is None or kept.found]
    learns = max([heard.follows, *(at for at in gone if at < heard.at)])
    return any(
        learns + _stale(heard) < kept.at < heard.since - _stale(heard)
        for kept in agent.progress
        if kept.raw is not None and not kept.found
    )


def _may_be_there(agent: AgentTrace, kept: Kept | None, heard: t.AgentsHeard) -> bool:
    if kept is None or kept.told.get("stopped"):
        return False
    if kept.found:
        return True
    ahead = max(0.0, _ahead(agent, kept) - heard.ahead)
    gone_at: float = kept.at + kept.told["lease"] + ahead
    return gone_at >= heard.since - SLACK


def _ahead(agent: AgentTrace, kept: Kept) -> float:
    life = agent.life_of(kept.told["instance"])
    return 0.0 if life is None else life.ahead


def rivals(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """An agent names a rival where another one by its name goes on reporting while it lives, and
    not for longer."""
    for agent in agents_of(index).values():
        for kept in agent.progress:
            named = kept.told.get("rival")
            if named is None or kept.found:
                continue
            life, rival = agent.life_of(kept.told["instance"]), agent.life_of(named)
            if life is None or rival is None or life is rival or not life.overlaps(rival):
                yield agent.name, f"reports as {kept.told['instance']} of a rival, {named}: none is"
                continue
            # with a backup its reports come back
            begun = max(
                (one.at for one in agent.progress if one.found and one.at <= kept.at), default=0.0
            )
            if kept.at > max(rival.ended, begun) + _FORGOTTEN:
                yield agent.name, f"reports of a rival, {named}, which ended at {rival.ended:.1f}"


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
        before: dict[str, dict[str, Any]] = {}
        era, newest = -1, -math.inf
        for kept in agent.progress:
            told = kept.told
            if kept.era != era:
                before, era, newest = {}, kept.era, -math.inf
            if not told or kept.found:
                continue
            instance = told["instance"]
            life, last = agent.life_of(instance), before.get(instance)
            if life is not None and life.ended < newest:
                yield agent.name, f"reports as {instance}, which has ended"
            elif last is not None and told["time"] < last["time"]:
                yield agent.name, f"reports of {told['time']} after {last['time']}"
            elif last is not None and (back := _goes_back(last, told)):
                yield agent.name, back
            before[instance] = told
            newest = newest if life is None else max(newest, life.since)


def _goes_back(before: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    for old, new in zip(before["layers"], told["layers"], strict=True):
        was, now = old.get("revision", 0), new.get("revision", 0)
        if old.get("history") == new.get("history") and now < was:
            return f"has settled {now} of {new['name']} after {was}"
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
                life = agent.life_of(kept.told["instance"])
                if len(histories) == 1 and life is not None:
                    yield from _unsettled(agent, life, kept, histories[0], revision)


def _unsettled(agent: AgentTrace, life: Life, kept: Kept, history: History, revision: int) -> Lines:
    position, said = history.position(revision), agent.said_in(life, kept.at)
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
    eras: collections.Counter[str] = collections.Counter()
    for record in index.trace:
        if isinstance(record, t.HistoryStarted):
            eras[record.source] += 1
        if not isinstance(record, t.ReportRead):
            continue
        agent = agents[record.agent]
        era = eras[agent.store.name]
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
        stored = index.stored.get(agent.store.name)
        if stored is None:
            continue
        last = [kept for kept in agent.progress if kept.raw is not None][-1:]
        if not last or agent.progress_key not in stored.values:
            yield agent.name, "reports nothing at the end"
            continue
        yield from _reported(agent, last[0], stored, index.stored[agent.source.name])
        yield from _ended(agent, stored)
        yield from _quiet(agent, index.quiet, stored)
        read = [
            record
            for record in index.trace
            if isinstance(record, t.ReportRead) and record.agent == agent.name
        ]
        for reader in {record.reader for record in read}:
            newest = [record for record in read if record.reader == reader][-1]
            if newest.at < last[0].at - 1.5 * _RENEW:
                yield reader, f"has not read the last report of {agent.name}"


def _reported(agent: AgentTrace, last: Kept, stored: t.Stored, followed: t.Stored) -> Lines:
    """What it says of itself is so. Of two by one name that live it is enough that they say so."""
    root = f"{agent.entry.place}open/{agent.name}/"
    told, found = last.told, dict(records_in(stored.values, root))
    living = agent.living_at(stored)
    if len(living) > 1:
        if told.get("rival") is None:
            yield agent.name, f"knows of no rival at the end: {last.raw!r}"
        return
    if told["open"] != sum_of(found):
        yield agent.name, f"reports {told['open']}, and there is {sum_of(found)}"
    if told.get("watches") or told.get("stopped") or told.get("rival"):
        yield agent.name, f"does not just follow at the end: {told.get('watches')}, {last.raw!r}"
    reported = {
        key: (one["verdict"], one["reason"], one["digest"])
        for key, one in ((key, decoded(raw)) for key, raw in found.items())
    }
    life = agent.life_of(told["instance"])
    wanted = {} if life is None else agent.open_for(followed.values, life)
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
    # a ticket that an agent finds when it begins may have been there for any time
    began = max((life.since for life in agent.lives.values()), default=0.0)
    seen = {kept.key.removeprefix(f"{place}tickets/"): kept.at for kept in agent.tickets}
    for number, raw in tickets.items():
        if max(began, seen[number]) + decoded(raw)["timeout"] < stored.at - _KEPT:
            yield agent.name, f"has not swept the ticket {number}"
    # what a rival that has ended answered last nobody knows of
    for number in () if agent.has_rivals else dict(records_in(stored.values, f"{place}answers/")):
        if number.rpartition("/")[0] not in tickets:
            yield agent.name, f"has left the answer {number}, and there is no such ticket"


def _quiet(agent: AgentTrace, quiet: t.Quiet, stored: t.Stored) -> Lines:
    """After the end of all else only its signs of life come."""
    signs = [kept for kept in agent.progress if kept.at > quiet.at]
    living = agent.living_at(stored)
    if len(signs) > len(living) * ((stored.at - quiet.at) / _RENEW + 2):
        yield agent.name, f"reports {len(signs)} times, though nothing happens"
    for all_kept in agent.records.values() if len(living) == 1 else ():
        if any(kept.at > quiet.at for kept in all_kept):
            yield agent.name, f"goes on writing of {all_kept[-1].key!r}, though nothing happens"
