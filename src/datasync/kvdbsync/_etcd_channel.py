"""The way to the members of a cluster: channels, the calls made over them, tokens, and fail-over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from datasync._grpc import CHANNEL_OPTIONS, grpc, untangled
from datasync.errors import Disconnected, OutcomeUnknown
from datasync.kvdbsync import _etcd_errors as errors
from datasync.kvdbsync._etcd_errors import BadCertificate, TooManyOperations
from datasync.kvdbsync._etcd_pb import etcd_pb2 as pb

__all__ = [
    "LEASE_GRANT", "LEASE_REVOKE", "RANGE", "STATUS", "TXN", "Access", "Cluster", "Link",
]  # fmt: skip

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
T = TypeVar("T")
Stream = grpc.aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse]

MAX_ANSWER = 64 << 20
"""Bytes of one message that are accepted; pages adapt to it, fragments of a watch stay far below."""
_CONNECT = 3.0
"""Seconds that one member has to answer at first, so that there is time for the next one."""
_TOGETHER = 128
"""Operations that a server takes in one transaction, unless it was told otherwise."""
_IN_FLIGHT = 1_000
"""Requests sent and not answered; a server rejects everybody's beyond some thousand."""
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_ANSWER),
    ("grpc.max_send_message_length", -1),  # the server decides what is too large
    *CHANNEL_OPTIONS,
]


class Call(Generic[Q, A]):
    """One rpc of etcd."""

    def __init__(self, path: str, answer: type[A]) -> None:
        self.path = path
        self.answer = answer


RANGE: Call[pb.RangeRequest, pb.RangeResponse] = Call("/etcdserverpb.KV/Range", pb.RangeResponse)
TXN: Call[pb.TxnRequest, pb.TxnResponse] = Call("/etcdserverpb.KV/Txn", pb.TxnResponse)
LEASE_GRANT: Call[pb.LeaseGrantRequest, pb.LeaseGrantResponse] = Call(
    "/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse
)
LEASE_REVOKE: Call[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse] = Call(
    "/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse
)
STATUS: Call[pb.StatusRequest, pb.StatusResponse] = Call("/etcdserverpb.Maintenance/Status", pb.StatusResponse)
_AUTHENTICATE: Call[pb.AuthenticateRequest, pb.AuthenticateResponse] = Call(
    "/etcdserverpb.Auth/Authenticate", pb.AuthenticateResponse
)
_WATCH = "/etcdserverpb.Watch/Watch"


