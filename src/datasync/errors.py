"""Every error that datasync raises, under one root; each message ends with the way out.

`UsageError` marks a mistake of the caller (the command line exits with 2 for it),
everything else is a failure met while running (exit 1). `Refused`, `Pending`, `Failed`,
`Outcomes` and `Retry` are raised by handlers, not by datasync.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

from datasync.outcome import Accepted, KeyOutcome, Verdict, reasons_of
from datasync.texts import printable

__all__ = [
    "AlreadyRegistered",
    "AnswerTooLarge",
    "BadKey",
    "BadPrefix",
    "BadStore",
    "BadUrl",
    "BadValue",
    "Conflict",
    "DataSyncError",
    "DatasyncError",
    "DecodeError",
    "Disconnected",
    "Failed",
    "Forked",
    "HistoryChanged",
    "HistoryLost",
    "MissingExtra",
    "NotApplied",
    "NotReady",
    "OutcomeUnknown",
    "Outcomes",
    "PartialWrite",
    "Pending",
    "Refused",
    "Retry",
    "Unauthorized",
    "UnsupportedOption",
    "UsageError",
    "WatchClosed",
    "WrongLoop",
]


_NAMED = 5
"""Keys that the text of `Outcomes` names, at most: there may be a hundred thousand."""


class DataSyncError(Exception):
    """The root of all errors of datasync. Their text is one printable line,
    whatever a server has said."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(one) if isinstance(one, str) else one for one in args))


DatasyncError = DataSyncError
"""The root as it was called first; for one version more."""


class UsageError(DataSyncError):
    """The call itself is wrong; the message says what to write instead."""


class BadUrl(UsageError):
    """A source URL that cannot be used: its scheme, its form or one of its query keys."""


class MissingExtra(UsageError):
    """The transport or codec needs a package that is not installed; the message names the extra."""


class BadPrefix(UsageError):
    """A prefix that is neither empty nor ends in a slash, so that it would match its neighbours."""


class BadKey(UsageError):
    """A key that is not text, is empty, or starts with a slash below a prefix."""


class BadValue(UsageError):
    """A value that cannot be encoded; the message names its key."""


class AlreadyRegistered(UsageError):
    """A watch name used twice, or a prefix given twice to one watch."""


class UnsupportedOption(UsageError):
    """The source lacks what the option asks for; nothing was done."""


class WrongLoop(UsageError):
    """Used outside the event loop that the DataSync was started in."""


class Forked(UsageError):
    """Used in a child process that inherited it by a fork."""

    def __init__(
        self,
        message: str = "this DataSync was started before the fork, in the parent process; make a "
        "new one here, or start it only after the fork",
    ) -> None:
        super().__init__(message)


class NotReady(DataSyncError):
    """Read before the first complete RESYNC of the source."""


class WatchClosed(DataSyncError):
    """The watch, view or DataSync that was waited for has been closed."""

    def __init__(self, message: str = "the DataSync has been closed; make a new one") -> None:
        super().__init__(message)


class BadStore(DataSyncError):
    """The store exists but cannot be used: missing, read-only, damaged, or of a newer format."""


class Conflict(DataSyncError):
    """`if_revision` did not hold; nothing was written.

    `key` is the key whose revision differed, `expected` the revision asked for (0: absent).
    """

    def __init__(self, key: str, expected: int) -> None:
        wanted = "to be absent" if expected == 0 else f"at revision {expected}"
        super().__init__(f"{key!r} is not {wanted} any more; read it again and repeat the write")
        self.key = key
        self.expected = expected

    def __reduce__(self) -> tuple[type[Conflict], tuple[str, int]]:
        return type(self), (self.key, self.expected)


