"""How far the watches are: positions and open keys, as an agent reports them."""

from __future__ import annotations

import hashlib

from datasync import Failed, Outcomes, Pending, Refused, Verdict
from datasync.outcome import KeyOutcome
from datasync.syncbase.standing import Picture, Standing
from tests.helpers.core import Bench


def standing_of(bench: Bench) -> Standing:
    standing = Standing(bench.core, lambda: bench.now)
    bench.core.onlookers.append(standing)
    bench.delivery.witness = standing
    return standing


def revisions(picture: Picture) -> list[int | None]:
    return [layer.revision for layer in picture.layers]


def keys(picture: Picture) -> dict[str, str]:
    return {key: report.verdict for key, report in picture.keys.items()}


def test_a_position_is_settled_once_each_watch_has_said_what_became_of_it() -> None:
    bench = Bench()
    standing = standing_of(bench)
    one, other = bench.watch("one", ["a/"]), bench.watch("other", ["b/"])
    bench.open()
    bench.snapshot({"a/1": b"1"}, revision=5)
    picture = standing.picture()
    assert (revisions(picture), picture.complete) == ([None], False)
    assert [(watch.name, watch.state) for watch in picture.watches] == [
        ("one", "resyncing"),
        ("other", "waiting"),
    ]
    bench.accept_all()
    picture = standing.picture()
    assert (revisions(picture), picture.watches, picture.complete) == ([5], [], True)
    assert picture.scopes == ["a/", "b/"]

    bench.commit({"a/1": b"2"})
    bench.commit({"b/1": b"2"})
    assert revisions(standing.picture()) == [5]
    bench.report(other)
    assert revisions(standing.picture()) == [5]
    bench.report(one)
    assert revisions(standing.picture()) == [7]


def test_what_concerns_no_watch_moves_nothing() -> None:
    bench = Bench()
    standing = standing_of(bench)
    bench.watch("one", ["a/"])
    bench.start()
    before = standing.picture()
    bench.commit({"status/progress/vpp1": b"{}"})
    bench.commit({})
    bench.progress()
    assert standing.picture() == before


def test_of_many_commits_the_newest_that_concerns_a_watch_counts() -> None:
    bench = Bench()
    standing = standing_of(bench)
    bench.watch("one", ["a/"])
    bench.start()
    for number in range(1500):
        bench.commit({f"a/{number % 7}": b"%d" % number})
        bench.accept_all()
    last = bench.revision
    for number in range(1500):
        bench.commit({f"status/{number}": b""})
    assert revisions(standing.picture()) == [last]


def test_under_steady_traffic_positions_of_earlier_looks_are_settled() -> None:
    bench = Bench()
    standing = standing_of(bench)
    sub = bench.watch("one", ["a/"])
    bench.start()
    before = standing.picture()
    bench.commit({"a/1": b"1"})
    second = bench.commit({"a/2": b"1"})
    standing.picture()
    bench.report(sub)
    third = bench.commit({"a/3": b"1"})
    assert revisions(standing.picture()) == revisions(before)
    bench.report(sub)
    assert revisions(standing.picture()) == [second]
    bench.commit({"a/4": b"1"})
    bench.report(sub)
    assert revisions(standing.picture()) == [third]


def test_a_refused_key_stays_about_its_value_while_a_newer_one_is_out() -> None:
    bench = Bench()
    standing = standing_of(bench)
    sub = bench.watch("one", ["a/"])
    bench.start()
    bench.commit({"a/1": b"bad", "a/2": b"good"})
    bench.report(sub, Refused({"a/1": "is bad"}))
    told = standing.picture().keys
    assert [(report.key, report.reason) for report in told.values()] == [("a/1", "is bad")]
    bench.now += 10
    bench.commit({"a/1": b"better"})
    assert standing.picture().keys == told
    bench.report(sub)
    assert not standing.picture().keys


