"""What the trace tells of agents that report: what each has said of which value, and what lay in
the store. The validators of reports ask it.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from datasync.source import Scopes
from datasync.testing.trace import records as t
from datasync.testing.trace.history import SourceLog
from datasync.testing.trace.index import SLACK, TraceIndex

__all__ = [
    "ACCEPTED",
    "AgentTrace",
    "Kept",
    "Life",
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


class Life:
    """One life of an agent, as its first record tells."""

    def __init__(self, started: t.AgentStarted) -> None:
        self.name = started.life
        self.instance = started.instance
        self.since = started.since
        self.ahead = started.ahead
        self.ended = math.inf
        self.ended_by = math.inf
        """The number of the record that says so."""

    def overlaps(self, other: Life) -> bool:
        """Whether both lived at the same time."""
        return self.since <= other.ended and other.since <= self.ended


class AgentTrace:
    """One agent, with all its lives; several at once where it has rivals."""

    def __init__(self, index: TraceIndex, entry: t.AgentDeclared) -> None:
        self.entry = entry
        self.name = entry.agent
        self.scopes = Scopes(entry.scopes)
        self.source: SourceLog = index.sources[entry.source]
        self.store: SourceLog = index.sources[entry.store or entry.source]
        """Where it reports."""
        self._known = {key for history in self.source.histories for key in history.cells}
        self.lives: dict[str, Life] = {}
        self.said: list[t.AgentSaid] = []
        self.progress: list[Kept] = []
        self.records: dict[str, list[Kept]] = {}
        self.tickets: list[Kept] = []
        self.answers: list[Kept] = []
        self._written: dict[str, list[tuple[float, bytes | None]]] = {}
        """What stood in its source, by key, and since when."""
        self._begun: list[float] = []
        """When histories of its source began."""
        self._by_value: dict[tuple[str, str | None], list[_SaidOfValue]] = {}
        self._wholes: list[t.AgentSaid] = []

    def live(self, record: t.AgentStarted | t.AgentEnded) -> None:
        """A life has begun, or ended."""
        if isinstance(record, t.AgentStarted):
            self.lives[record.life] = Life(record)
        else:
            for life in self.lives.values():
                if life.name == record.life or not (record.life or life.ended < math.inf):
                    life.ended, life.ended_by = record.at, record.seq

    def life_of(self, instance: str) -> Life | None:
        """The one that reports as this instance."""
        return next((life for life in self.lives.values() if life.instance == instance), None)

    def living_at(self, record: t.Record) -> list[Life]:
        """The lives that had not ended by that record."""
        return [life for life in self.lives.values() if life.ended_by > record.seq]

    @property
    def progress_key(self) -> str:
        """Where its progress lies."""
        return f"{self.entry.place}progress/{self.name}"

    @property
    def has_rivals(self) -> bool:
        """Whether two of its lives ever were at once."""
        lives = list(self.lives.values())
        return any(one.overlaps(other) for one, other in itertools.combinations(lives, 2))

    def add(self, record: t.AgentSaid) -> None:
        """It has said something."""
        self.said.append(record)
        if record.whole:
            self._wholes.append(record)
        for key, raw in record.values.items():
            said = ("failed", record.failed) if record.failed else record.said.get(key, ACCEPTED)
            found = self._by_value.setdefault((key, digest_of(raw)), [])
            found.append(_SaidOfValue(record.at, said, bool(record.failed), record.life))

    def begin(self, at: float) -> None:
        """A history of its source begins."""
        self._begun.append(at)

    def write(self, kept: Kept) -> None:
        """Somebody wrote that to its source."""
        self._written.setdefault(kept.key, []).append((kept.at, kept.raw))

    def was_overtaken(self, key: str, raw: bytes | None, until: float) -> bool:
        """Whether another value came after that one by then, or another history of the store."""
        # a key that was not there may be deleted as well, and nothing tells of that
        stood = 0.0 if raw is None else math.inf
        for at, there in self._written.get(key, ()):
            if there == raw:
                stood = min(stood, at)
            elif stood <= at <= until:
                return True
        return any(stood <= at <= until for at in self._begun)

    def keep(self, kept: Kept) -> None:
        """Somebody wrote that below the place of the reports."""
        place = self.entry.place
        if kept.key == self.progress_key:
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
        for one in self._by_value.get((key, digest), ()):
            if one.at > until + SLACK or one.said[0] != verdict:
                continue
            if one.said[1] == reason or (one.whole and one.said[1] in reason):
                return True
        return (
            digest is None
            and (verdict, reason) == ACCEPTED
            and key in self.scopes
            and any(one.at <= until + SLACK and key not in one.values for one in self._wholes)
        )

    def said_in(self, life: Life, until: float) -> Mapping[str, set[bytes | None]]:
        """Of each key the values that it said anything of in that life, until then."""
        found: dict[str, set[bytes | None]] = collections.defaultdict(set)
        for record in self.said:
            if record.life == life.name and record.at <= until + SLACK:
                for key in self._known - record.values.keys() if record.whole else ():
                    found[key].add(None)
                for key, said in record.values.items():
                    found[key].add(said)
        return found

    def open_for(self, values: Mapping[str, bytes], life: Life) -> dict[str, tuple[str, str, str]]:
        """The records that are to be there where these values stand: by key verdict, reason and
        digest, by what it said of each value last in that life."""
        wanted: dict[str, tuple[str, str, str]] = {}
        for key, raw in values.items():
            digest = digest_of(raw)
            assert digest is not None
            found = self._by_value.get((key, digest), ())
            said = [one.said for one in found if one.life == life.name]
            if key in self.scopes and said and said[-1] != ACCEPTED:
                wanted[key] = (*said[-1], digest)
        return wanted

    def seen_between(self, since: float, until: float) -> Iterator[Kept | None]:
        """Each progress that lay there at any moment of that time; None where none did."""
        before: Kept | None = None
        for kept in self.progress:
            if kept.at > until:
                break
            if kept.at > since:
                yield _there(before)
            before = kept
        yield _there(before)


class _SaidOfValue(NamedTuple):
    """What was said of a value, when, and in which life. `whole`: its event has failed."""

    at: float
    said: t.Said
    whole: bool
    life: str


def _there(kept: Kept | None) -> Kept | None:
    return None if kept is None or kept.raw is None else kept


@functools.lru_cache(maxsize=1)
def agents_of(index: TraceIndex) -> Mapping[str, AgentTrace]:
    """All agents of the trace."""
    agents = {name: AgentTrace(index, entry) for name, entry in index.agents.items()}
    eras: collections.Counter[str] = collections.Counter()
    for record in index.trace if agents else ():
        match record:
            case t.AgentStarted() | t.AgentEnded():
                agents[record.agent].live(record)
            case t.AgentSaid():
                agents[record.agent].add(record)
            case t.HistoryStarted():
                eras[record.source] += 1
                for agent in agents.values():
                    if agent.source.name == record.source:
                        agent.begin(record.at)
                found = {key: raw for key, raw, _ in record.items}
                _keep(agents, record, found, eras)
                gone = {
                    agent.progress_key: None
                    for agent in agents.values()
                    if agent.store.name == record.source and agent.progress_key not in found
                }
                _keep(agents, record, gone, eras)
            case t.Committed():
                _keep(agents, record, dict(record.changes), eras)
            case _:
                pass
    return agents


def _keep(
    agents: Mapping[str, AgentTrace],
    by: t.HistoryStarted | t.Committed,
    values: Mapping[str, bytes | None],
    eras: Mapping[str, int],
) -> None:
    for key, raw in values.items():
        kept = Kept(key, raw, by, eras[by.source])
        for agent in agents.values():
            if agent.store.name == by.source:
                agent.keep(kept)
            if agent.source.name == by.source:
                agent.write(kept)


def records_in(values: Mapping[str, bytes], root: str) -> Iterator[tuple[str, bytes]]:
    """The keys below `root`, as they go on after it, with their values."""
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
