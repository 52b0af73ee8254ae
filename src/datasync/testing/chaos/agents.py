"""Agents that report, as processes that are killed; a writer that asks them, and who reads what
they report.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec

from datasync.source import Source
from datasync.testing.chaos.agent import opened
from datasync.testing.chaos.judge import LATENCY
from datasync.testing.chaos.process import Process
from datasync.testing.chaos.store import Begin, Store
from datasync.testing.simulation.agents import PLACE, SCOPE, Reader, Writer, asked_of
from datasync.testing.trace.checker import check
from datasync.testing.trace.recorder import Recorder
from datasync.testing.trace.records import Record, load
from datasync.transports import open_url

__all__ = ["AGENTS", "Agents"]

AGENTS = {"ask": 6, "kill -9 of an agent": 1}
"""What happens to them, with weights."""

_NAMES = ["vpp0", "vpp1"]
_KEYS = ["config/a", "config/b", "config/c/1", "config/c/2", "other/1"]
_KINDS = ["good", "good", "bad", "wait", "broken", "delete"]


class Agents:
    """All of them in one round, with a trace of their own, judged by the rules for reports. There
    are none where the store says so.
    """

    def __init__(self, store: Store, source: Source, rng: random.Random) -> None:
        self.recorder = Recorder()
        self.recorder.source(source)
        self._store = store
        self._source = source
        self._rng = rng
        self._number = 0
        self._round = f"{rng.getrandbits(32):x}"
        self._may_ask = True
        self._directory = Path()
        self._processes: list[Process] = []
        self._writer = Writer(opened(store.url, singly=store.singly), self.recorder, self._draw())

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Within the block they live, where the store has any."""
        if not self._store.agents:
            yield
            return
        reading = Reader("reader", open_url(self._store.direct), self.recorder, self._draw())
        with tempfile.TemporaryDirectory(prefix="datasync-agents-") as directory:
            self._directory = Path(directory)
            for number, name in enumerate(_NAMES):
                self.recorder.agent(self._source.name, name, [SCOPE], PLACE)
                self._processes.append(self._process(number, name))
            try:
                self.go_on()
                await self._writer.live()
                await reading.live()
                yield
                await reading.die()
                await self._writer.die(in_order=True)
            finally:
                for process in self._processes:
                    process.end()

    async def step(self, what: str, rng: random.Random, seconds: float) -> None:
        """Do something of `AGENTS`."""
        if what == "ask":
            self._ask(rng)
            return
        process = rng.choice(self._processes)
        if process.running and self._may_ask:
            await self._kill(process)
            await asyncio.sleep(rng.choice([0.0, seconds]))
            self._revive(process)

    async def rest(self) -> None:
        """End them for a while, and what was asked."""
        self._may_ask = False
        await self._writer.heard()
        for process in self._processes:
            if process.running:
                await self._kill(process)

    def go_on(self) -> None:
        """Let them live again."""
        self._may_ask = True
        for process in self._processes:
            self._revive(process)

    async def heal(self) -> None:
        """From now on they fail no more, and nobody asks."""
        await self.rest()
        for process in self._processes:
            process.command.append("good")
            process.spawn()

    def are_at_rest(self, state: tuple[Mapping[str, bytes], int]) -> bool:
        """Whether they have reported what stands there, where that is what the store holds."""
        recorder = Recorder()
        recorder.trace = [*self.trace]
        recorder.quiet()
        recorder.stored(self._source.name, *state)
        return all(
            violation.validator != "rest" for violation in check(recorder.trace, latency=LATENCY)
        )

    def began(self, begin: Begin) -> None:
        """Another history of the store begins."""
        name = self._source.name
        self.recorder.history_started(name, begin.history, begin.revision, begin.items)

    def committed(self, changes: Mapping[str, bytes | None], revision: int) -> None:
        """The store says that this was committed."""
        self.recorder.committed(self._source.name, changes, revision)

    def ended(self, state: tuple[Mapping[str, bytes], int]) -> Sequence[Record]:
        """The whole trace; that is what the store holds at the end."""
        self.recorder.quiet()
        self.recorder.stored(self._source.name, *state)
        return self.trace

    @property
    def trace(self) -> Sequence[Record]:
        """What this process saw, and what the agents said."""
        records: list[Record] = [*self.recorder.trace]
        for path in sorted(self._directory.glob("*.jsonl")):
            lines = path.read_bytes()
            records += load(lines[: lines.rfind(b"\n") + 1])
        records.sort(key=lambda record: record.at)
        return [
            msgspec.structs.replace(record, seq=number) for number, record in enumerate(records)
        ]

    # -- within ------------------------------------------------------------------------------------

    def _process(self, number: int, name: str) -> Process:
        path = str(self._directory / f"{name}.jsonl")
        module = "datasync.testing.chaos.agent"
        command = [sys.executable, "-m", module, self._store.url, name, path]
        command += ["singly"] if self._store.singly else []
        return Process(command, number, self._directory)

    async def _kill(self, process: Process) -> None:
        await process.kill()
        self.recorder.agent_ended(_NAMES[self._processes.index(process)])

    def _draw(self) -> random.Random:
        return random.Random(self._rng.random())

    def _revive(self, process: Process) -> None:
        if self._may_ask and not process.running:
            process.spawn()

    def _ask(self, rng: random.Random) -> None:
        if not self._may_ask:
            return
        can = self._source.capabilities
        count = rng.choice([1, 1, 2]) if can.transactions and not self._store.singly else 1
        values: dict[str, bytes | None] = {}
        for key in rng.sample(_KEYS, count):
            self._number += 1
            kind = rng.choice(_KINDS)
            values[key] = (
                None if kind == "delete" else f"{kind}-{self._number}-{self._round}".encode()
            )
        self._writer.ask(values, asked_of(rng, _NAMES), rng.choice([0.5, 2.0, 5.0]))
