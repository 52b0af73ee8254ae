"""status --watch: the picture again and again on a terminal, elsewhere a line for each change."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from datasync.errors import Disconnected
from datasync.terminal.output import Output

if TYPE_CHECKING:
    from datasync.restsync._overview import Overview

__all__ = ["follow"]

_EVERY = 1.0
"""Seconds between two questions."""
_OPEN, _CLOSE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""To a screen of its own without a cursor, and back."""
_HOME, _LINE_END, _REST = "\x1b[H", "\x1b[K\n", "\x1b[J"


async def follow(
    ask: Callable[[], Awaitable[Overview]], show: Callable[[Overview, Output], None]
) -> int:
    """Ask every second, until cancelled; an agent that does not answer any more is asked again.

    ask: for the status. Whatever it raises the first time ends this; later only what is not about
        an agent that does not answer.
    show: prints the picture.
    """
    now = await ask()
    if not Output().terminal:
        return await _lines(ask, now)
    sys.stdout.write(_OPEN)
    try:
        return await _pictures(ask, show, now)
    finally:
        sys.stdout.write(_CLOSE)
        sys.stdout.flush()


async def _pictures(
    ask: Callable[[], Awaitable[Overview]],
    show: Callable[[Overview, Output], None],
    now: Overview,
) -> int:
    silent = ""
    while True:
        screen = _Screen()
        if silent:
            screen.line(screen.paint(f"no answer; what is below is old: {silent}", "red"))
        show(now, screen)
        screen.draw()
        await asyncio.sleep(_EVERY)
        try:
            now, silent = await ask(), ""
        except Disconnected as error:
            silent = str(error)


class _Screen(Output):
    """Lines that are drawn together, over those before, as many as there is room for."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[str] = []

    def line(self, text: str) -> None:
        self._rows.append(text)

    def draw(self) -> None:
        """Show them; a line that is wider than the terminal goes on in the next one."""
        room = shutil.get_terminal_size().lines - 1
        rows = self._rows
        if len(rows) > room:
            more = f"and {len(rows) - room + 1:,} more lines; see: datasync status"
            rows = [*rows[: max(0, room - 1)], self.paint(more, "dim")]
        sys.stdout.write(_HOME + "".join(row + _LINE_END for row in rows) + _REST)
        self.flush()


async def _lines(ask: Callable[[], Awaitable[Overview]], now: Overview) -> int:
    output = Output()
    known: dict[str, str] = {}
    said = dict(_facts(now))
    while True:
        clock = time.strftime("%H:%M:%S")
        for name in [*said, *(known.keys() - said.keys())]:
            text = said.get(name, "gone")
            if text != known.get(name):
                output.line(f"{clock} {name}: {text}")
        output.flush()
        known = said
        await asyncio.sleep(_EVERY)
        try:
            said = dict(_facts(await ask()))
        except Disconnected as error:
            said = known | {f"agent {now.name}": f"no answer: {error}"}


def _facts(now: Overview) -> Iterator[tuple[str, str]]:
    """What is said of the agent, of each source and of each watch, without what changes all the
    time."""
    for source in now.sources:
        why = f": {source.error}" if source.error else ""
        yield source.name, source.state + why
    for watch in now.watches:
        failing, text = watch.failing, watch.state
        if failing is not None:
            refused = "".join(f"; {key}: {reason}" for key, reason in failing.keys.items())
            text += f": {failing.why}{refused}"
        opened = (f"; {key}: {said.verdict}, {said.reason}" for key, said in watch.open.items())
        yield watch.name, text + "".join(opened)
    # the last, for a source may have the same name
    yield f"agent {now.name}", "ready" if now.ready else "not ready"
