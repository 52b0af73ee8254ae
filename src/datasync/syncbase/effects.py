"""What the core asks of the engine, besides giving events to watches; and what it tells those who
only look on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Any, Protocol

import msgspec

from datasync.events import Event
from datasync.outcome import KeyOutcome, Verdict
from datasync.syncbase.mirror import Diff
from datasync.syncbase.outstanding import Outstanding
from datasync.syncbase.subscriber import Subscriber

__all__ = ["Onlooker", "Request", "Tracing", "Witness"]


class Request(msgspec.Struct, gc=False):
    """Something was registered: the feed of this layer (by index) is to bring it up to date.

    It does not wait for effects: a write that comes next is to find it done. `wider`: the session
    may not follow all of its scopes.
    """

    layer: int
    wider: bool


class Onlooker(Protocol):
    """Hears of what becomes known, after the watches, and has no say in it."""

    def committed(self, diffs: Sequence[Diff], revision: int) -> None:
        """One commit is known: each key with its records before and after."""

    def replaced(self) -> None:
        """A snapshot is known, or something was forgotten: all may be different now."""


class Tracing(Onlooker, Protocol):
    """Also hears of each event that is handed over, and what became of it; `datasync.tracing`
    documents each method.
    """

    def given(self, watch: str, event: Event[Any], within: Context) -> Context: ...
    def settled(
        self,
        watch: str,
        verdict: Verdict,
        outcomes: Mapping[str, KeyOutcome],
        error: BaseException | None,
    ) -> None: ...
    def overdue(self, watch: str) -> None: ...
    def closed(self, watch: str) -> None: ...


class Witness(Protocol):
    """Hears, before the event of a watch is gone, that it was not simply applied."""

    def settled(
        self, sub: Subscriber, out: Outstanding, outcomes: Mapping[str, KeyOutcome]
    ) -> None: ...
    def failed(self, sub: Subscriber, out: Outstanding) -> None: ...
