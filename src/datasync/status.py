"""What `DataSync.status()` returns: plain data, for people, scripts and dashboards."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from datasync.syncbase.shell import Shell
from datasync.syncbase.subscriber import Subscriber, WatchState
from datasync.texts import printable

__all__ = ["Failing", "LastResync", "SourceStatus", "Status", "WatchStatus", "joined", "status_of"]


class SourceStatus(msgspec.Struct, frozen=True):
    """A source: `state` ("connecting", "loading", "following", "lost", "closed") since when (Unix time, seconds),
    the newest revision taken over, the last error (None while connected) and how often it came back."""

    name: str
    state: str
    since: float
    revision: int
    error: str | None
    reconnects: int


class LastResync(msgspec.Struct, frozen=True):
    """The last RESYNC that a watch accepted: why, how many seconds it took, how many keys, and when (Unix time)."""

    reason: str
    duration: float
    keys: int
    at: float


class Failing(msgspec.Struct, frozen=True):
    """What a watch could not apply: since when (Unix time), why, the number of the next try, and refused keys."""

    since: float
    why: str
    attempt: int
    keys: dict[str, str]


class WatchStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """A watch: `state` is a `WatchState` value, `backlog` the number of changes that wait for it, `events` the
    number it has reported on so far, `changes` what it accepted of them. `more_scopes` is how many are not listed:
    none, except where a server shows it."""

    name: str
    scopes: list[str]
    state: str
    backlog: int
    events: int
    changes: int
    resync: LastResync | None
    failing: Failing | None
    more_scopes: int = 0


class Status(msgspec.Struct, frozen=True):
    """A picture of one DataSync at one moment; the watches are in their resync order."""

    sources: list[SourceStatus]
    watches: list[WatchStatus]


def status_of(shell: Shell) -> Status:
    """Take the picture."""
    sources = [
        SourceStatus(
            printable(feed.layer.name), feed.state.value, feed.since, feed.layer.revision, feed.error, feed.reconnects
        )
        for feed in shell.feeds
    ]
    return Status(sources, [_watch(sub) for sub in shell.core.subscribers])


def joined(statuses: Iterable[Callable[[], Status]]) -> Status:
    """The sources and watches of several DataSyncs, one after the other."""
    pictures = [status() for status in statuses]
    return Status(
        [source for picture in pictures for source in picture.sources],
        [watch for picture in pictures for watch in picture.watches],
    )


def _watch(sub: Subscriber) -> WatchStatus:
    last = None if sub.last_resync is None else LastResync(*sub.last_resync)
    return WatchStatus(
        printable(sub.name),
        sub.scopes.in_order(),
        sub.state.value,
        len(sub.mailbox),
        sub.events_settled,
        sub.changes_delivered,
        last,
        _failing(sub),
    )


def _failing(sub: Subscriber) -> Failing | None:
    if sub.failing is not None:
        why = sub.failing
    elif sub.state is WatchState.OVERDUE:
        why = "no report in time" if sub.event is not None else "reported, but has not returned"
    elif sub.refused:
        why = "refused"
    else:
        return None
    return Failing(sub.failed_at, why, sub.attempt, dict(sub.refused))
