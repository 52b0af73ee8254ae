"""From the mailbox to the handler and back, without I/O:
each transition of a watch in a few lines.
"""

from __future__ import annotations

import pytest

from datasync.errors import DecodeError, HistoryLost, Refused, Retry
from datasync.outcome import reasons_of
from datasync.status import WatchState
from datasync.syncbase.outstanding import Stage
from datasync.syncbase.subscriber import NO_TIMER, Skipped, Subscriber, Wait
from tests.helpers.core import Bench, Verdicts, changes, values

# -- RESYNC first (G1)


def test_a_watch_waits_until_the_source_is_known() -> None:
    bench = Bench()
    sub = bench.watch()
    assert bench.event(sub) is None
    assert sub.state is WatchState.WAITING


def test_the_first_resync_brings_all_that_is_there() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.open()
    bench.snapshot({"a/1": b"one", "b/1": b"other"})
    event = bench.resync(sub)
    assert (event.reason, values(event)) == ("start", {"a/1": b"one"})
    assert changes(event) == {"a/1": (None, b"one")}
    assert sub.state is WatchState.RESYNCING


def test_an_accepted_resync_is_followed_by_changes() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start({"a/1": b"one"})
    assert sub.state is WatchState.FOLLOWING
    bench.commit({"a/1": b"two", "b/1": b"other"})
    assert changes(bench.change(sub)) == {"a/1": (b"one", b"two")}


def test_a_commit_behind_a_resync_that_is_out_waits_for_its_report() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.open()
    bench.snapshot({"a/1": b"one"})
    first = bench.resync(sub)
    bench.commit({"a/1": b"two"})
    assert bench.event(sub) is first
    bench.report(sub)
    assert changes(bench.change(sub)) == {"a/1": (b"one", b"two")}


def test_a_handler_that_is_not_idle_is_given_nothing() -> None:
    bench = Bench()
    sub = bench.watch(idle=False)
    bench.open()
    bench.snapshot({})
    assert bench.event(sub) is None
    bench.delivery.ask(sub)
    assert bench.resync(sub).reason == "start"


def test_a_report_on_what_is_not_out_changes_nothing() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    event = bench.change(sub)
    bench.report(sub)
    settled = sub.stats.events
    bench.delivery.report(event, RuntimeError("too late"))
    assert (sub.stats.events, sub.state) == (settled, WatchState.FOLLOWING)


# -- one commit, one event, in order (G3, G4)


def test_commits_wait_each_by_itself_and_come_in_order() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    for value in (b"1", b"2", b"3"):
        bench.commit({"a/1": value})
    seen = []
    for _ in range(3):
        seen.append(changes(bench.change(sub))["a/1"])
        bench.report(sub)
    assert seen == [(None, b"1"), (b"1", b"2"), (b"2", b"3")]
    assert bench.event(sub) is None


def test_the_next_commit_goes_straight_to_an_idle_handler() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    assert sub.fast
    bench.commit({"a/1": b"one"})
    assert bench.change(sub).commits == 1
    bench.report(sub)
    assert sub.fast
    assert not sub.mailbox


def test_beyond_the_backlog_commits_fold_into_one() -> None:
    bench = Bench()
    sub = bench.watch(backlog=2)
    bench.start()
    bench.commit({"a/1": b"0"})
    for value in (b"1", b"2", b"3", b"4"):
        bench.commit({"a/1": value})
    bench.report(sub)
    event = bench.change(sub)
    assert (event.commits, changes(event)) == (4, {"a/1": (b"0", b"4")})


# -- failures and retries (G7)


def test_a_failed_change_comes_again_after_the_wait() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, RuntimeError("no"))
    assert (sub.state, sub.trouble.why) == (WatchState.FAILING, "RuntimeError: no")
    bench.passes(0.9)
    assert bench.event(sub) is None
    bench.passes(0.2)
    event = bench.change(sub)
    assert (event.attempt, changes(event)) == (2, {"a/1": (None, b"one")})
    bench.report(sub)
    assert sub.state is WatchState.FOLLOWING


