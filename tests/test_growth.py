"""What is done to one watch, or one key, costs no more because there are many others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from datasync import ChangeEvent, DataSync, NotReady, Refused, WatchState
from datasync.events import Record
from datasync.kvdbsync.memory import MemorySource
from datasync.metrics import FAMILIES, distinct
from datasync.outcome import Tally
from datasync.scopes import Scopes
from datasync.serving.hub import Hub, Subscription
from datasync.source import Commit, Frame, Put, SnapshotEnd
from datasync.syncbase.mailbox import Group, Mailbox
from datasync.syncbase.router import Router
from datasync.tasks import end_tasks
from datasync.testing.contract import eventually
from tests.helpers.growth import Steps, growth


async def accepts(event: Any) -> None:
    """At once."""


async def takes_a_turn(event: Any) -> None:
    await asyncio.sleep(0)


async def refuses(event: Any) -> None:
    if isinstance(event, ChangeEvent):
        raise Refused({change.key: "no" for change in event.changes})


async def refuses_when_asked_again(event: Any) -> None:
    if event.reason == "requested":
        raise Refused({kv.key: "no" for values in event.values.values() for kv in values})


def with_watches(count: int, handler: Any = accepts) -> DataSync:
    sync = DataSync("memory://")
    for number in range(count):
        sync.watcher(f"{number}/", name=str(number))(handler)
    return sync


async def closing_all(count: int, steps: Steps) -> None:
    sync = with_watches(count)
    await sync.start()
    await sync.ready(60)
    with steps:
        await sync.aclose()


async def closing_those_that_are_tried_again(count: int, steps: Steps) -> None:
    async def fails(event: Any) -> None:
        raise ValueError

    async with with_watches(count, fails) as sync:
        with contextlib.suppress(NotReady):
            await sync.ready(0.001)
        with steps:
            for watch in sync.watches.values():
                watch.close()


async def closing_each(count: int, steps: Steps) -> None:
    async with with_watches(count) as sync:
        await sync.ready(60)
        with steps:
            for watch in sync.watches.values():
                watch.close()


async def closing_each_in_a_round(count: int, steps: Steps) -> None:
    async with with_watches(count, takes_a_turn) as sync:
        await sync.ready(60)
        sync.resync()
        with steps:
            for watch in list(sync.watches.values())[::-1]:
                watch.close()


async def opening_while_running(count: int, steps: Steps) -> None:
    async with with_watches(1) as sync:
        await sync.ready(60)
        with steps:
            for number in range(count):
                sync.watcher(f"new/{number}/", name=f"new {number}")(accepts)
            await sync.ready(60)
            for number in range(count):
                await sync.put(f"new/{number}/key", b"1", confirm=60)


async def opening_one_in_each_turn(count: int, steps: Steps) -> None:
    """Of the loop: then each is a widening of its own."""
    resynced = asyncio.Event()

    async def handle(event: Any) -> None:
        resynced.set()

    async with with_watches(count) as sync:
        await sync.ready(60)
        with steps:
            for number in range(100):
                resynced.clear()
                sync.watcher(f"new/{number}/", name=f"new {number}")(handle)
                await resynced.wait()
                await sync.put(f"new/{number}/key", b"1", confirm=60)


async def opening_and_closing_views(count: int, steps: Steps) -> None:
    async with with_watches(1) as sync:
        await sync.ready(60)
        with steps:
            views = [sync.view(f"{number}/") for number in range(count)]
            assert not any(views)
            for view in views:
                view.close()
            await asyncio.sleep(0)


async def changing_the_prefixes_of_each(count: int, steps: Steps) -> None:
    async with with_watches(count) as sync:
        await sync.ready(60)
        with steps:
            for name, watch in sync.watches.items():
                watch.add_prefix(f"new/{name}/")
            await sync.ready(60)
            for name, watch in sync.watches.items():
                watch.remove_prefix(f"new/{name}/")
            await sync.ready(60)


async def changing_the_prefixes_of_one(count: int, steps: Steps) -> None:
    store = MemorySource()
    await store.commit([Put(f"new/{number}/key", b"1") for number in range(count)])
    sync, reasons = DataSync(store), []

    @sync.watcher("0/", name="0")
    async def handle(event: Any) -> None:
        reasons.append(event.reason)

    async with sync:
        await sync.ready(60)
        watch = sync.watches["0"]
        with steps:
            for number in range(count):
                watch.add_prefix(f"new/{number}/")
            await sync.ready(60)
            for number in range(count):
                watch.remove_prefix(f"new/{number}/")
            await sync.ready(60)
        assert reasons == ["start", "prefix added", "prefix removed"]


async def resyncing_each(count: int, steps: Steps) -> None:
    async with with_watches(count) as sync:
        await sync.ready(60)
        with steps:
            for name in sync.watches:
                sync.resync(name)
            await sync.ready(60)


async def showing_the_status_and_the_metrics(count: int, steps: Steps) -> None:
    async with with_watches(count) as sync:
        await sync.ready(60)
        with steps:
            assert len(sync.status().watches) == count
            now = distinct(sync.status())
            assert sum(1 for family in FAMILIES for _ in family.samples(now)) > count


async def closing_those_that_go_before_another(count: int, steps: Steps) -> None:
    sync = with_watches(count)
    sync.watcher("last/", name="last", after=[str(number) for number in range(count)])(accepts)
    async with sync:
        await sync.ready(60)
        with steps:
            for number in range(count):
                sync.watches[str(number)].close()


async def closing_while_writes_wait(count: int, steps: Steps) -> None:
    async def hangs(event: Any) -> None:
        if isinstance(event, ChangeEvent):
            await asyncio.Event().wait()

    async with with_watches(count, hangs) as sync:
        await sync.ready(60)
        keys = [f"{number}/key" for number in range(count)]
        writes = [asyncio.ensure_future(sync.put(key, b"1", confirm=True)) for key in keys]
        await asyncio.sleep(0)
        with steps:
            for watch in sync.watches.values():
                watch.close()
        await asyncio.gather(*writes, return_exceptions=True)


async def a_round_of_handlers_that_wait(count: int, steps: Steps) -> None:
    async with with_watches(count, takes_a_turn) as sync:
        await sync.ready(60)
        sync.resync()
        with steps:
            await sync.ready(60)


async def looking_up_each_watch(count: int, steps: Steps) -> None:
    sync = with_watches(count)
    with steps:
        for number in range(count):
            assert sync.watches[str(number)].name == str(number)


async def refused_writes(count: int, steps: Steps) -> None:
    sync = DataSync("memory://")
    sync.watcher("", name="it")(refuses)
    async with sync:
        await sync.ready(60)
        with steps:
            for again in b"1", b"2":
                for number in range(count):
                    await sync.put(str(number), again)


async def a_state_that_is_refused(count: int, steps: Steps) -> None:
    store = MemorySource()
    await store.commit([Put(str(number), b"1") for number in range(count)])
    sync = DataSync(store)
    sync.watcher("", name="it")(refuses_when_asked_again)
    async with sync:
        await sync.ready(60)
        with steps:
            sync.resync()
            await sync.ready(60)
        assert sync.status().watches[0].failing is not None


async def writes_that_wait_and_are_refused_as_one(count: int, steps: Steps) -> None:
    sync, go_on = DataSync("memory://"), asyncio.Event()

    @sync.watcher("", name="it", backlog=1)
    async def handle(event: Any) -> None:
        if isinstance(event, ChangeEvent):
            await go_on.wait()
            await refuses(event)

    async with sync:
        await sync.ready(60)
        keys = [str(number) for number in range(count)]
        writes = [asyncio.ensure_future(sync.put(key, b"1", confirm=True)) for key in keys]
        await asyncio.sleep(0)
        with steps:
            go_on.set()
            await asyncio.gather(*writes, return_exceptions=True)


async def writing_while_the_handler_is_overdue(count: int, steps: Steps) -> None:
    async def hangs(event: Any) -> None:
        if isinstance(event, ChangeEvent):
            await asyncio.Event().wait()

    sync = DataSync("memory://", ack_timeout=0.001)
    sync.watcher("", name="it")(hangs)
    async with sync:
        await sync.ready(60)
        await sync.put("first", b"1")
        await eventually(lambda: sync.watches["it"].state is WatchState.OVERDUE)
        with steps:
            for number in range(count):
                await sync.put(str(number), b"1")


async def commits_for_a_final_outcome_while_the_handler_is_overdue(
    count: int, steps: Steps
) -> None:
    box, told = Mailbox(1), [0]
    box.fold()
    with steps:
        for number in range(count):
            tally = Tally((lambda result: told.append(1),), expected=2, final=bool(number % 2))
            box.add(
                Group(number, number, "store", [(str(number), None, Record(b"1", number))], tally)
            )
            tally.close()
            box.overdue()
    assert sum(told) == (count + 1) // 2


async def deleting_as_many_prefixes(count: int, steps: Steps) -> None:
    async with with_watches(1) as sync:
        await sync.ready(60)
        for below in "", "of/no/key/":
            writes, deletes = sync.txn(), sync.txn()
            for number in range(count):
                writes.put(f"0/{number}/key", b"1")
                deletes.delete(f"0/{number}/{below}", prefix=True)
            await writes.commit(confirm=60)
            with steps:
                await deletes.commit(confirm=60)


async def using_one_of_as_many_prefixes_each_time(count: int, steps: Steps) -> None:
    store = MemorySource()
    await store.commit([Put(f"{number}/key", b"1") for number in range(count)])
    async with DataSync(store) as sync:
        with steps:
            for number in range(count):
                assert [kv.key async for kv in sync.list(f"{number}/")] == [f"{number}/key"]
                await sync.put(f"{number}/new", b"1")
                await sync.delete(f"{number}/", prefix=True)
        assert [kv async for kv in sync.list("")] == []


MANY = [f"{number}/" for number in range(20)]


async def looking_up_keys_of_slashes(count: int, steps: Steps) -> None:
    router: Router[Any] = Router()
    for scope in MANY:
        router.add(scope, None)
    scopes = Scopes(MANY)
    with steps:
        for number in range(50):
            key = f"a{number}{'/' * count}key"
            assert key not in scopes
            assert router.match(key) == ()


async def joining_scopes_of_slashes(count: int, steps: Steps) -> None:
    slashes = "/" * count
    with steps:
        for number in range(50):
            scopes, new = Scopes([*MANY, f"0/{slashes}"]).minimal(), f"a{number}{slashes}"
            assert list(scopes) == sorted(MANY)
            assert (
                list(scopes.joined([new]))
                == list(scopes.union([new]).minimal())
                == [*sorted(MANY), new]
            )


async def writing_keys_of_slashes(count: int, steps: Steps) -> None:
    async with with_watches(20) as sync:
        await sync.ready(60)
        with steps:
            for number in range(50):
                directory = f"0/{number}{'/' * count}"
                await sync.put(f"{directory}key", b"1", confirm=60)
                await sync.delete(directory, prefix=True)


class RemoteWatchers:
    """A hub, and those who watch these scopes; entered once they have read their snapshots."""

    def __init__(self, *scopes: Sequence[str]) -> None:
        self._scopes = scopes
        self._read = asyncio.Semaphore(0)
        self._hub = Hub(MemorySource())
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> RemoteWatchers:
        await self._hub.start()
        for scopes in self._scopes:
            watcher = self._hub.subscribe(scopes, encode=self._encode)
            self._tasks.append(asyncio.create_task(self._follow(watcher)))
        await self._all_have_read()
        return self

    async def __aexit__(self, *_: object) -> None:
        await end_tasks(*self._tasks)
        await self._hub.aclose()

    async def write(self, count: int) -> None:
        """What all of them read, one by one."""
        for number in range(count):
            await self._hub.source.commit([Put("a/0", b"1"), Put(f"a/new/{number}", b"1")])
            await self._all_have_read()

    async def _all_have_read(self) -> None:
        for _ in self._scopes:
            await self._read.acquire()

    def _encode(self, frame: Frame) -> Frame:
        return frame

    async def _follow(self, watcher: Subscription[Frame]) -> None:
        async for frames in watcher:
            if any(isinstance(frame, Commit | SnapshotEnd) for frame in frames):
                self._read.release()


async def writing_beside_one_who_watches_single_keys(count: int, steps: Steps) -> None:
    async with RemoteWatchers([f"a/{number}" for number in range(count)]) as watchers:
        await watchers.write(1)
        with steps:
            await watchers.write(50)


def test_a_write_costs_no_more_for_the_keys_that_somebody_watches() -> None:
    assert growth(writing_beside_one_who_watches_single_keys, 500) < 1.5


class Counted(str):
    """A key that counts how often any is compared with another."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_write_costs_no_more_for_the_keys_that_several_watch() -> None:
    async def main() -> None:
        same = ([Counted(f"a/{number}") for number in range(1000)] for _ in range(3))
        async with RemoteWatchers(*same) as watchers:
            Counted.compared = 0
            await watchers.write(10)
            assert Counted.compared < 1000

    asyncio.run(main())


