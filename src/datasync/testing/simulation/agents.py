"""Who is in a simulation of reports: agents that die and come back, writers that ask them, and who
reads what they report. All values differ, and say what becomes of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence

from datasync.errors import DataSyncError, Failed, NotApplied, Outcomes, Pending, Refused, Said
from datasync.events import Event, ResyncEvent
from datasync.options import Backoff
from datasync.outcome import Accepted, KeyOutcome
from datasync.report import Reports
from datasync.source import Source
from datasync.sync import DataSync
from datasync.testing.faults.muted import MutedSource
from datasync.testing.simulation.sync import SimulatedSync
from datasync.testing.trace.recorder import Recorder

__all__ = ["PLACE", "SCOPE", "Agent", "Reader", "Writer", "asked_of", "said_of"]

PLACE = "status/"
SCOPE = "config/"
"""What all agents watch."""

_QUICK = Backoff(initial=0.05, maximum=0.4)


def said_of(key: str, raw: bytes | None) -> Said | None:
    """What agents say of a value; None where they apply it."""
    text = (raw or b"").decode()
    kind = text.partition("-")[0]
    said: Mapping[str, type[Refused | Pending | Failed]] = {
        "bad": Refused, "wait": Pending, "broken": Failed,
    }  # fmt: skip
    return said[kind](f"{kind} is {text} at {key}") if kind in said else None


class Agent:
    """An agent that dies at any moment and comes back.

    at: the store that it reports in, where that is not the one that it watches.
    ahead: seconds that its clock is ahead.
    """

    def __init__(
        self,
        name: str,
        store: Source,
        recorder: Recorder,
        rng: random.Random,
        *,
        at: Source | None = None,
        ahead: float = 0.0,
    ) -> None:
        self.name = name
        self.good = False
        """It fails no more, and takes no time."""
        self._store = store
        self._at = at
        self._ahead = ahead
        self._recorder = recorder
        self._rng = rng
        self._life = 0
        self._named = ""
        """What this life is called in the trace."""
        self._source = MutedSource(store)
        """Where it reports."""
        self._sync: DataSync | None = None
        self._waiting: dict[str, bytes | None] = {}
        """The values that it said of last that it applies them later."""
        self._number = 0
        recorder.agent(store.name, name, [SCOPE], PLACE, "" if at is None else at.name)

    async def live(self) -> None:
        """Begin a life, unless it lives."""
        if self._sync is not None:
            return
        self._life += 1
        self._waiting.clear()
        since = asyncio.get_running_loop().time()
        self._named = named = f"{self._rng.getrandbits(64):016x}"
        self._source = MutedSource(self._store if self._at is None else self._at)
        self._sync = sync = SimulatedSync(
            self._source if self._at is None else self._store, rng=self._rng, ahead=self._ahead,
            report_to=PLACE if self._at is None else self._source, agent=self.name, retry=_QUICK,
            reconnect=_QUICK, ack_timeout=1.0, resync_timeout=1.0, retries=3, ping_interval=1.0,
            ping_timeout=0.5, connect_timeout=1.0, close_timeout=1.0,
        )  # fmt: skip
        life = self._life

        async def apply(event: Event[bytes]) -> None:
            await self._apply(event, life)

        sync.watcher(SCOPE, name="config")(apply)
        await sync.start()
        assert sync._reporter is not None
        instance = sync._reporter.instance
        self._recorder.agent_started(self.name, named, instance, since, self._ahead)

    async def die(self, *, in_order: bool = False) -> None:
        """End its life, unless it is over: without a word, or in order."""
        sync, self._sync = self._sync, None
        if sync is None:
            return
        if not in_order:
            self._life += 1  # what its handler still does is nobody's any more
            self._source.mute = True
            self._recorder.agent_ended(self.name, self._named)
        await sync.aclose()
        if in_order:
            self._life += 1
            self._recorder.agent_ended(self.name, self._named)

    def doom(self, commits: int) -> None:
        """Let it die in the midst of what it writes: it is done, and the agent never knows."""
        self._source.mute_behind(commits)

    def report_later(self) -> None:
        """Say of a value that was to be applied later what became of it."""
        if self._sync is None or not self._waiting:
            return
        key = self._rng.choice(sorted(self._waiting))
        [watch] = [one for one in self._sync.status().watches if one.name == "config"]
        raw = self._waiting[key]
        if key not in watch.open or watch.open[key].reason != str(said_of(key, raw)):
            return  # it has said so in this very turn, and nobody has heard it
        del self._waiting[key]
        outcomes: list[Said] = [Accepted(), Failed(f"failed later, {self._next()}")]
        said = self._rng.choice(outcomes)
        self._recorder.agent_said(self.name, self._named, {key: raw}, {key: said})
        self._sync._watches["config"].report({key: said})

    async def _apply(self, event: Event[bytes], life: int) -> None:
        rng = self._rng
        values: dict[str, bytes | None] = {change.key: change.raw for change in event.changes}
        whole = isinstance(event, ResyncEvent)
        if isinstance(event, ResyncEvent):
            values |= {kv.key: kv.raw for pairs in event.values.values() for kv in pairs}

        # what it is busy with is not said of the older value meanwhile
        for key in [*self._waiting] if whole else values:
            self._waiting.pop(key, None)
        if not self.good and rng.random() < 0.3:
            await asyncio.sleep(rng.choice([0.0, 0.1, 0.5, 2.5]))
        if life != self._life:
            return
        if not self.good and rng.random() < 0.15:
            why = f"boom {self._next()}"
            self._recorder.agent_said(self.name, self._named, values, failed=why, whole=whole)
            raise RuntimeError(why)

        outcomes = {key: said for key in values if (said := said_of(key, values[key])) is not None}
        self._recorder.agent_said(self.name, self._named, values, outcomes, whole=whole)
        self._waiting |= {
            key: values[key] for key, said in outcomes.items() if isinstance(said, Pending)
        }
        if outcomes:
            raise Outcomes(outcomes)

    def _next(self) -> int:
        self._number += 1
        return self._number


class Writer:
    """Writes, and asks agents; it may be gone before it hears.

    at: the store that they report in, where that is not the one that it writes to.
    ahead: seconds that its clock is ahead.
    """

    def __init__(
        self,
        store: Source,
        recorder: Recorder,
        rng: random.Random,
        *,
        at: Source | None = None,
        ahead: float = 0.0,
    ) -> None:
        self._stores = [store] if at is None else [store, at]
        self._recorder = recorder
        self._rng = rng
        self._ahead = ahead
        self._sources = [MutedSource(one) for one in self._stores]
        self._sync: DataSync | None = None
        self._follows: float | None = None
        """Since when it follows what agents report: since its first question."""
        self._asking: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        """Begin, unless it lives."""
        if self._sync is None:
            self._sources = [MutedSource(one) for one in self._stores]
            self._sync = _reading(self._sources[0], self._rng, self._ahead)
            self._follows = None
            await self._sync.start()

    async def die(self, *, in_order: bool = False) -> None:
        """Be gone: at once, or in order."""
        sync, self._sync = self._sync, None
        if sync is not None:
            for source in self._sources:
                source.mute = not in_order
            await sync.aclose()

    def doom(self, commits: int) -> None:
        """Let it write no more after so many commits to a store, of which it never hears."""
        self._rng.choice(self._sources).mute_behind(commits)

    def ask(
        self,
        values: Mapping[str, bytes | None],
        agents: str | Sequence[str],
        timeout: float,
        *,
        calm: bool = False,
    ) -> None:
        """Write these values, and hear what agents say of them.

        calm: all faults have ended.
        """
        if self._sync is None:
            return
        at = self._sources[1] if len(self._sources) > 1 else None
        reports = Reports(PLACE, agents, timeout, at)
        work = self._ask(self._sync, values, reports, calm=calm)
        task = asyncio.get_running_loop().create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        if not calm and self._rng.random() < 0.1:  # nobody wants to know it any more
            asyncio.get_running_loop().call_later(self._rng.random(), task.cancel)

    async def heard(self) -> None:
        """Wait until all that was asked is heard."""
        while self._asking:
            await asyncio.wait(self._asking)

    async def _ask(
        self, sync: DataSync, values: Mapping[str, bytes | None], reports: Reports, *, calm: bool
    ) -> None:
        txn, since = sync.txn(), asyncio.get_running_loop().time()
        for key, raw in values.items():
            if raw is None:
                txn.delete(key)
            else:
                txn.put(key, raw)
        self._follows = follows = since if self._follows is None else self._follows
        outcomes: Mapping[str, KeyOutcome] = {}
        try:
            await txn.commit(confirm=reports)
        except NotApplied as error:
            outcomes = error.outcomes
        except DataSyncError:
            return  # it was not done, or nobody knows
        self._recorder.agents_heard(
            values, reports, since, outcomes, follows=follows, ahead=self._ahead, calm=calm
        )


class Reader:
    """Reads what agents report."""

    def __init__(
        self,
        name: str,
        store: Source,
        recorder: Recorder,
        rng: random.Random,
        *,
        ahead: float = 0.0,
    ) -> None:
        self._name = name
        self._recorder = recorder
        self._sync = _reading(store, rng, ahead)
        self._task: asyncio.Task[None] | None = None

    async def live(self) -> None:
        """Read from now on."""
        await self._sync.start()
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def die(self) -> None:
        """Read no more."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._sync.aclose()

    async def _read(self) -> None:
        async with contextlib.aclosing(self._sync.reports(PLACE)) as reports:
            async for report in reports:
                self._recorder.report_read(self._name, report)


def _reading(source: Source, rng: random.Random, ahead: float) -> DataSync:
    return SimulatedSync(
        source, rng=rng, ahead=ahead, retry=_QUICK, reconnect=_QUICK, ping_interval=1.0,
        ping_timeout=0.5, connect_timeout=1.0, close_timeout=1.0,
    )  # fmt: skip


def asked_of(rng: random.Random, names: Sequence[str]) -> str | list[str]:
    """Who is to accept."""
    one = rng.choice(names)
    choices: list[str | list[str]] = ["all", "any", [one], list(names)]
    return rng.choice(choices)
