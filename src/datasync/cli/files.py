"""load, dump, diff: a store as a file."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

from datasync import DataSync, Source, Verdict, open_url
from datasync.checks import check_key, check_prefix
from datasync.cli.formats import (
    FORMATS,
    READ_FORMATS,
    BadFile,
    Entry,
    Keys,
    Loadable,
    format_named,
    opened,
    writer,
)
from datasync.cli.output_file import output_file
from datasync.cli.parser import Command, Positional, count, json_option, source_options
from datasync.cli.sources import connect, existing, hears_verdicts
from datasync.documents import KeyTemplate
from datasync.errors import DataSyncError, NotApplied, UsageError
from datasync.keyspace import KeySpace
from datasync.scopes import Scopes
from datasync.terminal.output import Output, Progress, fields, many, shown
from datasync.terminal.process import complain, run
from datasync.texts import printable

__all__ = ["COMMANDS"]

_BATCH = 1000


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


def _load_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch",
        type=count,
        metavar="N",
        help=f"keys per transaction (default: {_BATCH}, or as many as the source takes)",
    )
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
    _keys_options(parser)
    _format_option(parser, "jsonl for standard input")
    source_options(parser)


def _load(options: argparse.Namespace) -> int:
    # a RESYNC replaces what an agent holds: it never begins a store
    source = existing(options.url) if options.resync else open_url(options.url)
    sync = connect(source, options)
    keys = KeySpace.of(options.label, options.prefix)
    with opened(options.file, options.format, _keys(options)) as file:
        # everything is read and checked before the first write
        try:
            total = file.check(keys.check_key)
        except BadFile as error:
            raise DataSyncError(f"{error}; nothing was written") from None
        if nested := file.nested():
            complain(
                f"{many(nested, 'key')} without a slash hold{'s' if nested == 1 else ''} a "
                "mapping, loaded as one JSON object; --flatten / makes a key of each leaf"
            )
        if options.resync:
            if not total and not options.allow_empty:
                raise UsageError(
                    f"{file.name} holds no keys, and --resync would delete everything; nothing was "
                    "written; add --allow-empty if that is what you want"
                )
            return run(_resync(sync, source, keys.root, file, total))
        batch = options.batch or min(_BATCH, source.capabilities.max_operations or _BATCH)
        return run(_write(sync, source, file, total, batch))


async def _resync(sync: DataSync, source: Source, root: str, file: Loadable, total: int) -> int:
    async with sync:
        committed = await source.replace((root + entry.key, entry.raw) for entry in file)
        result = await committed.verdict()
    if result.verdict is not Verdict.ACCEPTED:
        raise NotApplied(result.verdict, result.reasons, committed.revision)
    Output().line(f"sent a RESYNC of {many(total, 'key')}, revision {committed.revision}")
    return 0


async def _write(sync: DataSync, source: Source, file: Loadable, total: int, batch: int) -> int:
    transactions = source.capabilities.transactions
    done = commits = 0
    revision = None
    async with sync:
        confirm = hears_verdicts(source)
        try:
            with Progress("keys", total) as progress:
                if not transactions:
                    complain(f"{source.name} has no transactions: the keys are written one by one")
                    batch = 1
                for entries in _batches(file, batch):
                    if transactions:
                        txn = sync.txn()
                        for entry in entries:
                            txn.put(entry.key, entry.raw)
                        revision = await txn.commit(confirm=confirm)
                    else:
                        revision = await sync.put(entries[0].key, entries[0].raw, confirm=confirm)
                    done, commits = done + len(entries), commits + 1
                    progress.update(done)
        except asyncio.CancelledError:
            if done:
                complain(f"ended early; at least {_so_far(done, total)}; load it again")
            raise
        except BadFile:
            raise DataSyncError(
                f"{file.name} was changed while it was read; {_so_far(done, total)}; load it again"
            ) from None
        except DataSyncError as error:
            if done:
                raise DataSyncError(f"{error} ({_so_far(done, total)}; load it again)") from error
            raise
    unit = "transaction" if transactions else "write"
    at = "" if revision is None else f", revision {revision}"
    Output().line(f"loaded {many(done, 'key')} in {many(commits, unit)}{at}")
    return 0


def _so_far(done: int, total: int) -> str:
    return f"{done:,} of {total:,} keys were written before"


def _batches(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


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
    kind = options.format or format_named(options.output)
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
    _keys_options(parser)
    _format_option(parser, "jsonl for standard input")
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
        return (
            1 if _show_difference(Output(options.json), sides[options.a], sides[options.b]) else 0
        )

    return run(work())


def _file_contents(name: str, format: str | None, keys: Keys, under: str) -> dict[str, bytes]:
    wanted = Scopes([under])
    with opened(name, format, keys) as file:
        file.check(lambda key: check_key(key, rooted=False))
        return {entry.key: entry.raw for entry in file if entry.key in wanted}


def _show_difference(output: Output, a: Mapping[str, bytes], b: Mapping[str, bytes]) -> bool:
    """Whether there is one."""
    different = False
    for key in sorted(a.keys() | b.keys()):
        old, new = a.get(key), b.get(key)
        if old == new:
            continue
        different = True
        if output.json:
            op = "added" if old is None else "removed" if new is None else "changed"
            values = ({} if new is None else fields("value", new)) | (
                {} if old is None else fields("prev", old)
            )
            output.record(op=op, key=key, **values)
        elif old is None:
            output.line(output.paint(f"+ {printable(key)}  {shown(new or b'')}", "green"))
        elif new is None:
            output.line(output.paint(f"- {printable(key)}  {shown(old)}", "red"))
        else:
            output.line(output.paint(f"~ {printable(key)}  {shown(old)} -> {shown(new)}", "yellow"))
    return different


_URL = Positional("url", "URL", "the source, for example sqlite:///file.db")
_FILE_NAMES = (
    "*.jsonl (a line for each key), *.json, *.yaml or *.toml (a mapping), *.env, or a directory of "
    "such files"
)

COMMANDS = (
    Command(
        "load",
        "write the keys of a file into a source, in atomic batches",
        (_URL, Positional("file", "FILE", f"{_FILE_NAMES}; '-' is standard input")),
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
            Positional("a", "A", f"a URL, or a file: {_FILE_NAMES}"),
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
