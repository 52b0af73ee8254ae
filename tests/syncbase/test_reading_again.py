"""What a session without revisions may do: read everything again,
and tell when it has caught up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from datasync import Capabilities, DataSync
from datasync.source import (
    Commit,
    Committed,
    Frame,
    Item,
    Operation,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Source,
)  # fmt: skip
from datasync.testing.contract import Probe, eventually


class Told(Source):
    """A source whose only session yields what the test tells it to."""

    name = "told"
    capabilities = Capabilities(
        order="key", atomic=False, snapshot="fuzzy", every_value=False, revisions=False,
        resume=False,
        ttl=False, cas=False, reply=False, durable=False,
    )  # fmt: skip

    def __init__(self, prefix: str = "") -> None:
        self.frames: asyncio.Queue[Sequence[Frame]] = asyncio.Queue()
        self.prefix = prefix
        self.caught_up = asyncio.Event()
        self.waiting = 0

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        return ToldSession(self)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        return Committed(None, [])

    async def get(self, key: str) -> tuple[bytes, int] | None:
        return None

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        return [], None

    def snapshot(self, same_history: bool, **items: bytes) -> None:
        """Yield a whole snapshot."""
        chunk = SnapshotChunk([(f"{self.prefix}a/{key}", raw, 0) for key, raw in items.items()])
        self.frames.put_nowait(
            [SnapshotBegin([self.prefix]), chunk, SnapshotEnd(None, same_history=same_history)]
        )

    def commits(self, **changes: bytes | None) -> None:
        """Yield one commit a key."""
        self.frames.put_nowait(
            [Commit(None, 0, [(f"{self.prefix}a/{key}", raw)]) for key, raw in changes.items()]
        )


class ToldSession(Session):
    def __init__(self, source: Told) -> None:
        self._source = source

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        while True:
            yield await self._source.frames.get()

    async def caught_up(self) -> None:
        self._source.waiting += 1
        await self._source.caught_up.wait()


@contextlib.asynccontextmanager
async def told(prefix: str = "") -> AsyncIterator[tuple[Told, DataSync, Probe]]:
    source = Told(prefix)
    source.snapshot(False, kept=b"1", changed=b"1", gone=b"1")
    sync = DataSync(source, prefix=prefix)
    probe = Probe(name="probe", prefixes=("a/",))
    sync.watcher("a/", name="probe")(probe)
    async with sync:
        await sync.ready(60)
        yield source, sync, probe
    probe.check()


@pytest.mark.parametrize("prefix", ["", "below/"])
def test_a_snapshot_of_the_same_history_shows_what_differs_as_a_change(prefix: str) -> None:
    async def main() -> None:
        async with told(prefix) as (source, _, probe):
            source.snapshot(True, kept=b"1", changed=b"2", new=b"1")
            source.commits(last=b"1")
            await eventually(lambda: "a/last" in probe.state)
            assert len(probe.resyncs) == 1
            first = probe.changes[0]
            assert {change.key: (change.prev and change.prev.raw, change.raw) for change in first.changes} == {
                "a/changed": (b"1", b"2"), "a/new": (None, b"1"), "a/gone": (b"1", None),
            }  # fmt: skip
            # where nothing differs, nothing is shown
            source.snapshot(True, kept=b"1", changed=b"2", new=b"1", last=b"1")
            source.commits(last=b"2")
            await eventually(lambda: probe.state["a/last"] == b"2")
            assert len(probe.changes) == 3
            assert len(probe.resyncs) == 1

    asyncio.run(main())


def test_any_other_snapshot_in_mid_session_is_a_round() -> None:
    async def main() -> None:
        async with told() as (source, _, probe):
            source.snapshot(False, kept=b"1")
            await eventually(lambda: probe.state == {"a/kept": b"1"})
            assert [resync.reason for resync in probe.resyncs] == ["start", "resync by the source"]

    asyncio.run(main())


def test_what_waits_behind_a_failing_event_comes_with_it() -> None:
    async def main() -> None:
        async with told() as (source, _, probe):
            probe.gate.clear()
            source.commits(kept=b"2")
            await eventually(lambda: probe.changes)
            probe.answers.append(ValueError("not now"))
            source.commits(changed=b"3", new=b"1")
            source.snapshot(True, kept=b"2", changed=b"4")
            await asyncio.sleep(0)
            probe.gate.set()
            await eventually(lambda: probe.state == {"a/kept": b"2", "a/changed": b"4"})
            assert len(probe.resyncs) == 1

    asyncio.run(main())


def test_a_confirmed_write_hears_of_the_commit_that_shows_it_not_of_one_before() -> None:
    async def main() -> None:
        async with told() as (source, sync, probe):
            put = asyncio.ensure_future(sync.put("a/changed", b"mine", confirm=True))
            await eventually(lambda: source.waiting)
            source.commits(changed=b"another's, from before")
            await eventually(lambda: len(probe.changes) == 1)
            assert not put.done()
            source.commits(changed=b"mine")
            await eventually(lambda: len(probe.changes) == 2)
            source.caught_up.set()
            await put
            # a later write that hides it is as good
            source.caught_up.clear()
            put = asyncio.ensure_future(sync.put("a/changed", b"hidden", confirm=True))
            await eventually(lambda: source.waiting == 2)
            source.commits(changed=b"later")
            source.caught_up.set()
            await put
            # and there is an end to it
            source.caught_up.clear()
            with pytest.raises(Exception, match="overdue"):
                await sync.put("a/changed", b"never seen", confirm=0.2)

    asyncio.run(main())
