"""The FaultySource keeps the protocol of sources, and fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from datasync import (
    Conflict,
    DataSync,
    Disconnected,
    NotApplied,
    OutcomeUnknown,
    Refused,
    ResyncEvent,
    Unauthorized,
    UnsupportedOption,
)
from datasync.errors import HistoryLost
from datasync.source import (
    Check,
    Commit,
    Delete,
    Frame,
    Progress,
    Put,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)
from datasync.testing import EXACT, FaultySource, run_simulated

Body = Callable[[FaultySource], Awaitable[None]]


def on(source: FaultySource, body: Body) -> None:
    async def main() -> None:
        await body(source)

    run_simulated(main())


class Reader:
    """Takes the frames of a session as they come."""

    def __init__(self, session: Session) -> None:
        self.frames: list[Frame] = []
        self.session = session
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for frames in self.session:
            self.frames.extend(frames)

    async def settled(self) -> list[Frame]:
        await asyncio.sleep(200)
        return self.frames


def commits(frames: Sequence[Frame]) -> list[tuple[int, list[tuple[str, bytes | None]]]]:
    return [(frame.revision, list(frame.changes)) for frame in frames if isinstance(frame, Commit)]


def items(frames: Sequence[Frame]) -> list[tuple[str, bytes, int]]:
    return [item for frame in frames if isinstance(frame, SnapshotChunk) for item in frame.items]


def test_a_snapshot_is_of_one_moment_though_commits_come_between_its_chunks() -> None:
    async def body(source: FaultySource) -> None:
        reader = Reader(await source.open(["a/"]))
        await asyncio.sleep(1.5)  # between two chunks
        source.write({"a/1": b"new", "a/4": b"new", "b/1": b"other"})
        frames = await reader.settled()
        assert isinstance(frames[0], SnapshotBegin)
        assert items(frames) == [(f"a/{n}", b"old", 1) for n in (1, 2, 3)]
        end = frames[-2]
        assert isinstance(end, SnapshotEnd)
        assert end.revision == 1
        assert commits(frames[-1:]) == [(2, [("a/1", b"new"), ("a/4", b"new")])]

    on(FaultySource({f"a/{n}": b"old" for n in (1, 2, 3)}, chunk=1, delay=1.0), body)


def test_a_fuzzy_snapshot_is_put_right_by_the_commits_behind_it() -> None:
    capabilities = msgspec.structs.replace(EXACT, snapshot="fuzzy", resume=False, atomic=False)

    async def body(source: FaultySource) -> None:
        reader = Reader(await source.open([""]))
        for number in range(30):
            source.write(
                {f"a/{number % 4}": b"%d" % number, f"a/{number % 3}": None if number % 2 else b"x"}
            )
            await asyncio.sleep(0.3)
        frames = await reader.settled()
        state = {key: raw for key, raw, _ in items(frames)}
        revisions = {key: revision for key, _, revision in items(frames)}
        for revision, changes in commits(frames):
            for key, raw in changes:
                assert revision > revisions.get(key, 0)  # never older than what was read
                if raw is None:
                    state.pop(key, None)
                else:
                    state[key] = raw
        assert state == source.values

    on(
        FaultySource({"a/1": b"0", "a/2": b"0"}, capabilities=capabilities, chunk=1, delay=1.0),
        body,
    )


@pytest.mark.parametrize("after", range(8))
def test_a_session_can_be_cut_at_every_frame(after: int) -> None:
    async def body(source: FaultySource) -> None:
        source.disconnect(after=after) if after else None
        reader = Reader(await source.open([""]))
        if not after:
            source.disconnect()
        source.write({"a/9": b"1"})
        await asyncio.sleep(1)
        if after < 7:
            assert isinstance(reader.task.exception(), Disconnected)
            assert len(reader.frames) == after
        else:
            assert not reader.task.done()
            assert len(reader.frames) == 6
            reader.task.cancel()

    on(FaultySource({f"a/{n}": b"1" for n in (1, 2, 3)}, chunk=1), body)


def test_a_session_that_is_lost_does_not_say_that_it_has_caught_up() -> None:
    async def body(source: FaultySource) -> None:
        reader = Reader(await source.open([""]))
        await reader.settled()
        source.write({"a/1": b"2"})
        source.new_history()  # it holds nothing that the session has not shown
        with pytest.raises(Disconnected):
            await reader.session.caught_up()
        await asyncio.wait([reader.task])
        assert isinstance(reader.task.exception(), Disconnected)

    on(FaultySource({"a/1": b"1"}), body)


def test_a_session_goes_on_behind_its_position_and_takes_added_scopes_in_their_place() -> None:
    async def body(source: FaultySource) -> None:
        reader = Reader(await source.open(["a/"]))
        end = (await reader.settled())[-1]
        assert isinstance(end, SnapshotEnd)
        reader.task.cancel()
        source.write({"a/1": b"2", "b/1": b"2"})
        again = Reader(await source.open(["a/", "b/"], end.position, ["b/"]))
        source.write({"b/1": b"3"})
        frames = await again.settled()
        assert [type(frame) for frame in frames] == [
            Commit,
            SnapshotBegin,
            SnapshotChunk,
            SnapshotEnd,
        ]
        assert commits(frames)[0] == (2, [("a/1", b"2")])
        assert items(frames) == [("b/1", b"3", 3)]

    on(FaultySource({"a/1": b"1"}), body)


def test_a_position_proves_its_history() -> None:
    async def body(source: FaultySource) -> None:
        end = (await Reader(await source.open([""])).settled())[-1]
        assert isinstance(end, SnapshotEnd)
        source.write({"a/1": b"2"})
        source.compact()
        with pytest.raises(HistoryLost) as compacted:
            await source.open([""], end.position)
        assert not compacted.value.changed
        source.new_history({"a/1": b"0"}, revision=1)
        with pytest.raises(HistoryLost) as changed:
            await source.open([""], end.position)
        assert changed.value.changed
        again = (await Reader(await source.open([""])).settled())[-1]
        assert isinstance(again, SnapshotEnd)
        assert (again.revision, again.history) == (1, "h2")

    on(FaultySource({"a/1": b"1"}), body)


def test_faults_of_opening_come_as_told() -> None:
    async def body(source: FaultySource) -> None:
        source.fail_open(Unauthorized("who?"), Disconnected("busy"))
        with pytest.raises(Unauthorized):
            await source.open([""])
        with pytest.raises(Disconnected, match="busy"):
            await source.open([""])
        source.down()
        with pytest.raises(Disconnected, match="refused"):
            await source.open([""])
        with pytest.raises(Disconnected):
            await source.commit([Put("a", b"1")])
        source.heal()
        source.hang_open()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100):
                await source.open([""])
        source.heal()
        await source.open([""])
        assert source.opened == 1

    on(FaultySource(), body)


def test_a_source_that_hangs_says_nothing_and_answers_nothing() -> None:
    async def body(source: FaultySource) -> None:
        reader = Reader(await source.open([""]))
        seen = len(await reader.settled())
        source.hang()
        source.write({"a/1": b"2"})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100):
                await reader.session.ping()
        assert len(reader.frames) == seen
        source.heal()
        await reader.session.ping()
        assert commits(await reader.settled()) == [(2, [("a/1", b"2")])]

    on(FaultySource({"a/1": b"1"}), body)


def test_only_the_latest_value_where_that_is_all_it_promises() -> None:
    async def body(source: FaultySource) -> None:
        reader = Reader(await source.open([""]))
        await reader.settled()
        source.write({"a/1": b"1"})
        source.write({"a/2": b"1"})
        source.write({"a/1": b"2"})
        assert commits(await reader.settled()) == [(2, [("a/2", b"1")]), (3, [("a/1", b"2")])]

    on(FaultySource(capabilities=msgspec.structs.replace(EXACT, every_value=False)), body)


def test_keys_of_one_partition_keep_their_order_others_need_not() -> None:
    async def body(source: FaultySource) -> None:
        reader = Reader(await source.open([""]))
        await reader.settled()
        for number in range(40):
            source.write({f"a/{number % 5}": b"%d" % number})
        seen = commits(await reader.settled())
        revisions = [revision for revision, _ in seen]
        assert sorted(revisions) == list(range(1, 41))
        assert revisions != sorted(revisions)
        for partition in range(source.partitions):
            mine = [revision for revision, [(key, _)] in seen if source.partition(key) == partition]
            assert mine == sorted(mine)

    on(FaultySource(capabilities=msgspec.structs.replace(EXACT, order="key", atomic=False)), body)


def test_writes_check_delete_expire_and_may_lose_their_answer() -> None:
    async def body(source: FaultySource) -> None:
        done = await source.commit([Put("a/1", b"1", ttl=5.0), Put("a/2", b"1")])
        assert done.revision == 1
        with pytest.raises(Conflict):
            await source.commit([Check("a/1", 7), Put("a/1", b"2")])
        done = await source.commit([Check("a/2", 1), Delete("a/2"), Delete("nothing")])
        assert done.existed == [True, False]
        await asyncio.sleep(6)
        assert source.values == {}
        source.lose_acknowledgement()
        with pytest.raises(OutcomeUnknown):
            await source.commit([Put("a/3", b"1")])
        assert source.values == {"a/3": b"1"}
        assert await source.get("a/3") == (b"1", 4)
        await source.commit([Put(f"p/{n}", b"%d" % n) for n in range(5)])
        first, token = await source.page("p/", None, 3)
        rest, end = await source.page("p/", token, 3, keys_only=True)
        assert [key for key, _, _ in [*first, *rest]] == [f"p/{n}" for n in range(5)]
        assert rest[0][1] == b""
        assert end is None
        await source.commit([Delete("p/", prefix=True)])
        assert source.values == {"a/3": b"1"}

    on(FaultySource(), body)


def test_what_it_cannot_imitate_it_refuses() -> None:
    with pytest.raises(UnsupportedOption, match="resume=False"):
        FaultySource(capabilities=msgspec.structs.replace(EXACT, snapshot="fuzzy"))


def test_a_bookmark_comes_when_asked_for() -> None:
    async def body(source: FaultySource) -> None:
        reader = Reader(await source.open(["a/"]))
        await reader.settled()
        source.write({"b/1": b"1"})
        source.progress()
        last = (await reader.settled())[-1]
        assert isinstance(last, Progress)
        assert last.revision == 1

    on(FaultySource(), body)


@pytest.mark.parametrize("push", [False, True])
def test_replies_come_back_through_the_engine(push: bool) -> None:
    async def body(source: FaultySource) -> None:
        sync = DataSync(source)

        async def refuse(event: Any) -> None:
            if not isinstance(event, ResyncEvent):
                raise Refused({change.key: "no" for change in event.changes})

        sync.watcher("a/", name="a", type=bytes)(refuse)
        async with sync:
            await sync.ready(60)
            with pytest.raises(NotApplied) as caught:
                await sync.put("a/1", b"1", confirm=True)
            assert caught.value.reasons == {"a/1": "no"}
            heard: list[Any] = []
            source.write({"b/1": b"1"}, reply=heard.append)
            source.write({"a/1": b"2"}, reply=heard.append)
            await asyncio.sleep(1)
            assert [result.verdict.value for result in heard] == ["unwatched", "refused"]

    on(FaultySource(capabilities=msgspec.structs.replace(EXACT, reply=True), push=push), body)