def test_a_key_that_fails_after_it_was_refused_is_about_what_failed() -> None:
    bench = Bench()
    standing = standing_of(bench)
    sub = bench.watch("one", ["a/"])
    bench.start()
    bench.commit({"a/1": b"bad"})
    bench.report(sub, Refused("is bad"))
    refused = standing.picture().keys["a/1"]
    bench.commit({"a/1": b"worse"})
    bench.report(sub, RuntimeError("boom"))
    failed = standing.picture().keys["a/1"]
    assert (failed.verdict, failed.reason, failed.attempt) == ("failed", "RuntimeError: boom", 2)
    assert failed.digest != refused.digest
    bench.passes(1.0)
    bench.report(sub, Refused("is worse"))
    again = standing.picture().keys["a/1"]
    assert (again.verdict, again.reason, again.digest) == ("refused", "is worse", failed.digest)
    bench.commit({"a/1": b"good"})
    bench.report(sub)
    assert not standing.picture().keys


def test_open_keys_of_a_resync_have_their_values() -> None:
    bench = Bench()
    standing = standing_of(bench)
    sub = bench.watch("one", ["a/"])
    bench.open()
    bench.snapshot({"a/1": b"waits", "a/2": b"!", "a/3": b"good"})
    event = bench.resync(sub)
    values = [kv.raw for pairs in event.values.values() for kv in pairs]
    assert values == [b"waits", b"!", b"good"]
    bench.report(sub, Outcomes({"a/1": Pending("no eth0"), "a/2": Failed("is broken")}))
    told = standing.picture().keys
    assert keys(standing.picture()) == {"a/1": "pending", "a/2": "failed"}
    assert all(report.digest for report in told.values())

    bench.delivery.report_keys(sub, Refused("never").by_key(["a/1"]))
    assert keys(standing.picture()) == {"a/1": "refused", "a/2": "failed"}
    bench.lose()
    bench.open()
    bench.snapshot({"a/3": b"good"})
    bench.accept_all()
    assert not standing.picture().keys


def test_a_failing_resync_is_told_of_its_watch() -> None:
    bench = Bench()
    standing = standing_of(bench)
    sub = bench.watch("one", ["a/"])
    bench.open()
    bench.snapshot({"a/1": b"1"})
    bench.report(sub, RuntimeError("boom"))
    picture = standing.picture()
    assert (picture.keys, revisions(picture)) == ({}, [None])
    [watch] = picture.watches
    assert (watch.state, watch.reason, watch.attempt) == ("failing", "RuntimeError: boom", 2)
    assert (watch.scopes, watch.since) == (["a/"], bench.now)


def test_the_worst_of_several_watches_is_told() -> None:
    bench = Bench()
    standing = standing_of(bench)
    one, other = bench.watch("one", ["a/"]), bench.watch("other", ["a/"])
    bench.start()
    bench.commit({"a/1": b"1"})
    bench.report(one, Outcomes({"a/1": Pending("waits")}))
    bench.report(other, Refused("is bad"))
    told = standing.picture().keys["a/1"]
    assert (told.verdict, told.watch) == ("refused", "other")
    bench.commit({"a/2": b"1"})
    bench.report(one, Refused("is bad"))
    bench.report(other, Outcomes({"a/2": Pending("waits")}))
    told = standing.picture().keys["a/2"]
    assert (told.verdict, told.watch) == ("refused", "one")
    bench.core.close(other)
    told = standing.picture().keys["a/1"]
    assert (told.verdict, told.watch) == ("pending", "one")
    bench.delivery.report_keys(one, {"a/1": KeyOutcome(Verdict.ACCEPTED)})
    assert keys(standing.picture()) == {"a/2": "refused"}


def test_a_key_that_fails_again_in_the_same_way_keeps_its_time() -> None:
    bench = Bench()
    standing = standing_of(bench)
    sub = bench.watch("one", ["a/"])
    bench.start()
    bench.commit({"a/1": b"1"})
    bench.report(sub, RuntimeError("boom"))
    first = standing.picture().keys["a/1"]
    bench.passes(1.0)
    bench.report(sub, RuntimeError("boom"))
    again = standing.picture().keys["a/1"]
    assert (again.since, again.attempt) == (first.since, 3)