class Access:
    """How to reach a cluster: where, over TLS or not, as whom, and how long one request may take (seconds)."""

    def __init__(
        self,
        endpoints: Sequence[str],
        credentials: grpc.ChannelCredentials | None = None,
        user: str | None = None,
        password: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.credentials = credentials
        self.timeout = timeout
        self._user = user
        self._password = password or ""
        self._token: str | None = None  # "": the server asks nobody for a password, so far
        self._renewing = asyncio.Lock()

    @property
    def has_user(self) -> bool:
        """Whether calls carry a token."""
        return self._user is not None

    async def token(self, link: Link, stale: str | None = None) -> str:
        """The token to call with, "" for none; a new one where it is still the `stale` one. Raises as `Link.ask`."""
        if self._user is None:
            return ""
        if self._token is None or self._token == stale:
            async with self._renewing:
                if self._token is None or self._token == stale:
                    self._token = await self._authenticate(link)
        return self._token

    async def _authenticate(self, link: Link) -> str:
        request = pb.AuthenticateRequest(name=self._user, password=self._password)
        try:
            return (await link.call(_AUTHENTICATE, request, "", self.timeout)).token
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                return ""
            raise errors.of_read(error, link.endpoint) from None


class Link:
    """One connection to one member."""

    def __init__(self, access: Access, endpoint: str) -> None:
        self.endpoint = endpoint
        self.access = access
        self.status = pb.StatusResponse()
        """What it said of itself when it was connected."""
        self._together = _TOGETHER
        self._users = 0
        self._retired = False
        self._rpcs: dict[str, Any] = {}
        self._channel: grpc.aio.Channel | None
        if access.credentials is None:
            self._channel = grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(endpoint, access.credentials, options=_OPTIONS)

    async def connect(self) -> None:
        """Make sure that somebody answers. Raises `Disconnected`, `Unauthorized`, `BadStore`."""
        self.status = await self.ask(STATUS, pb.StatusRequest(), min(_CONNECT, self.access.timeout))

    @property
    def ready(self) -> bool:
        """Whether the connection stands, as far as one can know."""
        channel = self._channel
        return channel is not None and not self._retired and channel.get_state() is grpc.ChannelConnectivity.READY

    async def ask(self, call: Call[Q, A], request: Q, timeout: float | None = None) -> A:
        """Make a call that changes nothing. Raises what `_etcd_errors.of_read` makes of its failure."""
        try:
            return await self._with_token(call, request, timeout or self.access.timeout)
        except grpc.aio.AioRpcError as error:
            raise errors.of_read(error, self.endpoint) from None

    async def ask_together(self, requests: Sequence[pb.RangeRequest]) -> tuple[int, list[pb.RangeResponse]]:
        """Read at one revision as many of the requests as the server takes together, from the first one on.

        Returns the revision, and their answers. Raises as `ask` does.
        """
        while True:
            together = pb.TxnRequest()
            for request in requests[: self._together]:
                together.success.add().request_range.MergeFrom(request)
            try:
                answer = await self.ask(TXN, together)
            except TooManyOperations:
                self._together = max(1, len(together.success) // 2)
            else:
                return answer.header.revision, [response.response_range for response in answer.responses]

    async def tell(self, call: Call[Q, A], request: Q) -> A:
        """Make a call that changes something. Raises what `_etcd_errors.of_write` makes of its failure."""
        try:
            return await self._with_token(call, request, self.access.timeout)
        except grpc.aio.AioRpcError as error:
            raise errors.of_write(error, self.endpoint) from None

    async def watch(self) -> Stream:
        """A stream for watches. Reading it, and writing to it, raises `AioRpcError`."""
        token = await self.access.token(self)
        rpc: Any = self._open().stream_stream(
            _WATCH, request_serializer=_serialize, response_deserializer=pb.WatchResponse.FromString
        )
        stream: Stream = rpc(metadata=_metadata(token))
        return stream

    async def call(self, call: Call[Q, A], request: Q, token: str, timeout: float) -> A:
        """Make one call, once."""
        if call.path not in self._rpcs:
            self._rpcs[call.path] = self._open().unary_unary(
                call.path, request_serializer=_serialize, response_deserializer=call.answer.FromString
            )
        answer: A = await untangled(self._rpcs[call.path](request, timeout=timeout, metadata=_metadata(token)))
        return answer

    async def _with_token(self, call: Call[Q, A], request: Q, timeout: float) -> A:
        token = await self.access.token(self)
        try:
            return await self.call(call, request, token, timeout)
        except grpc.aio.AioRpcError as error:
            if not self.access.has_user or not errors.is_stale_token(error):
                raise
        # refused for its token alone: surely not done
        return await self.call(call, request, await self.access.token(self, token), timeout)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps a retired link open until the block ends."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    async def retire(self) -> None:
        """Close as soon as nobody uses it any more."""
        self._retired = True
        if not self._users:
            await self.aclose()

    async def aclose(self) -> None:
        """Close now; what is under way ends. May be called twice."""
        channel, self._channel = self._channel, None
        self._rpcs.clear()  # each keeps the channel
        if channel is not None:
            await channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise Disconnected(f"{self.endpoint}: the connection is closed; try again")
        return self._channel


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _metadata(token: str) -> Sequence[tuple[str, str]]:
    # hasleader: a member that lost its leader says so instead of waiting, and ends its watch streams
    return (("hasleader", "true"), ("token", token)) if token else (("hasleader", "true"),)


class Cluster:
    """The members in turn, from the one that answered last."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._at = 0
        self._shared: Link | None = None
        self._connecting = asyncio.Lock()
        self._turn = asyncio.Semaphore(_IN_FLIGHT)

    async def dedicated(self, use: Callable[[Link], Awaitable[T]]) -> T:
        """The result of `use` with a link of its own, which it keeps. Raises what the last member's try raised."""

        async def attempt(endpoint: str) -> T:
            link = await self._connect(endpoint)
            try:
                return await use(link)
            except BaseException:
                await link.aclose()
                raise

        return await self._in_turn(attempt)

    async def shared(self, use: Callable[[Link], Awaitable[T]]) -> T:
        """The result of `use` with the link that all requests share.

        `use` is called again with another member after it raised `Disconnected`.
        """

        async def attempt(endpoint: str) -> T:
            link = await self._reuse(endpoint)
            try:
                with link.in_use():
                    return await use(link)
            except (Disconnected, OutcomeUnknown):
                if self._shared is link:
                    self._shared = None
                await link.retire()
                raise
            finally:
                if link is not self._shared:
                    await link.retire()

        async with self._turn:  # each of those before has a time limit
            return await self._in_turn(attempt)

    async def aclose(self) -> None:
        """Release the shared link, once the requests under way have ended; a later one opens another."""
        link, self._shared = self._shared, None
        if link is not None:
            await link.retire()

    async def _connect(self, endpoint: str) -> Link:
        link = Link(self.access, endpoint)
        try:
            await link.connect()
        except BaseException:
            await link.aclose()
            raise
        return link

    async def _reuse(self, endpoint: str) -> Link:
        if (link := self._current(endpoint)) is not None:
            return link
        try:
            async with asyncio.timeout(self.access.timeout):
                await self._connecting.acquire()
        except TimeoutError:
            raise Disconnected(f"{endpoint}: still no answer; check that the cluster is healthy") from None
        try:
            if (link := self._current(endpoint)) is None:
                await self.aclose()
                link = self._shared = await self._connect(endpoint)
            return link
        finally:
            self._connecting.release()

    def _current(self, endpoint: str) -> Link | None:
        link = self._shared
        return link if link is not None and link.endpoint == endpoint and link.ready else None

    async def _in_turn(self, attempt: Callable[[str], Awaitable[T]]) -> T:
        endpoints = self.access.endpoints
        for left in range(len(endpoints) - 1, -1, -1):
            at = self._at
            try:
                return await attempt(endpoints[at])
            except (Disconnected, BadCertificate):
                self._move_on(at)
                if not left:
                    raise
            except (OutcomeUnknown, asyncio.CancelledError):
                self._move_on(at)  # it may have been too slow: the next request goes elsewhere
                raise
        raise AssertionError("a cluster has at least one endpoint")

    def _move_on(self, at: int) -> None:
        if at == self._at:
            self._at = (at + 1) % len(self.access.endpoints)
