"""How far a reader of the topic has come, and the proof that the topic still has what it
read, and all that follows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from datasync.errors import HistoryLost
from datasync.msgsync.kafka.cluster import Cluster, Settings, Topic

__all__ = ["FramePosition", "Position", "now", "prove", "within_retention"]

_Index = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
_Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Epoch = Annotated[int, msgspec.Meta(ge=-1, le=(1 << 31) - 1)]


class Position(NamedTuple):
    """How far a reader of the topic has come, as plain data, which a server's clients keep beyond
    its end: who resumes there misses nothing, however far this reader has come by then (G2)."""

    topic: str
    """The id of the topic, in hexadecimal digits."""
    numbers: tuple[_Index, ...]
    """Its partitions."""
    offsets: tuple[_Offset, ...]
    """Of each partition the next offset."""
    epochs: tuple[_Epoch, ...]
    """Of each the epoch of the leader that wrote the record before; -1 where that is unknown."""
    caught_up: tuple[float, float]
    """When (wall clock and monotonic, seconds) the reader last knew that it had read everything."""

    @classmethod
    def before(
        cls, topic: Topic, offsets: Sequence[int], caught_up: tuple[float, float]
    ) -> Position:
        """At these offsets, of whose epochs nothing is known."""
        unknown = (-1,) * len(topic.numbers)
        return cls(topic.id.hex(), tuple(topic.numbers), tuple(offsets), unknown, caught_up)

    @classmethod
    def at_start(cls, topic: Topic) -> Position:
        """Before the first record that there is."""
        return cls.before(topic, [0] * len(topic.numbers), now())

    @classmethod
    def of_frame(cls, given: Any) -> Position:
        """The one after a frame, whose position may have been JSON. Raises `HistoryLost`
        where it is none of ours."""
        position: Position
        try:
            position, partition, offset, epoch = msgspec.convert(given, FramePosition)
            if not len(position.numbers) == len(position.offsets) == len(position.epochs):
                raise ValueError
            # the epoch may be later than that of the record before: a log
            # cut off after it shows, too
            if offset > position.offsets[partition]:
                position = position.moved(partition, offset, epoch)
        except (msgspec.ValidationError, ValueError, IndexError):
            raise HistoryLost(
                "the position is not one of a Kafka topic; take a snapshot", changed=True
            ) from None
        return position

    def moved(self, partition: int, offset: int, epoch: int) -> Position:
        """The same with one partition, by its index in the tuples, read up to `offset`."""
        offsets, epochs = list(self.offsets), list(self.epochs)
        offsets[partition], epochs[partition] = offset, epoch
        return self._replace(offsets=tuple(offsets), epochs=tuple(epochs))


FramePosition = tuple[Position, _Index, _Offset, _Epoch]
"""Where all frames of a fetch are taken; and for a frame in between the index of its partition in
the tuples, the offset that it leads up to, and the epoch of the leader where the fetch ends. It
stays where it is while its session goes on: others begin there."""


def now() -> tuple[float, float]:
    """The time on two clocks: one stops while the machine sleeps, the other may be set.

    Where one of the two was reset since, as after a restart of the machine, the other tells.
    """
    return time.time(), time.monotonic()


def within_retention(position: Position, settings: Settings) -> bool:
    """Whether no tombstone that the reader has not seen can have been removed.

    A compacted topic keeps a tombstone for `delete.retention.ms` after the log cleaner first met
    it, and the cleaner leaves no other trace: the log still starts where it did.
    """
    if "compact" not in settings.policy:
        return True
    if settings.retention is None:
        return False
    away = max(there - then for there, then in zip(now(), position.caught_up, strict=True))
    return away < settings.retention


async def prove(cluster: Cluster, topic: Topic, position: Position, settings: Settings) -> None:
    """Raise `HistoryLost` unless the topic still has everything after the position: what shows
    another history before what shows that something is missing. A log that was cut off and has
    grown again shows in `prove_uncut`."""
    name = cluster.name
    if topic.id.hex() != position.topic:
        raise HistoryLost(f"{name} was deleted and recreated", changed=True)

    ends = await cluster.ends(topic, committed=False)
    stood = dict(zip(position.numbers, position.offsets, strict=True))
    for number, end in zip(topic.numbers, ends, strict=True):
        if stood.get(number, 0) > end:
            raise HistoryLost(
                f"{name}: partition {number} ends at {end} now, it stood at {stood[number]}",
                changed=True,
            )

    if topic.numbers != position.numbers:
        had, has = len(position.numbers), len(topic.numbers)
        raise HistoryLost(
            f"{name}: {has} partitions are to be read now, and {had} were: keys may have moved"
        )

    if not within_retention(position, settings):
        kept = "an unknown time" if settings.retention is None else f"{settings.retention:g} s"
        raise HistoryLost(
            f"{name} keeps tombstones for {kept}, which is less than it was away; deletes may "
            "be missing"
        )

    starts = await cluster.starts(topic)
    for number, start in zip(topic.numbers, starts, strict=True):
        if stood[number] < start:
            raise HistoryLost(
                f"{name}: partition {number} begins at {start} now, it stood at {stood[number]}"
            )
