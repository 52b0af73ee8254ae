"""Instructions of the processor for a piece of work: what tells on a machine that others use too.

A benchmark names such work in `COUNTED`: functions that do it as many times as they are told. Each
is counted in a process of its own for a number and for twice that, so that neither the start nor
what happens once is in the difference.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

from bench.left_out import left_out
from bench.rows import Row

__all__ = ["Work", "counted", "counter"]

Work = Callable[[int], None]
Counter = list[str]

TIMES = 1_000
_PERF = ["perf", "stat", "-x,", "-e", "instructions:u"]
_CACHEGRIND = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]


def counter() -> Counter | None:
    """The command that counts, put before another; None where nothing here can."""
    if shutil.which("perf") and _count(_PERF, ["true"]) is not None:
        return _PERF
    if shutil.which("valgrind"):
        return _CACHEGRIND
    return None


def counted(benchmark: ModuleType) -> Iterator[Row]:
    """A row for each work that the benchmark wants to be counted."""
    works: Mapping[str, Work] = getattr(benchmark, "COUNTED", {})
    command = counter() if works else None
    if works and command is None:
        left_out("a count of instructions", "perf cannot count here; apt-get install valgrind")
    if command is None:
        return
    for name in works:
        once, twice = (_of(command, benchmark.__name__, name, TIMES * n) for n in (1, 2))
        each = round((twice - once) / TIMES)
        yield Row(what=f"{name}, instructions", unit="instructions", ours=each)


def _of(command: Counter, module: str, name: str, times: int) -> int:
    """The instructions of a process that does the work so many times."""
    count = _count(command, [sys.executable, "-m", "bench.instructions", module, name, str(times)])
    if count is None:
        raise RuntimeError(f"{command[0]} counted nothing of {name!r} in {module}")
    return count


def _count(command: Counter, work: list[str]) -> int | None:
    # the same order of sets and dicts in both runs
    env = os.environ | {"PYTHONHASHSEED": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [*command, *work], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    found = re.search(r"I\s+refs:\s+([\d,]+)|^(\d+),[^,]*,instructions", done.stderr, re.MULTILINE)
    if done.returncode or found is None:
        return None
    return int((found[1] or found[2]).replace(",", ""))


if __name__ == "__main__":
    works: Mapping[str, Work] = importlib.import_module(sys.argv[1]).COUNTED
    works[sys.argv[2]](int(sys.argv[3]))
