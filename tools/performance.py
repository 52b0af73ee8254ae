"""Writes the tables and the plots of docs/performance.md from the run that is kept beside it.

`make performance` runs it, in the environment of the benchmarks; a test compares the tables
without writing. The run is made by `make bench ARGS="--runs 3 --save docs/performance.json"`.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.rows import Line
from bench.saved import Benchmark, Saved, load

DOCS = Path(__file__).parent.parent / "docs"
PAGE, RUN, PLOTS = DOCS / "performance.md", DOCS / "performance.json", DOCS / "performance"

STORES = ("sqlite", "etcd", "redis", "kafka", "grpc", "rest")
"""The benchmarks whose rows stand beside a plain client of the same store."""

_MARKED = re.compile(r"(<!-- ([a-z]+): begin -->\n).*?(<!-- \2: end -->\n)", re.DOTALL)
_OURS, _LESS, _OTHERS = "#2a6f97", "#40916c", "#adb5bd"


def with_tables(page: str, saved: Saved) -> str:
    """The page with what the run says between its marks: `machine`, or the name of a benchmark."""

    def between(mark: re.Match[str]) -> str:
        name = mark[2]
        benchmark = saved.benchmarks.get(name)
        inner = _machine(saved) if name == "machine" else _table(benchmark)
        return f"{mark[1]}{inner}{mark[3]}"

    return _MARKED.sub(between, page)


def _machine(saved: Saved) -> str:
    machine = saved.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"- **Machine**: {machine.processor}, {machine.cores} cores, {machine.system}\n"
        f"- **Python**: {machine.python}, {machine.build}\n"
        f"- **Versions**: {versions}\n"
    )


def _table(benchmark: Benchmark | None) -> str:
    if benchmark is None:
        return "Not in the run that this page is made from.\n"
    sizes = ", of small sizes that show that it runs and not how fast" if benchmark.quick else ""
    runs = f"{benchmark.runs} run{'s' * (benchmark.runs > 1)}"
    head = f"Revision {benchmark.revision}, {runs}{sizes}.\n\n"
    return head + "".join(_rows(benchmark.lines))


def _rows(lines: Sequence[Line]) -> Iterator[str]:
    yield "| | datasync | spread | beside it | times as much |\n|---|---:|---:|---|---:|\n"
    for line in lines:
        beside = ", ".join(
            f"{name} {_figure(statistics.median(runs))}" for name, runs in line.beside.items()
        )
        ratios = ", ".join(
            f"{ratio:.2f}" for name in line.beside if (ratio := line.ratio(name)) is not None
        )
        ours = f"{_figure(line.median())} {line.unit}"
        yield f"| {line.name} | {ours} | {line.spread():.0%} | {beside} | {ratios} |\n"


def _figure(figure: float) -> str:
    """Three digits, and no exponent."""
    return f"{float(f'{figure:.3g}'):,.10g}"


# -- plots -----------------------------------------------------------------------------------------


def draw(saved: Saved, directory: Path) -> None:
    """The plots, as SVG whose text is text."""
    import matplotlib as mpl

    mpl.use("svg")
    # the same run gives the same files
    mpl.rcParams.update({"svg.hashsalt": "datasync", "svg.fonttype": "none", "font.size": 9})
    directory.mkdir(exist_ok=True)
    benchmarks = saved.benchmarks
    if "go" in benchmarks:
        _draw_rates(benchmarks["go"].lines, directory / "core.svg")
    if "dispatch" in benchmarks:
        _draw_watches(benchmarks["dispatch"].lines, directory / "watches.svg")
    stores = [
        (f"{name}: {line.name.removesuffix(' (library apsw)')}", ratio)
        for name in STORES
        if name in benchmarks
        for line in benchmarks[name].lines
        if line.case.get("library") != "sqlite3" and (ratio := line.ratio()) is not None
    ]
    if stores:
        _draw_costs(stores, directory / "stores.svg")


def _draw_rates(lines: Sequence[Line], file: Path) -> None:
    """Bars: changes a second, ours and those of others."""
    bars = [
        (f"{name}\n{line.what.partition(',')[0]}", statistics.median(runs), name == "datasync")
        for line in lines
        for name, runs in {"datasync": line.ours, **line.beside}.items()
    ]
    colours = [_OURS if ours else _OTHERS for *_, ours in bars]
    figure, axes = _bars([(name, rate) for name, rate, _ in bars], colours)
    axes.set_xlabel("changes a second, decoded, verdict awaited; more is better")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _write(figure, file)


def _draw_costs(bars: Sequence[tuple[str, float]], file: Path) -> None:
    """Bars from 1 on: how many times what the plain client needs."""
    figure, axes = _bars(bars, [_OURS if cost > 1 else _LESS for _, cost in bars], start=1)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("times what the plain client needs; less is better")
    _write(figure, file)


def _draw_watches(lines: Sequence[Line], file: Path) -> None:
    """Curves: what a change costs with more and more watches on prefixes of their own."""
    figure, axes = _axes(3)
    cost = "cost against one watch"
    for order in ("in turn", "shuffled"):
        found = [line for line in lines if cost in line.also and line.case["order"] == order]
        axes.plot(
            [line.case["watches"] for line in found],
            [statistics.median(line.also[cost]) for line in found],
            marker="o", label=f"keys {order}",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("watches")
    axes.set_ylabel("cost of a change\nagainst one watch")
    axes.legend(frameon=False)
    _write(figure, file)


def _bars(
    bars: Sequence[tuple[str, float]], colours: Sequence[str], *, start: float = 0
) -> tuple[Any, Any]:
    """One below the other, each with its figure beside it."""
    figure, axes = _axes(0.8 + 0.3 * len(bars))
    widths = [value - start for _, value in bars]
    drawn = axes.barh(range(len(bars)), widths, left=start, color=colours)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.bar_label(drawn, labels=[_figure(value) for _, value in bars], padding=3)
    axes.margins(x=0.15, y=0.01)
    return figure, axes


def _axes(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _write(figure: Any, file: Path) -> None:
    figure.savefig(file, metadata={"Date": None, "Creator": None})


def main() -> int:
    """Write the tables and the plots."""
    saved = load(RUN)
    PAGE.write_text(with_tables(PAGE.read_text(), saved))
    draw(saved, PLOTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
