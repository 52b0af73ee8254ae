"""Publishing: idempotent, acknowledged by all replicas in sync, many at once
in batches, in order per key."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from aiokafka.errors import KafkaError

from datasync.errors import DataSyncError, Disconnected, OutcomeUnknown, WatchClosed
from datasync.msgsync.kafka import errors
from datasync.msgsync.kafka.cluster import Cluster
from datasync.msgsync.kafka.internals import (
    DefaultRecordBatchBuilder,
    InitProducerIdRequest,
    ProduceRequest,
    murmur2,
)

__all__ = ["Message", "Publisher", "batch_of", "partition_of", "produce"]

_MAGIC, _PLAIN = 2, 0
_ALL_IN_SYNC = -1
_BATCH = 500_000
"""Bytes of one batch, unless the topic takes less."""
_PAUSE = 0.02
_MOST_EPOCHS = 30_000
_LAST = 0.1
"""Of the time of a write that was refused: another try, whose answer may not come in
time, is not begun in the last."""


class Message:
    """A record on its way; `raw` None is a tombstone. `done` gets its offset."""

    __slots__ = ("done", "headers", "key", "raw")

    def __init__(self, key: bytes, raw: bytes | None, content_type: str | None = None) -> None:
        self.key = key
        self.raw = raw
        self.headers = [] if content_type is None else [("content-type", content_type.encode())]
        self.done: asyncio.Future[int] | None = None


def partition_of(key: bytes, count: int) -> int:
    """Where Kafka's own clients put the key: murmur2 of it."""
    return (murmur2(key) & 0x7FFFFFFF) % count if count > 1 else 0


def batch_of(
    messages: Sequence[Message],
    producer: tuple[int, int],
    sequence: int,
    limit: int,
    *,
    transaction: bool = False,
) -> tuple[bytes, int]:
    """A batch of as many messages as there is room for, at least one, and how many they are."""
    builder: Any = DefaultRecordBatchBuilder(
        _MAGIC, _PLAIN, int(transaction), *producer, sequence, limit
    )
    count = 0
    for message in messages:
        if builder.append(count, None, message.key, message.raw, message.headers) is None:
            break
        count += 1
    return bytes(builder.build()), count


async def produce(
    cluster: Cluster,
    partition: int,
    batch: bytes,
    transaction: str | None,
    *,
    connected: asyncio.Event,
) -> tuple[int, int]:
    """Send one batch: (error code, offset of its first record). `connected`
    is set just before it is sent.

    A broker that hangs has half the time, for another may lead by then. Raises
    `Disconnected`, `PartitionGone`.
    """
    access = cluster.access
    topic = await cluster.topic()
    leader = await cluster.leader(partition)
    connection = await cluster.connection(leader)
    where = [(access.topic, [(topic.numbers[partition], batch)])]
    request = ProduceRequest(transaction, _ALL_IN_SYNC, int(access.timeout * 1000), where)
    connected.set()
    try:
        async with asyncio.timeout(access.timeout / 2):
            answer = await connection.send(request)
    except (OSError, KafkaError, TimeoutError) as error:
        cluster.drop(leader)
        raise errors.of_connection(error, cluster.name) from None
    except asyncio.CancelledError:
        cluster.drop(leader)  # whatever it is that has hung
        raise
    with errors.understanding(cluster.name):
        (_, code, offset, *_) = answer.topics[0][1][0]
    return code, offset


