"""A watch as the core sees it: what it asks for, where it stands, and what it was given last."""

from __future__ import annotations

import enum
import math
from bisect import bisect_left
from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from datasync.events import Decode, Event, Report, ResyncEvent
from datasync.options import Backoff
from datasync.outcome import KeyOutcome
from datasync.scopes import WatchScopes
from datasync.status import LATENCIES, LastResync, WatchState
from datasync.syncbase.mailbox import Mailbox
from datasync.syncbase.outstanding import Outstanding, Stage

__all__ = [
    "NO_TIMER",
    "Deadline",
    "Progress",
    "Skipped",
    "Spec",
    "Stats",
    "Subscriber",
    "Trouble",
    "Wait",
]

NO_TIMER = (math.inf, 0)

_OUT = Stage.OUT


class Progress(enum.Enum):
    """Which data a watch has got."""

    NEEDS_RESYNC = "needs a RESYNC"
    """Only a RESYNC can reach it next; `resync_reason` says why.

    An older event may still be out.
    """
    RESYNCING = "resyncing"
    """Its RESYNC is made or out, and no newer one is due."""
    FOLLOWING = "following"
    """It accepted its latest RESYNC."""
    CLOSED = "closed"


_PROGRESS: Mapping[Progress, Collection[Progress]] = {
    Progress.NEEDS_RESYNC: (Progress.RESYNCING, Progress.CLOSED),  # the RESYNC is made
    # it is accepted; or it fails, gives way to a newer one, or a newer one becomes due
    Progress.RESYNCING: (Progress.FOLLOWING, Progress.NEEDS_RESYNC, Progress.CLOSED),
    # a round, other scopes, or an event failed too often
    Progress.FOLLOWING: (Progress.NEEDS_RESYNC, Progress.CLOSED),
    Progress.CLOSED: (),
}


class Wait(enum.Enum):
    """What the one running deadline of a watch is about.

    It ends when that has come, or the time is over.
    """

    ACK = "ack"
    """An event is with the handler."""
    RETRY = "retry"
    """An event has failed."""
    READER = "reader"
    """There is an event to deliver, and nobody asks for it."""
    SOURCE = "source"
    """Its RESYNC needs what no source brings now."""


_WAIT: Mapping[Wait | None, Collection[Wait]] = {
    None: (Wait.ACK, Wait.RETRY, Wait.READER, Wait.SOURCE),
    Wait.ACK: (),
    Wait.RETRY: (),
    Wait.READER: (),
    Wait.SOURCE: (Wait.READER,),  # nobody asks for it any more either
}


class Deadline(msgspec.Struct, frozen=True):
    """Until when something is waited for, by the clock."""

    wait: Wait
    at: float


class Skipped(enum.Enum):
    """Whether anybody waits for a watch: rounds and dependent watches, and publishers.

    It outlives the deadline that brought it about.
    """

    NO = "no"
    HANDLER = "handler"
    """Its handler is overdue: it does not report, or it has and does not return.

    Publishers hear that it is.
    """
    READER = "reader"
    """A stream that nobody reads. Publishers hear that it is overdue."""
    SOURCE = "source"
    """Its RESYNC needs a source that is lost. Publishers do wait, for that one."""


_SKIPPED: Mapping[Skipped, Collection[Skipped]] = {
    # the deadline is over
    Skipped.NO: (Skipped.HANDLER, Skipped.READER, Skipped.SOURCE),
    # it reports, asks or is closed; the reader leaves before it has the event
    Skipped.HANDLER: (Skipped.NO, Skipped.READER),
    Skipped.READER: (Skipped.NO,),  # somebody reads, or it is closed
    # the RESYNC is delivered, or it is closed; the reader leaves before that
    Skipped.SOURCE: (Skipped.NO, Skipped.READER),
}


class Spec(msgspec.Struct, frozen=True):
    """What a watch is registered with, but for its scopes and dependences, which may change."""

    name: str
    decode: Decode[Any]
    backlog: int
    ack_timeout: float
    """Seconds in which it is to report on a CHANGE, or to ask for the next event."""
    resync_timeout: float
    """Seconds in which it is to report on a RESYNC."""
    retries: int = 5
    """Tries of a CHANGE before it becomes a RESYNC."""
    retry: Backoff = Backoff()
    """The waits between them."""
    aside: bool = False
    """It serves datasync itself, and applies nothing: nothing is said of it, nobody waits for it,
    and what concerns it alone moves nothing that an agent reports."""


