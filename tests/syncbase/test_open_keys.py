"""Open keys: a watch took over their values, and says later what became of them."""

from __future__ import annotations

from datasync.errors import DecodeError, Failed, HistoryLost, Outcomes, Pending, Refused
from datasync.outcome import Accepted, KeyOutcome, Verdict, reasons_of
from datasync.syncbase.confirm import Write
from datasync.syncbase.subscriber import Subscriber
from tests.helpers.core import Bench, Verdicts, changes

PENDING = KeyOutcome(Verdict.PENDING, "no eth0")
FAILED = KeyOutcome(Verdict.FAILED, "busy")
REFUSED = KeyOutcome(Verdict.REFUSED, "too large")
ACCEPTED = KeyOutcome(Verdict.ACCEPTED)

WAITS, BUSY = Pending("no eth0"), Failed("busy")


def opened(bench: Bench, *keys: str) -> Subscriber:
    """A watch of which these keys are pending, at the value "one"."""
    sub = bench.watch()
    bench.start()
    bench.commit(dict.fromkeys(keys, b"one"))
    bench.report(sub, WAITS)
    assert sub.mailbox.open == dict.fromkeys(keys, PENDING)
    return sub


def test_an_open_key_is_accepted_and_not_brought_again() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one", "a/2": b"one", "a/3": b"one"}, reply=heard)
    bench.report(sub, Outcomes({"a/1": WAITS, "a/2": BUSY}))
    assert heard.heard[0].outcomes == {"a/1": PENDING, "a/2": FAILED}
    assert heard.words == ["failed"]
    assert (sub.mailbox.open, sub.mailbox.dirty) == ({"a/1": PENDING, "a/2": FAILED}, {})
    bench.passes(100.0)
    assert bench.event(sub) is None
    bench.commit({"a/1": b"two"})
    assert changes(bench.change(sub)) == {"a/1": (b"one", b"two")}
    bench.report(sub)
    assert sub.mailbox.open == {"a/2": FAILED}


def test_a_watch_with_an_open_key_is_not_fast_until_that_is_reported() -> None:
    bench = Bench()
    sub = opened(bench, "a/1")
    assert not sub.fast
    bench.delivery.report_keys(sub, {"a/1": FAILED})
    assert (sub.fast, sub.mailbox.open) == (False, {"a/1": FAILED})
    bench.delivery.report_keys(sub, {"a/1": ACCEPTED})
    assert (sub.fast, sub.mailbox.open) == (True, {})


def test_the_same_bytes_and_a_second_delete_are_answered_with_the_latest_outcome() -> None:
    bench, heard = Bench(), Verdicts()
    sub = opened(bench, "a/1", "a/2")
    bench.commit({"a/2": None})
    bench.report(sub, BUSY)
    bench.commit({"a/1": b"one"}, reply=heard)
    bench.commit({"a/2": None}, reply=heard)
    bench.commit({"a/1": b"one", "a/3": b"one"}, reply=heard)
    bench.report(sub)
    assert [result.outcomes for result in heard.heard] == [
        {"a/1": PENDING},
        {"a/2": FAILED},
        {"a/1": PENDING},
    ]


def test_they_are_so_where_they_wait_behind_another_event() -> None:
    bench, heard = Bench(), Verdicts()
    sub = opened(bench, "a/1", "a/2")
    bench.commit({"a/3": b"one"})  # it is out
    bench.commit({"a/1": b"one", "a/4": b"one"}, reply=heard)
    bench.commit({"a/1": b"one"}, reply=heard)
    bench.commit({"a/1": b"one"})
    bench.report(sub)
    bench.report(sub, Outcomes({"a/4": BUSY}))
    assert [result.outcomes for result in heard.heard] == [
        {"a/1": PENDING, "a/4": FAILED},
        {"a/1": PENDING},
    ]


