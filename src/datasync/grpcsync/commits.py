"""The client's stream of transactions: those asked for at the same time share a message."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence

import msgspec

from datasync.errors import DataSyncError, Disconnected, OutcomeUnknown, WatchClosed
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync.client import Client, Stream
from datasync.grpcsync.wire import PIECE, committed_of, exception_of, request_of, result_of
from datasync.source import Committed, Operation, Result
from datasync.tasks import end_tasks

__all__ = ["Commits"]


_GRACE = 0.2
"""Seconds that closing waits for what was sent, whose outcome would be unknown else."""


class _Pending(msgspec.Struct, eq=False):
    """One transaction under way: first it is committed, then, where that was
    asked for, there is a verdict."""

    number: int
    request: bytes
    """As `request_of` makes it."""
    reply: bool
    committed: asyncio.Future[Committed]
    sent: bool = False
    verdict: asyncio.Future[Result] | None = None


class Commits:
    """Sends transactions over one stream, which opens when there is something to
    send, and again after a fault."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._number = 0
        self._due: list[_Pending] = []
        self._pending: dict[int, _Pending] = {}
        self._task: asyncio.Task[None] | None = None
        self._connected = False
        """The server has answered since the stream was last begun."""
        self._more = asyncio.Event()
        self._spoke = -math.inf
        """When the server last answered anything that somebody had asked, by the loop's clock."""

    async def commit(self, operations: Sequence[Operation], *, reply: bool) -> Committed:
        """As `Source.commit`."""
        self._number += 1
        pending = _Pending(
            self._number,
            request_of(self._number, operations, reply=reply),
            reply,
            asyncio.get_running_loop().create_future(),
        )
        self._pending[self._number] = pending
        self._due.append(pending)
        self._more.set()
        if self._task is None:
            self._task = asyncio.create_task(
                self._run(), name=f"datasync commits {self._client.access.name}"
            )

        try:
            return await self._answered(pending.committed)
        except TimeoutError:
            raise self._unanswered(sent=pending.sent) from None
        finally:
            if pending.verdict is None:
                self._pending.pop(pending.number, None)
            if not pending.sent:
                with contextlib.suppress(ValueError):
                    self._due.remove(pending)
            # G9: an error whose own traceback leads to it would keep the value,
            # until the next garbage collection
            del pending

    def _unanswered(self, *, sent: bool) -> DataSyncError:
        """Why there is no answer in time."""
        name, within = self._client.access.authority, f"within {self._client.timeout:g} s"
        if sent:
            return OutcomeUnknown(f"{name}: no answer {within}; read the key to see what it is")
        if self._connected:
            return Disconnected(
                f"{name}: no answer {within} to the writes before it; this one was not sent, try "
                "again, or have fewer under way at a time"
            )
        return Disconnected(f"{name}: no connection {within}; nothing was written")

    async def _answered(self, committed: asyncio.Future[Committed]) -> Committed:
        """Wait as long as the server answers anything at all: behind many
        others an answer takes its time.

        Raises `TimeoutError`.
        """
        loop = asyncio.get_running_loop()
        try:
            while not committed.done():
                since = loop.time()
                await asyncio.wait((committed,), timeout=self._client.timeout)
                if self._spoke < since and not committed.done():
                    raise TimeoutError
            return committed.result()
        finally:
            del committed  # G9: as in `commit`

    async def aclose(self) -> None:
        """End the stream, after a moment for the answers that are on their
        way. May be called twice.

        G10: what has not been sent by now never is, and is answered with `WatchClosed`.
        """
        try:
            self._give_up_unsent()
            if due := [
                one.committed
                for one in self._pending.values()
                if one.sent and not one.committed.done()
            ]:
                await asyncio.wait(due, timeout=_GRACE)
        finally:
            task, self._task = self._task, None
            if task is not None:
                await end_tasks(task)

    async def _run(self) -> None:
        """Keep the stream open until it fails; then all that waits fails with it."""
        error: DataSyncError | None = None
        sending: asyncio.Task[None] | None = None

        try:
            await self._client.ping()  # what cannot be reached says why, and nothing has been sent
            self._spoke = asyncio.get_running_loop().time()
            stream, self._connected = self._client.commits(), True
            sending = asyncio.create_task(self._send(stream))
            await self._receive(stream)
        except DataSyncError as failed:
            error = failed.with_traceback(None)
        finally:
            self._connected = False
            if error is None:
                self._give_up_unsent()
                error = Disconnected(f"{self._client.access.authority}: the connection is closed")
            # G10: at once, for a socket that takes nothing holds up what is being sent for seconds
            self._fail(error)
            if sending is not None:
                stream.cancel()
                await end_tasks(sending)
                self._fail(error)  # and what came meanwhile
            self._task = None

    async def _send(self, stream: Stream[pb.CommitReplies]) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._due:
                size = 0
                batch: list[bytes] = []
                for pending in self._due:
                    size += len(pending.request)
                    if batch and size > PIECE:
                        break
                    pending.sent = True
                    batch.append(pending.request)
                del self._due[: len(batch)]
                if not await stream.write(b"".join(batch)):
                    return

    async def _receive(self, stream: Stream[pb.CommitReplies]) -> None:
        while True:
            replies = await stream.read()
            if replies is None:
                raise Disconnected(f"{self._client.access.authority}: the server ended the stream")
            for reply in replies.replies:
                self._take(reply)

    def _take(self, reply: pb.CommitReply) -> None:
        pending = self._pending.get(reply.id)
        if pending is None:
            return  # the caller no longer waits
        self._spoke = asyncio.get_running_loop().time()

        result: Result | None = None
        error = exception_of(reply.error) if reply.HasField("error") else None
        try:
            result = result_of(reply)
        except OutcomeUnknown as unknown:
            error = unknown

        if pending.verdict is not None:
            del self._pending[reply.id]
            if pending.verdict.done():
                pass
            elif result is not None:
                pending.verdict.set_result(result)
            else:
                pending.verdict.set_exception(error or exception_of(reply.error))
                pending.verdict.exception()  # the caller may no longer wait for it
        elif pending.committed.done():
            pass
        elif error is not None:
            pending.committed.set_exception(error)
        else:
            committed = committed_of(reply)
            if pending.reply:
                if result is None:
                    pending.verdict = asyncio.get_running_loop().create_future()
                committed = msgspec.structs.replace(committed, result=result or pending.verdict)
            pending.committed.set_result(committed)

    def _give_up_unsent(self) -> None:
        """Answer all that wait to be sent: this is closed."""
        self._due.clear()
        for pending in self._pending.values():
            if not pending.sent and not pending.committed.done():
                name = self._client.access.authority
                pending.committed.set_exception(
                    WatchClosed(f"{name}: closed before it was sent; nothing was written")
                )

    def _fail(self, error: DataSyncError) -> None:
        """Answer all that wait: what was not sent surely was not done."""
        name = self._client.access.authority
        pendings = list(self._pending.values())
        self._pending.clear()
        self._due.clear()
        for pending in pendings:
            if pending.verdict is not None:
                if not pending.verdict.done():
                    pending.verdict.set_exception(
                        OutcomeUnknown(
                            f"{name}: lost before the watches reported; the write itself stands"
                        )
                    )
                    pending.verdict.exception()  # the caller may no longer wait for it
            elif not pending.committed.done():
                if pending.sent and isinstance(error, Disconnected):
                    pending.committed.set_exception(
                        OutcomeUnknown(f"{error}; read the key to see what it is")
                    )
                else:
                    pending.committed.set_exception(error)
