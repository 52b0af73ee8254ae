"""What the demo prints: headings, events in words, and checks, which are counted."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap

from datasync import Change, KeyVal, ResyncEvent
from datasync.demo.agent import Applied
from datasync.demo.network_pb2 import Interface, Route
from datasync.terminal.output import Output, many
from datasync.texts import printable

__all__ = ["Screen", "in_words"]

_MANY = 8
_STATES = ("unknown", "down", "up")


class Screen:
    """Standard output, in colours where that is a terminal that wants them."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        self._output = Output()
        self.heading = "the start"
        self.held = 0
        self.failed = 0

    def head(self, text: str) -> None:
        """Begin a step."""
        self.heading = text
        self._output.line("\n" + self._output.paint(self._wrapped(text, 3), "cyan"))

    def say(self, text: str) -> None:
        """One line of the step."""
        indent = len(text) - len(text.lstrip()) + 2
        self._output.line(self._wrapped(f"  {printable(text)}", indent + 4))

    def check(self, what: str, held: bool) -> None:
        """Say what has to hold, and whether it does."""
        mark, colour = ("ok    ", "green") if held else ("failed", "red")
        text = self._wrapped(f"  {mark} {printable(what)}", 9)
        self._output.line(text.replace(mark, self._output.paint(mark, colour), 1))
        self.held += held
        self.failed += not held

    def show(self, applied: Applied) -> None:
        """An event that a part of the agent has applied, and what it refused of it."""
        event = applied.event
        if isinstance(event, ResyncEvent):
            pairs = [pair for values in event.values.values() for pair in values]
            self.say(
                f"{applied.part}: RESYNC ({event.reason}) at revision {event.revision}, "
                f"{many(len(pairs), 'key')}"
            )
            lines = [f"{pair.key}: {in_words(pair.value)}" for pair in pairs[:_MANY]]
            left_out = len(pairs) - _MANY
        else:
            self.say(
                f"{applied.part}: CHANGE at revision {event.revision}, "
                f"{many(len(event.changes), 'key')}"
            )
            lines = [
                self._step(change, applied.refused.get(change.key))
                for change in event.changes[:_MANY]
            ]
            left_out = len(event.changes) - _MANY

        for line in lines:
            self.say(f"    {line}")
        if left_out > 0:
            self.say(f"    ... and {left_out} more")

    def conclude(self) -> int:
        """The last line, and the exit code."""
        every = self.held + self.failed
        text = (
            f"{self.failed} of {every} checks failed" if self.failed else f"all {every} checks held"
        )
        self._output.line("\n" + self._output.paint(text, "red" if self.failed else "green"))
        return 1 if self.failed else 0

    def _wrapped(self, text: str, indent: int) -> str:
        """`text`, on a terminal broken between words, its further lines indented."""
        if not self._output.terminal:
            return text
        return textwrap.fill(
            text,
            max(40, shutil.get_terminal_size().columns),
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _step(self, change: Change[Interface] | Change[Route], refused: str | None) -> str:
        if refused is not None:
            return f"{change.key}: refused, {refused}"
        if change.value is None:
            return f"{change.key}: deleted"
        return f"{change.key}: {_difference(change.prev, change.value)}"


def in_words(message: Interface | Route) -> str:
    """A message as a person would put it."""
    if isinstance(message, Interface):
        return " ".join([_STATES[message.state], f"mtu {message.mtu}", *message.addresses])
    by = f"via {message.gateway} " if message.gateway else ""
    return f"to {message.destination} {by}dev {message.interface} metric {message.metric}"


def _difference(before: KeyVal[Interface] | KeyVal[Route] | None, value: Interface | Route) -> str:
    if before is None:
        return f"new, {in_words(value)}"
    changed = [
        f"{field.name} {getattr(before.value, field.name)} -> {getattr(value, field.name)}"
        for field in value.DESCRIPTOR.fields
        if getattr(before.value, field.name) != getattr(value, field.name)
    ]
    return f"{', '.join(changed)} (before: revision {before.revision})"
