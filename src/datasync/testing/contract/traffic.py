"""Somebody who writes all the time and keeps a log of it, and the comparison
with what a watch has seen."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

from datasync import Capabilities
from datasync.testing.contract.harness import Writer
from datasync.testing.contract.probe import Probe
from datasync.testing.contract.waiting import eventually
from datasync.testing.trace.recorder import Recorder

__all__ = ["Traffic", "explain", "part"]

V = TypeVar("V")
PREFIXES = ("a/", "b/")
KEYS = [f"{prefix}{i}" for prefix in PREFIXES for i in range(8)]


class Traffic:
    """Writes without pause, and keeps a log of it: `log` holds every commit as
    {key: value or None}, in order."""

    def __init__(self, writer: Writer, capabilities: Capabilities, seed: int) -> None:
        self.log: list[dict[str, bytes | None]] = []
        self.state: dict[str, bytes] = {}
        self.revisions: dict[str, int] = {}
        self._writer = writer
        self._transactions = capabilities.transactions
        self._rng = random.Random(seed)  # noqa: S311 - a repeatable choice of keys
        self._turn = asyncio.Lock()
        self._stopping = False
        self._recorder: Recorder | None = None
        self._source = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write as long as the block lasts."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run())
            try:
                yield
            finally:
                self._stopping = True

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Within the block nothing is written, and the state is that of the store.

        It never had this state before, below any prefix: who has reached it has seen all that was
        written. (A key that is put and deleted leaves the state that was there before.)
        """
        async with self._turn:
            for prefix in PREFIXES:
                await self._commit({f"{prefix}0": b"%d" % len(self.log)})
            yield

    async def more(self, commits: int) -> None:
        """Wait until so many more commits are done."""
        goal = len(self.log) + commits
        await eventually(lambda: len(self.log) >= goal)

    def recorded(self, recorder: Recorder, source: str, root: str = "") -> None:
        """Tell `recorder` what is written from now on, below `root` in the
        source; to be called while paused."""
        items = [(root + key, raw, self.revisions[key]) for key, raw in self.state.items()]
        recorder.history_started(source, "", max(self.revisions.values(), default=0), items)
        self._recorder, self._source, self._root = recorder, source, root

    async def _run(self) -> None:
        while not self._stopping:
            async with self._turn:
                await self._write()
            await asyncio.sleep(0)

    async def _write(self) -> None:
        rng, number = self._rng, len(self.log)
        size = rng.choice((1, 1, 2, 5)) if self._transactions else 1
        group: dict[str, bytes | None] = {}
        for key in rng.sample(KEYS, size):
            gone = key in self.state and rng.random() < 0.25
            group[key] = None if gone else b"%d" % number
        await self._commit(group)

    async def _commit(self, group: dict[str, bytes | None]) -> None:
        txn = self._writer.txn()
        for key, value in group.items():
            if value is None:
                txn.delete(key)
            else:
                txn.put(key, value)
        revision = await txn.commit() or 0

        self.log.append(group)
        for key, value in group.items():
            self.revisions[key] = revision
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        if self._recorder is not None:
            whole = {self._root + key: value for key, value in group.items()}
            self._recorder.committed(self._source, whole, revision)


def explain(probe: Probe, traffic: Traffic, capabilities: Capabilities) -> None:
    """Assert that what the probe saw after its last RESYNC is a part of the log
    without a gap or a repetition."""
    prefixes = probe.prefixes
    assert probe.state == part(traffic.state, prefixes)
    probe.check()
    if not capabilities.every_value or any(event.commits > 1 for event in probe.changes):
        return
    for key in [key for key in KEYS if key.startswith(prefixes)]:
        seen = [raw for changed, raw in probe.seen if changed == key]
        written = [group[key] for group in traffic.log if key in group]
        assert seen == written[len(written) - len(seen) :], f"{key} was lost or came twice"
    if capabilities.order == "total" and capabilities.atomic:
        groups = [part(group, prefixes) for group in traffic.log]
        groups = [group for group in groups if group]
        events = [{change.key: change.raw for change in event.changes} for event in probe.changes]
        assert events == groups[len(groups) - len(events) :], (
            "transactions were split, mixed, lost or came out of order"
        )


def part(group: Mapping[str, V], prefixes: tuple[str, ...]) -> dict[str, V]:
    """What of a state or commit lies under the prefixes."""
    return {key: value for key, value in group.items() if key.startswith(prefixes)}
