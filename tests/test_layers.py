"""Several sources in one DataSync: layers, where a later one overrides an earlier one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

import datasync
from datasync import ChangeEvent, DataSync, Layer, ResyncEvent
from datasync.kvdbsync.memory import MemorySource
from datasync.testing import FaultySource, run_simulated
from tests.helpers.logs import logged

Run = Callable[[Coroutine[Any, Any, None]], None]
Event = ResyncEvent[bytes] | ChangeEvent[bytes]


class Part:
    """A handler that keeps the state it was told, and every step to it."""

    def __init__(
        self, sync: DataSync, name: str = "part", prefix: str = "", after: Sequence[str] = ()
    ) -> None:
        self.state: dict[str, bytes] = {}
        self.steps: list[tuple[str, bytes | None, bytes | None, str]] = []
        self.reasons: list[str] = []
        sync.watcher(prefix, name=name, after=after)(self.handle)

    async def handle(self, event: Event) -> None:
        if isinstance(event, ResyncEvent):
            self.reasons.append(event.reason)
            self.state = {kv.key: kv.value for values in event.values.values() for kv in values}
            return
        for change in event.changes:
            assert (change.prev.value if change.prev else None) == self.state.get(change.key)
            self.steps.append((change.key, self.state.get(change.key), change.value, change.source))
            if change.value is None:
                del self.state[change.key]
            else:
                self.state[change.key] = change.value


def two() -> tuple[MemorySource, MemorySource]:
    return MemorySource("base"), MemorySource("over")


def layered(base: MemorySource, over: MemorySource, **options: Any) -> DataSync:
    return DataSync(Layer(base, name="base"), Layer(over, name="over"), **options)


async def write(source: MemorySource, **values: bytes | None) -> None:
    async with DataSync(source) as sync:
        for key, value in values.items():
            await (sync.delete(key) if value is None else sync.put(key, value))


def test_a_later_layer_overrides_and_its_delete_brings_the_lower_value_back(run: Run) -> None:
    async def main() -> None:
        base, over = two()
        await write(base, a=b"base", b=b"base")
        await write(over, a=b"over")
        sync = layered(base, over)
        part = Part(sync)
        async with sync:
            await sync.ready(60)
            assert part.state == {"a": b"over", "b": b"base"}
            await write(over, a=None)
            assert part.steps == [("a", b"over", b"base", "base")]
            await write(base, a=b"base 2")
            await write(over, a=b"over 2", b=b"over")
            assert part.state == {"a": b"over 2", "b": b"over"}
            await write(base, a=b"hidden", b=None)
            assert part.state == {"a": b"over 2", "b": b"over"}
            await write(over, b=None)
            assert part.state == {"a": b"over 2"}

    run(main())


def test_a_hidden_write_is_accepted_for_nothing_differs(run: Run) -> None:
    async def main() -> None:
        base, over = two()
        await write(over, a=b"over")
        sync = layered(base, over, write_to="base")
        part = Part(sync)
        async with sync:
            await sync.ready(60)
            await sync.put("a", b"hidden", confirm=60)
            assert part.steps == []
            found = await sync.get("a")
            assert found is not None
            assert found.value == b"over"
            assert [(kv.key, kv.value) async for kv in sync.list()] == [("a", b"over")]

    run(main())


def test_without_write_to_a_write_says_so(run: Run) -> None:
    async def main() -> None:
        async with layered(*two()) as sync:
            with pytest.raises(datasync.UsageError, match="write_to"):
                await sync.put("a", b"1")

    run(main())


def test_write_to_several_layers(run: Run) -> None:
    async def main() -> None:
        base, over = two()
        sync = layered(base, over, write_to=["base", "over"])
        part = Part(sync)
        async with sync:
            await sync.ready(60)
            await sync.put("a", b"1", confirm=60)
            assert part.state == {"a": b"1"}
            assert await base.get("a") is not None
            assert await over.get("a") is not None

    run(main())


class Broken(MemorySource):
    """Takes no write."""

    async def commit(self, operations: Any, *, reply: bool = False) -> Any:
        raise datasync.Disconnected("the link is down; try again")


def test_a_partial_write_names_what_is_done_and_what_failed(run: Run) -> None:
    async def main() -> None:
        base, over = MemorySource("base"), Broken("over")
        async with layered(base, over, write_to=["base", "over"]) as sync:
            with pytest.raises(datasync.PartialWrite) as caught:
                await sync.put("a", b"1")
            assert caught.value.done == ["base"]
            assert list(caught.value.failed) == ["over"]

    run(main())


class Hanging(MemorySource):
    """Takes no write to its end before it is closed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked, self.closed = asyncio.Event(), asyncio.Event()

    async def commit(self, operations: Any, *, reply: bool = False) -> Any:
        self.asked.set()
        await self.closed.wait()
        raise datasync.OutcomeUnknown("closed before the answer came; read the key")

    async def aclose(self) -> None:
        self.closed.set()
        await super().aclose()


