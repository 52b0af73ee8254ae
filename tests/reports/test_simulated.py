"""Agents that die at any point, and writers that ask them, over a store that fails; and mistakes
that this has to find.
"""

from __future__ import annotations

import logging

import pytest

from datasync.outcome import KeyOutcome, Verdict
from datasync.reports.agent import Reporter
from datasync.syncbase.standing import Standing
from tests.helpers.reports.simulated import simulate

SEEDS = range(12)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The engine warns of every fault; here they are meant."""
    caplog.set_level(logging.CRITICAL + 1, "datasync")


def test_verdicts_are_true_and_records_are_right_at_rest() -> None:
    heard: set[str] = set()
    for seed in SEEDS:
        simulation = simulate(seed)
        assert not simulation.wrong, f"seed {seed}: {simulation.wrong}"
        heard.update(simulation.heard)
    assert heard >= {"accepted", "refused", "pending", "superseded"}


def found() -> bool:
    """Whether a seed shows that something is wrong."""
    return any(simulate(seed).wrong for seed in SEEDS)


def test_it_finds_a_verdict_that_was_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = KeyOutcome(Verdict.ACCEPTED)
    monkeypatch.setattr(Standing, "outcome", lambda *_: accepted)
    assert found()


def test_it_finds_agents_that_do_not_come_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reporter, "_differs", lambda *_: True)
    assert found()


def test_it_finds_an_agent_that_does_not_look_what_lies_there_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def read(self: Reporter) -> None:
        self._records = {}

    monkeypatch.setattr(Reporter, "_read", read)
    assert found()
