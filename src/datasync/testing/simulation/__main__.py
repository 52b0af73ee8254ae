"""The simulation from the command line: `python -m datasync.testing.simulation --seeds 2000`."""

from __future__ import annotations

import argparse
import collections
import itertools
import sys
from collections.abc import Sequence

import msgspec

from datasync.testing.simulation.reporting import simulate_reports
from datasync.testing.simulation.schedule import PROFILES, simulate
from datasync.testing.trace.checker import Violation, check
from datasync.testing.trace.records import Record, dump

__all__ = ["check_seed", "main", "simulate"]

_TAIL = 40


_KINDS = {"watches": simulate, "reports": simulate_reports}
"""What a seed may be a schedule of."""


def check_seed(
    seed: int, *, steps: int = 40, profile: str | None = None, kind: str = "watches"
) -> tuple[list[Record], list[Violation]]:
    """Run one seed, and hold it against the guarantees.

    kind: "watches", of one DataSync, or "reports", of agents that report and who asks them.
    """
    trace = _KINDS[kind](seed, steps=steps, profile=profile)
    return trace, check(trace)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds. Returns 0 where nothing was violated, else 1."""
    options = _parser().parse_args(arguments)
    failed: collections.Counter[str] = collections.Counter()
    bad = 0

    kinds = [options.kind] if options.kind else _KINDS
    seeds = range(options.start, options.start + options.seeds)
    for done, (seed, kind) in enumerate(itertools.product(seeds, kinds)):
        _progress(done, len(seeds) * len(kinds), bad)
        trace, violations = check_seed(
            seed, steps=options.steps, profile=options.profile, kind=kind
        )
        if options.dump:
            sys.stdout.buffer.write(dump(trace))
        if violations:
            bad += 1
            failed.update({violation.validator for violation in violations})
            if bad <= options.show:
                _progress(-1, 0, 0)
                print(explain(seed, trace, violations, kind))  # noqa: T201 - a command

    _progress(-1, 0, 0)
    if not options.dump:
        counts = ", ".join(f"{name} {count}" for name, count in failed.most_common())
        found = f"{bad} failed ({counts})" if bad else "all good"
        print(f"{options.seeds} seeds from {options.start}: {found}")  # noqa: T201
    return 1 if bad else 0


def explain(
    seed: int, trace: Sequence[Record], violations: Sequence[Violation], kind: str = "watches"
) -> str:
    """What a person wants to see of a failing seed: the violations, and the
    trace up to the first of them."""
    first = violations[0].seq
    shown = [record for record in trace if first - _TAIL < record.seq <= first]
    lines = [f"seed {seed} of {kind}: {len(violations)} violations"]
    lines += [f"  {violation}" for violation in violations[:10]]
    lines += [f"  the trace up to record {first}:"]
    lines += ["    " + msgspec.json.encode(record).decode()[:300] for record in shown]
    return "\n".join(lines)


def _progress(done: int, total: int, bad: int) -> None:
    """A bar on a terminal, nothing elsewhere; cleared where `done` is negative."""
    if not sys.stderr.isatty():
        return
    if done < 0:
        sys.stderr.write("\r\x1b[K")
    elif done % 10 == 0:
        filled = 30 * done // max(1, total)
        sys.stderr.write(
            f"\r[{'#' * filled}{'.' * (30 - filled)}] {done}/{total} seeds, {bad} failed"
        )
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasync.testing.simulation",
        description="Run random schedules of writes and faults against the engine and check "
        "every trace.",
        epilog="example: python -m datasync.testing.simulation --seeds 1 --start 42 --dump > "
        "trace.jsonl",
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds (default 200)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--steps", type=int, default=40, help="steps of one schedule (default 40)")
    parser.add_argument(
        "--kind",
        choices=list(_KINDS),
        help="of one DataSync with its watches, or of agents that report (default: both)",
    )
    parser.add_argument(
        "--profile",
        choices=[*PROFILES, "push", "layers"],
        help="the kind of source (default: drawn)",
    )
    parser.add_argument(
        "--show", type=int, default=3, help="how many failing seeds to explain (default 3)"
    )
    parser.add_argument(
        "--dump", action="store_true", help="write the traces to standard output, as JSON lines"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