class DecodeError(DataSyncError):
    """The stored bytes of `key` are not a value of the type asked for."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"the value of {key!r} does not decode: {reason}")
        self.key = key
        self.reason = reason

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        return type(self), (self.key, self.reason)


class NotApplied(DataSyncError):
    """The write stands, but the watches did not all accept it.

    `verdict` is the worst verdict; `outcomes` maps keys to what became of each, where a handler
    said so, with its `verdict` and `reason`, and its `agent` where agents were asked; `reasons`
    maps the refused ones of these to why; `revision` is that of the write.
    """

    def __init__(
        self, verdict: Verdict, outcomes: Mapping[str, KeyOutcome], revision: int | None
    ) -> None:
        # of no agent at all, where none reports
        asked = any(said.agent or said.verdict is Verdict.ABSENT for said in outcomes.values())
        because = "; ".join(
            f"{_at(key, said)}: {said.reason}"
            if said.verdict is verdict
            else f"{_at(key, said)} ({said.verdict.value}): {said.reason}"
            for key, said in outcomes.items()
        )
        super().__init__(
            f"written, but {verdict.value}"
            + (f" ({because})" if because else "")
            + ("; see the reports of the agents" if asked else "; see the status of the watches")
        )
        self.verdict = verdict
        self.outcomes = dict(outcomes)
        self.reasons = reasons_of(outcomes)
        self.revision = revision

    def __reduce__(
        self,
    ) -> tuple[type[NotApplied], tuple[Verdict, dict[str, KeyOutcome], int | None]]:
        return type(self), (self.verdict, self.outcomes, self.revision)


def _at(key: str, said: KeyOutcome) -> str:
    return f"{key} at {said.agent}" if said.agent else key


class OutcomeUnknown(DataSyncError):
    """The connection died while a write was under way: it may or may not have been done."""


class PartialWrite(DataSyncError):
    """A write to several sources succeeded in some: `done` names them,
    `failed` maps the others to why.

    Where it succeeded in none, what is raised is the error of one of them: `OutcomeUnknown` of one
    that may have done it, else that of the first.
    """

    def __init__(self, done: Sequence[str], failed: Mapping[str, Exception]) -> None:
        lost = "; ".join(f"{name}: {error}" for name, error in failed.items())
        super().__init__(f"written to {', '.join(done)}, but not to {lost}; repeat the write")
        self.done = list(done)
        self.failed = dict(failed)

    def __reduce__(self) -> tuple[type[PartialWrite], tuple[list[str], dict[str, Exception]]]:
        return type(self), (self.done, self.failed)


class Disconnected(DataSyncError):
    """The source cannot be reached now; a watch retries by itself, a write
    or read did not happen."""


class AnswerTooLarge(Disconnected):
    """One answer or event of a server is larger than `max_answer=` of the URL
    allows; its connection was dropped.

    A watch goes on as after any lost connection; a read did not happen.
    """


class Unauthorized(DataSyncError):
    """The source rejected the credentials or the certificate."""


class HistoryLost(DataSyncError):
    """The source cannot continue after the position asked for; a new snapshot is needed.

    `changed` tells a new history (an emptied or restored store) from a mere compaction.
    """

    def __init__(self, message: str, *, changed: bool = False) -> None:
        super().__init__(message)
        self.changed = changed


class HistoryChanged(DataSyncError):
    """The store was emptied or restored: the revision that was waited for
    belongs to a history that is gone."""


class HandlerOutcome(DataSyncError):
    """What `Refused`, `Pending` and `Failed` share, so that a type checker finds what a dict of
    several of them holds.
    """

    def by_key(self, keys: Iterable[str]) -> Mapping[str, KeyOutcome]:
        """The outcomes, for an event that is about `keys`."""
        raise NotImplementedError


class Refused(HandlerOutcome):
    """Raised by a handler: these keys were left as they were, all others were applied.

    reasons: why, by refused key, as the publisher is told it; or one reason, for all keys of the
        event.

    Raises `UsageError` for anything else.
    """

    def __init__(self, reasons: Mapping[str, str] | str) -> None:
        if isinstance(reasons, str):
            super().__init__(reasons)
            self.reasons: dict[str, str] | str = reasons
        elif not isinstance(reasons, Mapping):
            raise UsageError(
                f"Refused takes a text, or texts by key, not {type(reasons).__name__}; write for "
                "example Refused('no such port'), or Refused({'config/route/a': 'no eth0'})"
            )
        else:
            super().__init__("; ".join(f"{key}: {reason}" for key, reason in reasons.items()))
            self.reasons = dict(reasons)

    def of(self, keys: Iterable[str]) -> Mapping[str, str]:
        """The reasons by key, for an event that is about `keys`."""
        if isinstance(self.reasons, str):
            return dict.fromkeys(sorted(keys), self.reasons)
        return self.reasons

    def by_key(self, keys: Iterable[str]) -> Mapping[str, KeyOutcome]:
        return {
            key: KeyOutcome(Verdict.REFUSED, printable(str(reason)))
            for key, reason in self.of(keys).items()
        }

    def __reduce__(self) -> tuple[type[Refused], tuple[dict[str, str] | str]]:
        return type(self), (self.reasons,)


class OpenOutcome(HandlerOutcome):
    """What `Pending` and `Failed` share."""

    _verdict: ClassVar[Verdict]

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

    def by_key(self, keys: Iterable[str]) -> Mapping[str, KeyOutcome]:
        return dict.fromkeys(sorted(keys), KeyOutcome(self._verdict, printable(str(self.reason))))


class Pending(OpenOutcome):
    """Of a key in `Outcomes`: it waits for something else, and will be applied when that comes.
    Raised by a handler itself: all keys of the event do.

    The event does not come again; `Watch.report` says what became of the key.

    reason: what it waits for, as the publisher is told it; default none.
    """

    _verdict = Verdict.PENDING


class Failed(OpenOutcome):
    """Of a key in `Outcomes`: it could not be applied, and the handler itself tries it again.
    Raised by a handler itself: all keys of the event could not. (Any other exception: the event
    comes again.)

    The event does not come again; `Watch.report` says what became of the key.

    reason: why, as the publisher is told it; default none.
    """

    _verdict = Verdict.FAILED


Said = Accepted | HandlerOutcome
"""What a handler says of one key."""


class Outcomes(DataSyncError):
    """Raised by a handler: what became of single keys of the event; all others were applied.

    outcomes: by key, as the event shows it, `Refused(why)`, `Pending(why)`, `Failed(why)`, or
        `Accepted()`, which need not be said.

    Raises `UsageError` for anything else.
    """

    def __init__(self, outcomes: Mapping[str, Said]) -> None:
        self._by_key = outcomes_of(outcomes)
        named = "; ".join(
            f"{key}: {said.verdict.value}" + (f", {said.reason}" if said.reason else "")
            for key, said in itertools.islice(self._by_key.items(), _NAMED)
        )
        more = f"; and {len(outcomes) - _NAMED:,} more" if len(outcomes) > _NAMED else ""
        super().__init__(named + more)
        self.outcomes = dict(outcomes)

    def by_key(self, keys: Iterable[str]) -> Mapping[str, KeyOutcome]:
        """The outcomes, for an event that is about `keys`."""
        return self._by_key

    def __reduce__(self) -> tuple[type[Outcomes], tuple[dict[str, Said]]]:
        return type(self), (self.outcomes,)


def outcomes_of(said: Mapping[str, Said]) -> dict[str, KeyOutcome]:
    """What is said of keys, checked. Raises `UsageError`."""
    if not isinstance(said, Mapping):
        raise UsageError(
            "outcomes are given by key; write for example {'config/route/a': Pending('no eth0')}"
        )
    return {key: _outcome_of(key, one) for key, one in said.items()}


def _outcome_of(key: str, said: object) -> KeyOutcome:
    if isinstance(said, Accepted):
        return KeyOutcome(Verdict.ACCEPTED)
    if isinstance(said, HandlerOutcome):
        of_key = said.by_key([key])
        if key in of_key:
            return of_key[key]
    raise UsageError(
        f"the outcome of {key!r} must be Accepted(), Refused(why), Pending(why) or Failed(why), "
        f"got {said!r}"
    )


class Retry(DataSyncError):
    """Raised by a handler: the event could not be applied; bring it again after `after` seconds."""

    def __init__(self, reason: str = "", *, after: float) -> None:
        if not isinstance(after, int | float) or not 0 <= after < float("inf"):
            raise UsageError(f"the after of Retry must be a number of seconds >= 0, got {after!r}")
        super().__init__(reason or f"retry after {after:g} s")
        self.after = after

    def __reduce__(self) -> tuple[Callable[..., Retry], tuple[str]]:
        return functools.partial(type(self), after=self.after), (str(self),)
