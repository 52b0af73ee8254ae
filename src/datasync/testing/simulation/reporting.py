"""One simulation of reports: agents and writers that die at every point, over a store that fails
and may be lost. In some, agents report to another store, clocks differ, or two have one name.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from datasync.errors import HistoryLost
from datasync.testing.faults.source import FaultySource
from datasync.testing.simulation.agents import PLACE, Agent, Reader, Writer, asked_of
from datasync.testing.simulation.loop import run_simulated
from datasync.testing.simulation.schedule import PROFILES, quiet_log
from datasync.testing.trace.recorder import Recorder
from datasync.testing.trace.records import Record

__all__ = ["simulate_reports"]

_KEYS = ["config/a", "config/b", "config/c/1", "config/c/2"]
_ELSEWHERE = "other/1"
"""A key that no agent watches."""
_KINDS = ["good", "good", "bad", "wait", "broken", "delete"]
_TICKETS, _ANSWERS = f"{PLACE}tickets/", f"{PLACE}answers/"
_LIMIT = 1200.0  # virtual seconds that a run may take at most
_PATIENCE = 100.0  # for all to settle, and for tickets to be swept whose writers are gone
_CALM = 12.0  # until an agent has looked what lies there, also where no condition tells it
_RIVAL = 60.0  # until one that has ended is named no more
_STILL = 25.0  # for which nothing happens then, but signs of life
_CLOCKS = [-100.0, -40.0, -5.0, 0.0, 5.0, 40.0, 100.0]
"""Seconds that clocks may be ahead, where they differ."""
_MIX = ["exact"] * 4 + ["no-resume", "latest", "latest", "partitioned", "partitioned", "push"]


def simulate_reports(seed: int, *, steps: int = 40, profile: str | None = None) -> list[Record]:
    """Run one schedule and return its trace; the same seed, the same trace.

    profile: one of `PROFILES`, "push" or "layers" (here those of "exact"); drawn from the seed
        where it is not given.
    """
    rng = random.Random(f"reports, {seed}")  # noqa: S311 - a schedule, no secret

    async def run() -> list[Record]:
        # what it is made of is recorded, by the clock of the loop
        return await _Run(rng, steps, profile or rng.choice(_MIX)).run()

    with quiet_log():
        return run_simulated(run(), limit=_LIMIT)


class _Run:
    def __init__(self, rng: random.Random, steps: int, profile: str) -> None:
        self._rng = rng
        self._steps = steps
        self._recorder = Recorder()
        self._number = 0
        self._store = self._made("store", profile)
        at = self._made("reports", rng.choice(_MIX)) if rng.random() < 0.25 else None
        self._stores = [self._store] if at is None else [self._store, at]
        self._reports = self._stores[-1]
        """The store that they report in."""
        self._backups: dict[FaultySource, list[tuple[int, dict[str, bytes]]]] = {
            store: [] for store in self._stores
        }

        clocks = _CLOCKS if rng.random() < 0.3 else [0.0]
        self._names = [f"vpp{number}" for number in range(rng.choice([1, 2, 2, 3]))]
        named = [*self._names, *(["vpp0"] if rng.random() < 0.2 else [])]
        self._agents = [
            Agent(name, self._store, self._recorder, self._draw(), at=at, ahead=rng.choice(clocks))
            for name in named
        ]
        self._rivals = self._agents[len(self._names) :]
        self._writers = [
            Writer(self._store, self._recorder, self._draw(), at=at, ahead=rng.choice(clocks))
            for _ in range(2)
        ]
        self._reader = Reader(
            "reader", self._reports, self._recorder, self._draw(), ahead=rng.choice(clocks)
        )

    def _made(self, name: str, profile: str) -> FaultySource:
        rng = self._rng
        store = FaultySource(
            name=name,
            capabilities=msgspec.structs.replace(
                PROFILES.get(profile, PROFILES["exact"]), ttl=rng.random() < 0.5
            ),
            push=profile == "push",
            chunk=rng.randint(1, 4),
            batch=rng.randint(1, 5),
            delay=rng.choice([0.0, 0.0, 0.01, 0.05]),
            bookmarks=rng.random() < 0.5,
            rng=self._draw(),
        )
        self._recorder.source(store)
        store.write_delay = rng.choice([0.0, 0.0, 0.02])
        store.lag = rng.choice([0.0, 0.0, 0.05, 0.3])
        return store

    def _draw(self) -> random.Random:
        return random.Random(self._rng.random())  # noqa: S311

    async def run(self) -> list[Record]:
        """The whole of it."""
        for store in self._stores:
            store.observe(self._recorder)
        everybody: Sequence[Agent | Writer | Reader] = [
            *self._agents, *self._writers, self._reader,
        ]  # fmt: skip
        for one in everybody:
            if one not in self._rivals:
                await one.live()
        for _ in range(self._steps):
            await self._step()
            await asyncio.sleep(self._rng.choice([0.0, 0.0, 0.01, 0.1, 0.3, 1.0]))
        await self._settle()
        for one in everybody:
            await one.die()
        return self._recorder.trace

    # -- the schedule ------------------------------------------------------------------------------

    async def _step(self) -> None:
        actions: Sequence[tuple[int, Callable[[], Awaitable[None]]]] = (
            (10, self._ask), (4, self._write), (2, self._report_later), (4, self._end_an_agent),
            (2, self._end_a_writer), (2, self._revive), (5, self._fail), (1, self._lose),
            (1, self._let_time_pass),
        )  # fmt: skip
        chosen = self._rng.choices(
            [action for _, action in actions], [weight for weight, _ in actions]
        )
        await chosen[0]()

    def _values(self) -> dict[str, bytes | None]:
        count = self._rng.choice([1, 1, 1, 2, 3]) if self._store.capabilities.transactions else 1
        keys = self._rng.sample([*_KEYS, _ELSEWHERE], count)
        return {key: self._value() for key in keys}

    def _value(self) -> bytes | None:
        self._number += 1
        kind = self._rng.choice(_KINDS)
        return None if kind == "delete" else f"{kind}-{self._number}".encode()

    async def _ask(self) -> None:
        timeout = self._rng.choice([0.5, 3.0, 10.0])
        agents = asked_of(self._rng, self._names)
        self._rng.choice(self._writers).ask(self._values(), agents, timeout)

    async def _write(self) -> None:
        """As somebody who asks nobody."""
        if self._rng.random() < 0.3:
            for store, backups in self._backups.items():
                backups.append((store.revision, store.values))
        self._store.write(self._values())

    async def _report_later(self) -> None:
        self._rng.choice(self._agents).report_later()

    async def _end_an_agent(self) -> None:
        agent, rng = self._rng.choice(self._agents), self._rng
        if rng.random() < 0.5:  # between two things that it writes
            agent.doom(rng.randint(1, 3))
            await asyncio.sleep(rng.choice([0.0, 0.1, 0.5]))
        await agent.die(in_order=rng.random() < 0.2)
        if rng.random() < 0.7:
            await agent.live()

    async def _end_a_writer(self) -> None:
        writer, rng = self._rng.choice(self._writers), self._rng
        if rng.random() < 0.5:
            writer.doom(rng.randint(1, 3))
            await self._ask()
            await asyncio.sleep(rng.choice([0.0, 0.1, 0.5]))
        await writer.die(in_order=rng.random() < 0.3)
        await writer.live()

    async def _revive(self) -> None:
        await self._rng.choice(self._agents).live()

    async def _let_time_pass(self) -> None:
        """So long that a sign of life may be overdue."""
        await asyncio.sleep(self._rng.choice([5.0, 15.0, 35.0, 60.0]))

    async def _fail(self) -> None:
        rng, store = self._rng, self._rng.choice(self._stores)
        match rng.randrange(8):
            case 0 | 1:
                store.disconnect(after=rng.randint(0, 5))
            case 2 | 3:
                store.lose_acknowledgement()
            case 4:
                store.disconnect(HistoryLost("compacted"))
            case 5:
                store.compact()
                store.disconnect()
            case _:
                rng.choice([store.hang, store.hang_open, store.down])()
                late = rng.choice([0.2, 1.0, 3.0])
                asyncio.get_running_loop().call_later(late, store.heal)

    async def _lose(self) -> None:
        """The store is emptied, or put back to what it was."""
        store = self._rng.choice(self._stores)
        backups = self._backups[store]
        if backups and self._rng.random() < 0.6:
            revision, values = self._rng.choice(backups)
            if store.capabilities.ttl:  # that of some has ended meanwhile
                values = {key: raw for key, raw in values.items() if not key.startswith(_TICKETS)}
            store.new_history(values, revision)
        else:
            store.new_history()
        backups.clear()

    # -- the end -----------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """End the faults, ask once more, wait until nothing moves any more, and record what the
        stores hold."""
        for store in self._stores:
            store.heal()
        for agent in self._agents:
            agent.good = True
            if agent in self._rivals and self._rng.random() < 0.5:
                await agent.die()
            else:
                await agent.live()
        for writer in self._writers:
            await writer.heard()
        await asyncio.sleep(_RIVAL if self._rivals else _CALM)
        await self._ask_in_the_calm()

        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while loop.time() < until:
            await asyncio.sleep(_CALM)
            if not any(key.startswith((_TICKETS, _ANSWERS)) for key in self._reports.values):
                break
        self._recorder.quiet()
        await asyncio.sleep(_STILL)
        for store in self._stores:
            self._recorder.stored(store.name, store.values, store.revision)

    async def _ask_in_the_calm(self) -> None:
        """Of other keys each, or they would overtake each other."""
        keys, can = self._rng.sample(_KEYS, len(_KEYS)), self._store.capabilities
        for writer in self._writers:
            of = [keys.pop() for _ in range(2 if can.transactions else 1)]
            values = {key: self._value() for key in of}
            writer.ask(values, asked_of(self._rng, self._names), 10.0, calm=True)
        for writer in self._writers:
            await writer.heard()