def test_an_overdue_watch_holds_up_the_position() -> None:
    bench = Bench()
    standing = standing_of(bench)
    sub = bench.watch("one", ["a/"])
    bench.start()
    before = revisions(standing.picture())
    bench.commit({"a/1": b"1"})
    assert bench.event(sub) is not None
    bench.passes(3.0)
    picture = standing.picture()
    assert (keys(picture), revisions(picture)) == ({"a/1": "overdue"}, before)
    bench.report(sub)
    picture = standing.picture()
    assert (keys(picture), picture.watches) == ({}, [])
    assert revisions(picture) == [bench.revision]


def said_of(standing: Standing, key: str, raw: bytes | None) -> str | None:
    """The verdict on a value of a key."""
    said = standing.outcome(key, None if raw is None else hashlib.sha256(raw).hexdigest())
    return None if said is None else said.verdict.value


def test_the_outcome_of_a_value_is_told_when_it_is_settled() -> None:
    bench = Bench()
    standing = standing_of(bench)
    one, other = bench.watch("one", ["a/"]), bench.watch("other", ["a/"])
    assert said_of(standing, "a/1", b"1") is None, "nothing is known yet"
    bench.start()
    bench.commit({"a/1": b"1"})
    assert said_of(standing, "b/1", b"1") == "unwatched"
    assert said_of(standing, "a/1", b"1") is None
    assert said_of(standing, "a/1", b"0") == "superseded"
    bench.report(one)
    assert said_of(standing, "a/1", b"1") is None
    bench.report(other, Outcomes({"a/1": Pending("waits")}))
    assert said_of(standing, "a/1", b"1") == "pending"
    bench.commit({"a/1": None})
    bench.report(one, Refused("is in use"))
    assert said_of(standing, "a/1", None) is None
    bench.report(other)
    assert said_of(standing, "a/1", None) == "refused"
    assert said_of(standing, "a/1", b"1") == "superseded"


def test_a_value_that_waits_is_not_settled_by_what_became_of_others() -> None:
    bench = Bench()
    standing = standing_of(bench)
    sub = bench.watch("one", ["a/"])
    bench.start()
    bench.commit({"a/1": b"1"})
    bench.commit({"a/2": b"1"})
    assert said_of(standing, "a/2", b"1") is None
    bench.report(sub, RuntimeError("boom"))
    assert said_of(standing, "a/1", b"1") == "failed"
    assert said_of(standing, "a/2", b"1") is None
    bench.commit({"a/1": b"2"})
    assert said_of(standing, "a/1", b"2") is None, "that was not tried yet"
    bench.passes(1.0)
    assert said_of(standing, "a/2", b"1") is None
    bench.report(sub)
    assert said_of(standing, "a/1", b"2") == said_of(standing, "a/2", b"1") == "accepted"


def test_who_is_overdue_is_not_waited_for() -> None:
    bench = Bench()
    standing = standing_of(bench)
    sub = bench.watch("one", ["a/"])
    bench.start()
    bench.commit({"a/1": b"1"})
    assert bench.event(sub) is not None
    bench.passes(3.0)
    assert said_of(standing, "a/1", b"1") == "overdue"
    bench.report(sub)
    assert said_of(standing, "a/1", b"1") == "accepted"


def test_watches_that_stand_aside_say_nothing() -> None:
    bench = Bench()
    standing = standing_of(bench)
    bench.watch("one", ["a/"])
    bench.watch("tickets", ["status/tickets/"], aside=True)
    bench.start()
    before = standing.picture()
    bench.commit({"status/tickets/1": b"{}"})
    bench.accept_all()
    assert standing.picture() == before
    assert before.scopes == ["a/"]
    assert said_of(standing, "status/tickets/1", b"{}") == "unwatched"
