"""Writing: revisions, group commits, conflicts, TTL, bad input."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from datasync.errors import (
    BadKey,
    BadValue,
    Conflict,
    Disconnected,
    OutcomeUnknown,
    UnsupportedOption,
    WatchClosed,
)
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite.committer import Committer
from datasync.source import Check, Committed, Delete, Operation, Put
from tests.helpers.sqlite.sqlite_tools import DEADLINE, copy, put, stored, until

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_revisions_grow_by_one_a_transaction_that_changes_something(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        assert await put(source, a=b"1", b=b"1") == 1
        assert await put(source, a=b"1") == 2
        assert await source.commit([Delete("missing"), Delete("none/", prefix=True)]) == Committed(
            2, [False, False]
        )
        assert await source.commit([]) == Committed(2, [])
        assert await source.commit([Delete("a"), Delete("missing")]) == Committed(3, [True, False])
        assert await source.get("a") is None
        assert await source.get("b") == (b"1", 1)
        await source.aclose()
        source = make()
        assert await put(source, c=b"") == 4
        await source.aclose()

    run(main())


def test_a_prefix_is_deleted_as_one_transaction(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        inside = ["a/", "a/b", "a/b/c", "a/\U0010ffff", "a/\ud7ff", "a/é"]
        outside = ["a", "a0", "b/x", "A/x"]
        await source.commit([Put(key, b"v") for key in inside + outside])
        made = await copy(source, "")
        assert await source.commit([Delete("a/", prefix=True)]) == Committed(2, [True])
        await made.reach(2)
        assert sorted(made.commits[0].changes) == sorted((key, None) for key in inside)
        assert set(await stored(source)) == set(outside)
        await source.commit([Delete("A", prefix=True), Put("A/y", b"new")])
        assert set(await stored(source)) == {"a", "a0", "b/x", "A/y"}
        assert (await source.commit([Delete("", prefix=True)])).existed == [True]
        assert await stored(source) == {}
        await made.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize("last", ["\ud7ff", "\U0010ffff", "x\U0010ffff\U0010ffff", "\0", "é"])
def test_a_prefix_may_end_in_any_character(make: Make, run: Run, last: str) -> None:
    async def main() -> None:
        source = make()
        keys = [last, last + "a", last + "\U0010ffff", "x", "\ue000", "é", "\0\0", "y"]
        await source.commit([Put(key, b"v") for key in dict.fromkeys(keys)])
        items, _ = await source.page(last, None, 100)
        assert [key for key, _, _ in items] == sorted({key for key in keys if key.startswith(last)})
        await source.aclose()

    run(main())


def test_compare_and_set(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Check("k", 0), Put("k", b"1")])
        with pytest.raises(Conflict) as conflict:
            await source.commit([Put("other", b"x"), Check("k", 0), Put("k", b"2")])
        assert (conflict.value.key, conflict.value.expected) == ("k", 0)
        assert await source.get("other") is None
        await source.commit([Check("k", 1), Delete("k")])
        assert (await source.commit([Check("k", 0)])).revision == 2
        await source.aclose()

    run(main())


def test_concurrent_callers_share_a_commit(
    make: Make, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    apply = Committer.apply

    def counting(self: Committer, jobs: Any, *, prune: bool) -> Any:
        groups.append(len(jobs))
        return apply(self, jobs, prune=prune)

    monkeypatch.setattr(Committer, "apply", counting)

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        for turn in range(5):
            done = await asyncio.gather(
                *(source.commit([Put(f"k{n}", b"%d" % turn)]) for n in range(64))
            )
            assert sorted(d.revision or 0 for d in done) == list(
                range(turn * 64 + 1, turn * 64 + 65)
            )
        await made.reach(320)
        assert [commit.revision for commit in made.commits] == list(range(1, 321))
        assert made.data == await stored(source)
        await made.session.aclose()
        await source.aclose()

    run(main())
    assert groups == [64] * 5


def test_a_conflict_of_one_is_not_the_others(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"0")
        operations: list[list[Operation]] = [
            [Put(f"a{n}", b"v"), *([Check("k", 7)] if n % 3 == 0 else [])] for n in range(30)
        ]
        done = await asyncio.gather(
            *(source.commit(each) for each in operations), return_exceptions=True
        )
        assert [isinstance(outcome, Conflict) for outcome in done] == [
            n % 3 == 0 for n in range(30)
        ]
        assert set(await stored(source)) == {"k"} | {f"a{n}" for n in range(30) if n % 3}
        revisions = [outcome.revision for outcome in done if isinstance(outcome, Committed)]
        assert revisions == list(range(2, 22))
        await source.aclose()

    run(main())


def test_a_cancelled_caller_harms_nobody(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"0")
        for turns in range(6):
            tasks = [
                asyncio.create_task(source.commit([Put(f"t{turns}/{n}", b"v")])) for n in range(20)
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            found = await stored(source, f"t{turns}/")
            for n, outcome in enumerate(outcomes):
                if isinstance(outcome, Committed):
                    assert found[f"t{turns}/{n}"] == (b"v", outcome.revision)
                else:
                    assert isinstance(outcome, asyncio.CancelledError)
                    assert n % 2 == 0
        await source.aclose()

    run(main())


def test_a_ttl_ends_in_a_delete(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        made = await copy(source, "")
        began = time.monotonic()
        await source.commit(
            [Put("short", b"v", ttl=0.2), Put("kept", b"v", ttl=600), Put("long", b"v", ttl=600)]
        )
        await put(source, kept=b"without")
        await made.reach(3)
        assert time.monotonic() - began > 0.15
        file = source._file
        assert file is not None
        assert await file.follower.call(
            lambda c: c.all("SELECT key FROM kv WHERE expires IS NOT NULL")
        ) == [("long",)]
        assert [("short", None)] in [commit.changes for commit in made.commits]
        assert set(made.data) == {"kept", "long"}
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_what_expired_while_nobody_had_it_open(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put(f"k{n}", b"v", ttl=0.01) for n in range(2500)])
        await source.aclose()
        source = make()
        made = await copy(source, "")
        await until(lambda: not made.data or made.revision is not None)
        while made.data:
            await made.step()
        assert await stored(source) == {}
        await made.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (Put("", b"v"), BadKey),
        (Put(5, b"v"), BadKey),  # type: ignore[arg-type]
        (Put("a\ud800", b"v"), BadKey),
        (Put("a", "text"), BadValue),  # type: ignore[arg-type]
        (Put("a", b"v", ttl=0), BadValue),
        (Put("a", b"v", ttl=-1), BadValue),
        (Put("a", b"v", ttl=math.nan), BadValue),
        (Put("a", b"v", ttl=math.inf), BadValue),
        (Delete("a\udfff"), BadKey),
        (Check(None, 0), BadKey),  # type: ignore[arg-type]
    ],
)
def test_bad_operations(make: Make, run: Run, operation: Operation, error: type[Exception]) -> None:
    async def main() -> None:
        source = make()
        with pytest.raises(error) as raised:
            await source.commit([Put("good", b"v"), operation])
        assert "\n" not in str(raised.value)
        assert await source.get("good") is None
        await source.aclose()

    run(main())


def test_reply_is_refused(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        with pytest.raises(UnsupportedOption):
            await source.commit([Put("k", b"v")], reply=True)
        await source.aclose()

    run(main())


def test_keys_and_values_of_all_kinds(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        values = {
            "é/ü": b"",
            "nul\0inside": b"\0",
            "a b": bytes(range(256)),
            "\U0001f600": b"x" * 3_000_000,
        }
        for key, raw in values.items():
            await source.commit([Put(key, raw)])
        made = await copy(source, "")
        assert {key: raw for key, (raw, _) in made.data.items()} == values
        for key, raw in values.items():
            found = await source.get(key)
            assert found is not None
            assert found[0] == raw
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_pages_are_in_order_and_at_one_revision(make: Make, run: Run) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put(f"p/{n:04}", b"old") for n in range(1000)])
        items, token = await source.page("p/", None, 300)
        await source.commit([Delete("p/0999"), *(Put(f"p/{n:04}", b"new") for n in range(999))])
        while token is not None:
            more, token = await source.page("p/", token, 300)
            items = [*items, *more]
        assert [key for key, _, _ in items] == [f"p/{n:04}" for n in range(1000)]
        assert {(raw, revision) for _, raw, revision in items} == {(b"old", 1)}
        names, token = await source.page("p/", None, 5000, keys_only=True)
        assert token is None
        assert {(raw, revision) for _, raw, revision in names} == {(b"", 2)}
        await source.aclose()

    run(main())


def test_a_full_disk_is_said_and_undone(make: Make, run: Run) -> None:
    """The library's own limit on the size of the file gives the same error as a full disk,
    at the same places.
    """

    async def main() -> None:
        source = make()
        await put(source, k=b"0")
        file = source._file
        assert file is not None
        writer: Any = file.writer
        writer._committer._connection.all("PRAGMA max_page_count=40")
        outcomes = await asyncio.gather(
            source.commit([Put("small", b"s")]),
            source.commit([Put("big", b"x" * 1_000_000)]),
            source.commit([Put("small too", b"s")]),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], Committed)
        assert isinstance(outcomes[1], Disconnected)
        assert "space" in str(outcomes[1])
        assert isinstance(outcomes[2], Committed)
        assert set(await stored(source)) == {"k", "small", "small too"}
        writer._committer._connection.all("PRAGMA max_page_count=100000")
        await put(source, big=b"x" * 1_000_000)
        await source.aclose()

    run(main())


def test_a_transaction_that_cannot_be_ended_is_answered(make: Make, run: Run) -> None:
    """Whatever fails in the writer's thread, nobody waits for ever,
    and the next one may succeed.
    """

    async def main() -> None:
        source = make()
        await put(source, k=b"0")
        file = source._file
        assert file is not None
        writer: Any = file.writer
        connection = writer._committer._connection
        statement = connection.run

        def failing(sql: str, args: Any = ()) -> Any:
            if sql == "ROLLBACK":
                connection.run = statement
                raise OSError("the disk is gone")
            return statement(sql, args)

        connection.run = failing
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(OSError, match="the disk is gone"):
                await source.commit([Delete("missing")])
            assert await put(source, k=b"1") == 2
        await source.aclose()

    run(main())


@pytest.mark.parametrize(("sync", "level"), [("normal", 1), ("full", 2)])
def test_sync_is_that_of_the_writer(make: Make, run: Run, sync: str, level: int) -> None:
    async def main() -> None:
        source = make(sync=sync)
        await put(source, k=b"0")
        file = source._file
        assert file is not None
        writer: Any = file.writer
        assert writer._committer._connection.all("PRAGMA synchronous") == [(level,)]
        await source.aclose()

    run(main())


def test_two_loops_share_a_file(make: Make, run: Run) -> None:
    failures: list[BaseException] = []

    def other_loop() -> None:
        async def write() -> None:
            source = make()
            for n in range(100):
                await source.commit([Put(f"other/{n}", b"v")])
            await source.aclose()

        try:
            asyncio.run(write())
        except BaseException as error:
            failures.append(error)

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        thread = threading.Thread(target=other_loop)
        thread.start()
        for n in range(100):
            await source.commit([Put(f"this/{n}", b"v")])
        await made.reach(200)
        await asyncio.to_thread(thread.join)
        assert not failures
        assert made.data == await stored(source)
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_closing_while_callers_wait(make: Make, run: Run) -> None:
    """Each gets its result or is told that nothing was written; nobody hangs."""

    async def main() -> None:
        for turns in range(5):
            source = make()
            await source.get("k")
            writing = [
                asyncio.create_task(source.commit([Put(f"k{turns}/{n}", b"v")])) for n in range(50)
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            file = source._file
            await source.aclose()
            assert file is not None
            async with asyncio.timeout(DEADLINE):
                outcomes = await asyncio.gather(*writing, return_exceptions=True)
            assert all(
                isinstance(outcome, Committed | WatchClosed | OutcomeUnknown)
                for outcome in outcomes
            ), outcomes
            found = await stored(source, f"k{turns}/")
            for n, outcome in enumerate(outcomes):
                if not isinstance(outcome, OutcomeUnknown):
                    assert (f"k{turns}/{n}" in found) == isinstance(outcome, Committed)
            await source.commit([Put("k", b"again")])
            await source.aclose()

    run(main())
