"""Who reads reports: pictures of agents, put together from what lies in a store."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TypeVar

from datasync.events import Event, ResyncEvent
from datasync.report import KeyReport, Report
from datasync.reports.clocks import Clocks
from datasync.reports.form import Digest, Place, Progress, decode_progress, decode_record
from datasync.texts import logger
from datasync.watch import Watch

__all__ = ["Fleet", "follow"]

T = TypeVar("T")

log = logger("datasync.reports")


class _Agent:
    """What is known of one agent."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.records: dict[str, tuple[bytes, KeyReport | None]] = {}
        self.digest = Digest()
        self.told: Progress | None = None
        """The one that was handed on last."""
        self.report: Report | None = None
        """What that was, with its records."""

    def put(self, key: str, raw: bytes) -> None:
        """A record is there."""
        self.drop(key)
        self.digest.add(key, raw)
        self.records[key] = raw, _decoded(key, raw, decode_record)

    def drop(self, key: str) -> None:
        """A record is gone."""
        found = self.records.pop(key, None)
        if found is not None:
            self.digest.remove(key, found[0])


class Fleet:
    """All agents whose reports lie in one place.

    wall: the clock of who reads, in seconds since the epoch.
    """

    def __init__(self, place: Place, wall: Callable[[], float] = time.time) -> None:
        self._place = place
        self._clocks = Clocks(wall)
        self._agents: dict[str, _Agent] = {}

    @property
    def prefix(self) -> str:
        """Below which they report."""
        return self._place.prefix

    def reports(self) -> list[Report]:
        """What was handed on last of those that are there. Safe from any thread."""
        agents = list(self._agents.values())
        return [agent.report for agent in agents if agent.report is not None]

    def take(self, event: Event[bytes]) -> list[Report]:
        """What agents report that is new and whole, in the order of their names.

        Where each key is ordered for itself a progress may be seen before the records that belong
        to it, or after: it is believed when number and digest are those of what is seen.
        """
        if isinstance(event, ResyncEvent):
            before, self._agents = self._agents, {}
            names = {self._put(kv.key, kv.raw) for values in event.values.values() for kv in values}
            for name, agent in self._agents.items():
                if name in before:
                    agent.told, agent.report = before[name].told, before[name].report
            self._clocks.stay(self._agents)
        else:
            names = {
                self._drop(change.key) if change.raw is None else self._see(change.key, change.raw)
                for change in event.changes
            }
        return list(self._new(names))

    def _new(self, names: Iterable[str]) -> Iterable[Report]:
        for name in sorted(names):
            agent = self._agents.get(name)
            if agent is None:
                continue
            progress = agent.progress
            if progress is None:
                if not agent.records:
                    del self._agents[name]
            elif progress.open == agent.digest.value and progress != agent.told:
                agent.told = progress
                agent.report = _report(progress, agent, self._clocks.behind(name))
                yield agent.report

    def _see(self, key: str, raw: bytes) -> str:
        """It is written just now."""
        name = self._put(key, raw)
        progress = self._agents[name].progress
        if progress is not None and key == self._place.progress(name):
            self._clocks.reported(name, progress.time)
        return name

    def _put(self, key: str, raw: bytes) -> str:
        name, record = self._names_of(key)
        agent = self._agents.setdefault(name, _Agent())
        if record is None:
            agent.progress = _decoded(key, raw, decode_progress)
        else:
            agent.put(record, raw)
        return name

    def _drop(self, key: str) -> str:
        name, record = self._names_of(key)
        agent = self._agents.setdefault(name, _Agent())
        if record is None:
            agent.progress = agent.report = None
            self._clocks.gone(name)
        else:
            agent.drop(record)
        return name

    def _names_of(self, key: str) -> tuple[str, str | None]:
        """The agent that a key belongs to, and which of its records it is; None: its progress."""
        below = key.removeprefix(self._place.all_progress)
        if below != key:
            return below, None
        agent, _, record = key.removeprefix(self._place.all_open).partition("/")
        return agent, record


def _report(progress: Progress, agent: _Agent, behind: float) -> Report:
    records = [record for _, record in agent.records.values() if record is not None]
    return Report(
        agent=progress.agent,
        instance=progress.instance,
        time=progress.time,
        lease=progress.lease,
        stopped=progress.stopped,
        rival=progress.rival,
        layers=progress.layers,
        scopes=progress.scopes,
        more_scopes=progress.more_scopes,
        watches=progress.watches,
        open={record.key: record for record in sorted(records, key=lambda record: record.key)},
        behind=behind,
    )


def _decoded(key: str, raw: bytes, decode: Callable[[bytes], T]) -> T | None:
    """What it says; None, with a word in the log, where it is of a form that is not known here."""
    try:
        return decode(raw)
    except ValueError as error:
        log.warning("%s is not a report that can be read here: %s", key, error)
        return None


async def follow(
    watch: Watch[bytes], place: Place, wall: Callable[[], float], followed: dict[Fleet, None]
) -> AsyncGenerator[Report]:
    """What agents report from now on, first as it stands; closes the watch.

    wall: the clock here, in seconds since the epoch.
    followed: has their fleet, meanwhile.
    """
    fleet = Fleet(place, wall)
    followed[fleet] = None
    try:
        async for event in watch:
            for report in fleet.take(event):
                yield report
    finally:
        del followed[fleet]
        watch.close()
