"""One connection to one member: a channel, the calls made over it, and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from datasync.certificates import BadCertificate, explained
from datasync.endpoints import MAX_ANSWER, Endpoint, TlsFiles
from datasync.errors import Disconnected
from datasync.grpc_channel import (
    CHANNEL_OPTIONS,
    await_detached,
    channel_credentials,
    grpc,
    parsed,
    received_at_most,
)
from datasync.kvdbsync.etcd import errors
from datasync.kvdbsync.etcd.errors import TooManyOperations
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb

__all__ = [
    "LEASE_GRANT", "LEASE_REVOKE", "PUT", "RANGE", "STATUS", "TXN", "Access", "Call", "Link",
    "Member", "Stream",
]  # fmt: skip

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
Stream = grpc.aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse]

_TOGETHER = 128
"""Operations that a server takes in one transaction, unless it was told otherwise."""
_OPTIONS = [
    ("grpc.max_send_message_length", -1),  # the server decides what is too large
    *CHANNEL_OPTIONS,
]


class Call(Generic[Q, A]):
    """One rpc of etcd."""

    def __init__(self, path: str, answer: type[A]) -> None:
        self.path = path
        self.answer = answer


RANGE: Call[pb.RangeRequest, pb.RangeResponse] = Call("/etcdserverpb.KV/Range", pb.RangeResponse)
PUT: Call[pb.PutRequest, pb.PutResponse] = Call("/etcdserverpb.KV/Put", pb.PutResponse)
TXN: Call[pb.TxnRequest, pb.TxnResponse] = Call("/etcdserverpb.KV/Txn", pb.TxnResponse)
LEASE_GRANT: Call[pb.LeaseGrantRequest, pb.LeaseGrantResponse] = Call(
    "/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse
)
LEASE_REVOKE: Call[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse] = Call(
    "/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse
)
STATUS: Call[pb.StatusRequest, pb.StatusResponse] = Call(
    "/etcdserverpb.Maintenance/Status", pb.StatusResponse
)
_AUTHENTICATE: Call[pb.AuthenticateRequest, pb.AuthenticateResponse] = Call(
    "/etcdserverpb.Auth/Authenticate", pb.AuthenticateResponse
)
_WATCH = "/etcdserverpb.Watch/Watch"
# a member that lost its leader says so instead of waiting, and ends its watch streams
_HAS_LEADER = grpc.aio.Metadata(("hasleader", "true"))


class Member(NamedTuple):
    """A member as the URL names it, at one of the addresses of that name; ""
    where it names the address."""

    endpoint: Endpoint
    address: str = ""

    def __str__(self) -> str:
        return f"{self.endpoint} ({self.address})" if self.address else str(self.endpoint)

    @property
    def target(self) -> str:
        """What grpc connects to."""
        if not self.address:
            return str(self.endpoint)
        if ":" in self.address:
            return f"ipv6:[{self.address}]:{self.endpoint.port}"
        return f"ipv4:{self.address}:{self.endpoint.port}"

    @property
    def options(self) -> Sequence[tuple[str, str]]:
        """What has grpc call it, and check its certificate, by its name."""
        if not self.address:
            return ()
        return (
            ("grpc.default_authority", str(self.endpoint)),
            ("grpc.ssl_target_name_override", self.endpoint.host),
        )


class Access:
    """How to reach a cluster: where, over TLS or not, as which user, how long one request may take
    (seconds), and how many bytes one answer may have: pages adapt to that."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        tls: TlsFiles | None = None,
        user: str | None = None,
        password: str | None = None,
        timeout: float = 5.0,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.tls = tls
        self.timeout = timeout
        self.max_answer = max_answer
        self._user = user
        self._password = password or ""
        self._token: str | None = None  # "": the server asks nobody for a password, so far
        self._renewing = asyncio.Lock()

    @property
    def has_user(self) -> bool:
        """Whether calls carry a token."""
        return self._user is not None

    async def token(self, link: Link, stale: str | None = None) -> str:
        """The token of the user to call with, "" for none; a new one where it is still the
        `stale` one. Raises as `Link.ask`."""
        if self._token is None or self._token == stale:
            async with self._renewing:
                if self._token is None or self._token == stale:
                    self._token = await self._authenticate(link)
        return self._token

    async def _authenticate(self, link: Link) -> str:
        request = pb.AuthenticateRequest(name=self._user, password=self._password)
        try:
            answer = await link.call(_AUTHENTICATE, request, "", self.timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                return ""
            raise errors.read_error(error, link.endpoint) from None
        if answer is None or not (answer.token.isascii() and answer.token.isprintable()):
            # it could not be sent
            raise errors.not_etcd(link.endpoint)
        return answer.token


class Link:
    """One connection to one member."""

    def __init__(self, access: Access, member: Member) -> None:
        """Raises `Disconnected` where the files of TLS cannot be used now."""
        self.member = member
        self.endpoint = str(member)
        self.access = access
        self.status = pb.StatusResponse()
        """What it said of itself when it was connected."""
        self._together = _TOGETHER
        self._rpcs: dict[str, Any] = {}
        self._channel: grpc.aio.Channel | None
        # how long grpc keeps trying to connect, even once the channel is closed
        trying = ("grpc.min_reconnect_backoff_ms", int(1000 * access.timeout))
        options = [*_OPTIONS, received_at_most(access.max_answer), trying, *member.options]
        if access.tls is None:
            self._channel = grpc.aio.insecure_channel(member.target, options=options)
        else:
            ca, cert, key = access.tls.read()  # they may have been renewed
            credentials = channel_credentials(ca, key, cert)
            self._channel = grpc.aio.secure_channel(member.target, credentials, options=options)

    async def connect(self, patience: float) -> None:
        """Make sure that somebody answers within `patience` seconds. Raises `Disconnected`,
        `Unauthorized`, `BadStore`."""
        try:
            self.status = await self.ask(STATUS, pb.StatusRequest(), patience)
        except (Disconnected, BadCertificate) as error:
            host, port = self.member.endpoint.bare, self.member.endpoint.port
            raise await explained(
                error, self.endpoint, self.member.address or host, port, self.access.tls, "h2",
                name=host,
            ) from None  # fmt: skip

    @property
    def ready(self) -> bool:
        """Whether the connection stands, as far as can be known."""
        channel = self._channel
        return channel is not None and channel.get_state() is grpc.ChannelConnectivity.READY

    async def ask(self, call: Call[Q, A], request: Q, timeout: float | None = None) -> A:
        """Make a call that changes nothing. Raises what
        `etcd.errors.read_error` makes of its failure."""
        try:
            answer = await self._with_token(call, request, timeout or self.access.timeout)
        except grpc.aio.AioRpcError as error:
            raise errors.read_error(error, self.endpoint) from None
        if answer is None:
            raise errors.not_etcd(self.endpoint)
        return answer

    async def ask_together(
        self, requests: Sequence[pb.RangeRequest]
    ) -> tuple[int, list[pb.RangeResponse]]:
        """Read at one revision as many of the requests as the server takes
        together, from the first one on.

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
                if len(answer.responses) != len(together.success):
                    raise errors.not_etcd(self.endpoint)
                return answer.header.revision, [
                    response.response_range for response in answer.responses
                ]

    async def tell(self, call: Call[Q, A], request: Q) -> A:
        """Make a call that changes something. Raises what
        `etcd.errors.write_error` makes of its failure."""
        try:
            answer = await self._with_token(call, request, self.access.timeout)
        except grpc.aio.AioRpcError as error:
            raise errors.write_error(error, self.endpoint) from None
        if answer is None:
            raise errors.unknown(self.endpoint)
        return answer

    async def watch(self) -> Stream:
        """A stream for watches. Reading it, and writing to it, raises `AioRpcError`."""
        token = await self.access.token(self) if self.access.has_user else ""
        rpc: Any = self._open().stream_stream(
            _WATCH, request_serializer=_serialize, response_deserializer=parsed(pb.WatchResponse)
        )
        stream: Stream = rpc(metadata=_metadata(token))
        return stream

    def call(
        self, call: Call[Q, A], request: Q, token: str, timeout: float
    ) -> Coroutine[Any, Any, A | None]:
        """Make one call, once; None where the answer is not one of etcd's."""
        rpc = self._rpcs.get(call.path)
        if rpc is None:
            rpc = self._rpcs[call.path] = self._open().unary_unary(
                call.path, request_serializer=_serialize, response_deserializer=parsed(call.answer)
            )
        return await_detached(rpc(request, timeout=timeout, metadata=_metadata(token)))

    def _with_token(
        self, call: Call[Q, A], request: Q, timeout: float
    ) -> Coroutine[Any, Any, A | None]:
        if self.access.has_user:
            return self._as_user(call, request, timeout)
        return self.call(call, request, "", timeout)

    async def _as_user(self, call: Call[Q, A], request: Q, timeout: float) -> A | None:
        token = await self.access.token(self)
        try:
            return await self.call(call, request, token, timeout)
        except grpc.aio.AioRpcError as error:
            if not errors.is_stale_token(error):
                raise
        # refused for its token alone: surely not done
        return await self.call(call, request, await self.access.token(self, token), timeout)

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


def _metadata(token: str) -> grpc.aio.Metadata:
    return grpc.aio.Metadata(*_HAS_LEADER, ("token", token)) if token else _HAS_LEADER
