"""What a tree of relays needs for so many agents: a simulation, seeded, on a clock of its own.

Its costs are figures that `bench_agents` has measured; what comes out is derived from them, not
measured. A server sends a change, or a snapshot, to one watcher behind the other, as fast as the
costs of its processor allow, and what comes meanwhile goes out with the next message. A root that
is started again is found by each of its watchers at the next try of its backoff, and all below it
are given a snapshot again.

    python -m bench.tree --agents 1000000 --fan-out 1000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from datasync.options import Backoff
from datasync.testing.simulation.loop import run_simulated

__all__ = ["GRPC", "HTTP", "Costs", "Outcome", "Tree", "levels", "simulate"]

_SLICES = 10
"""Parts of the agents of a relay that are served together: a million of them are no million
timers."""
_SHARES = (0.5, 0.99, 1.0)


class Costs(NamedTuple):
    """Seconds of a processor, save for `hop`, the way over the line, and `memory`, in bytes.

    message: a message with one change, for who sends it.
    change: each further change in it.
    snapshot: one of 1,000 keys of 190 bytes.
    connecting: what a new connection takes its server before that.
    taken_message, taken_snapshot: the same for who receives them.
    memory: what a watcher takes at its server.
    """

    message: float
    change: float
    snapshot: float
    connecting: float
    taken_message: float
    taken_snapshot: float
    memory: float
    hop: float = 0.0005


GRPC = Costs(84e-6, 4.8e-6, 0.4e-3, 0.7e-3, 86e-6, 1.18e-3, 43e3)
HTTP = Costs(40e-6, 4.0e-6, 0.3e-3, 0.4e-3, 28e-6, 0.76e-3, 92e3)
"""As `bench_agents` told them, on a machine that others used too."""


class Tree(NamedTuple):
    """A root that follows the store, and relays.

    servers: how many are in each level, the root first.
    cores: where all of it, agents too, is on one machine, how many that has; None (the default):
    each server has a core of its own, and so have the agents.
    """

    agents: int
    servers: Sequence[int]
    cores: int | None = None


class Outcome(NamedTuple):
    """What came of it, in seconds: for half of the agents, for 99 of 100 and for all.

    delays: from a change in the store until it is there.
    herd: from the root's new start until they are current again.
    busy: of a processor for that: the root, and each server of the last level on average.
    """

    delays: Sequence[float]
    herd: Sequence[float]
    busy: tuple[float, float]


def levels(agents: int, fan_out: int) -> list[int]:
    """How many servers each level has where none is followed by more than `fan_out`."""
    found = [-(-agents // fan_out)]
    while found[0] > 1:
        found.insert(0, -(-found[0] // fan_out))
    return found


class _Cores:
    """What runs on them shares them."""

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)

    async def work(self, seconds: float) -> None:
        async with self._free:
            await asyncio.sleep(seconds)


class _Server:
    """The root or a relay. made: when the changes of a message came to be; empty for a snapshot.
    note: hears of agents that have one."""

    def __init__(
        self, costs: Costs, cores: _Cores | None, note: Callable[[int, Sequence[float]], None]
    ) -> None:
        self.below: list[_Server] = []
        self.agents = 0
        self.busy = 0.0
        self._costs = costs
        self._shared = cores
        self._cores = cores or _Cores(1)
        self._note = note
        self._turn = asyncio.Lock()
        self._pending: list[float] = []

    async def changes(self, made: Sequence[float]) -> None:
        """These have come: send them on, with what else has come until it is their turn."""
        self._pending += made
        async with self._turn:
            sent, self._pending = self._pending, []
            if sent:
                cost = self._costs.message + self._costs.change * (len(sent) - 1)
                await self._send(cost, self._costs.taken_message, sent)

    async def snapshot(self) -> None:
        """It began again with a state, and so do all that follow it."""
        async with self._turn:
            await self._send(self._costs.snapshot, self._costs.taken_snapshot, ())

    async def connected(self, one: _Server) -> None:
        """One of those that follow it has come back."""
        async with self._turn:
            await self.work(self._costs.connecting + self._costs.snapshot)
        await self._reach(one, self._costs.taken_snapshot, ())

    async def work(self, seconds: float) -> None:
        """Keep its processor busy."""
        self.busy += seconds
        await self._cores.work(seconds)

    async def _send(self, cost: float, taken: float, made: Sequence[float]) -> None:
        async with asyncio.TaskGroup() as group:
            for one in self.below:
                await self.work(cost)
                group.create_task(self._reach(one, taken, made))
            for number in range(_SLICES):
                some = self.agents * (number + 1) // _SLICES - self.agents * number // _SLICES
                if some:
                    await self.work(cost * some)
                    group.create_task(self._reach_agents(some, taken, made))

    async def _reach(self, one: _Server, taken: float, made: Sequence[float]) -> None:
        await asyncio.sleep(self._costs.hop)
        await one.work(taken)
        await (one.changes(made) if made else one.snapshot())

    async def _reach_agents(self, some: int, taken: float, made: Sequence[float]) -> None:
        await asyncio.sleep(self._costs.hop)
        if self._shared is not None:
            await self._shared.work(taken * some)
        else:
            await asyncio.sleep(taken)
        self._note(some, made)


class _World:
    """A tree while it is simulated."""

    def __init__(self, tree: Tree, costs: Costs) -> None:
        cores = None if tree.cores is None else _Cores(tree.cores)
        self.found: list[tuple[float, int]] = []
        """How long it took, and to how many agents."""
        self._since = 0.0
        self.root = _Server(costs, cores, self._note)
        self.last = [self.root]
        for count in tree.servers[1:]:
            level = [_Server(costs, cores, self._note) for _ in range(count)]
            for number, server in enumerate(level):
                self.last[number % len(self.last)].below.append(server)
            self.last = level
        for number, server in enumerate(self.last):
            server.agents = (tree.agents + number) // len(self.last)

    def _note(self, some: int, made: Sequence[float]) -> None:
        now = asyncio.get_running_loop().time()
        self.found += [(now - since, some) for since in made or (self._since,)]

    async def delays(self, rng: random.Random, rate: float, changes: int) -> None:
        """Some changes, so many a second."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for _ in range(changes):
                await asyncio.sleep(rng.expovariate(rate))
                group.create_task(self.root.changes([loop.time()]))

    async def herd(self, rng: random.Random, outage: float) -> None:
        """The root is started again after so many seconds."""
        self.found, self._since = [], asyncio.get_running_loop().time() + outage
        async with asyncio.TaskGroup() as group:
            for one in self.root.below:
                group.create_task(self._comes_back(one, rng, outage))

    async def _comes_back(self, one: _Server, rng: random.Random, outage: float) -> None:
        tried, attempt = 0.0, 0
        while tried < outage:
            attempt += 1
            tried += Backoff().delay(attempt, rng)
        await asyncio.sleep(tried)
        await self.root.connected(one)

    def shares(self) -> list[float]:
        """After how long each share of the agents had it."""
        found, total = sorted(self.found), sum(some for _, some in self.found)
        shares = []
        for share in _SHARES:
            left = share * total
            for took, some in found:
                left -= some
                if left <= 1e-9 * total:
                    shares.append(took)
                    break
        return shares


