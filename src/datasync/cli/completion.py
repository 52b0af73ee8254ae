"""completion: what a Tab completes in bash, zsh and fish, by argcomplete (needs the extra `cli`).

The script that the command prints asks `datasync` itself, which parses the unfinished line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import os
import re
from collections.abc import Iterable, Sequence

from datasync.cli.config import Context, chosen_context, read_config
from datasync.cli.parser import ENVIRONMENT, Command, Positional, build_parser
from datasync.cli.sources import connect, existing
from datasync.errors import UsageError
from datasync.terminal.output import Output
from datasync.transports import load, schemes

__all__ = ["COMMANDS", "complete"]

_FILES = ("FILE", "F", "A", "B", "TEMPLATE", "OUT")
"""The options and positionals whose value is a file."""
_SOURCES = ("URL", "SRC", "DST", "A", "B", "URL|SCHEME")
_KEYS = ("KEY", "PREFIX")
_STORES = re.compile(r"(sqlite|etcds?|rediss?(\+\w+)?|https?|grpcs?\+watch)://")
"""What can be asked for its keys: agents would be started by that, and a topic read from its
beginning."""
_PATIENCE = 1.0
"""Seconds that a source has to tell its keys."""


def complete(commands: Sequence[Command]) -> None:
    """Answer the Tab that the environment tells of, and end the process."""
    logging.disable()
    line = os.environ["COMP_LINE"]
    if "://" not in line and (os.environ.get(ENVIRONMENT) or _context(line) is not None):
        # the URL was left out: what stands in its place is the argument after it
        commands = [
            command._replace(positionals=[p for p in command.positionals if p.name != "url"])
            for command in commands
        ]

    top, _ = build_parser(commands, completing=True)
    load("argcomplete:autocomplete", "cli", "completion")(top, default_completer=_values)


def _context(line: str) -> Context | None:
    """The context that is used for this line."""
    named = re.search(r"--context[ =](\S+)", line)
    with contextlib.suppress(UsageError), contextlib.redirect_stderr(io.StringIO()):
        chosen = chosen_context(named[1] if named else None)
        return None if chosen is None else chosen[1]
    return None


def _values(
    *, prefix: str, action: argparse.Action, parsed_args: argparse.Namespace, **_: object
) -> Iterable[str]:
    """The values of an option or a positional that has no choices."""
    kind = action.metavar
    values: list[str] = []
    if kind in _FILES:
        values += load("argcomplete:FilesCompleter", "cli", "completion")()(prefix)
    if kind in _SOURCES:
        values += [f"{scheme}://" for scheme in schemes()]
    if kind == "NAME":
        with contextlib.suppress(UsageError), contextlib.redirect_stderr(io.StringIO()):
            values += read_config().contexts
    if kind in _KEYS:
        values += _keys(parsed_args, prefix, prefixes=kind == "PREFIX")
    return values


def _keys(options: argparse.Namespace, begun: str, *, prefixes: bool) -> list[str]:
    """The keys, or only the prefixes, that go on where `begun` ends, up to the next slash."""
    url = getattr(options, "url", None) or os.environ.get(ENVIRONMENT, "")
    if not url and (context := _context(os.environ["COMP_LINE"])):
        url = context.full_url()
        if getattr(options, "label", "") is None and options.prefix is None:
            options.label, options.prefix = context.label, context.prefix
    if not _STORES.match(url):
        return []

    found: set[str] = set()
    folder = begun[: begun.rfind("/") + 1]

    async def work() -> None:
        async with asyncio.timeout(_PATIENCE), connect(existing(url), options) as sync:
            async for kv in sync.list(folder, keys_only=True):
                name, slash, _ = kv.key.removeprefix(folder).partition("/")
                if slash or not prefixes:
                    found.add(f"{folder}{name}{slash}")

    with contextlib.suppress(Exception):  # a Tab tells no errors; what was found by then is right
        asyncio.run(work())
    return sorted(found)


def _run(options: argparse.Namespace) -> int:
    shellcode = load("argcomplete:shellcode", "cli", "completion")
    Output().line(shellcode(["datasync"], use_defaults=False, shell=options.shell).strip())
    return 0


COMMANDS = (
    Command(
        "completion",
        "print the completion script of a shell",
        (Positional("shell", "SHELL", "bash, zsh or fish", choices=("bash", "zsh", "fish")),),
        lambda parser: None,
        _run,
        """
source <(datasync completion bash)
datasync completion fish > ~/.config/fish/completions/datasync.fish
""",
    ),
)
