"""Fuzzing from the command line: `python -m datasync.testing.fuzz redis --minutes 10`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

from datasync.testing.commands import Screen, add_options, drawn, until_signalled
from datasync.testing.fuzz.doors import DOORS, door_of
from datasync.testing.fuzz.run import DEADLINE, Found, attack

__all__ = ["Hangs", "Settings", "fuzz", "main"]


class Hangs(BaseException):
    """A case has not come to its end, nor heeded its deadline."""


class Settings(NamedTuple):
    """How long, from which seed, from which case on. `cases`: how many at most. With `on`,
    it goes on after a finding."""

    minutes: float
    seed: int
    first: int = 0
    cases: int = sys.maxsize
    on: bool = False


async def fuzz(name: str, settings: Settings) -> int:
    """Case after case, until the time is up or one fails. Returns 0 where
    nothing was found, else 1."""
    screen = Screen(settings.minutes)
    door = door_of(name)
    count = failed = 0

    def going_on(done: int) -> bool:
        nonlocal count
        count = done
        if done:  # one is run in any case, and not before its server has been started
            signal.alarm(round(2 * DEADLINE))
        return done == 0 or (
            done < settings.cases and screen.left > 0 and (settings.on or not failed)
        )

    def found(one: Found) -> None:
        nonlocal failed
        failed += 1
        screen.line(f"case {one.number}: {one.text}")
        screen.line(
            f"again: python -m datasync.testing.fuzz {name} --seed {settings.seed} --case "
            f"{one.number} --cases 1"
        )

    def hangs(*_: object) -> None:
        raise Hangs(f"case {settings.first + count} of the seed {settings.seed} hangs")

    screen.line(f"{name}: seed {settings.seed}, {settings.minutes:g} min")
    before = signal.signal(signal.SIGALRM, hangs)
    try:
        async with door as opened, screen.ticking(lambda: f"{count:,} cases, {failed} findings"):
            outcomes = await attack(opened, name, settings.seed, settings.first, going_on, found)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

    told = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.most_common(12))
    screen.line(
        f"{name}: {count:,} cases, {f'{failed} findings' if failed else 'nothing found'} ({told})"
    )
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns 0 where nothing was found, 1 for findings, 2 for
    wrong usage, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    settings = Settings(
        options.minutes, drawn(options.seed), options.case, options.cases, options.go_on
    )
    try:
        return until_signalled("fuzz", fuzz(options.door, settings))
    except Hangs as error:
        print(error, flush=True)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasync.testing.fuzz",
        description="Send what is hostile through a door, as a seed draws it: only errors of "
        "datasync may come of it.",
        epilog="example: python -m datasync.testing.fuzz redis --minutes 10",
    )
    parser.add_argument("door", metavar="DOOR", help="one of: " + ", ".join(DOORS))
    add_options(parser, "cases", "a finding")
    parser.add_argument(
        "--case", type=int, default=0, metavar="C", help="the first case (default 0)"
    )
    parser.add_argument(
        "--cases", type=int, default=sys.maxsize, metavar="N", help="how many at most"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
