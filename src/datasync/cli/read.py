"""watch, get, ls: the commands that read a source."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from datasync import Change, Event, Op, Refused, ResyncEvent
from datasync.cli.parser import Command, Positional, count, json_option, source_options
from datasync.cli.programs import check_program, ending, run_program
from datasync.cli.sources import connect, existing
from datasync.errors import DataSyncError, UsageError
from datasync.terminal.output import Output, fields, many, shown
from datasync.terminal.process import complain, run
from datasync.texts import printable

__all__ = ["COMMANDS"]

REFUSED = 65
"""The exit code of a program that refuses an event for good: EX_DATAERR of sysexits.h."""
_PROGRAM_TIMEOUT = 30.0
"""Seconds that a program has for a CHANGE before it is overdue: it has to start first."""


def _watch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--count", type=count, metavar="N", help="stop after N events (a RESYNC counts as one)"
    )
    source_options(parser)
    json_option(parser)


def _watch(options: argparse.Namespace) -> int:
    async def show(event: Event[bytes]) -> bool:
        _show_event(output, event)
        output.flush()
        return True

    async def work() -> int:
        left = options.count
        sync = connect(existing(options.url), options)
        events = sync.watch("watch", *(options.under or [""]), ack_timeout=ack_timeout)
        async with sync:
            async for event in events:
                if await take(event) and left is not None:
                    left -= 1
                    if left == 0:
                        event.done()
                        return 0
        return 0

    output = Output(options.json)
    take: Callable[[Event[bytes]], Awaitable[bool]] = show
    ack_timeout = None
    if options.command:
        if options.json:
            raise UsageError("COMMAND is given JSON in any case; leave out --json")
        check_program(options.command[0])
        take, ack_timeout = _Handler(options.command).take, _PROGRAM_TIMEOUT
    return run(work())


class _Handler:
    """A program that is run for each event, and whose exit code is the verdict."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._name = printable(command[0])
        self._said = ""

    async def take(self, event: Event[bytes]) -> bool:
        """Whether the event is settled: it is not brought again."""
        given = msgspec.json.encode(_event_record(event)) + b"\n"
        try:
            code = await run_program(self._command, given)
            outcome = ending(code)
        except OSError as error:
            code, outcome = 1, f"cannot be run: {error.strerror}"
        if code == 0:
            if self._said:
                complain(f"{self._name} succeeded again")
            self._said = ""
            return True

        outcome = f"{self._name} {outcome}"
        if code == REFUSED:
            complain(f"{outcome}: refused")
            event.done(Refused(outcome))
            return True
        if outcome != self._said:  # while it stays like that it is said once
            complain(f"{outcome}; trying again")
        self._said = outcome
        event.done(DataSyncError(outcome))
        return False


def _event_record(event: Event[bytes]) -> dict[str, Any]:
    """An event as one JSON object."""
    record: dict[str, Any] = {"op": "change", "revision": event.revision}
    if isinstance(event, ResyncEvent):
        pairs = {kv.key: kv for values in event.values.values() for kv in values}
        record = {"op": "resync", "reason": event.reason, "revision": event.revision}
        record["values"] = [
            {"key": key, **fields("value", pairs[key].raw), "revision": pairs[key].revision}
            for key in sorted(pairs)
        ]
    record["changes"] = [_record(change) for change in event.changes]
    return record


def _show_event(output: Output, event: Event[bytes]) -> None:
    """One line for a RESYNC, and one for each change; together they always lead
    to the state of the source."""
    if isinstance(event, ResyncEvent):
        keys = len({kv.key for values in event.values.values() for kv in values})
        if output.json:
            output.record(op="resync", reason=event.reason, revision=event.revision, keys=keys)
        else:
            output.line(
                output.paint(
                    f"RESYNC ({event.reason}) @{event.revision}: {many(keys, 'key')}", "cyan"
                )
            )
    mark = f"@{event.revision}"
    for change in event.changes:
        if output.json:
            output.record(**_record(change))
            continue
        output.line(f"{output.paint(mark, 'dim')} {_change_line(output, change)}")
        mark = " " * len(mark)  # the changes of one transaction stand together


