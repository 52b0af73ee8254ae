"""load, dump, diff: a store as a file."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from datasync import DataSync, Source, Verdict, open_url
from datasync.checks import check_key, check_prefix
from datasync.cli.batches import BATCH, KeyWrite, write_batches
from datasync.cli.difference import differences, show_difference
from datasync.cli.formats import (
    FORMATS,
    READ_FORMATS,
    BadFile,
    Keys,
    Loadable,
    format_named,
    opened,
    writer,
)
from datasync.cli.output_file import output_file
from datasync.cli.parser import Command, Positional, count, json_option, source_options
from datasync.cli.sources import connect, existing
from datasync.documents import KeyTemplate
from datasync.errors import DataSyncError, NotApplied, UsageError
from datasync.keyspace import KeySpace
from datasync.scopes import Scopes
from datasync.terminal.output import Output, many
from datasync.terminal.process import complain, run

__all__ = ["COMMANDS", "FILE_NAMES", "batch_option", "checked", "file_options"]


def _format_option(
    parser: argparse.ArgumentParser, default: str, formats: Sequence[str] = READ_FORMATS
) -> None:
    parser.add_argument(
        "--format",
        choices=formats,
        help=f"the format (default: by the end of the file's name, {default})",
    )


def _keys_options(parser: argparse.ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--flatten",
        type=_separator,
        metavar="SEP",
        help="make a key of each leaf of a nested file: with /, a: {b: 1} is the key a/b",
    )
    either.add_argument(
        "--key-from",
        type=_template,
        metavar="NAME",
        help="the file holds records (a list, several documents, JSON lines), and this member of "
        "each is its key; or a text with such members, like config/{kind}/{metadata.name}",
    )


def _separator(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("give what stands between two names, for example /")
    return text


def _template(text: str) -> KeyTemplate:
    try:
        return KeyTemplate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _keys(options: argparse.Namespace) -> Keys:
    return Keys(options.flatten, options.key_from)


def batch_option(parser: argparse.ArgumentParser) -> None:
    """--batch, for the commands that write a file."""
    parser.add_argument(
        "--batch",
        type=count,
        metavar="N",
        help=f"keys per transaction (default: {BATCH}, or as many as the source takes)",
    )


def file_options(parser: argparse.ArgumentParser) -> None:
    """What tells how a file is read."""
    _keys_options(parser)
    _format_option(parser, "jsonl for standard input")


@contextlib.contextmanager
def checked(
    options: argparse.Namespace, check_key: Callable[[str], None]
) -> Iterator[tuple[Loadable, int]]:
    """The file that is to be written, all of it read and checked, and how many keys it has."""
    with opened(options.file, options.format, _keys(options)) as file:
        try:
            total = file.check(check_key)
        except BadFile as error:
            raise DataSyncError(f"{error}; nothing was written") from None
        if nested := file.nested():
            complain(
                f"{many(nested, 'key')} without a slash hold{'s' if nested == 1 else ''} a "
                "mapping, loaded as one JSON object; --flatten / makes a key of each leaf"
            )
        yield file, total


def _load_options(parser: argparse.ArgumentParser) -> None:
    batch_option(parser)
    parser.add_argument(
        "--resync",
        action="store_true",
        help="replace everything that an agent has been sent before",
    )
    parser.add_argument(
        "--allow-empty",
        action="store_true",
        help="with --resync: also by a file without keys, which deletes everything",
    )
    file_options(parser)
    source_options(parser)
    json_option(parser)


def _load(options: argparse.Namespace) -> int:
    # a RESYNC replaces what an agent holds: it never begins a store
    source = existing(options.url) if options.resync else open_url(options.url)
    sync = connect(source, options)
    keys, output = KeySpace.of(options.label, options.prefix), Output(options.json)
    # everything is read and checked before the first write
    with checked(options, keys.check_key) as (file, total):
        if options.resync:
            if not total and not options.allow_empty:
                raise UsageError(
                    f"{file.name} holds no keys, and --resync would delete everything; nothing was "
                    "written; add --allow-empty if that is what you want"
                )
            return run(_resync(sync, source, keys.root, file, total, output))
        return run(_write(sync, source, file, total, options.batch, output))


async def _resync(
    sync: DataSync, source: Source, root: str, file: Loadable, total: int, output: Output
) -> int:
    async with sync:
        committed = await source.replace((root + entry.key, entry.raw) for entry in file)
        result = await committed.verdict()
    if result.verdict is not Verdict.ACCEPTED:
        raise NotApplied(result.verdict, result.outcomes, committed.revision)
    if output.json:
        output.record(op="resync", keys=total, revision=committed.revision)
    else:
        output.line(f"sent a RESYNC of {many(total, 'key')}, revision {committed.revision}")
    return 0


async def _write(
    sync: DataSync, source: Source, file: Loadable, total: int, size: int | None, output: Output
) -> int:
    async with sync:
        written = await write_batches(sync, source, _writes(file), total, size, "load it again")
    if output.json:
        output.record(op="load", **written.members())
    else:
        output.line(f"loaded {written}")
    return 0


def _writes(file: Loadable) -> Iterator[KeyWrite]:
    try:
        for entry in file:
            yield KeyWrite(entry.key, entry.raw)
    except BadFile:
        raise DataSyncError(f"{file.name} was changed while it was read; load it again") from None


def _dump_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="F",
        default="-",
        help="write this file, once all is read (default, and '-': standard output)",
    )
    _format_option(parser, "jsonl for standard output", FORMATS)
    source_options(parser)


def _dump(options: argparse.Namespace) -> int:
    kind = options.format or format_named(options.output, FORMATS)
    if kind not in FORMATS:
        raise UsageError(f"{kind} files are read, not written; add --format {'|'.join(FORMATS)}")

    async def work(file: BinaryIO, complete: Callable[[], None]) -> int:
        async with connect(existing(options.url), options) as sync:
            with writer(file, kind) as write:
                async for kv in sync.list(options.under or ""):
                    write(kv.key, kv.raw)
            complete()
        return 0

    with output_file(options.output) as (file, complete):
        return run(work(file, complete))


def _diff_options(parser: argparse.ArgumentParser) -> None:
    file_options(parser)
    source_options(parser)
    json_option(parser)


def _diff(options: argparse.Namespace) -> int:
    under = options.under or ""
    check_prefix(under)
    if options.a == options.b == "-":
        raise UsageError("only one of the two can be standard input")
    # files first: they fail at once
    sides = {
        name: _file_contents(name, options.format, _keys(options), under)
        for name in (options.a, options.b)
        if "://" not in name
    }

    async def work() -> int:
        for url in (options.a, options.b):
            if url not in sides:
                async with connect(existing(url), options) as sync:
                    sides[url] = {kv.key: kv.raw async for kv in sync.list(under)}
        output, different = Output(options.json), 0
        for difference in differences(sides[options.a], sides[options.b]):
            show_difference(output, difference)
            different = 1
        return different

    return run(work())


def _file_contents(name: str, format: str | None, keys: Keys, under: str) -> dict[str, bytes]:
    wanted = Scopes([under])
    with opened(name, format, keys) as file:
        file.check(lambda key: check_key(key, rooted=False))
        return {entry.key: entry.raw for entry in file if entry.key in wanted}


_URL = Positional("url", "URL", "the source, for example sqlite:///file.db")
FILE_NAMES = (
    "*.jsonl (a line for each key), *.json, *.yaml or *.toml (a mapping), *.env, or a directory of "
    "such files"
)

COMMANDS = (
    Command(
        "load",
        "write the keys of a file into a source, in atomic batches",
        (_URL, Positional("file", "FILE", f"{FILE_NAMES}; '-' is standard input")),
        _load_options,
        _load,
        """
