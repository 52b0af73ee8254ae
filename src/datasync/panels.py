"""What a part of an application shows of itself: a panel on the status page of its DataSync, and
measures among the metrics.

A panel is plain data in a few forms, which the page knows how to draw; all text in it stays text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from datasync.status import Measure

__all__ = [
    "Arrow",
    "Bar",
    "Block",
    "Box",
    "Drawing",
    "Measure",
    "Panel",
    "Row",
    "Table",
    "Timeline",
    "Tone",
    "UnknownQuestion",
]

Tone = Literal["good", "work", "warn", "bad", "idle"]
"""How it is doing; the page has a colour for each."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of a table.

    about: what to show more of when somebody chooses it; empty (the default): it cannot be chosen.
    """

    cells: list[str]
    tone: Tone = "idle"
    about: str = ""


class Table(msgspec.Struct, frozen=True, tag="table", omit_defaults=True):
    """A table.

    more: rows that are left out because there are too many.
    """

    title: str
    head: list[str]
    rows: list[Row]
    more: int = 0


class Bar(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went on from `begin` for `length` seconds."""

    label: str
    begin: float
    length: float
    tone: Tone = "idle"
    note: str = ""


class Timeline(msgspec.Struct, frozen=True, tag="timeline", omit_defaults=True):
    """Bars along one time, as a waterfall.

    length: how many seconds it shows.
    more: bars that are left out because there are too many.
    """

    title: str
    length: float
    bars: list[Bar]
    more: int = 0


class Box(msgspec.Struct, frozen=True, omit_defaults=True):
    """A box of a drawing.

    column: where it stands, from left to right; may be negative.
    about: as that of a `Row`.
    """

    name: str
    column: int
    tone: Tone = "idle"
    note: str = ""
    about: str = ""


class Arrow(msgspec.Struct, frozen=True, omit_defaults=True):
    """An arrow of a drawing, from one box to another, by their indexes."""

    begin: int
    end: int
    dashed: bool = False


class Drawing(msgspec.Struct, frozen=True, tag="drawing", omit_defaults=True):
    """Boxes in columns, with arrows.

    more: boxes that are left out because there are too many.
    """

    title: str
    boxes: list[Box]
    arrows: list[Arrow]
    more: int = 0


Block = Table | Timeline | Drawing


class UnknownQuestion(LookupError):
    """A panel does not answer this."""


class Panel:
    """A part of an application, to be shown by `DataSync.show`; override what it has to say.

    name: its heading on the page, and the label `panel` of its metrics: letters, digits, `-`, `_`
        and `.`.
    """

    name: str

    def measures(self) -> Iterable[Measure]:
        """Its numbers; by default none. Called in whatever thread collects metrics, and often: it
        must not wait, nor take long. What is raised is logged, and its numbers are left out."""
        return ()

    def blocks(self, about: str) -> Iterable[Block]:
        """What it shows; by default nothing. Called in the event loop, every second while somebody
        looks.

        about: what somebody has chosen; empty: nothing.
        """
        return ()

    async def answer(self, question: str, body: bytes) -> Any:
        """Answer `POST /v1/panels/NAME/QUESTION`, with whatever msgspec makes JSON of; it must not
        change anything: everybody who may look at the page may ask.

        question: the last part of the path.
        body: JSON.

        Raises `UnknownQuestion` (the default, for all of them); `DataSyncError` for a body that
        makes no sense.
        """
        raise UnknownQuestion(question)