def test_opening_a_watch_costs_no_more_for_those_that_are_open() -> None:
    assert growth(opening_one_in_each_turn, 100) < 1.5


@pytest.mark.parametrize(
    "scenario", [looking_up_keys_of_slashes, joining_scopes_of_slashes, writing_keys_of_slashes]
)
def test_a_key_costs_no_more_for_its_slashes(
    scenario: Callable[[int, Steps], Awaitable[None]],
) -> None:
    assert growth(scenario, 500) < 1.5


@pytest.mark.parametrize(
    "scenario",
    [
        closing_all,
        closing_those_that_are_tried_again,
        closing_each,
        closing_each_in_a_round,
        closing_those_that_go_before_another,
        closing_while_writes_wait,
        opening_while_running,
        opening_and_closing_views,
        changing_the_prefixes_of_each,
        changing_the_prefixes_of_one,
        resyncing_each,
        showing_the_status_and_the_metrics,
        a_round_of_handlers_that_wait,
        looking_up_each_watch,
        refused_writes,
        a_state_that_is_refused,
        writes_that_wait_and_are_refused_as_one,
        writing_while_the_handler_is_overdue,
        commits_for_a_final_outcome_while_the_handler_is_overdue,
        deleting_as_many_prefixes,
        using_one_of_as_many_prefixes_each_time,
    ],
)
def test_the_work_grows_with_the_number(scenario: Callable[[int, Steps], Awaitable[None]]) -> None:
    assert growth(scenario) < 6
