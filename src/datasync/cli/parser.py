"""What a command is, the argument parser built from all of them, and how positional
arguments find their places."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from datasync.errors import UsageError
from datasync.transports import no_url
from datasync.version import __version__

__all__ = [
    "ENVIRONMENT",
    "Command",
    "Positional",
    "build_parser",
    "count",
    "json_option",
    "parse",
    "revision",
    "seconds",
    "source_options",
]

ENVIRONMENT = "DATASYNC_URL"


class Positional(NamedTuple):
    """A positional argument: its attribute in the parsed options, and how the help shows it."""

    name: str
    metavar: str
    help: str
    required: bool = True
    many: bool = False
    choices: Sequence[str] | None = None


class Command(NamedTuple):
    """One command of `datasync`.

    The first `urls` positionals are sources; with `url_last`, the last one is. An argument with
    "://" in it is a URL; with one too few of them the first comes from DATASYNC_URL or a context.
    With `files`, a file may stand in the place of a URL. `failed` is the exit code of a failure;
    `follows` says that the command goes on when its source is lost, and `program` that it runs the
    program of somebody else, whose log lines are worth showing. With `runs`, what follows "--" is a
    program to run, with its arguments: `options.command`. With `passes`, arguments that it does not
    know are for somebody else: `options.rest`.
    """

    name: str
    help: str
    positionals: Sequence[Positional]
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    examples: str
    urls: int = 0
    files: bool = False
    failed: int = 1
    follows: bool = False
    program: bool = False
    runs: bool = False
    passes: bool = False
    url_last: bool = False


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, as an exception."""

    takes_dashed = True
    """What starts with a dash, but is not an option, may follow "--"."""

    def error(self, message: str) -> NoReturn:
        dashed = (
            " (put what starts with a dash, but is not an option, after --)"
            if "unrecognized" in message and self.takes_dashed
            else ""
        )
        raise UsageError(f"{message}{dashed}; see: {self.prog} --help")

    def format_help(self) -> str:
        """The help, for the width of the terminal; only examples stay as they are."""
        self.description, self.epilog = _wrapped(self.description), _wrapped(self.epilog)
        return super().format_help()


def _wrapped(text: str | None) -> str:
    import textwrap  # here, for commands that only run are not to wait for it

    width = max(20, shutil.get_terminal_size().columns - 2)  # as argparse has it for options
    return "\n".join(
        line if line.startswith(" ") else textwrap.fill(line, width)
        for line in (text or "").splitlines()
    )


