"""Errors and verdicts as answers of HTTP, in the form of RFC 9457
(application/problem+json), and back again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from datasync import errors
from datasync.codec.shared import UNDECODABLE
from datasync.errors import DataSyncError
from datasync.outcome import KeyOutcome, Verdict
from datasync.source import Result
from datasync.texts import printable

__all__ = [
    "MARK",
    "PROBLEM",
    "STATUS_OF",
    "STREAMED",
    "NoSuchKey",
    "Problem",
    "ProblemDetails",
    "Written",
    "error_of",
    "json_of",
    "problem_of",
]

MARK = "datasync-answer"
"""The header that every answer of ours has, and no gateway sets: how many bytes its body
has before any compression."""
STREAMED = "stream"
"""What it says where the body has no end."""
PROBLEM = "application/problem+json"

STATUS_OF = {
    Verdict.ACCEPTED: 200,
    Verdict.UNWATCHED: 202,
    Verdict.PENDING: 202,
    Verdict.REFUSED: 422,
    Verdict.FAILED: 500,
    Verdict.OVERDUE: 504,
}
"""The status of a write that was done, by what the watches made of it."""

# the first class that fits counts
_STATUSES: tuple[tuple[type[DataSyncError], int], ...] = (
    (errors.Conflict, 409),
    # the store behind rejected this server; the client's own token is met with 401
    (errors.Unauthorized, 502),
    (errors.UsageError, 400),
    (errors.NotReady, 503),
    (errors.Disconnected, 503),
    (errors.HistoryLost, 410),
    (errors.OutcomeUnknown, 502),
    (errors.BadStore, 500),
)
_BY_NAME: Mapping[str, type[DataSyncError]] = {
    kind.__name__: kind
    for kind in (
        errors.BadKey, errors.BadPrefix, errors.BadValue, errors.UnsupportedOption, errors.NotReady,
        errors.Disconnected, errors.OutcomeUnknown, errors.BadStore, errors.Unauthorized,
    )
}  # fmt: skip


def json_of(value: object) -> bytes:
    """A value as JSON, whatever text is in it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, which a handler or a name may have
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()


class ProblemDetails(msgspec.Struct):
    """What an error says, as RFC 9457 has it; `title` is the class of the error.

    key, expected: of a check that did not hold, and the revision that it named.
    changed: whether the source has another history since.
    """

    status: int = 0
    title: str = ""
    detail: str = ""
    key: str | msgspec.UnsetType = msgspec.UNSET
    expected: int | msgspec.UnsetType = msgspec.UNSET
    changed: bool | msgspec.UnsetType = msgspec.UNSET


class Problem(Exception):
    """An answer that is not a success: its status, the name of the error, a line for a
    person, and further members."""

    def __init__(
        self,
        status: int,
        error: str,
        detail: str,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.headers = headers
        self._more = more

    def body(self) -> bytes:
        """As application/problem+json."""
        return json_of(ProblemDetails(self.status, self.error, printable(str(self)), **self._more))


def problem_of(error: Exception) -> Problem | None:
    """How an error of datasync is answered; None for all others, which are defects."""
    if isinstance(error, Problem):
        return error
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            more: dict[str, Any] = {}
            if isinstance(error, errors.Conflict):
                more = {"key": error.key, "expected": error.expected}
            elif isinstance(error, errors.HistoryLost):
                more = {"changed": error.changed}
            headers = ((b"retry-after", b"1"),) if status == 503 else ()
            # a transport may have a class of its own for it, which is nobody else's business
            name = next(
                kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__
            )
            return Problem(status, name, str(error), headers, **more)
    return None


class NoSuchKey(DataSyncError):
    """What is to be read is not there, which `get` turns into None."""


def error_of(status: int, body: bytes, server: str) -> DataSyncError:
    """What a client raises for an answer of a server of ours that is
    neither a success nor a verdict."""
    try:
        said = msgspec.json.decode(body, type=ProblemDetails)
    except UNDECODABLE:
        said = ProblemDetails(detail=f"an answer without an explanation (status {status})")
    text = said.detail or f"status {status}"
    if said.title == "Conflict":
        return errors.Conflict(said.key or "", said.expected or 0)
    if said.title == "NoSuchKey":
        return NoSuchKey(f"{server}: {text}")
    if status == 401:
        return errors.Unauthorized(f"{server}: {text}")
    if said.title == "HistoryLost" or status == 410:
        return errors.HistoryLost(f"{server}: {text}", changed=said.changed is True)
    if said.title in _BY_NAME:
        return _BY_NAME[said.title](f"{server}: {text}")
    if status in (408, 429, 503):
        return errors.Disconnected(f"{server}: {text}")
    if status >= 500:
        return errors.OutcomeUnknown(f"{server}: {text}")
    return errors.BadValue(f"{server}: {text}")


class Written(msgspec.Struct, omit_defaults=True):
    """The answer to a write: its revision, what the watches made of it, and
    whether deletes found something.

    verdict: the worst of theirs; None where nobody was asked.
    reasons: refused keys, each with the reason.
    outcomes: these and all others that were not accepted, where a watch said so of the key.
    detail: for a person.
    """

    status: int = 200
    revision: int | None = None
    verdict: str | None = None
    reasons: Mapping[str, str] = {}
    outcomes: Mapping[str, KeyOutcome] = {}
    existed: list[bool] = []
    title: str = ""
    detail: str = ""

    def result(self) -> Result | None:
        """What the watches made of it. Raises `OutcomeUnknown` for a verdict that is not known
        here.
        """
        if self.verdict is None:
            return None
        try:
            verdict = Verdict(self.verdict)
        except ValueError:
            raise errors.OutcomeUnknown(
                f"written, but the verdict of the watches, {printable(self.verdict)!r}, is not "
                "known here; update datasync"
            ) from None
        # an older server has the reasons alone
        refused = {key: KeyOutcome(Verdict.REFUSED, why) for key, why in self.reasons.items()}
        return Result(verdict, {**refused, **self.outcomes})


_WORDS = {
    Verdict.UNWATCHED: "written; nobody watches it",
    Verdict.PENDING: "written; a watch applies it once what it waits for has come",
    Verdict.REFUSED: "written, but refused by a watch",
    Verdict.FAILED: "written, but a watch failed to apply it; it will try again",
    Verdict.OVERDUE: "written, but a watch has not reported in time",
}


def written(revision: int | None, result: Result | None, existed: list[bool]) -> Written:
    """The answer to a write that was done."""
    if result is None:
        return Written(200, revision, existed=existed)
    verdict = result.verdict
    title = "NotApplied" if STATUS_OF[verdict] >= 400 else ""
    return Written(
        STATUS_OF[verdict],
        revision,
        verdict.value,
        result.reasons,
        result.outcomes,
        existed,
        title,
        _WORDS.get(verdict, ""),
    )
