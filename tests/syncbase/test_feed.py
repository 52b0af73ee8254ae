"""What a feed says of a session that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from datasync import Backoff, DataSync, Disconnected, Unauthorized
from datasync.kvdbsync.memory import MemorySource
from datasync.source import Commit, Frame, Put, Session, SnapshotBegin, SnapshotEnd
from datasync.syncbase.core import Core, Layer
from datasync.testing import FaultySource, run_simulated
from datasync.testing.contract import eventually
from tests.helpers.logs import logged


class Mistaken(MemorySource):
    """A transport with a mistake in it."""

    tries = 0

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        self.tries += 1
        if self.tries <= 5:
            raise RuntimeError("a mistake")
        return await super().open(scopes, resume, added)


def test_an_unexpected_error_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        source = Mistaken()
        async with DataSync(source, reconnect=Backoff(initial=0.001, maximum=0.001)) as sync:
            await eventually(lambda: sync.status().sources[0].state == "following")
            assert source.tries == 6
            assert sync.status().sources[0].error is None

    with caplog.at_level(logging.INFO, "datasync.feed"):
        asyncio.run(main())
    said = [(record.levelname, record.exc_info is not None) for record in logged(caplog)]
    assert said == [("WARNING", False), ("ERROR", True), ("INFO", False)]


def test_a_source_that_lets_nobody_in_fails_the_start() -> None:
    async def main() -> None:
        source = FaultySource()
        source.fail_open(Unauthorized("wrong password"))
        with pytest.raises(Unauthorized, match="wrong password"):
            async with DataSync(source):
                pass

    asyncio.run(main())


def test_g8_an_unexpected_error_in_noting_the_loss_keeps_no_source_from_being_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost = Core.lost
    errors = iter([RuntimeError("of the engine")])

    def broken(self: Core, layer: Layer, error: Exception) -> None:
        lost(self, layer, error)
        for unexpected in errors:
            raise unexpected

    async def main() -> None:
        monkeypatch.setattr(Core, "lost", broken)
        source = FaultySource({"a/1": b"1"})
        async with DataSync(source, reconnect=Backoff(initial=0.001, maximum=0.001)) as sync:
            view = sync.view("a/")
            await sync.ready()
            source.disconnect()
            source.write({"a/1": b"2"})
            await eventually(lambda: view.get("a/1") == b"2")

    with caplog.at_level(logging.ERROR, "datasync"):
        asyncio.run(main())
    said = [str(record.exc_info[1]) for record in logged(caplog) if record.exc_info is not None]
    assert said == ["of the engine"]


class Ending(Session):
    """Brings what another one brings, and then ends as it is told to."""

    def __init__(self, inner: Session, until: asyncio.Event) -> None:
        self._inner = inner
        self._until = until

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        bringing = aiter(self._inner)
        while not self._until.is_set():
            yield await anext(bringing)
        raise asyncio.CancelledError

    async def aclose(self) -> None:
        await self._inner.aclose()


class Once(FaultySource):
    """Its first session ends; the others do not."""

    def __init__(self, state: Mapping[str, bytes]) -> None:
        super().__init__(state)
        self.may_end = asyncio.Event()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        session = await super().open(scopes, resume, added)
        return Ending(session, self.may_end) if self.opened == 1 else session


def test_g8_a_session_that_is_cancelled_from_within_is_followed_by_another() -> None:
    async def main() -> None:
        source = Once({"a/1": b"1"})
        sync = DataSync(source)
        view = sync.view("a/")
        async with sync:
            await sync.ready()
            source.may_end.set()
            source.write({"a/1": b"2"})
            await eventually(lambda: sync.status().sources[0].error == "the session ended")
            await eventually(lambda: sync.status().sources[0].reconnects == 1)
            source.write({"a/1": b"3"})
            await eventually(lambda: view.get("a/1") == b"3")

    run_simulated(main())


def test_g8_an_unexpected_error_in_taking_over_what_is_pushed_does_not_reach_the_writer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit = Core.commit
    errors = iter([RuntimeError("of the engine"), RuntimeError("not heard any more")])

    def broken(self: Core, layer: Layer, frame: Commit) -> None:
        for unexpected in errors:
            raise unexpected
        commit(self, layer, frame)

    async def main() -> None:
        source = MemorySource()
        async with DataSync(source) as sync:
            view = sync.view("a/")
            await sync.ready()
            monkeypatch.setattr(Core, "commit", broken)
            await source.commit([Put("a/1", b"1")])
            await source.commit([Put("a/1", b"2")])
            await eventually(lambda: view.get("a/1") == b"2")
            assert sync.status().sources[0].reconnects == 1

    with caplog.at_level(logging.ERROR, "datasync"):
        asyncio.run(main())
    said = [str(record.exc_info[1]) for record in logged(caplog) if record.exc_info is not None]
    assert said == ["of the engine"]


class Talking(Session):
    """Says something all the time, and answers no ping."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner

    def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        return aiter(self._inner)

    async def ping(self) -> None:
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        await self._inner.aclose()


