"""Confirmations over a source whose keys are ordered each for itself:
the commit is one at the write's revision.
"""

from __future__ import annotations

import msgspec

from datasync.outcome import Tally, Verdict
from datasync.scopes import Scopes
from datasync.source import Result
from datasync.syncbase.confirm import Confirmations, Waiting
from datasync.testing.faults.store import EXACT
from tests.helpers.core import Bench, Verdicts

KEY = Scopes(["a/1"])
BY_KEY = msgspec.structs.replace(EXACT, order="key", atomic=False, transactions=False, cas=False)


def test_an_older_commit_of_the_key_is_not_the_one() -> None:
    confirmations = Confirmations()
    write = confirmations.begin({"a/1": b"1"})
    older, newer, total = Tally(), Tally(), Tally()
    confirmations.committed(["a/1"], older, KEY, 4)
    assert confirmations.seen("a/1", 4) == (older, KEY)
    assert confirmations.seen("a/1", 5) is None

    answers: list[Result] = []
    total.listen(answers.append)
    confirmations.wait_for("a/1", Waiting(["a/1"], total, 5))
    confirmations.committed(["a/1"], older, KEY, 4)
    confirmations.committed(["a/1"], newer, KEY, 7)
    older.close()
    assert answers == []

    newer.vote(Verdict.ACCEPTED, {})
    newer.close()
    assert [answer.verdict for answer in answers] == [Verdict.ACCEPTED]
    confirmations.end(write)
    assert not confirmations.active


def test_a_delete_of_what_is_not_there_is_answered_at_once_for_no_frame_brings_it() -> None:
    bench, heard = Bench(capabilities=BY_KEY), Verdicts()
    bench.watch()
    bench.start()
    write = bench.layer.confirmations.begin({"a/1": None})
    bench.core.confirmer.confirm(bench.layer, write, None, heard)
    bench.layer.confirmations.end(write)
    assert heard.words == ["accepted"]
