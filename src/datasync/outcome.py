"""What became of a write: the verdict, its way back, and the verdicts of all watches
added up for the publisher."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from datasync.texts import logger

__all__ = [
    "NO_OUTCOMES",
    "Accepted",
    "KeyOutcome",
    "Listener",
    "Reply",
    "Result",
    "Tally",
    "Verdict",
    "Vote",
    "Votes",
    "tally_of",
    "worse_than",
    "worst_of",
]

log = logger("datasync")


class Verdict(enum.Enum):
    """What became of a write at the watches; `NotApplied.verdict` carries the worst of them.

    The last two come by `confirm=Reports(...)` alone.
    """

    ACCEPTED = "accepted"
    UNWATCHED = "unwatched"
    PENDING = "pending"
    REFUSED = "refused"
    FAILED = "failed"
    OVERDUE = "overdue"
    SUPERSEDED = "superseded"
    ABSENT = "absent"


class Accepted(msgspec.Struct, frozen=True):
    """Of a key in `Outcomes`, or later in `Watch.report`: it has been applied."""


class KeyOutcome(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of one key at a watch.

    reason: why, as the handler said it.
    agent: whose watch it is, where agents were asked by their reports.
    """

    verdict: Verdict
    reason: str = ""
    agent: str = ""


class Result(msgspec.Struct, frozen=True):
    """What became of a commit or a RESYNC at the watches.

    verdict: the worst of their outcomes.
    outcomes: what was said of single keys, but for those that were accepted.
    """

    verdict: Verdict
    outcomes: Mapping[str, KeyOutcome] = {}

    @property
    def reasons(self) -> dict[str, str]:
        """Refused keys, each with the reason."""
        return reasons_of(self.outcomes)

    def renamed(self, name: Callable[[str], str]) -> Result:
        """The same, of the keys by the names that `name` gives them."""
        if not self.outcomes:
            return self
        return Result(self.verdict, {name(key): said for key, said in self.outcomes.items()})


Reply = Callable[[Result], None]
"""The way back to a publisher. Called once, inside the engine: it only notes the
result, and must not raise."""

Listener = Callable[[Result], None]

NO_OUTCOMES: Mapping[str, KeyOutcome] = MappingProxyType({})

# by value, since the hash of an enum member is slow; UNWATCHED stays only where no watch votes
_WORSE = {"unwatched": 0, "accepted": 1, "pending": 2, "refused": 3, "failed": 4, "overdue": 5}
_UNWATCHED = Verdict.UNWATCHED
_AGAIN = (Verdict.FAILED, Verdict.OVERDUE)
_PLAIN = {verdict.value: Result(verdict) for verdict in Verdict}


def worst_of(outcomes: Iterable[KeyOutcome]) -> Verdict:
    """The worst of their verdicts; ACCEPTED where there is none."""
    verdicts = (said.verdict for said in outcomes)
    return max(verdicts, key=lambda verdict: _WORSE[verdict._value_], default=Verdict.ACCEPTED)


def worse_than(one: Verdict, other: Verdict) -> bool:
    """Whether the first of two verdicts is the worse one."""
    return _WORSE[one._value_] > _WORSE[other._value_]


def reasons_of(outcomes: Mapping[str, KeyOutcome]) -> dict[str, str]:
    """Of these keys the refused ones, each with the reason."""
    return {key: said.reason for key, said in outcomes.items() if said.verdict is Verdict.REFUSED}


