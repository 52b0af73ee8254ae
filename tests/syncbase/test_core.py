"""The front of the core, without I/O: frames in, the right events out,
and what it asks of its feeds.
"""

from __future__ import annotations

import pytest

from datasync.capabilities import Capabilities
from datasync.errors import HistoryLost
from datasync.frames import Commit, Frame, Progress, SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.options import Options
from datasync.status import WatchState
from datasync.testing.faults.store import EXACT
from tests.helpers.core import Bench, Verdicts, changes, values

# -- snapshots (G1, G2)


def test_a_snapshot_counts_only_when_it_is_complete() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.open()
    bench.core.frame(bench.layer, SnapshotBegin([""]))
    bench.core.frame(bench.layer, SnapshotChunk([("a/1", b"one", 1)]))
    assert bench.event(sub) is None
    assert [*bench.core.mirror.under("a/")] == []
    bench.core.frame(bench.layer, SnapshotEnd(1, 1, "h"))
    bench.core.caught_up(bench.layer, bench.layer.registered)
    assert values(bench.resync(sub)) == {"a/1": b"one"}


def test_a_resync_waits_for_what_was_acknowledged_before_the_registration() -> None:
    bench = Bench()
    bench.start()
    sub = bench.watch()
    bench.core.frame(bench.layer, Commit(2, 2, [("a/1", b"one")]))
    assert bench.event(sub) is None  # G1: the session may stand where it stood long before
    bench.core.caught_up(bench.layer, bench.layer.registered)
    assert values(bench.resync(sub)) == {"a/1": b"one"}


def test_a_session_that_breaks_within_a_snapshot_leaves_nothing_of_it() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.open()
    bench.core.frame(bench.layer, SnapshotBegin([""]))
    bench.core.frame(bench.layer, SnapshotChunk([("a/1", b"one", 1)]))
    bench.lose()
    bench.open()
    bench.snapshot({"a/2": b"two"})
    assert values(bench.resync(sub)) == {"a/2": b"two"}


@pytest.mark.parametrize(
    "frames",
    [
        [SnapshotChunk([])],
        [SnapshotEnd(1, 1)],
        [SnapshotBegin([""]), SnapshotBegin([""])],
        [SnapshotBegin([""]), Commit(1, 1, [("a/1", b"")])],
        [SnapshotBegin([""]), Progress(1, 1)],
    ],
    ids=["chunk first", "end first", "begun twice", "commit within", "progress within"],
)
def test_a_session_that_does_not_follow_the_protocol_is_said_so(frames: list[Frame]) -> None:
    bench = Bench()
    bench.open()
    for frame in frames[:-1]:
        bench.core.frame(bench.layer, frame)
    with pytest.raises(TypeError, match=r"must follow source\.py"):
        bench.core.frame(bench.layer, frames[-1])


# -- routing (G3, G4)


def test_each_watch_gets_its_part_of_a_commit() -> None:
    bench = Bench()
    first, second = bench.watch("first", ["a/"]), bench.watch("second", ["b/"])
    bench.start()
    bench.commit({"a/1": b"one", "b/1": b"two", "c/1": b"three"})
    assert changes(bench.change(first)) == {"a/1": (None, b"one")}
    assert changes(bench.change(second)) == {"b/1": (None, b"two")}


def test_a_write_that_changes_nothing_reaches_no_handler() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch()
    bench.start({"a/1": b"one"})
    bench.commit({"a/1": b"one"}, reply=heard)
    assert (bench.event(sub), heard.words) == (None, ["accepted"])


def test_a_write_that_changes_nothing_has_the_outcome_of_what_is_out() -> None:
    bench, heard = Bench(), Verdicts()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": b"one"})
    bench.commit({"a/1": b"one"}, reply=heard)
    assert heard.words == []
    bench.report(sub)
    assert heard.words == ["accepted"]


def test_a_delete_of_what_is_not_there_changes_nothing() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.commit({"a/1": None})
    assert bench.event(sub) is None


# -- resuming and recovery (G2, G8)


def test_a_session_is_resumed_behind_the_last_frame() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start({"a/1": b"one"})
    bench.commit({"b/1": b"other"})
    bench.lose()
    scopes, resume, added = bench.open()
    assert (scopes, resume, added) == (["a/"], bench.revision, [])
    bench.commit({"a/1": b"two"})
    assert changes(bench.change(sub)) == {"a/1": (b"one", b"two")}


