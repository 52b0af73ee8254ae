"""Runs the benchmarks: one JSON object a line on stdout, what is being done on stderr.

The figures of one line were taken beside each other in one run; only their ratios compare across
machines.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pkgutil
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

import bench
from bench.comparison import Compared, checkout, paired, table, with_saved
from bench.machine import ROOT, Machine, revision, this_machine
from bench.rows import Line
from bench.runs import Lines, Side, measured
from bench.saved import Benchmark, Saved, load, mergeable, save

PREFIX = "bench_"
LIMIT = 1.10


def names() -> list[str]:
    """All benchmarks: the modules `bench_NAME`, each with `run(quick)`."""
    found = (info.name for info in pkgutil.iter_modules(bench.__path__))
    return sorted(name.removeprefix(PREFIX) for name in found if name.startswith(PREFIX))


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)


def show(name: str, figures: dict[str, Any]) -> None:
    """One line of figures."""
    print(json.dumps({"bench": name, **figures}, ensure_ascii=False), flush=True)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Benchmarks of datasync, as JSON lines."
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=names(), help="one of: %(choices)s"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: shows that it runs, not how fast"
    )
    parser.add_argument(
        "--runs", metavar="N", type=int, default=1,
        help="run all of them N times in turn; figures are medians then (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--save", metavar="FILE", type=Path,
        help="keep all runs in FILE as JSON, beside other benchmarks that it has",
    )  # fmt: skip
    parser.add_argument(
        "--compare", metavar="FILE|REVISION",
        help="print a table of ratios instead: to what FILE keeps, or to a revision of this "
        "repository, whose library is run in turn with this one",
    )  # fmt: skip
    parser.add_argument(
        "--limit", metavar="RATIO", type=float, default=LIMIT,
        help="with --compare: exit with 1 where a line costs more than that (default: %(default)s)",
    )  # fmt: skip
    args = parser.parse_args(words)
    if args.runs < 1:
        parser.error(f"--runs must be an integer >= 1, got {args.runs}")
    return args


def main(words: Sequence[str] | None = None) -> int:
    """The exit code.

    1 when a benchmark failed or a line is above the limit, 2 when there is nothing to do it with,
    130 when it was interrupted.
    """
    args = arguments(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(args)
    except (ValueError, OSError) as error:
        say(f"python -m bench: error: {error}")
        return 2
    except KeyboardInterrupt:
        kept = f"; {args.save} has what had ended" if args.save and args.save.exists() else ""
        say(f"interrupted{kept}")
        return 130


def run(args: argparse.Namespace) -> int:
    """Measure, show, keep and compare; the exit code."""
    machine = this_machine()
    if args.save:
        mergeable(args.save, machine)  # an error now, and not after an hour
    compared: list[Compared] = []
    failed = False

    with _other(args.compare) as other:
        sides = [Side("here", ROOT / "src")]
        if isinstance(other, Path):
            sides.append(Side(args.compare, other))
        if not args.compare:
            show("machine", {**msgspec.to_builtins(machine), "quick": args.quick})
        modules = [f"bench.{PREFIX}{name}" for name in args.only or names()]
        for module, (now, *before) in measured(
            modules, sides, runs=args.runs, quick=args.quick, say=say
        ):
            name = module.rpartition(PREFIX)[2]
            if now is None:
                failed = True
                continue
            if args.save:
                found = Benchmark(
                    revision=revision(), runs=args.runs, quick=args.quick, lines=list(now.values())
                )
                save(args.save, machine, {name: found})
            if args.compare:
                compared += _compared(name, now, other, before, machine)
            else:
                for line in now.values():
                    show(name, _figures(line))

    if args.compare:
        print(table(compared, args.limit))
    above = any(one.cost is not None and one.cost > args.limit for one in compared)
    return 1 if failed or above else 0


@contextlib.contextmanager
def _other(compare: str | None) -> Iterator[Saved | Path | None]:
    """What is compared with: runs that were kept, or the library of a revision."""
    if compare is None:
        yield None
    elif Path(compare).is_file():
        yield load(Path(compare))
    else:
        with checkout(compare) as src:
            yield src


def _compared(
    name: str,
    now: Lines,
    other: Saved | Path | None,
    before: Sequence[Lines | None],
    machine: Machine,
) -> Iterator[Compared]:
    if isinstance(other, Saved):
        kept = other.benchmarks.get(name)
        lines = {line.name: line for line in kept.lines} if kept else {}
        found = with_saved(lines, now, same_machine=other.machine == machine)
    else:
        found = paired(before[0] or {}, now)
    for one in found:
        yield msgspec.structs.replace(one, name=f"{name}: {one.name}")


def _figures(line: Line) -> dict[str, Any]:
    """As JSON: medians of all runs."""
    figures: dict[str, Any] = {
        "what": line.what, **line.case, "unit": line.unit, "ours": _short(line.median()),
    }  # fmt: skip
    if len(line.ours) > 1:
        figures["spread"] = round(line.spread(), 3)
    for name, runs in line.beside.items():
        figures[name] = _short(statistics.median(runs))
    ratio = line.ratio()
    if ratio is not None:
        figures["ratio"] = round(ratio, 2)
    return {
        **figures,
        **{name: _short(statistics.median(runs)) for name, runs in line.also.items()},
    }


def _short(figure: float) -> float:
    """Five digits are more than any machine gives twice."""
    return float(f"{figure:.5g}")


if __name__ == "__main__":
    sys.exit(main())
