"""G9: what is closed is gone, at once and without a garbage collection;
what nobody needs is not kept.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from datasync import DataSync, WatchClosed
from datasync.testing import FaultySource, run_simulated

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Handler:
    def __init__(self) -> None:
        self.ballast = bytearray(100_000)
        self.keys: set[str] = set()

    async def __call__(self, event: Any) -> None:
        self.keys.update(change.key for change in event.changes)


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("push", [False, True])
def test_closed_watches_are_gone(push: bool) -> None:
    async def main() -> None:
        source = FaultySource({f"w/{number}/k": b"1" for number in range(50)}, push=push)
        sync = DataSync(source)
        sync.watcher("other/", name="other")(Handler())
        async with sync:
            await sync.ready(60)
            alive: list[weakref.ref[Any]] = []
            for number in range(50):
                handler = Handler()
                sync.watcher(f"w/{number}/", name=f"w{number}", after=["other"])(handler)
                stream = sync.watch(f"s{number}", f"w/{number}/")
                alive += [weakref.ref(handler), weakref.ref(stream)]
            await sync.ready(60)
            assert handler.keys == {"w/49/k"}
            for number in range(50):
                sync.watches[f"w{number}"].close()
                sync.watches[f"s{number}"].close()
            del handler, stream
            await asyncio.sleep(0.1)
            assert [ref() for ref in alive if ref() is not None] == []
            assert list(sync.watches) == ["other"]
            assert not sync._engine.items("")

            # what comes for them is not kept either, and who watches again sees it
            source.write({"w/1/k": b"2"})
            await asyncio.sleep(0.1)
            assert not sync._engine.items("")
            again = Handler()
            sync.watcher("w/1/", name="w1")(again)
            await sync.ready(60)
            assert again.keys == {"w/1/k"}

    run_simulated(main())


@pytest.mark.usefixtures("_no_collector")
def test_views_that_are_closed_or_dropped_keep_nothing() -> None:
    async def main() -> None:
        source = FaultySource({f"v/{number}/k": b"1" for number in range(30)})
        sync = DataSync(source)
        async with sync:
            kept = sync.view("v/0/")
            views = [sync.view(f"v/{number}/") for number in range(30)]
            for view in views:
                await view.at_least(0, 5)
            assert len(sync._engine.items("")) == 30
            with views[1] as view:
                assert dict(view) == {"v/1/k": b"1"}
            with pytest.raises(WatchClosed, match="make a new one"):
                len(view)
            views[2].close()
            views[2].close()
            await asyncio.sleep(0.1)
            assert len(sync._engine.items("")) == 28
            del view, views
            await asyncio.sleep(0.1)
            assert [key for key, _ in sync._engine.items("")] == ["v/0/k"]
            assert dict(kept) == {"v/0/k": b"1"}
            source.write({"v/0/k": b"2", "v/1/k": b"2"})
            await asyncio.sleep(0.1)
            assert dict(kept) == {"v/0/k": b"2"}

    run_simulated(main())


def test_the_name_of_a_closed_watch_is_free_again(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            for _ in range(3):
                watch = sync.watch("it", "a/")
                watch.close()
                assert "it" not in sync.watches
                with pytest.raises(WatchClosed):
                    await anext(aiter(watch))

    run(main())
