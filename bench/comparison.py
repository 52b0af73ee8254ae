"""Two sets of lines beside each other: how many times as much each costs now."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.machine import ROOT
from bench.rows import Line, cost
from bench.runs import Lines

__all__ = ["Compared", "checkout", "paired", "table", "with_saved"]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A line in both; figures are medians.

    cost: how many times what it was before; None where that cannot be said
    spread: the lowest and the highest of it, where the runs were made in pairs
    by: what both were held against, as a machine that changed in between hides in it
    """

    name: str
    unit: str
    before: float
    now: float
    cost: float | None
    spread: tuple[float, float] | None = None
    by: str = ""


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The library at a revision, in a worktree that is gone with the block.

    Raises `ValueError` where there is no such revision.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        place = Path(directory) / "tree"
        done = subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(place), f"{revision}^{{commit}}"],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise ValueError(
                f"{revision!r} is neither a file that --save wrote nor a revision: "
                f"{done.stderr.strip().splitlines()[-1]}"
            )
        try:
            yield place / "src"
        finally:
            subprocess.run(
                ["git", "worktree", "remove", "--force", str(place)], cwd=ROOT, check=True
            )


def paired(before: Lines, now: Lines) -> Iterator[Compared]:
    """Lines whose runs were made in turn: each pair met the same machine."""
    for name in before.keys() & now.keys():
        then, line = before[name], now[name]
        costs = [
            cost(line.unit, mine, theirs)
            for mine, theirs in zip(line.ours, then.ours, strict=False)
            if mine and theirs
        ]
        yield Compared(
            name=line.name, unit=line.unit, before=then.median(), now=line.median(),
            cost=statistics.median(costs) if costs else None,
            spread=(min(costs), max(costs)) if len(costs) > 1 else None,
        )  # fmt: skip


def with_saved(before: Lines, now: Lines, *, same_machine: bool) -> Iterator[Compared]:
    """Lines of another day: by what stood beside both, else only where the machine is the same."""
    for name in before.keys() & now.keys():
        then, line = before[name], now[name]
        by = next((one for one in line.beside if one in then.beside), "")
        yield Compared(
            name=line.name, unit=line.unit, before=then.median(), now=line.median(), by=by,
            cost=_cost(then, line, by, same_machine=same_machine),
        )  # fmt: skip


def _cost(then: Line, now: Line, by: str, *, same_machine: bool) -> float | None:
    if by:
        ours, theirs = now.ratio(by), then.ratio(by)
        return ours / theirs if ours and theirs else None
    if same_machine and then.median() and now.median():
        return cost(now.unit, now.median(), then.median())
    return None


def table(compared: list[Compared], limit: float) -> str:
    """In Markdown: what costs most against before comes first."""
    lines = ["| | before | now | cost | |", "|---|---:|---:|---:|---|"]
    for one in sorted(compared, key=lambda one: -(one.cost or 0)):
        shown = "" if one.cost is None else f"{one.cost:.2f}"
        spread = f"{one.spread[0]:.2f} to {one.spread[1]:.2f}" if one.spread else ""
        by = f"against {one.by}" if one.by else ""
        over = "**above the limit**" if one.cost is not None and one.cost > limit else ""
        notes = ", ".join(filter(None, (spread, by, over)))
        lines.append(
            f"| {one.name}, {one.unit} | {one.before:,.6g} | {one.now:,.6g} | {shown} | {notes} |"
        )
    return "\n".join(lines)