def test_where_it_cannot_resume_there_is_a_round() -> None:
    cannot = Capabilities(
        **{field: getattr(EXACT, field) for field in EXACT.__struct_fields__} | {"resume": False}
    )
    bench = Bench(capabilities=cannot)
    sub = bench.watch()
    bench.start({"a/1": b"one", "a/2": b"two"})
    bench.lose()
    assert bench.open()[1] is None
    bench.snapshot({"a/1": b"three"})
    event = bench.resync(sub)
    assert event.reason == "reconnected"
    assert changes(event) == {"a/1": (b"one", b"three"), "a/2": (b"two", None)}


def test_recovery_by_resync_never_resumes() -> None:
    bench = Bench(options=Options(recovery="resync"))
    bench.watch()
    bench.start()
    bench.lose()
    assert bench.open()[1] is None


def test_an_unexpected_error_tells_nothing_of_what_was_taken_over() -> None:
    bench = Bench()
    bench.watch()
    bench.start()
    bench.lose(RuntimeError("of the session"))
    assert bench.open()[1] is None


def test_a_compaction_is_no_new_history() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start({"a/1": b"one"})
    bench.lose(HistoryLost("compacted"))
    bench.open()
    bench.snapshot({"a/1": b"two"})
    event = bench.resync(sub)
    assert (event.reason, changes(event)) == ("history lost: compacted", {"a/1": (b"one", b"two")})


@pytest.mark.parametrize("sign", ["the session says so", "another name", "revisions go back"])
def test_a_new_history_is_seen(sign: str) -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start({"a/1": b"one"})
    bench.commit({"a/1": b"two"})
    bench.report(sub)
    bench.lose(HistoryLost("restored", changed=sign == "the session says so"))
    bench.open()
    bench.snapshot(
        {"a/1": b"old"},
        history="other" if sign == "another name" else "h",
        revision=1 if sign == "revisions go back" else None,
    )
    assert bench.resync(sub).reason == "new history: the store was emptied, restored or replaced"


def test_a_snapshot_of_the_same_history_is_a_change() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start({"a/1": b"one", "a/2": b"two"})
    bench.snapshot({"a/1": b"three"}, same_history=True)
    assert changes(bench.change(sub)) == {"a/1": (b"one", b"three"), "a/2": (b"two", None)}


def test_a_source_may_resync_all_watches_and_hear_what_became_of_it() -> None:
    bench, heard = Bench(), Verdicts()
    first, second = bench.watch("first"), bench.watch("second")
    bench.start()
    bench.snapshot({"a/1": b"one"}, reply=heard)
    assert bench.resync(first).reason == "resync by the source"
    bench.report(first)
    assert heard.words == []
    bench.report(second)
    assert heard.words == ["accepted"]


# -- prefixes


def test_an_added_prefix_resyncs_the_watch_as_a_whole() -> None:
    bench = Bench()
    sub, other = bench.watch(), bench.watch("other", ["b/"])
    bench.start({"a/1": b"one", "b/1": b"two"})
    bench.core.add_scope(sub, "b/")
    bench.core.caught_up(bench.layer, bench.layer.registered)
    event = bench.resync(sub)
    assert (event.reason, [*event.values]) == ("prefix added", ["a/", "b/"])
    assert changes(event) == {"b/1": (None, b"two")}
    assert bench.event(other) is None


def test_a_removed_prefix_shows_as_deletes() -> None:
    bench = Bench()
    sub = bench.watch(scopes=["a/", "b/"])
    bench.start({"a/1": b"one", "b/1": b"two"})
    bench.core.remove_scope(sub, "b/")
    bench.delivery.pump(sub)
    event = bench.resync(sub)
    assert (event.reason, changes(event)) == ("prefix removed", {"b/1": (b"two", None)})


def test_only_what_is_needed_is_asked_for() -> None:
    bench = Bench()
    bench.watch("first", ["a/", "a/b/"])
    bench.core.hold("c/")
    assert sorted(bench.open()[0]) == ["a/", "c/"]


def test_what_is_not_known_yet_is_asked_for_beside_what_is() -> None:
    bench = Bench()
    bench.watch()
    bench.open()
    bench.snapshot({}, scopes=["a/"])
    bench.watch("second", ["b/"])
    assert bench.core.widening(bench.layer) == (["a/", "b/"], ["b/"])


def test_what_nobody_needs_any_more_is_forgotten() -> None:
    bench = Bench()
    first = bench.watch("first", ["a/"])
    bench.watch("second", ["b/"])
    bench.open()
    bench.snapshot({"a/1": b"one", "b/1": b"two"}, scopes=["a/", "b/"])
    bench.accept_all()
    bench.core.close(first)
    bench.core.narrow()
    assert [*bench.core.mirror.records] == ["b/1"]
    bench.commit({"a/2": b"three"})
    assert [*bench.core.mirror.records] == ["b/1"]