@pytest.mark.parametrize("number", [2, 3])
def test_what_waits_for_one_layer_as_it_is_closed_is_never_sent_to_the_next(
    run: Run, number: int
) -> None:
    """G10: also where it was done in the one before."""

    async def main() -> None:
        hangs, last = Hanging("hangs"), MemorySource("last")
        layers = [MemorySource("first"), hangs, last][-number:]
        sync = DataSync(*layers, write_to=[layer.name for layer in layers])
        await sync.start()
        put = asyncio.create_task(sync.put("a", b"1"))
        await asyncio.wait_for(hangs.asked.wait(), 60)
        await sync.aclose()
        await asyncio.wait((put,), timeout=60)
        error = put.exception()
        if number == 2:
            assert isinstance(error, datasync.OutcomeUnknown)
        else:
            assert isinstance(error, datasync.PartialWrite)
            assert error.done == ["memory://first"]
            assert isinstance(error.failed["memory://hangs"], datasync.OutcomeUnknown)
            assert isinstance(error.failed["memory://last"], datasync.WatchClosed)
        assert await last.get("a") is None

    run(main())


def test_a_write_that_fails_everywhere_is_no_partial_write(run: Run) -> None:
    async def main() -> None:
        unknown = Hanging("unknown")
        unknown.closed.set()
        broken = Broken("broken")
        async with DataSync(
            broken, unknown, write_to=["memory://broken", "memory://unknown"]
        ) as sync:
            with pytest.raises(datasync.OutcomeUnknown):  # it may be there
                await sync.put("a", b"1")
        async with DataSync(
            broken, Broken("other"), write_to=[broken.name, "memory://other"]
        ) as sync:
            with pytest.raises(datasync.Disconnected):
                await sync.put("a", b"1")

    run(main())


