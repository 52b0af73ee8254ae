"""A consumer group: who has which partitions, and how far what came from them has settled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from datasync.errors import BadStore, DataSyncError, Disconnected, HistoryLost
from datasync.msgsync.kafka import errors
from datasync.msgsync.kafka.cluster import Cluster, Topic
from datasync.msgsync.kafka.internals import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    OffsetCommitRequest,
    SyncGroupRequest,
)
from datasync.source import Result

__all__ = ["Member", "Settled"]

_LANE = "group"
_SESSION = 6.0
"""Seconds after which the others share out what a member had that says nothing any more."""
_BEAT = 0.5
_PATIENCE = 9.0
"""Seconds that joining may take: the others are given `_SESSION` to join again."""
_GROUP = 0
_AGAIN = frozenset({
    errors.Code.ILLEGAL_GENERATION, errors.Code.UNKNOWN_MEMBER_ID,
    errors.Code.REBALANCE_IN_PROGRESS, errors.Code.FENCED_INSTANCE_ID,
})  # fmt: skip
"""The group is being shared out, or has been without this member."""
_FEW = 1000
_CONSUMER, _RANGE = "consumer", "range"


class _Part:
    """What leads up to one offset, and whether it has settled."""

    __slots__ = ("behind", "done")

    def __init__(self, behind: int, *, done: bool) -> None:
        self.behind = behind
        self.done = done


class Settled:
    """Of one partition: up to which offset all that was delivered has been accepted or refused."""

    def __init__(self) -> None:
        self.offset = -1
        self._waiting: deque[_Part] = deque()
        self._limit = _FEW

    def __len__(self) -> int:
        """How many parts are kept in mind."""
        return len(self._waiting)

    def delivered(self, behind: int) -> Callable[[Result], None]:
        """Something was delivered that leads up to offset `behind`; to be
        called when it has settled."""
        part = _Part(behind, done=False)
        self._waiting.append(part)

        def settled(_: Result) -> None:
            part.done = True
            self._advance()

        return settled

    def passed(self, behind: int) -> None:
        """Nothing up to that offset concerned anybody."""
        self._waiting.append(_Part(behind, done=True))
        self._advance()

    def _advance(self) -> None:
        waiting = self._waiting
        while waiting and waiting[0].done:
            self.offset = waiting.popleft().behind
        if len(waiting) > self._limit:  # after what is stuck, put together what is not
            kept: list[_Part] = []
            for part in waiting:
                if part.done:
                    kept[-1].behind = part.behind
                else:
                    kept.append(part)
            self._waiting = deque(kept)
            self._limit = 2 * len(kept) + _FEW


class Member:
    """One member of a group. It stays the same over several sessions of its source."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._id = ""
        self._generation = -1
        self._share: tuple[int, ...] = ()
        self._shared: tuple[bytes, tuple[int, ...]] | None = None
        """The topic and the partitions that were shared out."""
        self._settled: dict[int, Settled] = {}
        self._committed: dict[int, int] = {}

    async def join(self, cluster: Cluster, topic: Topic) -> Topic:
        """The topic with only those partitions that are this member's share.

        Where it still is a member, and the topic is the same, that is what it had. Raises
        `Disconnected`, `Unauthorized`, `BadStore`.
        """
        shared = (topic.id, topic.numbers)
        if self._generation < 0 or self._shared != shared or await self._beat(cluster):
            await self._join(cluster, topic)
            self._shared = shared
        indices = [topic.numbers.index(number) for number in self._share if number in topic.numbers]
        return msgspec.structs.replace(
            topic,
            numbers=tuple(topic.numbers[index] for index in indices),
            leaders=tuple(topic.leaders[index] for index in indices),
            epochs=tuple(topic.epochs[index] for index in indices),
        )

    def settled(self, topic: Topic, *, resumed: bool) -> Sequence[Settled]:
        """How far each partition of its share has settled. A session that is `resumed` goes on with
        what the one before delivered: that may be at work still."""
        if not resumed:
            self._settled, self._committed = {}, {}
        return [self._settled.setdefault(number, Settled()) for number in topic.numbers]

    async def attend(self, cluster: Cluster) -> None:
        """Stay a member, and commit how far its share has settled, until cancelled.

        Raises `HistoryLost` when the group rebalances, `Disconnected`, `Unauthorized`.
        """
        while True:
            await asyncio.sleep(_BEAT)
            if await self._beat(cluster):
                raise HistoryLost(f"{cluster.name}: the group {self.group!r} is rebalancing")
            await self._commit(cluster)

    async def leave(self, cluster: Cluster) -> None:
        """Let the others have its share at once."""
        if self._id:
            await self._tell(cluster, LeaveGroupRequest(self.group, self._id))
            self._id, self._generation = "", -1

    async def _join(self, cluster: Cluster, topic: Topic) -> None:
        name = cluster.access.topic
        metadata = ConsumerProtocolMemberMetadata(0, [name], b"").encode()

        while True:
            milliseconds = int(_SESSION * 1000)
            answer = await self._tell(
                cluster,
                JoinGroupRequest(
                    self.group,
                    milliseconds,
                    milliseconds,
                    self._id,
                    None,
                    _CONSUMER,
                    [(_RANGE, metadata)],
                ),
            )

            if answer.error_code == errors.Code.MEMBER_ID_REQUIRED:
                self._id = answer.member_id
                continue
            if answer.error_code in _AGAIN:
                self._id = "" if answer.error_code == errors.Code.UNKNOWN_MEMBER_ID else self._id
                continue

            self._check(cluster, answer.error_code)
            self._id, self._generation = answer.member_id, answer.generation_id
            shares: list[tuple[str, bytes]] = []
            if answer.leader_id == answer.member_id:
                shares = _shares(
                    name, topic.numbers, sorted(member for member, *_ in answer.members)
                )

            answer = await self._tell(
                cluster, SyncGroupRequest(self.group, self._generation, self._id, None, shares)
            )
            if answer.error_code in _AGAIN:
                continue
            self._check(cluster, answer.error_code)

            found = ConsumerProtocolMemberAssignment.decode(answer.member_assignment).assignment
            self._share = tuple(
                sorted(number for about, numbers in found if about == name for number in numbers)
            )
            return

    async def _beat(self, cluster: Cluster) -> bool:
        """Say that it is alive. Whether the group rebalances."""
        answer = await self._tell(cluster, HeartbeatRequest(self.group, self._generation, self._id))
        if answer.error_code in _AGAIN:
            self._generation = -1
            return True
        self._check(cluster, answer.error_code)
        return False

    async def _commit(self, cluster: Cluster) -> None:
        offsets = {number: part.offset for number, part in self._settled.items()}
        due = [
            (number, at, "")
            for number, at in offsets.items()
            if at > self._committed.get(number, -1)
        ]
        if not due:
            return
        where = [(cluster.access.topic, due)]
        answer = await self._tell(
            cluster, OffsetCommitRequest(self.group, self._generation, self._id, -1, where)
        )
        for _, parts in answer.topics:
            for _, code in parts:
                if code in _AGAIN:  # the next heartbeat tells
                    return
                self._check(cluster, code)
        self._committed = offsets

    async def _tell(self, cluster: Cluster, request: Any) -> Any:
        try:
            answer = await cluster.ask(
                await cluster.coordinator(self.group, _GROUP), request, _LANE, _PATIENCE
            )
        except Disconnected:
            cluster.forget_coordinator(self.group)
            raise
        if getattr(answer, "error_code", 0) in errors.LATER:
            cluster.forget_coordinator(self.group)
        return answer

    def _check(self, cluster: Cluster, code: int) -> None:
        if code:
            error: DataSyncError = errors.of_code(
                code, cluster.name, f"being a member of the group {self.group!r}"
            )
            if isinstance(error, BadStore):
                self._id, self._generation = "", -1
            raise error


def _shares(topic: str, numbers: Sequence[int], members: Sequence[str]) -> list[tuple[str, bytes]]:
    """As Kafka's range assignor has it: as many to each, in order, and one more to the first."""
    each, more = divmod(len(numbers), len(members))
    shares = []
    start = 0
    for index, member in enumerate(members):
        end = start + each + (index < more)
        assigned = [(topic, list(numbers[start:end]))]
        shares.append((member, ConsumerProtocolMemberAssignment(0, assigned, b"").encode()))
        start = end
    return shares
