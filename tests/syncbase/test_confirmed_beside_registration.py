"""G7: a confirmed write hears the watches registered when it was made,
whichever frame brings it to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from datasync import DataSync, NotApplied, Refused, Verdict
from datasync.testing import EXACT, FaultySource, run_simulated
from datasync.testing.simulation.schedule import PROFILES

Handler = Callable[[Any], Any]

KINDS = {**PROFILES, "push": EXACT}


def source_of(kind: str, **options: Any) -> FaultySource:
    return FaultySource({"a/0": b"0"}, capabilities=KINDS[kind], push=kind == "push", **options)


def refuses(event: Any) -> None:
    keys = {change.key for change in event.changes} & {"b/1"}
    if keys:
        raise Refused(dict.fromkeys(keys, "never"))


def raises(event: Any) -> None:
    if any(change.key == "b/1" for change in event.changes):
        raise ValueError("never")


def handler(
    sync: DataSync, name: str, prefix: str, answer: Callable[[Any], None] = lambda _: None
) -> None:
    @sync.watcher(prefix, name=name)
    async def handle(event: Any) -> None:
        answer(event)


async def verdict(sync: DataSync) -> Verdict:
    with pytest.raises(NotApplied) as caught:
        await sync.put("b/1", b"1", confirm=60)
    return caught.value.verdict


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answer", "expected"), [(refuses, Verdict.REFUSED), (raises, Verdict.FAILED)]
)
@pytest.mark.parametrize("bookmarks", [False, True])
@pytest.mark.parametrize("acknowledged_after", [0.0, 0.2])
@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("widened", [False, True])
def test_a_watch_registered_or_widened_just_before_has_its_say(
    kind: str,
    answer: Any,
    expected: Verdict,
    bookmarks: bool,
    acknowledged_after: float,
    turns: int,
    widened: bool,
) -> None:
    async def main() -> None:
        source = source_of(kind, bookmarks=bookmarks)
        source.write_delay = acknowledged_after
        sync = DataSync(source)
        handler(sync, "other", "a/")
        if widened:
            handler(sync, "it", "c/", answer)
        async with sync:
            await sync.ready(60)
            if widened:
                sync.watches["it"].add_prefix("b/")
            else:
                handler(sync, "it", "b/", answer)
            for _ in range(turns):
                await asyncio.sleep(0)
            assert await verdict(sync) is expected

    run_simulated(main())


@pytest.mark.parametrize("kind", ["exact", "no-resume", "latest", "partitioned"])
def test_a_resync_that_holds_the_write_was_reported_before_the_write_returned(kind: str) -> None:
    async def main() -> None:
        source = source_of(kind)
        source.write_delay = 1.0
        sync = DataSync(source)
        handler(sync, "it", "b/", refuses)
        async with sync:
            await sync.ready(60)
            put = asyncio.ensure_future(verdict(sync))
            source.disconnect()  # in its place comes a session that begins with the write
            source.compact()
            assert await put is Verdict.REFUSED

    run_simulated(main())


def test_a_part_of_a_transaction_that_comes_with_a_snapshot_counts() -> None:
    async def main() -> None:
        source = FaultySource({"a/0": b"0"})
        sync = DataSync(source)
        handler(sync, "other", "a/")
        async with sync:
            await sync.ready(60)
            handler(sync, "it", "b/", refuses)
            with pytest.raises(NotApplied) as caught:
                await sync.txn().put("a/1", b"1").put("b/1", b"1").commit(confirm=60)
            assert caught.value.reasons == {"b/1": "never"}

    run_simulated(main())


def test_of_two_layers_the_one_written_to_counts() -> None:
    async def main() -> None:
        lower, upper = (
            FaultySource({"b/1": b"low"}, name="lower", delay=0.3),
            FaultySource(name="upper"),
        )
        sync = DataSync(lower, upper, write_to="upper")
        async with sync:
            await sync.ready(60)
            handler(sync, "it", "b/", raises)
            assert await verdict(sync) is Verdict.FAILED

    run_simulated(main())


def test_a_watch_that_is_closed_before_its_snapshot_leaves_nobody_waiting() -> None:
    async def main() -> None:
        source = FaultySource({"a/0": b"0"})
        sync = DataSync(source)
        handler(sync, "other", "a/")
        async with sync:
            await sync.ready(60)
            source.hang_open()
            handler(sync, "it", "b/", refuses)
            put = asyncio.ensure_future(verdict(sync))
            await asyncio.sleep(0.1)
            sync.watches["it"].close()
            async with asyncio.timeout(1):
                assert await put is Verdict.UNWATCHED

    run_simulated(main())
