"""The hub: one session upstream, many watchers downstream,
each with the whole of the guarantees.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, MutableSequence, Sequence
from typing import Any

import pytest

from datasync import Backoff, Disconnected, HistoryLost
from datasync.kvdbsync.memory import MemorySource
from datasync.options import Options
from datasync.serving import images
from datasync.serving.hub import Encode, Hub, Subscription
from datasync.serving.log import CommitLog
from datasync.source import (
    Commit,
    Delete,
    Frame,
    Progress,
    PushSession,
    Put,
    Scopes,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)
from datasync.testing.contract import eventually
from tests.contract.test_memory import Server, Wire
from tests.helpers.memory import memory_below

Run = Callable[[Coroutine[Any, Any, None]], None]
QUICK = Options(reconnect=Backoff(initial=0.01, maximum=0.05))


def plain(frame: Frame) -> Frame:
    """The form in which these tests watch."""
    return frame


class Follower:
    """A watcher that keeps what it is told."""

    def __init__(
        self,
        hub: Hub,
        *scopes: str,
        resume: str | None = None,
        added: Sequence[str] = (),
        encode: Encode[Frame] = plain,
    ) -> None:
        self.subscription: Subscription[Frame] = hub.subscribe(scopes, resume, added, encode=encode)
        self.frames: MutableSequence[Frame] = []
        self.state: dict[str, bytes] = {}
        self.position = resume or ""
        self.snapshots = 0
        self.revision = 0
        self._staging: dict[str, bytes] = {}

    async def follow(self) -> None:
        async for frames in self.subscription:
            for frame in frames:
                self.take(frame)

    def take(self, frame: Frame) -> None:
        self.frames.append(frame)
        match frame:
            case SnapshotBegin():
                self._staging = {}
            case SnapshotChunk(items):
                self._staging.update((key, raw) for key, raw, _ in items)
            case SnapshotEnd(position, revision):
                self.state, self.position, self.revision = self._staging, position, revision
                self.snapshots += 1
            case Commit(position, revision, changes):
                assert revision > self.revision
                self.position, self.revision = position, revision
                for key, raw in changes:
                    self.state.pop(key, None) if raw is None else self.state.__setitem__(key, raw)
            case Progress(position, revision):
                assert revision >= self.revision
                self.position, self.revision = position, revision


@contextlib.asynccontextmanager
async def following(*followers: Follower) -> AsyncIterator[None]:
    """Within the block they follow."""
    tasks = [asyncio.create_task(follower.follow()) for follower in followers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


def test_a_snapshot_then_the_commits_of_the_scopes(run: Run) -> None:
    async def main() -> None:
        source = MemorySource()
        await source.commit([Put("a/1", b"1"), Put("b/1", b"2"), Put("c", b"3")])
        async with Hub(source) as hub:
            follower = Follower(hub, "a/", "c")
            async with following(follower):
                await eventually(lambda: follower.state == {"a/1": b"1", "c": b"3"})
                await source.commit([Put("a/2", b"4"), Put("b/2", b"5"), Delete("c")])
                await eventually(lambda: follower.state == {"a/1": b"1", "a/2": b"4"})
                last = follower.frames[-1]
                assert isinstance(last, Commit)
                assert last.changes == [("a/2", b"4"), ("c", None)]
                # does not concern it, yet it hears how far things are
                await source.commit([Put("b/3", b"6")])
                await eventually(lambda: follower.revision == 3)
                assert isinstance(follower.frames[-1], Progress)

    run(main())


def test_resume_brings_what_was_missed_and_nothing_twice(run: Run) -> None:
    async def main() -> None:
        source = MemorySource()
        async with Hub(source) as hub:
            first = Follower(hub, "a/")
            async with following(first):
                await source.commit([Put("a/1", b"1")])
                await eventually(lambda: first.state == {"a/1": b"1"})
            await source.commit([Put("b/1", b"0")])
            await source.commit([Put("a/1", b"2")])
            second = Follower(hub, "a/", "b/", resume=first.position, added=["b/"])
            async with following(second):
                await eventually(lambda: second.snapshots == 1)
                await source.commit([Put("a/2", b"3")])
                await eventually(lambda: len(second.frames) == 6)
            kinds = [type(frame).__name__ for frame in second.frames]
            assert kinds == [
                "Commit",
                "Commit",
                "SnapshotBegin",
                "SnapshotChunk",
                "SnapshotEnd",
                "Commit",
            ]
            assert second.frames[2] == SnapshotBegin(["b/"])
            third = Follower(hub, "a/", resume=second.position)
            async with following(third):  # at the head: it is told so at once
                await eventually(lambda: third.frames)
            assert third.frames == [Progress(second.position, source._revision)]

    run(main())


def test_no_resume_without_proof(run: Run) -> None:
    async def main() -> None:
        source = MemorySource()
        async with Hub(source) as hub, Hub(source) as other:
            follower = Follower(hub, "")
            async with following(follower):
                await eventually(lambda: follower.snapshots)
            for position in (follower.position, "", "x.1", "\udc80.1"):
                with pytest.raises(HistoryLost, match="another run"):
                    other.subscribe([""], position, encode=plain)
            history, _, _ = follower.position.rpartition(".")
            for bad in ("99", "-1", "x", "\u00b2"):
                with pytest.raises(HistoryLost):
                    hub.subscribe([""], f"{history}.{bad}", encode=plain)
            for number in range(10_000):
                await source.commit([Put("a", str(number).encode())])
            with pytest.raises(HistoryLost, match="does not keep"):
                hub.subscribe([""], follower.position, encode=plain)

    run(main())


def test_one_that_does_not_read_delays_nobody_and_costs_nothing(run: Run) -> None:
    async def main() -> None:
        source = MemorySource()
        async with Hub(source) as hub:
            stuck, quick = Follower(hub, ""), Follower(hub, "")
            quick.frames = deque(maxlen=10)
            batches = aiter(stuck.subscription)
            for _ in range(2):  # an empty snapshot
                for frame in await anext(batches):
                    stuck.take(frame)
            async with following(quick):
                await eventually(lambda: quick.snapshots)
                value = bytes(10_000)
                with memory_below(150 << 20):  # of 200 MB that are written
                    for number in range(20_000):
                        await source.commit([Put(f"k{number % 50}", value + str(number).encode())])
                        if number % 1000 == 999:
                            await asyncio.sleep(0)
                await eventually(lambda: quick.revision == source._revision)
            assert quick.snapshots == 1
            assert hub.log.floor > 1
            while stuck.revision < source._revision:
                for frame in await anext(batches):
                    stuck.take(frame)
            assert stuck.snapshots == 2  # it was behind the log
            assert stuck.state == quick.state
            await stuck.subscription.aclose()
            assert not hub.watchers

    run(main())


def test_a_snapshot_read_too_slowly_is_given_up_where_others_wait(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_MOST", 1)
    monkeypatch.setattr(images, "_PATIENCE", 0.2)

    async def main() -> None:
        source = MemorySource()
        await source.commit([Put(f"k{number}", b"") for number in range(5000)])
        async with Hub(source) as hub:
            slow = aiter(Follower(hub, "").subscription)
            await anext(slow)
            [image] = hub.images._held
            await source.commit([Put("k", b"")])
            other = Follower(hub, "")
            async with following(other):
                await eventually(lambda: image.revoked, 60)
                assert not other.frames
                with pytest.raises(Disconnected, match="too slowly"):
                    await anext(slow)
                await eventually(lambda: other.snapshots, 60)

    run(main())


def test_who_waits_for_a_snapshot_hears_of_the_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_MOST", 1)

    async def main() -> None:
        source = MemorySource()
        await source.commit([Put("k", b"")])
        async with Hub(source) as hub:
            reading = aiter(Follower(hub, "").subscription)
            await anext(reading)
            await source.commit([Put("k", b"1")])
            gone, waiting = (asyncio.create_task(Follower(hub, "").follow()) for _ in range(2))
            await eventually(lambda: sum(map(len, hub.images._waiting.values())) == 2)
            gone.cancel()
            await asyncio.wait([gone])
            await hub.aclose()
            with pytest.raises(Disconnected, match="not served any more"):
                await waiting

    run(main())


@pytest.mark.parametrize("same", [True, False], ids=["all", "each its own keys"])
def test_a_storm_of_snapshots_under_writes_is_bounded_and_starves_nobody(
    run: Run, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """The ninth snapshot took the first one away from its readers, who asked for another one."""
    watchers, keys, value = 300, 10, bytes(1000)
    whole = 2 * watchers * keys * (100 + len("agent/000/0") + len(value))
    most = 2 * whole if same else whole // 10
    monkeypatch.setattr(images, "_MOST", most)
    ends, held = 0, 0

    async def main() -> None:
        nonlocal ends, held

        def encode(frame: Frame) -> Frame:
            nonlocal ends, held
            ends += isinstance(frame, SnapshotEnd)
            held = max(held, sum(image.size for image in hub.images._held))
            return frame

        async def follow(number: int) -> dict[str, bytes]:
            """At the pace of a client that makes the server wait."""
            state: dict[str, bytes] = {}
            async with contextlib.aclosing(hub.subscribe([scope(number)], encode=encode)) as frames:
                async for [frame] in frames:
                    if isinstance(frame, SnapshotChunk):
                        state.update((key, raw) for key, raw, _ in frame.items)
                    elif isinstance(frame, SnapshotEnd):
                        break
                    for _ in range(10):
                        await asyncio.sleep(0)
            return state

        def scope(number: int) -> str:
            return "" if same else f"agent/{number:03}/"

        source = MemorySource()
        names = [f"agent/{number:03}/{key}" for number in range(watchers) for key in range(keys)]
        await source.commit([Put(name, value) for name in names])
        async with Hub(source) as hub:
            following = []
            for number in range(watchers):
                following.append(asyncio.create_task(follow(number)))
                await source.commit([Put(names[0], bytes(number))])
                await asyncio.sleep(0)
            while not all(one.done() for one in following):
                await source.commit([Put(names[0], b"")])
                await asyncio.sleep(0)
            for number, one in enumerate(following):
                assert one.result().keys() == {
                    name for name in names if name.startswith(scope(number))
                }
            assert not hub.images._waiting
            assert 0 < held <= most
            assert ends <= (watchers // 10 if same else watchers)

    run(main())


def test_a_snapshot_of_a_few_keys_costs_nothing_for_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each watcher had all keys looked at, to find its own."""
    looked, encoded = 0, 0
    keep = Scopes.keep

    def keeping(self: Scopes, changes: Sequence[Any]) -> Sequence[Any]:
        nonlocal looked
        looked += len(changes)
        return keep(self, changes)

    def encode(frame: Frame) -> Frame:
        nonlocal encoded
        encoded += len(frame.items) if isinstance(frame, SnapshotChunk) else 0
        return frame

    async def main() -> None:
        source = MemorySource()
        await source.commit([Put(f"agent/{number % 500}/{number}", b"") for number in range(5000)])
        async with Hub(source) as hub:
            followers = [Follower(hub, f"agent/{number}/", encode=encode) for number in range(500)]
            monkeypatch.setattr(Scopes, "keep", keeping)
            async with following(*followers):
                await eventually(lambda: all(one.snapshots for one in followers), 60)
                await source.commit([Put("agent/7/0", b""), Delete("agent/8/8")])
                late = [Follower(hub, f"agent/{number}/", encode=encode) for number in (7, 8)]
                async with following(*late):
                    await eventually(lambda: all(one.snapshots for one in late), 60)
            assert [len(one.state) for one in late] == [11, 9]
            assert encoded == 5000 + 11 + 9
            assert looked <= 10 * len(followers)

    run(main())


