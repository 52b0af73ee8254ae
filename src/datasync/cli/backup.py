"""backup, restore: a store as one file that can be put back, while others use it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from datasync import Source, open_url
from datasync.cli.parser import Command, Positional
from datasync.cli.sources import existing
from datasync.errors import UsageError
from datasync.terminal.output import Output, Progress, many
from datasync.terminal.process import run

if TYPE_CHECKING:
    from datasync.kvdbsync.sqlite import SqliteSource

__all__ = ["COMMANDS"]


def _sqlite(source: Source, instead: str) -> SqliteSource:
    from datasync.kvdbsync.sqlite import SqliteSource  # here, for no other command need wait for it

    if not isinstance(source, SqliteSource):
        raise UsageError(
            f"{source.name} is not a file of ours; use the backup of its server, or: {instead}"
        )
    return source


def _backup(options: argparse.Namespace) -> int:
    source = _sqlite(existing(options.url), "datasync dump URL -o FILE")

    async def work() -> int:
        try:
            with Progress("bytes", 0) as progress:
                size = await source.backup(options.file, progress.update)
        finally:
            await source.aclose()
        Output().line(f"backed up to {options.file}: {many(size, 'byte')}")
        return 0

    return run(work())


def _restore(options: argparse.Namespace) -> int:
    source = _sqlite(open_url(options.url), "datasync load URL FILE")

    async def work() -> int:
        try:
            with Progress("keys", 0) as progress:
                keys, revision = await source.restore(options.file, progress.update)
        finally:
            await source.aclose()
        Output().line(f"restored {many(keys, 'key')}, revision {revision}")
        return 0

    return run(work())


COMMANDS = (
    Command(
        "backup",
        "write the state of a SQLite store to a file, while others use the store",
        (
            Positional("url", "URL", "the store, for example sqlite:///file.db"),
            Positional("file", "FILE", "the file to write; it appears once it is complete"),
        ),
        lambda parser: None,
        _backup,
        """
datasync backup sqlite:///net.db net-backup.db
""",
        urls=1,
    ),
    Command(
        "restore",
        "replace everything in a SQLite store with a backup, while others use the store",
        (
            Positional("file", "FILE", "a file written by `datasync backup`"),
            Positional(
                "url", "URL", "the store, for example sqlite:///file.db; made where there is none"
            ),
        ),
        lambda parser: None,
        _restore,
        """
datasync restore net-backup.db sqlite:///net.db
""",
        urls=1,
        url_last=True,
    ),
)
