"""What may be a handler, and what it may do."""

from __future__ import annotations

import asyncio
import functools
import pickle
import sys
import time
import unittest.mock
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import msgspec
import pytest

import datasync.blocking
from datasync import Backoff, ChangeEvent, DataSync, ResyncEvent, Retry, UsageError
from datasync.testing import FaultySource, run_simulated
from datasync.testing.contract import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]
Event = ResyncEvent[bytes] | ChangeEvent[bytes]

QUICK = Backoff(initial=0.001, maximum=0.001)


class Object:
    def __init__(self) -> None:
        self.seen = 0

    async def __call__(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.seen += 1


def test_an_object_with_an_async_call_is_one_also_when_wrapped(memory_url: str) -> None:
    async def main() -> None:
        plain, inner = Object(), Object()

        @functools.wraps(inner)
        async def wrapped(event: Any) -> None:
            await inner(event)

        sync = datasync.DataSync(memory_url)
        sync.watcher("a/", name="plain")(plain)
        sync.watcher("a/", name="wrapped")(wrapped)
        async with sync:
            await sync.ready(60)
        assert (plain.seen, inner.seen) == (1, 1)

    asyncio.run(main())


def test_a_plain_wrapper_that_raises_is_a_failure_of_its_watch_alone(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://", retry=QUICK)
        seen: list[Event] = []
        beside: list[Event] = []
        wrong: list[Exception | None] = [None, ValueError("not this one")]

        async def inner(event: Event) -> None:
            seen.append(event)

        @functools.wraps(inner)
        def wrapper(event: Event) -> Awaitable[None]:
            error = wrong.pop(0) if wrong else None
            if error is not None:
                raise error
            return inner(event)

        async def other(event: Event) -> None:
            beside.append(event)

        sync.watcher("a/")(wrapper)
        sync.watcher("a/")(other)
        async with sync:
            await sync.ready(60)
            with pytest.raises(datasync.NotApplied, match="failed"):
                await sync.put("a/1", b"1", confirm=60)
            await eventually(lambda: len(seen) == 2)
            assert [event.attempt for event in seen] == [1, 2]
            assert len(beside) == 2
            assert sync.status().sources[0].reconnects == 0

    run(main())


def test_what_a_plain_function_returns_is_not_left_unawaited_in_silence(run: Run) -> None:
    async def main() -> None:
        async def inner(event: Event) -> None:
            pytest.fail("nobody awaits this")

        sync = DataSync("memory://", retry=QUICK)
        sync.watcher("a/", name="part")(lambda event: inner(event))
        async with sync:
            await eventually(lambda: sync.status().watches[0].failing)
            failing = sync.status().watches[0].failing
            assert failing is not None
            assert "async def" in failing.why

    run(main())


def test_a_plain_function_that_exits_has_failed(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://", retry=QUICK)
        attempts: list[int] = []

        @sync.watcher("a/")
        def part(event: Event) -> None:
            attempts.append(event.attempt)
            if len(attempts) == 1:
                sys.exit("for ever")

        async with sync:
            await sync.ready(60)
            assert attempts == [1, 2]

    run(main())


def test_a_handler_that_is_done_is_not_overdue_because_the_loop_was_busy(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://", ack_timeout=0.05)

        @sync.watcher("a/")
        async def part(event: Event) -> None:
            # goes on in the turn behind the busy one, and is heard in the turn behind that
            await asyncio.sleep(0)

        async with sync:
            await sync.ready(60)
            put = asyncio.create_task(sync.put("a/1", b"1", confirm=60))
            asyncio.get_running_loop().call_soon(time.sleep, 0.2)
            await put
            assert sync.status().watches[0].state == "following"

    run(main())


def test_a_watch_closed_by_the_handler_before_it_shows_nothing(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        seen: list[Event] = []

        @sync.watcher("a/")
        async def first(event: Event) -> None:
            if isinstance(event, ChangeEvent) and "second" in sync.watches:
                sync.watches["second"].close()

        @sync.watcher("a/")
        async def second(event: Event) -> None:
            seen.append(event)

        async with sync:
            await sync.ready(60)
            await sync.put("a/1", b"1", confirm=60)
            await sync.put("a/1", b"2", confirm=60)
            assert [type(event) for event in seen] == [ResyncEvent]

    run(main())


def test_a_retry_takes_seconds_and_travels_between_processes() -> None:
    retry = pickle.loads(pickle.dumps(Retry("busy", after=1.5)))
    assert (str(retry), retry.after) == ("busy", 1.5)
    assert str(Retry(after=2)) == "retry after 2 s"
    wrong: list[Any] = [float("nan"), float("inf"), -1, "soon", None]
    for after in wrong:
        with pytest.raises(datasync.UsageError, match="a number of seconds >= 0"):
            Retry("busy", after=after)


class Odd(msgspec.Struct):
    size: int

    def __post_init__(self) -> None:
        {1: "one"}[self.size]  # a mistake in the type


def test_a_type_that_raises_whatever_it_likes_costs_its_key_alone(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://", retry=QUICK)
        seen: list[tuple[list[int], list[str]]] = []

        @sync.watcher("a/", type=Odd)
        async def part(event: ResyncEvent[Odd] | ChangeEvent[Odd]) -> None:
            if isinstance(event, ChangeEvent):
                values = [change.value.size for change in event.changes if change.value is not None]
                seen.append((values, sorted(event.undecodable)))

        async with sync:
            await sync.ready(60)
            txn = sync.txn().put("a/1", b'{"size": 1}').put("a/2", b'{"size": 2}').put("a/3", b"[]")
            with pytest.raises(datasync.NotApplied, match="raises KeyError"):
                await txn.commit(confirm=60)
            assert seen == [([1], ["a/2", "a/3"])]

    run(main())


class Box(msgspec.Struct):
    items: list[int]


def test_a_resync_can_be_refused_as_a_whole(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        reason: list[str] = []

        @sync.watcher("a/")
        async def part(event: Event) -> None:
            if reason:
                raise datasync.Refused(reason.pop())

        def refused() -> dict[str, str]:
            failing = sync.status().watches[0].failing
            return {} if failing is None else dict(failing.keys)

        async with sync:
            await sync.ready(60)
            await sync.put("a/1", b"1", confirm=60)
            await sync.put("a/2", b"2", confirm=60)
            reason.append("the device restarts")
            sync.resync()
            await eventually(
                lambda: refused() == dict.fromkeys(["a/1", "a/2"], "the device restarts")
            )

    run(main())


def test_one_reason_travels_between_processes() -> None:
    whole = pickle.loads(pickle.dumps(datasync.Refused("not now")))
    assert (str(whole), whole.of(["a", "b"])) == ("not now", {"a": "not now", "b": "not now"})
    some = pickle.loads(pickle.dumps(datasync.Refused({"a": "not this"})))
    assert (str(some), some.of(["a", "b"])) == ("a: not this", {"a": "not this"})


@pytest.mark.parametrize("reasons", [ValueError("no eth0"), 3, ["config/a"], None, b"no eth0"])
def test_a_reason_is_a_text(reasons: Any) -> None:
    wanted = rf"takes a text, or texts by key, not {type(reasons).__name__}; write for"
    with pytest.raises(UsageError, match=wanted):
        datasync.Refused(reasons)


def test_a_watch_may_try_more_often_than_the_others(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://", retry=Backoff(initial=60.0, maximum=60.0), retries=2)
        tries: list[Event] = []

        @sync.watcher("a/", retries=4, retry=QUICK)
        async def part(event: Event) -> None:
            tries.append(event)
            if isinstance(event, ChangeEvent):
                raise ValueError("not yet")

        async with sync:
            await sync.ready(60)
            await sync.put("a/1", b"1")
            await eventually(lambda: len(tries) == 6)
        kinds = [type(event) for event in tries]
        assert kinds == [ResyncEvent, *4 * [ChangeEvent], ResyncEvent]

    run(main())


def test_a_decorator_without_parentheses_says_what_is_missing() -> None:
    sync = DataSync("memory://")

    async def part(event: Event) -> None: ...

    with pytest.raises(datasync.UsageError, match=r"write @sync\.watcher\('config/'\)"):
        sync.watcher(part)  # type: ignore[call-overload]
    assert not sync.watches


def _no_argument() -> None: ...
def _two(event: Any, other: Any) -> None: ...
def _keyword(event: Any, *, other: Any) -> None: ...
def _generator(event: Any) -> Iterator[None]:
    yield


async def _async_generator(event: Any) -> AsyncIterator[None]:
    yield


class _Plain: ...


class _Generating:
    def __call__(self, event: Any) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    ("handler", "wrong"),
    [
        (3, "a handler is a function that takes an event, not int"),
        (_no_argument, "'_no_argument' must take one argument, the event: too many positional"),
        (_two, "must take one argument, the event: missing a required argument: 'other'"),
        (_keyword, "must take one argument, the event: missing a required"),
        (functools.partial(_two, 1, 2), "must take one argument, the event: too many positional"),
        (_Plain, "the handler '_Plain' must take one argument, the event: too many positional"),
        (_generator, "the handler '_generator' is a generator, .* leave out the yield"),
        (functools.partial(_generator), "is a generator"),
        (_async_generator, "is a generator"),
        (_Generating(), "is a generator"),
    ],
)  # fmt: skip
def test_what_could_never_handle_an_event_is_no_handler(handler: Any, wrong: str) -> None:
    sync = DataSync("memory://")
    with pytest.raises(UsageError, match=wrong):
        sync.watcher("a/")(handler)
    assert not sync.watches

    blocking = datasync.blocking.DataSync("memory://")
    with pytest.raises(UsageError, match=wrong):
        blocking.watcher("a/")(handler)


def _wrapped(event: Any) -> None:
    _two(event, 1)


@pytest.mark.parametrize(
    "handler",
    [
        functools.partial(_two, 1),
        functools.partial(_two, other=1),
        functools.wraps(_two)(_wrapped),
        functools.wraps(_generator)(lambda event: list(_generator(event))),
        lambda *events: None,
        unittest.mock.Mock(),
        unittest.mock.AsyncMock(),
        [].append,
        print,
        {}.update,  # of which Python knows no signature
        Object(),
    ],
)
def test_whatever_takes_an_event_may_be_a_handler(handler: Any) -> None:
    sync = DataSync("memory://")
    sync.watcher("a/", name="a")(handler)
    assert list(sync.watches) == ["a"]


def test_an_event_that_comes_again_for_a_bad_value_is_as_it_was_stored() -> None:
    """A good value beside one that does not decode, in one transaction,
    and a handler that edits it first.
    """

    async def main() -> None:
        source = FaultySource({"a/1": b'{"items":[1]}'})
        sync = DataSync(source)
        seen: list[tuple[str, list[int]]] = []

        @sync.watcher("a/", type=Box)
        async def handler(event: Any) -> None:
            for change in event.changes:
                if change.prev is not None:
                    assert change.prev.value.items.pop() == 1
                seen.append((change.key, list(change.value.items)))
                change.value.items.pop()

        async with sync:
            await sync.ready(60)
            seen.clear()
            source.write({"a/1": b'{"items":[1,2]}', "a/2": b"nonsense"})
            await asyncio.sleep(1)
            assert seen == [("a/1", [1, 2]), ("a/1", [1, 2])]
            (state,) = sync.status().watches
            assert state.state == "following"
            assert state.failing is not None
            assert set(state.failing.keys) == {"a/2"}

    run_simulated(main())
