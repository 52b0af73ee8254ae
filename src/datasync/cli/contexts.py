"""contexts: the sources that have a name."""

from __future__ import annotations

import argparse

from datasync.cli.config import config_path, read_config
from datasync.cli.parser import Command, json_option
from datasync.errors import BadUrl
from datasync.terminal.output import Output
from datasync.texts import printable
from datasync.transports import Url

__all__ = ["COMMANDS"]


def _contexts(options: argparse.Namespace) -> int:
    config, output = read_config(), Output(options.json)
    width = max(map(len, map(printable, config.contexts)), default=0)
    for name, context in config.contexts.items():
        keys = {"label": context.label, "prefix": context.prefix}
        chosen = name == config.context
        if output.json:
            given = {member: value for member, value in keys.items() if value is not None}
            output.record(context=name, url=_shown(context.url), **given, default=chosen)
            continue
        parts = [_shown(context.url)]
        parts += [f"{member} {printable(value)}" for member, value in keys.items() if value]
        mark = "*" if chosen else " "
        output.line(f"{mark} {printable(name).ljust(width)}  {'  '.join(parts)}")
    if not config.contexts and not output.json:
        output.line(f"there are none; write them into {config_path()}")
    return 0


def _shown(url: str) -> str:
    try:
        return str(Url(url))  # without what may be secret
    except BadUrl as error:
        return str(error)


COMMANDS = (
    Command(
        "contexts",
        "list the sources that have a name in the config file; * marks the default",
        (),
        json_option,
        _contexts,
        """
datasync contexts
datasync ls --context lab
""",
    ),
)
