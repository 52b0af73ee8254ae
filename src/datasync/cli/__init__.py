"""The command line `datasync`: one file a group of commands, put together here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from datasync.cli import (
    apply,
    backup,
    capabilities,
    completion,
    contexts,
    demo,
    doctor,
    files,
    mirror,
    plan,
    read,
    render,
    run,
    serve,
    status,
    write,
)
from datasync.cli.parser import Command, parse
from datasync.errors import DataSyncError
from datasync.terminal.process import errors_on_one_line, log_lines, prepare_streams

__all__ = ["COMMANDS", "main"]

COMMANDS: tuple[Command, ...] = (
    *read.COMMANDS,
    *write.COMMANDS,
    *files.COMMANDS,
    *apply.COMMANDS,
    *plan.COMMANDS,
    *backup.COMMANDS,
    *render.COMMANDS,
    *mirror.COMMANDS,
    *serve.COMMANDS,
    *run.COMMANDS,
    *status.COMMANDS,
    *doctor.COMMANDS,
    *contexts.COMMANDS,
    *capabilities.COMMANDS,
    *demo.COMMANDS,
    *completion.COMMANDS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process: 0 done, 1 failed, 2 wrong usage."""
    if "_ARGCOMPLETE" in os.environ:  # before anything that could print, read or connect
        completion.complete(COMMANDS)
    words = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in words
    failed = 1

    def work() -> int:
        nonlocal failed
        if sys.stdout is None:
            raise DataSyncError(
                "standard output is closed; send it somewhere, for example to /dev/null"
            )
        command, options = parse(COMMANDS, words)
        # as of `diff`: a dry run compares
        failed = 2 if getattr(options, "dry_run", False) else command.failed
        lines.follows = command.follows and not getattr(options, "once", False)
        if command.program:
            lines.hear_program()
        return command.run(options)

    prepare_streams()
    with log_lines(debug=debug) as lines:
        return errors_on_one_line(work, debug=debug, failed=lambda: failed, words=words)
