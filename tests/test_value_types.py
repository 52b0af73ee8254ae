"""Types by prefix: one watch, or view, over values of several types."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

import datasync
from datasync import BadPrefix, BadValue, DataSync, UsageError, blocking

Run = Callable[[Coroutine[Any, Any, None]], None]


class Interface(msgspec.Struct):
    name: str


class Route(msgspec.Struct):
    via: str


TYPES: dict[str, Any] = {"config/interface/": Interface, "config/route/": Route}


async def store(sync: DataSync) -> None:
    await (
        sync.txn()
        .put("config/interface/eth0", Interface("eth0"))
        .put("config/route/default", Route("eth0"))
        .put("config/route/local/lo", 1500)
        .put("config/note", b"raw")
        .commit()
    )


def keep(sync: DataSync, *prefixes: str, **options: Any) -> list[dict[str, Any]]:
    """What a handler is shown, event by event: the values that it gets for each key."""
    seen: list[dict[str, Any]] = []

    @sync.watcher(*prefixes, name="net", **options)
    async def handle(event: datasync.Event[Any]) -> None:
        seen.append({change.key: change.value for change in event.changes})
        for change in event.changes:  # what a copy decodes is of the same types
            for other in (copy.deepcopy(change), pickle.loads(pickle.dumps(change))):
                assert other.value == change.value

    return seen


def test_one_transaction_over_two_types_is_one_event(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://", label="vpp1")
        seen = keep(sync, types=TYPES)
        async with sync:
            await sync.ready(60)
            assert list(sync.status().watches[0].scopes) == list(TYPES)
            interface, route = Interface("eth0"), Route("eth0")
            await (
                sync.txn()
                .put("config/interface/eth0", interface)
                .put("config/route/default", route)
                .commit(confirm=60)
            )
            assert seen == [
                {},
                {"config/interface/eth0": interface, "config/route/default": route},
            ]

    run(main())


def test_the_longest_prefix_counts_and_all_else_is_bytes(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        types = {**TYPES, "config/route/local/": int}
        seen = keep(sync, "config/", types=types)
        view = sync.view("config/", types=types)
        async with sync:
            await store(sync)
            await sync.ready(60)
            expected = {
                "config/interface/eth0": Interface("eth0"),
                "config/note": b"raw",
                "config/route/default": Route("eth0"),
                "config/route/local/lo": 1500,
            }
            assert seen[-1] == expected
            assert dict(view) == expected

    run(main())


def test_the_type_of_all_other_keys_is_that_of_the_empty_prefix(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        seen = keep(sync, types={"config/interface/": Interface, "": str})
        async with sync:
            await sync.ready(60)
            await (
                sync.txn()
                .put("config/interface/eth0", Interface("eth0"))
                .put("note", "text")
                .commit(confirm=60)
            )
            # a prefix within another is not watched twice
            assert sync.status().watches[0].scopes == [""]
            assert seen[-1] == {"config/interface/eth0": Interface("eth0"), "note": "text"}

    run(main())


def test_single_keys_have_the_type_of_the_prefix_that_they_lie_in(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        seen = keep(sync, keys=["config/route/default"], types={"config/route/": Route})
        async with sync:
            await store(sync)
            await sync.ready(60)
            assert seen[-1] == {"config/route/default": Route("eth0")}

    run(main())


def test_a_prefix_is_added_with_a_type_of_its_own_and_taken_away_with_it(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        seen = keep(sync, "config/interface/", type=Interface)
        gone: list[Any] = []

        @sync.watcher("config/interface/", name="two")
        async def two(event: datasync.Event[Any]) -> None:
            gone.extend(change.prev.value for change in event.changes if change.prev is not None)

        async with sync:
            await store(sync)
            await sync.ready(60)
            watch = sync.watches["net"]
            watch.add_prefix("config/route/", type=Route)
            watch.add_prefix("config/route/local/", int)
            await sync.ready(60)
            assert seen[-1] == {
                "config/route/default": Route("eth0"),
                "config/route/local/lo": 1500,
            }

            sync.watches["two"].add_prefix("config/route/local/", int)
            await sync.ready(60)
            sync.watches["two"].remove_prefix("config/route/local/")
            await sync.ready(60)
            assert gone == [1500]  # what is gone is shown as what it was

            with pytest.raises(BadValue, match="no codec"):
                watch.add_prefix("config/other/", type=object())  # type: ignore[arg-type]
            watch.add_prefix("config/other/")
            await sync.put("config/other/eth1", Interface("eth1"), confirm=60)
            assert seen[-1] == {"config/other/eth1": Interface("eth1")}

    run(main())


def test_a_value_of_another_type_is_refused_for_its_key_alone(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        keep(sync, types=TYPES)
        async with sync:
            await sync.ready(60)
            with pytest.raises(datasync.NotApplied) as caught:
                await sync.put("config/route/default", Interface("eth0"), confirm=60)
            assert list(caught.value.reasons) == ["config/route/default"]

    run(main())


def test_the_blocking_face_has_them_too() -> None:
    with blocking.DataSync("memory://") as sync:
        sync.put("config/route/default", Route("eth0"))
        for event in sync.watch("net", types=TYPES):
            assert [change.value for change in event.changes] == [Route("eth0")]
            break
        with sync.view(types=TYPES) as view:
            assert dict(view.items()) == {"config/route/default": Route("eth0")}


@pytest.mark.parametrize(
    ("prefixes", "options", "error", "text"),
    [
        (
            ["a/"],
            {"type": int, "types": {"a/": int}},
            UsageError,
            "exclude each other; the type of",
        ),
        (
            ["a/"],
            {"types": {"a": int}},
            BadPrefix,
            "'a' would match its neighbours too; write 'a/'",
        ),
        (
            ["a/"],
            {"types": {"b/": int}},
            BadPrefix,
            "'b/', but 'net' shows nothing of it; give it as",
        ),
        (["a/"], {"types": int}, UsageError, "types= takes types by prefix; write for example"),
        (["a/"], {"types": {"a/": "int"}}, BadValue, "there is no codec for 'int'"),
        ([], {"types": {}}, UsageError, "a watch needs a prefix or keys="),
    ],
)
def test_what_makes_no_sense_is_said(
    prefixes: list[str], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    sync = DataSync("memory://")
    with pytest.raises(error, match=text):
        sync.watch("net", *prefixes, **options)
    assert not sync.watches


def test_a_view_shows_what_its_types_name() -> None:
    sync = DataSync("memory://")
    with pytest.raises(BadPrefix, match="'b/', but the view shows nothing of it"):
        sync.view("a/", types={"b/": int})
    with pytest.raises(UsageError, match="exclude each other"):
        sync.view("a/", type=int, types={"a/": int})  # type: ignore[call-overload]
    sync.view("a/b/", types={"a/": int})
