"""Chaos from the command line: `python -m datasync.testing.chaos etcd:// --minutes 10`."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datasync.testing.chaos.run import Outcome, play
from datasync.testing.chaos.schedule import Step, draw
from datasync.testing.chaos.store import Store
from datasync.testing.chaos.stores import SCHEMES, store_for
from datasync.testing.commands import Screen, add_options, drawn, until_signalled
from datasync.testing.trace.records import dump

__all__ = ["Settings", "chaos", "main"]

_ROUND = 20.0
"""Seconds for which a round goes on, before everything settles and is judged."""
_SHOWN, _WIDE = 20, 400


class Settings(NamedTuple):
    """How long, from which seed, from which round on. `seconds` of faults are in a
    round. With `on`, it goes on after a round that failed. The trace of such a round is
    written to the directory `keep`."""

    minutes: float
    seed: int
    first: int = 0
    seconds: float = _ROUND
    on: bool = False
    keep: Path = Path()


async def chaos(store: Store, settings: Settings) -> int:
    """Round after round, until the time is up or one fails. Returns 0 where
    nothing was found, else 1."""
    screen = Screen(settings.minutes)
    total: Counter[str] = Counter()
    writes = events = rounds = failed = 0
    try:
        await store.start()
        screen.line(f"{store.version}: seed {settings.seed}, {settings.minutes:g} min")
        for name, why in store.left_out.items():
            screen.line(f"left out: {name}: {why}")
        for number in range(settings.first, sys.maxsize):
            schedule = draw(settings.seed, number, store, settings.seconds)
            told = f"round {number}, {events:,} events, {failed} failed"
            async with screen.ticking(told.__str__):
                outcome = await play(
                    store, schedule, random.Random(f"{settings.seed}/{number}/play").getrandbits(64)
                )

            total += outcome.steps
            writes, events, rounds = writes + outcome.writes, events + outcome.events, rounds + 1
            if outcome.findings:
                failed += 1
                _explain(screen, store, settings, number, schedule, outcome)
            else:
                did = f"{outcome.writes:,} writes, {outcome.events:,} events"
                screen.line(f"round {number}: {did}; {_counted(outcome.steps)}")
            if screen.left <= 0 or (failed and not settings.on):
                break
        found = f"{failed} failed" if failed else "nothing found"
        screen.line(
            f"{rounds} rounds, {writes:,} writes, {events:,} events: {found} ({_counted(total)})"
        )
        return 1 if failed else 0
    finally:
        await store.aclose()


def _counted(steps: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(steps.items()))


def _explain(
    screen: Screen,
    store: Store,
    settings: Settings,
    number: int,
    schedule: Sequence[Step],
    outcome: Outcome,
) -> None:
    seed = settings.seed
    scheme = store.url.partition("://")[0]

    screen.line(f"round {number}: {len(outcome.findings)} findings")
    for finding in outcome.findings[:_SHOWN]:
        screen.line(f"  {finding[:_WIDE]}")

    screen.line("the schedule was:")
    for step in schedule:
        screen.line(f"  {step}")

    path = settings.keep / f"chaos-{scheme.replace('+', '-')}-{seed}-{number}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dump(outcome.trace))
    if outcome.reports:
        path.with_suffix(".reports.jsonl").write_bytes(dump(outcome.reports))

    logs = [
        shutil.copyfile(log, path.with_suffix(f".{log.stem}.log"))
        for log in store.logs
        if log.exists()
    ]

    screen.line(
        f"the trace is in {path}; what the server said: {', '.join(map(str, logs)) or 'nothing'}"
    )
    screen.line(
        f"again: python -m datasync.testing.chaos {scheme}:// --seed {seed} --round {number} "
        "--minutes 0 (the same schedule; the timing is the machine's)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns 0 where nothing was found, 1 for findings, 2 for
    wrong usage, 130 after Ctrl-C."""
    # it would write a line for each connection that is refused
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    options = _parser().parse_args(arguments)
    settings = Settings(
        options.minutes,
        drawn(options.seed),
        first=options.round,
        seconds=options.seconds,
        on=options.go_on,
        keep=options.keep,
    )

    async def run() -> int:
        return await chaos(store_for(options.url), settings)

    return until_signalled("chaos", run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasync.testing.chaos",
        description="Start the real server of a scheme, break it in every way that a seed draws, "
        "with watches and"
        " writers at work, and hold what they saw against the guarantees.",
        epilog="example: python -m datasync.testing.chaos etcd:// --minutes 10",
    )
    parser.add_argument(
        "url", metavar="URL", help="one of: " + ", ".join(f"{name}://" for name in SCHEMES)
    )

    add_options(parser, "schedules", "a round that failed")
    parser.add_argument(
        "--round", type=int, default=0, metavar="R", help="the first round (default 0)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=_ROUND,
        metavar="N",
        help=f"of faults in one round (default {_ROUND:g})",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the trace of a failing round goes (default: .)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
