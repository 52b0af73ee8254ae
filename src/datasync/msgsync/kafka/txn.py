"""Transactions: several messages, in one partition or several, that readers see all or none of."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from typing import Any

from datasync.errors import DataSyncError, Disconnected, OutcomeUnknown
from datasync.msgsync.kafka import errors
from datasync.msgsync.kafka.cluster import Cluster
from datasync.msgsync.kafka.internals import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)
from datasync.msgsync.kafka.publish import Message, batch_of, partition_of, produce

__all__ = ["Transactions"]

_LANE = "transactions"
_TRANSACTION = 1
_OPEN_MS = 10_000
"""After so long the coordinator aborts a transaction that nobody ends."""
_PAUSE = 0.005
_BATCH = 500_000


class Transactions:
    """One transaction at a time, under an id of its own: nobody else fences it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._id = f"datasync-{uuid.uuid4().hex}"
        self._producer: tuple[int, int] | None = None
        self._turn = asyncio.Lock()
        self._limit = _BATCH
        self._fault: DataSyncError | None = None
        """Why something had to be tried again the last time."""

    async def commit(self, messages: Sequence[Message]) -> list[int]:
        """Publish all of them or none, and return their offsets once readers see them.

        Raises `Aborted` and `Disconnected` (nothing was written), `OutcomeUnknown`,
        `Unauthorized`, `BadStore`, `ValueTooLarge`.
        """
        async with self._turn:
            ending, self._fault = asyncio.Event(), None
            try:
                async with asyncio.timeout(2 * self._cluster.access.timeout):
                    return await self._commit(messages, ending)
            except TimeoutError:
                fault = self._fault or Disconnected(
                    f"{self._cluster.name}: no answer in time; nothing was written"
                )
                await self._give_up(ending)
                if ending.is_set():
                    raise self._unknown(str(self._fault or "no answer in time")) from None
                raise fault from None
            except DataSyncError as error:
                await self._give_up(ending)
                if ending.is_set() and not isinstance(error, errors.Aborted):
                    raise self._unknown(str(error)) from None
                raise
            except BaseException:  # given up by the caller: what is open would hold readers back
                await self._give_up(ending)
                raise

    async def _commit(self, messages: Sequence[Message], ending: asyncio.Event) -> list[int]:
        cluster = self._cluster
        topic = await cluster.retrying(cluster.topic)

        parts: dict[int, list[Message]] = {}
        for message in messages:
            parts.setdefault(partition_of(message.key, len(topic.leaders)), []).append(message)

        producer = self._producer or await self._begin()
        self._producer = None  # until it is known to have ended well

        request = AddPartitionsToTxnRequest(
            self._id, *producer, [(cluster.access.topic, [topic.numbers[part] for part in parts])]
        )
        await self._tell(request, _code_of_parts, tuple(parts))

        try:
            async with asyncio.TaskGroup() as group:
                sending = [
                    group.create_task(self._send(part, those, producer))
                    for part, those in parts.items()
                ]
        except BaseExceptionGroup as errors_of_parts:
            raise errors_of_parts.exceptions[0] from None

        ending.set()
        self._fault = None
        await self._tell(EndTxnRequest(self._id, *producer, True), lambda answer: answer.error_code)

        # the answer to this comes once the markers are written, so that readers see the transaction
        with contextlib.suppress(DataSyncError):
            self._producer = await self._begin()

        offsets = dict(zip(parts, (iter(task.result()) for task in sending), strict=True))
        return [
            next(offsets[partition_of(message.key, len(topic.leaders))]) for message in messages
        ]

    async def _send(
        self, partition: int, messages: Sequence[Message], producer: tuple[int, int]
    ) -> list[int]:
        """Send what goes to one partition; returns the offsets."""
        cluster, offsets = self._cluster, list[int]()
        left = list(messages)
        while left:
            batch, count = batch_of(left, producer, len(offsets), self._limit, transaction=True)
            code, offset = await self._produce(partition, batch)
            if code in errors.TOO_LARGE and count > 1:
                self._limit //= 2
                continue
            if code in errors.TOO_LARGE:
                raise errors.too_large(left[0].key)
            if code in errors.FENCED or code in errors.UNORDERED:
                raise errors.Aborted(
                    f"{cluster.name}: the transaction was aborted; nothing was written, try again"
                )
            if code:
                raise errors.not_written(code, cluster.name)
            offsets += range(offset, offset + count)
            left = left[count:]
        return offsets

    async def _produce(self, partition: int, batch: bytes) -> tuple[int, int]:
        """Send a batch, again where that is needed: it is stored once."""
        while True:
            try:
                code, offset = await produce(
                    self._cluster, partition, batch, self._id, connected=asyncio.Event()
                )
                if code not in errors.LATER:
                    return code, offset
                self._fault = errors.not_written(code, self._cluster.name)
            except errors.PartitionGone:
                raise
            except Disconnected as error:
                self._fault = error
            await self._cluster.look_again()

    async def _begin(self) -> tuple[int, int]:
        """A new epoch: of the transaction before nothing is open any more, aborted
        where it was not committed."""
        answer = await self._tell(
            InitProducerIdRequest(self._id, _OPEN_MS), lambda answer: answer.error_code
        )
        return answer.producer_id, answer.producer_epoch

    async def _tell(self, request: Any, code_of: Any, parts: Sequence[int] = ()) -> Any:
        """The coordinator's answer, to a request about these partitions; it is asked again as long
        as it says that it has no time yet."""
        while True:
            try:
                coordinator = await self._cluster.coordinator(self._id, _TRANSACTION)
                answer = await self._cluster.ask(coordinator, request, _LANE)
            except Disconnected as error:
                self._fault = error
                self._cluster.forget_coordinator(self._id)
                if not isinstance(request, EndTxnRequest):
                    # else only the answer tells what became of it
                    await self._cluster.look_again()
                await asyncio.sleep(_PAUSE)
                continue

            code = code_of(answer)
            if not code:
                return answer
            if code in errors.FENCED:
                raise errors.Aborted(
                    f"{self._cluster.name}: the transaction was aborted; nothing was written, "
                    "try again"
                )

            if code not in errors.LATER and code not in errors.UNKNOWN_TOPIC:
                raise errors.of_code(code, self._cluster.name, "a transaction")
            self._fault = errors.of_code(code, self._cluster.name, "a transaction")
            if code in errors.UNKNOWN_TOPIC:
                await self._cluster.look_again()
                for part in parts:
                    await self._cluster.leader(part)

            if code != errors.Code.CONCURRENT_TRANSACTIONS:
                self._cluster.forget_coordinator(self._id)
            await asyncio.sleep(_PAUSE)

    async def _give_up(self, ending: asyncio.Event) -> None:
        """Abort at once what would hold readers back until its time is up; as well as can be."""
        if not ending.is_set():
            with contextlib.suppress(DataSyncError, TimeoutError):
                async with asyncio.timeout(1.0):
                    self._producer = await self._begin()

    def _unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(f"{why}; read the keys to see whether they were written")


def _code_of_parts(answer: Any) -> int:
    """Why partitions could not be added: the reason of one of them, not that the
    others were not tried then."""
    codes = {code for _, found in answer.errors for _, code in found if code}
    return max(codes - {errors.Code.OPERATION_NOT_ATTEMPTED} or codes, default=0)
