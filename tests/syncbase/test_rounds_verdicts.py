"""Turns of a round, and the adding up of verdicts."""

from __future__ import annotations

from datasync.outcome import KeyOutcome, Result, Tally, Verdict, Vote
from datasync.syncbase.rounds import Rounds


def test_a_round_goes_in_order_and_whoever_waits_is_not_allowed() -> None:
    rounds: Rounds[str] = Rounds()
    assert rounds.allows("a")
    assert rounds.start(["a", "b", "c"]) == "a"
    assert rounds.allows("a")
    assert not rounds.allows("b")
    assert rounds.settled("c") is None  # not its turn: passed by, or closed
    assert rounds.settled("a") == "b"
    assert rounds.settled("a") is None  # its turn is over
    assert rounds.allows("a")
    assert rounds.settled("b") is None
    assert rounds.current is None


def test_a_newer_round_replaces_the_older_one() -> None:
    rounds: Rounds[str] = Rounds()
    rounds.start(["a", "b"])
    rounds.settled("a")
    assert rounds.start(["a", "b"]) == "a"
    assert not rounds.allows("b")
    assert rounds.settled("b") is None
    assert rounds.current == "a"


def test_who_registers_during_a_round_comes_last() -> None:
    rounds: Rounds[str] = Rounds()
    rounds.join("early")
    assert rounds.allows("early")
    rounds.start(["a"])
    rounds.join("b")
    assert not rounds.allows("b")
    assert rounds.settled("a") == "b"


NO = KeyOutcome(Verdict.REFUSED, "no")


def heard(tally: Tally) -> list[Result]:
    results: list[Result] = []
    tally.listen(results.append)
    return results


def test_the_worst_verdict_is_heard_once_when_all_have_voted() -> None:
    tally = Tally(expected=4)
    results = heard(tally)
    tally.vote(Verdict.FAILED)
    tally.vote(Verdict.ACCEPTED)
    tally.vote(Verdict.REFUSED, {"k": NO})
    assert results == []
    tally.close()
    assert [result.verdict for result in results] == [Verdict.FAILED]
    assert results[0].reasons == {"k": "no"}
    assert heard(tally) == results  # late listeners hear it too


def test_without_any_vote_it_is_unwatched() -> None:
    tally = Tally()
    results = heard(tally)
    tally.close()
    assert results == [Result(Verdict.UNWATCHED)]


def test_a_watch_that_matched_without_a_difference_accepts() -> None:
    tally = Tally()
    results = heard(tally)
    tally.note(Verdict.ACCEPTED)
    tally.close()
    assert results == [Result(Verdict.ACCEPTED)]


def test_a_refusal_of_other_keys_in_the_same_event_is_an_acceptance() -> None:
    mine, other = Tally(expected=1), Tally(expected=1)
    first, second = heard(mine), heard(other)
    for vote in (Vote(mine, {"a"}), Vote(other, {"b"})):
        vote.cast(Verdict.REFUSED, {"b": NO})
    assert first == [Result(Verdict.ACCEPTED)]
    assert second == [Result(Verdict.REFUSED, {"b": NO})]


def test_a_final_tally_waits_while_the_event_comes_again() -> None:
    tally = Tally(expected=1, final=True)
    results, vote = heard(tally), Vote(tally, {"a"})
    assert not vote.cast(Verdict.FAILED)
    assert not vote.cast(Verdict.OVERDUE)
    failed = {"a": KeyOutcome(Verdict.FAILED, "busy")}  # by its key: the event does not come again
    assert vote.cast(Verdict.FAILED, failed)
    assert results == [Result(Verdict.FAILED, failed)]


def test_a_failure_concerns_every_key() -> None:
    tally = Tally(expected=1)
    results = heard(tally)
    Vote(tally, {"a"}).cast(Verdict.FAILED, {})
    assert results == [Result(Verdict.FAILED)]
