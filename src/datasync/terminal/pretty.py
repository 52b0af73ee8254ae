"""What a terminal is shown beside plain lines: colours, tables that fit, a bar. By rich (needs the
extra `cli`), which is given text that is printable already, and nothing to interpret."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

__all__ = ["Bar", "Cell", "codes", "show_table"]

Cell = str | tuple[str, str]
"""What stands in a table, in a colour or not."""
_GAP = 2
"""Spaces between two columns."""


@functools.cache
def codes(colour: str) -> tuple[str, str]:
    """What a terminal like this one is sent before and after a text to have it in that colour."""
    console = Console(file=sys.stdout)
    with console.capture() as captured:
        console.print(Text("x", style=colour), end="")
    before, _, after = captured.get().partition("x")
    return before, after


def show_table(head: Sequence[str], rows: Sequence[Sequence[Cell]], *, colours: bool) -> None:
    """Print a table. One that is too wide is turned, and told in parts that fit: its rows beside
    each other, as many as there is room for."""
    console = Console(file=sys.stdout)
    if sum(map(_width, zip(head, *rows, strict=True))) <= console.width:
        console.print(_table(head, rows, colours))
        return

    left = console.width - _width(head)
    part: list[Sequence[Cell]] = []
    for row in rows:
        if part and sum(map(_width, [*part, row])) > left:
            console.print(_turned(head, part, colours))
            console.print()
            part = []
        part.append(row)
    console.print(_turned(head, part, colours))


def _width(cells: Sequence[Cell]) -> int:
    return max(cell_len(_text_of(cell)) for cell in cells) + _GAP


def _turned(head: Sequence[str], rows: Sequence[Sequence[Cell]], colours: bool) -> Table:
    first, *others = zip(head, *rows, strict=True)
    return _table([_text_of(cell) for cell in first], others, colours)


def _table(head: Sequence[str], rows: Sequence[Sequence[Cell]], colours: bool) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim" if colours else "")
    for name in head:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(
            *(Text(_text_of(one), style=_style_of(one) if colours else "") for one in row)
        )
    return table


def _text_of(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _style_of(cell: Cell) -> str:
    return "" if isinstance(cell, str) else cell[1]


class Bar:
    """A bar with a text after it, on standard error, until `stop`."""

    def __init__(self) -> None:
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.description}", markup=False),
            console=Console(stderr=True),
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: TaskID | None = None

    def start(self) -> None:
        """Begin to show it."""
        self._progress.start()

    def stop(self) -> None:
        """Leave nothing of it behind."""
        self._progress.stop()

    def show(self, done: int, total: int, text: str) -> None:
        """Show how much is done."""
        if self._task is None:
            self._task = self._progress.add_task("", total=total)
        self._progress.update(
            self._task, completed=done, total=total, description=text, refresh=True
        )
