"""The topic as a table, for reads: read once from its start, and from then
on only what was added."""

from __future__ import annotations

import asyncio

from datasync.errors import HistoryLost
from datasync.msgsync.kafka.cluster import Cluster, Topic
from datasync.msgsync.kafka.fetch import Fetcher
from datasync.msgsync.kafka.position import Position, now, prove
from datasync.msgsync.kafka.records import Report, State, apply

__all__ = ["Table"]


class Table:
    """What the topic holds. Kafka finds no key by itself: the first look
    reads all of it, and it is kept."""

    def __init__(self, cluster: Cluster, report: Report) -> None:
        self._cluster = cluster
        self._report = report
        self._state = State()
        self._position: Position | None = None
        self._turn = asyncio.Lock()

    async def now(self) -> State:
        """The state as of now: with all that was acknowledged before, and no
        open transaction in front of it.

        It is not to be kept or changed. Raises `Disconnected`, `Unauthorized`, `BadStore`.
        """
        async with self._turn:
            return await self._cluster.retrying(self._refresh)

    async def _refresh(self) -> State:
        topic = await self._cluster.topic(fresh=True)
        try:
            if self._position is not None:
                await prove(self._cluster, topic, self._position, await self._cluster.settings())
                return await self._read(topic, self._position)
        except HistoryLost:
            pass
        self._state.clear()
        self._position = Position.before(topic, await self._cluster.starts(topic), now())
        return await self._read(topic, self._position)

    async def _read(self, topic: Topic, position: Position) -> State:
        begun = now()
        ends = await self._cluster.ends(topic)
        async for fetched in Fetcher(self._cluster, topic, position).read(ends):
            apply(self._state, fetched.groups, None, self._report)
            position = position.moved(fetched.partition, fetched.behind, fetched.epoch)
            self._position = position
        self._position = position._replace(caught_up=begun)
        return self._state
