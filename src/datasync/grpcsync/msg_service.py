"""The service of the Go package: changes, RESYNCs and ping, each change
answered in order with its verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from datasync.checks import check_key, check_options
from datasync.errors import (
    BadKey,
    BadStore,
    DataSyncError,
    Disconnected,
    NotReady,
    OutcomeUnknown,
    Unauthorized,
)
from datasync.grpc_channel import grpc
from datasync.grpcsync import msg_pb2 as msg
from datasync.grpcsync.methods import Methods, unexpected
from datasync.grpcsync.unsent import Outgoing
from datasync.grpcsync.wire import CAPABILITIES, capabilities_text
from datasync.outcome import NO_OUTCOMES, KeyOutcome, Verdict
from datasync.serving.hub import Hub
from datasync.serving.inbox import Inbox
from datasync.source import Delete, Operation, Put, Result
from datasync.tasks import end_tasks

__all__ = ["SERVICE", "MsgService"]

SERVICE = "msg.DataMsgService"

_AHEAD = 256
"""Changes of one stream that may wait for their verdicts; then its client waits."""

APPLIED, REFUSED, FAILED, OVERDUE, UNWATCHED, NOT_READY, INVALID, NOT_WRITTEN, UNKNOWN = range(9)
"""The result codes. docs/guarantees.md has the meaning of the verdicts,
docs/grpc.md that of all of them."""

_CODES = {
    Verdict.ACCEPTED: APPLIED,
    Verdict.REFUSED: REFUSED,
    Verdict.PENDING: REFUSED,  # its clients know no code for that: not applied, and not tried again
    Verdict.FAILED: FAILED,
    Verdict.OVERDUE: OVERDUE,
    Verdict.UNWATCHED: UNWATCHED,
}
_TEXTS = {
    FAILED: "a watch failed to apply it; it is stored, and will be tried again",
    OVERDUE: "a watch has not reported in time; it is stored",
    UNWATCHED: "nobody watches this key; it is stored",
}

_ACKNOWLEDGED = Result(Verdict.ACCEPTED)
"""What is known where the source hears no verdicts."""

Outcome = Result | asyncio.Future[Result] | DataSyncError


class MsgService:
    """Serves what a hub follows; only a source without a store in between takes a
    RESYNC. make: makes its methods."""

    def __init__(self, hub: Hub, make: Methods) -> None:
        self._make = make
        self._hub = hub
        self._source = hub.source
        self._name = hub.source.name
        self._reply = hub.source.capabilities.reply

    def methods(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """By name."""
        make = self._make
        return {
            "dataChanges": make.of_stream(self.data_changes, msg.DataChangeRequest, many=True),
            "dataResyncs": make.of_one(self.data_resyncs, msg.DataResyncRequests),
            "ping": make.of_one(self.ping, msg.PingRequest),
        }

    async def ping(self, request: msg.PingRequest, context: Any) -> msg.PingReply:
        # for a client of ours, which learns whether there are verdicts to wait for: where only
        # remote watchers follow, and they are not asked, there are none
        can = self._source.capabilities
        if not isinstance(self._source, Inbox):
            can = msgspec.structs.replace(can, reply=False)
        await context.send_initial_metadata(((CAPABILITIES, capabilities_text(can)),))
        return msg.PingReply(message="it works")  # as Go has it

    async def data_changes(
        self, requests: AsyncIterator[msg.DataChangeRequest], context: Any
    ) -> None:
        """Applies each change as it comes, and answers in the same order.

        What was applied before the client broke off stays; what follows is not begun.
        """
        await context.send_initial_metadata(())
        async with self._make.outgoing(context) as out:
            answers = _Answers(out, self._name)
            try:
                async for request in requests:
                    await answers.add(request, await self._begin(request))
                await answers.end()
            finally:
                await answers.aclose()

    async def data_resyncs(
        self, request: msg.DataResyncRequests, context: Any
    ) -> msg.DataResyncReplies:
        """Replaces everything, and answers for each key, and as a whole."""
        code, text, outcomes = APPLIED, "", NO_OUTCOMES
        keys = [item.key for item in request.dataResyncs]
        try:
            for key in keys:
                check_key(key, rooted=False)
            committed = await self._source.replace(
                (item.key, item.content) for item in request.dataResyncs
            )
            result = await committed.verdict()
        except DataSyncError as error:
            code, text = _code_of(error), str(error)
        else:
            code, text, outcomes = _CODES[result.verdict], _text(result), result.outcomes
        return msg.DataResyncReplies(
            msgId=request.msgId,
            error=msg.Error(message=text) if code else None,
            dataResyncs=msg.DataResyncReplies.DataResyncsReplies(
                replies=[_resync_reply(request.msgId, key, code, text, outcomes) for key in keys]
            ),
        )

    async def _begin(self, request: msg.DataChangeRequest) -> Outcome:
        """Apply one change; the verdict may come later."""
        key, kind = request.key, request.operationType
        operation: Operation
        if kind == msg.PUT:
            operation = Put(key, request.content)
        elif kind == msg.DEL:
            operation = Delete(key)
        else:
            return BadKey(f"operation type {kind} is unknown; use 0 (PUT) or 1 (DEL)")
        try:
            check_key(key, rooted=False)
            check_options(self._source, [operation])
            committed = await self._source.commit([operation], reply=self._reply)
        except DataSyncError as error:
            return error
        except Exception as error:
            return unexpected(self._name, error)
        return committed.result or _ACKNOWLEDGED


class _Answers:
    """Answers the changes of one stream in their order: at once, unless one before
    still waits for its verdict."""

    def __init__(self, out: Outgoing, name: str) -> None:
        self._out = out
        self._name = name
        self._created = int(time.time())
        self._number = 0
        self._due: asyncio.Queue[tuple[msg.DataChangeRequest, Outcome]] = asyncio.Queue(_AHEAD)
        self._writing: asyncio.Task[None] | None = None

    async def add(self, request: msg.DataChangeRequest, outcome: Outcome) -> None:
        """Answer this change."""
        if self._writing is None:
            if not isinstance(outcome, asyncio.Future):
                await self._write(request, outcome)
                return
            self._writing = asyncio.create_task(self._write_due(request, outcome))
        else:
            await self._due.put((request, outcome))
            if self._writing is not None and self._writing.done():
                await self._writing  # it failed: no answer will be read any more

    async def end(self) -> None:
        """Wait until all have been answered."""
        if self._writing is not None:
            await self._writing

    async def aclose(self) -> None:
        """Give up what has not been answered."""
        writing, self._writing = self._writing, None  # its error knows this object
        if writing is not None:
            await end_tasks(writing)

    async def _write_due(self, request: msg.DataChangeRequest, outcome: Outcome) -> None:
        """Until nothing is due; the next may then be answered at once."""
        try:
            while True:
                await self._write(request, await _known(outcome))
                if self._due.empty():
                    self._writing = None
                    return
                request, outcome = self._due.get_nowait()
        finally:
            while not self._due.empty():  # `add` may wait for room: it is to hear of the failure
                self._due.get_nowait()

    async def _write(self, request: msg.DataChangeRequest, outcome: Result | DataSyncError) -> None:
        self._number = (self._number + 1) & 0xFFFFFFFF
        key = request.key
        code, text = _answer(key, outcome)
        reply = msg.DataChangeReply(key=key, operationType=request.operationType, result=code)
        number = reply.changeId  # made in its place, for one that is added later is copied
        number.originator, number.seqCreatedSec, number.seq = (
            self._name,
            self._created,
            self._number,
        )
        if code:
            reply.error.message = text
        await self._out.send(reply)


async def _known(outcome: Outcome) -> Result | DataSyncError:
    """The outcome, once it is known."""
    if not isinstance(outcome, asyncio.Future):
        return outcome
    try:
        return await outcome
    except DataSyncError as error:
        return error


def _answer(key: str, outcome: Result | DataSyncError) -> tuple[int, str]:
    """The result code and text of one change."""
    if isinstance(outcome, DataSyncError):
        return _code_of(outcome), str(outcome)
    if outcome.verdict is Verdict.ACCEPTED:
        return APPLIED, ""
    said = outcome.outcomes.get(key)
    return _CODES[outcome.verdict], (said and said.reason) or _text(outcome)


def _resync_reply(
    number: msg.Seq, key: str, code: int, text: str, outcomes: Mapping[str, KeyOutcome]
) -> msg.DataResyncReply:
    if key in outcomes:
        text = outcomes[key].reason or text
    elif code == REFUSED:  # else it is not known of which keys that is true
        code, text = APPLIED, ""
    return msg.DataResyncReply(
        resyncId=number, key=key, result=code, error=msg.Error(message=text) if code else None
    )


def _text(result: Result) -> str:
    return _TEXTS.get(_CODES[result.verdict]) or "; ".join(
        f"{key}: {said.reason}" for key, said in sorted(result.outcomes.items())
    )


def _code_of(error: DataSyncError) -> int:
    match error:
        case NotReady():
            return NOT_READY
        case OutcomeUnknown():
            return UNKNOWN
        case Disconnected() | BadStore() | Unauthorized():
            return NOT_WRITTEN
        case _:
            return INVALID