def test_what_was_forgotten_and_is_wanted_again_comes_by_a_snapshot() -> None:
    bench = Bench()
    bench.watch("first", ["a/"])
    second = bench.watch("second", ["b/"])
    bench.open()
    bench.snapshot({"b/1": b"one"}, scopes=["a/", "b/"])
    bench.accept_all()
    bench.core.close(second)
    bench.core.narrow()
    third = bench.watch("third", ["b/"])
    bench.commit({"b/1": b"two"})  # of the session that still covers it
    assert [*bench.core.mirror.records] == []
    bench.snapshot({"b/1": b"two", "b/2": b"two"}, scopes=["b/"], same_history=True)
    assert values(bench.resync(third)) == {"b/1": b"two", "b/2": b"two"}


def test_a_snapshot_of_more_than_the_next_session_will_follow() -> None:
    bench = Bench()
    first, second = bench.watch("first", ["a/"]), bench.watch("second", ["b/"])
    bench.open()
    bench.snapshot({}, scopes=["a/", "b/"])
    bench.accept_all()
    bench.core.close(second)
    bench.watch("third", ["c/"])
    bench.core.widening(bench.layer)
    # of the session that is there
    bench.snapshot({"a/1": b"one", "b/1": b"one"}, scopes=["a/", "b/"])
    assert changes(bench.resync(first)) == {"a/1": (None, b"one")}
    assert [*bench.core.mirror.records] == ["a/1"]


def test_what_a_view_holds_is_kept_until_it_is_released() -> None:
    bench = Bench()
    bench.core.hold("a/")
    bench.open()
    bench.snapshot({"a/1": b"one"}, scopes=["a/"])
    bench.core.narrow()
    assert bench.core.coverage.covers("a/")
    bench.core.release("a/")
    bench.core.narrow()
    assert not bench.core.coverage.covers("a/")
    assert [*bench.core.mirror.records] == []


# -- layers


def test_what_two_views_hold_is_kept_until_the_last_of_them_releases_it() -> None:
    bench = Bench()
    bench.core.hold("b/")
    bench.core.hold("b/")
    bench.core.release("b/")
    bench.core.narrow()
    assert bench.open()[0] == ["b/"]
    bench.core.release("b/")
    bench.core.narrow()
    assert bench.open()[0] == []


def test_the_last_layer_wins_and_gives_back_what_it_covered() -> None:
    bench = Bench("low", "high")
    sub = bench.watch()
    low, high = bench.core.layers
    for layer, items in ((low, {"a/1": b"low"}), (high, {"a/1": b"high"})):
        bench.open(layer)
        bench.snapshot(items, layer=layer)
    assert values(bench.resync(sub)) == {"a/1": b"high"}
    bench.report(sub)
    bench.commit({"a/1": None}, layer=high)
    assert changes(bench.change(sub)) == {"a/1": (b"high", b"low")}


def test_a_write_below_what_covers_it_changes_nothing() -> None:
    bench, heard = Bench("low", "high"), Verdicts()
    sub = bench.watch()
    low, high = bench.core.layers
    for layer, items in ((low, {}), (high, {"a/1": b"high"})):
        bench.open(layer)
        bench.snapshot(items, layer=layer)
    bench.accept_all()
    bench.commit({"a/1": b"low"}, layer=low, reply=heard)
    assert (bench.event(sub), heard.words) == (None, ["accepted"])


def test_an_optional_layer_joins_later() -> None:
    bench = Bench("store", "extra", optional=["extra"])
    sub = bench.watch()
    store, extra = bench.core.layers
    bench.open(store)
    bench.snapshot({"a/1": b"one"}, layer=store)
    assert bench.resync(sub).reason == "start"
    bench.report(sub)
    bench.open(extra)
    bench.snapshot({"a/2": b"two"}, layer=extra)
    event = bench.resync(sub)
    assert (event.reason, changes(event)) == ("extra joined", {"a/2": (None, b"two")})


def test_without_a_required_layer_nothing_begins() -> None:
    bench = Bench("store", "other")
    sub = bench.watch()
    bench.open()
    bench.snapshot({})
    assert (bench.event(sub), bench.core.started, sub.state) == (None, False, WatchState.WAITING)


def test_progress_moves_position_and_revision_alone() -> None:
    bench = Bench()
    sub = bench.watch()
    bench.start()
    bench.progress()
    assert (bench.layer.revision, bench.layer.position) == (bench.revision, bench.revision)
    assert bench.event(sub) is None


def test_a_registration_asks_each_layer_to_bring_what_is_new() -> None:
    bench = Bench()
    bench.watch()
    bench.open()
    bench.snapshot({}, scopes=["a/"])
    bench.core.requests.clear()
    bench.watch("known", ["a/b/"])
    bench.watch("new", ["b/"])
    assert [request.wider for request in bench.core.requests] == [False, True]