class Tally(msgspec.Struct, gc=False):
    """Counts the open votes on one commit or RESYNC; the listeners hear the worst of them, once.

    `expected` starts with one vote, which the code that hands out the votes holds until `close`.
    A tally is itself a `Reply`, to as many groups of watches as `expected` says.
    """

    _listeners: tuple[Listener, ...] = ()
    _verdict: Verdict = Verdict.UNWATCHED
    _outcomes: dict[str, KeyOutcome] | None = None
    expected: int = 1
    result: Result | None = None
    final: bool = False
    """Only what a watch has settled counts: it is asked again until then."""

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the result, now if it is there. It must only note it."""
        if self.result is not None:
            listener(self.result)
        else:
            self._listeners = (*self._listeners, listener)

    def vote(self, verdict: Verdict, outcomes: Mapping[str, KeyOutcome] = NO_OUTCOMES) -> None:
        """The outcome at one of the watches, and of single keys."""
        if outcomes:
            self.note_keys(outcomes)
        worst = self._verdict
        if worst is _UNWATCHED or _WORSE[verdict._value_] > _WORSE[worst._value_]:
            worst = verdict
        left = self.expected = self.expected - 1
        if left:
            self._verdict = worst
            return
        self.result = result = (
            Result(worst, self._outcomes) if self._outcomes else _PLAIN[worst._value_]
        )
        for listener in self._listeners:
            try:
                listener(result)
            except Exception:  # G8: a way back that is broken stops nobody else
                log.exception("unexpected error in handing on a verdict")

    def counts(self, verdict: Verdict, outcomes: Mapping[str, KeyOutcome]) -> bool:
        """Whether that outcome of an event is one to vote with: an event that failed, or is
        overdue, as a whole may still be settled.
        """
        return not self.final or bool(outcomes) or verdict not in _AGAIN

    def add(self, result: Result) -> None:
        """The outcome at one of several groups of watches."""
        self.vote(result.verdict, result.outcomes)

    __call__ = add

    def note(self, verdict: Verdict) -> None:
        """The outcome at a watch that nobody expected to vote."""
        if self._verdict is _UNWATCHED or _WORSE[verdict._value_] > _WORSE[self._verdict._value_]:
            self._verdict = verdict

    def note_keys(self, outcomes: Mapping[str, KeyOutcome]) -> None:
        """The outcomes of single keys there; of one key at several watches the worst counts."""
        known = self._outcomes
        if known is None:
            known = self._outcomes = {}
        for key, said in outcomes.items():
            self.note(said.verdict)
            before = known.get(key)
            if before is None or _WORSE[before.verdict._value_] <= _WORSE[said.verdict._value_]:
                known[key] = said

    def close(self) -> None:
        """Give up one open vote without an outcome: the watch is gone, or
        all votes are handed out."""
        self.vote(_UNWATCHED)


def tally_of(reply: Reply, final: bool) -> Tally:
    """The tally of the votes that a frame asks for, with one of them held.

    Where `reply` is a tally, that one: what it expects of the frame is the vote that is held.
    """
    if type(reply) is Tally and not final:
        return reply
    return Tally((reply,), final=final)


class Vote(msgspec.Struct, gc=False):
    """What one watch still owes a tally: the outcome of these keys (all
    keys of the event where None).

    written: the revision of the write, where it may come before commits that are older: these
        overwrite nothing of it.
    """

    tally: Tally
    keys: set[str] | None = None
    written: int = 0

    def cast(self, verdict: Verdict, outcomes: Mapping[str, KeyOutcome] = NO_OUTCOMES) -> bool:
        """Vote, as far as the outcomes concern these keys. Whether that counts;
        else the vote is still owed."""
        if not self.tally.counts(verdict, outcomes):
            return False
        if outcomes and self.keys is not None:
            # G7: each publisher hears of its own keys alone
            outcomes = {key: outcomes[key] for key in sorted(self.keys) if key in outcomes}
            verdict = worst_of(outcomes.values())
        self.tally.vote(verdict, outcomes)
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

    def overwritten(self, keys: Iterable[str], revision: int) -> None:
        """A newer commit writes `keys`: older commits no longer depend on them."""
        for key in keys:
            for number in self._by_key.pop(key, ()):
                vote = self._open[number]
                assert vote.keys is not None
                if vote.written >= revision:
                    self._by_key.setdefault(key, {})[number] = None
                    continue
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
