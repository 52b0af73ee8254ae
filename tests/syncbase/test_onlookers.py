"""Those who look on: what they are told, and that they have no say in anything."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from typing import Any

import pytest

from datasync import DataSync, Refused
from datasync.events import Event, ResyncEvent
from datasync.outcome import KeyOutcome, Verdict, reasons_of
from datasync.status import LATENCIES
from datasync.syncbase.mirror import Diff
from datasync.syncbase.subscriber import Stats
from tests.helpers.core import Bench

Run = Callable[[Coroutine[Any, Any, None]], None]


class Notes:
    """Looks on, and traces: writes down all that it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def committed(self, diffs: Sequence[Diff], revision: int) -> None:
        self.heard.append(
            (revision, [(key, None if new is None else new.raw) for key, _, new in diffs])
        )

    def replaced(self) -> None:
        self.heard.append("replaced")

    def given(self, watch: str, event: Event[Any], within: Context) -> Context:
        kind = "RESYNC" if isinstance(event, ResyncEvent) else "CHANGE"
        self.heard.append(f"{watch} is given a {kind}")
        return within

    def settled(
        self,
        watch: str,
        verdict: Verdict,
        outcomes: Mapping[str, KeyOutcome],
        error: BaseException | None,
    ) -> None:
        self.heard.append((watch, verdict.value, reasons_of(outcomes), error))

    def overdue(self, watch: str) -> None:
        self.heard.append(f"{watch} is overdue")

    def closed(self, watch: str) -> None:
        self.heard.append(f"{watch} is closed")


def test_commits_and_snapshots_are_told_and_what_was_written_alike() -> None:
    bench, notes = Bench(), Notes()
    bench.watch()
    bench.core.onlookers.append(notes)
    bench.start({"a/1": b"one"})
    assert notes.heard == ["replaced"]
    bench.commit({"a/1": b"one", "a/2": b"two", "a/3": None})
    assert notes.heard[1:] == [(2, [("a/2", b"two"), ("a/1", b"one"), ("a/3", None)])]


def test_what_is_forgotten_is_told() -> None:
    bench, notes = Bench(), Notes()
    sub = bench.watch()
    bench.start({"a/1": b"one"})
    bench.core.onlookers.append(notes)
    bench.core.close(sub)
    bench.core.narrow()
    assert notes.heard == ["replaced"]


def test_each_outcome_is_told() -> None:
    bench, notes = Bench(), Notes()
    bench.delivery.tracing = notes
    sub = bench.watch()
    bench.start()
    assert notes.heard.pop() == ("watch", "accepted", {}, None)
    bench.commit({"a/1": b"one"})
    bench.report(sub, Refused({"a/1": "no"}))
    assert notes.heard.pop() == ("watch", "refused", {"a/1": "no"}, None)
    error = RuntimeError("broken")
    bench.commit({"a/2": b"two"})
    bench.report(sub, error)
    assert notes.heard.pop() == ("watch", "failed", {}, error)
    bench.passes(1)
    assert bench.event(sub) is not None
    bench.passes(60)
    assert notes.heard.pop() == "watch is overdue"
    bench.core.close(sub)
    assert notes.heard == ["watch is closed"]


def test_the_fast_way_tells_too() -> None:
    bench, notes = Bench(), Notes()
    sub = bench.watch()
    bench.start()
    assert sub.fast
    bench.delivery.tracing = notes
    bench.commit({"a/1": b"one"})
    bench.report(sub)
    assert notes.heard == [("watch", "accepted", {}, None)]


@pytest.mark.parametrize(
    ("took", "step"), [(0.0, 0), (0.001, 0), (0.0011, 1), (2.0, 7), (30.0, 10), (31.0, 11)]
)
def test_what_took_so_long_is_counted_in_its_step(took: float, step: int) -> None:
    stats = Stats()
    stats.settle(took, 3)
    assert stats.latencies == [int(at == step) for at in range(len(LATENCIES) + 1)]
    assert (stats.failures, stats.accepted_at, stats.changes) == (0, took, 3)
    stats.settle(took, None)
    assert (stats.events, stats.failures, stats.changes) == (2, 1, 3)
    assert stats.seconds == pytest.approx(2 * took)


def test_an_engine_tells_until_it_is_looked_away_from(run: Run) -> None:
    async def main() -> None:
        notes, tracing = Notes(), Notes()
        sync = DataSync("memory://")
        engine = sync._engine
        assert not engine.is_ready
        assert [source.state for source in sync.status().sources] == ["not started"]
        engine.look_on(notes)
        engine.trace(tracing)
        await engine.fresh()  # of nothing, before the start
        async with sync:

            async def it(event: Any) -> None: ...

            sync.watcher("", name="it")(it)
            await sync.ready(60)
            assert engine.is_ready
            assert engine.started
            await sync.put("a", b"1")
            await engine.fresh()
            assert notes.heard[-1] == (1, [("a", b"1")])
            given = [one for one in tracing.heard if isinstance(one, str) and "given" in one]
            assert given == ["it is given a RESYNC", "it is given a CHANGE"]
            engine.look_away(notes)
            await sync.put("a", b"2")
            assert notes.heard[-1] == (1, [("a", b"1")])

    run(main())


def test_one_that_was_never_started_is_closed(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        sync.watch("it", "")
        await sync.aclose()
        now = sync.status()
        assert [source.state for source in now.sources] == ["closed"]

    run(main())
