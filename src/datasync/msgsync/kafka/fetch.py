"""Reading a topic: a stream of what follows a position."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from datasync.errors import HistoryLost, Unauthorized
from datasync.msgsync.kafka import errors
from datasync.msgsync.kafka.cluster import Address, Cluster, Topic
from datasync.msgsync.kafka.position import Position
from datasync.msgsync.kafka.records import Group, extent, groups
from datasync.msgsync.kafka.wire import DIVERGING_EPOCH, FetchById

__all__ = ["Fetched", "Fetcher", "prove_readable", "prove_uncut"]

_FIRST = struct.Struct(">q")
_LANE = "fetch"
_WAIT_MS = 500
_MOST = 50 << 20
_BEYOND = 1 << 60
_EACH = 4 << 20
"""Bytes of one answer, of one partition in it."""


class Fetched(NamedTuple):
    """What one partition brought: committed records, and where the reader then stands."""

    partition: int
    groups: Sequence[Group]
    behind: int
    epoch: int
    complete: bool
    """Nothing that is decided comes after it."""


async def prove_readable(cluster: Cluster, topic: Topic) -> None:
    """Raise `Unauthorized` unless the user may read the topic; it may be allowed to describe it and
    no more. Asked for messages that are not there, brokers say so first."""
    count = len(topic.numbers)
    for error_code, _ in await _first_answers(cluster, topic, [_BEYOND] * count, [-1] * count):
        if error_code:
            error = errors.of_code(
                error_code, cluster.name, "reading (the right to Read on the topic)"
            )
            if isinstance(error, Unauthorized):  # the first real fetch tells of all else
                raise error


async def prove_uncut(cluster: Cluster, topic: Topic, position: Position) -> None:
    """G3: raise `HistoryLost` where a log was cut off before the position and has grown again
    since. A caller that goes on to read need not ask: a fetch tells it, too."""
    for _, diverged in await _first_answers(cluster, topic, position.offsets, position.epochs):
        if diverged:
            raise HistoryLost(f"{cluster.name} lost records that were read already", changed=True)


async def _first_answers(
    cluster: Cluster, topic: Topic, offsets: Sequence[int], epochs: Sequence[int]
) -> Sequence[tuple[int, bool]]:
    """What brokers say of the first message from there on: its error code, and
    whether the epochs contradict."""
    found: list[tuple[int, bool]] = []
    for address, partitions in topic.by_leader(range(len(topic.leaders))).items():
        where = [
            (topic.numbers[at], topic.epochs[at], offsets[at], epochs[at]) for at in partitions
        ]
        answer = await cluster.ask(address, FetchById(topic.id, where, 0, 1, 1), _LANE)
        with errors.understanding(cluster.name):
            found.append((answer.error_code, False))
            found += [
                (code, DIVERGING_EPOCH in tags)
                for of_topic in answer.topics or ()
                for _, code, *_, tags in of_topic[1]
            ]
    return found


class _Piece(NamedTuple):
    """What an answer holds of one partition, not unpacked yet.

    partition: as the answer has it, but by its index in the topic.
    start: where the reader stood when it asked.
    behind, epoch, complete: as in `Fetched`.
    """

    partition: Any
    start: int
    behind: int
    epoch: int
    complete: bool


class Fetcher:
    """Reads on from `position`. Its caller moves on, once it has taken what was read."""

    def __init__(self, cluster: Cluster, topic: Topic, position: Position) -> None:
        self._cluster = cluster
        self._topic = topic
        self._most = cluster.access.max_answer
        self._offsets = list(position.offsets)
        self._epochs = list(position.epochs)
        self._asked: dict[asyncio.Task[Any], tuple[Address, list[int]]] = {}

    async def read(self, ends: Sequence[int] | None = None) -> AsyncIterator[Fetched]:
        """All there is, in order within each partition: for ever, or until each partition has come
        to its end, which is the beginning of a batch.

        Raises `Disconnected`, `HistoryLost`, `Unauthorized`, `BadStore`.
        """
        try:
            for address, partitions in self._topic.by_leader(range(len(self._offsets))).items():
                self._ask(address, partitions, ends)

            while self._asked:
                done, _ = await asyncio.wait(self._asked, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    address, partitions = self._asked.pop(task)
                    pieces = self._taken(task.result(), ends)
                    # only the first in a request gets a batch beyond `_EACH`, or what is beyond
                    # `_MOST` together
                    partitions = [*partitions[1:], partitions[0]]

                    if ends is not None:
                        # of a long way, the next piece comes while this one is taken in
                        self._ask(address, partitions, ends)
                    for piece in pieces:
                        yield self._unpacked(piece, ends)
                    if ends is None:  # what came meanwhile comes in one piece
                        self._ask(address, partitions, ends)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Stop asking. May be called twice, and while reading."""
        asked, self._asked = list(self._asked), {}
        for task in asked:
            task.cancel()
        if asked:
            await asyncio.wait(asked)

    def _ask(self, address: Address, partitions: Sequence[int], ends: Sequence[int] | None) -> None:
        due = [index for index in partitions if ends is None or self._offsets[index] < ends[index]]
        if due:
            topic = self._topic
            where = [
                (topic.numbers[at], topic.epochs[at], self._offsets[at], self._epochs[at])
                for at in due
            ]
            request = FetchById(
                topic.id, where, _WAIT_MS, min(_MOST, self._most // 2), min(_EACH, self._most // 4)
            )
            self._asked[asyncio.ensure_future(self._cluster.ask(address, request, _LANE))] = (
                address,
                due,
            )

    def _taken(self, answer: Any, ends: Sequence[int] | None) -> list[_Piece]:
        """What an answer brought, with the offsets moved on. Raises as `read` does."""
        if answer.error_code:
            raise errors.of_code(answer.error_code, self._cluster.name, "reading")

        numbers = self._topic.numbers
        with errors.understanding(self._cluster.name):
            found = [
                (numbers.index(number), *rest)
                for topic in answer.topics or ()
                for number, *rest in topic[1]
            ]
            starts = [self._offsets[partition[0]] for partition in found]
            alone = not any(partition[7] for partition in found)
            return [
                _Piece(partition, start, *self._advance(partition, ends, alone=alone))
                for partition, start in zip(found, starts, strict=True)
            ]

    def _unpacked(self, piece: _Piece, ends: Sequence[int] | None) -> Fetched:
        """The records of a piece. Raises as `read` does."""
        index, _, _, _, _, aborted, _, raw, _ = piece.partition
        with errors.understanding(self._cluster.name):
            read = groups(
                raw,
                piece.start,
                None if ends is None else ends[index],
                [(producer, first) for producer, first, _ in aborted or ()],
                self._cluster.name,
                self._most,
            )
            records = list(read) if raw else ()
        return Fetched(index, records, piece.behind, piece.epoch, piece.complete)

    def _advance(
        self, partition: Any, ends: Sequence[int] | None, *, alone: bool
    ) -> tuple[int, int, bool]:
        """Note how far an answer goes: (next offset, epoch, whether that is all).
        `alone`: all of it is empty."""
        index, code, _, stable, _, _, _, raw, tags = partition
        name, number, stood = self._cluster.name, self._topic.numbers[index], self._offsets[index]

        if code == errors.Code.OFFSET_OUT_OF_RANGE:
            raise HistoryLost(f"{name}: partition {number} has nothing at {stood} any more")
        if code:
            raise errors.of_code(code, name, "reading")
        if DIVERGING_EPOCH in tags:
            raise HistoryLost(
                f"{name}: partition {number} lost records that were read already", changed=True
            )

        stop = None if ends is None else ends[index]
        behind, epoch = extent(raw, stop) if raw else (-1, -1)
        if behind > stood:
            self._offsets[index], self._epochs[index] = behind, epoch
        elif (alone and stable > stood) or (
            raw and stop is not None and _FIRST.unpack_from(raw)[0] >= stop
        ):
            # compaction removed what was here; no size limit kept it out of an
            # answer that is empty, or goes on
            self._offsets[index] = stable if stop is None else min(stable, stop)
            self._epochs[index] = -1

        return self._offsets[index], self._epochs[index], self._offsets[index] >= stable