def test_a_commit_is_encoded_once_for_all_that_want_the_same(run: Run) -> None:
    async def main() -> None:
        source = MemorySource()
        encoded: Counter[str] = Counter()
        begun = 0

        def counting(frame: Frame) -> Frame:
            encoded[type(frame).__name__] += 1
            return frame

        async def follow(subscription: Subscription[Frame], wanted: int) -> None:
            nonlocal begun
            commits = 0
            async for frames in subscription:
                begun += any(type(frame) is SnapshotEnd for frame in frames)
                commits += sum(type(frame) is Commit for frame in frames)
                if commits == wanted:
                    return

        await source.commit([Put(f"a/{number}", b"") for number in range(2500)])
        async with Hub(source) as hub, asyncio.TaskGroup() as group:
            for scopes in [[""], ["a/"], ["a/", "b/"]] * 20:
                group.create_task(follow(hub.subscribe(scopes, encode=counting), 10))
            await eventually(lambda: begun == 60)
            for number in range(10):
                await source.commit([Put(f"a/{number}", b"new")])
        assert encoded["SnapshotChunk"] == 3
        assert encoded["SnapshotEnd"] == 1
        assert encoded["Commit"] == 10

    run(main())


def test_the_source_is_lost_emptied_and_compacted(run: Run) -> None:
    async def main() -> None:
        server = Server()
        wire, direct = Wire(server), Wire(server)
        async with Hub(wire, QUICK) as hub:
            follower = Follower(hub, "")
            async with following(follower):
                await direct.commit([Put("a", b"1")])
                await eventually(lambda: follower.state == {"a": b"1"})
                await wire.lose()
                await direct.commit([Put("a", b"2"), Put("b", b"1")])
                await wire.restore()
                await eventually(lambda: follower.state == {"a": b"2", "b": b"1"})
                assert follower.snapshots == 1  # the hub continued
                await wire.lose()
                await direct.commit([Delete("a")])
                await server.compact()
                await wire.restore()
                await eventually(lambda: follower.state == {"b": b"1"})
                assert follower.snapshots == 2
                ends = [
                    frame.history for frame in follower.frames if isinstance(frame, SnapshotEnd)
                ]
                follower.revision = 0
                await server.empty()
                await eventually(lambda: follower.snapshots == 3 and follower.state == {})
                last = next(
                    frame.history
                    for frame in reversed(follower.frames)
                    if isinstance(frame, SnapshotEnd)
                )
                assert ends[0] == ends[1] != last

    run(main())


