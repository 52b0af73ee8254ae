"""Confirmations over a source whose keys are ordered each for itself: the commit is one at the write's revision."""

from __future__ import annotations

from datasync.events import Verdict
from datasync.source import Result
from datasync.syncbase.confirm import Confirmations
from datasync.syncbase.verdicts import Tally


def test_an_older_commit_of_the_key_is_not_the_one() -> None:
    confirmations = Confirmations()
    began = confirmations.begin()
    older, newer = Tally(), Tally()
    confirmations.committed(["a/1"], older, 4)
    assert confirmations.seen("a/1", 4) is older
    assert confirmations.seen("a/1", 5) is None
    answers: list[Result] = []
    confirmations.wait_for("a/1", ["a/1"], answers.append, 5)
    confirmations.committed(["a/1"], older, 4)
    confirmations.committed(["a/1"], newer, 7)
    older.close()
    assert answers == []
    newer.vote(Verdict.ACCEPTED, {})
    newer.close()
    assert [answer.verdict for answer in answers] == [Verdict.ACCEPTED]
    confirmations.end(began)
    assert not confirmations.active