class Trouble(msgspec.Struct):
    """What keeps a watch from being as its source is.

    A row is what has happened, a column what holds before it:

    ```text
                          without a failure                    failing
    an event fails        failing, since now, attempt + 1      failing, since then, attempt + 1
    a newer RESYNC due    attempt 1                            failing, since then, attempt 1
    an event is accepted  attempt 1                            without a failure, attempt 1
    overdue, refused      since now                            since then
    ```
    """

    why: str | None = None
    """What its last event failed with; None while it has not."""
    since: float = 0.0
    """Unix time. Where nothing failed, since when it is overdue, or has refused keys."""
    attempt: int = 1
    """The number of the next try."""
    failures: int = 0
    """Tries that have failed in a row."""
    refusals: int = 0
    """Events in a row, each with something refused, while any key is."""

    def begin(self, now: float) -> None:
        """From now on it is in trouble, unless it has been failing before."""
        if self.why is None:
            self.since = now

    def fail(self, why: str, now: float) -> None:
        """Its event has failed."""
        self.begin(now)
        self.why = why
        self.failures += 1

    def end(self) -> None:
        """Nothing is left of what has failed."""
        self.why, self.attempt, self.failures = None, 1, 0


_QUICK = LATENCIES[0]


class Stats:
    """What `status()` counts; times are by the clock.

    Not a msgspec.Struct, whose attributes are slow to set: these are with each event.
    """

    __slots__ = (
        "accepted_at", "changes", "failures", "given_at", "last_resync", "latencies", "resynced_at",
        "seconds",
    )  # fmt: skip

    def __init__(self) -> None:
        self.changes = 0
        """Those it has accepted."""
        self.resynced_at = 0.0
        """When its latest RESYNC was made."""
        self.last_resync: LastResync | None = None
        self.failures = 0
        """Tries that have failed."""
        self.given_at = 0.0
        """When its latest event was handed over."""
        self.accepted_at: float | None = None
        """When it accepted one last."""
        self.seconds = 0.0
        """What its events took, from there to the report."""
        self.latencies = [0] * (len(LATENCIES) + 1)
        """The same counted by step, see `Latency`."""

    @property
    def events(self) -> int:
        """Those it has reported on."""
        return sum(self.latencies)

    def settle(self, now: float, changes: int | None) -> None:
        """An event has an outcome: so many changes are accepted, or (None) it has failed."""
        took = now - self.given_at
        self.seconds += took
        # most are as quick as that, and need no search
        self.latencies[0 if took <= _QUICK else bisect_left(LATENCIES, took)] += 1
        if changes is None:
            self.failures += 1
        else:
            self.accepted_at = now
            self.changes += changes


