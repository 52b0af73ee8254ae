"""The mailbox of a watch: commit by commit, and folded."""

from __future__ import annotations

import math

from datasync.events import Record
from datasync.outcome import KeyOutcome, Reply, Tally, Verdict, Vote
from datasync.syncbase.mailbox import Group, Mailbox
from tests.helpers.core import Verdicts

A1, A2, A3, A4 = (Record(f"{n}".encode(), n) for n in range(1, 5))


def decode(key: str, raw: bytes) -> bytes:
    return raw


def group(
    seq: int,
    *diffs: tuple[str, Record | None, Record | None],
    reply: Reply | None = None,
    mixed: bool = False,
) -> Group:
    tally = None if reply is None else Tally((reply,), expected=2)
    return Group(seq, seq, "store", list(diffs), tally, mixed)


def box(limit: int = 10) -> Mailbox:
    """One whose watch has accepted something."""
    made = Mailbox(limit)
    made.never_accepted = False
    return made


def test_an_empty_one() -> None:
    empty = box()
    assert not empty
    assert (len(empty), empty.first_seq) == (0, math.inf)


def test_commits_come_as_they_went_in() -> None:
    waiting = box()
    waiting.add(group(1, ("a", None, A1)))
    waiting.add(group(2, ("a", A1, A2), ("b", None, A2)))
    assert (len(waiting), waiting.first_seq) == (3, 1)
    first, second = waiting.take({}), waiting.take({})
    assert [change.raw for change in first.changes(decode)] == [b"1"]
    assert [(change.key, change.raw) for change in second.changes(decode)] == [
        ("a", b"2"),
        ("b", b"2"),
    ]
    assert not waiting


def test_beyond_its_limit_it_folds_and_ends_at_the_newest_value() -> None:
    waiting = box(limit=2)
    waiting.add(group(1, ("a", A1, A2)))
    waiting.add(group(2, ("a", A2, A3), ("b", None, A3)))
    assert waiting.folded == {"a": A1, "b": None}
    batch = waiting.take({"a": A4, "b": A3})
    assert [
        (change.key, change.prev and change.prev.raw, change.raw)
        for change in batch.changes(decode)
    ] == [
        ("a", b"1", b"4"),
        ("b", None, b"3"),
    ]
    assert (batch.commits, batch.first_seq, batch.last_seq) == (2, 1, 2)


def test_one_commit_larger_than_the_limit_stays_whole() -> None:
    waiting = box(limit=1)
    waiting.add(group(1, ("a", None, A1), ("b", None, A1)))
    assert waiting.folded is None
    assert len(waiting.take({}).changes(decode)) == 2


def test_what_came_back_to_where_it_was_is_not_told() -> None:
    waiting = box()
    waiting.add(group(1, ("a", A1, A2)))
    waiting.add(group(2, ("a", A2, Record(b"1", 9))))
    waiting.fold()
    assert waiting.take({"a": Record(b"1", 9)}).diffs == []


def test_a_dirty_key_is_told_even_where_nothing_differs() -> None:
    waiting = box()
    waiting.dirty["a"] = A1  # accepted last; what came later was refused
    waiting.add(group(1, ("a", A3, A4)))
    waiting.fold()
    (change,) = waiting.take({"a": A4}).changes(decode)
    assert (change.prev and change.prev.raw, change.raw) == (b"1", b"4")


def test_a_fresh_one_counts_every_key_as_new() -> None:
    waiting = Mailbox(10)
    waiting.add(group(1, ("a", A1, A2)))
    waiting.fold()
    assert waiting.folded == {}


def test_what_was_not_accepted_is_folded_with_what_came_behind_it() -> None:
    waiting = box()
    waiting.add(group(1, ("a", A1, A2)))
    out = waiting.take({})
    waiting.add(group(2, ("a", A2, A3)))
    waiting.requeue(out, dirty=True)
    assert (waiting.folded, waiting.dirty) == ({"a": A1}, {"a": A1})
    again = waiting.take({"a": A3})
    assert (again.commits, again.last_seq) == (2, 2)
    assert [(change.prev and change.prev.raw, change.raw) for change in again.changes(decode)] == [
        (b"1", b"3")
    ]


