"""Mistakes planted in reports: the simulation of agents that die at any point, and of writers that
ask them, has to find each, by the rule of the checker that is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from datasync.events import ChangeEvent
from datasync.outcome import KeyOutcome, Verdict
from datasync.report import LayerReport
from datasync.reports import asking, reader
from datasync.reports.agent import Reporter
from datasync.reports.answering import Answering
from datasync.reports.asking import Asking, _Question
from datasync.reports.clocks import Clocks
from datasync.reports.form import Digest, decode_ticket, digest_of
from datasync.reports.reader import Fleet
from datasync.reports.rivals import Rivals
from datasync.syncbase import standing
from datasync.syncbase.standing import Standing
from datasync.testing import simulate_reports
from datasync.testing.simulation.__main__ import check_seed
from datasync.testing.trace.records import AgentsHeard

_SEEDS = 40
_STARTS = {
    "an agent that is gone is asked": 43,
    "a ticket's time is by the clock of who wrote it": 52,
    "a store that was lost goes unnoticed": 59,
    "an earlier life is a rival": 30,
    "a rival that has ended is named for good": 50,
}
"""Where the hunt begins, for mistakes that show in few seeds."""

outcome, said, outcomes_note, read, take = (
    Standing.outcome, _Question._said, Standing._note, Reporter._read, Fleet.take,
)  # fmt: skip
handle, absence, take_ticket = Asking._handle, asking._absence, Answering._take


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


def _ever_known(self: Rivals, now: float) -> str | None:
    return self._rival


async def _sees_nobody(self: Asking, event: Any) -> None:
    """As if it saw no agent report, but what stood there at the start."""
    if not isinstance(event, ChangeEvent):
        await handle(self, event)
        return
    answers = [one for one in event.changes if "/progress/" not in one.key]
    await handle(self, ChangeEvent(revision=event.revision, changes=answers))


def _of_any_age(progress: Any, now: float) -> str:
    return absence(msgspec.structs.replace(progress, time=now), now)


def _of_few_seconds(progress: Any, now: float) -> str:
    return absence(msgspec.structs.replace(progress, lease=5.0), now)


def _by_the_writers_clock(self: Answering, *args: Any, **kwargs: Any) -> None:
    take_ticket(self, *args, **kwargs)
    ticket, number = decode_ticket(args[1]), self._number(args[0])
    left = ticket.deadline - self._engine.wall()
    over = self._engine.now() + left + 60
    self._tickets[number] = msgspec.structs.replace(self._tickets[number], over=over)


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
    "clocks are taken to agree": ("present", Clocks, "behind", lambda *_: 0.0),
    "signs of life are not seen": ("present", Asking, "_handle", _sees_nobody),
    "an agent that is gone is asked": ("present", asking, "_absence", _of_any_age),
    "nobody waits for a sign of life": ("present", asking, "_absence", _of_few_seconds),
    "a ticket's time is by the clock of who wrote it": (
        "present", Answering, "_take", _by_the_writers_clock,
    ),
    "what has not come was overtaken": ("answered", Answering, "_in_order", True),
    "no rival is found": ("rest", Rivals, "see", lambda *_: False),
    "a rival that has ended is named for good": ("rivals", Rivals, "known", _ever_known),
    "tickets stay": ("rest", Answering, "_over", lambda _: []),
    "an earlier life's answers stay": ("rest", Answering, "_look_for_left", _does_not_look),
}  # fmt: skip


@pytest.mark.apart
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


def test_each_mistake_can_be_planted() -> None:
    """Where make test does not hunt for it."""
    assert [
        name for name, (_, owner, what, _) in _MISTAKES.items() if not hasattr(owner, what)
    ] == []


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
