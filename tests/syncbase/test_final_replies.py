"""Replies that a source wants only once a commit is through with: not at a first failure,
nor when it is overdue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from datasync import Backoff, DataSync, NotApplied, Refused, Verdict
from datasync.source import Commit, Result, SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.testing.contract import Probe, eventually
from tests.syncbase.test_reading_again import Told

QUICK = Backoff(initial=0.01, maximum=0.01)


class Asking(Told):
    """Notes the replies to its frames by name."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: list[tuple[str, Verdict]] = []

    def yields(self, name: str, key: str, raw: bytes, *, final: bool = True) -> None:
        """Yield a commit of one key."""

        def reply(result: Result) -> None:
            self.replies.append((name, result.verdict))

        self.frames.put_nowait([Commit(None, 0, [(f"a/{key}", raw)], reply, final)])

    def resync(self, name: str, *, final: bool = True) -> None:
        """Yield a snapshot of one key."""

        def reply(result: Result) -> None:
            self.replies.append((name, result.verdict))

        chunk = SnapshotChunk([("a/kept", b"1", 0)])
        self.frames.put_nowait(
            [SnapshotBegin([""]), chunk, SnapshotEnd(None, reply=reply, final=final)]
        )


@contextlib.asynccontextmanager
async def asking(prefix: str | None = None) -> AsyncIterator[tuple[Asking, DataSync, Probe]]:
    source = Asking()
    source.snapshot(False, kept=b"1")
    scope = "a/" if prefix is None else ""
    probe = Probe(name="probe", prefixes=(scope,))
    sync = DataSync(
        source, prefix=prefix, ack_timeout=0.2, resync_timeout=0.2, retry=QUICK, retries=3
    )
    sync.watcher(scope, name="probe")(probe)
    async with sync:
        await sync.ready(60)
        yield source, sync, probe
    probe.check()


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("prefix", [None, "a/"])
def test_a_failed_commit(final: bool, prefix: str | None) -> None:
    async def main() -> None:
        async with asking(prefix) as (source, _, probe):
            # twice as a change, then as a RESYNC
            probe.answers.extend([ValueError("no")] * 4)
            source.yields("failed", "x", b"1", final=final)
            await eventually(lambda: len(probe.events) == 1 + 5)
            await eventually(lambda: source.replies)
            assert source.replies == [("failed", Verdict.ACCEPTED if final else Verdict.FAILED)]
            assert len(probe.resyncs) > 1

    asyncio.run(main())


def test_an_overdue_commit_and_what_waits_behind_it() -> None:
    async def main() -> None:
        async with asking() as (source, sync, probe):
            probe.gate.clear()
            source.yields("overdue", "x", b"1")
            source.yields("overwritten", "y", b"1")
            source.yields("behind", "y", b"2")
            source.yields("another's", "z", b"1", final=False)
            await eventually(lambda: source.replies)
            assert source.replies == [("another's", Verdict.OVERDUE)]
            assert sync.status().watches[0].state == "overdue"
            probe.answers.extend([None, Refused({"a/y": "no"})])
            probe.gate.set()
            await eventually(lambda: len(source.replies) == 4)
            assert source.replies[1] == ("overdue", Verdict.ACCEPTED)
            assert {name for name, _ in source.replies} == {
                "overdue",
                "another's",
                "overwritten",
                "behind",
            }

    asyncio.run(main())


@pytest.mark.parametrize("final", [False, True])
def test_a_snapshot_that_fails_and_is_overdue(final: bool) -> None:
    async def main() -> None:
        async with asking() as (source, sync, probe):
            probe.answers.append(ValueError("no"))
            source.resync("failed", final=final)
            await eventually(lambda: source.replies)
            assert source.replies == [("failed", Verdict.ACCEPTED if final else Verdict.FAILED)]
            await eventually(
                lambda: len(probe.resyncs) == 3 and sync.status().watches[0].state == "following"
            )
            probe.gate.clear()
            source.resync("overdue", final=final)
            await eventually(lambda: len(probe.resyncs) == 4)
            if not final:
                await eventually(lambda: source.replies[1:] == [("overdue", Verdict.OVERDUE)])
            probe.gate.set()
            await eventually(lambda: source.replies[1:])
            assert source.replies[1][1] is (Verdict.ACCEPTED if final else Verdict.OVERDUE)

    asyncio.run(main())


def test_the_end_of_a_snapshot_does_not_confirm_a_write_that_is_overdue() -> None:
    """It may have begun before the write: only the source could have told, and had no time."""

    async def main() -> None:
        async with asking() as (source, sync, probe):
            put = asyncio.ensure_future(sync.put("a/late", b"1", confirm=0.3))
            await eventually(lambda: source.waiting)
            done, _ = await asyncio.wait([put], timeout=0.4)
            source.snapshot(False, kept=b"2")
            await eventually(lambda: probe.state == {"a/kept": b"2"})
            with pytest.raises(NotApplied) as caught:
                await put
            assert caught.value.verdict is Verdict.OVERDUE
            assert done

    asyncio.run(main())
