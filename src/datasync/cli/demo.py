"""demo: runs the demonstration that is packaged with datasync."""

from __future__ import annotations

import argparse

from datasync.cli.parser import Command
from datasync.errors import DataSyncError, MissingExtra

__all__ = ["COMMANDS"]


def _run(options: argparse.Namespace) -> int:
    try:
        from datasync.demo import main
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.split(".")[0] == "datasync":
            raise DataSyncError(f"this installation has no {missing}; reinstall datasync") from None
        raise MissingExtra(
            f"the demo needs the module {missing}; install it with: pip install 'datasync[all]'"
        ) from None
    return main(options.rest)


COMMANDS = (
    Command(
        "demo",
        "an agent on SQLite, fed with the network of this machine; ends by itself",
        (),
        lambda parser: None,
        _run,
        "datasync demo",
        passes=True,
    ),
)