def _record(change: Change[bytes]) -> dict[str, Any]:
    record: dict[str, Any] = {"op": change.op.value, "key": change.key}
    if change.raw is not None:
        record |= fields("value", change.raw)
    record |= {"prev": None} if change.prev is None else fields("prev", change.prev.raw)
    return record | {"revision": change.revision}


def _change_line(output: Output, change: Change[bytes]) -> str:
    key, prev = printable(change.key), change.prev
    if change.op is Op.DELETE:
        was = "" if prev is None else "  " + output.paint(shown(prev.raw), "dim")
        return f"{output.paint('DELETE', 'red')} {key}{was}"
    was = "" if prev is None else output.paint(f"{shown(prev.raw)} -> ", "dim")
    return f"{output.paint('PUT', 'green')} {key}  {was}{shown(change.raw or b'')}"


def _get_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--raw", action="store_true", help="print the bytes as they are, and nothing else"
    )
    source_options(parser)
    json_option(parser)


def _get(options: argparse.Namespace) -> int:
    async def work() -> int:
        async with connect(existing(options.url), options) as sync:
            found = await sync.get(options.key)
        if found is None:
            raise DataSyncError(f"there is no key {options.key!r}; see the keys with: datasync ls")
        if options.raw:
            sys.stdout.buffer.write(found.raw)
        elif output.json:
            output.record(key=found.key, **fields("value", found.raw), revision=found.revision)
        elif output.terminal:
            output.line(shown(found.raw, lines=True))
        else:
            sys.stdout.buffer.write(_text(found.raw) + b"\n")
        return 0

    if options.raw and options.json:
        raise UsageError("--raw and --json exclude each other")
    output = Output(options.json)
    return run(work())


def _text(raw: bytes) -> bytes:
    """A value for a script: a text as it is, whatever the locale."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return shown(raw).encode()
    return raw


def _ls_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-l", "--long", action="store_true", help="show revisions and values too")
    source_options(parser)
    json_option(parser)


def _ls(options: argparse.Namespace) -> int:
    async def work() -> int:
        async with connect(existing(options.url), options) as sync:
            async for kv in sync.list(options.under or "", keys_only=not options.long):
                if output.json:
                    value = fields("value", kv.raw) if options.long else {}
                    output.record(key=kv.key, **value, revision=kv.revision)
                elif options.long:
                    output.line(
                        f"{output.paint(f'@{kv.revision}', 'dim')} {printable(kv.key)}  "
                        f"{shown(kv.raw)}"
                    )
                else:
                    output.line(printable(kv.key))
        return 0

    output = Output(options.json)
    return run(work())


_URL = Positional("url", "URL", "the source, for example sqlite:///file.db")

COMMANDS = (
    Command(
        "watch",
        "show what a source holds, then every change as it comes; or run COMMAND for each event",
        (
            _URL,
            Positional(
                "under",
                "PREFIX",
                "watch the keys under these prefixes (default: all)",
                required=False,
                many=True,
            ),
        ),
        _watch_options,
        _watch,
        """
datasync watch sqlite:///net.db
datasync watch sqlite:///net.db config/interface/ config/route/
datasync watch sqlite:///net.db --json | jq .key
datasync watch sqlite:///net.db --count 1        # what is there now
datasync watch sqlite:///net.db config/ -- ./apply.py   # once for each event
""",
        urls=1,
        follows=True,
        runs=True,
    ),
    Command(
        "get",
        "print the value of a key",
        (_URL, Positional("key", "KEY", "the key")),
        _get_options,
        _get,
        """
datasync get sqlite:///net.db config/mtu
datasync get sqlite:///net.db config/logo --raw > logo.png
DATASYNC_URL=sqlite:///net.db datasync get config/mtu
""",
        urls=1,
    ),
    Command(
        "ls",
        "list the keys under a prefix",
        (
            _URL,
            Positional(
                "under", "PREFIX", "list the keys under this prefix (default: all)", required=False
            ),
        ),
        _ls_options,
        _ls,
        """
datasync ls sqlite:///net.db
datasync ls sqlite:///net.db -l config/
datasync ls sqlite:///net.db --label vpp1 --json
""",
        urls=1,
    ),
)