class _Lane:
    """What goes to one partition, one batch at a time. The broker counts batches by epoch and
    sequence: a batch sent again is stored once, and a batch of an older epoch not at all."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.waiting: deque[Message] = deque()
        self.epoch = 0
        self.sequence = 0
        self.under_way = 0
        self.fault: DataSyncError | None = None
        """Why what is under way had to be tried again the last time."""
        self.task: asyncio.Task[None] | None = None

    def renew(self) -> None:
        """Shut out what may still be under way."""
        self.epoch += 1
        self.sequence = 0


class Publisher:
    """Publishes single messages."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lanes: dict[int, _Lane] = {}
        self._producer: int | None = None
        self._starting = asyncio.Lock()
        self._largest = _BATCH

    async def put(self, message: Message) -> int:
        """Publish, and return the offset. Raises `Disconnected` (surely not done),
        `OutcomeUnknown`, `Unauthorized`, `BadStore`, `ValueTooLarge`."""
        topic = self._cluster.recent
        if topic is None:
            topic = await self._cluster.retrying(self._cluster.topic)
        message.done = asyncio.get_running_loop().create_future()
        partition = partition_of(message.key, len(topic.leaders))
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane(partition)
        lane.waiting.append(message)
        if lane.task is None or lane.task.done():
            lane.task = asyncio.ensure_future(self._run(lane))
        try:
            return await message.done
        finally:
            # an error whose traceback leads to it lives until the next garbage collection
            message.done = None

    async def aclose(self) -> None:
        """End; what waits is told so."""
        tasks = [
            lane.task
            for lane in self._lanes.values()
            if lane.task is not None and not lane.task.done()
        ]
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:  # G12: if this is cancelled meanwhile, too
            for lane in self._lanes.values():
                _fail(lane.waiting, self._not_done(asyncio.CancelledError()))
            self._lanes.clear()

    async def _run(self, lane: _Lane) -> None:
        """Deliver what waits in a lane, in order."""
        while lane.waiting:
            batch = [
                message
                for message in lane.waiting
                if message.done is not None and not message.done.done()
            ]
            lane.waiting.clear()

            while batch:
                sent, lane.fault = asyncio.Event(), None
                try:
                    async with asyncio.timeout(self._cluster.access.timeout):
                        offset = await self._deliver(lane, batch, sent)
                except errors.ValueTooLarge as too_large:
                    _fail(batch[:1], too_large)
                    batch = batch[1:]
                except BaseException as raised:
                    # G10: of a time that is up, the reason is what was tried again until then
                    error = (lane.fault or raised) if isinstance(raised, TimeoutError) else raised
                    # none was sent of those after the first batch
                    first = lane.under_way if sent.is_set() else 0
                    _fail(
                        batch[:first],
                        OutcomeUnknown(
                            f"{self._why(error)}; read the key to see whether it was written"
                        ),
                    )
                    _fail(batch[first:], self._not_done(error))
                    if sent.is_set():
                        lane.renew()
                    if not isinstance(raised, DataSyncError | TimeoutError):
                        _fail(lane.waiting, self._not_done(raised))
                        raise
                    break
                else:
                    for index, message in enumerate(batch[: lane.under_way]):
                        if message.done is not None and not message.done.done():
                            message.done.set_result(offset + index)
                    batch = batch[lane.under_way :]

    async def _deliver(self, lane: _Lane, batch: Sequence[Message], sent: asyncio.Event) -> int:
        """Send the first messages of a batch until they are acknowledged: the offset of
        the first. How many they are is noted in the lane. `sent` is set while it is
        unknown whether they were written."""
        producer, cluster, doubt = await self._identity(), self._cluster, False
        time = asyncio.get_running_loop().time
        last = time() + cluster.access.timeout * (1 - _LAST)
        data, lane.under_way = batch_of(batch, (producer, lane.epoch), lane.sequence, self._largest)

        while True:
            try:
                code, offset = await produce(cluster, lane.partition, data, None, connected=sent)
            except errors.PartitionGone:
                raise
            except Disconnected as error:
                doubt, lane.fault = sent.is_set(), error
                await self._look_again(sent)
                continue

            if not code:
                lane.sequence += lane.under_way
                return offset

            doubt = doubt or code in errors.PERHAPS_WRITTEN
            refused = errors.not_written(code, cluster.name)
            if not doubt:
                sent.clear()

            if code in errors.TOO_LARGE:
                if lane.under_way == 1:
                    raise errors.too_large(batch[0].key)
                self._largest //= 2
                data, lane.under_way = batch_of(
                    batch, (producer, lane.epoch), lane.sequence, self._largest
                )
            elif code in errors.LATER or code in errors.UNKNOWN_TOPIC:
                lane.fault = errors.of_code(code, cluster.name, "writing") if doubt else refused
                if not doubt and time() > last:
                    raise refused
                await self._look_again(sent)
            elif not doubt and code in errors.UNORDERED:
                lane.renew()
                data, lane.under_way = batch_of(
                    batch, (producer, lane.epoch), lane.sequence, self._largest
                )
            else:
                raise errors.of_code(code, cluster.name, "writing") if doubt else refused

    async def _look_again(self, sent: asyncio.Event) -> None:
        """Find out who leads now. Where nobody answers, what was sent is sent on until its time is
        up, for only that tells its fate."""
        try:
            await self._cluster.look_again()
        except Disconnected:
            if not sent.is_set():
                raise

    async def _identity(self) -> int:
        """The id that the brokers count this producer's batches by."""
        async with self._starting:
            if self._producer is None or any(
                lane.epoch > _MOST_EPOCHS for lane in self._lanes.values()
            ):
                request: Any = InitProducerIdRequest(None, 0)
                answer = await self._cluster.any(request)
                while answer.error_code in errors.LATER:
                    await asyncio.sleep(_PAUSE)
                    answer = await self._cluster.any(request)
                if answer.error_code:
                    raise errors.of_code(
                        answer.error_code, self._cluster.name, "becoming a producer"
                    )
                self._producer = answer.producer_id
                self._largest = min(_BATCH, (await self._cluster.settings()).largest)
                for lane in self._lanes.values():
                    lane.epoch, lane.sequence = answer.producer_epoch, 0
            return self._producer

    def _why(self, error: BaseException) -> str:
        if isinstance(error, DataSyncError):
            return str(error)
        return (
            f"{self._cluster.name}: "
            f"{'no answer in time' if isinstance(error, TimeoutError) else 'closed'}"
        )

    def _not_done(self, error: BaseException) -> DataSyncError:
        if isinstance(error, DataSyncError):
            return error
        if isinstance(error, asyncio.CancelledError):
            return WatchClosed(f"{self._why(error)}; nothing was written")
        return Disconnected(f"{self._why(error)}; nothing was written, try again")


def _fail(messages: Sequence[Message] | deque[Message], error: DataSyncError) -> None:
    for message in messages:
        if message.done is not None and not message.done.done():
            message.done.set_exception(error)
