"""status: what a status page shows, in the terminal."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from datasync import Report, open_url
from datasync.cli.fleet import gather
from datasync.cli.parser import Command, Positional
from datasync.cli.status_watch import follow
from datasync.codec.shared import UNDECODABLE
from datasync.errors import DataSyncError, UsageError
from datasync.reports.troubles import Trouble, troubles_of
from datasync.status import Failing, OpenKey, SourceStatus, WatchStatus
from datasync.terminal.output import Output, json_line, many
from datasync.terminal.process import run
from datasync.texts import printable, span
from datasync.transports import load

if TYPE_CHECKING:
    from datasync.restsync._overview import Overview

__all__ = ["COMMANDS"]

_COLOURS = {
    "following": "green", "failing": "red", "lost": "red", "overdue": "yellow",
    "connecting": "yellow", "loading": "yellow", "waiting": "yellow", "resyncing": "yellow",
    "refused keys": "yellow", "open keys": "yellow", "well": "green", "stopped": "yellow",
}  # fmt: skip
Row = tuple[tuple[str, ...], list[str]]

_WIDEST = 200
"""Characters of a key that are printed; --json tells all of it."""


def _status(options: argparse.Namespace) -> int:
    if options.agents:
        return run(_agents(options))

    async def work() -> int:
        source = open_url(options.url)
        if not isinstance(source, load("datasync.restsync.client:HttpSource", "rest", "status")):
            raise UsageError(f"status asks a server, not {source.name}; write http://host:port")

        async def ask() -> Overview:
            return _overview(await source.status())

        try:
            if options.watch:
                return await follow(ask, _show)
            if options.check:
                return _check(await ask())
            if options.json:
                data = msgspec.json.format(await source.status(), indent=-1)
                sys.stdout.buffer.write(json_line(data) + b"\n")
            else:
                _show(await ask(), Output())
        except UNDECODABLE as error:
            raise DataSyncError(
                f"{source.name}: its status is not understood ({error}); ask one of this version"
            ) from None
        finally:
            await source.aclose()
        return 0

    return run(work())


async def _agents(options: argparse.Namespace) -> int:
    """What agents report in a store: an exit code of 1 with --check where one is not well."""
    if options.watch:
        raise UsageError("--agents shows a store once; leave out --watch")
    found, output, now = await gather(options.url), Output(options.json), time.time()
    if options.json:
        for prefix, agent, report in found:
            told = {} if report is None else msgspec.to_builtins(report)
            output.record(**{"at": prefix, **told, "agent": agent, "state": _agent_state(report)})
    else:
        rows = [_agent(now, *one) for one in found]
        if options.check:
            rows = [row for row in rows if row[0][1] != "well"]
        if rows:
            _table(output, ("agent", "state", "reported", "revision", "at"), rows)
        else:
            output.line("all well" if found else "no agent reports there")
    well = all(_agent_state(report) == "well" for _, _, report in found)
    return 1 if options.check and not (found and well) else 0


def _agent(now: float, prefix: str, agent: str, report: Report | None) -> Row:
    state = _agent_state(report)
    if report is None:
        return (agent, state, "", "", prefix), []
    revisions = [layer.revision for layer in report.layers]
    cells = (
        printable(agent),
        state,
        f"{span(report.age)} ago",
        ", ".join("-" if revision is None else f"{revision:,}" for revision in revisions),
        printable(prefix),
    )
    return cells, [printable(_line(now, trouble)) for trouble in troubles_of(report)]


def _line(now: float, trouble: Trouble) -> str:
    lasted = f" for {span(now - trouble.since)}" if trouble.since else ""
    reason = f", {trouble.reason}" if trouble.reason else ""
    return f"{_short(trouble.what)}: {trouble.state}{lasted}{reason}"


def _agent_state(report: Report | None) -> str:
    return "unclear" if report is None else report.state


def _overview(data: bytes) -> Overview:
    from datasync.restsync._overview import Overview

    # a foreign server may have sent it
    return msgspec.convert(_printable(msgspec.json.decode(data)), type=Overview)


def _check(now: Overview) -> int:
    """One line for each trouble, or that there is none; the exit code says the same."""
    troubles = [] if now.ready else ["not ready: the state is not complete yet"]
    for source in now.sources:
        if source.state != "following":
            why = f": {source.error}" if source.error else ""
            troubles.append(f"{source.name}: {source.state}{why}")
        elif source.error:  # of a part of it: a file that does not parse
            troubles.append(f"{source.name}: {source.error}")
    for watch in now.watches:
        if watch.failing is not None:
            troubles += [
                f"{watch.name}: {line.strip()}" for line in _failing(now.now, watch.failing)
            ]
        elif watch.state in ("waiting", "overdue"):
            troubles.append(f"{watch.name}: {watch.state}")
        # what is pending waits for its turn, and is well
        failed = {key: said for key, said in watch.open.items() if said.verdict == "failed"}
        troubles += [f"{watch.name}: {line}" for line in _open(failed, 0)]

    output = Output()
    for line in troubles or [f"{now.name}: all well"]:
        output.line(line)
    return 1 if troubles else 0


def _show(now: Overview, output: Output) -> None:
    values = now.rate.values[-3:]
    facts = [
        many(now.keys, "key"),
        f"revision {now.revision:,}",
        f"{sum(values) / max(1, len(values)):,.1f} changes/s",
        many(now.watchers, "remote watcher"),
    ]

    output.line(f"{now.name}  (datasync {now.version}, up {span(now.now - now.started)})")
    output.line(", ".join(facts))
    if not now.ready:
        output.line(output.paint("not ready: the state is not complete yet", "yellow"))

    output.line("")
    _table(
        output,
        ("source", "state", "for", "revision", "came back"),
        [_source(now.now, one) for one in now.sources],
    )

    if now.watches:
        output.line("")
        _table(
            output,
            ("watch", "state", "backlog", "changes", "last resync"),
            [_watch(now.now, one) for one in now.watches],
        )
    if now.more_watches:
        output.line(output.paint(f"and {now.more_watches:,} more", "dim"))


def _printable(value: Any) -> Any:
    """The same with all its text printable."""
    match value:
        case str():
            return printable(value)
        case list():
            return [_printable(one) for one in value]
        case dict():
            return {printable(name): _printable(one) for name, one in value.items()}
        case _:
            return value


def _source(now: float, source: SourceStatus) -> Row:
    cells = (
        source.name,
        source.state,
        span(now - source.since),
        f"{source.revision:,}",
        str(source.reconnects),
    )
    return cells, [source.error] if source.error else []


def _watch(now: float, watch: WatchStatus) -> Row:
    last = watch.resync
    resync = "not yet"
    if last is not None:
        resync = (
            f"{last.reason}, {many(last.keys, 'key')} in {span(last.duration)}, "
            f"{span(now - last.at)} ago"
        )
    refused = watch.failing is not None and watch.state == "following"
    state = "refused keys" if refused else watch.state
    cells = (watch.name, state, f"{watch.backlog:,}", f"{watch.changes:,}", resync)
    failing = [] if watch.failing is None else _failing(now, watch.failing)
    return cells, failing + _open(watch.open, watch.more_open)


def _failing(now: float, failing: Failing) -> list[str]:
    tries = f", try {failing.attempt}" if failing.attempt > 1 else ""
    return [
        f"for {span(now - failing.since)}{tries}: {failing.why}",
        *(f"{_short(key)}: {reason}" for key, reason in failing.keys.items()),
    ]


def _open(keys: Mapping[str, OpenKey], more: int) -> list[str]:
    lines = [
        f"{_short(key)}: {said.verdict}" + (f", {said.reason}" if said.reason else "")
        for key, said in keys.items()
    ]
    return lines + ([f"and {more:,} more"] if more else [])


def _short(key: str) -> str:
    return key if len(key) <= _WIDEST else f"{key[:_WIDEST]}…"


def _table(output: Output, head: tuple[str, ...], rows: list[Row]) -> None:
    widths = [
        max(len(cells[column]) for cells in (head, *(row[0] for row in rows)))
        for column in range(len(head))
    ]
    output.line(output.paint("  ".join(map(str.ljust, head, widths)).rstrip(), "dim"))
    for cells, more in rows:
        padded = list(map(str.ljust, cells, widths))
        if colour := _COLOURS.get(cells[1]):
            padded[1] = output.paint(cells[1], colour) + " " * (widths[1] - len(cells[1]))
        output.line("  ".join(padded).rstrip())
        for line in more:
            output.line(f"    {output.paint(line, 'red')}")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--agents",
        action="store_true",
        help="URL is a store: show all agents that report in it, and what is not applied",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print it as one JSON object")
    shown.add_argument(
        "--check",
        action="store_true",
        help="print only what is wrong; exit code 0: nothing, 1: something, or no answer",
    )
    shown.add_argument(
        "--watch",
        action="store_true",
        help="show it again and again until Ctrl-C; not on a terminal: print a line for each "
        "change",
    )


COMMANDS = (
    Command(
        "status",
        "show the status of an agent: its sources, its watches, and what fails",
        (Positional("url", "URL", "the agent, for example http://127.0.0.1:9191; or a store"),),
        _options,
        _status,
        """
datasync status http://127.0.0.1:9191
datasync status http://127.0.0.1:9191 --check || echo "look after it"
datasync status http://127.0.0.1:9191 --watch
datasync status --agents sqlite:///net.db
datasync status http://127.0.0.1:9191 --json | jq '.watches[] | select(.failing)'
""",
        urls=1,
    ),
)
