"""What a benchmark tells: a `Row` for each thing measured, and the `Line` of all its runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import msgspec

__all__ = ["Line", "Row", "cost"]

Case = dict[str, str | int | bool]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a benchmark found of one thing.

    what: which work it was; with `case` it names the row in every run and in every revision
    unit: of all its figures; "…/s" is a rate, of which more is better, else less is
    ours: how the library did
    beside: how others did the same work in the same run, in turn with ours; the first is what
        `ours` is held against
    case: sizes and choices, the same in every run
    also: what else was seen, each with its unit in its name
    """

    what: str
    unit: str
    ours: float
    beside: dict[str, float] = {}
    case: Case = {}
    also: dict[str, float] = {}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The same row in each of several runs."""

    what: str
    unit: str
    case: Case
    ours: list[float]
    beside: dict[str, list[float]]
    also: dict[str, list[float]]

    @classmethod
    def of(cls, row: Row) -> Line:
        """The line of a first run."""
        return cls(
            what=row.what, unit=row.unit, case=row.case, ours=[row.ours],
            beside={name: [figure] for name, figure in row.beside.items()},
            also={name: [figure] for name, figure in row.also.items()},
        )  # fmt: skip

    @property
    def name(self) -> str:
        """What it is of, in words."""
        case = ", ".join(f"{name} {value}" for name, value in self.case.items())
        return f"{self.what} ({case})" if case else self.what

    def add(self, row: Row) -> None:
        """What the next run found."""
        self.ours.append(row.ours)
        for runs, found in ((self.beside, row.beside), (self.also, row.also)):
            for name, figure in found.items():
                runs.setdefault(name, []).append(figure)

    def median(self) -> float:
        """Of ours."""
        return statistics.median(self.ours)

    def spread(self) -> float:
        """How far the runs lie apart: the highest less the lowest of ours, against the median."""
        middle = self.median()
        return (max(self.ours) - min(self.ours)) / middle if middle else 0.0

    def ratio(self, name: str | None = None) -> float | None:
        """How many times what `name`, by default the first beside it, needs for the same work.

        The median of the runs, for what is in one run met the same machine. None where nothing
        stands beside it.
        """
        name = name or next(iter(self.beside), None)
        if name is None:
            return None
        ratios = list(self._ratios(self.beside[name]))
        return statistics.median(ratios) if ratios else None

    def _ratios(self, others: list[float]) -> Iterator[float]:
        for mine, theirs in zip(self.ours, others, strict=False):
            if mine and theirs:
                yield cost(self.unit, mine, theirs)


def cost(unit: str, ours: float, other: float) -> float:
    """How many times as much `ours` costs, whether it is told as a rate or as what it needs."""
    return other / ours if unit.endswith("/s") else ours / other
