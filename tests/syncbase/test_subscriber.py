"""A watch as the core sees it: which state it shows, and what a dependent watch has to wait for."""

from __future__ import annotations

import math

from datasync.status import WatchState
from tests.helpers.core import Bench


def test_the_states_of_a_watch_from_its_registration_to_its_end() -> None:
    bench = Bench()
    sub = bench.watch()
    seen = [sub.state]
    bench.open()
    bench.snapshot({"a/1": b"one"})
    seen.append(sub.state)
    bench.report(sub)
    seen.append(sub.state)
    bench.commit({"a/1": b"two"})
    bench.report(sub, RuntimeError("no"))
    seen.append(sub.state)
    bench.passes(1.1)
    assert bench.event(sub)
    bench.passes(2.1)
    seen.append(sub.state)
    bench.core.close(sub)
    seen.append(sub.state)
    assert seen == [
        WatchState.WAITING,
        WatchState.RESYNCING,
        WatchState.FOLLOWING,
        WatchState.FAILING,
        WatchState.OVERDUE,
        WatchState.CLOSED,
    ]


def test_a_watch_that_needs_a_resync_waits() -> None:
    bench = Bench()
    first, second = bench.watch("first"), bench.watch("second")
    bench.start()
    bench.core.resync(None)
    assert (first.state, second.state) == (WatchState.RESYNCING, WatchState.WAITING)


def test_since_when_it_is_overdue_or_refuses_is_kept() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    assert bench.event(sub)
    bench.passes(2.1)
    overdue_at = bench.now
    bench.passes(5)
    assert sub.trouble.since == overdue_at


def test_a_dependent_watch_waits_for_what_is_out_and_what_is_in_the_mailbox() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    assert sub.oldest_unsettled() == math.inf
    bench.commit({"a/1": b"one"})
    out = sub.oldest_unsettled()
    bench.commit({"a/1": b"two"})
    assert sub.oldest_unsettled() == out
    bench.report(sub)
    assert out < sub.oldest_unsettled() < math.inf


def test_nobody_waits_for_a_watch_that_is_passed_by() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    assert bench.event(sub)
    bench.passes(2.1)
    assert sub.oldest_unsettled() == math.inf


def test_a_closed_watch_leads_to_no_other() -> None:
    bench = Bench()
    first = bench.watch("first")
    second = bench.watch("second", after=[first])
    third = bench.watch("third", after=[second])
    bench.start()
    bench.core.close(second)
    assert (first.dependents, second.after, second.dependents, third.after) == ({}, {}, {}, {})
