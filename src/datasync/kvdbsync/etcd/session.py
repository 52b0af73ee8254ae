"""One session: a snapshot where one is due, and the commits that one watch
over everything brings."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence

from datasync.errors import Disconnected
from datasync.kvdbsync.etcd.channel import Link
from datasync.kvdbsync.etcd.history import Position, prove
from datasync.kvdbsync.etcd.snapshot import Snapshot
from datasync.kvdbsync.etcd.watch import Changes, Watch
from datasync.shared import closed_on_error
from datasync.source import Commit, Frame, Progress, Scopes, Session, SnapshotEnd

__all__ = ["EtcdSession"]


class EtcdSession(Session):
    """Follows the keys of some scopes at one member. Made by `start`."""

    def __init__(
        self,
        link: Link,
        watch: Watch,
        position: Position,
        scopes: Sequence[str],
        snapshot: Snapshot | None,
    ) -> None:
        self._link = link
        self._watch = watch
        self._position = position
        self._scopes = Scopes(scopes)
        self._known: Scopes | None = self._scopes
        """What commits are shown of: all but what the snapshot is still to
        show; None: nothing yet."""
        self._snapshot = snapshot
        self._loading: asyncio.Task[None] | None = None
        self._taken = 0
        """Frames up to this revision were yielded, and taken over."""
        self._turn = asyncio.Event()
        self._over = False
        self._closed = False

    @classmethod
    async def start(
        cls, link: Link, scopes: Sequence[str], resume: Position | None, added: Sequence[str]
    ) -> EtcdSession:
        """A session that is known to work: the history is proven, the watch
        accepted, the first page read."""
        wanted = list(Scopes(scopes).minimal())
        if resume is not None:
            await prove(link, resume, wanted)
        watch = Watch(link, wanted)
        async with closed_on_error(watch.aclose):
            await watch.begin(None if resume is None else resume.revision)
            if resume is not None and not added:
                return cls(link, watch, resume, scopes, None)
            snapshot = Snapshot(link, list(Scopes(wanted if resume is None else added).minimal()))
            await snapshot.begin()

        if resume is not None:
            session = cls(link, watch, resume, scopes, snapshot)
            session._known = Scopes(scope for scope in scopes if scope not in added)
            return session

        # the status was read before the watch began, so all it counts lies
        # at or before that revision
        status = link.status
        begun = Position(
            status.header.cluster_id, watch.passed, status.raft_applied_index - watch.passed
        )
        session = cls(link, watch, begun, scopes, snapshot)
        session._known = None
        return session

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        try:
            if self._snapshot is not None:
                self._loading = asyncio.ensure_future(self._load(self._snapshot))

            while True:
                snapshot = self._snapshot
                if (
                    snapshot is not None
                    and snapshot.complete
                    and self._position.revision >= snapshot.revision
                ):
                    for frames in snapshot.frames():
                        yield frames
                    yield [self._loaded(snapshot)]

                self._took()
                frames = []
                for revision, changes in await self._watch.take():
                    self._commit(frames, revision, changes)
                if frames:
                    yield frames
        except Disconnected:
            if not self._closed:
                raise
        finally:
            self._over = True
            self._turn.set()

    async def ping(self) -> None:
        """Have the cluster, not only this member, answer; raises
        `Disconnected` where that fails."""
        if await self._watch.head() > self._position.revision:
            await self._watch.ask()

    async def caught_up(self) -> None:
        head = await self._watch.head()
        self._watch.chase(head)
        while self._taken < head:
            if self._over or self._closed:
                raise Disconnected(f"{self._link.endpoint}: the session ended")
            await self._turn.wait()

    async def aclose(self) -> None:
        self._closed = True
        self._turn.set()
        try:
            if self._loading is not None:
                self._loading.cancel()
                await asyncio.wait([self._loading])
            await self._watch.aclose()
        finally:
            await self._link.aclose()

    async def _load(self, snapshot: Snapshot) -> None:
        try:
            await snapshot.finish()
            self._watch.chase(snapshot.revision)
            self._watch.wake()
        except Exception as error:
            self._watch.fail(error)

    def _loaded(self, snapshot: Snapshot) -> SnapshotEnd:
        """The end of the snapshot: it stands where the watch stands."""
        key, raw, at = snapshot.newest
        if at > self._position.at:
            self._position = self._position._replace(key=key, at=at, crc=zlib.crc32(raw))
        self._snapshot, self._known = None, self._scopes
        position = self._position
        return SnapshotEnd(position, position.revision, f"{position.cluster:x}")

    def _commit(self, frames: list[Frame], revision: int, changes: Changes) -> None:
        """What a revision is to the engine, if it is anything to it."""
        position = self._position
        for key, raw in reversed(changes):
            if raw is not None:
                position = position.put(revision, key, raw)
                break
        else:
            position = (
                position.deleted(revision, [key for key, _ in changes])
                if changes
                else position.reached(revision)
            )
        self._position = position
        if self._snapshot is not None:
            self._snapshot.fold(revision, changes)
        if self._known is None:  # G1: first the snapshot
            return
        if kept := self._known.keep(changes):
            frames.append(Commit(position, revision, kept))
        else:
            frames.append(Progress(position, revision))

    def _took(self) -> None:
        """The engine asked for more: it has taken over what it was given."""
        if self._snapshot is None:
            self._taken = self._position.revision
            turn, self._turn = self._turn, asyncio.Event()
            turn.set()
