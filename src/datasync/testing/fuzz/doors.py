"""From the name of a door to what attacks it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from datasync.errors import UsageError
from datasync.testing.fuzz.door import Door

__all__ = ["DOORS", "door_of"]

_SERVERS = ("rest", "grpc")
_CLIENTS = ("redis", "etcd", "kafka", "http", "grpc+watch")
DOORS = ("url", "files", "directory", "sqlite", *_SERVERS, *_CLIENTS)


def door_of(name: str) -> AbstractAsyncContextManager[Door]:
    """The door of that name, with what stands behind it. Raises `UsageError`, `Missing`."""
    if name not in DOORS:
        raise UsageError(f"there is no door {name!r}; name one of: {', '.join(DOORS)}")
    where, args = ("client", (name,)) if name in _CLIENTS else (name, ())
    door: Callable[..., AbstractAsyncContextManager[Door]] = importlib.import_module(
        f"datasync.testing.fuzz.{where}_door"
    ).door
    return door(*args)