def test_what_came_during_the_wait_is_folded_into_the_next_try() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start({"a/1": b"zero"})
    bench.commit({"a/1": b"one"})
    bench.report(sub, RuntimeError("no"))
    bench.commit({"a/1": b"two", "a/2": b"new"})
    bench.passes(1.1)
    event = bench.change(sub)
    assert (event.commits, changes(event)) == (2, {"a/1": (b"zero", b"two"), "a/2": (None, b"new")})


def test_a_retry_says_when() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, Retry("busy", after=60))
    bench.passes(59)
    assert bench.event(sub) is None
    bench.passes(2)
    assert bench.change(sub).attempt == 2


def test_after_its_last_try_a_change_becomes_a_resync() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    for _ in range(3):  # `retries` of the bench
        bench.report(sub, RuntimeError("no"))
        bench.passes(60)
    event = bench.resync(sub)
    assert event.reason == "3 tries failed: RuntimeError: no"
    assert changes(event) == {"a/1": (None, b"one")}


def test_a_failed_resync_comes_again_as_what_it_was() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.open()
    bench.snapshot({"a/1": b"one"})
    bench.report(sub, RuntimeError("no"))
    bench.commit({"a/2": b"two"})
    bench.passes(1.1)
    event = bench.resync(sub)
    assert (event.reason, event.attempt) == ("start", 2)
    assert values(event) == {"a/1": b"one", "a/2": b"two"}


def test_a_newer_round_ends_the_wait_of_a_retry() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, RuntimeError("no"))
    bench.core.resync(None)
    event = bench.resync(sub)
    assert (event.reason, event.attempt, changes(event)) == (
        "requested",
        1,
        {"a/1": (None, b"one")},
    )


def test_an_event_that_fails_when_a_newer_round_is_due_waits_for_nothing() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    assert bench.event(sub)
    bench.core.resync(None)
    bench.report(sub, RuntimeError("no"))
    assert bench.resync(sub).reason == "requested"


# -- refused keys


def test_a_refused_key_is_dirty_until_a_later_write_of_it_is_accepted() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start({"a/1": b"zero"})
    bench.commit({"a/1": b"one", "a/2": b"two"})
    bench.report(sub, Refused({"a/1": "too small"}))
    assert (reasons_of(sub.refused), sub.state) == ({"a/1": "too small"}, WatchState.FOLLOWING)
    bench.commit({"a/1": b"three"})
    assert changes(bench.change(sub)) == {"a/1": (b"zero", b"three")}  # G5: what it accepted last
    bench.report(sub)
    assert (sub.refused, sub.mailbox.dirty) == ({}, {})


def test_a_watch_with_a_refused_key_is_never_fast() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, Refused({"a/1": "no"}))
    assert not sub.fast


def test_keys_that_the_event_does_not_hold_cannot_be_refused() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, Refused({"b/1": "no"}))
    assert sub.state is WatchState.FAILING


def test_a_resync_forgets_what_was_refused_and_is_accepted_now() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, Refused({"a/1": "no"}))
    bench.core.resync(sub)
    assert changes(bench.resync(sub)) == {"a/1": (None, b"one")}
    bench.report(sub)
    assert sub.refused == {}


# -- values that do not decode


def test_a_value_that_does_not_decode_is_left_out_at_once() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"!", "a/2": b"two"})
    bench.report(sub, DecodeError("a/1", "is broken"))
    event = bench.change(sub)
    assert (changes(event), [*event.undecodable], event.attempt) == (
        {"a/2": (None, b"two")},
        ["a/1"],
        1,
    )
    bench.report(sub)
    assert reasons_of(sub.refused) == {"a/1": "does not decode: is broken"}


def test_a_decode_error_of_another_key_is_a_failure() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, DecodeError("a/9", "is broken"))
    assert sub.state is WatchState.FAILING


