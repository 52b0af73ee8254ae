"""Mistakes planted in reports: the simulation of agents that die at any point, and of writers that
ask them, has to find each, by the rule of the checker that is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from datasync.outcome import KeyOutcome, Verdict
from datasync.report import LayerReport
from datasync.reports import reader
from datasync.reports.agent import Reporter
from datasync.reports.answering import Answering
from datasync.reports.asking import _Question
from datasync.reports.form import Digest, digest_of
from datasync.reports.reader import Fleet
from datasync.reports.rivals import Rivals
from datasync.syncbase import standing
from datasync.syncbase.standing import Standing
from datasync.testing import simulate_reports
from datasync.testing.simulation.__main__ import check_seed
from datasync.testing.trace.records import AgentsHeard

_SEEDS = 40
_STARTS = {
    "what is not settled is overtaken": 8,
    "a record of the value that stands there": 11,
    "a revision of another history": 6,
    "it goes back with the number": 6,
    "records that do not belong to it": 6,
    "a store that was lost goes unnoticed": 185,
    "tickets stay": 6,
    "an earlier life's answers stay": 22,
}
"""Where the hunt begins, for mistakes that show in few seeds."""

outcome, said, outcomes_note, read, see, take, look = (
    Standing.outcome, _Question._said, Standing._note, Reporter._read, Rivals.see, Fleet.take,
    Answering._look_for_left,
)  # fmt: skip


def _accepted(*_: object) -> KeyOutcome:
    return KeyOutcome(Verdict.ACCEPTED)


def _of_what_stands_there(self: Standing, key: str, _: str | None) -> KeyOutcome | None:
    record = self._core.mirror.get(key)
    return outcome(self, key, None if record is None else digest_of(record.raw))


def _overtaken_while_it_is_not_settled(
    self: Standing, key: str, digest: str | None
) -> KeyOutcome | None:
    return outcome(self, key, digest) or KeyOutcome(Verdict.SUPERSEDED)


def _silence_is_consent(self: _Question, agent: str, key: str) -> KeyOutcome:
    return said(self, agent, key) if agent in self.answers else KeyOutcome(Verdict.ACCEPTED)


def _note_of_what_stands_there(
    self: Standing, sub: Any, values: Iterable[tuple[str, Any]], *, failed: bool
) -> None:
    now = ((key, self._core.mirror.get(key)) for key, _ in values)
    outcomes_note(self, sub, now, failed=failed)


def _of_the_history_that_is_there(self: Standing, layer: Any) -> LayerReport:
    settled = self._settled.get(layer)
    return LayerReport(layer.name, None if settled is None else settled[1], layer.history)


async def _nothing_was_there(self: Reporter) -> None:
    self._records = {}


async def _reads_once(self: Reporter) -> None:
    if self._records is None:
        await read(self)


class _Anything(Digest):
    value: Any = type("", (), {"__eq__": lambda *_: True, "__hash__": None})()


def _reports_again(self: Fleet, event: Any) -> Any:
    reports = take(self, event)
    self.before, before = reports, getattr(self, "before", [])  # type: ignore[attr-defined]
    return reports + before


def _rival_at_once(self: Rivals, there: Any, now: float) -> bool:
    self._rival, self._at = there.instance, math.inf
    return True


async def _does_not_look(self: Answering) -> None:
    self._looks = False


_MISTAKES: dict[str, tuple[str, Any, str, Any]] = {
    "all is accepted": ("answered", Standing, "outcome", _accepted),
    "about the value that stands there": ("answered", Standing, "outcome", _of_what_stands_there),
    "what is not settled is overtaken": (
        "answered", Standing, "outcome", _overtaken_while_it_is_not_settled,
    ),
    "nobody watches it": ("answered", Standing, "_watches_of", lambda *_: []),
    "silence is consent": ("answered", _Question, "_said", _silence_is_consent),
    "a record of the value that stands there": (
        "records", Standing, "_note", _note_of_what_stands_there,
    ),
    "a revision of another history": ("settled", Standing, "_layer", _of_the_history_that_is_there),
    "it goes back with the number": ("progress", Standing, "_layer", _of_the_history_that_is_there),
    "all is settled": ("settled", standing, "_oldest_unsettled", lambda _: math.inf),
    "records that do not belong to it": ("believed", reader, "Digest", _Anything),
    "a reader goes back": ("believed", Fleet, "take", _reports_again),
    "it never rests": ("rest", Reporter, "_differs", lambda *_: True),
    "what an earlier life left stays": ("rest", Reporter, "_read", _nothing_was_there),
    "a store that was lost goes unnoticed": ("rest", Reporter, "_read", _reads_once),
    "an earlier life is a rival": ("rest", Rivals, "see", _rival_at_once),
    "tickets stay": ("rest", Answering, "_over", lambda _: []),
    "an earlier life's answers stay": ("rest", Answering, "_look_for_left", _does_not_look),
}  # fmt: skip


@pytest.mark.parametrize("mistake", _MISTAKES)
def test_it_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, owner, name, wrong = _MISTAKES[mistake]
    monkeypatch.setattr(owner, name, wrong)
    start = _STARTS.get(mistake, 0)
    assert any(
        violation.validator == rule
        for seed in range(start, start + _SEEDS)
        for violation in check_seed(seed, kind="reports")[1]
    )


def test_a_run_sees_all_that_can_become_of_a_write() -> None:
    """What the schedules do not bring about cannot be found by them."""
    heard = [
        record
        for seed in range(30)
        for record in simulate_reports(seed)
        if isinstance(record, AgentsHeard)
    ]
    verdicts = {verdict for record in heard for verdict, _, _ in record.outcomes.values()}
    assert verdicts == {
        "pending", "unwatched", "superseded", "refused", "failed", "overdue", "absent",
    }  # fmt: skip
    assert any(not record.outcomes for record in heard)
