"""Telling a history by hand: a trace, record by record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasync.capabilities import Capabilities
from datasync.testing import EXACT, check
from datasync.testing.trace import records as t

Values = Mapping[str, tuple[bytes, int]]
Change = tuple[str, bytes | None, bytes | None, int]
"""(key, previous value, value, revision)."""


class Tale:
    """Builds a trace.

    Each call is one record, at the time `at`; watches report and ask again by themselves unless
    told otherwise by `outcome=None`.
    """

    def __init__(self, capabilities: Capabilities = EXACT, *more: str) -> None:
        self.trace: list[t.Record] = []
        self.at = 0.0
        self.events = 0
        for name in ("s", *more):
            self.note(t.SourceDeclared, source=name, capabilities=capabilities)
            self.note(t.HistoryStarted, source=name, history="h1")

    def note(self, make: Any, **fields: Any) -> None:
        self.trace.append(make(seq=len(self.trace), at=self.at, **fields))

    def wait(self, seconds: float) -> None:
        self.at += seconds

    def commit(self, revision: int, changes: Mapping[str, bytes | None], source: str = "s") -> None:
        self.note(t.Committed, source=source, changes=list(changes.items()), revision=revision)

    def history(
        self, name: str, revision: int = 0, items: Sequence[tuple[str, bytes, int]] = ()
    ) -> None:
        self.note(t.HistoryStarted, source="s", history=name, revision=revision, items=items)

    def watch(self, name: str, *scopes: str, **options: Any) -> None:
        self.note(t.Registered, watch=name, scopes=list(scopes), **options)

    def resync(
        self,
        watch: str,
        values: Mapping[str, Values],
        changes: Sequence[Change],
        revision: int,
        *,
        reason: str = "start",
        outcome: str | None = "accepted",
        reasons: Mapping[str, str] | None = None,
        source: str = "s",
        **fields: Any,
    ) -> None:
        listed = {
            scope: [(key, raw, at, source) for key, (raw, at) in sorted(found.items())]
            for scope, found in values.items()
        }
        fields.update(values=listed, reason=reason)
        self._deliver(watch, changes, revision, outcome, reasons, source, fields)

    def change(
        self,
        watch: str,
        changes: Sequence[Change],
        revision: int,
        *,
        outcome: str | None = "accepted",
        reasons: Mapping[str, str] | None = None,
        source: str = "s",
        **fields: Any,
    ) -> None:
        self._deliver(watch, changes, revision, outcome, reasons, source, fields)

    def _deliver(
        self,
        watch: str,
        changes: Sequence[Change],
        revision: int,
        outcome: str | None,
        reasons: Mapping[str, str] | None,
        source: str,
        fields: dict[str, Any],
    ) -> None:
        self.events += 1
        steps = [t.Step(key, prev, raw, at, source) for key, prev, raw, at in changes]
        self.note(
            t.Delivered,
            watch=watch,
            event=self.events,
            changes=steps,
            revision=revision,
            source=source,
            **fields,
        )
        if outcome is not None:
            self.report(watch, outcome, reasons)

    def report(
        self,
        watch: str,
        outcome: str = "accepted",
        reasons: Mapping[str, str] | None = None,
        event: int = 0,
        outcomes: Mapping[str, t.Said] | None = None,
    ) -> None:
        self.note(
            t.Reported,
            watch=watch,
            event=event or self.events,
            outcome=outcome,
            reasons=reasons or {},
            outcomes=outcomes or {},
        )
        self.note(t.Asked, watch=watch)

    def frame(
        self, kind: str, revision: int = 0, *keys: str, session: int = 1, history: str = "h1"
    ) -> None:
        self.note(
            t.SessionFrame,
            source="s",
            session=session,
            kind=kind,
            revision=revision,
            keys=keys,
            history=history,
        )

    def session(self, *scopes: str, number: int = 1, resume: int | None = None) -> None:
        self.note(t.SessionOpened, source="s", session=number, scopes=scopes, resume=resume)

    def verdict(self, began: int, revision: int, verdict: str, *keys: str, **fields: Any) -> None:
        self.note(
            t.Answered,
            source="s",
            began=began,
            revision=revision,
            verdict=verdict,
            keys=keys,
            **fields,
        )

    def end(self, values: Mapping[str, bytes], revision: int = 0) -> None:
        self.note(t.Quiet)
        self.note(t.Stored, source="s", values=values, revision=revision)

    def broken(self) -> set[str]:
        """The names of the validators that do not hold."""
        return {violation.validator for violation in check(self.trace)}
