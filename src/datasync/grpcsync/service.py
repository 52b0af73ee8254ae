"""Our own service: transactions, reading, and watching."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from datasync.checks import check_key, check_options
from datasync.errors import (
    BadValue,
    DataSyncError,
    Disconnected,
    HistoryLost,
    NotReady,
    Unauthorized,
    UsageError,
)
from datasync.grpc_channel import grpc
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync.connections import name_of
from datasync.grpcsync.methods import Methods, fail, unexpected
from datasync.grpcsync.wire import (
    CAPABILITIES,
    CHANGED,
    HISTORY,
    PIECE,
    capabilities_text,
    columns,
    encode,
    error_of,
    operations_of,
    pieces,
    reply_of,
)
from datasync.serving.cursors import Cursor, Cursors
from datasync.serving.followed import STREAM
from datasync.serving.hub import Hub, Subscription
from datasync.serving.incoming import Incoming
from datasync.source import ROW_BYTES, Item, Source
from datasync.tasks import end_tasks
from datasync.traceparent import carrying

__all__ = ["SERVICE", "DataSyncService"]

SERVICE = "datasync.v1.DataSync"

_AT_A_TIME = 1000
"""Transactions of one client that may wait for their first answer."""
_PAGE, _FIRST, _GROWTH = 1000, 32, 8
"""Keys of a page at most, of the first one, and by how much the next ones may be larger."""
_COMING = 256 << 20
"""Bytes of states that clients send, all of them together, until each is complete."""
_STALLED = 60.0
"""Seconds within which the next part of a state has to come."""
_PATIENCE = 5.0
"""Seconds in which the source has to say what it has acknowledged."""

_Replies = asyncio.Queue[tuple[pb.CommitReply, bool] | None]
"""What is to be sent, and whether it is the first to its request; None at the end."""

_Code = grpc.StatusCode
_STATUS = (
    (HistoryLost, _Code.OUT_OF_RANGE),
    (NotReady, _Code.FAILED_PRECONDITION),
    (Disconnected, _Code.UNAVAILABLE),
    (Unauthorized, _Code.PERMISSION_DENIED),
    (UsageError, _Code.INVALID_ARGUMENT),
)


class DataSyncService:
    """Serves what a hub follows. make: makes its methods."""

    def __init__(self, hub: Hub, make: Methods) -> None:
        self._hub = hub
        self._make = make
        self._source: Source = hub.source
        self._cursors = Cursors()
        self._streams: dict[str, Subscription[Sequence[bytes]]] = {}
        self._incoming = Incoming(_COMING)

    def methods(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """By name."""
        make = self._make
        return {
            "Commit": make.of_stream(self.commit, pb.CommitRequests, many=True),
            "Replace": make.of_stream(self.replace, pb.ReplaceRequest),
            "Get": make.of_one(self.get, pb.GetRequest),
            "List": make.of_one(self.list, pb.ListRequest, many=True),
            # encoded once for all watchers
            "Watch": make.of_one(self.watch, pb.WatchRequest, many=True),
            "CatchUp": make.of_one(self.catch_up, pb.CatchUpRequest),
        }

    async def watch(self, request: pb.WatchRequest, context: Any) -> None:
        """Frames for ever, as fast as this client reads them."""
        resume = request.resume if request.HasField("resume") else None
        try:
            await self._hub.start()
            if resume is not None:
                await self._hub.prove(resume)
            watcher = self._hub.subscribe(
                list(request.scopes),
                resume,
                list(request.added),
                encode=encode,
                peer=name_of(context.peer()),
            )
        except DataSyncError as error:
            _fail(context, error)
            return

        name = secrets.token_urlsafe(12)
        self._streams[name] = watcher

        try:
            # accepted, though the source may not be there yet
            await context.send_initial_metadata(
                ((CAPABILITIES, capabilities_text(self._hub.capabilities)), (STREAM, name))
            )
            async with self._make.outgoing(context) as out:
                async for frames in watcher:
                    encoded = list(chain.from_iterable(frames))
                    sizes = list(map(len, encoded))
                    for start, end in pieces(sizes) if sum(sizes) > PIECE else ((0, len(sizes)),):
                        part = encoded[start:end]
                        await out.write(sum(sizes[start:end]), partial(b"".join, part))
        except DataSyncError as error:
            _fail(context, error)
        finally:
            del self._streams[name]
            await watcher.aclose()

    async def catch_up(self, request: pb.CatchUpRequest, context: Any) -> pb.CatchUpReply | None:
        """Wait for the source, as far as the client does, and have a stream tell how far it is."""
        stream = self._streams.get(request.stream)
        if stream is None:
            _fail(context, Disconnected("the stream is not open any more; begin another"))
            return None
        try:
            async with asyncio.timeout(_PATIENCE):
                position = await self._hub.catch_up()
        except TimeoutError:
            _fail(context, Disconnected(f"{self._source.name} does not answer now"))
            return None
        except DataSyncError as error:
            _fail(context, error)
            return None
        stream.wake()
        return pb.CatchUpReply(position=position)

    async def commit(self, requests: AsyncIterator[pb.CommitRequests], context: Any) -> None:
        """Transactions, begun in the order in which they came; each is answered as soon as it is
        done, and once more if its verdict comes later."""
        await context.send_initial_metadata(())
        replies: _Replies = asyncio.Queue()
        turn = asyncio.Semaphore(_AT_A_TIME)
        tasks: set[asyncio.Task[None]] = set()

        async def read() -> None:
            async for batch in requests:
                for request in batch.commits:
                    await turn.acquire()
                    task = asyncio.create_task(self._commit(request, replies))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            while tasks:  # until all are answered
                await asyncio.wait(tasks)

        def finish(_: asyncio.Task[None]) -> None:
            replies.put_nowait(None)

        reading = asyncio.create_task(read())
        reading.add_done_callback(finish)
        # no TaskGroup: its errors would keep the call, and with it a thread of grpc, until the next
        # garbage collection; so would a task that is still at hand when its own error is raised
        try:
            async with self._make.outgoing(context) as out:
                while not reading.done() or not replies.empty():
                    if due := await _due(replies):
                        await out.send(pb.CommitReplies(replies=[reply for reply, _ in due]))
                    # after the answers: a client that reads none may not go on asking
                    for _ in range(sum(is_first for _, is_first in due)):
                        turn.release()
        finally:
            await end_tasks(reading, *tasks)
        try:
            reading.result()
        finally:
            del reading

    async def replace(
        self, requests: AsyncIterator[pb.ReplaceRequest], context: Any
    ) -> pb.CommitReply | None:
        """A RESYNC: nothing happens before all of it is here."""
        size, trace = 0, ""
        try:
            items: list[tuple[str, bytes]] = []
            while (request := await _next(requests)) is not None:
                if len(request.keys) != len(request.values):
                    raise BadValue("keys and values differ in number; send a value for each key")
                trace = trace or request.traceparent
                more = request.ByteSize() + ROW_BYTES * len(request.keys)
                if not self._incoming.takes(more):
                    text = (
                        f"the states that clients are sending are larger than {_COMING:,} bytes; "
                        "send it again later"
                    )
                    fail(context, _Code.RESOURCE_EXHAUSTED, text)
                    return None
                size += more
                items += zip(request.keys, request.values, strict=True)

            for key, _ in items:
                check_key(key, rooted=False)
            with carrying(trace):
                committed = await self._source.replace(items)

            del items
            self._incoming.give_back(size)  # it is the source that keeps them now
            size = 0
            return reply_of(0, committed, await committed.verdict())
        except TimeoutError:
            fail(
                context,
                _Code.UNAVAILABLE,
                f"nothing more of the state came for {_STALLED:g} s; send it again",
            )
            return None
        except DataSyncError as error:
            return pb.CommitReply(error=error_of(error))
        finally:
            self._incoming.give_back(size)

    async def get(self, request: pb.GetRequest, context: Any) -> pb.GetReply | None:
        """One value."""
        try:
            found = await self._source.get(request.key)
        except DataSyncError as error:
            _fail(context, error)
            return None
        return pb.GetReply() if found is None else pb.GetReply(value=found[0], revision=found[1])

    async def list(self, request: pb.ListRequest, context: Any) -> None:
        """Page by page, as the client reads them."""
        await context.send_initial_metadata(())
        most = min(request.limit or _PAGE, _PAGE)
        limit = most if request.keys_only else min(most, _FIRST)
        cursor: Cursor | None = Cursor(None, (), None, 0)
        name = ""
        try:
            async with self._make.outgoing(context) as out:
                while cursor is not None:
                    page, token = await self._source.page(
                        request.prefix, cursor.token, limit, keys_only=request.keys_only
                    )
                    more = token is not None
                    # G9: until the client has read this page, what follows is kept as
                    # a cursor is, not by this call
                    name = self._cursors.keep(None, (), token) if more else ""
                    del token, cursor

                    sizes = [len(key) + len(raw) for key, raw, _ in page]
                    # G9: no bound counts what a page holds beside the piece that is being written
                    limit = max(1, min(most, limit * _GROWTH, limit * PIECE // (sum(sizes) or 1)))
                    for start, end in pieces(sizes):
                        part, last = page[start:end], not more and end == len(page)
                        await out.write(sum(sizes[start:end]), partial(_listed, part, last))

                    if not more:
                        return
                    cursor = self._cursors.take(name)
            _fail(context, Disconnected("the list was read too slowly; list again"))
        except DataSyncError as error:
            _fail(context, error)
        finally:
            self._cursors.take(name)

    async def _commit(self, request: pb.CommitRequest, replies: _Replies) -> None:
        number, first = request.id, True
        wants = request.reply and self._source.capabilities.reply
        try:
            operations = operations_of(request)
            check_options(self._source, operations)
            with carrying(request.traceparent):
                committed = await self._source.commit(operations, reply=wants)
            del request, operations  # G9: a call that waits for its verdict keeps no values
            result = committed.result
            if isinstance(result, asyncio.Future):
                replies.put_nowait((reply_of(number, committed, None), first))
                first = False
                result = await result
            replies.put_nowait((reply_of(number, committed, result), first))
        except DataSyncError as error:
            replies.put_nowait((pb.CommitReply(id=number, error=error_of(error)), first))
        except Exception as mistake:
            unknown = unexpected(self._source.name, mistake)
            replies.put_nowait((pb.CommitReply(id=number, error=error_of(unknown)), first))


async def _due(replies: _Replies) -> list[tuple[pb.CommitReply, bool]]:
    """All that is to be sent, as soon as there is anything; empty at the end."""
    due = [await replies.get()]
    while not replies.empty():
        due.append(replies.get_nowait())
    return [reply for reply in due if reply is not None]


def _listed(page: Sequence[Item], last: bool) -> bytes:
    return pb.ListReply(items=columns(page), more=not last).SerializeToString()


async def _next(requests: AsyncIterator[pb.ReplaceRequest]) -> pb.ReplaceRequest | None:
    """The next part, or None at the end. Raises `TimeoutError`."""
    async with asyncio.timeout(_STALLED):
        return await anext(requests, None)


def _fail(context: Any, error: DataSyncError) -> None:
    """End a call with the status that tells the other side which error it is."""
    if isinstance(error, HistoryLost) and error.changed:
        context.set_trailing_metadata(((HISTORY, CHANGED),))
    fail(
        context,
        next((code for kind, code in _STATUS if isinstance(error, kind)), _Code.INTERNAL),
        str(error),
    )
