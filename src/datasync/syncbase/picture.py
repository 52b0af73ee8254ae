"""The picture of a DataSync that `status()` shows, from what its engine knows."""

from __future__ import annotations

from collections.abc import Iterable

from datasync.outcome import reasons_of
from datasync.status import (
    Failing,
    Latency,
    LayerState,
    OpenKey,
    SourceStatus,
    Status,
    WatchState,
    WatchStatus,
)
from datasync.syncbase.feed import Feed
from datasync.syncbase.layer import Layer
from datasync.syncbase.subscriber import Subscriber
from datasync.texts import printable

__all__ = ["not_started", "status_of"]


def status_of(feeds: Iterable[Feed], subs: Iterable[Subscriber], epoch: float) -> Status:
    """Take the picture; `epoch` is what to add to the clock to get Unix time."""
    sources = [
        SourceStatus(
            printable(feed.layer.name),
            feed.state.value,
            feed.since,
            feed.layer.revision,
            feed.error,
            feed.reconnects,
        )
        for feed in feeds
    ]
    return Status(sources, [_watch(sub, epoch) for sub in subs])


def not_started(layers: Iterable[Layer], subs: Iterable[Subscriber], *, closed: bool) -> Status:
    """The picture before there are any feeds, or where there never were any."""
    state = LayerState.CLOSED if closed else LayerState.NOT_STARTED
    sources = [
        SourceStatus(printable(layer.name), state.value, 0.0, 0, None, 0) for layer in layers
    ]
    return Status(sources, [_watch(sub, 0.0) for sub in subs])


def _watch(sub: Subscriber, epoch: float) -> WatchStatus:
    stats = sub.stats
    accepted = None if stats.accepted_at is None else stats.accepted_at + epoch
    latency = Latency(stats.seconds, [*stats.latencies]) if any(stats.latencies) else None
    return WatchStatus(
        printable(sub.name),
        sub.scopes.in_order(),
        sub.state.value,
        len(sub.mailbox),
        stats.events,
        stats.changes,
        stats.last_resync,
        _failing(sub),
        failures=stats.failures,
        accepted=accepted,
        latency=latency,
        open={
            key: OpenKey(said.verdict.value, said.reason) for key, said in sub.mailbox.open.items()
        },
    )


def _failing(sub: Subscriber) -> Failing | None:
    trouble = sub.trouble
    if trouble.why is not None:
        why = trouble.why
    elif sub.state is WatchState.OVERDUE:
        why = "no report in time" if sub.is_out else "reported, but has not returned"
    elif sub.refused:
        why = "refused"
    else:
        return None
    return Failing(trouble.since, why, trouble.attempt, reasons_of(sub.refused))
