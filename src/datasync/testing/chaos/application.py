"""The application that chaos happens to: watches that come and go, handlers with
faults, and writers beside them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from datasync.errors import DataSyncError, Disconnected, NotApplied, OutcomeUnknown
from datasync.outcome import KeyOutcome
from datasync.source import Source
from datasync.sync import DataSync
from datasync.testing.simulation.schedule import KEYS, PREFIXES
from datasync.testing.simulation.world import BAD, Actor, HandlerActor, StreamActor
from datasync.testing.trace.recorder import Recorder

__all__ = ["Acknowledged", "Application"]

_MOST_WATCHES = 9
_UNDER_WAY = 20
_ACK_TIMEOUT, _RESYNC_TIMEOUT = 2.0, 4.0


class Acknowledged(NamedTuple):
    """A write as its writer was told: its place in the trace, when it began and
    ended, and its values by key."""

    seq: int
    history: int
    revision: int | None
    values: dict[str, bytes | None]


class _Steady(Actor):
    """On a real clock nobody can say on which side of a time-out a moment close to
    it lies: none is waited for."""

    async def _wait(self, longest: float) -> None:
        away = (
            longest if longest < 0.7 * _ACK_TIMEOUT else self._rng.choice([0.3 * longest, longest])
        )
        try:
            async with asyncio.timeout(away):
                await self._good.wait()
        except TimeoutError:
            pass


class _Handler(_Steady, HandlerActor):
    pass


class _Stream(_Steady, StreamActor):
    pass


class Application:
    """One DataSync with its watches, and two writers: itself, and another
    past all faults of the line."""

    def __init__(
        self,
        sync: DataSync,
        other: DataSync,
        source: Source,
        recorder: Recorder,
        rng: random.Random,
        *,
        singly: bool = False,
    ) -> None:
        self.history = 0
        """How many times the store has begun another history."""
        self.writes = 0
        self.acknowledged: list[Acknowledged] = []
        self.undone: list[dict[str, bytes | None]] = []
        """What the writer was told was surely not done."""
        self.unexpected: list[str] = []
        """Errors that are none of datasync."""
        self.actors: list[Actor] = []
        self._sync = sync
        self._other = other
        self._source = source
        self._recorder = recorder
        self._rng = rng
        self._singly = singly
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._under_way: set[asyncio.Task[None]] = set()
        self._number = 0
        self._started = self._ending = False

    def add_watch(self, rng: random.Random) -> None:
        """Register one more watch."""
        prefixes = rng.sample(PREFIXES, rng.choice([1, 1, 2]))
        keys = rng.sample(KEYS, 1) if rng.random() < 0.2 else []
        others = [actor.name for actor in self.actors if actor.open]
        kind = _Stream if rng.random() < 0.3 else _Handler
        actor = kind(
            self._sync,
            self._recorder,
            random.Random(rng.random()),
            f"w{len(self.actors)}",
            [*prefixes, *keys],
            after=rng.sample(others, 1) if others and rng.random() < 0.25 else (),
            backlog=rng.choice([1, 3, 1000]),
            ack_timeout=_ACK_TIMEOUT,
            resync_timeout=_RESYNC_TIMEOUT,
            trouble=rng.choice([0.0, 0.1, 0.3]),
            act=self._write_from_handler,
        )
        self.actors.append(actor)
        actor.register()
        if isinstance(actor, StreamActor) and self._started:
            actor.read()

    def started(self) -> None:
        """The DataSync is: streams can be read from now on."""
        self._started = True
        for actor in self.actors:
            if isinstance(actor, StreamActor):
                actor.read()

    def step(self, what: str, rng: random.Random) -> None:
        """Do something of `schedule.WATCHES`."""
        alive = [actor for actor in self.actors if actor.open]
        if what == "register" or not alive:
            if len(alive) < _MOST_WATCHES:
                self.add_watch(rng)
            return

        actor = rng.choice(alive)
        free = [prefix for prefix in PREFIXES if prefix not in actor.scopes]

        match what:
            case "widen" if free:
                actor.widen(rng.choice(free))
                if rng.random() < 0.5:
                    # the write that shows it may come before or after its snapshot
                    self._begin_write(rng, confirm=True)
            case "narrow" if len(actor.prefixes) > 1:
                actor.narrow(rng.choice(actor.prefixes))
            case "close" if len(alive) > 2:
                actor.close()
            case "resync":
                self._recorder.requested(actor.name)
                self._sync.resync(actor.name)
            case "read" if isinstance(actor, StreamActor):
                actor.leave() if rng.random() < 0.4 else actor.read()
            case "confirmed burst":
                for _ in range(rng.randint(1, 6)):
                    self._begin_write(rng, confirm=True)
            case _:
                pass

    async def write(self, *, other: bool, seed: int) -> None:
        """Write now and then until `end`; `other`: past the faults of the line."""
        rng = random.Random(seed)
        sync = self._other if other else self._sync
        while not self._ending:
            await self._may_write.wait()
            confirm = not other and rng.random() < 0.4
            if confirm and len(self._under_way) < _UNDER_WAY:
                self._begin_write(rng, confirm=True)
            elif not confirm:
                await self._run(self._write(sync, self._values(rng), rng, confirm=False))
            await asyncio.sleep(rng.choice([0.0, 0.01, 0.05, 0.2]))

    async def rest(self) -> None:
        """Let nobody begin to write, and wait until nothing is under way."""
        self._may_write.clear()
        while self._under_way:
            await asyncio.wait(self._under_way)

    def go_on(self) -> None:
        """Write again."""
        self._may_write.set()

    async def heal(self) -> None:
        """End all writing, and have all handlers accept what they are given."""
        self._ending = True
        for actor in self.actors:
            actor.heal()
        self._may_write.set()
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._may_write.clear()

    async def stop(self) -> None:
        """End the readers."""
        for actor in self.actors:
            await actor.stop()

    @property
    def calm(self) -> bool:
        """Whether all follow."""
        status = self._sync.status()
        return all(source.state == "following" for source in status.sources) and all(
            watch.state in ("following", "unattended") for watch in status.watches
        )

    @property
    def standing(self) -> str:
        """How its source and its watches stand, for a report."""
        status = self._sync.status()
        sources = [f"{source.name} {source.state} ({source.error})" for source in status.sources]
        return ", ".join([*sources, *(f"{watch.name} {watch.state}" for watch in status.watches)])

    # -- writing -----------------------------------------------------------------------------------

    def _write_from_handler(self) -> None:
        if len(self._under_way) < _UNDER_WAY and not self._ending:
            self._begin_write(self._rng, confirm=self._rng.random() < 0.5)

    def _begin_write(self, rng: random.Random, *, confirm: bool) -> None:
        if self._may_write.is_set():
            values = self._values(rng)
            if self._source.capabilities.reply or len(values) > 1:
                # a delete of nothing has a verdict, yet no place in the log
                values = {
                    key: self._unique() if raw is None else raw for key, raw in values.items()
                }
            self._track(
                asyncio.ensure_future(self._write(self._sync, values, rng, confirm=confirm))
            )

    async def _run(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._track(task)
        await asyncio.wait([task])

    def _track(self, task: asyncio.Task[None]) -> None:
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _values(self, rng: random.Random) -> dict[str, bytes | None]:
        can = self._source.capabilities
        count = rng.choice([1, 1, 1, 2, 5]) if can.transactions and not self._singly else 1
        values: dict[str, bytes | None] = {}
        for key in rng.sample(KEYS, count):
            bad = BAD if rng.random() < 0.02 else b""
            filler = b"." * rng.choice([0, 0, 0, 2_000])
            values[key] = None if rng.random() < 0.15 else bad + self._unique() + filler
        return values

    def _unique(self) -> bytes:
        """A value that nobody else writes in this round."""
        self._number += 1
        return b"v%d" % self._number

    async def _write(
        self, sync: DataSync, values: dict[str, bytes | None], rng: random.Random, *, confirm: bool
    ) -> None:
        self.writes += 1

        history, began = self.history, self._recorder.now()
        ttl = (
            rng.choice([1.0, 2.0])
            if self._source.capabilities.ttl and rng.random() < 0.05
            else None
        )

        revision: int | None = None
        try:
            if len(values) == 1:
                revision = await self._write_one(sync, *next(iter(values.items())), ttl, confirm)
            else:
                txn = sync.txn()
                for key, raw in values.items():
                    txn.delete(key) if raw is None else txn.put(key, raw, ttl=ttl)
                revision = await txn.commit(confirm=confirm)
        except NotApplied as error:
            revision = error.revision
            self._heard(values, began, error.verdict.value, revision, error.outcomes)
        except OutcomeUnknown:
            return
        except Disconnected:
            self.undone.append(values)
            return
        except DataSyncError:
            return
        except Exception as error:
            self.unexpected.append(f"a write raised {error!r}")
            return
        else:
            if confirm:
                self._heard(values, began, "accepted", revision, {})

        if history == self.history:
            self.acknowledged.append(Acknowledged(self._recorder.now(), history, revision, values))

    async def _write_one(
        self, sync: DataSync, key: str, raw: bytes | None, ttl: float | None, confirm: bool
    ) -> int | None:
        if raw is not None:
            return await sync.put(key, raw, ttl=ttl, confirm=confirm)
        if self._source.capabilities.transactions:
            return await sync.txn().delete(key).commit(confirm=confirm)
        await sync.delete(key, confirm=confirm)
        return None

    def _heard(
        self,
        keys: dict[str, bytes | None],
        began: int,
        verdict: str,
        revision: int | None,
        outcomes: Mapping[str, KeyOutcome],
    ) -> None:
        if revision is not None or not self._source.capabilities.revisions:
            self._recorder.answered(
                self._source.name, sorted(keys), began, verdict, revision, outcomes
            )
