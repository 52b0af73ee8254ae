"""Runs that were kept: written by `--save`, read by `--compare` and by what draws the plots."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.machine import Machine
from bench.rows import Line

__all__ = ["Benchmark", "Saved", "load", "save"]


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of one benchmark, and the revision that they are of.

    quick: whether they are of small sizes, which show that it runs and not how fast
    """

    revision: str
    runs: int
    quick: bool
    lines: list[Line]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """All that a file keeps: benchmarks of one machine, by name."""

    machine: Machine
    benchmarks: dict[str, Benchmark]


def load(path: Path) -> Saved:
    """What a file keeps.

    Raises `ValueError` where it is not such a file, `OSError` where it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Saved)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not a run that --save wrote: {error}") from None


def save(path: Path, machine: Machine, benchmarks: dict[str, Benchmark]) -> None:
    """Keep these in the file, beside the others that it has.

    Raises `ValueError` where the others are of another machine, for which lines of one file are not
    compared.
    """
    kept = load(path).benchmarks if mergeable(path, machine) else {}
    saved = Saved(machine=machine, benchmarks=dict(sorted({**kept, **benchmarks}.items())))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(saved), indent=1) + b"\n")


def mergeable(path: Path, machine: Machine) -> bool:
    """Whether there is a file yet, to which lines of this machine can be added."""
    if not path.exists():
        return False
    if load(path).machine != machine:
        raise ValueError(f"{path} is of another machine or of other versions; save to another file")
    return True
