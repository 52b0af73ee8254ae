"""One session: the topic read to its end as the snapshot, then whatever follows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from datasync.errors import Disconnected, HistoryLost
from datasync.msgsync.kafka.cluster import Cluster, Settings, Topic
from datasync.msgsync.kafka.fetch import Fetched, Fetcher, prove_readable, prove_uncut
from datasync.msgsync.kafka.group import Member, Settled
from datasync.msgsync.kafka.position import FramePosition, Position, now, prove, within_retention
from datasync.msgsync.kafka.records import Report, State, apply, text_of
from datasync.source import (
    Commit,
    Frame,
    Progress,
    Result,
    Scopes,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)
from datasync.texts import logger

__all__ = ["KafkaSession"]

log = logger("datasync.kafka")

_LOOK_EVERY = 3.0
"""Seconds after which a session that is never quiet looks whether the topic
still is what it was."""
_TELL_EVERY = 5.0
_BOOKMARK_EVERY = 0.5
"""Seconds after which the engine hears of what concerns none of its keys."""
_PAUSE = 0.05


class KafkaSession(Session):
    """Follows the keys of `scopes`. Made by `start`; owns the cluster's connections."""

    def __init__(
        self,
        cluster: Cluster,
        topic: Topic,
        settings: Settings,
        scopes: Sequence[str],
        position: Position,
        missing: Sequence[str],
        resumed: bool,
        report: Report,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._settings = settings
        self._scopes = scopes
        self._wanted = None if "" in scopes else Scopes(scopes)
        self._position = position
        self._missing = list(missing)
        self._resumed = resumed
        self._fetcher: Fetcher | None = None
        self._moved = asyncio.Event()
        self._asking = asyncio.Lock()
        self._requests = 0
        self._ends: Sequence[int] = ()
        self._stir = asyncio.Event()
        self._ended = False
        self._caught_up = [position.caught_up] * len(position.offsets)
        self._report = report
        self._partitions = len(topic.numbers)  # of the whole topic
        self._settled: Sequence[Settled] | None = None
        self._membership: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        cluster: Cluster,
        settings: Settings,
        scopes: Sequence[str],
        resume: Any | None,
        added: Sequence[str],
        report: Report,
        member: Member | None,
    ) -> KafkaSession:
        """A session that is known to work; of a `member` of a group over
        its share of the partitions."""
        topic = await cluster.topic()
        if scopes:
            await prove_readable(cluster, topic)
        share = await member.join(cluster, topic) if member is not None and scopes else topic
        if resume is None:
            session = cls(
                cluster, share, settings, scopes, Position.at_start(share), scopes, False, report
            )
        else:
            position = Position.of_frame(resume)
            await prove(cluster, share, position, settings)
            if not scopes:  # nothing will be read that would show it
                await prove_uncut(cluster, share, position)
            session = cls(cluster, share, settings, scopes, position, added, True, report)
        session._partitions = len(topic.numbers)
        if member is not None and scopes:
            session.exclusive = True  # each record is given to one session of a group
            session._settled = member.settled(share, resumed=resume is not None)
            session._membership = asyncio.ensure_future(member.attend(cluster))
            session._membership.add_done_callback(session._stirred)
        return session

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        if self._missing or not self._resumed:
            # the snapshot is read up to here, and what comes after it from here on
            begun = now()
            ends = await self._cluster.acknowledged_ends(self._topic)
            if self._resumed:
                async for frames in self._follow(ends):
                    yield frames
            yield await self._snapshot(Scopes(self._missing), ends, begun)
            self._missing = []
        if not self._scopes or not self._topic.numbers:
            await self._stir.wait()
            self._check_membership()
        async for frames in self._follow(None):
            yield frames

    async def ping(self) -> None:
        """Have each broker that leads a partition answer, and see that the
        topic still is what it was."""
        await self._look()
        await self._cluster.starts(self._topic)

    async def caught_up(self) -> None:
        """Wait until the position has come to where the topic ends now."""
        if not self._scopes:
            return
        # many who ask at the same time share a request, of those that began after they asked
        ticket = self._requests + 1
        async with self._asking:
            if self._requests < ticket:
                self._requests += 1
                try:
                    self._ends = await self._ends_now()
                except BaseException:
                    self._requests -= 1
                    raise
            ends = self._ends
        while self._missing or any(
            offset < end for offset, end in zip(self._position.offsets, ends, strict=True)
        ):
            self._moved.clear()
            await self._moved.wait()
            if self._ended:
                raise Disconnected(f"{self._cluster.name}: the session is closed")

    async def _ends_now(self) -> Sequence[int]:
        """Where the topic ends. As long as this session lasts it goes on asking: who took no answer
        for one could take the end of a snapshot, which began before, for it."""
        while True:
            try:
                return await self._cluster.acknowledged_ends(self._topic)
            except Disconnected:
                if self._ended:
                    raise
            await asyncio.sleep(_PAUSE)

    async def aclose(self) -> None:
        self._ended = True
        self._stirred(None)
        async with contextlib.AsyncExitStack() as closing:  # each, though one of them is cancelled
            closing.push_async_callback(self._cluster.aclose)
            if self._fetcher is not None:
                closing.push_async_callback(self._fetcher.aclose)
            if self._membership is not None:
                self._membership.cancel()
                await asyncio.wait([self._membership])

    def _stirred(self, _: object) -> None:
        """Wake those who wait: it is over, or will be."""
        self._moved.set()
        self._stir.set()

    def _check_membership(self) -> None:
        if self._membership is not None and self._membership.done() and not self._ended:
            self._membership.result()

    async def _look(self) -> None:
        topic = await self._cluster.topic(fresh=True, create=False)
        if topic.id != self._topic.id or len(topic.numbers) != self._partitions:
            await prove(self._cluster, topic, self._position, self._settings)
        if any(
            number not in topic.numbers or topic.leaders[topic.numbers.index(number)] != leader
            for number, leader in zip(self._topic.numbers, self._topic.leaders, strict=True)
        ):
            raise Disconnected(f"{self._cluster.name}: another broker leads a partition now")

    # -- snapshot ----------------------------------------------------------------------------------

    async def _snapshot(
        self, wanted: Scopes, ends: Sequence[int], begun: tuple[float, float]
    ) -> Sequence[Frame]:
        """Read everything there is before `ends`."""
        topic = self._topic
        starts = await self._cluster.starts(topic) if self._missing else ends
        position = Position.before(topic, starts, begun)
        total = max(sum(ends) - sum(position.offsets), 1)
        started = told = time.monotonic()
        state, keep = State(), None if "" in wanted else wanted

        self._fetcher = Fetcher(self._cluster, topic, position)
        async for fetched in self._fetcher.read(ends):
            self._check_membership()
            apply(state, fetched.groups, keep, self._report)
            position = position.moved(fetched.partition, fetched.behind, fetched.epoch)
            if time.monotonic() - told > _TELL_EVERY:
                told = time.monotonic()
                left = sum(ends) - sum(position.offsets)
                log.info(
                    "%s: %d %% read, %d keys",
                    self._cluster.name,
                    100 - 100 * left // total,
                    len(state),
                )

        log.debug(
            "%s: %d keys read in %.1f s", self._cluster.name, len(state), time.monotonic() - started
        )

        self._position = position
        self._caught_up = [begun] * len(ends)
        revision = max([0, *(offset - 1 for offset in position.offsets)])

        reply = None
        if self._settled is not None:
            settled = [
                part.delivered(offset)
                for part, offset in zip(self._settled, position.offsets, strict=True)
            ]
            reply = partial(_all, settled)

        end = SnapshotEnd(self._here(), revision, topic.id.hex(), reply, final=True)
        return [SnapshotBegin(self._missing), SnapshotChunk(list(state.values())), end]

    # -- changes -----------------------------------------------------------------------------------

    async def _follow(self, ends: Sequence[int] | None) -> AsyncIterator[Sequence[Frame]]:
        looked = told = time.monotonic()
        self._fetcher = Fetcher(self._cluster, self._topic, self._position)
        async for fetched in self._fetcher.read(ends):
            if frames := self._commits(fetched):
                yield frames
            self._move(fetched)
            self._check_membership()
            if time.monotonic() - told > _BOOKMARK_EVERY:
                told = time.monotonic()
                yield [Progress(self._here())]
            if time.monotonic() - looked > _LOOK_EVERY:
                await self._look()
                looked = time.monotonic()

    def _commits(self, fetched: Fetched) -> Sequence[Commit]:
        partition, epoch, wanted = fetched.partition, fetched.epoch, self._wanted
        position = self._position
        frames: list[Commit] = []

        for revision, records in fetched.groups:
            found = [
                (offset, key, value)
                for offset, raw_key, value in records
                if (key := text_of(raw_key, self._report)) is not None
                and (wanted is None or key in wanted)
            ]
            if not found:
                continue

            if revision is None:
                frames += [
                    Commit((position, partition, offset + 1, epoch), offset, ((key, raw),))
                    for offset, key, raw in found
                ]
            else:
                changes = list({key: raw for _, key, raw in found}.items())
                frames.append(Commit((position, partition, revision + 1, epoch), revision, changes))

        if self._settled is None:
            return frames
        delivered = self._settled[partition].delivered
        return [
            msgspec.structs.replace(frame, reply=delivered(frame.revision + 1), final=True)
            for frame in frames
        ]

    def _here(self) -> FramePosition:
        """Where it stands, with all frames of the last fetch taken."""
        return self._position, 0, 0, -1

    def _move(self, fetched: Fetched) -> None:
        """All frames of it are taken: here is where the position stands."""
        partition = fetched.partition
        if self._settled is not None and fetched.behind > self._position.offsets[partition]:
            self._settled[partition].passed(fetched.behind)
        self._position = self._position.moved(partition, fetched.behind, fetched.epoch)
        self._moved.set()
        if fetched.complete:
            self._caught_up[partition] = now()
            self._position = self._position._replace(caught_up=min(self._caught_up))
        elif self._settings.retention is not None and not within_retention(
            self._position, self._settings
        ):
            raise HistoryLost(
                f"{self._cluster.name}: fell behind for longer than tombstones are kept"
            )


def _all(calls: Sequence[Callable[[Result], None]], result: Result) -> None:
    for call in calls:
        call(result)
