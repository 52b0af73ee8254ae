"""The file with contexts: sources that have a name, for those who work on several."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from datasync.errors import UsageError
from datasync.terminal.process import complain
from datasync.texts import printable
from datasync.transports import holds_secret

__all__ = ["Config", "Context", "chosen_context", "config_path", "read_config"]


class Context(msgspec.Struct, forbid_unknown_fields=True):
    """A source, and which of its keys.

    url: the source.
    label, prefix: as the options of the commands.
    ca, cert, key: files for TLS; relative ones lie beside the file with the contexts.
    token: the bearer token.
    """

    url: str
    label: str | None = None
    prefix: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token: str | None = None

    def full_url(self) -> str:
        """The URL with its files and token."""
        given = {"ca": self.ca, "cert": self.cert, "key": self.key}
        folder = config_path().parent
        options = {
            name: str(folder / Path(file).expanduser()) for name, file in given.items() if file
        }
        if self.token:
            options["token"] = self.token
        if not options:
            return self.url
        return f"{self.url}{'&' if '?' in self.url else '?'}{urlencode(options, safe='/')}"


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """What the file holds: contexts by name, and which one is used where none is named."""

    context: str | None = None
    contexts: Mapping[str, Context] = {}


def config_path() -> Path:
    """Where the file lies, whether there is one or not."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # a relative one is to be ignored, says the XDG specification
    folder = Path(base) if Path(base).is_absolute() else Path("~/.config").expanduser()
    return folder / "datasync" / "config.toml"


def read_config() -> Config:
    """What the file says; nothing where there is none. Warns where others may read a secret in it.

    Raises `UsageError`.
    """
    import tomllib  # here, for most commands are given their source

    path = config_path()
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            config = _checked(tomllib.load(file))
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; make it a file that you can read") from None
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {printable(str(error))}; correct it there") from None

    if config.context is not None and config.context not in config.contexts:
        raise UsageError(f"{path}: {_unknown(config.context, config)}")
    secret = any(one.token or holds_secret(one.url) for one in config.contexts.values())
    if secret and mode & (stat.S_IRGRP | stat.S_IROTH):
        complain(f"{path} holds a password that others may read; chmod 600 {path}")
    return config


def _checked(given: Mapping[str, Any]) -> Config:
    """What the file says. Raises `ValueError`, which names the context that is wrong, and
    `msgspec.ValidationError`."""
    contexts = given.get("contexts")
    for name, context in contexts.items() if isinstance(contexts, dict) else ():
        try:
            msgspec.convert(context, type=Context)
        except msgspec.ValidationError as error:
            raise ValueError(f"[contexts.{name}]: {error}") from None
    return msgspec.convert(given, type=Config)


def chosen_context(name: str | None) -> tuple[str, Context] | None:
    """The context of that name, by default the one that the file names; None where it names none.

    Raises `UsageError`.
    """
    config = read_config()
    name = config.context if name is None else name
    if name is None:
        return None
    if name not in config.contexts:
        raise UsageError(f"{_unknown(name, config)}, in {config_path()}")
    return name, config.contexts[name]


def _unknown(name: str, config: Config) -> str:
    known = ", ".join(map(repr, config.contexts)) or "none"
    return f"there is no context {name!r}; there are: {known}"
