"""The checker finds what it is there to find: for each validator a history that breaks it,
told by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from datasync.testing import EXACT, VALIDATORS, check
from datasync.testing.trace.records import (
    Asked,
    Closed,
    KeysReported,
    OffsetStored,
    OpenShown,
    Read,
    Reported,
    Requested,
    Scoped,
    SessionEnded,
    SessionFrame,
    SessionOpened,
    Stalled,
    Viewed,
)
from tests.helpers.testing.tale import Tale

KEYED = msgspec.structs.replace(EXACT, order="key", atomic=False)
BLIND = msgspec.structs.replace(
    EXACT,
    order="key",
    atomic=False,
    snapshot="fuzzy",
    every_value=False,
    revisions=False,
    resume=False,
)
BROKEN: list[tuple[str, Callable[[Tale], None]]] = []
OF_REPORTS = {
    "answered", "records", "progress", "settled", "believed", "present", "rivals", "rest",
}  # fmt: skip
"""Those that tests/reports/test_simulated.py has a mistake for."""


def breaks(validator: str) -> Callable[[Callable[[Tale], None]], Callable[[Tale], None]]:
    """The decorated history, told to a Tale that knows `begin`, breaks this validator."""

    def register(tell: Callable[[Tale], None]) -> Callable[[Tale], None]:
        BROKEN.append((validator, tell))
        return tell

    return register


def begin(tale: Tale) -> None:
    """Two commits, a watch of a/, and its RESYNC at revision 2, accepted."""
    tale.commit(1, {"a/1": b"1"})
    tale.commit(2, {"a/2": b"1", "b/1": b"1"})
    tale.watch("w", "a/")
    tale.resync(
        "w",
        {"a/": {"a/1": (b"1", 1), "a/2": (b"1", 2)}},
        [("a/1", None, b"1", 1), ("a/2", None, b"1", 2)],
        2,
    )


def test_the_beginning_of_all_of_them_is_in_order() -> None:
    tale = Tale()
    begin(tale)
    tale.end({"a/1": b"1", "a/2": b"1", "b/1": b"1"})
    assert check(tale.trace) == []


def test_a_correct_history_with_everything_in_it_passes() -> None:
    tale = Tale()
    tale.session("a/")
    tale.frame("begin")
    tale.frame("end", 2)
    begin(tale)
    tale.watch("v", "", after=["w"])
    tale.resync(
        "v",
        {"": {"a/1": (b"1", 1), "a/2": (b"1", 2), "b/1": (b"1", 2)}},
        [("a/1", None, b"1", 1), ("a/2", None, b"1", 2), ("b/1", None, b"1", 2)],
        2,
        reason="registered",
    )
    tale.wait(1)
    began = len(tale.trace)
    tale.commit(3, {"a/1": b"2"})
    tale.frame("commit", 3, "a/1")
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome="failed")  # failed ...
    tale.change("v", [("a/1", b"1", b"2", 3)], 3)
    tale.verdict(began, 3, "failed", "a/1")
    tale.commit(4, {"a/2": None})
    tale.frame("commit", 4, "a/2")
    tale.change("v", [("a/2", b"1", None, 4)], 4)
    tale.wait(0.1)
    tale.change(  # ... and comes again, folded with what came behind it, and is refused in part
        "w",
        [("a/1", b"1", b"2", 3), ("a/2", b"1", None, 4)],
        4,
        attempt=2,
        commits=2,
        outcome="refused",
        reasons={"a/1": "no"},
    )
    tale.wait(1)
    tale.commit(5, {"b/1": b"1"})  # the same bytes: nobody hears of it
    tale.commit(6, {"a/1": b"2"})  # here somebody does, for the key is dirty
    tale.frame("commit", 6, "a/1")
    tale.change("w", [("a/1", b"1", b"2", 6)], 6, outcome=None)
    tale.wait(3)
    tale.report("w")  # late, but a report
    tale.commit(7, {"a/3": b"!"})
    tale.frame("commit", 7, "a/3")
    tale.change("w", [("a/3", None, b"!", 7)], 7, outcome="undecodable", reasons={"a/3": "bad"})
    tale.change("w", [], 7, undecodable=["a/3"])
    tale.change("v", [("a/3", None, b"!", 7)], 7)
    tale.history("h2", 3, [("a/1", b"9", 3)])
    tale.session("a/", number=2)
    tale.frame("end", 3, session=2, history="h2")
    for name in ("w", "v"):
        scope = "a/" if name == "w" else ""
        gone = (
            [("a/3", None, None, 3)]
            if name == "w"
            else [("a/3", b"!", None, 3), ("b/1", b"1", None, 3)]
        )
        tale.resync(
            name,
            {scope: {"a/1": (b"9", 3)}},
            [("a/1", b"2", b"9", 3), *gone],
            3,
            reason="new history: replaced",
        )
    tale.end({"a/1": b"9"}, 3)
    assert check(tale.trace) == []


def _put_back(tale: Tale) -> None:
    tale.history("h1", 2, [("a/1", b"1", 1), ("a/2", b"1", 2), ("b/1", b"1", 2)])
    tale.commit(3, {"a/1": b"2"})


def test_a_backup_that_holds_just_what_was_shown_goes_on_without_a_word() -> None:
    tale = Tale()
    begin(tale)
    tale.commit(3, {"a/1": b"lost"})
    _put_back(tale)
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)
    tale.note(Requested, watch="w")
    tale.resync("w", {"a/": {"a/1": (b"2", 3), "a/2": (b"1", 2)}}, [], 3, reason="requested")
    tale.end({"a/1": b"2", "a/2": b"1", "b/1": b"1"}, 3)
    assert check(tale.trace) == []


@breaks("new-history")
def a_backup_that_lacks_what_was_shown_goes_on_without_a_word(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"lost"})
    tale.change("w", [("a/1", b"1", b"lost", 3)], 3)
    _put_back(tale)
    tale.note(Requested, watch="w")
    tale.resync(
        "w",
        {"a/": {"a/1": (b"2", 3), "a/2": (b"1", 2)}},
        [("a/1", b"lost", b"2", 3)],
        3,
        reason="requested",
    )


def test_a_delete_of_nothing_where_a_history_begins_is_accepted_at_once() -> None:
    tale = Tale()
    tale.history("h2", 7, [("a/1", b"1", 7)])
    tale.watch("w", "a/")
    tale.resync("w", {"a/": {"a/1": (b"1", 7)}}, [("a/1", None, b"1", 7)], 7)
    tale.verdict(len(tale.trace), 7, "accepted", "a/2")
    tale.end({"a/1": b"1"}, 7)
    assert check(tale.trace) == []


@breaks("fresh")
def a_resync_lacks_what_was_acknowledged_before_its_watch(tale: Tale) -> None:
    tale.commit(3, {"b/1": b"2"})
    tale.watch("late", "b/")
    tale.resync("late", {"b/": {"b/1": (b"1", 1)}}, [("b/1", None, b"1", 1)], 2)


@breaks("filter")
def a_key_of_others(tale: Tale) -> None:
    tale.commit(3, {"b/1": b"2"})
    tale.change("w", [("b/1", None, b"2", 3)], 3)


@breaks("filter")
def an_event_after_the_end(tale: Tale) -> None:
    tale.note(Closed, watch="w")
    tale.wait(1)
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)


@breaks("one-at-a-time")
def two_events_at_once(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.commit(4, {"a/1": b"3"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome=None)
    tale.change("w", [("a/1", b"1", b"3", 4)], 4)


@breaks("resync-first")
def a_change_before_the_resync(tale: Tale) -> None:
    tale.watch("early", "b/")
    tale.commit(3, {"b/1": b"2"})
    tale.change("early", [("b/1", None, b"2", 3)], 3)


@breaks("resync-first")
def a_change_though_the_resync_failed(tale: Tale) -> None:
    tale.resync(
        "w",
        {"a/": {"a/1": (b"1", 1), "a/2": (b"1", 2)}},
        [],
        2,
        reason="requested",
        outcome="failed",
    )
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, attempt=2)


@breaks("resync-first")
def a_change_though_a_resync_is_due(tale: Tale) -> None:
    _changes_behind_a_request(tale, 1)


def test_on_a_real_clock_one_change_may_be_on_its_way_when_a_resync_comes_due() -> None:
    one, two = Tale(), Tale()
    begin(one)
    begin(two)
    _changes_behind_a_request(one, 1)
    _changes_behind_a_request(two, 2)
    assert check(one.trace, latency=60) == []
    assert {violation.validator for violation in check(two.trace, latency=60)} == {"resync-first"}


def _changes_behind_a_request(tale: Tale, count: int) -> None:
    tale.note(Requested, watch="w")
    tale.wait(1)
    for number in range(count):
        tale.commit(3 + number, {"a/1": b"%d" % (2 + number)})
        tale.change(
            "w", [("a/1", b"%d" % (1 + number), b"%d" % (2 + number), 3 + number)], 3 + number
        )


@breaks("unique")
def a_key_twice_in_one_event(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3), ("a/1", b"1", b"2", 3)], 3)


@breaks("unique")
def an_event_twice(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)


@breaks("prev-chain")
def a_prev_that_is_the_new_value(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"2", b"2", 3)], 3)


@breaks("prev-chain")
def a_refused_key_taken_as_accepted(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome="refused", reasons={"a/1": "no"})
    tale.commit(4, {"a/1": b"3"})
    tale.change("w", [("a/1", b"2", b"3", 4)], 4)


@breaks("prev-chain")
def a_fold_without_its_first_prev(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.commit(4, {"a/1": b"3"})
    tale.change("w", [("a/1", b"2", b"3", 4)], 4, commits=2)


@breaks("needless")
def the_same_bytes(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"1"})
    tale.change("w", [("a/1", b"1", b"1", 3)], 3)


@breaks("resync-changes")
def a_resync_whose_changes_leave_one_out(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2", "a/2": None})
    tale.resync("w", {"a/": {"a/1": (b"2", 3)}}, [("a/1", b"1", b"2", 3)], 3, reason="reconnected")


@breaks("attempts")
def a_second_try_of_nothing(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, attempt=2)


@breaks("attempts")
def a_retry_that_calls_itself_the_first(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome="failed")
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)


@breaks("ordered")
def an_older_commit_behind_a_newer_one(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.commit(4, {"a/2": b"2"})
    tale.change("w", [("a/2", b"1", b"2", 4)], 4)
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)


@breaks("time-travel")
def a_resync_from_an_older_replica(tale: Tale) -> None:
    tale.commit(3, {"a/2": None})
    tale.change("w", [("a/2", b"1", None, 3)], 3)
    tale.resync(
        "w",
        {"a/": {"a/1": (b"1", 1), "a/2": (b"1", 2)}},
        [("a/2", None, b"1", 2)],
        2,
        reason="reconnected",
    )


@breaks("new-history")
def a_new_history_that_nobody_mentions(tale: Tale) -> None:
    tale.history("h2", 2, [("a/1", b"9", 2)])
    changes = [("a/1", b"1", b"9", 2), ("a/2", b"1", None, 2)]
    tale.resync("w", {"a/": {"a/1": (b"9", 2)}}, changes, 2, reason="reconnected")


@breaks("resync-values")
def a_snapshot_called_complete_too_early(tale: Tale) -> None:
    tale.resync("w", {"a/": {"a/1": (b"1", 1)}}, [("a/2", b"1", None, 2)], 2, reason="reconnected")


@breaks("resync-values")
def a_snapshot_with_a_later_page(tale: Tale) -> None:
    tale.commit(3, {"a/2": b"2"})
    tale.resync(
        "w",
        {"a/": {"a/1": (b"1", 1), "a/2": (b"2", 3)}},
        [("a/2", b"1", b"2", 3)],
        2,
        reason="reconnected",
    )


@breaks("change-values")
def a_value_that_was_never_written(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"3", 3)], 3)


@breaks("atomic")
def half_a_transaction(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2", "a/2": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)
    tale.commit(4, {"a/2": b"3"})


@breaks("reliable")
def a_commit_that_is_left_out(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)
    tale.commit(4, {"a/2": b"2"})
    tale.commit(5, {"a/1": b"3"})
    tale.change("w", [("a/1", b"2", b"3", 5)], 5)


@breaks("reliable")
def a_dirty_key_that_is_not_told_again(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome="refused", reasons={"a/1": "no"})
    tale.commit(4, {"a/1": b"2"})
    tale.commit(5, {"a/2": b"2"})
    tale.change("w", [("a/2", b"1", b"2", 5)], 5)


@breaks("dependent")
def a_part_before_that_of_the_watch_named_in_after(tale: Tale) -> None:
    tale.watch("d", "a/", after=["w"])
    tale.resync(
        "d",
        {"a/": {"a/1": (b"1", 2), "a/2": (b"1", 2)}},
        [("a/1", None, b"1", 2), ("a/2", None, b"1", 2)],
        2,
    )
    tale.commit(3, {"a/1": b"2"})
    tale.change("d", [("a/1", b"1", b"2", 3)], 3)
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)


@breaks("first-change")
def a_gap_behind_the_snapshot(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.commit(4, {"a/1": b"3"})
    tale.change("w", [("a/1", b"1", b"3", 4)], 4)


@breaks("bookmarkable")
def a_commit_behind_its_bookmark(tale: Tale) -> None:
    tale.session("a/")
    tale.frame("progress", 5)
    tale.frame("commit", 4, "a/1")


def test_a_session_may_begin_another_history_whose_revisions_are_its_own() -> None:
    tale = Tale()
    tale.session("a/")
    tale.frame("begin")
    tale.frame("end", 7, history="h1")
    tale.frame("begin")
    tale.frame("end", 2, history="h2")
    tale.frame("commit", 3, "a/1")
    assert "bookmarkable" not in tale.broken()


@breaks("resumable")
def a_session_that_resumes_too_late(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.commit(4, {"a/1": b"3"})
    tale.session("a/", resume=2)
    tale.frame("commit", 4, "a/1")


@breaks("rounds")
def a_round_in_the_wrong_order(tale: Tale) -> None:
    fresh = Tale()
    tale.trace[:] = fresh.trace
    tale.events = 0
    tale.watch("first", "a/")
    tale.watch("second", "a/")
    tale.resync("second", {"a/": {}}, [], 0)
    tale.resync("first", {"a/": {}}, [], 0)


@breaks("rounds")
def a_round_that_does_not_wait(tale: Tale) -> None:
    fresh = Tale()
    tale.trace[:] = fresh.trace
    tale.events = 0
    tale.watch("first", "a/")
    tale.watch("second", "a/")
    tale.resync("first", {"a/": {}}, [], 0, outcome=None)
    tale.resync("second", {"a/": {}}, [], 0)


@breaks("verdicts")
def a_verdict_before_the_report(tale: Tale) -> None:
    began = len(tale.trace)
    tale.commit(3, {"a/1": b"2"})
    tale.verdict(began, 3, "accepted", "a/1")
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)


@breaks("verdicts")
def a_failure_called_accepted(tale: Tale) -> None:
    began = len(tale.trace)
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome="failed")
    tale.verdict(began, 3, "accepted", "a/1")


@breaks("verdicts")
def a_refusal_that_nobody_said(tale: Tale) -> None:
    began = len(tale.trace)
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)
    tale.verdict(began, 3, "refused", "a/1", reasons={"a/1": "no"})


@breaks("verdicts")
def watched_but_called_unwatched(tale: Tale) -> None:
    began = len(tale.trace)
    tale.commit(3, {"a/1": b"2"})
    tale.verdict(began, 3, "unwatched", "a/1")


WAITS = ("pending", "no eth0")
"""What is said of a key that is open."""


def leave_open(tale: Tale) -> None:
    """A commit at revision 3 whose key is pending."""
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome=None)
    tale.report("w", outcomes={"a/1": WAITS})


@breaks("verdicts")
def a_pending_key_called_accepted(tale: Tale) -> None:
    began = len(tale.trace)
    leave_open(tale)
    tale.verdict(began, 3, "accepted", "a/1")


@breaks("verdicts")
def the_same_bytes_of_an_open_key_called_accepted(tale: Tale) -> None:
    leave_open(tale)
    began = len(tale.trace)
    tale.commit(4, {"a/1": b"2"})
    tale.verdict(began, 4, "accepted", "a/1")


@breaks("verdicts")
def an_outcome_that_nobody_said(tale: Tale) -> None:
    began = len(tale.trace)
    leave_open(tale)
    tale.verdict(began, 3, "pending", "a/1", opened={"a/1": ("pending", "no eth1")})


@breaks("verdicts")
def a_verdict_better_than_an_outcome(tale: Tale) -> None:
    began = len(tale.trace)
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome=None)
    tale.report("w", outcomes={"a/1": ("failed", "busy")})
    tale.verdict(began, 3, "pending", "a/1", opened={"a/1": ("failed", "busy")})


@breaks("verdicts")
def pending_without_a_key_that_is(tale: Tale) -> None:
    began = len(tale.trace)
    leave_open(tale)
    tale.verdict(began, 3, "pending", "a/1")


@breaks("verdicts")
def the_outcome_of_a_key_of_another_publisher(tale: Tale) -> None:
    began = len(tale.trace)
    tale.commit(3, {"a/1": b"2"})
    tale.commit(4, {"a/2": b"2"})
    changes = [("a/1", b"1", b"2", 3), ("a/2", b"1", b"2", 4)]
    tale.change("w", changes, 4, outcome=None, commits=2)
    tale.report("w", outcomes={"a/1": WAITS})
    tale.verdict(began + 1, 4, "pending", "a/2", opened={"a/1": WAITS})


@breaks("open-keys")
def an_open_key_that_is_not_shown(tale: Tale) -> None:
    leave_open(tale)
    tale.note(OpenShown, watch="w", keys={})


@breaks("open-keys")
def a_key_that_is_shown_as_it_was(tale: Tale) -> None:
    leave_open(tale)
    tale.note(KeysReported, watch="w", outcomes={"a/1": ("failed", "busy")})
    tale.note(OpenShown, watch="w", keys={"a/1": WAITS})


@breaks("needless")
def an_open_key_that_is_brought_again(tale: Tale) -> None:
    leave_open(tale)
    tale.change("w", [("a/1", b"2", b"2", 3)], 3)


@breaks("reliable")
def a_write_of_a_key_that_was_refused_late_is_left_out(tale: Tale) -> None:
    leave_open(tale)
    tale.note(KeysReported, watch="w", outcomes={"a/1": ("refused", "no")})
    tale.session("a/")
    tale.commit(4, {"a/1": b"2"})
    tale.frame("commit", 4, "a/1")
    tale.commit(5, {"a/2": b"2"})
    tale.change("w", [("a/2", b"1", b"2", 5)], 5)


@breaks("offsets")
def an_offset_before_its_event_has_settled(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome=None)
    tale.note(OffsetStored, source="s", revision=3)
    tale.report("w")


@breaks("isolation")
def a_change_that_waits_for_a_slow_neighbour(tale: Tale) -> None:
    tale.session("a/")
    tale.commit(3, {"a/1": b"2"})
    tale.frame("commit", 3, "a/1")
    tale.wait(1)
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)


@breaks("convergence")
def a_change_that_never_comes(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.end({"a/1": b"2", "a/2": b"1", "b/1": b"1"}, 3)


@breaks("convergence")
def a_failure_that_is_not_retried(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome="failed")
    tale.end({"a/1": b"2", "a/2": b"1", "b/1": b"1"}, 3)


@breaks("views")
def a_view_older_than_was_waited_for(tale: Tale) -> None:
    tale.commit(3, {"a/1": b"2"})
    tale.note(Viewed, scope="a/", values={"a/1": b"1", "a/2": b"1"}, source="s", revision=3)


@breaks("views")
def a_view_that_does_not_end_as_the_store(tale: Tale) -> None:
    tale.end({"a/1": b"1", "a/2": b"1", "b/1": b"1"}, 2)
    tale.note(Viewed, scope="a/", values={"a/1": b"1"})


@breaks("unedited")
def a_value_that_comes_again_as_the_handler_left_it(tale: Tale) -> None:
    tale.note(Read, watch="w", key="a/1", raw=b'{"n":1}', value=b'{"n":1}')
    tale.note(Read, watch="w", key="a/1", raw=b'{"n":1}', value=b"{}")


@pytest.mark.parametrize(
    ("validator", "tell"), BROKEN, ids=[f"{name}-{tell.__name__}" for name, tell in BROKEN]
)
def test_a_broken_history_is_found(validator: str, tell: Callable[[Tale], None]) -> None:
    tale = Tale()
    begin(tale)
    tell(tale)
    assert validator in tale.broken()


@pytest.mark.parametrize(
    ("raw", "first", "broken"),
    [(b"1", "accepted", set()), (b"2", "accepted", {"verdicts"}), (b"1", "failed", {"verdicts"})],
)
def test_a_resync_that_fails_says_nothing_of_a_write_that_changed_nothing(
    raw: bytes, first: str, broken: set[str]
) -> None:
    tale = Tale()
    begin(tale)
    tale.commit(3, {"a/1": b"0"})
    tale.commit(4, {"a/1": b"1"})
    tale.change("w", [("a/1", b"1", b"0", 3)], 3)
    tale.change("w", [("a/1", b"0", b"1", 4)], 4, outcome=first)
    began = len(tale.trace)
    tale.commit(5, {"a/1": raw})
    tale.note(Requested)
    prev = b"1" if first == "accepted" else b"0"
    tale.resync(
        "w",
        {"a/": {"a/1": (raw, 5), "a/2": (b"1", 2)}},
        [("a/1", prev, raw, 5)] if raw != prev else [],
        5,
        reason="requested",
        outcome="failed",
    )
    tale.verdict(began, 5, "accepted", "a/1")
    assert tale.broken() == broken


def test_open_keys_are_answered_with_what_was_said_of_them_last() -> None:
    tale = Tale()
    begin(tale)
    began = len(tale.trace)
    leave_open(tale)
    tale.verdict(began, 3, "pending", "a/1", opened={"a/1": WAITS})
    tale.note(KeysReported, watch="w", outcomes={"a/1": ("failed", "busy"), "a/9": WAITS})
    began = len(tale.trace)
    tale.commit(4, {"a/1": b"2"})
    tale.verdict(began, 4, "failed", "a/1", opened={"a/1": ("failed", "busy")})
    tale.note(OpenShown, watch="w", keys={"a/1": ("failed", "busy")})
    tale.note(KeysReported, watch="w", outcomes={"a/1": ("accepted", "")})
    began = len(tale.trace)
    tale.commit(5, {"a/1": b"2"})
    tale.verdict(began, 5, "accepted", "a/1")
    tale.note(OpenShown, watch="w", keys={})
    assert tale.broken() == set()


def test_what_a_handler_says_of_a_foreign_key_fails_its_event() -> None:
    tale = Tale()
    begin(tale)
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome=None)
    tale.report("w", outcomes={"a/9": WAITS})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, attempt=2)
    tale.note(OpenShown, watch="w", keys={})
    assert tale.broken() == set()


def test_a_delete_in_vain_may_be_told_the_revision_of_the_delete_before_it() -> None:
    tale = Tale()
    begin(tale)
    tale.commit(3, {"a/1": None})
    tale.change("w", [("a/1", b"1", None, 3)], 3)
    tale.verdict(len(tale.trace), 3, "accepted", "a/1")
    assert tale.broken() == set()


def test_which_of_two_deletes_was_in_vain_nothing_tells_where_the_watch_is_shown_no_more() -> None:
    """The store was lost, and the watch closed before it came back."""
    tale = Tale()
    begin(tale)
    began = len(tale.trace)
    tale.commit(3, {"a/1": None})
    tale.verdict(began, 3, "accepted", "a/1")
    tale.note(Closed, watch="w")
    assert tale.broken() == set()


def test_a_delete_that_is_not_in_vain_is_settled_first() -> None:
    tale = Tale()
    begin(tale)
    began = len(tale.trace)
    tale.commit(3, {"a/1": None})
    tale.verdict(began, 3, "accepted", "a/1")
    tale.change("w", [("a/1", b"1", None, 3)], 3)
    assert tale.broken() == {"verdicts"}


@pytest.mark.parametrize(
    ("verdict", "reasons", "broken"),
    [("refused", {"a/1": "no"}, set()), ("accepted", {}, {"verdicts"})],
)
def test_a_delete_in_vain_of_a_refused_key_is_answered_as_refused(
    verdict: str, reasons: dict[str, str], broken: set[str]
) -> None:
    tale = Tale()
    begin(tale)
    tale.commit(3, {"a/1": None})
    tale.change("w", [("a/1", b"1", None, 3)], 3, outcome="refused", reasons={"a/1": "no"})
    began = len(tale.trace)
    tale.commit(4, {"a/1": None, "c/1": b"1"})
    tale.change("w", [("a/1", b"1", None, 4)], 4, outcome="refused", reasons={"a/1": "no"})
    tale.verdict(began, 4, verdict, "a/1", "c/1", reasons=reasons)
    assert tale.broken() == broken


@pytest.mark.parametrize("concerned", [True, False])
def test_a_watch_waits_for_one_named_in_after_until_that_is_free_to_say_whether_it_has_something_to_do(
    concerned: bool,
) -> None:
    tale = Tale()
    tale.session("")
    begin(tale)
    tale.watch("d", "b/", after=["w"])
    tale.resync("d", {"b/": {"b/1": (b"1", 2)}}, [("b/1", None, b"1", 2)], 2)
    tale.commit(3, {"a/1": b"2"})
    tale.frame("commit", 3, "a/1")
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome=None)
    tale.note(Reported, watch="w", event=tale.events, outcome="accepted")  # its handler goes on
    tale.commit(4, {"a/1" if concerned else "c/1": b"2", "b/1": b"2"})
    tale.frame("commit", 4, "b/1")
    tale.wait(0.3)
    tale.note(Asked, watch="w")  # and now it turns out that nothing differs for it
    tale.change("d", [("b/1", b"1", b"2", 4)], 4)
    assert tale.broken() == (set() if concerned else {"isolation"})


@pytest.mark.parametrize("scope", ["a/", ""])
def test_a_round_does_not_wait_for_a_watch_that_a_layer_which_joins_does_not_follow_yet(
    scope: str,
) -> None:
    tale = Tale(EXACT, "upper")
    tale.session("")
    tale.note(SessionOpened, source="upper", session=2, scopes=[scope])
    tale.watch("first", "b/")
    tale.watch("second", "a/")
    tale.wait(0.1)
    tale.resync("first", {"b/": {}}, [], 0, reason="registered", outcome=None)
    tale.resync("second", {"a/": {}}, [], 0, reason="registered")
    tale.wait(0.1)
    tale.note(SessionFrame, source="upper", session=2, kind="end", history="h1")
    tale.resync("second", {"a/": {}}, [], 0, reason="upper joined")
    assert tale.broken() == ({"rounds"} if scope == "" else set())


@pytest.mark.parametrize(("ends", "late"), [(1.0, False), (0.5, True)])
def test_a_change_may_wait_for_the_session_that_brings_it_to_take_over(
    ends: float, late: bool
) -> None:
    tale = Tale()
    begin(tale)
    tale.session("a/")
    tale.session("a/", "b/", number=2)
    tale.commit(3, {"a/1": b"2"})
    tale.frame("commit", 3, "a/1", session=2)  # the first one has yet to show it
    tale.wait(ends)
    tale.note(SessionEnded, source="s", session=1)
    tale.wait(1.0 - ends)
    tale.change("w", [("a/1", b"1", b"2", 3)], 3)
    assert tale.broken() == ({"isolation"} if late else set())


@pytest.mark.parametrize(
    ("since", "later", "in_time"), [(1.0, 0.01, True), (1.0, 1.0, False), (3.0, 0.01, False)]
)
def test_a_report_is_in_time_where_the_loop_stood_still_at_its_end(
    since: float, later: float, in_time: bool
) -> None:
    tale = Tale()
    begin(tale)
    began = len(tale.trace)
    tale.commit(3, {"a/1": b"2"})
    tale.change("w", [("a/1", b"1", b"2", 3)], 3, outcome=None)  # it has 2 s
    event = tale.events
    tale.wait(40)
    tale.note(Stalled, since=since)
    tale.wait(later)
    tale.report("w", event=event)
    tale.verdict(began, 3, "accepted", "a/1")
    assert tale.broken() == (set() if in_time else {"verdicts"})


def test_a_snapshot_may_wait_behind_commits_that_came_before_it() -> None:
    tale = Tale()
    tale.session("a/")
    tale.frame("begin")
    tale.frame("end", 2)
    begin(tale)
    for revision in (3, 4, 5):
        tale.commit(revision, {"a/1": b"%d" % revision})
    tale.frame("commit", 3, "a/1")
    tale.frame("begin")
    tale.frame("end", 5)
    tale.change("w", [("a/1", b"1", b"3", 3)], 3)
    tale.change("w", [("a/1", b"3", b"5", 5)], 5)
    assert tale.broken() == set()


@pytest.mark.parametrize(("start", "broken"), [(1, {"new-history"}), (10, set())])
def test_a_restored_store_may_have_forgotten_where_the_watch_was(
    start: int, broken: set[str]
) -> None:
    tale = Tale()
    begin(tale)
    tale.history("h2", start, [("a/1", b"9", start)])
    reason = "history lost: it has been compacted"
    tale.resync(
        "w",
        {"a/": {"a/1": (b"9", start)}},
        [("a/1", b"1", b"9", start), ("a/2", b"1", None, start)],
        start,
        reason=reason,
    )
    assert tale.broken() == broken


def test_a_value_that_goes_back_is_found_without_one_order() -> None:
    tale = Tale(KEYED)
    begin(tale)
    tale.commit(3, {"a/1": b"2"})
    tale.commit(4, {"a/1": b"3"})
    tale.change("w", [("a/1", b"1", b"3", 4)], 4, commits=2)
    tale.change("w", [("a/1", b"3", b"2", 3)], 3)
    assert tale.broken() == {"key-order"}


def test_a_value_left_out_is_found_without_one_order() -> None:
    tale = Tale(KEYED)
    begin(tale)
    tale.commit(3, {"a/1": b"2"})
    tale.commit(4, {"a/1": b"3"})
    tale.change("w", [("a/1", b"1", b"3", 4)], 4)
    assert tale.broken() == {"key-gaps"}


def test_what_a_source_does_not_promise_is_not_asked_for() -> None:
    keyed = Tale(KEYED)
    begin(keyed)
    keyed.commit(3, {"a/1": b"2"})
    keyed.commit(4, {"a/2": b"2"})
    keyed.change("w", [("a/2", b"1", b"2", 4)], 4)
    keyed.change("w", [("a/1", b"1", b"2", 3)], 3)  # another order of keys
    assert keyed.broken() == set()
    blind = Tale(BLIND)
    blind.commit(0, {"a/1": b"1"})
    blind.watch("w", "a/")
    blind.resync("w", {"a/": {"a/1": (b"1", 0)}}, [("a/1", None, b"1", 0)], 0)
    blind.commit(0, {"a/1": b"2"})
    blind.commit(0, {"a/1": b"3"})
    blind.change("w", [("a/1", b"1", b"3", 0)], 0)  # only the latest value
    assert blind.broken() == set()
    blind.change("w", [("a/1", b"3", b"2", 0)], 0)
    assert blind.broken() == {"key-order"}


def test_every_validator_has_a_history_that_breaks_it() -> None:
    elsewhere = {"key-order", "key-gaps", *OF_REPORTS}
    assert {name for name, _ in BROKEN} | elsewhere == set(VALIDATORS)


def test_a_violation_says_where_and_why_in_one_line() -> None:
    tale = Tale()
    begin(tale)
    a_prev_that_is_the_new_value(tale)
    found = [violation for violation in check(tale.trace) if violation.validator == "prev-chain"]
    assert len(found) == 1
    line = str(found[0])
    assert line.startswith(
        "prev-chain: w: event 2, CHANGE at revision 3: 'a/1' has prev b'2', accepted was b'1'"
    )
    assert "\n" not in line


@pytest.mark.parametrize("left", [True, False])
def test_what_a_lost_layer_had_of_a_prefix_is_not_known_any_more_once_that_was_removed(
    left: bool,
) -> None:
    """The prefix came back while the layer, an optional one, was lost: a RESYNC shows nothing of
    it there, which is not a delete that is older than the value."""
    tale = Tale(EXACT, "upper")
    tale.commit(1, {"a/1": b"1"}, "upper")
    tale.watch("w", "a/", "b/")
    shown = {"a/": {"a/1": (b"1", 1)}, "b/": {}}
    tale.resync("w", shown, [("a/1", None, b"1", 1)], 1, source="upper")
    if left:
        tale.note(Scoped, watch="w", scopes=["b/"])
        tale.note(Scoped, watch="w", scopes=["b/", "a/"])
    gone = [("a/1", b"1", None, 0)]
    tale.resync("w", {"a/": {}, "b/": {}}, gone, 0, reason="prefix added", source="upper")
    assert tale.broken() == (set() if left else {"key-order"})
