"""How the agent is: what the status page, `datasync status` and the metrics show."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from datasync.serving.hub import Hub, Subscription
from datasync.status import OpenKey, SourceStatus, Status, WatchStatus
from datasync.texts import printable
from datasync.version import __version__

__all__ = ["Overview", "Rate", "RemoteWatcher", "StatusOf", "overview", "shown"]

StatusOf = Callable[[], Status]

_SHOWN = 20
_WATCHES, _SCOPES, _REFUSED, _TEXT = 1000, 20, 100, 1000
"""Watches, scopes and refused or open keys of each, and characters of each text, at most: the page
asks for all this every second."""


class Rate(msgspec.Struct, frozen=True):
    """Changes a second, in steps of `step` seconds; the last step ended at `until` (Unix time)."""

    step: float
    until: float
    values: list[float]


class RemoteWatcher(msgspec.Struct, frozen=True, omit_defaults=True):
    """A remote watcher: its prefixes and keys, and how many commits it is
    behind (None: at a snapshot).

    more_scopes: how many prefixes and keys are not listed.
    peer: the address that it comes from; empty where the server does not know it.
    """

    scopes: list[str]
    behind: int | None
    more_scopes: int = 0
    peer: str = ""


class Overview(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of it at one moment; times are Unix times in seconds.

    name: the source that is served.
    keys: how many it holds.
    watchers: how many remote watchers there are, without the status pages that are open; `remote`
        has those that are furthest behind. The watches are in their resync order; where there are
        too many to list, those that fail are listed first, and `more_watches` tells how many are
        not.
    panels: the names of those that can be asked for here.
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
    more_watches: int = 0
    panels: list[str] = []


def shown(hub: Hub, status: StatusOf | None) -> Status:
    """The status of the DataSync where there is one, of the hub alone otherwise."""
    return Status(hub_sources(hub), []) if status is None else status()


def overview(
    hub: Hub, shown: Status, started: float, panels: Iterable[str], *, whole: bool = False
) -> Overview:
    """Take the picture. whole: with all watches."""
    now = time.time()
    listed = shown.watches if whole else _listed(shown.watches)
    watchers = hub.remote_watchers
    return Overview(
        printable(hub.source.name), __version__, now, started, hub.ready, hub.keys, hub.revision,
        len(watchers), _furthest_behind(watchers), Rate(*hub.pulse.rates()),
        [_cut_source(source) for source in shown.sources],
        [_cut(watch) for watch in listed], len(shown.watches) - len(listed),
        list(panels),
    )  # fmt: skip


def _listed(watches: list[WatchStatus]) -> list[WatchStatus]:
    if len(watches) <= _WATCHES:
        return watches
    # else in their order
    by_trouble = sorted(range(len(watches)), key=lambda at: watches[at].failing is None)
    return [watches[at] for at in sorted(by_trouble[:_WATCHES])]


def _cut(watch: WatchStatus) -> WatchStatus:
    failing = watch.failing
    if failing is not None:
        why = failing.why
        if len(failing.keys) > _REFUSED:
            why = (
                f"{_short(why)}; {len(failing.keys):,} keys in all, of which {_REFUSED} are listed"
            )
        first = itertools.islice(failing.keys.items(), _REFUSED)
        keys = {_short(key): _short(reason) for key, reason in first}
        failing = msgspec.structs.replace(failing, why=_short(why), keys=keys)
    scopes, more = _first(watch.scopes)
    opened = {
        _short(key): OpenKey(said.verdict, _short(said.reason))
        for key, said in itertools.islice(watch.open.items(), _REFUSED)
    }
    return msgspec.structs.replace(
        watch, name=_short(watch.name), scopes=scopes, more_scopes=more, failing=failing,
        open=opened, more_open=len(watch.open) - len(opened),
    )  # fmt: skip


def _cut_source(source: SourceStatus) -> SourceStatus:
    error = None if source.error is None else _short(source.error)
    return msgspec.structs.replace(source, name=_short(source.name), error=error)


def _first(scopes: list[str]) -> tuple[list[str], int]:
    """Those that are listed, and how many are not."""
    return list(map(_short, scopes[:_SCOPES])), max(0, len(scopes) - _SCOPES)


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"


def _furthest_behind(watchers: list[Subscription[Any]]) -> list[RemoteWatcher]:
    first = heapq.nsmallest(
        _SHOWN, watchers, key=lambda one: (-(one.behind or 0), one.scopes, one.peer)
    )
    return [
        RemoteWatcher(scopes, one.behind, more, one.peer)
        for one in first
        for scopes, more in [_first(one.scopes)]
    ]


def hub_sources(hub: Hub) -> list[SourceStatus]:
    """The one source of a hub."""
    feed = hub.feed
    if feed is None:
        return []
    name = printable(hub.source.name)
    return [
        SourceStatus(name, feed.state.value, feed.since, hub.revision, feed.error, feed.reconnects)
    ]
