"""What became of a write: the verdict, its way back, and the verdicts of all watches
added up for the publisher."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterable, Mapping

import msgspec

from datasync.texts import logger

__all__ = ["Listener", "Reply", "Result", "Tally", "Verdict", "Vote", "Votes"]

log = logger("datasync")


class Verdict(enum.Enum):
    """What became of a write at the watches; `NotApplied.verdict` carries the worst of them."""

    ACCEPTED = "accepted"
    UNWATCHED = "unwatched"
    REFUSED = "refused"
    FAILED = "failed"
    OVERDUE = "overdue"


class Result(msgspec.Struct, frozen=True):
    """What became of a commit or a RESYNC at the watches.

    verdict: the worst of their outcomes.
    reasons: refused keys, each with the reason.
    """

    verdict: Verdict
    reasons: Mapping[str, str] = {}


Reply = Callable[[Result], None]
"""The way back to a publisher. Called once, inside the engine: it only notes the
result, and must not raise."""

Listener = Callable[[Result], None]

_NO_REASONS: Mapping[str, str] = {}
# by value, for the hash of an enum member is slow. UNWATCHED stays only where no watch votes at all
_WORSE = {"unwatched": 0, "accepted": 1, "refused": 2, "failed": 3, "overdue": 4}
_UNWATCHED = Verdict.UNWATCHED
_AGAIN = (Verdict.FAILED, Verdict.OVERDUE)
_PLAIN = {verdict.value: Result(verdict) for verdict in Verdict}


class Tally(msgspec.Struct, gc=False):
    """Counts the open votes on one commit or RESYNC; the listeners hear the worst of them, once.

    `expected` starts with one vote, which the code that hands out the votes holds until `close`.
    """

    _listeners: tuple[Listener, ...] = ()
    _verdict: Verdict = Verdict.UNWATCHED
    _reasons: dict[str, str] | None = None
    expected: int = 1
    result: Result | None = None
    final: bool = False
    """Only what a watch accepted or refused counts: it is asked again until then."""

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the result, now if it is there. It must only note it."""
        if self.result is not None:
            listener(self.result)
        else:
            self._listeners = (*self._listeners, listener)

    def vote(self, verdict: Verdict, reasons: Mapping[str, str] = _NO_REASONS) -> None:
        """The outcome at one of the watches."""
        if self._verdict is _UNWATCHED:
            self._verdict = verdict
        elif verdict is not self._verdict:
            self.note(verdict)
        if reasons:
            if self._reasons is None:
                self._reasons = {}
            self._reasons.update(reasons)
        left = self.expected = self.expected - 1
        if left:
            return
        self.result = result = (
            Result(self._verdict, self._reasons) if self._reasons else _PLAIN[self._verdict._value_]
        )
        for listener in self._listeners:
            try:
                listener(result)
            except Exception:  # G8: a way back that is broken stops nobody else
                log.exception("unexpected error in handing on a verdict")

    def counts(self, verdict: Verdict) -> bool:
        """Whether that outcome of an event is one to vote with."""
        return not self.final or verdict not in _AGAIN

    def add(self, result: Result) -> None:
        """The outcome at one of several groups of watches."""
        self.vote(result.verdict, result.reasons)

    def note(self, verdict: Verdict) -> None:
        """The outcome at a watch that nobody expected to vote."""
        if self._verdict is _UNWATCHED or _WORSE[verdict._value_] > _WORSE[self._verdict._value_]:
            self._verdict = verdict

    def close(self) -> None:
        """Give up one open vote without an outcome: the watch is gone, or
        all votes are handed out."""
        self.vote(_UNWATCHED)


class Vote(msgspec.Struct, gc=False):
    """What one watch still owes a tally: the outcome of these keys (all
    keys of the event where None)."""

    tally: Tally
    keys: set[str] | None = None

    def cast(self, verdict: Verdict, reasons: Mapping[str, str] = _NO_REASONS) -> bool:
        """Vote, as far as the reasons concern these keys. Whether that counts;
        else the vote is still owed."""
        if not self.tally.counts(verdict):
            return False
        if verdict is Verdict.REFUSED and self.keys is not None:
            reasons = {key: reasons[key] for key in self.keys if key in reasons}
            if not reasons:
                verdict = Verdict.ACCEPTED
        self.tally.vote(verdict, reasons)
        return True


class Votes:
    """The votes that a fold owes. Each is settled once newer commits have
    written all of its keys."""

    __slots__ = ("_answered", "_by_key", "_next", "_open")

    def __init__(self) -> None:
        self._open: dict[int, Vote] = {}
        self._by_key: dict[str, dict[int, None]] = {}
        self._next = 0
        self._answered = 0
        """Those before it have been asked for an outcome that is not final,
        and wait for one that is."""

    def __bool__(self) -> bool:
        return bool(self._open)

    def add(self, vote: Vote) -> None:
        """Owe one more."""
        number = self._next
        self._next += 1
        self._open[number] = vote
        for key in vote.keys or ():
            self._by_key.setdefault(key, {})[number] = None

    def overwritten(self, keys: Iterable[str]) -> None:
        """A newer commit writes `keys`: older commits no longer depend on them."""
        for key in keys:
            for number in self._by_key.pop(key, ()):
                vote = self._open[number]
                assert vote.keys is not None
                vote.keys.discard(key)
                if not vote.keys:
                    del self._open[number]
                    vote.tally.vote(Verdict.ACCEPTED)

    def overdue(self) -> None:
        """The watch is overdue: cast all for which that counts. Those that wait for a
        final outcome are asked once."""
        new = list(
            itertools.takewhile(lambda number: number >= self._answered, reversed(self._open))
        )
        self._answered = self._next
        for number in reversed(new):
            vote = self._open[number]
            if vote.cast(Verdict.OVERDUE):
                del self._open[number]
                for key in vote.keys or ():
                    self._by_key[key].pop(number)
                    if not self._by_key[key]:
                        del self._by_key[key]

    def take(self) -> list[Vote]:
        """All that are open, oldest first; from then on none is owed here."""
        votes = list(self._open.values())
        self._open.clear()
        self._by_key.clear()
        return votes