def test_a_resync_without_what_does_not_decode() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.open()
    bench.snapshot({"a/1": b"!", "a/2": b"two"})
    bench.report(sub, DecodeError("a/1", "is broken"))
    event = bench.resync(sub)
    assert (values(event), [*event.undecodable]) == ({"a/2": b"two"}, ["a/1"])


# -- verdicts


def test_the_publisher_hears_the_worst_of_all_watches() -> None:
    bench, heard = Bench(), Verdicts()
    first, second = bench.watch("first"), bench.watch("second")
    bench.start()
    bench.commit({"a/1": b"one"}, reply=heard)
    bench.report(first)
    assert heard.words == []
    bench.report(second, Refused({"a/1": "no"}))
    assert heard.words == ["refused"]
    assert heard.heard[0].reasons == {"a/1": "no"}


def test_a_commit_that_nobody_watches() -> None:
    bench, heard = Bench(), Verdicts()
    bench.watch()
    bench.start()
    bench.commit({"b/1": b"one"}, reply=heard)
    assert heard.words == ["unwatched"]


def test_a_failure_is_told_at_once_and_only_once() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"}, reply=heard)
    bench.report(sub, RuntimeError("no"))
    bench.passes(1.1)
    bench.report(sub)
    assert heard.words == ["failed"]


def test_a_write_that_a_later_one_overwrote_while_folded_is_accepted() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch(backlog=1)
    bench.start()
    bench.commit({"a/1": b"0"})
    bench.commit({"a/1": b"1"}, reply=heard)
    bench.commit({"a/1": b"2"})
    bench.report(sub)
    assert heard.words == ["accepted"]


def test_a_closed_watch_votes_no_more() -> None:
    bench, heard = Bench(), Verdicts()
    first, second = bench.watch("first"), bench.watch("second")
    bench.start()
    bench.commit({"a/1": b"one"}, reply=heard)
    bench.report(first)
    bench.core.close(second)
    assert heard.words == ["accepted"]
    assert second.state is WatchState.CLOSED


# -- overdue and unattended (G9)


def test_a_handler_that_does_not_report_is_overdue() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"}, reply=heard)
    assert bench.event(sub)
    bench.passes(1.9)
    assert sub.state is WatchState.FOLLOWING
    bench.passes(0.2)
    assert (sub.state, heard.words) == (WatchState.OVERDUE, ["overdue"])


def test_what_comes_while_a_handler_is_overdue_is_answered_at_once() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    assert bench.event(sub)
    bench.passes(2.1)
    bench.commit({"a/1": b"two"}, reply=heard)
    assert heard.words == ["overdue"]


def test_a_late_report_is_taken_and_the_watch_goes_on() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    assert bench.event(sub)
    bench.passes(2.1)
    bench.commit({"a/1": b"two"})
    bench.report(sub)
    assert sub.state is WatchState.FOLLOWING
    assert changes(bench.change(sub)) == {"a/1": (b"one", b"two")}


def test_a_handler_that_reported_and_does_not_return_is_overdue_once_something_waits() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, returns=False)
    bench.commit({"a/1": b"two"}, reply=heard)
    bench.passes(2.1)
    assert (sub.outstanding, sub.state, heard.words) == (None, WatchState.OVERDUE, ["overdue"])
    bench.delivery.ask(sub)
    assert changes(bench.change(sub)) == {"a/1": (b"one", b"two")}
    assert sub.state is WatchState.FOLLOWING


def test_a_stream_that_nobody_reads_is_unattended() -> None:
    bench = Bench()
    sub = bench.watch(stream=True, idle=False)
    bench.open()
    bench.snapshot({})
    bench.passes(2.1)
    assert sub.state is WatchState.UNATTENDED
    bench.delivery.ask(sub)
    assert bench.resync(sub).reason == "start"


def test_a_resync_has_its_own_longer_time() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.open()
    bench.snapshot({})
    assert bench.event(sub)
    seen = []
    for seconds in (29, 2):
        bench.passes(seconds)
        seen.append(sub.state)
    assert seen == [WatchState.RESYNCING, WatchState.OVERDUE]