def build_parser(
    commands: Sequence[Command], *, completing: bool = False
) -> tuple[Parser, dict[str, Parser]]:
    """The parser of `datasync`, which prints its help, and that of each command.

    completing: positionals as a Tab is to see them, one after the other, also after an option.
    """
    top = Parser(
        prog="datasync",
        description="Read, watch, write, copy and compare the data of a source that datasync "
        "can follow.",
        epilog="A URL names a source, for example sqlite:///file.db. It may come from --context, "
        f"the environment variable {ENVIRONMENT} or the config file; then leave it out: only an "
        "argument with '://' in it is a URL.\n\n"
        "exit codes: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    top.add_argument("--version", action="version", version=f"datasync {__version__}")
    _debug(top)
    group = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    parsers = {}

    for command in commands:
        parser = parsers[command.name] = group.add_parser(
            command.name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            epilog="examples:\n"
            + "\n".join(f"  {line}" for line in command.examples.strip().splitlines()),
            usage=" ".join(["datasync", command.name, "[options]", *_shape(command)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

        for positional in command.positionals:
            # the last one takes all that is left: _place tells what is too many
            nargs = "*" if positional is command.positionals[-1] else "?"
            parser.add_argument(
                positional.name,
                nargs=None if completing else nargs,
                choices=positional.choices if completing else None,
                metavar=positional.metavar,
                help=positional.help,
            )

        command.options(parser)
        if command.urls:
            parser.add_argument(
                "--context", metavar="NAME", help="the source of this name in the config file"
            )
        parser.takes_dashed = not command.runs
        _debug(parser)
    return top, parsers


def parse(commands: Sequence[Command], argv: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """The command that `argv` names, with its options in place. Raises `UsageError`;
    --help raises SystemExit(0)."""
    top, parsers = build_parser(commands)
    at = next((index for index, word in enumerate(argv) if not word.startswith("-")), None)
    if at is None:
        top.parse_args(argv)
        top.error("name a command")

    general = top.parse_args(argv[:at])
    name = argv[at]
    if name not in parsers:
        near = difflib.get_close_matches(name, [*parsers, "--help", "--version"], 1)
        meant = f"did you mean {near[0]}?" if near else "there are " + ", ".join(parsers)
        raise UsageError(f"unknown command {name!r}; {meant}")

    command = next(command for command in commands if command.name == name)
    words = list(argv[at + 1 :])

    if command.passes:
        options, rest = parsers[name].parse_known_args(words)
        options.rest = rest
        options.debug = general.debug or options.debug
        return command, options

    # What follows "--" is never an option; kept from argparse, whose treatment of
    # it differs between versions.
    literal = words[words.index("--") + 1 :] if "--" in words else []
    options = parsers[name].parse_intermixed_args(
        words[: len(words) - len(literal) - 1] if "--" in words else words
    )
    options.debug = general.debug or options.debug

    if command.runs:
        if "--" in words and not literal:
            parsers[name].error("a program to run is missing after --")
        options.command, literal = literal, []

    _place(parsers[name], command, options, literal)
    return command, options


def _example(command: Command) -> str:
    """The URL that the help of the command shows first."""
    shown = re.search(r"\w+://[^\s?]+", command.examples)
    assert shown is not None
    return shown[0]


def _place(
    parser: Parser, command: Command, options: argparse.Namespace, literal: Sequence[str]
) -> None:
    """Give each positional argument to the name it belongs to, a left-out URL considered."""
    words: list[str] = []
    for positional in command.positionals:
        value = getattr(options, positional.name)
        words += value if isinstance(value, list) else [] if value is None else [value]
    words += literal

    positionals = list(command.positionals)
    if command.url_last:
        positionals.insert(0, positionals.pop())
        if words and "://" in words[-1]:
            words.insert(0, words.pop())

    sources: list[str] = []
    while words and len(sources) < command.urls and (command.files or "://" in words[0]):
        sources.append(words.pop(0))

    borrowed = ""
    if len(sources) == command.urls - 1:
        borrowed, default = _default_source(options)
        if borrowed:
            sources.insert(0, default)
    elif command.urls and len(sources) == command.urls and options.context is not None:
        raise UsageError("a URL is given, so that --context is not used; leave out one of them")

    if len(sources) < command.urls:
        what = no_url(words[0]) if words else "a source is missing"
        unset = "" if os.environ.get(ENVIRONMENT) else f", and {ENVIRONMENT} is not set"
        raise UsageError(f"{what}{unset}; write for example {_example(command)}")

    for positional, source in zip(positionals, sources, strict=False):
        setattr(options, positional.name, source)
    for positional in positionals[command.urls :]:
        if positional.many:
            setattr(options, positional.name, words)
            words = []
        elif words or not positional.required:
            setattr(options, positional.name, words.pop(0) if words else None)
        else:
            parser.error(f"{positional.metavar} is missing")
        given = getattr(options, positional.name)
        if positional.choices and given not in positional.choices:
            parser.error(
                f"{positional.metavar} is one of {', '.join(positional.choices)}, not {given!r}"
            )

    if words:
        hint = (
            f" (the source is {borrowed}: only an argument with '://' is a URL)" if borrowed else ""
        )
        parser.error(f"unexpected argument {words[0]!r}{hint}")


def _default_source(options: argparse.Namespace) -> tuple[str, str]:
    """The source of a command that none is given for: where it comes from, and its URL; "" where
    there is none. --context comes first, then the environment, then the context of the config."""
    from_environment = os.environ.get(ENVIRONMENT, "")
    if options.context is None and from_environment:
        return ENVIRONMENT, from_environment

    from datasync.cli.config import chosen_context  # a command that is given its URL reads no file

    chosen = chosen_context(options.context)
    if chosen is None:
        return "", ""
    name, context = chosen
    if getattr(options, "label", "") is None and options.prefix is None:
        options.label, options.prefix = context.label, context.prefix
    return f"the context {name!r}", context.full_url()


def source_options(parser: argparse.ArgumentParser) -> None:
    """--prefix and --label, as DataSync has them."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--prefix", metavar="P", help="keys are relative to this prefix; it ends in a slash"
    )
    group.add_argument(
        "--label", metavar="L", help="keys are those of this agent, under /vnf-agent/L/"
    )


def json_option(parser: argparse.ArgumentParser) -> None:
    """--json, for scripts."""
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def count(text: str) -> int:
    """An option's value that is a number from 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"takes an integer >= 1, not {text!r}")
    return int(text)


def revision(text: str) -> int:
    """An option's value that is a revision, 0 standing for a key that does not exist."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(
            f"takes a revision (0: the key does not exist), not {text!r}"
        )
    return int(text)


def seconds(text: str) -> float:
    """An option's value that is a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"takes a positive number of seconds, not {text!r}")
    return value


def _debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _shape(command: Command) -> list[str]:
    """The positional arguments as the usage line shows them."""
    shapes = []
    for index, positional in enumerate(command.positionals):
        shape = f"{positional.metavar} ..." if positional.many else positional.metavar
        optional = (
            index == (len(command.positionals) - 1 if command.url_last else 0)
            if command.urls
            else False
        )
        shapes.append(f"[{shape}]" if optional or not positional.required else shape)
    return [*shapes, *(["[-- COMMAND ...]"] if command.runs else [])]
