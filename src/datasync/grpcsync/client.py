"""The client: calls of both services, with deadlines, and errors as datasync has them."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from datasync.capabilities import Capabilities
from datasync.certificates import BadCertificate, explained
from datasync.connecting import foreign, no_answer, too_large, unreachable
from datasync.endpoints import MAX_ANSWER
from datasync.errors import (
    BadStore,
    BadValue,
    DataSyncError,
    Disconnected,
    HistoryLost,
    NotReady,
    OutcomeUnknown,
    Unauthorized,
    WatchClosed,
)
from datasync.grpc_channel import (
    CHANNEL_OPTIONS,
    await_detached,
    certificate_problem,
    channel_credentials,
    connection_problem,
    grpc,
    is_closed,
    parsed,
    received_at_most,
    too_large_to_receive,
)
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync import msg_pb2 as msg
from datasync.grpcsync.msg_service import SERVICE as MSG_SERVICE
from datasync.grpcsync.service import SERVICE
from datasync.grpcsync.wire import (
    CAPABILITIES,
    CHANGED,
    HISTORY,
    MAX_MESSAGE,
    PIECE,
    capabilities_of,
    exception_of,
)
from datasync.serving.access import Access
from datasync.serving.followed import STREAM
from datasync.traceparent import carried

__all__ = ["Client", "Stream"]

M = TypeVar("M", bound=Message)

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # longer waits are the engine's
    *CHANNEL_OPTIONS,
]
_Code = grpc.StatusCode
_PROTOCOL = "datasync"


class Client:
    """One server, reached over one connection. timeout: seconds that an answer may take.
    most: bytes that one may have."""

    def __init__(self, access: Access, timeout: float, most: int = MAX_ANSWER) -> None:
        self.access = access
        self.timeout = timeout
        self.most = most
        self._metadata = (
            () if access.token is None else (("authorization", f"Bearer {access.token}"),)
        )
        self._channel: grpc.aio.Channel | None = None
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()
        self._shown: tuple[bytes | None, ...] = ()
        """What the files of TLS held when the connection was opened."""

    async def ping(self) -> Capabilities | None:
        """Make sure that somebody answers; what it says that its source can. Raises
        `Disconnected`, `Unauthorized`."""
        call: Any = self._call(
            f"/{MSG_SERVICE}/ping", msg.PingRequest(message="datasync"), msg.PingReply
        )
        try:
            await await_detached(call)
            return capabilities_of(
                (await await_detached(call.initial_metadata())).get(CAPABILITIES)
            )
        except grpc.aio.AioRpcError as error:
            raise await self._explained(self.read_error(error)) from None
        except asyncio.CancelledError as error:
            raise self._closed(error) from None
        finally:
            del call

    async def get(self, key: str) -> tuple[bytes, int] | None:
        """The value and revision of a key."""
        reply = await self._ask(f"/{SERVICE}/Get", pb.GetRequest(key=key), pb.GetReply)
        return (reply.value, reply.revision) if reply.HasField("value") else None

    async def list(self, prefix: str, limit: int, *, keys_only: bool) -> Stream[pb.ListReply]:
        """The pages of a prefix, for `page`."""
        stream = self._stream("List", pb.ListReply)
        await stream.ask(pb.ListRequest(prefix=prefix, limit=limit, keys_only=keys_only))
        return stream

    async def page(self, stream: Stream[pb.ListReply]) -> pb.ListReply:
        """The next one."""
        try:
            async with self._breaks_explained():
                reply = await stream.read(self.timeout)
        except Disconnected:
            if stream.cancelled:
                raise self.closed from None
            raise
        if reply is None:
            raise Disconnected(f"{self.access.name}: the list ended before its last page")
        return reply

    async def watch(self, request: pb.WatchRequest) -> Stream[pb.WatchReply]:
        """Frames, once the server has accepted to send them."""
        stream = self._stream("Watch", pb.WatchReply)
        try:
            async with self._breaks_explained():
                await stream.ask(request)
                await stream.accepted()
        except (Disconnected, BadCertificate) as error:
            stream.cancel()
            raise await self._explained(error) from None
        except BaseException:
            stream.cancel()
            raise
        return stream

    async def catch_up(self, stream: str) -> str | None:
        """Where a watch has to be to have all that the server's source has
        acknowledged; None: nothing to have."""
        request = pb.CatchUpRequest(stream=stream)
        reply = await self._ask(f"/{SERVICE}/CatchUp", request, pb.CatchUpReply)
        return reply.position if reply.HasField("position") else None

    def commits(self) -> Stream[pb.CommitReplies]:
        """A stream of transactions, and of what became of them."""
        return self._stream("Commit", pb.CommitReplies)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> pb.CommitReply:
        """Send a whole state. Raises `OutcomeUnknown`, `Disconnected` and
        what the server answers."""
        await self.ping()  # so that what fails from here on may have been done
        stream = self._stream("Replace", pb.CommitReply)
        try:
            for part in _parts(items):
                if not await stream.write(part.SerializeToString()):
                    break
            await stream.end()
            reply = await stream.read()
        except Disconnected as error:
            raise OutcomeUnknown(f"{error}; send the RESYNC again") from None
        finally:
            stream.cancel()
        if reply is None:
            raise OutcomeUnknown(f"{self.access.authority}: no answer; send the RESYNC again")
        if reply.HasField("error"):
            raise exception_of(reply.error)
        return reply

    async def aclose(self) -> None:
        """Close the connection; a later call opens another. May be called twice."""
        for stream in list(self._streams):
            # G12: a list that nobody reads on would keep the connection
            stream.cancel()
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    @property
    def silent(self) -> Disconnected:
        """What to raise when an answer did not come in time."""
        return no_answer(self.access.authority, _PROTOCOL, self.timeout)

    @property
    def closed(self) -> WatchClosed:
        """What to raise where this side was closed before an answer came."""
        return WatchClosed(f"{self.access.authority}: closed before it answered")

    @property
    def channel(self) -> grpc.aio.Channel:
        """The connection; opened by its first call."""
        if self._channel is None:
            options = [*_OPTIONS, received_at_most(self.most)]
            access = self.access
            if access.files is not None:
                self._shown = ca, cert, key = access.files.read()
                credentials = channel_credentials(ca, key, cert)
                self._channel = grpc.aio.secure_channel(
                    access.authority, credentials, options=options
                )
            else:
                self._channel = grpc.aio.insecure_channel(access.authority, options=options)
        return self._channel

    async def _ask(self, path: str, request: Message, answer: type[M]) -> M:
        async with self._breaks_explained():
            try:
                reply = await await_detached(self._call(path, request, answer))
            except grpc.aio.AioRpcError as error:
                raise self.read_error(error) from None
            except asyncio.CancelledError as error:
                raise self._closed(error) from None
        return self.understood(reply)

    @contextlib.asynccontextmanager
    async def _breaks_explained(self) -> AsyncIterator[None]:
        """Of a call that grpc broke, which changes nothing: a ping raises
        what may have been the reason."""
        try:
            yield
        except CallBroken:
            await self.ping()  # G8: raises where nobody may come in, say
            raise

    def _call(self, path: str, request: Message, answer: type[M]) -> Awaitable[M]:
        rpc: Any = self.channel.unary_unary(
            path, request_serializer=_serialize, response_deserializer=parsed(answer)
        )
        call: Awaitable[M] = rpc(request, timeout=self.timeout, metadata=self._metadata)
        return call

    def _stream(self, method: str, answer: type[M]) -> Stream[M]:
        """A call of our own service with a stream of answers.

        To grpc all of them are streams both ways: a call of another kind that is
        cancelled early keeps itself alive.
        """
        rpc: Any = self.channel.stream_stream(
            f"/{SERVICE}/{method}", response_deserializer=parsed(answer)
        )
        stream: Stream[M] = Stream(self, rpc(metadata=self._metadata))
        self._streams.add(stream)
        return stream

    async def _explained(self, error: DataSyncError) -> DataSyncError:
        """The error of a call that changes nothing, or that a certificate is not accepted."""
        access = self.access
        return await explained(
            error, access.authority, access.host, access.port, access.files, "h2"
        )

    def _renew(self) -> None:
        """G8: where the files of TLS hold something else by now, let the next
        call open another connection."""
        with contextlib.suppress(Disconnected):
            files = self.access.files
            if files is not None and self._channel is not None and files.read() != self._shown:
                self._channel = None  # what is under way keeps it

    def understood(self, reply: M | None) -> M:
        """An answer that came. Raises `Disconnected` where its bytes are not a message."""
        if reply is None:
            raise foreign(self.access.authority, _PROTOCOL, "a message is not understood")
        return reply

    def _closed(self, error: asyncio.CancelledError) -> BaseException:
        """What to raise where a call, or the task that waits for it, was cancelled."""
        return self.closed if is_closed(error) else error

    def read_error(self, error: grpc.aio.AioRpcError) -> DataSyncError:
        """The error of a call that changes nothing."""
        if error.code() is _Code.UNAVAILABLE:
            self._renew()

        name, code, text = (
            self.access.authority,
            error.code(),
            " ".join((error.details() or "").split()),
        )
        if (problem := certificate_problem(error)) is not None:
            return BadCertificate(f"{name}: {problem}")
        if (unreached := connection_problem(error, name, _PROTOCOL)) is not None:
            return unreached

        match code:
            case _Code.UNAUTHENTICATED | _Code.PERMISSION_DENIED:
                return Unauthorized(f"{name}: {text}")
            case _Code.OUT_OF_RANGE:
                changed = (error.trailing_metadata() or {}).get(HISTORY) == CHANGED
                return HistoryLost(f"{name}: {text}", changed=changed)
            case _Code.FAILED_PRECONDITION:
                return NotReady(f"{name}: {text}")
            case _Code.UNIMPLEMENTED:
                return foreign(name, _PROTOCOL, "a method is missing")
            case _Code.INVALID_ARGUMENT:
                return BadStore(f"{name}: {text}")
            case _Code.RESOURCE_EXHAUSTED if too_large_to_receive(error):
                return too_large(name, self.most)
            case _Code.RESOURCE_EXHAUSTED if "larger than max" in text:
                # else there may be room later
                return BadStore(f"{name}: {text}")
            case _Code.DEADLINE_EXCEEDED:
                return self.silent

        lost = unreachable(name, text or code.name, _PROTOCOL)
        return CallBroken(str(lost)) if code is _Code.INTERNAL else lost


class CallBroken(Disconnected):
    """A call that ended by an error in grpc: of one that a server ends while it is
    written to, grpc forgets why."""


class Stream(Generic[M]):
    """A call that brings many messages. Nothing else holds the call: with its errors
    it would outlive the channel."""

    def __init__(self, client: Client, call: Any) -> None:
        self.capabilities: Capabilities | None = None
        """What the server says of its source."""
        self.name = ""
        """How the server calls it."""
        self._client = client
        self._call = call
        self._asking: asyncio.Timeout | None = None

    @property
    def cancelled(self) -> bool:
        """This side has ended the call."""
        return self._call is None

    async def accepted(self) -> None:
        """Wait until the server has begun to answer. Raises as `read`."""
        try:
            async with asyncio.timeout(self._client.timeout):
                metadata = await await_detached(self._call.initial_metadata())
            self.capabilities = capabilities_of(metadata.get(CAPABILITIES))
            self.name = metadata.get(STREAM, "")
        except TimeoutError:
            raise self._client.silent from None
        except grpc.aio.AioRpcError as error:
            raise self._client.read_error(error) from None
        if self._call is None or self._call.done():  # turned away: reading tells why
            await self.read()

    async def read(self, timeout: float | None = None) -> M | None:
        """The next message; None at the end. Raises `Disconnected`, `HistoryLost` and the like."""
        if self._call is None:
            raise Disconnected(f"{self._client.access.authority}: the connection is closed")
        try:
            async with asyncio.timeout(timeout):
                reply = await await_detached(self._call.read())
        except TimeoutError:
            raise self._client.silent from None
        except grpc.aio.AioRpcError as error:
            raise self._client.read_error(error) from None
        except (asyncio.InvalidStateError, asyncio.CancelledError) as error:
            if not is_closed(error):
                raise
            raise Disconnected(
                f"{self._client.access.authority}: the connection is closed"
            ) from None
        return None if reply is grpc.aio.EOF else self._client.understood(cast(M | None, reply))

    async def ask(self, message: Message) -> None:
        """Send the only message; reading tells where that failed. Cancelled, it ends the
        call. Raises `Disconnected` where it does not get through in time, as to a server that
        says nothing to a handshake."""
        try:
            async with asyncio.timeout(self._client.timeout) as self._asking:
                try:
                    if await self.write(message.SerializeToString()):
                        await self.end()
                finally:
                    self._asking = None
        except TimeoutError:
            if self.cancelled:
                raise self._client.closed from None
            self.cancel()
            raise self._client.silent from None
        except BaseException:
            self.cancel()
            raise

    async def end(self) -> None:
        """There is nothing more to send."""
        if self._call is None:
            return
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await await_detached(self._call.done_writing())

    async def write(self, message: bytes) -> bool:
        """Send a serialized message; False where the call has ended, and reading tells why."""
        if self._call is None:
            return False
        try:
            await await_detached(self._call.write(message))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        return True

    def cancel(self) -> None:
        """End the call. May be called twice."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        # G12: to grpc a message that waits for the connection goes on waiting
        if self._asking is not None and not self._asking.expired():
            self._asking.reschedule(asyncio.get_running_loop().time())


def _parts(items: Iterable[tuple[str, bytes]]) -> Iterator[pb.ReplaceRequest]:
    """The messages of a RESYNC, the first with the trace of the write that is under way. Raises
    `BadValue`."""
    trace = carried()
    keys: list[str] = []
    values: list[bytes] = []
    size = 0
    for key, raw in items:
        if len(key) + len(raw) > MAX_MESSAGE - 64:
            raise BadValue(
                f"the value of {key!r} has {len(raw):,} bytes; {MAX_MESSAGE:,} is the limit"
            )
        if size and size + len(key) + len(raw) > PIECE:
            yield pb.ReplaceRequest(keys=keys, values=values, traceparent=trace)
            keys, values, size, trace = [], [], 0, None
        keys.append(key)
        values.append(raw)
        size += len(key) + len(raw)
    yield pb.ReplaceRequest(keys=keys, values=values, traceparent=trace)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