datasync load sqlite:///net.db net.yaml
datasync load sqlite:///net.db big.jsonl --batch 100000
datasync load sqlite:///net.db nested.yaml --flatten /
datasync load sqlite:///net.db interfaces.json --key-from config/interface/{name}
datasync load sqlite:///net.db /etc/agent/
etcdctl get --prefix config/ -w json | datasync load sqlite:///net.db -
consul kv export config/ | datasync load sqlite:///net.db - --format json
datasync dump sqlite:///a.db | datasync load sqlite:///b.db -
""",
        urls=1,
    ),
    Command(
        "dump",
        "write what a source holds as a file that load reads",
        (_URL, Positional("under", "PREFIX", "only the keys under this prefix", required=False)),
        _dump_options,
        _dump,
        """
datasync dump sqlite:///net.db > net.jsonl
datasync dump sqlite:///net.db config/ -o net.yaml
""",
        urls=1,
    ),
    Command(
        "diff",
        "compare two sources, or a source and a file; exit code 0: equal, 1: different, 2: could "
        "not be compared",
        (
            Positional("a", "A", f"a URL, or a file: {FILE_NAMES}"),
            Positional("b", "B", "the same; shown is what changes on the way from A to B"),
            Positional("under", "PREFIX", "only the keys under this prefix", required=False),
        ),
        _diff_options,
        _diff,
        """
datasync diff sqlite:///a.db sqlite:///b.db
datasync diff sqlite:///a.db net.yaml config/
DATASYNC_URL=sqlite:///a.db datasync diff net.jsonl
""",
        urls=2,
        files=True,
        failed=2,
    ),
)
