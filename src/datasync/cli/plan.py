"""plan: what would a file change on a running agent?"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from datasync import open_url
from datasync.checks import check_key, check_prefix
from datasync.cli.difference import Difference, show_difference
from datasync.cli.files import FILE_NAMES, checked, file_options
from datasync.cli.parser import Command, Positional, json_option
from datasync.codec.shared import UNDECODABLE
from datasync.errors import DataSyncError, UsageError
from datasync.scopes import Scopes
from datasync.terminal.output import Output, fields, many
from datasync.terminal.process import complain, run
from datasync.texts import printable
from datasync.transports import load

if TYPE_CHECKING:
    from datasync.reconcile.preview import Preview
    from datasync.restsync.client import HttpSource

__all__ = ["COMMANDS"]

_RECONCILER = re.compile(r"reconcile(-\d+)?")
"""The names of the panels of reconcilers."""
_NAMED = 5
"""Keys of no kind that are named."""


def _plan(options: argparse.Namespace) -> int:
    under = options.under or ""
    check_prefix(under)
    scope = Scopes([under])
    with checked(options, lambda key: check_key(key, rooted=False)) as (file, _):
        put = {entry.key: entry.raw for entry in file if entry.key in scope}
    source = open_url(options.url)
    if not isinstance(source, load("datasync.restsync.client:HttpSource", "rest", "plan")):
        raise UsageError(f"plan asks an agent, not {source.name}; write http://host:port")
    output = Output(options.json)

    async def work() -> int:
        try:
            preview = await _asked(source, put, under if options.prune else None)
        finally:
            await source.aclose()
        _show(output, preview)
        return 0 if preview.changes_nothing else 1

    return run(work())


async def _asked(source: HttpSource, put: dict[str, bytes], prune: str | None) -> Preview:
    """What the agent says: all its reconcilers, one after the other."""
    from datasync.reconcile.preview import PlanRequest, Preview  # nobody else is to wait for it
    from datasync.restsync._overview import Overview

    try:
        names = msgspec.json.decode(await source.status(), type=Overview).panels
        request = msgspec.json.encode(PlanRequest(put, prune))
        answers = [
            msgspec.json.decode(await source.ask(name, "plan", request), type=Preview)
            for name in names
            if _RECONCILER.fullmatch(name)
        ]
    except UNDECODABLE as error:
        raise DataSyncError(
            f"{source.name}: its answer is not understood ({error}); ask one of this version"
        ) from None
    if not answers:
        raise DataSyncError(
            f"{source.name} has no reconciler; plan asks the address of serve_status(), of a "
            "mounted status_app(), or of the rest:// source, of an agent that runs one"
        )
    return Preview(
        [one for answer in answers for one in answer.operations],
        [one for answer in answers for one in answer.unapplied],
        {key: why for answer in answers for key, why in answer.undecodable.items()},
        sorted(set.intersection(*(set(answer.ignored) for answer in answers))),
    )


def _show(output: Output, preview: Preview) -> None:
    for one in preview.operations:
        if output.json:
            output.record(
                op=one.verb.value,
                key=one.key,
                **({} if one.new is None else fields("value", one.new)),
                **({} if one.old is None else fields("prev", one.old)),
            )
        else:
            show_difference(output, Difference(one.key, one.old, one.new))
    for left in preview.unapplied:
        _show_left(output, left.state.value, left.key, left.reason)
    for key, why in preview.undecodable.items():
        _show_left(output, "undecodable", key, why)
    _sum_up(output, preview)


def _show_left(output: Output, what: str, key: str, reason: str) -> None:
    """A key that would not be applied."""
    if output.json:
        output.record(op=what, key=key, reason=reason)
    else:
        text = f"! {printable(key)}  {what}" + (f": {printable(reason)}" if reason else "")
        output.line(output.paint(text, "yellow"))


def _sum_up(output: Output, preview: Preview) -> None:
    counts = Counter(one.verb.value for one in preview.operations)
    numbers = {verb: counts[verb] for verb in ("create", "update", "delete")}
    left = len(preview.unapplied) + len(preview.undecodable)
    if output.json:
        output.record(op="plan", **numbers, unapplied=left, ignored=preview.ignored)
        return
    if preview.ignored:
        named = ", ".join(map(printable, preview.ignored[:_NAMED]))
        more = "" if len(preview.ignored) <= _NAMED else ", ..."
        complain(f"{many(len(preview.ignored), 'key')} of no kind there: {named}{more}")
    if preview.changes_nothing:
        output.line("nothing would change")
    else:
        said = ", ".join(f"{number:,} {verb}" for verb, number in numbers.items())
        output.line(f"{said}, {left:,} not applied; nothing was done")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prune", action="store_true", help="as if the keys were deleted that the file lacks"
    )
    file_options(parser)
    json_option(parser)


COMMANDS = (
    Command(
        "plan",
        "show what a file would change on a running agent that reconciles objects, without "
        "changing anything; exit code 0: nothing, 1: something, 2: it could not be asked",
        (
            Positional("url", "URL", "the status address of the agent: http://127.0.0.1:9191"),
            Positional("file", "FILE", f"{FILE_NAMES}; '-' is standard input"),
            Positional("under", "PREFIX", "only the keys under this prefix", required=False),
        ),
        _options,
        _plan,
        """
datasync plan http://127.0.0.1:9191 net.yaml
datasync plan http://127.0.0.1:9191 net.yaml config/ --prune
datasync plan 'http://agent:9191?token=...' net.yaml --json | jq 'select(.op == "delete")'
""",
        urls=1,
        failed=2,
    ),
)