# -- a reader that goes away between delivery and receipt


def test_an_event_that_was_not_received_is_delivered_to_the_next_reader() -> None:
    bench = Bench()
    sub = bench.watch(stream=True)
    bench.start()
    bench.commit({"a/1": b"one"})
    event = bench.change(sub)
    bench.delivery.unask(sub, event)
    assert sub.outstanding is not None
    assert (sub.outstanding.event, sub.outstanding.stage) == (event, Stage.READY)
    bench.delivery.ask(sub)
    assert bench.event(sub) is event


def test_an_event_that_was_not_received_gives_way_to_a_resync_that_is_due() -> None:
    bench = Bench()
    sub = bench.watch(stream=True)
    bench.start({"a/1": b"zero"})
    bench.commit({"a/1": b"one"})
    event = bench.change(sub)
    bench.core.resync(None)
    bench.delivery.unask(sub, event)
    bench.delivery.ask(sub)
    assert changes(bench.resync(sub)) == {"a/1": (b"zero", b"one")}


def test_a_resync_that_was_not_received_leaves_nothing_dirty_when_it_gives_way() -> None:
    bench = Bench()
    sub = bench.watch(stream=True)
    bench.start({"a/1": b"zero"})
    bench.core.resync(None)
    bench.delivery.ask(sub)
    bench.delivery.unask(sub, bench.resync(sub))
    bench.core.resync(None)
    bench.delivery.ask(sub)
    assert (changes(bench.resync(sub)), sub.mailbox.dirty) == ({}, {})


def test_an_event_that_was_answered_as_overdue_and_not_received_may_still_be_accepted() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch(stream=True)
    bench.start()
    bench.commit({"a/1": b"one"}, reply=heard)
    event = bench.change(sub)
    bench.passes(2.1)
    bench.delivery.unask(sub, event)
    bench.delivery.ask(sub)
    assert bench.event(sub) is event
    bench.report(sub)
    assert (heard.words, sub.state) == (["overdue"], WatchState.FOLLOWING)


# -- rounds in order (G6)


def test_a_round_goes_one_by_one_in_the_order_of_registration() -> None:
    bench = Bench()
    subs = [bench.watch(name) for name in ("first", "second", "third")]
    bench.open()
    bench.snapshot({})
    for sub in subs:
        waiting = subs[subs.index(sub) + 1 :]
        assert [bench.event(other) for other in waiting] == [None] * len(waiting)
        assert bench.resync(sub).reason == "start"
        bench.report(sub)


def test_a_round_does_not_wait_for_an_overdue_watch() -> None:
    bench = Bench()
    first, second = bench.watch("first"), bench.watch("second")
    bench.open()
    bench.snapshot({})
    assert bench.event(first)
    bench.passes(30.1)
    assert bench.resync(second)


def test_a_round_goes_on_behind_a_failure() -> None:
    bench = Bench()
    first, second = bench.watch("first"), bench.watch("second")
    bench.open()
    bench.snapshot({})
    bench.report(first, RuntimeError("no"))
    assert bench.resync(second)


def test_a_newer_round_replaces_the_one_under_way() -> None:
    bench = Bench()
    first, second = bench.watch("first"), bench.watch("second")
    bench.open()
    bench.snapshot({})
    assert bench.event(first)
    bench.core.resync(None)
    bench.report(first)
    assert bench.resync(first).reason == "requested"
    assert bench.event(second) is None
    bench.report(first)
    assert bench.resync(second).reason == "requested"


def test_the_turn_goes_on_when_its_watch_is_closed() -> None:
    bench = Bench()
    first, second = bench.watch("first"), bench.watch("second")
    bench.open()
    bench.snapshot({})
    assert bench.event(first)
    bench.core.close(first)
    assert bench.resync(second)


# -- after=


def test_a_dependent_watch_waits_for_the_commit_of_the_one_it_depends_on() -> None:
    bench = Bench()
    first = bench.watch("first")
    second = bench.watch("second", after=[first])
    bench.start()
    bench.commit({"a/1": b"one"})
    assert bench.event(second) is None
    bench.report(first)
    assert changes(bench.change(second)) == {"a/1": (None, b"one")}