def test_what_was_written_and_written_back_in_a_fold_changes_nothing_either() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch(backlog=1)
    bench.start({"a/1": b"zero"})
    bench.commit({"a/1": b"one"})
    bench.report(sub, WAITS)
    bench.commit({"a/9": b"one"})  # it is out
    bench.commit({"a/1": b"two"})
    bench.commit({"a/1": b"one"}, reply=heard)
    bench.report(sub)
    assert bench.event(sub) is None
    assert [result.outcomes for result in heard.heard] == [{"a/1": PENDING}]


def test_a_vote_on_a_refused_key_that_the_event_leaves_out_is_refused() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch()
    bench.start({"a/1": b"one"})
    bench.commit({"a/1": None})
    bench.report(sub, Refused("too large"))
    bench.commit({"a/2": b"one"})  # it is out
    bench.commit({"a/3": b"one"})
    # a delete in vain, which no frame brings
    bench.core.confirmer.confirm(bench.layer, Write(1, {"a/1": None}), 9, heard, vain=["a/1"])
    bench.report(sub)
    assert heard.words == []
    bench.report(sub)
    assert [result.outcomes for result in heard.heard] == [{"a/1": REFUSED}]
    bench.core.confirmer.confirm(bench.layer, Write(1, {"a/1": None}), 9, heard, vain=["a/1"])
    assert heard.words == ["refused", "refused"]


def test_of_a_fold_each_publisher_hears_of_its_own_keys_alone() -> None:
    bench, heard = Bench(), [Verdicts() for _ in range(4)]
    sub = bench.watch(backlog=1)
    bench.start()
    bench.commit({"a/0": b"one"})
    bench.report(sub, BUSY)
    bench.commit({"a/9": b"one"})  # it is out
    for number, reply in enumerate(heard):
        bench.commit({f"a/{number}": b"one"}, reply=reply)
    bench.report(sub)
    bench.report(sub, Outcomes({"a/1": WAITS, "a/2": Refused("too large")}))
    assert [one.heard[0].outcomes for one in heard] == [
        {"a/0": FAILED},
        {"a/1": PENDING},
        {"a/2": REFUSED},
        {},
    ]
    assert [one.words for one in heard] == [["failed"], ["pending"], ["refused"], ["accepted"]]


def test_a_resync_settles_open_keys_but_for_those_that_it_opens() -> None:
    bench = Bench()
    sub = opened(bench, "a/1", "a/2", "a/3")
    bench.core.resync(sub)
    bench.report(sub, Outcomes({"a/1": BUSY, "a/2": Refused("too large")}))
    assert (sub.mailbox.open, reasons_of(sub.refused)) == ({"a/1": FAILED}, {"a/2": "too large"})
    assert sub.follows


def test_a_failed_event_leaves_a_key_open_and_the_key_is_brought_again() -> None:
    bench, heard = Bench(), Verdicts()
    sub = opened(bench, "a/1")
    bench.commit({"a/1": b"two"}, reply=heard)
    bench.report(sub, ValueError("no"))
    assert (heard.words, sub.mailbox.open) == (["failed"], {"a/1": PENDING})
    bench.passes(100.0)
    assert changes(bench.change(sub)) == {"a/1": (b"one", b"two")}
    bench.report(sub)
    assert sub.mailbox.open == {}


def test_what_is_not_open_is_left_as_it_is() -> None:
    bench = Bench()
    sub = opened(bench, "a/1")
    for said in (PENDING, FAILED, REFUSED, ACCEPTED):
        bench.delivery.report_keys(sub, {"a/2": said})
    assert (sub.mailbox.open, sub.refused) == ({"a/1": PENDING}, {})


def test_a_key_that_is_refused_late_is_dirty() -> None:
    bench = Bench()
    sub = opened(bench, "a/1")
    bench.delivery.report_keys(sub, {"a/1": REFUSED})
    assert (sub.mailbox.open, reasons_of(sub.refused)) == ({}, {"a/1": "too large"})
    assert sub.trouble.since == bench.now
    bench.commit({"a/1": b"one"})
    assert changes(bench.change(sub)) == {"a/1": (b"one", b"one")}  # G5: it took that over


