"""Events and what is in them, copied: by pickle for another process, and by `copy.deepcopy`."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from datasync import (
    Change,
    ChangeEvent,
    DataSync,
    DecodeError,
    KeyVal,
    Op,
    ResyncEvent,
    UsageError,
    Verdict,
)


def pickled(event: Any) -> Any:
    return pickle.loads(pickle.dumps(event))


def pickled_twice_by_the_oldest_protocol(event: Any) -> Any:
    return pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(event, 2)), 2))


copies = pytest.mark.parametrize(
    "copied", [pickled, pickled_twice_by_the_oldest_protocol, copy.deepcopy]
)


async def delivers(type_: Any, *raws: bytes) -> tuple[ResyncEvent[Any], ChangeEvent[Any]]:
    """A RESYNC of "a/key" with the first value, and the change of it to each that follows,
    the last one returned.
    """
    events: list[Any] = []
    async with DataSync("memory://") as sync:
        await sync.put("a/key", raws[0])

        @sync.watcher("a/", name="it", type=type_)
        async def handle(event: Any) -> None:
            events.append(event)

        await sync.ready(60)
        for raw in raws[1:]:
            await sync.put("a/key", raw, confirm=60)
    return events[0], events[-1]


def delivered(type_: Any, *raws: bytes) -> tuple[ResyncEvent[Any], ChangeEvent[Any]]:
    return asyncio.run(delivers(type_, *raws))


@copies
def test_a_copied_change_says_what_the_change_did(copied: Callable[[Any], Any]) -> None:
    _, event = delivered(dict[str, int], b'{"n":1}', b'{"n":2}')
    its: Any = event.changes[0].value
    its["n"] = 3  # what a handler does to a value is not copied

    copy_ = copied(event)
    assert type(copy_) is ChangeEvent
    assert (copy_.revision, copy_.source, copy_.attempt, copy_.commits) == (2, event.source, 1, 1)
    (change,) = copy_.changes
    assert type(change) is Change
    assert (change.op, change.key, change.revision, change.source) == (
        Op.PUT,
        "a/key",
        2,
        "memory://",
    )
    assert (change.raw, change.value) == (b'{"n":2}', {"n": 2})
    assert type(change.prev) is KeyVal
    assert (change.prev.key, change.prev.revision, change.prev.source) == ("a/key", 1, "memory://")
    assert (change.prev.raw, change.prev.value) == (b'{"n":1}', {"n": 1})
    assert repr(copy_) == repr(event)


@copies
def test_a_copied_resync_holds_its_values_and_its_changes(copied: Callable[[Any], Any]) -> None:
    event, _ = delivered(int, b"1")
    copy_: Any = copied(event)
    assert isinstance(copy_, ResyncEvent)
    assert (copy_.revision, copy_.reason, copy_.attempt) == (event.revision, event.reason, 1)
    assert {
        prefix: [(kv.key, kv.value) for kv in values] for prefix, values in copy_.values.items()
    } == {"a/": [("a/key", 1)]}
    assert len(copy_.values["a/"]) == 1
    assert [(change.op, change.key, change.value, change.prev) for change in copy_.changes] == [
        (Op.PUT, "a/key", 1, None)
    ]
    assert type(copy_.values) is MappingProxyType


@copies
def test_a_copy_names_what_does_not_decode(copied: Callable[[Any], Any]) -> None:
    resync, change = delivered(int, b"no", b"1", b"neither")
    for event in resync, change:
        copy_ = copied(event)
        assert {key: (type(why), str(why)) for key, why in copy_.undecodable.items()} == {
            key: (type(why), str(why)) for key, why in event.undecodable.items()
        }
    with pytest.raises(DecodeError, match="a/key"):
        _ = copied(change.changes[0]).value


@copies
@pytest.mark.parametrize("codec", ["json", "proto"])
@pytest.mark.parametrize("message", [StringValue(value="x"), Struct(fields={})])
def test_copies_decode_as_their_watch_does(
    copied: Callable[[Any], Any], message: Any, codec: str
) -> None:
    async def stored() -> Any:
        async with DataSync("memory://", codec=codec) as sync:
            await sync.put("key", message)
            return await sync.get("key", type(message))

    found = asyncio.run(stored())
    assert found is not None
    assert copied(found).value == message
    assert type(copied(found).value) is type(message)


@copies
def test_a_report_on_a_copy_is_an_error(copied: Callable[[Any], Any]) -> None:
    for event in delivered(bytes, b"1", b"2"):
        copy_ = copied(event)
        for report in copy_.done, lambda copy_=copy_: copy_.done(ValueError()), copy_.defer:
            with pytest.raises(
                UsageError, match=f"this {type(event).__name__} is a copy.*the watch delivered"
            ):
                report()


@copies
def test_a_copy_is_nothing_to_the_watch(copied: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:

            @sync.watcher("", name="it")
            async def handle(event: Any) -> None:
                copied(event).changes.clear()
                event.defer()
                event.done()

            await sync.put("key", b"1", confirm=60)
            assert sync.status().watches[0].failing is None

    asyncio.run(main())


PROGRAM = """
import pickle, sys
change = pickle.load(sys.stdin.buffer).changes[0]
print(change.op, change.key, change.value, change.prev.value, change.source)
"""


def test_another_process_reads_a_pickled_event() -> None:
    _, event = delivered(dict, b'{"n":1}', b'{"n":2}')
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=pickle.dumps(event),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert told.stdout.decode().strip() == "Op.PUT a/key {'n': 2} {'n': 1} memory://", (
        told.stderr.decode()
    )


@copies
def test_what_is_named_stays_itself(copied: Callable[[Any], Any]) -> None:
    assert copied(Op.DELETE) is Op.DELETE
    assert copied(Verdict.REFUSED) is Verdict.REFUSED
