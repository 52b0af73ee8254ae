"""Runs the benchmarks: one JSON object a line on stdout, what is being done on stderr.

The figures of one line were taken beside each other in one run; only their ratios compare across
machines.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import bench

PREFIX = "bench_"


def names() -> list[str]:
    """All benchmarks: the modules `bench_NAME`, each with `run(quick)`."""
    found = (info.name for info in pkgutil.iter_modules(bench.__path__))
    return sorted(name.removeprefix(PREFIX) for name in found if name.startswith(PREFIX))


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)


def show(name: str, figures: dict[str, Any]) -> None:
    """One line of figures."""
    print(json.dumps({"bench": name, **figures}), flush=True)


def main() -> int:
    """The exit code: 1 when a benchmark failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Benchmarks of datasync, as JSON lines."
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=names(), help="one of: %(choices)s"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: shows that it runs, not how fast"
    )
    args = parser.parse_args()
    show(
        "machine",
        {"python": platform.python_version(), "cores": os.cpu_count(), "quick": args.quick},
    )
    failed = 0
    for name in args.only or names():
        say(f"{name} ...")
        start = time.perf_counter()
        try:
            run = importlib.import_module(f"bench.{PREFIX}{name}").run
            lines: Iterator[dict[str, Any]] = run(args.quick)
            for figures in lines:
                show(name, figures)
        except Exception:
            failed = 1
            traceback.print_exc()
        say(f"{name}: {time.perf_counter() - start:.1f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main())
