"""Writes the tables of the docs that come out of the code.

`make docs` runs it; a test compares without writing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from datasync.capabilities import Capabilities
from datasync.source import Source
from datasync.transports import open_url

GUARANTEES = Path(__file__).parent.parent / "docs" / "guarantees.md"
BEGIN, END = "<!-- capabilities: begin -->\n", "<!-- capabilities: end -->\n"
# Nothing is connected by opening a URL; this one only has to be well-formed
REST_OF_URL = {
    "memory": "", "sqlite": "/example.db", "file": "/etc/agent/",
    "etcd": "127.0.0.1:2379", "etcds": "127.0.0.1:2379",
    "redis": "127.0.0.1:6379", "rediss": "127.0.0.1:6379", "redis+sentinel": "127.0.0.1:26379/name",
    "redis+cluster": "127.0.0.1:6379", "kafka": "127.0.0.1/topic", "kafkas": "127.0.0.1/topic",
    "grpc": "127.0.0.1:9111", "grpcs": "127.0.0.1:9111",
    "grpc+watch": "127.0.0.1:9111", "grpcs+watch": "127.0.0.1:9111",
    "rest": "127.0.0.1:9191", "rests": "127.0.0.1:9191", "http": "127.0.0.1:9191",
    "https": "127.0.0.1:9191",
}  # fmt: skip


def capabilities_table() -> str:
    """A Markdown table: one row a capability, one column a transport with all its schemes."""
    columns: dict[type[Source], tuple[str, Capabilities]] = {}
    for scheme, rest in REST_OF_URL.items():
        source = open_url(f"{scheme}://{rest}")
        head = columns[type(source)][0] + " " if type(source) in columns else ""
        columns[type(source)] = (f"{head}`{scheme}://`", source.capabilities)
    lines = [["", *(head for head, _ in columns.values())], ["---"] * (len(columns) + 1)]
    lines.extend(
        [f"`{field.name}`", *(_cell(getattr(value, field.name)) for _, value in columns.values())]
        for field in msgspec.structs.fields(Capabilities)
    )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(value: bool | int | str | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "any" if value is None else str(value)


def with_table(text: str) -> str:
    """The document with the table as the code has it now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(
            f"{GUARANTEES}: the marks around the table are gone; put {BEGIN.strip()} and "
            f"{END.strip()} back"
        )
    return before + BEGIN + capabilities_table() + END + after


def main() -> int:
    """Write the table where it changed."""
    text = GUARANTEES.read_text()
    GUARANTEES.write_text(with_table(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
