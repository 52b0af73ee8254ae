"""Views: what they wait for, and what they keep."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

import datasync
from datasync import DataSync, DecodeError
from datasync.testing import EXACT, FaultySource, run_simulated


class Box(msgspec.Struct):
    items: list[int]


Run = Callable[[Coroutine[Any, Any, None]], None]


def test_who_waits_for_a_revision_of_a_history_that_is_gone_hears_so() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"})
        sync = DataSync(source)
        view = sync.view("a/")
        async with sync:
            await view.at_least(source.revision, 5)
            waiting = asyncio.ensure_future(view.at_least(source.revision + 1))
            await asyncio.sleep(1)
            source.new_history({"a/1": b"restored"}, revision=source.revision)
            with pytest.raises(datasync.HistoryChanged, match="read again"):
                await waiting
            assert dict(view) == {"a/1": b"restored"}
            await view.at_least(source.revision, 5)

    run_simulated(main())


def test_a_source_without_revisions_says_so() -> None:
    async def main() -> None:
        source = FaultySource(
            capabilities=msgspec.structs.replace(EXACT, order="key", revisions=False, resume=False)
        )
        sync = DataSync(source)
        view = sync.view("a/")
        async with sync:
            await view.at_least(0, 5)
            with pytest.raises(datasync.UnsupportedOption, match="in a watch"):
                await view.at_least(1)

    run_simulated(main())


def test_a_value_belongs_to_its_reader(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            view = sync.view("", type=Box)
            await view.at_least(0, 10)
            revision = await sync.put("k", Box([1]))
            assert revision is not None
            await view.at_least(revision, 10)
            view["k"].items.append(2)
            dict(view)["k"].items.append(3)
            assert view["k"].items == [1]

    run(main())


def test_one_bad_value_does_not_hide_the_others(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            view = sync.view("a/", type=int)
            await sync.put("a/1", b"1")
            await sync.put("a/2", b"two")
            revision = await sync.put("a/3", b"3")
            assert revision is not None
            await view.at_least(revision, timeout=60)

            for read in (lambda: view["a/2"], lambda: [*view.values()], lambda: [*view.items()]):
                with pytest.raises(DecodeError, match="a/2"):
                    read()
            assert dict(view.items(skip_undecodable=True)) == {"a/1": 1, "a/3": 3}
            assert list(view.undecodable) == ["a/2"]
            assert "a/2" in str(view.undecodable["a/2"])
            assert (view.raw("a/2"), view.raw("a/3")) == (b"two", b"3")
            for key in ("a/4", "b/1"):
                with pytest.raises(KeyError):
                    view.raw(key)
            await sync.put("a/2", b"2", confirm=False)
            await view.at_least(revision + 1, timeout=60)
            assert view.undecodable == {}
            assert dict(view.items()) == {"a/1": 1, "a/2": 2, "a/3": 3}

    run(main())


def test_ready_means_that_a_view_can_be_read_also_one_that_came_while_running() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"}, delay=1.0)
        async with DataSync(source) as sync:
            await sync.ready(60)
            view = sync.view("a/")
            with pytest.raises(datasync.NotReady):
                dict(view)
            await sync.ready(60)
            assert dict(view) == {"a/1": b"1"}

    run_simulated(main())


def test_a_view_over_a_store_of_this_process_can_be_read_in_the_turn_it_is_made_in(
    run: Run,
) -> None:
    async def main() -> None:
        async with datasync.DataSync("memory://") as sync:
            await sync.put("a/1", b"1")
            assert dict(sync.view("a/")) == {"a/1": b"1"}

    run(main())


def test_a_view_is_read_closed_and_dropped_in_other_threads(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            await sync.put("a/1", b"1")
            view, late = sync.view("a/"), sync.view("b/")
            await sync.ready(60)

            def use() -> None:
                assert (dict(view.items()), [*view.values()]) == ({"a/1": b"1"}, [b"1"])
                assert (view["a/1"], view.get("a/2"), len(view)) == (b"1", None, 1)
                late.close()
                with pytest.raises(datasync.WatchClosed):
                    len(late)

            await asyncio.to_thread(use)
            with pytest.raises(datasync.WrongLoop):
                await asyncio.to_thread(asyncio.run, view.at_least(0))
        with pytest.raises(datasync.WatchClosed):
            await asyncio.to_thread(len, view)

    run(main())


def test_what_a_thread_closes_is_no_longer_waited_for() -> None:
    async def main() -> None:
        source = FaultySource({"a/1": b"1"}, delay=5.0)
        async with DataSync(source) as sync:
            await sync.ready(60)
            view = sync.view("b/")
            thread = threading.Thread(target=view.close)
            thread.start()
            thread.join()
            await sync.ready(1.0)  # less than the source takes for what the view asked for

    run_simulated(main())


def test_each_loop_over_a_view_is_of_one_moment(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            await sync.txn().put("a", b"1").put("b", b"1").commit()
            view = sync.view("")
            for loop in (view.items, view.values):
                pairs, seen = loop(), []
                for one in pairs:
                    seen.append(one)
                    await sync.txn().put("a", b"2").delete("b").commit()
                await sync.txn().put("a", b"1").put("b", b"1").commit()
                assert seen == [*pairs]
                assert len(seen) == 2
            pairs, values = view.items(), view.values()
            assert ("a", b"1") in pairs
            assert b"1" in values
            assert len(pairs) == len(values) == 2

    run(main())
