"""What the trace tells of agents that report: what each has said of which value, and what lay in
the store. The validators of reports ask it.
"""

from __future__ import annotations

import collections
import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from datasync.source import Scopes
from datasync.testing.trace import records as t
from datasync.testing.trace.history import SourceLog
from datasync.testing.trace.index import SLACK, TraceIndex

__all__ = [
    "ACCEPTED",
    "AgentTrace",
    "Kept",
    "agents_of",
    "decoded",
    "digest_of",
    "records_in",
    "sum_of",
]

ACCEPTED: t.Said = ("accepted", "")


class Kept:
    """What somebody wrote below the place of the reports, in the order of the source."""

    def __init__(self, key: str, raw: bytes | None, by: t.Record, era: int) -> None:
        self.key = key
        self.raw = raw
        self.at, self.seq = by.at, by.seq
        self.found = isinstance(by, t.HistoryStarted)
        """It was there when the history began: nobody wrote it in it."""
        self.era = era
        """How many histories of the store had begun."""

    @functools.cached_property
    def told(self) -> dict[str, Any]:
        """What it says, as anybody may read it; empty where it was deleted."""
        return {} if self.raw is None else decoded(self.raw)


class AgentTrace:
    """One agent, with all its lives."""

    def __init__(self, index: TraceIndex, entry: t.AgentDeclared) -> None:
        self.entry = entry
        self.name = entry.agent
        self.scopes = Scopes(entry.scopes)
        self.source: SourceLog = index.sources[entry.source]
        self._known = {key for history in self.source.histories for key in history.cells}
        self.lives: list[t.AgentStarted] = []
        self.said: list[t.AgentSaid] = []
        self.progress: list[Kept] = []
        self.records: dict[str, list[Kept]] = {}
        self.tickets: list[Kept] = []
        self.answers: list[Kept] = []
        self._by_value: dict[tuple[str, str | None], list[tuple[float, t.Said, bool]]] = {}
        self._wholes: list[t.AgentSaid] = []

    def add(self, record: t.AgentSaid) -> None:
        """It has said something."""
        self.said.append(record)
        if record.whole:
            self._wholes.append(record)
        for key, raw in record.values.items():
            said = ("failed", record.failed) if record.failed else record.said.get(key, ACCEPTED)
            found = self._by_value.setdefault((key, digest_of(raw)), [])
            found.append((record.at, said, bool(record.failed)))

    def keep(self, kept: Kept) -> None:
        """Somebody wrote that."""
        place = self.entry.place
        if kept.key == f"{place}progress/{self.name}":
            self.progress.append(kept)
        elif kept.key.startswith(root := f"{place}open/{self.name}/"):
            self.records.setdefault(kept.key.removeprefix(root), []).append(kept)
        elif kept.key.startswith(f"{place}tickets/"):
            self.tickets.append(kept)
        elif kept.key.startswith(f"{place}answers/"):
            self.answers.append(kept)

    def has_said(
        self, key: str, digest: str | None, verdict: str, reason: str, until: float
    ) -> bool:
        """Whether it has said so of that value by then. Why a whole event failed is told in the
        words of the engine, which has the agent's own in it."""
        for at, said, whole in self._by_value.get((key, digest), ()):
            if at > until + SLACK or said[0] != verdict:
                continue
            if said[1] == reason or (whole and said[1] in reason):
                return True
        return (
            digest is None
            and (verdict, reason) == ACCEPTED
            and key in self.scopes
            and any(one.at <= until + SLACK and key not in one.values for one in self._wholes)
        )

    def was_shown(self, key: str, digest: str | None) -> bool:
        """Whether it has said anything of that value."""
        return (key, digest) in self._by_value

    def life(self, instance: str) -> float:
        """When the life began that reports as this instance."""
        first = next(kept for kept in self.progress if kept.told.get("instance") == instance)
        time: float = first.told["time"]
        # two lives may meet in one moment of the clock
        began = [life.at for life in self.lives if life.seq < first.seq and life.at < time + SLACK]
        return max(began, default=0.0)

    def said_between(self, since: float, until: float) -> Mapping[str, set[bytes | None]]:
        """Of each key the values that it said anything of in that time."""
        found: dict[str, set[bytes | None]] = collections.defaultdict(set)
        for record in self.said:
            if since - SLACK <= record.at <= until + SLACK:
                for key in self._known - record.values.keys() if record.whole else ():
                    found[key].add(None)
                for key, said in record.values.items():
                    found[key].add(said)
        return found

    def open_for(self, values: Mapping[str, bytes]) -> dict[str, tuple[str, str, str]]:
        """The records that are to be there where these values stand: by key verdict, reason and
        digest, by what it said of each value last."""
        wanted: dict[str, tuple[str, str, str]] = {}
        for key, raw in values.items():
            digest = digest_of(raw)
            assert digest is not None
            said = self._by_value.get((key, digest), [])
            if key in self.scopes and said and said[-1][1] != ACCEPTED:
                wanted[key] = (*said[-1][1], digest)
        return wanted


@functools.lru_cache(maxsize=1)
def agents_of(index: TraceIndex) -> Mapping[str, AgentTrace]:
    """All agents of the trace."""
    agents = {name: AgentTrace(index, entry) for name, entry in index.agents.items()}
    era = 0
    for record in index.trace if agents else ():
        match record:
            case t.AgentStarted():
                agents[record.agent].lives.append(record)
            case t.AgentSaid():
                agents[record.agent].add(record)
            case t.HistoryStarted():
                era += 1
                for key, raw, _ in record.items:
                    _keep(agents, record.source, Kept(key, raw, record, era))
            case t.Committed():
                for key, new in record.changes:
                    _keep(agents, record.source, Kept(key, new, record, era))
            case _:
                pass
    return agents


def _keep(agents: Mapping[str, AgentTrace], source: str, kept: Kept) -> None:
    for agent in agents.values():
        if agent.entry.source == source:
            agent.keep(kept)


def records_in(values: Mapping[str, bytes], root: str) -> Iterator[tuple[str, bytes]]:
    """The keys below `root`, as they go on behind it, with their values."""
    for key, raw in values.items():
        if key.startswith(root):
            yield key.removeprefix(root), raw


def decoded(raw: bytes) -> dict[str, Any]:
    """What a value says, as anybody may read it."""
    return msgspec.json.decode(raw, type=dict[str, Any])


def digest_of(raw: bytes | None) -> str | None:
    """As reports name a value (docs/reports.md)."""
    return None if raw is None else hashlib.sha256(raw).hexdigest()


def sum_of(records: Mapping[str, bytes]) -> dict[str, Any]:
    """As a progress names all its records (docs/reports.md)."""
    number = 0
    for key, raw in records.items():
        number ^= int.from_bytes(hashlib.sha256(key.encode() + b"\0" + raw).digest())
    return {"count": len(records), "digest": f"{number:064x}"}
