"""One simulation: a random schedule of writes, faults and requests, from a
seed, against the real engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Sequence

import msgspec

from datasync.capabilities import Capabilities
from datasync.errors import (
    DataSyncError,
    Disconnected,
    HistoryLost,
    NotApplied,
    Unauthorized,
)
from datasync.layers import Layer
from datasync.options import Backoff
from datasync.source import Scopes
from datasync.testing.faults.source import FaultySource
from datasync.testing.faults.store import EXACT, Call
from datasync.testing.simulation.loop import run_simulated
from datasync.testing.simulation.sync import SimulatedSync
from datasync.testing.simulation.world import (
    BAD,
    Actor,
    HandlerActor,
    Stray,
    StreamActor,
    unexpected,
)
from datasync.testing.trace.recorder import Recorder
from datasync.testing.trace.records import Record
from datasync.view import View

__all__ = ["KEYS", "PREFIXES", "PROFILES", "quiet_log", "simulate"]

PREFIXES = ["", "a/", "a/b/", "a/b/c/", "d/", "e/"]
KEYS = [
    "a/1",
    "a/2",
    "a/b/1",
    "a/b/2",
    "a/b/c/1",
    "a/b/c/2",
    "d/1",
    "d/2",
    "d/x/1",
    "e/1",
    "f/1",
    "top",
]
_CALLS: Sequence[Call] = ["open", "commit", "ping", "caught_up", "caught_up", "widen", "aclose"]
_BY_COMMIT = unexpected(random.Random(0), "commit").args  # noqa: S311 - the only ones that who writes may hear
_QUICK = Backoff(initial=0.05, maximum=0.4)
_LIMIT = 600.0  # virtual seconds that a run may take at most
_OPENING = 0.3  # of the schedules: handlers leave keys open, and report on them later
_PATIENCE = 60.0  # virtual seconds for everything to settle once the faults have ended

PROFILES: dict[str, Capabilities] = {
    "exact": EXACT,
    "no-resume": msgspec.structs.replace(EXACT, resume=False),
    "reply": msgspec.structs.replace(EXACT, reply=True),
    "latest": msgspec.structs.replace(
        EXACT,
        order="key",
        atomic=False,
        snapshot="fuzzy",
        every_value=False,
        revisions=False,
        resume=False,
        transactions=False,
        cas=False,
    ),
    "partitioned": msgspec.structs.replace(
        EXACT, order="key", atomic=False, transactions=False, cas=False
    ),
}
"""Kinds of sources that a simulation runs on, by name."""

_MIX = ["exact"] * 6 + ["push", "push", "no-resume", "reply", "latest", "partitioned", "layers"]


def simulate(seed: int, *, steps: int = 40, profile: str | None = None) -> list[Record]:
    """Run one schedule and return its trace; the same seed, the same trace.

    profile: one of `PROFILES`, "push" or "layers"; drawn from the seed where it is not given.
    """
    rng = random.Random(seed)  # noqa: S311 - a schedule, no secret
    chosen = profile or rng.choice(_MIX)
    # of its own, so that it changes no other schedule
    opens = random.Random(f"open keys, {seed}")  # noqa: S311
    with quiet_log():
        run = _Run(rng, steps, chosen, opens if opens.random() < _OPENING else None)
        return run_simulated(run.run(), limit=_LIMIT)


@contextlib.contextmanager
def quiet_log() -> Iterator[None]:
    """The engine warns of every fault; here they are meant."""
    log = logging.getLogger("datasync")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


class _Run:
    def __init__(
        self, rng: random.Random, steps: int, profile: str, opens: random.Random | None
    ) -> None:
        self._rng = rng
        self._opens = opens
        self._steps = steps
        self._recorder = Recorder()
        self._value = 0
        self._named = 0
        self._actors: list[Actor] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._sources = self._make_sources(profile)
        self._backups: dict[str, list[tuple[int, dict[str, bytes]]]] = {
            source.name: [] for source in self._sources
        }
        self._optional = profile == "layers" and rng.random() < 0.5
        self._crowded = rng.random() < 0.2
        """Watches come and go all the time, most of them trouble, and are written to at once."""
        # where all is known, none brings a snapshot
        self._prefixes = PREFIXES[1:] if self._crowded else PREFIXES
        self._view: View[bytes] | None = None
        self._scope = rng.choice(PREFIXES)
        self._single = all(source.capabilities.transactions for source in self._sources)

    def _make_sources(self, profile: str) -> list[FaultySource]:
        names = ["lower", "upper"] if profile == "layers" else ["store"]
        rng = self._rng
        return [
            FaultySource(
                name=name,
                capabilities=PROFILES.get(profile, EXACT),
                chunk=rng.randint(1, 4),
                batch=rng.randint(1, 5),
                delay=rng.choice([0.0, 0.0, 0.01, 0.05]),
                push=profile == "push",
                bookmarks=rng.random() < 0.5,
                rng=random.Random(rng.random()),  # noqa: S311
            )
            for name in names
        ]

    async def run(self) -> list[Record]:
        """The whole of it."""
        rng, recorder = self._rng, self._recorder
        loop = asyncio.get_running_loop()
        sources = [recorder.source(source) for source in self._sources]
        for source in self._sources:
            source.observe(recorder)

        for source in self._sources:
            source.write_delay = rng.choice([0.0, 0.02, 0.02])
            source.lag = 0.0 if source.capabilities.reply else rng.choice([0.0, 0.0, 0.05, 0.3])
            for _ in range(rng.randint(0, 3)):
                self._write(source)

        if self._optional and rng.random() < 0.5:
            self._sources[-1].down()
            loop.call_later(rng.choice([0.2, 1.0]), self._sources[-1].heal)

        self._sync = SimulatedSync(
            *(
                Layer(source, optional=self._optional and source is sources[-1])
                for source in sources
            ),
            recovery=rng.choice(["auto", "auto", "auto", "resync"]),
            ack_timeout=1.0,
            resync_timeout=3.0,
            retries=rng.randint(1, 4),
            retry=_QUICK,
            reconnect=_QUICK,
            connect_timeout=1.0,
            ping_interval=1.0,
            ping_timeout=0.5,
            write_to=self._sources[-1].name,
            rng=random.Random(rng.random()),  # noqa: S311
        )

        for _ in range(rng.randint(2, 4)):
            self._add_watch()
        if rng.random() < 0.4:
            self._view = self._sync.view(self._scope)
        if rng.random() < 0.2:
            self._sources[0].fail_open(Disconnected("not yet"))

        async with self._sync:
            for _ in range(self._steps):
                await self._step()
            await self._settle()

            for actor in self._actors:
                await actor.stop()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                done, _ = await asyncio.wait(self._tasks)
                for task in done:
                    if not task.cancelled():
                        task.result()
        return recorder.trace

    # -- the schedule ------------------------------------------------------------------------------

    async def _step(self) -> None:
        rng = self._rng
        source = rng.choice(self._sources)
        actions: Sequence[tuple[int, Callable[[FaultySource], None]]] = (
            (24, self._write), (10, self._put), (4, self._fault), (2, self._resync),
            (2, self._change_watch), (2, self._readers), (1, self._renew),
            (40 if self._crowded else 4, self._put_beside_a_registration),
            (10 if self._crowded else 1, self._put_beside_a_closing),
        )  # fmt: skip

        rng.choices([action for _, action in actions], [weight for weight, _ in actions])[0](source)
        pause = rng.choice([0.0, 0.0, 0.001, 0.02, 0.1, 0.4])
        await asyncio.sleep(pause)

    def _act(self) -> None:
        """What a handler may do in the midst of its own event."""
        source = self._rng.choice(self._sources)
        self._rng.choice([self._write, self._write, self._put, self._resync, self._change_watch])(
            source
        )

    def _change(self, source: FaultySource) -> tuple[str, bytes | None]:
        rng = self._rng
        key = rng.choice(KEYS)
        kind = rng.random()
        if kind < 0.2:
            return key, None
        if kind < 0.35 and key in source.state:
            return key, source.state[key][0]
        self._value += 1
        return key, (BAD if kind > 0.97 else b"") + _value(self._value)

    def _changes(self, source: FaultySource) -> dict[str, bytes | None]:
        return dict(self._change(source) for _ in range(self._rng.choice([1, 1, 1, 2, 3, 5])))

    def _write(self, source: FaultySource) -> None:
        if self._rng.random() < 0.1:
            self._backups[source.name].append((source.revision, source.values))
        for _ in range(self._rng.choice([1, 1, 1, 2, 6])):
            source.write(self._changes(source))

    def _put(self, _: FaultySource) -> None:
        source = self._sources[-1]
        changes = self._changes(source) if self._single else dict([self._change(source)])
        self._start_publishing(source, changes)

    def _put_again(self, key: str) -> None:
        """Publish a key as it is, which changes nothing."""
        source = self._sources[-1]
        stored = source.state.get(key)
        self._start_publishing(source, {key: None if stored is None else stored[0]})

    def _put_beside_a_registration(self, _: FaultySource) -> None:
        """Publish, in the moments beside it, what a watch that is registered or
        widened now is to see first."""
        source, before = (
            self._sources[-1],
            {actor.name: list(actor.scopes) for actor in self._alive},
        )
        self._change_watch(source)
        added = Scopes(
            scope
            for actor in self._alive
            for scope in actor.scopes
            if scope not in before.get(actor.name, ())
        )
        keys = [key for key in KEYS if key in added]
        if keys:
            self._value += 1
            changes: dict[str, bytes | None] = {self._rng.choice(keys): _value(self._value)}
            self._soon(lambda: self._start_publishing(source, changes))

    def _put_beside_a_closing(self, _: FaultySource) -> None:
        """Close a watch, or narrow it, in the moments after writes that wait for it."""
        if not self._alive:
            return
        source, actor = self._sources[-1], self._rng.choice(self._alive)
        keys = [key for key in KEYS if key in Scopes(actor.scopes)]
        for key in self._rng.sample(keys, min(len(keys), 2)):
            self._value += 1
            self._start_publishing(source, {key: _value(self._value)})

        def leave() -> None:
            if actor.open and len(actor.prefixes) > 1 and self._rng.random() < 0.3:
                actor.narrow(self._rng.choice(actor.prefixes))
            elif actor.open:
                actor.close()

        self._soon(leave)

    def _soon(self, act: Callable[[], None]) -> None:
        """Do it in this turn of the loop, in the next one, or a moment later."""
        moment = self._rng.choice([None, 0.0, 0.0, 0.001, 0.02])
        if moment is None:
            act()
        else:
            asyncio.get_running_loop().call_later(moment, act)

    def _start_publishing(self, source: FaultySource, changes: dict[str, bytes | None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._publish(source, changes)))

    async def _publish(self, source: FaultySource, changes: dict[str, bytes | None]) -> None:
        txn, recorder, began = self._sync.txn(), self._recorder, self._recorder.now()
        for key, raw in changes.items():
            if raw is None:
                txn.delete(key)
            else:
                txn.put(key, raw)

        try:
            revision = await txn.commit(confirm=True)
        except NotApplied as error:
            revision = error.revision
            recorder.answered(
                source.name, changes, began, error.verdict.value, revision, error.outcomes
            )
        except DataSyncError:
            return  # it was not done, or nobody knows
        except (RuntimeError, KeyError, Stray) as error:
            if error.args != _BY_COMMIT:
                raise
            return
        else:
            recorder.answered(source.name, changes, began, "accepted", revision)

        if self._view is not None and revision is not None:
            with contextlib.suppress(DataSyncError):  # another history, or nothing known yet
                await self._view.at_least(revision)
                recorder.viewed(self._scope, self._view, source.name, revision)

    def _fault(self, source: FaultySource) -> None:
        rng = self._rng
        match rng.randrange(15):
            case 0 | 1:
                source.disconnect()
            case 2 | 3 | 4:
                source.disconnect(after=rng.randint(1, 6))

            case 5:
                source.disconnect(HistoryLost("compacted under way"))
            case 6:
                source.compact()
                source.disconnect()
            case 7:
                source.fail_open(
                    rng.choice([Disconnected("no"), HistoryLost("too old"), Unauthorized("who?")])
                )
                source.disconnect()

            case 8:
                source.lose_acknowledgement()
            case 9 | 10 | 11:
                self._surprise(source)
            case _:
                rng.choice([source.hang, source.hang_open, source.down])()
                if rng.random() < 0.5:
                    source.disconnect()
                asyncio.get_running_loop().call_later(rng.choice([0.2, 1.0, 3.0]), source.heal)

    def _surprise(self, source: FaultySource) -> None:
        """Something raises what it never should."""
        rng = self._rng
        if rng.random() < 0.4:
            source.disconnect(unexpected(rng, "session"), after=rng.randint(0, 3))
            return
        call = rng.choice(_CALLS)
        source.fail(call, unexpected(rng, call))
        if call in ("open", "aclose"):
            source.disconnect()

    def _renew(self, source: FaultySource) -> None:
        backups = self._backups[source.name]
        if backups and self._rng.random() < 0.6:
            revision, values = self._rng.choice(backups)
            source.new_history(values, revision)
        else:
            source.new_history()
        backups.clear()

    def _resync(self, source: FaultySource) -> None:
        match self._rng.randrange(4):
            case 0:
                self._recorder.requested()
                self._sync.resync()
            case 1 if self._alive:
                actor = self._rng.choice(self._alive)
                self._recorder.requested(actor.name)
                self._sync.resync(actor.name)
            case 2:
                source.resync()
            case _:
                source.progress()

    def _change_watch(self, _: FaultySource) -> None:
        rng, alive = self._rng, self._alive
        kind = rng.randrange(8)
        if kind < 2 or not alive:
            if len(self._actors) < (24 if self._crowded else 8):
                self._add_watch()
            return

        actor = rng.choice(alive)
        if kind == 2 or (kind < 5 and self._crowded and len(alive) > 3):
            actor.close()
        elif kind < 5 and len(actor.prefixes) > 1:
            actor.narrow(rng.choice(actor.prefixes))
        else:
            free = [prefix for prefix in self._prefixes if prefix not in actor.scopes]
            if free:
                actor.widen(rng.choice(free))

    def _readers(self, _: FaultySource) -> None:
        streams = [actor for actor in self._alive if isinstance(actor, StreamActor)]
        if streams:
            stream = self._rng.choice(streams)
            if self._rng.random() < 0.4:
                stream.leave()
            else:
                stream.read()

    def _add_watch(self) -> None:
        rng = self._rng
        self._named += 1
        prefixes = rng.sample(self._prefixes, rng.choice([1, 1, 2]))
        keys = rng.sample(KEYS, 1) if rng.random() < 0.2 else []
        others = [actor.name for actor in self._alive]

        kind = StreamActor if rng.random() < 0.3 else HandlerActor
        actor = kind(
            self._sync,
            self._recorder,
            random.Random(rng.random()),  # noqa: S311
            f"w{self._named}",
            [*prefixes, *keys],
            after=rng.sample(others, 1) if others and rng.random() < 0.25 else (),
            backlog=rng.choice([1, 3, 1000]),
            ack_timeout=rng.choice([0.5, 1.0]),
            trouble=rng.choice([0.5, 0.9] if self._crowded else [0.0, 0.2, 0.5]),
            edits=rng.random() < 0.3,
            opens=self._opens,
            act=self._act,
            again=self._put_again,
        )

        self._actors.append(actor)
        actor.register()
        if isinstance(actor, StreamActor):
            actor.unread = rng.random() < 0.1
            if rng.random() < 0.7:
                actor.read()

    # -- the end -----------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """End the faults, wait until nothing moves any more, and record what the stores hold."""
        loop, recorder = asyncio.get_running_loop(), self._recorder
        for source in self._sources:
            source.heal()
        for actor in self._actors:
            actor.heal()

        deadline = loop.time() + _PATIENCE
        calm, seen = 0, -1
        while calm < 3 and loop.time() < deadline:
            await asyncio.sleep(0.5)
            calm = calm + 1 if recorder.now() == seen and self._is_calm() else 0
            seen = recorder.now()

        recorder.quiet()
        for watch in self._sync.status().watches:
            recorder.open_shown(watch)
        for source in self._sources:
            recorder.stored(source.name, source.values, source.revision)
        if self._view is not None:
            recorder.viewed(self._scope, self._view)

    def _is_calm(self) -> bool:
        status = self._sync.status()
        return all(source.state == "following" for source in status.sources) and all(
            watch.state in ("following", "unattended") for watch in status.watches
        )

    @property
    def _alive(self) -> list[Actor]:
        return [actor for actor in self._actors if actor.open]


def _value(number: int) -> bytes:
    return b'{"n":%d}' % number