class LateSession(Session):
    """Hands on what a memory store pushes, as soon as its source lets it."""

    def __init__(self, source: Late, session: PushSession) -> None:
        self.source = source
        self.session = session
        self.frames: asyncio.Queue[Sequence[Frame] | asyncio.Future[None] | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        self.session.attach(self.frames.put_nowait)
        while (frames := await self.frames.get()) is not None:
            await self.source.flowing.wait()
            if not isinstance(frames, asyncio.Future):
                yield frames
            elif not frames.done():
                frames.set_result(None)

    async def caught_up(self) -> None:
        self.source.asked += 1
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.frames.put_nowait(reached)
        await reached

    async def aclose(self) -> None:
        self.frames.put_nowait(None)
        while not self.frames.empty():
            waiting = self.frames.get_nowait()
            if isinstance(waiting, asyncio.Future) and not waiting.done():
                waiting.set_exception(Disconnected("closed"))
        await self.session.aclose()


class Late(MemorySource):
    """A store whose sessions bring what it acknowledged only while it is `flowing`."""

    def __init__(self) -> None:
        super().__init__("late")
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.asked = 0
        self.late_sessions: list[LateSession] = []

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        session = await super().open(scopes, resume, added)
        assert isinstance(session, PushSession)
        self.late_sessions.append(LateSession(self, session))
        return self.late_sessions[-1]


def test_a_snapshot_holds_what_the_source_had_acknowledged(run: Run) -> None:
    async def main() -> None:
        source = Late()
        async with Hub(source, QUICK) as hub:
            await eventually(lambda: hub.ready)
            source.flowing.clear()
            await source.commit([Put("a", b"1")])  # the hub does not hear of it yet
            fresh = Follower(hub, "")
            widened = Follower(hub, "", resume=hub.log.position(hub.log.seq), added=["a"])
            resumed = Follower(hub, "", resume=hub.log.position(hub.log.seq))
            async with following(fresh, widened, resumed):
                await eventually(lambda: resumed.frames)
                await asyncio.sleep(0.05)
                assert not fresh.frames
                assert not widened.frames
                source.flowing.set()
                await eventually(lambda: fresh.snapshots and widened.snapshots and resumed.state)
                assert [type(frame) for frame in fresh.frames] == [
                    SnapshotBegin,
                    SnapshotChunk,
                    SnapshotEnd,
                ]
                assert fresh.state == widened.state == {"a": b"1"}

    run(main())


def test_a_snapshot_waits_for_a_source_that_is_lost(run: Run) -> None:
    async def main() -> None:
        source = Late()
        async with Hub(source, QUICK) as hub:
            await eventually(lambda: hub.ready)
            source.flowing.clear()
            await source.commit([Put("a", b"1")])
            follower = Follower(hub, "")
            async with following(follower):
                await eventually(lambda: source.asked)
                await source.late_sessions[0].aclose()
                source.flowing.set()
                await eventually(lambda: follower.snapshots)
                assert follower.state == {"a": b"1"}
                assert follower.snapshots == 1

    run(main())


def test_who_comes_at_the_same_time_shares_what_is_asked(run: Run) -> None:
    async def main() -> None:
        source = Late()
        async with Hub(source, QUICK) as hub:
            await eventually(lambda: hub.ready)
            source.flowing.clear()
            followers = [Follower(hub, "") for _ in range(200)]
            async with following(*followers):
                await eventually(lambda: source.asked)
                followers += [Follower(hub, "") for _ in range(200)]
                async with following(*followers[200:]):
                    source.flowing.set()
                    await eventually(lambda: all(one.snapshots for one in followers))
            assert source.asked <= 3

    run(main())


def test_who_waits_for_the_source_hears_of_the_end(run: Run) -> None:
    async def main() -> None:
        source = Late()
        async with Hub(source, QUICK) as hub:
            await eventually(lambda: hub.ready)
            source.flowing.clear()
            waiting = asyncio.create_task(hub.catch_up())
            await eventually(lambda: source.asked)
            await hub.aclose()
            with pytest.raises(Disconnected, match="not served any more"):
                await asyncio.wait_for(waiting, 60)

    run(main())


def test_watchers_wait_for_a_source_that_is_not_there_yet_and_hear_of_the_end(run: Run) -> None:
    async def main() -> None:
        server = Server()
        wire = Wire(server)
        await wire.lose()
        hub = Hub(wire, QUICK)
        await hub.start()
        follower = Follower(hub, "")
        task = asyncio.create_task(follower.follow())
        await asyncio.sleep(0)
        assert not hub.ready
        await wire.restore()
        await eventually(lambda: follower.snapshots == 1)
        await hub.aclose()
        with pytest.raises(Disconnected, match="not served any more"):
            await task

    run(main())


def test_a_thousand_watchers(run: Run) -> None:
    async def main() -> None:
        source = MemorySource()
        async with Hub(source) as hub:
            followers = [Follower(hub, "") for _ in range(1000)]
            async with following(*followers):
                await eventually(lambda: all(follower.snapshots for follower in followers))
                for number in range(100):
                    await source.commit([Put("k", str(number).encode())])
                await eventually(
                    lambda: all(follower.revision == 100 for follower in followers), 60
                )
            for follower in followers:
                assert [
                    frame.revision for frame in follower.frames if type(frame) is Commit
                ] == list(range(1, 101))

    run(main())


def test_watchers_of_other_keys_cost_a_large_commit_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each watcher looking at each key held up everything for seconds."""
    looked = 0
    contains, keep = Scopes.__contains__, Scopes.keep

    def counting(self: Scopes, key: str) -> bool:
        nonlocal looked
        looked += 1
        return contains(self, key)

    def keeping(self: Scopes, changes: Sequence[Any]) -> Sequence[Any]:
        nonlocal looked
        looked += len(changes)
        return keep(self, changes)

    async def main() -> None:
        source = MemorySource()
        async with Hub(source) as hub:
            followers = [
                Follower(hub, f"agent/{number}/", f"one/{number}") for number in range(1000)
            ]
            async with following(*followers):
                await eventually(lambda: all(follower.snapshots for follower in followers))
                monkeypatch.setattr(Scopes, "__contains__", counting)
                monkeypatch.setattr(Scopes, "keep", keeping)
                await source.commit([Put(f"agent/1/{number}", b"") for number in range(10_000)])
                await eventually(lambda: all(follower.revision == 1 for follower in followers))
                monkeypatch.undo()
            assert len(followers[1].state) == 10_000
            assert looked < 50_000

    run(main())


def test_a_commit_concerns_just_those_who_want_some_of_it() -> None:
    keys = ["", "a", "b", "a/", "a/b", "a/b/", "a/b/c", "b/", "b/a"]
    for picked in itertools.combinations([key for key in keys if key], 2):
        entry = CommitLog("log").append(1, [(key, b"") for key in picked])
        for scopes in (Scopes(two) for two in itertools.combinations(keys, 2)):
            wanted = bool(scopes.keep(entry.frame.changes))
            assert entry.concerns(scopes) is wanted
            assert (entry.encoded(scopes, plain) is not None) is wanted


def test_forms_of_a_commit_that_hardly_anybody_shares_are_not_kept() -> None:
    """They would make the log as large as there are watchers."""
    log = CommitLog("log")
    entry = log.append(1, [(f"k{number}", b"") for number in range(100)])
    for number in range(100):
        frame = entry.encoded(Scopes([f"k{number}"]), plain)
        assert isinstance(frame, Commit)
        assert frame.changes == [(f"k{number}", b"")]
    assert len(entry._encoded) <= 8


def test_what_a_session_had_to_read_anew_is_a_commit(run: Run) -> None:
    async def main() -> None:
        async with Hub(MemorySource()) as hub:
            await eventually(lambda: hub.ready)
            layer = hub._layer
            hub.frame(layer, SnapshotBegin([""]))
            hub.frame(layer, SnapshotChunk([("a", b"1", 0), ("b", b"1", 0), ("c", b"1", 0)]))
            hub.frame(layer, SnapshotEnd(None))
            follower = Follower(hub, "")
            async with following(follower):
                await eventually(lambda: follower.snapshots)
                hub.frame(layer, SnapshotBegin([""]))
                hub.frame(layer, SnapshotChunk([("a", b"1", 0), ("b", b"2", 0), ("d", b"1", 0)]))
                hub.frame(layer, SnapshotEnd(None, 2, same_history=True))
                await eventually(
                    lambda: any(isinstance(frame, Commit) for frame in follower.frames)
                )
            [commit] = [frame for frame in follower.frames if isinstance(frame, Commit)]
            assert sorted(commit.changes) == [("b", b"2"), ("c", None), ("d", b"1")]
            assert follower.snapshots == 1
            assert hub.log.before(commit.position) == {"b": b"1", "c": b"1"}

    run(main())


def test_a_new_history_has_another_name_though_its_source_gave_it_the_same(run: Run) -> None:
    """An emptied etcd keeps its cluster id; only the session has the proof."""

    async def main() -> None:
        async with Hub(MemorySource()) as hub:
            await eventually(lambda: hub.ready)
            names = []
            for error in (
                None,
                Disconnected("lost"),
                HistoryLost("compacted"),
                HistoryLost("emptied", changed=True),
            ):
                if error is not None:
                    hub.lost(hub._layer, error)
                hub.frame(hub._layer, SnapshotBegin([""]))
                hub.frame(hub._layer, SnapshotEnd(None, 5, "cluster"))
                names.append(hub.history)
            assert names[0] == names[1] == names[2] == "cluster" != names[3]

    run(main())


def test_a_commit_that_changes_nothing_here_is_a_bookmark(run: Run) -> None:
    async def main() -> None:
        async with Hub(MemorySource()) as hub:
            await eventually(lambda: hub.ready)
            follower = Follower(hub, "")
            async with following(follower):
                await eventually(lambda: follower.snapshots)
                hub.commit(hub._layer, Commit(None, 7, [("unknown", None)]))
                await eventually(lambda: follower.revision == 7)

    run(main())


def test_a_snapshot_is_cut_by_bytes_and_the_cuts_are_shared(run: Run) -> None:
    """Each chunk is encoded in one go, while all others wait;
    a value that is larger stands alone.
    """

    async def main() -> None:
        encoded: list[SnapshotChunk] = []

        def encode(frame: Frame) -> Frame:
            if isinstance(frame, SnapshotChunk):
                encoded.append(frame)
            return frame

        source = MemorySource()
        sizes = [10, 100_000, 1_000_000, 10, *[100_000] * 20, *[0] * 2500]
        values = {f"k/{number:04}": bytes(size) for number, size in enumerate(sizes)}
        await source.commit([Put(key, raw) for key, raw in values.items()])
        async with Hub(source, QUICK) as hub:
            keys = []
            for _ in range(2):
                async for [frame] in hub.subscribe([""], encode=encode):
                    if isinstance(frame, SnapshotChunk):
                        keys += [key for key, _, _ in frame.items]
                    elif isinstance(frame, SnapshotEnd):
                        break
            assert keys == 2 * list(values)
            assert [len(chunk.items) for chunk in encoded[:3]] == [2, 1, 3]
            for chunk in encoded:
                size = sum(len(raw) for _, raw, _ in chunk.items)
                assert len(chunk.items) == 1 or size <= 256 << 10
                assert len(chunk.items) <= 1000
            assert sum(len(chunk.items) for chunk in encoded) == len(sizes)

    run(main())
