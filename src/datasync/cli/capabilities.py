"""capabilities: show what each kind of source guarantees, as a table."""

from __future__ import annotations

import argparse

import msgspec

from datasync.capabilities import Capabilities
from datasync.cli.parser import Command, Positional, json_option
from datasync.errors import BadUrl, DataSyncError
from datasync.terminal.output import Output
from datasync.transports import open_url, schemes

__all__ = ["COMMANDS"]

# The least that a URL of some scheme may consist of; making a Source of it connects to nothing.
_FORMS = ("{}://", "{}:///example", "{}://localhost", "{}://localhost:1", "{}://localhost/example")


def _of_scheme(scheme: str) -> Capabilities:
    problem: DataSyncError | None = None
    for form in _FORMS:
        try:
            return open_url(form.format(scheme)).capabilities
        except BadUrl as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _run(options: argparse.Namespace) -> int:
    output = Output(options.json)
    known = schemes()
    rows: dict[str, Capabilities | str] = {}
    for name in options.what or known:
        try:
            rows[name] = open_url(name).capabilities if "://" in name else _of_scheme(name)
        except DataSyncError as error:
            if options.what:
                raise
            rows[name] = str(error)
    names = [name if "://" not in name else open_url(name).name for name in rows]
    if output.json:
        for name, row in zip(names, rows.values(), strict=True):
            output.record(
                source=name,
                **({"error": row} if isinstance(row, str) else msgspec.to_builtins(row)),
            )
        return 0
    fields = [field.name for field in msgspec.structs.fields(Capabilities)]
    width = max(map(len, names))
    output.line("  ".join(["".ljust(width), *fields]))
    for name, row in zip(names, rows.values(), strict=True):
        if isinstance(row, str):
            output.line(f"{name.ljust(width)}  {row}")
            continue
        cells = [_cell(output, getattr(row, field), len(field)) for field in fields]
        output.line("  ".join([name.ljust(width), *cells]).rstrip())
    return 0


def _cell(output: Output, value: bool | int | str | None, width: int) -> str:
    if not isinstance(value, bool):
        return ("any" if value is None else str(value)).ljust(width)
    return output.paint(("yes" if value else "no").ljust(width), "green" if value else "yellow")


def _options(parser: argparse.ArgumentParser) -> None:
    json_option(parser)


COMMANDS = (
    Command(
        "capabilities",
        "show what each kind of source guarantees",
        (
            Positional(
                "what",
                "URL|SCHEME",
                "only these sources or schemes (default: all schemes)",
                required=False,
                many=True,
            ),
        ),
        _options,
        _run,
        """
datasync capabilities
datasync capabilities memory sqlite:///net.db
datasync capabilities --json
""",
    ),
)