def test_a_dependent_watch_is_never_fast() -> None:
    bench = Bench()
    first = bench.watch("first")
    second = bench.watch("second", after=[first])
    bench.start()
    assert (first.fast, second.fast) == (True, False)


@pytest.mark.parametrize("end", ["overdue", "failed", "closed"])
def test_a_dependent_watch_does_not_wait_for_ever(end: str) -> None:
    bench = Bench()
    first = bench.watch("first")
    second = bench.watch("second", after=[first])
    bench.start()
    bench.commit({"a/1": b"one"})
    assert bench.event(first)
    match end:
        case "overdue":
            bench.passes(2.1)
        case "failed":
            bench.report(first, RuntimeError("no"))
        case "closed":
            bench.core.close(first)
    assert bench.change(second)


# -- histories and lost sources


def test_a_new_history_is_said_whatever_comes_on_top_of_it() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start({"a/1": b"one"})
    bench.lose(HistoryLost("restored", changed=True))
    bench.open()
    bench.snapshot({"a/1": b"old"})
    bench.core.add_scope(sub, "b/")
    event = bench.resync(sub)
    assert event.reason.startswith("new history")
    assert changes(event) == {"a/1": (b"one", b"old")}


def test_a_resync_that_needs_a_lost_source_is_waited_for_only_so_long() -> None:
    bench = Bench()
    first, second = bench.watch("first"), bench.watch("second")
    bench.start()
    bench.lose()
    bench.core.add_scope(first, "b/")  # not known, and nobody brings it now
    assert bench.event(first) is None
    bench.passes(2.1)
    assert first.skipped is Skipped.SOURCE
    bench.core.resync(None)
    assert bench.resync(second).reason == "requested"
    bench.open()
    bench.snapshot({}, scopes=["b/"])
    bench.accept_all()
    assert (first.skipped, first.state) == (Skipped.NO, WatchState.FOLLOWING)


# -- unexpected errors (G8)


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_g8_an_unexpected_error_at_a_watch_s_time_is_said_and_its_time_comes_again(
    closed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless it was closed meanwhile: nothing may lead to it then (G9)."""
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    assert bench.event(sub) is not None

    def broken(sub: Subscriber, wait: Wait) -> None:
        if closed:
            bench.core.close(sub)
        raise RuntimeError("of the engine")

    with monkeypatch.context() as planted:
        planted.setattr(bench.delivery, "_waited_for", broken)
        bench.passes(2.1)
    assert "unexpected error when its time had come" in caplog.text
    assert (sub.timer is NO_TIMER) is closed
    bench.passes(2.1)
    assert (sub.skipped is Skipped.HANDLER) is not closed


class Mistaken(Refused):
    """A refusal that cannot be asked for its reasons."""

    def __init__(self) -> None:
        super().__init__({})
        del self.reasons


def test_g8_a_report_that_cannot_be_taken_fails_the_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"}, reply=heard)
    bench.report(sub, Mistaken())
    assert "unexpected error in taking a report" in caplog.text
    assert (heard.words, sub.state) == (["failed"], WatchState.FAILING)
    bench.passes(1.1)
    assert bench.change(sub).attempt == 2


def test_g8_an_unexpected_error_behind_a_report_is_raised_for_the_event_is_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})

    def broken(sub: Subscriber, *, its_turn: bool) -> None:
        raise RuntimeError("of the engine")

    with monkeypatch.context() as planted:
        planted.setattr(bench.delivery, "_settle", broken)
        with pytest.raises(RuntimeError, match="of the engine"):
            bench.report(sub, Refused({"a/1": "no"}))
    assert (sub.outstanding, reasons_of(sub.refused)) == (None, {"a/1": "no"})


def test_an_error_that_cannot_be_shown_as_text_is_named() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, Mute())
    assert sub.trouble.why == "Mute (which cannot be shown as text)"
