"""G8: nothing unexpected is ever silent: it is shown, logged with its traceback,
and tried again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest

from datasync import Backoff, ChangeEvent, DataSync, NotApplied, Refused, ResyncEvent, Retry
from datasync.source import Commit, Frame, Session, SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.testing import FaultySource, run_simulated
from datasync.testing.contract import eventually
from datasync.testing.faults.session import FaultySession
from tests.helpers.logs import logged

Run = Callable[[Coroutine[Any, Any, None]], None]
Event = ResyncEvent[bytes] | ChangeEvent[bytes]
QUICK = Backoff(initial=0.01, maximum=0.02)


class Own(BaseException):
    """Not an Exception, and no business of asyncio."""


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


ERRORS: list[BaseException] = [
    ValueError("out of the blue"),
    Own("own"),
    GeneratorExit(),
    BaseExceptionGroup("several", [Own("a"), ValueError("b")]),
    asyncio.CancelledError(),
    Mute(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["open", "iterate", "ping"])
@pytest.mark.parametrize("push", [False, True])
def test_whatever_a_session_raises_is_shown_and_tried_again(
    place: str,
    error: BaseException,
    push: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"}, push=push)
        sync = DataSync(source, reconnect=QUICK, ping_interval=0.1)
        seen: list[str] = []

        @sync.watcher("a/")
        async def handler(event: Event) -> None:
            seen.extend(str(change.raw) for change in event.changes)

        async with sync:
            await sync.ready(60)

            async def fails(*_: Any, **__: Any) -> Any:
                # one that grew with each time would be long to log
                raise error.with_traceback(None)

            with monkeypatch.context() as patch:
                if place == "open":
                    patch.setattr(source, "open", fails)
                    source.disconnect()
                elif place == "ping":
                    patch.setattr(FaultySession, "ping", fails)
                else:
                    source.disconnect(error)
                    patch.setattr(source, "open", fails)
                await asyncio.sleep(1)
                (state,) = sync.status().sources
                assert state.state in ("lost", "loading", "following")
                assert place == "ping" or state.state == "lost"
                assert place == "ping" or state.error
            source.write({"a/1": b"2"})
            await asyncio.sleep(1)
            assert seen[-1] == str(b"2")
            (state,) = sync.status().sources
            assert (state.state, state.error) == ("following", None)
            await sync.put("a/1", b"3", confirm=60)

    with caplog.at_level(logging.INFO, "datasync"):
        run_simulated(main())
    # then there is nothing to show
    cancelled = place == "ping" and isinstance(error, asyncio.CancelledError)
    assert cancelled or any(record.exc_info for record in logged(caplog))


class Odd(Session):
    """Brings what no session may bring, then follows the rules."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        yield self._frames
        await asyncio.Event().wait()


def snapshot(key: Any) -> list[Frame]:
    return [SnapshotBegin(["a/"]), SnapshotChunk([(key, b"1", 1)]), SnapshotEnd(None, 1)]


@pytest.mark.parametrize(
    "frames",
    [
        snapshot(b"a/1"),
        snapshot(None),
        [SnapshotChunk([("a/1", b"1")])],  # type: ignore[list-item]
        [*snapshot("a/1"), Commit(None, 2, [(b"a/2", b"2"), ("a/1", b"2")])],  # type: ignore[list-item]
        [*snapshot("a/1"), Commit(None, 2, 5)],  # type: ignore[arg-type]
        ["nonsense"],
    ],
)
def test_odd_frames_are_said_and_do_no_harm(
    frames: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"})
        opened = source.open
        sync = DataSync(source, reconnect=QUICK)
        accepted: dict[str, bytes | None] = {}

        @sync.watcher("a/")
        async def handler(event: Event) -> None:
            accepted.update({change.key: change.raw for change in event.changes})

        async def odd(*_: Any) -> Session:
            return Odd(frames)

        monkeypatch.setattr(source, "open", odd)
        async with sync:
            await asyncio.sleep(1)
            (state,) = sync.status().sources
            assert state.state in ("lost", "loading")
            assert state.error
            with pytest.raises(NotApplied, match="overdue"):
                await sync.put("a/2", b"x", confirm=1)
            monkeypatch.setattr(source, "open", opened)
            source.write({"a/1": b"2"})
            await asyncio.sleep(1)
            assert accepted == {"a/1": b"2", "a/2": b"x"}
            assert sync.status().sources[0].error is None

    with caplog.at_level(logging.INFO, "datasync"):
        run_simulated(main())
    assert any(record.exc_info for record in logged(caplog))


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_handler_raises_is_a_failure_that_is_tried_again(
    error: BaseException, threaded: bool, waits: bool, run: Run
) -> None:
    async def main() -> None:
        sync = DataSync("memory://", retry=QUICK)
        attempts: list[int] = []

        def treat(event: Event) -> None:
            if event.changes:
                attempts.append(event.attempt)
                if len(attempts) == 1:
                    raise error

        if threaded:
            sync.watcher("a/", name="it")(treat)
        else:

            @sync.watcher("a/", name="it")
            async def handler(event: Event) -> None:
                if waits:
                    await asyncio.sleep(0)
                treat(event)

        async with sync:
            await sync.ready(60)
            with pytest.raises(NotApplied, match="failed"):
                await sync.put("a/1", b"1", confirm=60)
            await eventually(lambda: attempts == [1, 2])
            await sync.put("a/1", b"2", confirm=60)

    run(main())


class Bare(Refused):
    def __init__(self) -> None:
        """Without what makes it a Refused."""


class Odder(Retry):
    after = "soon"  # type: ignore[assignment]

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("error", [Bare, Odder])
def test_an_error_that_is_not_what_it_says_is_a_failure(error: type[Exception], run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://", retry=QUICK)

        @sync.watcher("a/")
        async def handler(event: Event) -> None:
            if event.changes and event.changes[0].raw == b"1" and event.attempt == 1:
                raise error

        async with sync:
            await sync.ready(60)
            with pytest.raises(NotApplied, match="failed"):
                await sync.put("a/1", b"1", confirm=60)
            await sync.put("a/1", b"2", confirm=60)

    run(main())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_a_session_raises_as_it_is_closed_is_logged_and_handed_to_nobody(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    unhandled: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: unhandled.append(context["message"])
        )
        source = FaultySource({"a/1": b"1"})
        async with DataSync(source) as sync:
            view = sync.view("a/")
            await sync.ready(60)
            source.fail("aclose", error)
            source.disconnect()
            await eventually(lambda: sync.status().sources[0].reconnects == 1)
            assert dict(view) == {"a/1": b"1"}
        gc.collect()

    run_simulated(main())
    assert not unhandled
    assert [record.message for record in logged(caplog) if record.exc_info] == [
        "unexpected error in closing a session"
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("waits", [False, True])
def test_what_asyncio_hands_on_ends_the_loop(error: type[BaseException], waits: bool) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:

            @sync.watcher("a/")
            async def handler(event: Event) -> None:
                if waits:
                    await asyncio.sleep(0)
                raise error

            await asyncio.Event().wait()

    with pytest.raises(error):
        asyncio.run(main())
