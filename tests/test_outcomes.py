"""Outcomes by key: what a handler says of single keys, what it says later, and who hears it."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from datasync import (
    Accepted,
    BadKey,
    DataSync,
    Failed,
    NotApplied,
    Outcomes,
    Pending,
    Refused,
    UsageError,
    Verdict,
    WatchState,
    blocking,
)
from datasync.outcome import KeyOutcome
from datasync.testing.contract import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]

PENDING = KeyOutcome(Verdict.PENDING, "no eth0")
FAILED = KeyOutcome(Verdict.FAILED, "busy")
REFUSED = KeyOutcome(Verdict.REFUSED, "too large")


class Agent:
    """A watch that answers with what it is told to; for the rest it accepts."""

    def __init__(self, sync: DataSync, **options: Any) -> None:
        self.sync = sync
        self.answers: list[BaseException | None] = []
        self.given: list[list[tuple[str, bytes | None, bytes | None]]] = []

        @sync.watcher("a/", name="w", **options)
        async def handle(event: Any) -> None:
            self.given.append(
                [(one.key, one.prev and one.prev.raw, one.raw) for one in event.changes]
            )
            if self.answers and (answer := self.answers.pop(0)) is not None:
                raise answer

    @property
    def open(self) -> dict[str, tuple[str, str]]:
        """What the status shows of open keys."""
        watch = self.sync.status().watches[0]
        return {key: (said.verdict, said.reason) for key, said in watch.open.items()}

    def report(self, key: str, said: Any) -> None:
        self.sync.watches["w"].report({key: said})


async def not_applied(write: Awaitable[Any]) -> NotApplied:
    with pytest.raises(NotApplied) as caught:
        await write
    return caught.value


def test_each_key_has_its_own_outcome_and_the_worst_is_the_verdict(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            agent = Agent(sync)
            await sync.ready(60)
            agent.answers = [
                Outcomes(
                    {
                        "a/1": Pending("no eth0"),
                        "a/2": Failed("busy"),
                        "a/3": Refused("too large"),
                        "a/4": Accepted(),
                    }
                )
            ]
            txn = sync.txn()
            for number in range(1, 6):
                txn.put(f"a/{number}", b"1")
            error = await not_applied(txn.commit(confirm=60))
            assert error.verdict is Verdict.FAILED
            assert error.outcomes == {"a/1": PENDING, "a/2": FAILED, "a/3": REFUSED}
            assert error.reasons == {"a/3": "too large"}
            assert str(error) == (
                "written, but failed (a/1 (pending): no eth0; a/2: busy; a/3 (refused): too large);"
                " see the status of the watches"
            )
            assert agent.open == {"a/1": ("pending", "no eth0"), "a/2": ("failed", "busy")}
            (watch,) = sync.status().watches
            assert watch.state == WatchState.FOLLOWING.value
            assert watch.failing is not None
            assert watch.failing.keys == {"a/3": "too large"}
            # the others were taken over; nothing is brought again
            await sync.put("a/1", b"2", confirm=60)
            assert agent.given[2:] == [[("a/1", b"1", b"2")]]
            assert agent.open == {"a/2": ("failed", "busy")}

    run(main())


@pytest.mark.parametrize("source", ["memory://", "sqlite"])
@pytest.mark.parametrize(
    ("said", "expected"), [(Pending("no eth0"), PENDING), (Failed("busy"), FAILED)]
)
def test_what_changes_nothing_of_an_open_key_is_answered_with_its_latest_outcome(
    run: Run, tmp_path: Any, source: str, said: Any, expected: KeyOutcome
) -> None:
    async def main() -> None:
        url = source if source == "memory://" else f"sqlite:///{tmp_path}/s.db"
        async with DataSync(url) as sync:
            agent = Agent(sync)
            await sync.ready(60)
            await sync.put("a/2", b"old", confirm=60)
            agent.answers = [Outcomes({"a/1": said, "a/2": said})]
            await not_applied(sync.txn().put("a/1", b"1").delete("a/2").commit(confirm=60))
            given = len(agent.given)
            writes: list[Callable[[], Awaitable[Any]]] = [
                lambda: sync.put("a/1", b"1", confirm=60),
                lambda: sync.delete("a/2", confirm=60),
                lambda: sync.txn().put("a/1", b"1").put("a/3", b"1").commit(confirm=60),
            ]
            for write in writes:
                error = await not_applied(write())
                assert (error.verdict, set(error.outcomes.values())) == (
                    expected.verdict,
                    {expected},
                )
            assert len(agent.given) == given + 1  # of a/3 alone

            agent.report("a/1", Failed("now it is busy"))
            error = await not_applied(sync.put("a/1", b"1", confirm=60))
            assert error.outcomes == {"a/1": KeyOutcome(Verdict.FAILED, "now it is busy")}
            agent.report("a/1", Accepted())
            agent.report("a/2", Accepted())
            await sync.put("a/1", b"1", confirm=60)
            assert agent.open == {}

    run(main())


def test_one_word_may_stand_for_all_keys_of_the_event(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            agent = Agent(sync)
            await sync.ready(60)
            agent.answers = [Pending("no eth0")]
            error = await not_applied(
                sync.txn().put("a/1", b"1").put("a/2", b"1").commit(confirm=60)
            )
            assert (error.verdict, error.reasons) == (Verdict.PENDING, {})
            assert error.outcomes == {"a/1": PENDING, "a/2": PENDING}
            agent.answers = [Failed()]
            error = await not_applied(sync.put("a/1", b"2", confirm=60))
            assert error.outcomes == {"a/1": KeyOutcome(Verdict.FAILED)}
            assert sync.status().watches[0].failing is None

    run(main())


def test_a_round_goes_on_past_open_keys_and_the_next_resync_settles_them(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        agent = Agent(sync)
        seen: list[str] = []

        @sync.watcher("a/", after=["w"])
        async def dependent(event: Any) -> None:
            seen.append(type(event).__name__)

        async with sync:
            await sync.put("a/1", b"1")
            await sync.ready(60)
            agent.answers = [Outcomes({"a/1": Pending("no eth0")})] * 2
            sync.resync()
            await sync.ready(60)
            assert agent.open == {"a/1": ("pending", "no eth0")}
            resyncs = seen.count("ResyncEvent")
            await not_applied(sync.put("a/1", b"2", confirm=60))
            assert (seen.count("ResyncEvent"), seen[-1]) == (resyncs, "ChangeEvent")

            sync.resync("w")
            await eventually(lambda: agent.open == {}, what="the RESYNC was accepted, all of it")

    run(main())


def test_a_late_refusal_is_as_if_the_event_had_refused_the_key(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            agent = Agent(sync)
            await sync.ready(60)
            agent.answers = [Outcomes({"a/1": Pending("no eth0")})]
            await not_applied(sync.put("a/1", b"1", confirm=60))
            agent.report("a/1", Refused("too large"))
            (watch,) = sync.status().watches
            assert watch.failing is not None
            assert (watch.failing.why, watch.failing.keys) == ("refused", {"a/1": "too large"})
            assert agent.open == {}
            await sync.put("a/1", b"1", confirm=60)  # the same bytes, and brought again
            assert agent.given[-1] == [("a/1", b"1", b"1")]
            assert sync.status().watches[0].failing is None

    run(main())


def test_what_is_not_open_is_left_as_it_is_and_what_is_not_watched_is_an_error(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        agent = Agent(sync)
        watch = sync.watches["w"]
        watch.report({})  # before the start nothing is open
        async with sync:
            await sync.ready(60)
            await sync.put("a/1", b"1", confirm=60)
            for said in (Accepted(), Pending("x"), Failed("x"), Refused("x")):
                watch.report({"a/1": said, "a/none": said})
            assert (agent.open, sync.status().watches[0].failing) == ({}, None)
            await sync.put("a/1", b"1", confirm=60)

            with pytest.raises(
                BadKey, match=r"'w' does not watch the key 'b/1'; name keys as `cha"
            ):
                watch.report({"b/1": Accepted()})
            with pytest.raises(
                UsageError, match=r"outcome of 'a/1' must be Accepted\(\), Refused\(w"
            ):
                watch.report({"a/1": Accepted})  # type: ignore[dict-item]
            with pytest.raises(UsageError, match="outcomes are given by key; write for example"):
                watch.report(["a/1"])  # type: ignore[arg-type]
        watch.report({"a/1": Accepted()})  # of a closed one nothing is open

    run(main())


def test_a_key_that_the_event_does_not_have_is_a_mistake_of_the_handler(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://", retries=1) as sync:
            agent = Agent(sync)
            await sync.ready(60)
            agent.answers = [Outcomes({"a/2": Pending("x"), "a/3": Pending("x")})]
            error = await not_applied(sync.put("a/1", b"1", confirm=60))
            assert (error.verdict, error.outcomes) == (Verdict.FAILED, {})
            failing = sync.status().watches[0].failing
            assert failing is not None
            assert failing.why == (
                "UsageError: Outcomes names the key 'a/2' and 1 more, which the event does not have; "
                "name keys as `change.key` shows them"
            )
            assert agent.open == {}

    run(main())


def test_of_a_fold_each_publisher_hears_of_its_own_keys_alone(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://", backlog=1)
        go = asyncio.Event()
        answers: list[BaseException | None] = [
            None,
            None,
            Outcomes(
                {"a/1": Pending("no eth0"), "a/2": Failed("busy"), "a/4": Refused("too large")}
            ),
        ]

        @sync.watcher("a/")
        async def handle(event: Any) -> None:
            if event.changes:
                await go.wait()
            if (answer := answers.pop(0)) is not None:
                raise answer

        async with sync:
            await sync.ready(60)
            first = asyncio.ensure_future(sync.put("a/0", b"1", confirm=60))
            writes = []
            for number in range(1, 5):
                await asyncio.sleep(0)
                writes.append(asyncio.ensure_future(sync.put(f"a/{number}", b"1", confirm=60)))
            await eventually(lambda: sync.status().watches[0].backlog == 4, what="all wait, folded")
            go.set()
            await first
            said = await asyncio.gather(*writes, return_exceptions=True)
            assert [getattr(one, "outcomes", None) for one in said] == [
                {"a/1": PENDING},
                {"a/2": FAILED},
                None,
                {"a/4": REFUSED},
            ]

    run(main())


def test_a_handler_may_report_on_other_keys_before_it_returns(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:

            @sync.watcher("a/", name="w")
            async def handle(event: Any) -> None:
                keys = {change.key for change in event.changes}
                if "a/eth0" in keys:
                    sync.watches["w"].report({"a/route": Accepted()})
                elif keys:
                    raise Outcomes({"a/route": Pending("no eth0")})

            await sync.ready(60)
            await not_applied(sync.put("a/route", b"1", confirm=60))
            await sync.put("a/eth0", b"1", confirm=60)
            await sync.put("a/route", b"1", confirm=60)

    run(main())


def test_a_plain_handler_reports_from_its_thread(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        threads: list[threading.Thread] = []

        def later() -> None:
            sync.watches["w"].report({"a/1": Accepted()})

        @sync.watcher("a/", name="w")
        def handle(event: Any) -> None:
            if event.changes:
                raise Outcomes({"a/1": Pending("no eth0")})

        async with sync:
            await sync.ready(60)
            await not_applied(sync.put("a/1", b"1", confirm=60))
            threads.append(threading.Thread(target=later))
            threads[0].start()
            await eventually(lambda: not sync.status().watches[0].open, what="the report is heard")
            threads[0].join()

    run(main())


def test_the_blocking_face_has_it_too() -> None:
    with blocking.DataSync("memory://") as sync:

        @sync.watcher("a/", name="w")
        def handle(event: Any) -> None:
            if event.changes:
                raise blocking.Outcomes({"a/1": blocking.Pending("no eth0")})

        sync.ready(60)
        with pytest.raises(NotApplied, match=r"pending \(a/1: no eth0\)"):
            sync.put("a/1", b"1", confirm=60)
        sync.watches["w"].report({"a/1": blocking.Accepted()})
        assert sync.put("a/1", b"1", confirm=60) == 2


@pytest.mark.parametrize(
    ("outcomes", "text"),
    [
        ({"a": None}, r"the outcome of 'a' must be Accepted\(\), .* got None"),
        ({"a": Refused({"b": "no"})}, "the outcome of 'a' must be"),
        ("a", "outcomes are given by key"),
    ],
)
def test_other_outcomes_are_a_mistake(outcomes: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Outcomes(outcomes)


@pytest.mark.parametrize(
    "error",
    [
        Outcomes(
            {"a": Pending("no eth0"), "b": Accepted(), "c": Failed(), "d": Refused({"d": "no"})}
        ),
        Pending("no eth0"),
        Failed(),
        NotApplied(Verdict.PENDING, {"a": PENDING}, 3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_they_survive_a_copy(error: Any) -> None:
    for other in (copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert (type(other), str(other)) == (type(error), str(error))
        if hasattr(error, "by_key"):
            assert other.by_key(["a"]) == error.by_key(["a"])
    assert (
        str(Outcomes({"a": Pending("no eth0"), "b": Failed()})) == "a: pending, no eth0; b: failed"
    )


def test_the_text_of_many_outcomes_names_the_first_ones() -> None:
    many = Outcomes({f"{number}": Failed() for number in range(1500)})
    assert str(many) == "0: failed; 1: failed; 2: failed; 3: failed; 4: failed; and 1,495 more"
