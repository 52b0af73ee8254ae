"""Which sources a DataSync has, in what order, which of them take the writes; and their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from datasync.checks import names_of
from datasync.errors import UsageError
from datasync.source import Source
from datasync.texts import logger
from datasync.transports import open_url

__all__ = ["Layer", "close_sources", "open_layers", "targets_of"]

log = logger("datasync")


class Layer(msgspec.Struct, frozen=True):
    """One of several sources of a DataSync.

    source: a URL or a `Source`.
    optional: start without it where it cannot be reached (default: no).
    name: its name for `write_to=`, messages and `status()` (default: the name of the source).
    """

    source: str | Source
    optional: bool = False
    name: str | None = None


def open_layers(sources: Sequence[str | Source | Layer]) -> list[Layer]:
    """The sources, each a named Layer of a Source object. Raises `BadUrl`,
    `MissingExtra`, `UsageError`."""
    layers: list[Layer] = []
    for given in sources:
        layer = given if isinstance(given, Layer) else Layer(given)
        source = layer.source if isinstance(layer.source, Source) else open_url(layer.source)
        name = layer.name or source.name
        if any(other.name == name for other in layers):
            raise UsageError(
                f"two sources are named {name!r}; tell them apart with Layer(..., name=...)"
            )
        layers.append(Layer(source, layer.optional, name))
    return layers


def targets_of(names: Sequence[str], write_to: str | Sequence[str] | None) -> list[int]:
    """Which layers take the writes, by index; none where that is not
    decided. Raises `UsageError`."""
    if write_to is None:
        return [0] if len(names) == 1 else []
    chosen = names_of(write_to, "write_to=")
    for name in chosen:
        if name not in names:
            raise UsageError(
                f"write_to={name!r} is not one of the sources; choose from {', '.join(names)}"
            )
    return [names.index(name) for name in chosen]


async def close_sources(sources: Sequence[Source], timeout: float) -> None:
    """Close them in this order, each within `timeout` seconds, and each of them though
    this is cancelled meanwhile."""
    async with contextlib.AsyncExitStack() as closing:
        for source in reversed(sources):
            closing.push_async_callback(_close, source, timeout)


async def _close(source: Source, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            await source.aclose()
    except Exception as error:  # the others are closed all the same
        log.warning("%s: failed to close: %s", source.name, str(error) or type(error).__name__)
