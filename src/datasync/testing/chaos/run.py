"""One round: a schedule is carried out on a store, and what came of it is judged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from datasync.options import Backoff
from datasync.sync import DataSync
from datasync.terminal.process import records_to
from datasync.testing.chaos.agents import Agents
from datasync.testing.chaos.application import Application
from datasync.testing.chaos.judge import LATENCY, judge
from datasync.testing.chaos.schedule import Step
from datasync.testing.chaos.store import Begin, Log, Store
from datasync.testing.trace.checker import check
from datasync.testing.trace.recorder import Recorder
from datasync.testing.trace.records import Delivered, Record, SessionFrame, Stalled
from datasync.transports import open_url

__all__ = ["Outcome", "play"]

_QUICK = Backoff(initial=0.02, maximum=0.3)
_PATIENCE = 90.0
"""Seconds within which everything settles once the faults have ended."""
_CALM = 0.5
_BEAT, _LATE = 0.05, 0.05
"""Seconds between two looks at the clock, and by how much one may be late
before that goes into the trace."""


class Outcome(NamedTuple):
    """What came of a round."""

    findings: Sequence[str]
    trace: Sequence[Record]
    reports: Sequence[Record]
    steps: Counter[str]
    writes: int
    events: int


async def play(store: Store, schedule: Sequence[Step], seed: int) -> Outcome:
    """Carry out the schedule, let everything settle, and judge it."""
    with _quiet_log() as said:
        return await _Round(store, schedule, seed, said).play()


@contextlib.contextmanager
def _quiet_log() -> Iterator[list[str]]:
    """The engine warns of every fault; here they are meant. What it did not expect is kept."""
    handler = _Unexpected(logging.ERROR)
    with records_to(handler):
        yield handler.said


class _Unexpected(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


class _Round:
    def __init__(self, store: Store, schedule: Sequence[Step], seed: int, said: list[str]) -> None:
        self._store = store
        self._schedule = schedule
        self._rng = random.Random(seed)
        self._said = said
        self._recorder = Recorder()
        self._lanes = {fault.lane: asyncio.Lock() for fault in store.faults.values()}
        self._logs: list[Log] = []
        self._steps: Counter[str] = Counter()
        self._source = self._recorder.source(open_url(store.url))
        self._agents = Agents(store, self._source, self._rng)

    async def play(self) -> Outcome:
        recorder, source = self._recorder, self._source
        await self._store.rejoin()
        self._began(await self._store.begin())
        sync = DataSync(
            source,
            ack_timeout=2.0,
            resync_timeout=4.0,
            retries=3,
            retry=Backoff(initial=0.05, maximum=0.4),
            reconnect=_QUICK,
            connect_timeout=3.0,
            ping_interval=0.5,
            ping_timeout=1.0,
        )
        other = DataSync(self._store.direct, reconnect=_QUICK, ping_interval=0.5, ping_timeout=1.0)
        self._application = application = Application(
            sync, other, source, recorder, self._rng, singly=self._store.singly
        )
        for _ in range(3):
            application.add_watch(self._rng)

        async with other, sync, self._heartbeat(), self._agents.at_work():
            application.started()
            async with asyncio.TaskGroup() as group:
                for past in (False, True):
                    group.create_task(application.write(other=past, seed=self._rng.getrandbits(32)))
                await self._carry_out()
                await self._store.hush()
                await application.heal()
            await self._agents.heal()
            await self._settle()
            await self._account()
            await application.stop()

        findings = judge(
            recorder.trace,
            source.capabilities,
            self._logs,
            application.acknowledged,
            application.undone,
            [*application.unexpected, *self._said],
        )
        reports = self._reports
        findings += (f"reports: {violation}" for violation in check(reports, latency=LATENCY))
        events = sum(isinstance(record, Delivered) for record in recorder.trace)
        return Outcome(findings, recorder.trace, reports, self._steps, application.writes, events)

    @contextlib.asynccontextmanager
    async def _heartbeat(self) -> AsyncIterator[None]:
        """Note when the loop stands still: by the clock of the trace, what ends
        meanwhile would be overdue."""
        loop = asyncio.get_running_loop()

        async def beat() -> None:
            while True:
                due = loop.time() + _BEAT
                await asyncio.sleep(_BEAT)
                if loop.time() > due + _LATE:
                    self._recorder.stalled(due)

        async with asyncio.TaskGroup() as group:
            beating = group.create_task(beat())
            try:
                yield
            finally:
                beating.cancel()

    # -- the schedule ------------------------------------------------------------------------------

    async def _carry_out(self) -> None:
        """Begin each step in its time; a fault waits for its lane."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as faults:
            for step in self._schedule:
                await asyncio.sleep(max(0.0, began + step.at - loop.time()))
                self._steps[step.what] += 1
                match step.kind:
                    case "fault":
                        faults.create_task(self._fault(step))
                    case "renewal":
                        await self._renew(step)
                    case "agents":
                        rng = random.Random(step.seed)
                        faults.create_task(self._agents.step(step.what, rng, step.seconds))
                    case _:
                        self._application.step(step.what, random.Random(step.seed))

    async def _fault(self, step: Step) -> None:
        fault = self._store.faults[step.what]
        async with self._lanes[fault.lane]:
            if step.what == "compaction":
                self._recorder.compacted(self._source.name)
            await fault.run(random.Random(step.seed), step.seconds)

    async def _renew(self, step: Step) -> None:
        """Another history: all that was written in the old one is put down first."""
        async with contextlib.AsyncExitStack() as stack:
            for lane in self._lanes.values():
                await stack.enter_async_context(lane)
            await self._application.rest()
            await self._agents.rest()
            await self._store.part()
            try:
                await self._put_down()
                await self._store.renewals[step.what]()
                self._began(await self._store.begin())
                self._application.history += 1
            finally:
                await self._store.rejoin()
                self._application.go_on()
                self._agents.go_on()

    # -- the account -------------------------------------------------------------------------------

    def _began(self, begin: Begin) -> None:
        self._recorder.history_started(
            self._source.name, begin.history, begin.revision, begin.items
        )
        self._agents.began(begin)
        self._logs.append([])

    async def _put_down(self) -> None:
        """What the store says that happened in its present history."""
        log = [*self._logs[-1], *await self._store.log()]
        for revision, changes in log[len(self._logs[-1]) :]:
            self._recorder.committed(self._source.name, changes, revision)
            self._agents.committed(changes, revision)
        self._logs[-1] = log

    async def _settle(self) -> None:
        """Wait until nothing moves any more. What does not settle shows in the judgement."""
        loop, recorder = asyncio.get_running_loop(), self._recorder
        deadline = loop.time() + _PATIENCE
        calm, seen = 0, recorder.now()
        while calm < 4 and loop.time() < deadline:
            await asyncio.sleep(_CALM)
            moved = any(_is_movement(record) for record in recorder.trace[seen:])
            calm = calm + 1 if not moved and self._application.calm else 0
            seen = recorder.now()
        if calm < 4:
            self._said.append(f"not settled within {_PATIENCE:g} s: {self._application.standing}")

    async def _account(self) -> None:
        """The rest of the log, and what the store holds at the end; a key
        with a TTL may end in between, and agents report. What those do not shows in the judgement.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while True:
            seen, state = self._recorder.now(), await self._store.state()
            await self._put_down()
            await asyncio.sleep(_CALM)
            rest = self._agents.are_at_rest(state) or loop.time() > until
            if rest and state == await self._store.state() and not self._moved(seen):
                break
        values, revision = state
        self._recorder.quiet()
        self._recorder.stored(self._source.name, values, revision)
        self._reports = self._agents.ended(state)

    def _moved(self, seen: int) -> bool:
        """Whether a watch has been given anything since."""
        return any(isinstance(record, Delivered) for record in self._recorder.trace[seen:])


def _is_movement(record: Record) -> bool:
    """Not so a session that says how far it is, which Kafka's does all the
    time, nor a loop that was late."""
    return not (
        isinstance(record, Stalled)
        or (isinstance(record, SessionFrame) and record.kind == "progress")
    )