def test_it_is_dirty_with_what_was_accepted_before_all_that_is_out_or_waits() -> None:
    def case(bench: Bench, sub: Subscriber) -> bytes | None:
        bench.delivery.report_keys(sub, {"a/1": REFUSED, "a/2": REFUSED})
        records = sub.mailbox.dirty["a/1"], sub.mailbox.dirty["a/2"]
        one, two = (None if record is None else record.raw for record in records)
        assert two == b"one"
        return one

    bench = Bench()  # an event is out
    sub = opened(bench, "a/1", "a/2")
    bench.commit({"a/1": b"two"})
    assert case(bench, sub) == b"one"

    bench = Bench()  # a commit waits behind another
    sub = opened(bench, "a/1", "a/2")
    bench.commit({"a/9": b"out"})
    bench.commit({"a/1": b"two"})
    bench.commit({"a/1": b"three"})
    assert case(bench, sub) == b"one"

    bench = Bench()  # a fold waits
    sub = opened(bench, "a/1", "a/2")
    sub.mailbox.limit = 1
    bench.commit({"a/9": b"out"})
    bench.commit({"a/1": b"two"})
    bench.commit({"a/1": b"three"})
    assert sub.mailbox.folded is not None
    assert case(bench, sub) == b"one"

    bench = Bench()  # a RESYNC is out
    sub = opened(bench, "a/1", "a/2")
    bench.lose(HistoryLost("compacted"))
    bench.open()
    bench.snapshot({"a/1": b"two", "a/2": b"one"})
    bench.resync(sub)
    assert case(bench, sub) == b"one"


def test_a_later_refusal_does_not_begin_a_trouble_that_is_there() -> None:
    bench = Bench()
    sub = opened(bench, "a/1", "a/2")
    bench.delivery.report_keys(sub, {"a/1": REFUSED})
    began = bench.now
    bench.passes(10.0)
    bench.delivery.report_keys(sub, {"a/2": REFUSED})
    assert (sub.trouble.since, [*sub.refused]) == (began, ["a/1", "a/2"])


def test_a_key_that_does_not_decode_is_refused_whatever_else_is_said_of_it() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"!", "a/2": b"!", "a/3": b"!"})
    bench.report(sub, DecodeError("a/1", "is broken"))
    bench.report(
        sub, Outcomes({"a/1": WAITS, "a/2": Accepted(), "a/3": Refused("no bytes like that")})
    )
    assert (sub.mailbox.open, reasons_of(sub.refused)) == (
        {},
        {
            "a/1": "does not decode: is broken",
            "a/2": "does not decode: is broken",
            "a/3": "no bytes like that",
        },
    )


def test_keys_that_the_event_does_not_hold_are_a_mistake_of_the_handler() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, Outcomes({"a/1": WAITS, "b/1": WAITS}))
    assert sub.mailbox.open == {}
    assert sub.trouble.why == (
        "UsageError: Outcomes names the key 'b/1', which the event does not have; name keys as "
        "`change.key` shows them"
    )


def test_the_worst_outcome_of_a_key_at_several_watches_is_heard() -> None:
    bench, heard = Bench(), Verdicts()
    first, second, third = (bench.watch(name) for name in ("first", "second", "third"))
    bench.start()
    bench.commit({"a/1": b"one"}, reply=heard)
    bench.report(first, WAITS)
    bench.report(second, Refused("too large"))
    bench.report(third, WAITS)
    assert heard.heard[0].outcomes == {"a/1": REFUSED}
    assert heard.words == ["refused"]


def test_a_closed_watch_has_no_open_keys() -> None:
    bench = Bench()
    sub = opened(bench, "a/1")
    bench.core.close(sub)
    assert sub.mailbox.open == {}
    bench.delivery.report_keys(sub, {"a/1": ACCEPTED})
