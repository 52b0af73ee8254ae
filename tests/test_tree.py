"""The simulated tree of relays keeps the law that it is made by, and repeats itself."""

from __future__ import annotations

import pytest

from bench.tree import GRPC, Tree, levels, simulate


def test_levels_are_as_few_as_the_fan_out_allows() -> None:
    assert levels(1_000_000, 1000) == [1, 1000]
    assert levels(1_000_001, 1000) == [1, 2, 1001]
    assert levels(10, 1000) == [1]


def test_a_change_takes_the_sum_of_what_each_level_sends() -> None:
    costs = GRPC
    outcome = simulate(Tree(2000, [1, 10]), costs, 1, rate=0.1)
    last = 10 * costs.message + 200 * costs.message + 2 * (costs.hop + costs.taken_message)
    assert outcome.delays[-1] == pytest.approx(last, rel=0.01)
    assert outcome.delays[0] == pytest.approx(last / 2, rel=0.15)


def test_changes_that_come_faster_than_messages_go_out_share_them() -> None:
    costs = GRPC
    capacity = 1 / costs.message / 1000
    slow = simulate(Tree(1000, [1]), costs, 1, rate=capacity / 10, changes=50)
    fast = simulate(Tree(1000, [1]), costs, 1, rate=capacity * 5, changes=50)
    once = 1000 * costs.message
    assert slow.delays[-1] < 3 * once
    assert fast.delays[-1] < 4 * once


def test_the_herd_is_the_way_back_and_a_snapshot_for_each_below() -> None:
    costs = GRPC
    outcome = simulate(Tree(2000, [1, 10]), costs, 1, outage=5.0)
    root = 10 * (costs.connecting + costs.snapshot)
    assert outcome.busy == pytest.approx((root, 200 * costs.snapshot + costs.taken_snapshot))
    # tries are at 0.1, 0.3, 0.7 ... 6.3 s, each wait shorter by a quarter at most
    assert 200 * costs.snapshot < outcome.herd[-1] < 6.3 - 5.0 + 6.4 + root + 201 * costs.snapshot
    assert simulate(Tree(2000, [1, 10]), costs, 1, outage=5.0) == outcome
    assert simulate(Tree(2000, [1, 10]), costs, 2, outage=5.0) != outcome


def test_one_machine_for_all_is_as_quick_as_its_cores() -> None:
    alone = simulate(Tree(2000, [1, 2]), GRPC, 1)
    shared = simulate(Tree(2000, [1, 2], cores=2), GRPC, 1)
    work = 2000 * (GRPC.message + GRPC.taken_message)
    assert alone.delays[-1] < shared.delays[-1]
    assert shared.delays[-1] == pytest.approx(work / 2, rel=0.2)
