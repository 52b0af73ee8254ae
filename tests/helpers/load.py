"""A writer without pause, a watch that is recorded, and the judgement of what it saw."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from datasync import Backoff, DataSync, Disconnected, OutcomeUnknown, Unauthorized, open_url
from datasync.testing import Recorder, check
from datasync.testing.contract import Probe, eventually

__all__ = [
    "QUICK",
    "STEADY",
    "Load",
    "Watched",
    "equal",
    "hold",
    "seen",
    "lost_because",
    "state_of",
    "watched",
    "writing",
    "written",
]

QUICK: dict[str, Any] = {
    "reconnect": Backoff(initial=0.01, maximum=0.1),
    "ping_interval": 0.2,
    "ping_timeout": 0.5,
}
"""Options of a DataSync that notices and retries at once."""

STEADY: dict[str, Any] = {"ping_timeout": 30.0}
"""Options besides, where the connection is to stay:
on a busy machine a server needs longer than half a second now and then.
"""


async def written(sync: DataSync, key: str, value: bytes, *, confirm: bool = True) -> int | None:
    """Write until it is surely done; the revision.

    Behind a fault a write may still take the connection that broke, or find none: that nobody
    knows what became of it, or that it was not done, is the right answer then.
    """
    while True:
        try:
            return await sync.put(key, value, confirm=confirm)
        except (Disconnected, OutcomeUnknown, Unauthorized):
            await asyncio.sleep(0.05)


class Load:
    """Puts numbers, ever greater, to a few keys under `w/`, and deletes now and then."""

    def __init__(self, keys: int = 7, pause: float = 0.0) -> None:
        self.acknowledged: dict[int, tuple[str, bytes | None]] = {}
        """What the server said that it did, by revision (by number, where there are none)."""
        self.unknown = 0
        self.refused = 0
        self._keys = keys
        self._pause = pause
        self._ending = False
        self._ended = asyncio.Event()

    async def end(self) -> None:
        """Write no more.

        What is under way is awaited, not given up: the server might do it later, unseen.
        """
        self._ending = True
        await self._ended.wait()

    async def more(self, count: int) -> None:
        """Wait for so many more acknowledged writes."""
        wanted = len(self.acknowledged) + count
        await eventually(lambda: len(self.acknowledged) >= wanted)

    async def run(self, sync: DataSync) -> None:
        """Write until `end`."""
        try:
            await self._write(sync)
        finally:
            self._ended.set()

    async def _write(self, sync: DataSync) -> None:
        for number in itertools.count(1):
            if self._ending:
                return
            key = f"w/{number % self._keys}"
            try:
                if number % 11 == 0:
                    revision = await sync.txn().delete(key).commit()
                    value = None
                else:
                    value = b"%09d" % number
                    revision = await sync.put(key, value)
                self.acknowledged[number if revision is None else revision] = (key, value)
                if self._pause:
                    await asyncio.sleep(self._pause)
            except OutcomeUnknown:
                self.unknown += 1
            except Disconnected:
                self.refused += 1
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def writing(url: str, pause: float = 0.0, **options: Any) -> AsyncIterator[Load]:
    """A load on the store within the block, with pauses between its writes (in seconds)."""
    load = Load(pause=pause)
    async with DataSync(url, **QUICK, **options) as sync:
        task = asyncio.ensure_future(load.run(sync))
        try:
            yield load
        finally:
            await load.end()
            await task


class Watched(Probe):
    """A probe whose trace the checker can judge."""

    def __init__(self, name: str, prefixes: tuple[str, ...], *, ordered: bool) -> None:
        super().__init__(name=name, prefixes=prefixes, ordered=ordered)
        self.recorder = Recorder()
        self.source = ""


@contextlib.asynccontextmanager
async def watched(
    url: str, *prefixes: str, history: str = "", revision: int = 0, **options: Any
) -> AsyncIterator[tuple[DataSync, Watched]]:
    """A DataSync within the block, and a probe on its only watch, which is never folded.

    `history` and `revision`: what the source calls its history, and where that began, empty.
    """
    plain = open_url(url)
    probe = Watched("probe", prefixes or ("",), ordered=plain.capabilities.order == "total")
    source = probe.recorder.source(plain)
    probe.source = source.name
    probe.recorder.history_started(source.name, history, revision, [])
    sync = DataSync(source, **(QUICK | {"backlog": 10**9} | options))
    handler = probe.recorder.wrap(probe, *probe.prefixes, name="probe")
    sync.watcher(*probe.prefixes, name="probe")(handler)
    async with sync:
        yield sync, probe
    probe.check()


def hold(
    probe: Watched,
    log: Iterable[tuple[int, Mapping[str, bytes | None]]],
    state: Mapping[str, bytes],
    revision: int = 0,
) -> None:
    """Hold the trace against the server's own log (revision and changes)
    and what the store has at the end.
    """
    for at, changes in log:
        probe.recorder.committed(probe.source, changes, at)
    probe.recorder.stored(probe.source, state, revision)
    probe.recorder.quiet()
    assert check(probe.recorder.trace, latency=60.0) == []


def state_of(sync: DataSync) -> str:
    """How the only source stands."""
    return sync.status().sources[0].state


def lost_because(sync: DataSync, why: str) -> bool:
    """The only source is lost, which it says has to do with `why`;
    a moment later it is tried again.
    """
    source = sync.status().sources[0]
    return source.state == "lost" and why in (source.error or "")


async def seen(probe: Probe, changes: int) -> None:
    """Wait until the watch has seen so many changes."""
    await eventually(lambda: len(probe.changes) >= changes)


async def equal(probe: Probe, state: dict[str, bytes]) -> None:
    """Wait until the watch has seen just that."""
    await eventually(lambda: probe.state == state, 60)
