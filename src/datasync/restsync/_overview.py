"""How the agent is: what the status page, `datasync status` and the metrics show."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from importlib.metadata import version

import msgspec

from datasync.serving.hub import Hub
from datasync.status import SourceStatus, Status, WatchStatus
from datasync.texts import printable

__all__ = ["Overview", "Rate", "RemoteWatcher", "StatusOf", "overview"]

StatusOf = Callable[[], Status]

_SHOWN = 20
_REFUSED = 100
"""Refused keys of a watch, at most: the page asks for all this every second."""


class Rate(msgspec.Struct, frozen=True):
    """Changes a second, in steps of `step` seconds; the last step ended at `until` (Unix time)."""

    step: float
    until: float
    values: list[float]


class RemoteWatcher(msgspec.Struct, frozen=True):
    """One who follows from afar: its prefixes and keys, and how many commits it is behind (None: at a snapshot)."""

    scopes: list[str]
    behind: int | None


class Overview(msgspec.Struct, frozen=True):
    """All of it at one moment; times are Unix times in seconds.

    name: the source that is served. keys: how many it holds. watchers: remote watchers, of which `remote` has those
    that are furthest behind. The watches are in their resync order.
    """

    name: str
    version: str
    now: float
    started: float
    ready: bool
    keys: int
    revision: int
    watchers: int
    remote: list[RemoteWatcher]
    rate: Rate
    sources: list[SourceStatus]
    watches: list[WatchStatus]


def overview(hub: Hub, status: StatusOf | None, started: float) -> Overview:
    """Take the picture: of the DataSync where there is one, of the hub alone otherwise."""
    now = time.time()
    shown = Status(hub_sources(hub), []) if status is None else status()
    return Overview(
        printable(hub.source.name), version("datasync"), now, started, hub.ready, hub.keys, hub.revision,
        len(hub.watchers), _furthest_behind(hub), Rate(*hub.pulse.rates()), shown.sources,
        [_cut(watch) for watch in shown.watches],
    )  # fmt: skip


def _cut(watch: WatchStatus) -> WatchStatus:
    failing = watch.failing
    if failing is None or len(failing.keys) <= _REFUSED:
        return watch
    why = f"{failing.why}; {len(failing.keys):,} keys in all, of which {_REFUSED} are listed"
    first = dict(itertools.islice(failing.keys.items(), _REFUSED))
    return msgspec.structs.replace(watch, failing=msgspec.structs.replace(failing, why=why, keys=first))


def _furthest_behind(hub: Hub) -> list[RemoteWatcher]:
    found = [RemoteWatcher(watcher.scopes, watcher.behind) for watcher in hub.watchers]
    found.sort(key=lambda one: (-(one.behind or 0), one.scopes))
    return found[:_SHOWN]


def hub_sources(hub: Hub) -> list[SourceStatus]:
    """The one source of a hub."""
    feed = hub.feed
    if feed is None:
        return []
    name = printable(hub.source.name)
    return [SourceStatus(name, feed.state.value, feed.since, hub.revision, feed.error, feed.reconnects)]
