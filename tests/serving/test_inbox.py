"""The inbox: a RESYNC that a client sends, and what comes before and behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from datasync import DataSync, NotReady, Refused, Verdict, WatchClosed
from datasync.outcome import KeyOutcome
from datasync.serving.inbox import Inbox
from datasync.source import Committed, Delete, Put, Result
from datasync.testing.contract import Probe, eventually

Run = Callable[[Coroutine[Any, Any, None]], None]


async def verdict(committed: Committed) -> Verdict:
    """What the watches made of it."""
    return (await committed.verdict()).verdict


def test_nothing_is_delivered_before_the_first_resync(run: Run) -> None:
    async def main() -> None:
        inbox = Inbox("inbox")
        sync = DataSync(inbox)
        probe = Probe(name="all")
        sync.watcher("", name="all")(probe)
        async with sync:
            with pytest.raises(NotReady, match="initial=empty"):
                await sync.put("a", b"1")
            with pytest.raises(NotReady, match="not ready"):
                await sync.ready(0.05)
            assert (
                await verdict(await inbox.replace([("a", b"1"), ("b/c", b"2")])) is Verdict.ACCEPTED
            )
            assert probe.state == {"a": b"1", "b/c": b"2"}
            await sync.ready(60)
            # the session that was open before there was anything to bring is followed on
            assert (
                await verdict(await inbox.commit([Put("a", b"2")], reply=True)) is Verdict.ACCEPTED
            )
            assert probe.state == {"a": b"2", "b/c": b"2"}

    run(main())


def test_an_empty_resync_means_that_everything_is_gone(run: Run) -> None:
    async def main() -> None:
        inbox = Inbox("inbox", empty=True)
        sync = DataSync(inbox)
        probe = Probe(name="all")
        sync.watcher("", name="all")(probe)
        async with sync:
            await sync.ready(60)
            await sync.put("a", b"1", ttl=60)
            assert await verdict(await inbox.replace([])) is Verdict.ACCEPTED
            assert probe.state == {}
            assert probe.resyncs[-1].reason == "resync by the source"
            assert [(change.op.name, change.key) for change in probe.resyncs[-1].changes] == [
                ("DELETE", "a")
            ]
            assert not inbox._expiries
            assert await verdict(await inbox.commit([Delete("a")], reply=True)) is Verdict.ACCEPTED
        probe.check()

    run(main())


def test_the_publisher_of_a_resync_hears_who_refused_what(run: Run) -> None:
    async def main() -> None:
        inbox = Inbox("inbox")
        sync = DataSync(inbox)
        order: list[str] = []

        @sync.watcher("a/")
        async def first(event: Any) -> None:
            order.append("first")

        @sync.watcher("b/")
        async def second(event: Any) -> None:
            order.append("second")
            raise Refused({"b/1": "no such bridge"})

        async with sync:
            committed = await inbox.replace([("a/1", b"1"), ("b/1", b"2")])
            refused = KeyOutcome(Verdict.REFUSED, "no such bridge")
            assert await committed.verdict() == Result(Verdict.REFUSED, {"b/1": refused})
            assert order == ["first", "second"]

    run(main())


def test_a_watch_added_meanwhile_has_its_say(run: Run) -> None:
    """Its engine opens another session; what is pushed in between must not count as unwatched."""

    async def main() -> None:
        inbox = Inbox("inbox", empty=True)
        sync = DataSync(inbox)
        probe = Probe(name="all", prefixes=("a/",))
        watch = sync.watch("stream", "x/")
        sync.watcher("a/", name="all")(probe)

        async def iterate() -> None:
            try:
                async for _ in watch:
                    pass
            except WatchClosed:
                pass

        async with sync, asyncio.TaskGroup() as group:
            group.create_task(iterate())
            await sync.ready(60)
            for number in range(20):
                watch.add_prefix(f"y{number}/")
                for step in range(5):
                    for _ in range(step):
                        await asyncio.sleep(0)
                    committed = await inbox.commit(
                        [Put("a/1", str((number, step)).encode())], reply=True
                    )
                    assert await verdict(committed) is Verdict.ACCEPTED
            watch.close()
            await eventually(lambda: probe.state == {"a/1": b"(19, 4)"})
        probe.check()

    run(main())


def test_nobody_watches_an_inbox_without_a_session(run: Run) -> None:
    async def main() -> None:
        inbox = Inbox("inbox")
        assert await verdict(await inbox.replace([("a", b"1")])) is Verdict.UNWATCHED
        assert await inbox.get("a") == (b"1", 1)
        assert await inbox.page("", None, 10) == ([("a", b"1", 1)], None)

    run(main())
