"""What happens when, drawn from a seed: the same seed and round, the same schedule;
the timing is the machine's."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from datasync.testing.chaos.agents import AGENTS
from datasync.testing.chaos.store import Fault, Store

__all__ = ["Step", "draw"]

WATCHES = {
    "register": 3,
    "widen": 3,
    "narrow": 2,
    "close": 2,
    "resync": 1,
    "read": 2,
    "confirmed burst": 3,
}
"""What the application does by itself, with weights."""


class Step(NamedTuple):
    """`at` seconds after the beginning of the round, `kind` ("fault", "renewal", "application",
    "agents") `what` begins, and takes some `seconds`. `seed` draws what is left open.
    """

    at: float
    kind: str
    what: str
    seconds: float
    seed: int

    def __str__(self) -> str:
        return f"{self.at:6.2f} s  {self.kind}: {self.what} ({self.seconds:.1f} s)"


def draw(seed: int, number: int, store: Store, seconds: float) -> list[Step]:
    """The schedule of round `number`."""
    rng = random.Random(f"{seed}/{number}")
    steps = _drawn(rng, "fault", _weights(store.faults), seconds, every=1.5)
    steps += _drawn(rng, "application", WATCHES, seconds, every=0.5)
    if store.renewals and rng.random() < 0.4:
        what = rng.choice(sorted(store.renewals))
        steps.append(
            Step(seconds * (0.3 + 0.4 * rng.random()), "renewal", what, 0.0, rng.getrandbits(32))
        )
    if store.agents:
        steps += _drawn(rng, "agents", AGENTS, seconds, every=0.8)
    return sorted(steps)


def _weights(faults: Mapping[str, Fault]) -> dict[str, int]:
    return {name: fault.weight for name, fault in faults.items()}


def _drawn(
    rng: random.Random, kind: str, weights: Mapping[str, int], seconds: float, every: float
) -> list[Step]:
    names: Sequence[str] = sorted(weights)
    steps: list[Step] = []
    at = rng.expovariate(1 / every)
    while names and at < seconds:
        what = rng.choices(names, [weights[name] for name in names])[0]
        steps.append(Step(at, kind, what, rng.choice([0.1, 0.5, 1.5, 3.0]), rng.getrandbits(32)))
        at += rng.expovariate(1 / every)
    return steps
