"""Whatever is stored, found, broken and changed, in whatever order: the end is right."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasync.reconcile import graph
from tests.helpers.reconcile.play import ONCE_BAD, Game, Play, check_seed


@settings(
    deadline=None, max_examples=100, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_the_end_is_what_can_be_applied(rng: random.Random, steps: int) -> None:
    Play(rng, more=rng).play(steps)


def test_the_same_numbers_give_the_same_operations() -> None:
    logs = []
    for _ in range(2):
        play = Play(random.Random(7), more=random.Random(7))
        play.play(60)
        logs.append(play.world.log)
    assert logs[0] == logs[1]
    assert len(logs[0]) > 50


@pytest.mark.parametrize(("seeds", "steps"), [(range(400), 120), (range(50), 400)])
def test_long_games_end_as_they_must(seeds: range, steps: int) -> None:
    for seed in seeds:
        check_seed(seed, steps)


@pytest.mark.parametrize("seed", range(8))
def test_a_process_may_end_before_any_step(seed: int) -> None:
    for step in range(60):
        check_seed(seed, 60, crash_at=step)


@pytest.mark.parametrize("game", ONCE_BAD)
def test_games_that_once_ended_badly(game: Game) -> None:
    check_seed(**game._asdict())


def test_games_in_which_users_are_told_step_by_step_end_as_they_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed in range(60):
        monkeypatch.setattr(graph, "_AT_ONCE", seed % 3)
        check_seed(seed, 100, worse=seed % 2 > 0)


def test_long_games_with_refusals_and_failures_for_good_end_as_they_must() -> None:
    for seed in range(150):
        check_seed(seed, 120, more=seed % 3 > 0, worse=True, crash_at=seed if seed % 2 else None)
