"""demo: runs the demonstration that is packaged with datasync."""

from __future__ import annotations

import argparse
import importlib

from datasync.cli.parser import Command
from datasync.errors import DatasyncError, MissingExtra

__all__ = ["COMMANDS"]


def _run(options: argparse.Namespace) -> int:
    try:
        demo = importlib.import_module("datasync.demo")
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.split(".")[0] == "datasync":
            raise DatasyncError(f"this installation has no {missing}; reinstall datasync") from None
        raise MissingExtra(
            f"the demo needs the package {missing}; install it with: pip install 'datasync[all]'"
        ) from None
    code: int = demo.main(options.rest)
    return code


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
