"""apply: show how a file differs from a source, then write the difference."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

from datasync import open_url
from datasync.checks import check_prefix
from datasync.cli.batches import KeyWrite, Written, write_batches
from datasync.cli.difference import Difference, differences, show_difference
from datasync.cli.files import FILE_NAMES, batch_option, checked, file_options
from datasync.cli.parser import Command, Positional, json_option, source_options
from datasync.cli.sources import connect, existing
from datasync.errors import UsageError
from datasync.keyspace import KeySpace
from datasync.scopes import Scopes
from datasync.terminal.output import Output
from datasync.terminal.process import run

__all__ = ["COMMANDS"]


def _apply(options: argparse.Namespace) -> int:
    under = options.under or ""
    check_prefix(under)
    wanted = _contents(options, under)
    if options.prune and not wanted and not options.allow_empty:
        where = f" under {under!r}" if under else ""
        raise UsageError(
            f"{options.file} holds no keys{where}, and --prune would delete everything; nothing "
            "was written; add --allow-empty if that is what you want"
        )
    source = existing(options.url) if options.dry_run else open_url(options.url)
    output = Output(options.json)

    async def work() -> int:
        async with connect(source, options) as sync:
            present: dict[str, bytes] = {}
            seen: dict[str, int] = {}
            async for kv in sync.list(under):
                present[kv.key], seen[kv.key] = kv.raw, kv.revision
            if not options.prune:
                present = {key: raw for key, raw in present.items() if key in wanted}

            found = list(differences(present, wanted))
            for difference in found:
                show_difference(output, difference)
            output.flush()  # what is about to be done is shown before it is
            if options.dry_run or not found:
                _sum_up(output, found, None)
                return 1 if found else 0

            # what was shown is what is written: not over what somebody else wrote meanwhile
            guarded = source.capabilities.cas
            writes = [
                KeyWrite(one.key, one.new, seen.get(one.key, 0) if guarded else None)
                for one in found
            ]
            written = await write_batches(
                sync, source, writes, len(writes), options.batch, "apply it again"
            )
        _sum_up(output, found, written)
        return 0

    return run(work())


def _contents(options: argparse.Namespace, under: str) -> dict[str, bytes]:
    keys, scope = KeySpace.of(options.label, options.prefix), Scopes([under])
    with checked(options, keys.check_key) as (file, _):
        return {entry.key: entry.raw for entry in file if entry.key in scope}


def _sum_up(output: Output, found: Sequence[Difference], written: Written | None) -> None:
    """Say how much differed, and how it was written, if it was."""
    counts = Counter(one.op for one in found)
    numbers = {op: counts[op] for op in ("added", "changed", "removed")}
    if output.json:
        output.record(op="apply", **numbers, **({} if written is None else written.members()))
    elif not found:
        output.line("nothing differs")
    else:
        said = ", ".join(f"{number:,} {op}" for op, number in numbers.items())
        output.line(f"{said}; {'nothing was written' if written is None else written}")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only show the difference; exit code 0: none, 1: some, 2: could not be compared",
    )
    parser.add_argument(
        "--prune", action="store_true", help="delete the keys that the file does not have"
    )
    parser.add_argument(
        "--allow-empty",
        action="store_true",
        help="with --prune: also by a file without keys, which deletes everything",
    )
    batch_option(parser)
    file_options(parser)
    source_options(parser)
    json_option(parser)


COMMANDS = (
    Command(
        "apply",
        "show what in a source differs from a file, and write that, in atomic batches",
        (
            Positional("url", "URL", "the source, for example sqlite:///file.db"),
            Positional("file", "FILE", f"{FILE_NAMES}; '-' is standard input"),
            Positional("under", "PREFIX", "only the keys under this prefix", required=False),
        ),
        _options,
        _apply,
        """
datasync apply sqlite:///net.db net.yaml --dry-run
datasync apply sqlite:///net.db net.yaml
datasync apply sqlite:///net.db net.yaml config/ --prune   # delete what it lacks there
""",
        urls=1,
    ),
)
