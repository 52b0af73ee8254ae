"""completion: what a Tab completes in bash, zsh and fish, by argcomplete (needs the extra `cli`).

The script that the command prints asks `datasync` itself, which parses the unfinished line.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence

from datasync.cli.parser import ENVIRONMENT, Command, Positional, build_parser
from datasync.terminal.output import Output
from datasync.transports import load

__all__ = ["COMMANDS", "complete"]

# The options and positionals whose value is a file.
_FILES = ("FILE", "F", "A", "B")


def complete(commands: Sequence[Command]) -> None:
    """Answer the Tab that the environment tells of, and end the process."""
    if os.environ.get(ENVIRONMENT) and "://" not in os.environ["COMP_LINE"]:
        # the URL was left out: what stands in its place is the argument after it
        commands = [
            command._replace(positionals=[p for p in command.positionals if p.name != "url"])
            for command in commands
        ]

    top, _ = build_parser(commands, completing=True)
    load("argcomplete:autocomplete", "cli", "completion")(top, default_completer=_values)


def _values(*, prefix: str, action: argparse.Action, **_: object) -> Iterable[str]:
    """The values of an option or a positional that has no choices."""
    if action.metavar not in _FILES:
        return ()
    files: Iterable[str] = load("argcomplete:FilesCompleter", "cli", "completion")()(prefix)
    return files


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