def simulate(
    tree: Tree,
    costs: Costs,
    seed: int,
    *,
    rate: float = 1.0,
    changes: int = 5,
    outage: float = 5.0,
) -> Outcome:
    """The delay of `changes` at `rate` a second, then a root that is away for `outage` seconds."""

    async def main() -> Outcome:
        rng, world = random.Random(seed), _World(tree, costs)
        await world.delays(rng, rate, changes)
        delays = world.shares()
        servers = [world.root, *world.last]
        before = [server.busy for server in servers]
        await world.herd(rng, outage)
        root, *last = (server.busy - idle for server, idle in zip(servers, before, strict=True))
        return Outcome(delays, world.shares(), (root, sum(last) / len(last)))

    return run_simulated(main())


def main() -> None:
    """Print the figures for what the options say, an object a line."""
    parser = argparse.ArgumentParser(prog="python -m bench.tree", description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000_000)
    parser.add_argument("--fan-out", type=int, default=1000, help="watchers of a server at most")
    parser.add_argument("--rate", type=float, default=1.0, help="changes a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tree = Tree(options.agents, levels(options.agents, options.fan_out))
    for over, costs in (("grpc", GRPC), ("http", HTTP)):
        outcome = simulate(tree, costs, options.seed, rate=options.rate)
        figures = {
            "over": over, "agents": tree.agents, "servers": tree.servers,
            "gb_a_server": round(costs.memory * options.fan_out / 1e9, 2),
            "changes_per_s_one_by_one": round(1 / costs.message / options.fan_out, 1),
            "changes_per_s_in_batches": round(1 / costs.change / options.fan_out, 1),
            "delay_s": [round(took, 3) for took in outcome.delays],
            "herd_s": [round(took, 2) for took in outcome.herd],
            "busy_s": [round(took, 2) for took in outcome.busy],
        }  # fmt: skip
        sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
