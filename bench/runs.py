"""Benchmarks run in turn, of one checkout or two; each run in a process of its own."""

from __future__ import annotations

import compileall
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from bench.machine import ROOT
from bench.rows import Line, Row

__all__ = ["Failed", "Lines", "Side", "measured"]

Lines = dict[str, Line]
"""By their names."""
Say = Callable[[str], None]

PATIENCE = 20.0
"""Seconds that an interrupted benchmark has to end its servers."""


class Side(msgspec.Struct, frozen=True):
    """A checkout that is measured, by the benchmarks of this one.

    name: for those who read
    src: where its library lies
    """

    name: str
    src: Path


class Failed(Exception):
    """A benchmark that came to no end; what it said stands on stderr."""


def measured(
    modules: Sequence[str], sides: Sequence[Side], *, runs: int, quick: bool, say: Say
) -> Iterator[tuple[str, list[Lines | None]]]:
    """The lines of each side of a benchmark, as soon as it has had all its runs.

    None for a side that failed, which is not run again.
    """
    for side in sides:  # else one would compile itself at each start, in time and memory
        compileall.compile_dir(side.src, quiet=2)
    found: dict[str, list[Lines | None]] = {module: [{} for _ in sides] for module in modules}

    for run in range(runs):
        for module in modules:
            # what changes on the machine meanwhile is not to meet the same side each time
            for at in sorted(range(len(sides)), reverse=bool(run % 2)):
                lines = found[module][at]
                if lines is not None:
                    label = _label(module, sides, at, run, runs)
                    ended = _run(module, sides[at], lines, quick=quick, label=label, say=say)
                    found[module][at] = lines if ended else None
            if run == runs - 1:
                if not quick:
                    _count(module, sides, found[module], say)
                yield module, found[module]


def _label(module: str, sides: Sequence[Side], at: int, run: int, runs: int) -> str:
    side = f" of {sides[at].name}" if len(sides) > 1 else ""
    turn = f", run {run + 1} of {runs}" if runs > 1 else ""
    return f"{module.rpartition('.bench_')[2]}{side}{turn}"


def _run(module: str, side: Side, lines: Lines, *, quick: bool, label: str, say: Say) -> bool:
    """Whether it came to its end; its rows are in the lines then."""

    def heard(row: Row) -> None:
        one = Line.of(row)
        say(f"  {one.name}: {row.ours:,.6g} {row.unit}")
        if one.name in lines:
            lines[one.name].add(row)
        else:
            lines[one.name] = one

    say(f"{label} ...")
    began = time.perf_counter()
    try:
        _child([module, *(["--quick"] if quick else [])], side, heard)
    except Failed as error:
        say(f"{label}: {error}")
        return False
    say(f"{label}: {time.perf_counter() - began:.1f} s")
    return True


def _count(module: str, sides: Sequence[Side], found: list[Lines | None], say: Say) -> None:
    """Instructions, once: they are the same in each run."""
    for side, lines in zip(sides, found, strict=True):
        if lines is not None:
            rows: list[Row] = []
            with contextlib.suppress(Failed):
                _child([module, "--instructions"], side, rows.append)
            for row in rows:
                line = Line.of(row)
                lines[line.name] = line
                say(f"  {line.name}: {row.ours:,.0f} {row.unit}")


def _child(words: Sequence[str], side: Side, heard: Callable[[Row], None]) -> None:
    """Run `bench.child`, and hand on its rows as they come.

    Raises `Failed`. Whatever happens, nothing that it started is left.
    """
    paths = filter(None, [str(side.src), os.environ.get("PYTHONPATH")])
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    # a group of its own: Ctrl-C reaches it through us alone, once
    with subprocess.Popen(
        [sys.executable, "-m", "bench.child", *words],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, process_group=0,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                heard(msgspec.json.decode(line, type=Row))
            process.wait()
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise Failed(f"failed with exit code {process.returncode}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt it, so that it ends its servers; what is left of it after that is killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
