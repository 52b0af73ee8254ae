"""One session: a snapshot where one is due, then one watch over everything behind it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from operator import itemgetter

from datasync._grpc import grpc, untangled
from datasync.errors import Disconnected, HistoryLost, Unauthorized
from datasync.kvdbsync import _etcd_errors as errors
from datasync.kvdbsync._etcd_channel import RANGE, STATUS, Link, Stream
from datasync.kvdbsync._etcd_history import Position, prove
from datasync.kvdbsync._etcd_keys import Range, cover, items_of, range_of, text_of
from datasync.kvdbsync._etcd_pb import etcd_pb2 as pb
from datasync.kvdbsync._etcd_snapshot import Reader
from datasync.kvdbsync._etcd_versions import progress_is_ordered
from datasync.source import Commit, Frame, Progress, Scopes, Session, SnapshotBegin, SnapshotChunk, SnapshotEnd

__all__ = ["EtcdSession"]

_REQUESTED = -1
"""The watch id of progress that was asked for: it concerns the whole stream."""
_PROGRESS = pb.WatchRequest(progress_request=pb.WatchProgressRequest())


class EtcdSession(Session):
    """Follows the keys of `scopes` at one member. Made by `start`."""

    def __init__(self, link: Link, scopes: Sequence[str], position: Position, snapshot: Reader | None) -> None:
        self._link = link
        self._scopes = list(scopes)
        self._position = position
        self._snapshot = snapshot
        self._added: Sequence[str] = ()
        self._range = cover(scopes) if scopes else Range(b"", b"")
        self._wanted = None if len(scopes) == 1 else Scopes(scopes)
        self._ordered = progress_is_ordered(link.status.version)
        self._stream: Stream | None = None
        self._head: asyncio.Queue[int] = asyncio.Queue()
        self._closed = False
        self._last: Sequence[tuple[str, bytes | None]] = ()
        # the part of a revision that the fragments so far have brought
        self._open: tuple[int, list[tuple[str, bytes | None]]] = (0, [])

    @classmethod
    async def start(
        cls, link: Link, scopes: Sequence[str], resume: Position | None, added: Sequence[str]
    ) -> EtcdSession:
        """A session that is known to work: the first page is read, or the history proven and the watch accepted."""
        wanted = list(Scopes(scopes).minimal())
        if resume is not None:
            await prove(link, resume, wanted)
            if not added:
                session = cls(link, wanted, resume, None)
                if wanted:
                    await session._watch()
                return session
        snapshot = None
        revision, cluster = link.status.header.revision, link.status.header.cluster_id
        missing = list(Scopes(wanted if resume is None else added).minimal())
        if missing:
            snapshot = Reader(link, [range_of(scope) for scope in missing], 0 if resume is None else resume.revision)
            await snapshot.begin()
            revision = snapshot.revision
        if resume is None:
            # the status was read before the first page, so all it counts lies at or before that revision
            resume = Position(cluster, revision, link.status.raft_applied_index - revision)
        session = cls(link, wanted, resume, snapshot)
        session._added = missing
        return session

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        try:
            if self._stream is None:
                async for frames in self._read_snapshot():
                    yield frames
                if self._scopes:
                    await self._watch()
            if self._stream is None:
                while True:
                    revision = await self._head.get()
                    yield [self._progress(revision)]
            while True:
                response = await self._next()
                if frames := self._frames_of(response):
                    yield frames
        except asyncio.CancelledError:
            if not self._closed:
                raise  # else it is what grpc makes of closing the channel: the session ends

    async def ping(self) -> None:
        """Have the cluster, not only this member, answer; raises `Disconnected` where that fails."""
        if not self._scopes:
            self._head.put_nowait((await self._link.ask(STATUS, pb.StatusRequest())).header.revision)
            return
        answer = await self._link.ask(RANGE, pb.RangeRequest(key=self._range.key, count_only=True))
        if self._stream is not None and self._ordered and answer.header.revision > self._position.revision:
            try:
                await untangled(self._stream.write(_PROGRESS))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                raise Disconnected(f"{self._link.endpoint}: the watch ended") from None

    async def aclose(self) -> None:
        self._closed = True
        self._stream = None
        await self._link.aclose()

    # -- snapshot ------------------------------------------------------------------------------------------------

    async def _read_snapshot(self) -> AsyncIterator[Sequence[Frame]]:
        begin: list[Frame] = [SnapshotBegin(self._added)]
        if self._snapshot is not None:
            async for page in self._snapshot.pages():
                items = items_of(page.kvs)
                if items:
                    key, raw, at = max(items, key=itemgetter(2))
                    if at > self._position.at:
                        self._position = self._position._replace(key=key, at=at, crc=zlib.crc32(raw))
                yield [*begin, SnapshotChunk(items)]
                begin = []
            self._snapshot = None
        position = self._position
        yield [*begin, SnapshotEnd(position, position.revision, f"{position.cluster:x}")]

    # -- watch ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Begin the watch behind the position, and hear that the server accepted it."""
        if self._link.access.has_user:
            await self.ping()  # a call has its token renewed when that expired meanwhile; a watch is refused
        self._stream = await self._link.watch(
            pb.WatchRequest(
                create_request=pb.WatchCreateRequest(
                    key=self._range.key,
                    range_end=self._range.end,
                    start_revision=self._position.revision + 1,
                    progress_notify=True,
                    fragment=True,
                )
            )
        )
        await self._next()

    async def _next(self) -> pb.WatchResponse:
        endpoint = self._link.endpoint
        if self._stream is None:
            raise Disconnected(f"{endpoint}: the session is closed")
        try:
            response = await untangled(self._stream.read())
        except grpc.aio.AioRpcError as error:
            raise errors.of_read(error, endpoint) from None
        if not isinstance(response, pb.WatchResponse):
            raise Disconnected(f"{endpoint}: the server ended the watch")
        if not response.canceled:
            return response
        reason = response.cancel_reason.replace("etcdserver: ", "")
        if response.compact_revision:
            raise HistoryLost(
                f"{endpoint}: compacted up to revision {response.compact_revision}, the watch stood at"
                f" {self._position.revision}; take a snapshot"
            )
        if "permission denied" in reason:
            raise Unauthorized(f"{endpoint}: watching is not permitted; let the user read the whole prefix")
        raise Disconnected(f"{endpoint}: the server ended the watch: {reason or 'no reason given'}")

    def _frames_of(self, response: pb.WatchResponse) -> list[Frame]:
        """The commits in a response; what may go on in its next fragment is kept back."""
        frames: list[Frame] = []
        revision, changes = self._open
        for event in response.events:
            kv = event.kv
            if kv.mod_revision != revision:
                if changes:
                    self._commit(frames, revision, changes)
                revision, changes = kv.mod_revision, []
            try:
                key = kv.key.decode()
            except UnicodeDecodeError:
                text_of(kv.key)
                continue
            changes.append((key, None if event.type else kv.value))
        if response.fragment:
            self._open = (revision, changes)
            return frames
        if changes:
            self._commit(frames, revision, changes)
        self._open = (0, [])
        if not response.events and not response.created and self._is_bookmark(response):
            frames.append(self._progress(response.header.revision))
        return frames

    def _commit(self, frames: list[Frame], revision: int, changes: list[tuple[str, bytes | None]]) -> None:
        position = self._position
        if revision <= position.revision:
            # some servers repeat events after they caught up by a snapshot; a revision is never sent in two parts
            if revision == position.revision and self._last and changes != self._last:
                raise HistoryLost(f"{self._link.endpoint}: revision {revision} came in two parts; take a snapshot")
            return
        self._last = changes
        for key, raw in reversed(changes):
            if raw is not None:
                position = position.put(revision, key, raw)
                break
        else:
            position = position.deleted(revision, [key for key, _ in changes])
        self._position = position
        wanted = self._wanted
        if wanted is not None:
            kept = [change for change in changes if change[0] in wanted]
            if not kept:
                frames.append(Progress(position, revision))
                return
            changes = kept
        frames.append(Commit(position, revision, changes))

    def _is_bookmark(self, response: pb.WatchResponse) -> bool:
        return self._ordered or response.watch_id != _REQUESTED

    def _progress(self, revision: int) -> Progress:
        if revision > self._position.revision:
            self._position = self._position.reached(revision)
        return Progress(self._position, self._position.revision)