class AllTalking(FaultySource):
    """Its sessions answer no ping."""

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        return Talking(await super().open(scopes, resume, added))


def test_frames_that_come_while_a_ping_waits_are_its_answer() -> None:
    async def main() -> None:
        source = AllTalking({"a/1": b"1"})
        sync = DataSync(source, ping_interval=1, ping_timeout=1)
        view = sync.view("a/")
        async with sync:
            await sync.ready()
            for value in (b"%d" % number for number in range(40)):
                source.write({"a/1": value})
                await asyncio.sleep(0.25)
            assert (view["a/1"], source.opened) == (b"39", 1)
            await eventually(lambda: source.opened == 2)  # it says nothing any more

    run_simulated(main())


class Exclusive(FaultySource):
    """Its sessions follow one after another only."""

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        session = await super().open(scopes, resume, added)
        session.exclusive = True
        return session


def test_an_exclusive_session_ends_before_the_one_that_covers_more() -> None:
    async def main() -> None:
        source = Exclusive({"a/1": b"1", "b/1": b"1"})
        sync = DataSync(source)
        first = sync.view("a/")
        async with sync:
            await sync.ready()
            since = sync.status().sources[0].since
            second = sync.view("b/")
            await sync.ready()
            assert (dict(first), dict(second)) == ({"a/1": b"1"}, {"b/1": b"1"})
            assert source.opened == 2
            assert sync.status().sources[0].since == since  # it was never lost

    run_simulated(main())


class Loading(MemorySource):
    """Its sessions begin with a snapshot that takes a while."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        return Slow(self.go_on)


class Slow(Session):
    """A snapshot of nothing, whose end comes when it is let go on; and then one more of those."""

    def __init__(self, go_on: asyncio.Event) -> None:
        self._go_on = go_on

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        for _ in range(2):
            yield [SnapshotBegin([""])]
            await self._go_on.wait()
            self._go_on.clear()
            yield [SnapshotEnd(None)]
        raise Disconnected("the session ended")


def test_a_source_is_loading_until_its_snapshot_is_complete_and_again_in_the_next_one() -> None:
    async def main() -> None:
        source = Loading()
        async with DataSync(source, reconnect=Backoff(initial=0.001, maximum=0.001)) as sync:

            def state() -> str:
                return sync.status().sources[0].state

            feed = sync._engine._feeds[0]
            await eventually(lambda: feed.layer.staging is not None)
            assert (state(), feed.is_following) == ("loading", False)
            source.go_on.set()
            await eventually(lambda: feed.layer.ready and feed.layer.staging is not None)
            assert (state(), feed.is_following) == ("loading", False)
            source.go_on.set()  # and then the session ends, and the next one has to show something
            await eventually(lambda: feed._unproven and feed._line is not None)
            assert (state(), feed.is_following) == ("loading", False)

    asyncio.run(main())
