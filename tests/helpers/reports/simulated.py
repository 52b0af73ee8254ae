"""A simulation of agents that report and of writers that ask them, over a store that fails.

All values differ, and say what becomes of them: so each verdict can be held against the value that
it is about.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

from datasync import (
    Backoff,
    DataSync,
    Event,
    HistoryLost,
    NotApplied,
    Outcomes,
    Pending,
    Refused,
    Reports,
    ResyncEvent,
    Verdict,
)
from datasync.errors import DataSyncError
from datasync.reports.form import Digest, Place, decode_progress, decode_record, digest_of
from datasync.testing import FaultySource
from datasync.testing.contract.reporting import Muted
from datasync.testing.simulation.loop import run_simulated
from datasync.testing.simulation.schedule import PROFILES
from datasync.testing.simulation.sync import SimulatedSync

__all__ = ["simulate"]

PLACE = Place("status/")
KEYS = ["config/a", "config/b", "config/c/1", "config/c/2"]
_QUICK = Backoff(initial=0.05, maximum=0.4)
_STEPS = 40
_PATIENCE = 60.0
_LIMIT = 900.0


class Agent:
    """An agent that dies and comes back; what it applied in any life is known."""

    def __init__(self, store: FaultySource, rng: random.Random, name: str) -> None:
        self.name = name
        self.accepted: set[tuple[str, bytes | None]] = set()
        self.good = False
        self._store = store
        self._rng = rng
        self._source: Muted | None = None
        self._sync: DataSync | None = None

    async def live(self) -> None:
        """Begin a life, unless it lives."""
        if self._sync is not None:
            return
        self._source = Muted(self._store)
        self._sync = SimulatedSync(
            self._source, rng=self._rng, report_to=PLACE.prefix, agent=self.name, retry=_QUICK,
            reconnect=_QUICK, ack_timeout=1.0, resync_timeout=1.0, retries=3, ping_interval=0.5,
            ping_timeout=0.5, connect_timeout=1.0, close_timeout=1.0,
        )  # fmt: skip
        self._sync.watcher("config/", name="config")(self._apply)
        await self._sync.start()

    async def die(self, *, in_order: bool = False) -> None:
        """End it, without a word unless it is in order."""
        sync, self._sync = self._sync, None
        if sync is not None:
            assert self._source is not None
            self._source.mute = not in_order  # once it is dead nothing is written any more
            await sync.aclose()

    async def _apply(self, event: Event[bytes]) -> None:
        rng = self._rng
        if not self.good and rng.random() < 0.3:
            await asyncio.sleep(rng.choice([0.0, 0.1, 0.5, 2.5]))
        if not self.good and rng.random() < 0.15:
            raise RuntimeError("boom")

        shown = {change.key: change.raw for change in event.changes}
        if isinstance(event, ResyncEvent):
            shown |= {kv.key: kv.raw for values in event.values.values() for kv in values}
        outcomes = {key: said for key, raw in shown.items() if (said := _said(raw)) is not None}
        self.accepted |= {pair for pair in shown.items() if pair[0] not in outcomes}
        if outcomes:
            raise Outcomes(outcomes)


def _said(raw: bytes | None) -> Refused | Pending | None:
    text = (raw or b"").decode()
    if text.startswith("bad"):
        return Refused(f"refuses {text}")
    return Pending(f"waits with {text}") if text.startswith("wait") else None


class Simulation:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        profile = rng.choice(["exact", "exact", "no-resume", "latest", *PROFILES])
        self.wrong: list[str] = []
        self.store = FaultySource(
            capabilities=PROFILES[profile],
            chunk=rng.randint(1, 4),
            batch=rng.randint(1, 5),
            delay=rng.choice([0.0, 0.0, 0.01, 0.05]),
            rng=random.Random(rng.random()),
        )
        self.agents = [Agent(self.store, rng, f"vpp{n}") for n in range(rng.choice([1, 2, 2]))]
        self.writes: set[asyncio.Task[None]] = set()
        self.numbers = 0
        self.heard: list[str] = []

    async def run(self) -> None:
        rng = self.rng
        ctls = [self._writer() for _ in range(2)]
        async with contextlib.AsyncExitStack() as stack:
            for ctl in ctls:
                await stack.enter_async_context(ctl)
            for agent in self.agents:
                await agent.live()
            for _ in range(_STEPS):
                await self._step(rng.choice(ctls))
                await asyncio.sleep(rng.choice([0.0, 0.0, 0.01, 0.1, 0.3, 1.0]))
            await self._settle()
            for agent in self.agents:
                await agent.die(in_order=True)

    def _writer(self) -> DataSync:
        return SimulatedSync(
            self.store, rng=self.rng, retry=_QUICK, reconnect=_QUICK, ping_interval=0.5,
            ping_timeout=0.5, connect_timeout=1.0, close_timeout=1.0,
        )  # fmt: skip

    async def _step(self, ctl: DataSync) -> None:
        rng = self.rng
        match rng.randrange(14):
            case 0 | 1 | 2 | 3 | 4 | 5 | 6:
                task = asyncio.create_task(self._write(ctl))
                self.writes.add(task)
                if rng.random() < 0.1:  # who wrote is gone
                    asyncio.get_running_loop().call_later(rng.random(), task.cancel)
            case 7 | 8:
                agent = rng.choice(self.agents)
                await agent.die(in_order=rng.random() < 0.2)
                if rng.random() < 0.7:
                    await agent.live()
            case 9:
                await rng.choice(self.agents).live()
            case 10:
                self.store.disconnect(after=rng.randint(0, 5))
            case 11:
                self.store.lose_acknowledgement()
            case 12:
                self.store.disconnect(HistoryLost("compacted"))
            case _:
                rng.choice([self.store.hang, self.store.down])()
                late = rng.choice([0.2, 1.0, 3.0])
                asyncio.get_running_loop().call_later(late, self.store.heal)

    async def _write(self, ctl: DataSync) -> None:
        rng = self.rng
        self.numbers += 1
        kind = rng.choice(["good", "good", "bad", "wait", "delete"])
        key, raw = rng.choice(KEYS), f"{kind}-{self.numbers}".encode()
        agents = rng.choice(["all", "any", [rng.choice(self.agents).name]])
        ask = Reports(PLACE.prefix, agents=agents, timeout=rng.choice([0.5, 3.0, 10.0]))
        try:
            if kind == "delete":
                await ctl.delete(key, confirm=ask)
            else:
                await ctl.put(key, raw, confirm=ask)
        except NotApplied as error:
            said = error.outcomes[key]
            self.heard.append(said.verdict.value)
            if (
                said.verdict in (Verdict.REFUSED, Verdict.PENDING)
                and raw.decode() not in said.reason
            ):
                self.wrong.append(f"{key} {raw!r} hears of another value: {said}")
        except DataSyncError as error:
            self.heard.append(type(error).__name__)
        else:
            self.heard.append("accepted")
            asked = agents if isinstance(agents, list) else [agent.name for agent in self.agents]
            by = [agent.name for agent in self.agents if (key, raw) in agent.accepted]
            if kind != "delete" and not set(by) & set(asked):
                self.wrong.append(f"{key} {raw!r} is told as accepted, by {asked}, and was not")

    async def _settle(self) -> None:
        loop, store = asyncio.get_running_loop(), self.store
        store.heal()
        for agent in self.agents:
            agent.good = True
            await agent.live()
        await asyncio.gather(*self.writes, return_exceptions=True)

        until, seen, still = loop.time() + _PATIENCE, -1, 0
        while still < 3:
            if loop.time() > until:
                self.wrong.append("they do not come to rest")
                return
            await asyncio.sleep(1.0)
            still = still + 1 if store.revision == seen else 0
            seen = store.revision
        for agent in self.agents:
            self._compare(agent.name)

    def _compare(self, agent: str) -> None:
        """At rest the records are what the agent makes of what stands there."""
        values, root = self.store.values, PLACE.open(agent)
        digest, found = Digest(), {}
        for key, raw in values.items():
            if key.startswith(root):
                digest.add(key.removeprefix(root), raw)
                record = decode_record(raw)
                found[record.key] = record.verdict, record.reason, record.digest
        said = {key: _said(raw) for key, raw in values.items() if key in KEYS}
        wanted = {
            key: (
                "refused" if isinstance(one, Refused) else "pending",
                str(one),
                digest_of(values[key]),
            )
            for key, one in said.items()
            if one is not None
        }
        if found != wanted:
            self.wrong.append(f"{agent} reports {found}, and it is {wanted}")
        progress = decode_progress(values[PLACE.progress(agent)])
        if progress.open != digest.value or progress.watches or progress.stopped:
            self.wrong.append(f"{agent} says {progress}, of {digest.value}")


def simulate(seed: int) -> Simulation:
    """Run a seed; `wrong` of what it returns is what was found."""
    simulation = Simulation(seed)
    run_simulated(simulation.run(), limit=_LIMIT)
    return simulation
