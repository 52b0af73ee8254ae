"""A watch as the core sees it: what it asks for, where it stands, and what it was given last."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasync.errors import DecodeError
from datasync.events import Decode, Event, Record, Report, ResyncEvent
from datasync.syncbase.mailbox import Batch, Mailbox
from datasync.syncbase.scopes import WatchScopes

__all__ = ["Subscriber", "WatchState"]


class WatchState(enum.Enum):
    """Where a watch stands; `Watch.state` and `status()` show it."""

    WAITING = "waiting"
    """Its RESYNC has not come yet: the source is not ready, or it is another watch's turn."""
    RESYNCING = "resyncing"
    """It has been given its RESYNC and has not reported."""
    FOLLOWING = "following"
    """It accepted its RESYNC and gets changes."""
    FAILING = "failing"
    """Its last event failed and will be brought again."""
    OVERDUE = "overdue"
    """It has not reported on its event, or not returned, in time; it gets nothing new until it does."""
    UNATTENDED = "unattended"
    """A stream that nobody iterates."""
    CLOSED = "closed"


class Subscriber:
    """One watch. At most one event of it is unsettled: `event`, made from `batch`."""

    __slots__ = (
        "accepted", "ack_timeout", "after", "asking", "attempt", "bad", "base", "batch", "changes_delivered",
        "closed", "deadline", "decode", "dependents", "event", "events_settled", "failed_at", "failing", "held",
        "last_resync", "mailbox", "name", "order", "out_of_reach", "passed", "plain", "refused", "registered", "report",
        "resync", "resync_timeout", "resynced_at", "retry_at", "runner", "scopes", "settled", "timer", "timer_number",
        "was_fresh", "whole",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        scopes: Iterable[str],
        decode: Decode[Any],
        *,
        after: Sequence[Subscriber] = (),
        backlog: int,
        ack_timeout: float,
        resync_timeout: float,
    ) -> None:
        self.name = name
        self.scopes = WatchScopes(scopes)
        self.decode = decode
        # both as the keys of a dict: each of many may be closed
        self.after = dict.fromkeys(after)
        self.dependents: dict[Subscriber, None] = {}
        self.ack_timeout = ack_timeout
        self.resync_timeout = resync_timeout
        self.mailbox = Mailbox(backlog)
        self.order = 0
        self.registered = 0
        """The number of its registration, or of what was added to it last."""
        self.runner: Any = None
        """What delivers events to the application; the shell's."""

        self.report: Report | None = None
        """The runner's way to report."""

        self.resync: str | None = "start"
        """Why it needs a RESYNC; None while it does not."""
        self.accepted = False
        """It accepted its latest RESYNC."""
        self.asking = False
        """The handler is idle, or somebody waits in the stream."""
        self.closed = False

        self.event: Event[Any] | None = None
        self.batch: Batch | None = None
        self.base: dict[str, Record | None] | None = None
        """Of a RESYNC that is out: the record before, by key, of what it changes."""
        self.was_fresh = False
        """Before that RESYNC it had accepted nothing."""
        self.settled = False
        """The publisher and the round have heard an outcome of the event already."""
        self.bad: Mapping[str, DecodeError] = {}
        """Keys that the event leaves out, for their values do not decode."""
        self.whole: Event[Any] | None = None
        """The event with those keys, where there are any."""
        self.held: Event[Any] | None = None
        """An event that is made but not delivered."""
        self.passed = False
        """Overdue or unattended: rounds and dependent watches do not wait for it."""

        self.out_of_reach = False
        """Its RESYNC needs a source that is lost: dependent watches do not wait for it."""

        self.plain = False
        """It follows, nothing is dirty and nothing waits for it: it may have the next commit as soon as it asks."""
        self.attempt = 1
        self.failing: str | None = None
        self.refused: dict[str, str] = {}
        self.failed_at = 0.0
        self.retry_at = -math.inf
        self.deadline = math.inf
        self.timer = math.inf
        self.timer_number = 0

        self.events_settled = 0
        self.changes_delivered = 0
        self.resynced_at = 0.0
        self.last_resync: tuple[str, float, int, float] | None = None

    @property
    def state(self) -> WatchState:
        """Where it stands, derived from the rest."""
        if self.closed:
            return WatchState.CLOSED
        if self.passed:
            unattended = self.event is None and self.runner.is_stream
            return WatchState.UNATTENDED if unattended else WatchState.OVERDUE
        if self.failing is not None:
            return WatchState.FAILING
        if isinstance(self.event, ResyncEvent):
            return WatchState.RESYNCING
        return WatchState.FOLLOWING if self.accepted else WatchState.WAITING

    def oldest_unsettled(self) -> float:
        """The sequence number of the oldest commit that a dependent watch has to wait for."""
        if self.passed or self.out_of_reach:
            return math.inf
        oldest = self.mailbox.first_seq
        if self.batch is not None and not self.settled:
            oldest = min(oldest, self.batch.first_seq)
        return oldest