class Subscriber:
    """One watch. Each question about it has one answer, a value with its own transitions:

    - `progress`: which data has it got? It needs a RESYNC, is given it, follows, and may need
      another one.
    - `outstanding`: which one event has it not settled, and who has that?
    - `idle`: does its handler ask for the next?
    - `skipped`: does anybody wait for it?
    - `deadline`: what is waited for, and until when?
    - `trouble`: what has failed, since when, and which try comes next?

    `fast` is derived from all of these. What no two of them may say together,
    tests/syncbase/test_states.py knows.
    """

    __slots__ = (
        "after", "deadline", "dependents", "fast", "idle", "mailbox", "order", "outstanding",
        "progress", "refused", "registered", "report", "resync_reason", "runner", "scopes",
        "skipped", "spec", "stats", "timer", "trouble",
    )  # fmt: skip

    def __init__(
        self,
        spec: Spec,
        scopes: Iterable[str],
        *,
        after: Sequence[Subscriber] = (),
    ) -> None:
        self.spec = spec
        self.scopes = WatchScopes(scopes)
        # both as the keys of a dict: each of many may be closed
        self.after = dict.fromkeys(after)
        self.dependents: dict[Subscriber, None] = {}
        self.mailbox = Mailbox(spec.backlog)
        self.order = 0
        self.registered = 0
        """The number of its registration, or of what was added to it last."""
        self.runner: Any = None
        """What delivers events to the application; the engine's."""

        self.report: Report | None = None
        """The runner's way to report."""

        self.progress = Progress.NEEDS_RESYNC
        self.resync_reason: str | None = "start"
        """Why it needs a RESYNC; None while it does not."""
        self.idle = False
        """The handler asks for the next event, or somebody waits in the stream."""
        self.outstanding: Outstanding | None = None
        """The one event that it has not settled."""
        self.skipped = Skipped.NO
        self.deadline: Deadline | None = None
        self.fast = False
        """It follows, and besides a CHANGE that may be out nothing concerns it: nothing is queued,
        dirty or refused, it is not skipped, and it waits for no other watch.

        A commit may go past the mailbox to its handler when that is idle, and an event that it
        accepts has only to be counted. True by `Delivery.pump` alone.
        """
        self.trouble = Trouble()
        self.refused: dict[str, KeyOutcome] = {}
        """Keys whose last delivery it has refused, and why."""
        self.timer = NO_TIMER
        """When it is seen to, and the number of that entry in `Timers`."""
        self.stats = Stats()

    @property
    def name(self) -> str:
        """What it was registered as."""
        return self.spec.name

    @property
    def aside(self) -> bool:
        """Whether it serves datasync itself, see `Spec`."""
        return self.spec.aside

    @property
    def closed(self) -> bool:
        """Whether it is gone."""
        return self.progress is Progress.CLOSED

    @property
    def follows(self) -> bool:
        """Whether it accepted its latest RESYNC."""
        return self.progress is Progress.FOLLOWING

    def enter(self, progress: Progress) -> None:
        """It has got further, or (NEEDS_RESYNC, see `need_resync`) back."""
        assert progress in _PROGRESS[self.progress], (
            f"{self.name}: {progress} after {self.progress}"
        )
        self.progress = progress
        self.resync_reason = None
        self.fast = False

    def need_resync(self, reason: str) -> None:
        """Only a RESYNC can reach it from now on."""
        if self.progress is not Progress.NEEDS_RESYNC:
            self.enter(Progress.NEEDS_RESYNC)
        self.resync_reason = reason

    @property
    def is_out(self) -> bool:
        """Whether the handler has an event of it."""
        return self.outstanding is not None and self.outstanding.stage is _OUT

    def has(self, event: Event[Any]) -> bool:
        """Whether the handler has this very event."""
        out = self.outstanding
        return out is not None and out.event is event and out.stage is _OUT

    def has_unsettled(self, key: str) -> bool:
        """Whether a change of this key is out, or waits."""
        out = self.outstanding
        if out is not None and any(diff[0] == key for diff in out.batch.diffs):
            return True
        return key in self.mailbox

    @property
    def is_free(self) -> bool:
        """Whether it may be given an event: it is open, has none, and waits for no retry."""
        if self.progress is Progress.CLOSED or self.is_out:
            return False
        return self.deadline is None or self.deadline.wait is not Wait.RETRY

    @property
    def is_overdue(self) -> bool:
        """Whether publishers do not wait for it: what comes for it is answered at once."""
        return self.skipped is Skipped.HANDLER or self.skipped is Skipped.READER

    def skip(self, skipped: Skipped) -> None:
        """From now on nobody waits for it, or (NO) they do again."""
        if skipped is self.skipped:
            return
        assert skipped in _SKIPPED[self.skipped], f"{self.name}: {skipped} after {self.skipped}"
        assert skipped is not Skipped.SOURCE or self.progress is Progress.NEEDS_RESYNC
        self.skipped = skipped
        if skipped is not Skipped.NO:
            self.fast = False

    def may_wait_for(self, wait: Wait) -> bool:
        """Whether that can be what it waits for: only a handler that has an event is to report."""
        before = None if self.deadline is None else self.deadline.wait
        return wait in _WAIT[before] and self.is_out is (wait is Wait.ACK) and not self.closed

    def wait_for(self, wait: Wait, until: float) -> None:
        """From now on that is waited for, until then by the clock."""
        assert self.may_wait_for(wait), f"{self.name}: {wait} after {self.deadline}"
        assert wait is not Wait.SOURCE or self.progress is Progress.NEEDS_RESYNC
        self.deadline = Deadline(wait, until)

    @property
    def state(self) -> WatchState:
        """Where it stands, derived from the rest."""
        if self.closed:
            return WatchState.CLOSED
        if self.is_overdue:
            return WatchState.UNATTENDED if self.skipped is Skipped.READER else WatchState.OVERDUE
        if self.trouble.why is not None:
            return WatchState.FAILING
        if (
            self.is_out
            and self.outstanding is not None
            and isinstance(self.outstanding.event, ResyncEvent)
        ):
            return WatchState.RESYNCING
        return WatchState.FOLLOWING if self.follows else WatchState.WAITING

    def said_of(self, keys: Iterable[str]) -> dict[str, KeyOutcome]:
        """What it said last of those of the keys that it has refused, or that are open: G7, that
        is the answer to what changes nothing of them.
        """
        known = ChainMap(self.refused, self.mailbox.open)
        return {key: known[key] for key in sorted(keys) if key in known}

    def oldest_unsettled(self) -> float:
        """The sequence number of the oldest commit that a dependent watch has to wait for."""
        if self.skipped is not Skipped.NO:
            return math.inf
        oldest = self.mailbox.first_seq
        if self.outstanding is not None and not self.outstanding.answered:
            oldest = min(oldest, self.outstanding.batch.first_seq)
        return oldest