class Late(MemorySource):
    """Cannot be reached until `here` is set."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.here = asyncio.Event()

    async def open(self, *args: Any) -> Any:
        if not self.here.is_set():
            raise datasync.Disconnected("not there yet; wait")
        return await super().open(*args)


def test_the_start_waits_for_every_required_layer(run: Run) -> None:
    async def main() -> None:
        base, over = MemorySource("base"), Late("over")
        sync = layered(base, over, reconnect=datasync.Backoff(initial=0.01, maximum=0.01))
        part = Part(sync)
        async with sync:
            with pytest.raises(datasync.NotReady, match="part"):
                await sync.ready(0.1)
            over.here.set()
            await sync.ready(60)
            assert part.reasons == ["start"]

    run(main())


def test_an_optional_layer_joins_late_with_a_round(run: Run) -> None:
    async def main() -> None:
        base, over = MemorySource("base"), Late("over")
        await write(base, a=b"base", b=b"base")
        over.here.set()
        await write(over, a=b"over")
        over.here.clear()
        sync = DataSync(
            Layer(base, name="base"),
            Layer(over, name="over", optional=True),
            reconnect=datasync.Backoff(initial=0.01, maximum=0.01),
        )
        first, second = Part(sync, "first"), Part(sync, "second", "none/")
        async with sync:
            await sync.ready(60)
            assert first.state == {"a": b"base", "b": b"base"}
            over.here.set()
            await until(lambda: len(second.reasons) == 2)
            assert first.state == {"a": b"over", "b": b"base"}
            assert first.reasons == ["start", "over joined"]

    run(main())


async def until(
    condition: Callable[[], bool], pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await pause(0.005)


def test_bad_layers() -> None:
    with pytest.raises(datasync.UsageError, match="two sources are named"):
        DataSync(MemorySource("x"), MemorySource("x"))
    with pytest.raises(datasync.UsageError, match="write_to"):
        DataSync("memory://", write_to="nobody")
    with pytest.raises(datasync.UsageError, match="needs a source"):
        DataSync()


def test_who_needs_more_than_is_known_does_not_wait_for_an_optional_layer_that_is_lost() -> None:
    async def main() -> None:
        low = FaultySource({"b/1": b"low"}, name="low")
        high = FaultySource({"b/1": b"high", "b/2": b"high"}, name="high")
        sync = DataSync(low, Layer(high, optional=True))
        first = Part(sync, "first", "a/")
        async with sync:
            await sync.ready(60)
            await asyncio.sleep(1)
            high.down()
            await asyncio.sleep(1)
            second = Part(sync, "second", "b/")
            view = sync.view("b/")
            await sync.ready(60)
            assert second.state == dict(view) == {"b/1": b"low"}
            high.heal()
            await asyncio.sleep(60)
            assert second.state == dict(view) == {"b/1": b"high", "b/2": b"high"}
            assert first.reasons == ["start", "high joined"]

    run_simulated(main())


def test_a_required_layer_that_is_lost_holds_up_no_dependent_watch() -> None:
    async def main() -> None:
        low, high = FaultySource(name="low"), FaultySource(name="high")
        sync = DataSync(low, high)
        first = Part(sync, "first", "a/")
        second = Part(sync, "second", "b/", after=["first"])
        async with sync:
            await sync.ready(60)
            high.down()
            await asyncio.sleep(1)
            sync.watches["first"].add_prefix("c/")  # what high has there nobody knows
            low.write({"a/1": b"1", "b/1": b"1"})
            await asyncio.sleep(1)
            assert second.state == {}  # it may come back soon
            await asyncio.sleep(2)
            assert second.state == {"b/1": b"1"}
            assert first.state == {}
            assert [watch.state for watch in sync.status().watches] == ["waiting", "following"]
            high.heal()
            await asyncio.sleep(60)
            assert first.state == {"a/1": b"1"}

    run_simulated(main())


class Stubborn(MemorySource):
    """Does not close as it should."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        super().__init__(name)
        self.error = error
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()


def test_a_source_that_does_not_close_keeps_no_other_from_it(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        sources = [
            Stubborn("hangs"),
            Stubborn("fails", RuntimeError("it is jammed")),
            Stubborn("last"),
        ]
        async with DataSync(*sources, close_timeout=0.05):
            pass
        assert all(source.closed for source in sources)

    run(main())
    assert [record.levelname for record in logged(caplog)] == ["WARNING"] * 3
    assert "it is jammed" in caplog.text


def test_the_repr_names_the_sources_and_no_secret() -> None:
    assert repr(DataSync("memory://a")) == "DataSync('memory://a')"
    sync = DataSync("memory://a", "redis://me:secret@127.0.0.1:1", label="vpp1")
    assert (
        repr(sync) == "DataSync('memory://a', 'redis://me@127.0.0.1:1', prefix='/vnf-agent/vpp1/')"
    )
