"""capabilities: show what each kind of source guarantees, as a table."""

from __future__ import annotations

import argparse

import msgspec

from datasync.capabilities import Capabilities
from datasync.cli.parser import Command, Positional, json_option
from datasync.errors import BadUrl, DataSyncError
from datasync.terminal.output import Cell, Output
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
    known_rows = [
        [name, *(_cell(getattr(row, field)) for field in fields)]
        for name, row in zip(names, rows.values(), strict=True)
        if not isinstance(row, str)
    ]
    output.table(["", *fields], known_rows)

    for name, row in zip(names, rows.values(), strict=True):
        if isinstance(row, str):
            output.line(f"{name}  {row}")
    return 0


def _cell(value: bool | int | str | None) -> Cell:
    if not isinstance(value, bool):
        return "any" if value is None else str(value)
    return ("yes", "green") if value else ("no", "yellow")


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
