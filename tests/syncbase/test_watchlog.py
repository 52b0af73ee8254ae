"""What the log says of a watch in trouble: at once, then at growing distances, and at its end."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from datasync.errors import DecodeError, Failed, Outcomes, Pending, Refused, Retry
from datasync.outcome import KeyOutcome, Verdict
from tests.helpers.core import Bench

Said = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """The lines so far, each with its level."""
    caplog.set_level(logging.INFO, "datasync.watch")

    def lines() -> list[tuple[str, str]]:
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return lines


def test_a_failure_is_told_with_its_traceback_then_at_growing_distances(
    said: Said, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    sub = bench.watch("nginx")
    bench.start({"a/1": b"one"})
    bench.commit({"a/1": b"two"})
    for _ in range(9):
        bench.report(sub, NameError("name 'relaod' is not defined"))
        bench.passes(60)
    told = "nginx: CHANGE at revision 2 failed (try {}): NameError: name 'relaod' is not defined"
    assert said()[:2] == [("WARNING", told.format(1)), ("WARNING", told.format(2))]
    # the third is its last try as a CHANGE
    assert [line.partition("(")[2].partition(")")[0] for _, line in said()] == [
        "try 1", "try 2", "try 4", "try 8",
    ]  # fmt: skip
    assert [record.exc_info is not None for record in caplog.records] == [True, *3 * [False]]
    assert {vars(record)["watch"] for record in caplog.records} == {"nginx"}

    bench.report(sub)
    assert said()[-1] == ("INFO", "nginx: applied all of it again")
    bench.commit({"a/1": b"three"})
    bench.report(sub)
    assert len(said()) == 5


def test_the_next_event_that_fails_is_told_anew(said: Said) -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    for number in range(2):
        bench.commit({"a/1": b"%d" % number})
        bench.report(sub, Retry("busy", after=1.0))
        bench.passes(60)
        bench.report(sub)
    assert said() == [
        ("WARNING", "watch: CHANGE at revision 2 failed (try 1): Retry: busy"),
        ("INFO", "watch: applied all of it again"),
        ("WARNING", "watch: CHANGE at revision 3 failed (try 1): Retry: busy"),
        ("INFO", "watch: applied all of it again"),
    ]


def test_refused_keys_are_told_until_none_is_left(said: Said) -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    for number in range(5):
        bench.commit({"a/1": b"%d" % number})
        bench.report(sub, Refused({"a/1": "too large"}))
    bench.commit({"a/1": b"small"})
    bench.report(sub)
    assert said() == [
        *(
            ("WARNING", f"watch: CHANGE at revision {revision}, refused: a/1: too large")
            for revision in (2, 3, 5)
        ),
        ("INFO", "watch: applied all of it again"),
    ]


def test_keys_that_fail_are_told_beside_the_refused_ones_and_pending_ones_are_not(
    said: Said,
) -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit(dict.fromkeys(("a/1", "a/2", "a/3"), b"1"))
    outcomes = {"a/1": Refused("too large"), "a/2": Failed("busy"), "a/3": Pending("no eth0")}
    bench.report(sub, Outcomes(outcomes))
    bench.delivery.report_keys(sub, {"a/3": KeyOutcome(Verdict.REFUSED, "no eth0 at all")})
    bench.commit({"a/1": b"2", "a/3": b"2"})
    bench.report(sub)
    bench.commit({"a/2": b"3"})
    bench.report(sub)
    bench.commit({"a/3": b"3"})
    bench.report(sub, Refused("no"))
    bench.commit({"a/3": b"4"})
    bench.report(sub, Pending("no eth0"))
    assert said() == [
        ("WARNING", "watch: CHANGE at revision 2, refused: a/1: too large, failed: a/2: busy"),
        ("WARNING", "watch: reported later, refused: a/3: no eth0 at all"),
        # nothing is refused any more, and a/2 still fails
        ("WARNING", "watch: CHANGE at revision 5, refused: a/3: no"),
        ("INFO", "watch: applied all of it again"),
    ]


def test_of_many_refused_keys_some_are_named(said: Said) -> None:
    bench = Bench()
    sub = bench.watch()
    bench.open()
    bench.snapshot({f"a/{number}": b"" for number in range(7)})
    bench.report(sub, Refused("the device restarts"))
    named = "; ".join(f"a/{number}: the device restarts" for number in range(5))
    assert said() == [("WARNING", f"watch: RESYNC at revision 1, refused: {named}; and 2 more")]


def test_a_value_that_does_not_decode_is_told_as_refused(said: Said) -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"!"})
    bench.report(sub, DecodeError("a/1", "is broken"))
    bench.report(sub)
    assert said() == [
        ("WARNING", "watch: CHANGE at revision 2, refused: a/1: does not decode: is broken")
    ]


def test_an_overdue_handler_is_told_and_that_it_has_reported(said: Said) -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.change(sub)
    bench.passes(3)
    assert said() == [
        (
            "WARNING",
            "watch: CHANGE at revision 2, no report within 2 s; nobody waits for it any longer",
        )
    ]
    bench.report(sub)
    assert said()[1:] == [("INFO", "watch: reported, late")]


def test_a_handler_that_reports_and_does_not_return_is_told(said: Said) -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.report(sub, returns=False)
    bench.commit({"a/1": b"two"})
    bench.passes(3)
    assert said() == [
        ("WARNING", "watch: its handler has reported, and has not returned within 2 s")
    ]


def test_a_stream_that_nobody_reads_is_not_told(said: Said) -> None:
    """It may be read when the application has time for it; `status` says that nobody does."""
    bench = Bench()
    bench.watch(stream=True, idle=False)
    bench.open()
    bench.snapshot({"a/1": b"one"})
    bench.passes(60)
    assert said() == []