def test_what_was_never_delivered_still_holds_up_dependent_watches() -> None:
    waiting = box()
    waiting.add(group(1, ("a", A1, A2)))
    out = waiting.take({})
    assert waiting.first_seq == math.inf
    waiting.requeue(out, dirty=False)
    assert (waiting.first_seq, waiting.dirty) == (1, {})


def test_a_fold_answers_those_who_wrote_what_is_overwritten() -> None:
    waiting, heard = box(), Verdicts()
    first = group(1, ("a", None, A1), ("b", None, A1), reply=heard)
    waiting.add(first)
    waiting.fold()
    waiting.add(group(2, ("a", A1, A2)))
    assert first.tally is not None
    first.tally.close()
    assert heard.words == []  # of b, it still is the newest
    waiting.add(group(3, ("b", A1, A2)))
    assert heard.words == ["accepted"]


def test_what_is_written_once_more_as_it_was_overwrites_nobody() -> None:
    waiting, heard = box(), Verdicts()
    first = group(1, ("a", None, A1), reply=heard)
    waiting.add(first)
    waiting.fold()
    waiting.add(group(2, ("a", A1, A1), ("b", None, A1), mixed=True))
    assert first.tally is not None
    first.tally.close()
    assert heard.words == []
    said = {"a": KeyOutcome(Verdict.PENDING, "it waits")}
    waiting.take({"a": A1, "b": A1}).answer(Verdict.PENDING, said)
    assert heard.words == ["pending"]


def test_what_a_snapshot_shows_overwrites_nobody() -> None:
    waiting, heard = box(), Verdicts()
    first = group(1, ("a", None, A1), reply=heard)
    waiting.add(first)
    waiting.catch_up(group(2, ("a", A1, A2)))
    assert first.tally is not None
    first.tally.close()
    assert heard.words == []
    waiting.take({"a": A2}).answer(Verdict.ACCEPTED, {})
    assert heard.words == ["accepted"]


def test_the_votes_of_a_fold_are_judged_by_their_keys() -> None:
    waiting, first, second = box(), Verdicts(), Verdicts()
    groups = [group(1, ("a", None, A1), reply=first), group(2, ("b", None, A2), reply=second)]
    for each in groups:
        waiting.add(each)
    waiting.fold()
    waiting.take({"a": A1, "b": A2}).answer(
        Verdict.REFUSED, {"b": KeyOutcome(Verdict.REFUSED, "no")}
    )
    for each in groups:
        assert each.tally is not None
        each.tally.close()
    assert (first.words, second.words) == (["accepted"], ["refused"])


def test_answering_what_waits_leaves_it_waiting() -> None:
    waiting, heard = box(), Verdicts()
    only = group(1, ("a", None, A1), reply=heard)
    tally = only.tally
    assert tally is not None
    waiting.add(only)
    waiting.overdue()
    tally.close()
    assert (heard.words, len(waiting)) == (["overdue"], 1)


def test_a_resync_may_answer_a_publisher_too() -> None:
    waiting, heard = box(), Verdicts()
    tally = Tally((heard,), expected=2)
    waiting.add_pending_vote(Vote(tally), 5, 7, "store")
    tally.close()
    before, batch = waiting.take_for_resync()
    assert (before, batch.diffs, batch.revision) == ({}, (), 7)
    batch.answer(Verdict.ACCEPTED, {})
    assert heard.words == ["accepted"]


def test_a_closed_one_votes_no_more() -> None:
    waiting, heard = box(), Verdicts()
    only = group(1, ("a", None, A1), reply=heard)
    tally = only.tally
    assert tally is not None
    waiting.add(only)
    waiting.clear()
    tally.close()
    assert (heard.words, bool(waiting)) == (["unwatched"], False)
