"""The simulation finds nothing in the engine, and repeats exactly.

DATASYNC_SEEDS: how many seeds (default 250).

`make check-long` runs 5,000. Of reports it is a fifth as many.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from datasync.testing import PROFILES, check, dump, load, simulate
from datasync.testing.simulation import __main__ as command
from datasync.testing.simulation.__main__ import check_seed, explain, main

_CHUNK = 50
_SEEDS = int(os.environ.get("DATASYNC_SEEDS", "250"))
_ENGINE = [2913, 4238, 5590, 23990, 25792, 51235, 52938, 60828]
"""These showed mistakes of the engine once."""
_CHECKER = [8139, 22902, 33098, 35601, 42578, 43619, 47631, 54292, 59413, 69644]
"""And these some of the checker."""
_REPORTS = [17, 20, 126, 451, 5364]
"""These some of reports: a revision told of the wrong history, settled though it never was shown,
a reason told of an older value."""


@pytest.mark.parametrize("start", range(0, _SEEDS, _CHUNK))
def test_no_seed_breaks_a_guarantee(start: int) -> None:
    for seed in range(start, min(start + _CHUNK, _SEEDS)):
        trace, violations = check_seed(seed)
        assert not violations, explain(seed, trace, violations)


@pytest.mark.parametrize("start", range(0, _SEEDS // 5, _CHUNK))
def test_no_seed_of_reports_breaks_a_guarantee(start: int) -> None:
    for seed in range(start, min(start + _CHUNK, _SEEDS // 5)):
        trace, violations = check_seed(seed, kind="reports")
        assert not violations, explain(seed, trace, violations, "reports")


@pytest.mark.parametrize("seed", _REPORTS)
def test_what_was_found_of_reports_stays_mended(seed: int) -> None:
    trace, violations = check_seed(seed, kind="reports")
    assert not violations, explain(seed, trace, violations, "reports")


@pytest.mark.parametrize("profile", [*PROFILES, "push", "layers"])
def test_every_kind_of_source_holds(profile: str) -> None:
    for seed in range(100_000, 100_040):
        trace, violations = check_seed(seed, profile=profile)
        assert not violations, explain(seed, trace, violations)


@pytest.mark.parametrize("seed", [*_ENGINE, *_CHECKER])
def test_what_was_found_once_stays_mended(seed: int) -> None:
    trace, violations = check_seed(seed)
    assert not violations, explain(seed, trace, violations)


def _traces(hash_seed: str) -> bytes:
    command = [
        sys.executable,
        "-m",
        "datasync.testing.simulation",
        "--seeds",
        "15",
        "--start",
        "300",
        "--dump",
    ]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        command, env=environment, capture_output=True, check=True, timeout=100
    ).stdout


def test_the_same_seed_gives_the_same_trace_in_any_process() -> None:
    one = _traces("1")
    assert one == _traces("4711")
    assert len(load(one)) > 1000


def test_a_trace_can_be_stored_and_checked_later() -> None:
    trace = simulate(7)
    assert load(dump(trace)) == trace
    assert check(load(dump(trace))) == []


def test_a_run_sees_faults_failures_and_retries() -> None:
    """What the schedules do not bring about cannot be found by them."""
    kinds = {type(record).__name__ for seed in range(20) for record in simulate(seed)}
    assert {
        "SessionEnded",
        "Closed",
        "Scoped",
        "Requested",
        "HistoryStarted",
        "Answered",
        "Reported",
    } <= kinds
    outcomes = {getattr(record, "outcome", "") for seed in range(20) for record in simulate(seed)}
    assert {"accepted", "refused", "failed", "undecodable"} <= outcomes
    verdicts = {getattr(record, "verdict", "") for seed in range(60) for record in simulate(seed)}
    assert {"accepted", "refused", "failed", "overdue", "unwatched"} <= verdicts


def test_the_command_says_what_failed_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--seeds", "2", "--start", "5"]) == 0
    assert capsys.readouterr().out == "2 seeds from 5: all good\n"
    trace = simulate(5)
    broken = [record for record in trace if type(record).__name__ != "Reported"]
    monkeypatch.setitem(command._KINDS, "watches", lambda *_, **__: broken)
    assert main(["--seeds", "2", "--start", "5", "--show", "1"]) == 1
    out = capsys.readouterr().out
    assert "seed 5 of watches: " in out
    assert "one-at-a-time: " in out
    assert "seed 6 of" not in out
    assert "2 seeds from 5: 2 failed" in out
