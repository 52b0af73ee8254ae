"""render: a file that is made from a template and the keys of a source, and follows them."""

from __future__ import annotations

import argparse
import os
import pathlib
import stat
import sys
from typing import TYPE_CHECKING

from datasync import ChangeEvent, DataSync, Event, ResyncEvent
from datasync.checks import check_prefix
from datasync.cli.output_file import output_file
from datasync.cli.parser import Command, Positional, source_options
from datasync.cli.programs import ending, run_program
from datasync.cli.sources import connect, existing
from datasync.errors import DataSyncError, UsageError
from datasync.terminal.output import Output
from datasync.terminal.process import complain, run
from datasync.texts import printable
from datasync.transports import load

if TYPE_CHECKING:
    from datasync.cli.templates import Template

__all__ = ["COMMANDS"]

_TIMEOUT = 30.0
"""Seconds for a CHANGE before it is overdue: the program of --then has to start first."""


class _Rendering:
    """A template with the file that is made from it."""

    def __init__(self, template: Template, out: str, then: str | None) -> None:
        self._template = template
        self._out = out
        self._then = then
        self._pairs: dict[str, bytes] = {}
        self._current: bytes | None = None  # what OUT holds; None as long as it is not known
        self._then_due = False
        self._failing = ""

    async def follow(self, sync: DataSync, prefixes: list[str]) -> None:
        """Make the file again at each event that changes it, until cancelled."""
        events = sync.watch("render", *prefixes, ack_timeout=_TIMEOUT)
        async with sync:
            async for event in events:
                self._take(event)
                try:
                    await self.make()
                except DataSyncError as error:
                    if str(error) != self._failing:  # while it stays like that it is said once
                        complain(f"{error}; trying again")
                    self._failing = str(error)
                    event.done(error)
                else:
                    self._failing = ""

    async def once(self, sync: DataSync, prefixes: list[str]) -> None:
        """Make the file from what there is."""
        async with sync:
            for prefix in prefixes:
                self._pairs |= {kv.key: kv.raw async for kv in sync.list(prefix)}
        await self.make()

    def _take(self, event: Event[bytes]) -> None:
        if isinstance(event, ResyncEvent):
            self._pairs = {kv.key: kv.raw for values in event.values.values() for kv in values}
            self._current = None  # it may have been edited meanwhile
        elif isinstance(event, ChangeEvent):
            for change in event.changes:
                if change.raw is None:
                    self._pairs.pop(change.key, None)
                else:
                    self._pairs[change.key] = change.raw

    async def make(self) -> None:
        """Bring the file up to date, and run what is due then. Raises `DataSyncError`."""
        made = self._template.render(self._pairs)
        if self._current is None:
            self._current = _contents(self._out)
        if made != self._current:
            self._write(made)
            self._then_due = self._then is not None
        if self._then_due and self._then is not None:
            # a failure leaves it due: the file was replaced, and nobody else will know
            code = await run_program(["sh", "-c", self._then])
            if code != 0:
                raise DataSyncError(f"--then {ending(code)}")
            self._then_due = False

    def _write(self, made: bytes) -> None:
        with output_file(self._out) as (file, complete):
            file.write(made)
            complete()
        self._current = made
        if self._out == "-":
            sys.stdout.flush()
        else:
            output = Output()
            output.line(f"rendered {printable(self._out)}")
            output.flush()


def _contents(name: str) -> bytes | None:
    """What a regular file holds."""
    try:
        with open(name, "rb") as file:
            return file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except OSError:
        return None  # writing it tells what is wrong


def _render(options: argparse.Namespace) -> int:
    prefixes = options.under or [""]
    for prefix in prefixes:
        check_prefix(prefix)
    if pathlib.Path(options.out).is_fifo():  # which would wait for its reader at each rendering
        raise UsageError(f"{options.out} is a FIFO; write to - and a pipe")
    template = load("datasync.cli.templates:Template", "cli", "render")(options.template)
    rendering = _Rendering(template, options.out, options.then)

    async def work() -> int:
        sync = connect(existing(options.url), options)
        await (rendering.once if options.once else rendering.follow)(sync, prefixes)
        return 0

    return run(work())


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--then",
        metavar="COMMAND",
        help="a shell command that is run each time the file has changed",
    )
    parser.add_argument("--once", action="store_true", help="render the current state, and stop")
    source_options(parser)


COMMANDS = (
    Command(
        "render",
        "make a file from a template and the keys of a source, and again as they change",
        (
            Positional("url", "URL", "the source, for example sqlite:///file.db"),
            Positional(
                "template",
                "TEMPLATE",
                'the template, in the language of Jinja2: data["KEY"] is the text of a key, '
                "under(PREFIX) has those below a prefix, and |from_json takes JSON apart",
            ),
            Positional("out", "OUT", "the file to write, replaced at once; '-' is standard output"),
            Positional(
                "under",
                "PREFIX",
                "only the keys under these prefixes (default: all)",
                required=False,
                many=True,
            ),
        ),
        _options,
        _render,
        """
datasync render sqlite:///net.db hosts.j2 hosts --once
datasync render etcd://127.0.0.1 nginx.j2 /etc/nginx/nginx.conf --then 'nginx -s reload'
""",
        urls=1,
        follows=True,
    ),
)
