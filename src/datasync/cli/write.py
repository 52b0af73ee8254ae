"""put, del: the commands that write one key."""

from __future__ import annotations

import argparse
import re

from datasync import Reports, Source, open_url
from datasync.cli.formats import readable
from datasync.cli.parser import Command, Positional, json_option, revision, seconds, source_options
from datasync.cli.sources import connect, existing, hears_verdicts
from datasync.errors import UsageError
from datasync.terminal.output import Output
from datasync.terminal.process import run, standard_input
from datasync.texts import printable

__all__ = ["COMMANDS"]


def _confirm_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--confirm",
        metavar="PREFIX",
        help="wait, for at most 10 s, until the agents that report below PREFIX have applied it",
    )
    parser.add_argument(
        "--agents",
        metavar="NAMES",
        help="with --confirm: which agents, by name with commas between; or 'any' (default: all)",
    )
    parser.add_argument(
        "--at",
        metavar="URL",
        help="with --confirm: the store that they report in (default: the one that is written to)",
    )


def _confirm(options: argparse.Namespace, source: Source) -> bool | Reports:
    """What the write waits for; to be asked once connected. Raises `UsageError`."""
    if options.confirm is None:
        if options.agents is not None or options.at is not None:
            raise UsageError("--agents and --at say who is to confirm; give --confirm PREFIX too")
        return hears_verdicts(source)
    agents = options.agents or "all"
    if agents not in ("all", "any"):
        agents = [name for name in agents.split(",") if name]
    return Reports(options.confirm, agents=agents, at=options.at)


def _put_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", metavar="F", help="store the bytes of this file")
    parser.add_argument(
        "--ttl", type=seconds, metavar="S", help="time to live: the key is deleted after S seconds"
    )
    parser.add_argument(
        "--if-revision",
        type=revision,
        metavar="R",
        help="only if the key is at revision R (0: does not exist)",
    )
    _confirm_options(parser)
    source_options(parser)
    json_option(parser)


def _put(options: argparse.Namespace) -> int:
    if (options.value is None) == (options.file is None):
        raise UsageError("put takes either a VALUE ('-' reads it from standard input) or --file F")
    if options.file is not None:
        with readable(options.file) as file:
            raw = file.read()
    elif options.value == "-":
        raw = standard_input().read()
    else:
        # what the shell handed over, byte by byte, also where it is not UTF-8
        raw = options.value.encode(errors="surrogateescape")

    async def work() -> int:
        source = open_url(options.url)
        async with connect(source, options) as sync:
            confirm = _confirm(options, source)
            at = await sync.put(
                options.key, raw, ttl=options.ttl, if_revision=options.if_revision, confirm=confirm
            )
        if output.json:
            output.record(op="put", key=options.key, revision=at)
        else:
            output.line("written" if at is None else str(at))
        return 0

    output = Output(options.json)
    return run(work())


def _delete_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        help="delete all keys under KEY, which ends in a slash",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help=r"KEY is a whole key, byte by byte, as the message about a skipped key shows it "
        r"(\xff, \n, \\)",
    )
    parser.add_argument(
        "--if-revision", type=revision, metavar="R", help="only if the key is at revision R"
    )
    _confirm_options(parser)
    source_options(parser)
    json_option(parser)


def _delete(options: argparse.Namespace) -> int:
    raw = _raw_key(options) if options.raw else None

    async def work() -> int:
        source = existing(options.url)
        async with connect(source, options) as sync:
            if raw is not None:
                existed = await source.delete_raw(raw)
            else:
                confirm = _confirm(options, source)
                existed = await sync.delete(
                    options.key,
                    prefix=options.recursive,
                    if_revision=options.if_revision,
                    confirm=confirm,
                )
        if output.json:
            output.record(op="delete", key=options.key, existed=existed)
        else:
            output.line("deleted" if existed else f"there was nothing at {printable(options.key)}")
        return 0

    output = Output(options.json)
    return run(work())


def _raw_key(options: argparse.Namespace) -> bytes:
    """The bytes that KEY spells with --raw. Raises `UsageError`."""
    if options.recursive or options.if_revision is not None:
        raise UsageError("--raw deletes one key as it is; leave out -r and --if-revision")
    if options.confirm is not None or options.agents is not None:
        raise UsageError("--raw deletes a key that no agent sees; leave out --confirm and --agents")
    if options.prefix is not None or options.label is not None:
        raise UsageError(
            "--raw takes a whole key, its prefix included; leave out --prefix and --label"
        )
    return _ESCAPE.sub(_unescaped, options.key.encode(errors="surrogateescape"))


def _unescaped(escape: re.Match[bytes]) -> bytes:
    letter = escape[1]
    if len(letter) == 3:
        return bytes([int(letter[1:], 16)])
    if letter not in _LETTERS:
        raise UsageError(
            r"a backslash in a raw key begins \xff (a byte), \n, \r or \t, or is doubled"
        )
    return _LETTERS[letter]


_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\", b"'": b"'", b'"': b'"'}
"""What Python's own spelling of bytes escapes, beside \\x."""
_URL = Positional("url", "URL", "the source, for example sqlite:///file.db")

COMMANDS = (
    Command(
        "put",
        "store a value under a key, and print the revision",
        (
            _URL,
            Positional("key", "KEY", "the key"),
            Positional("value", "VALUE", "the value; '-' reads standard input", required=False),
        ),
        _put_options,
        _put,
        """
datasync put sqlite:///net.db config/mtu 1500
datasync put sqlite:///net.db config/logo --file logo.png
date | datasync put sqlite:///net.db config/date - --ttl 60
datasync put sqlite:///net.db config/mtu 9000 --if-revision 1
""",
        urls=1,
    ),
    Command(
        "del",
        "delete a key, or with -r all keys under a prefix",
        (_URL, Positional("key", "KEY", "the key, or with -r a prefix")),
        _delete_options,
        _delete,
        """
datasync del sqlite:///net.db config/mtu
datasync del sqlite:///net.db -r config/
datasync del etcd://127.0.0.1:2379 --raw 'config//odd'
datasync del redis://127.0.0.1:6379 --raw 'config/\xff'
""",
        urls=1,
    ),
)
