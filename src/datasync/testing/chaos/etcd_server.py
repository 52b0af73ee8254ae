"""One etcd server as a process, and what a plain client does with it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc.aio

from datasync.kvdbsync._etcd_pb import etcd_pb2 as pb
from datasync.source import Item
from datasync.testing.chaos.process import StoredProcess, free_ports

__all__ = ["EtcdServer"]

# quick elections, and no waiting for the disk: a killed process leaves its writes in the page cache
_QUICK = ["--unsafe-no-fsync", "--heartbeat-interval", "25", "--election-timeout", "250"]


class EtcdServer(StoredProcess):
    """One etcd member. `port` is that of its clients."""

    def __init__(self, binary: str, directory: Path, *, tls: Sequence[str] = (), extra: Sequence[str] = ()) -> None:
        port, self.peer_port = free_ports(2)
        self.scheme = "https" if tls else "http"
        data = directory / f"data-{port}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        url = f"{self.scheme}://127.0.0.1:{port}"
        super().__init__(
            [
                binary, "--name", f"m{port}", "--data-dir", str(data),
                "--listen-client-urls", url, "--advertise-client-urls", url,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", f"m{port}={peer}", *_QUICK, *tls, *extra,
            ],
            port,
            directory,
            data,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """For a DataSync."""
        return f"etcd://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it answers."""
        await super().start()
        if self.scheme == "http":
            await self.comes_to(self._answers, "it has a leader")

    async def _answers(self) -> bool:
        return (await self._status()).leader > 0

    async def is_leader(self) -> bool:
        """Whether it leads its cluster."""
        status = await self._status()
        return status.leader > 0 and status.leader == status.header.member_id

    async def _status(self) -> pb.StatusResponse:
        """What it says of itself; nothing where it does not answer."""
        async with self.channel() as channel:
            status = channel.unary_unary(
                "/etcdserverpb.Maintenance/Status",
                request_serializer=pb.StatusRequest.SerializeToString,
                response_deserializer=pb.StatusResponse.FromString,
            )
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer: pb.StatusResponse = await status(pb.StatusRequest(), timeout=2)
                return answer
        return pb.StatusResponse()

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """A plain channel, for what datasync does not do."""
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        ) as channel:
            yield channel

    async def head(self) -> int:
        """The revision of the store."""
        async with self.channel() as channel:
            return (await _range(channel)(pb.RangeRequest(key=b"x"), timeout=10)).header.revision

    async def everything(self) -> dict[str, bytes]:
        """All keys and values."""
        async with self.channel() as channel:
            found = await _range(channel)(pb.RangeRequest(key=b"\0", range_end=b"\0"), timeout=10)
            return {kv.key.decode(): kv.value for kv in found.kvs}

    async def version(self) -> str:
        """What it runs."""
        return (await self._status()).version

    async def rows(self) -> tuple[list[Item], int, str]:
        """All keys with their values and revisions, the revision of the store, and the id of the cluster."""
        async with self.channel() as channel:
            found = await _range(channel)(pb.RangeRequest(key=b"\0", range_end=b"\0"), timeout=10)
        items = [(kv.key.decode(), kv.value, kv.mod_revision) for kv in found.kvs]
        return items, found.header.revision, f"{found.header.cluster_id:x}"

    async def history(self, start: int = 1) -> list[tuple[int, dict[str, bytes | None]]]:
        """What the server says that happened since revision `start`: revision, and the keys with their new values."""
        head = await self.head()
        log: dict[int, dict[str, bytes | None]] = {}
        async with self.channel() as channel:
            watch = channel.stream_stream(
                "/etcdserverpb.Watch/Watch",
                request_serializer=pb.WatchRequest.SerializeToString,
                response_deserializer=pb.WatchResponse.FromString,
            )()
            create = pb.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=start)
            await watch.write(pb.WatchRequest(create_request=create))
            while head >= start and max(log, default=1) < head:
                response = await watch.read()
                assert isinstance(response, pb.WatchResponse)
                assert not response.canceled, response.cancel_reason
                for event in response.events:
                    changes = log.setdefault(event.kv.mod_revision, {})
                    changes[event.kv.key.decode()] = None if event.type else event.kv.value
            watch.cancel()
        return sorted(log.items())

    async def compact(self, revision: int | None = None) -> None:
        """Forget all that is older than `revision`, or than now."""
        at = await self.head() if revision is None else revision
        async with self.channel() as channel:
            compact = channel.unary_unary(
                "/etcdserverpb.KV/Compact",
                request_serializer=pb.CompactionRequest.SerializeToString,
                response_deserializer=pb.CompactionResponse.FromString,
            )
            try:
                await compact(pb.CompactionRequest(revision=at, physical=True), timeout=10)
            except grpc.aio.AioRpcError as error:
                if "has been compacted" not in (error.details() or ""):
                    raise

    async def put_raw(self, key: bytes, value: bytes) -> None:
        """Store what may be no text."""
        async with self.channel() as channel:
            put = channel.unary_unary(
                "/etcdserverpb.KV/Put",
                request_serializer=pb.PutRequest.SerializeToString,
                response_deserializer=pb.PutResponse.FromString,
            )
            await put(pb.PutRequest(key=key, value=value), timeout=10)

    async def has_raw(self, key: bytes) -> bool:
        """Whether there is a key that may be no text."""
        async with self.channel() as channel:
            found = channel.unary_unary(
                "/etcdserverpb.KV/Range",
                request_serializer=pb.RangeRequest.SerializeToString,
                response_deserializer=pb.RangeResponse.FromString,
            )
            return bool((await found(pb.RangeRequest(key=key, count_only=True), timeout=10)).count)

    async def alarm(self, alarm: int, *, on: bool = True) -> None:
        """Have the server itself say that it is full (1), or that its data is corrupt (2); or not any more."""
        action, member = (1 if on else 2), 1
        async with self.channel() as channel:
            call: Any = channel.unary_unary("/etcdserverpb.Maintenance/Alarm")
            await call(bytes([0x08, action, 0x10, member, 0x18, alarm]), timeout=10)

    async def clear(self) -> None:
        """Delete all keys."""
        async with self.channel() as channel:
            delete = channel.unary_unary(
                "/etcdserverpb.KV/DeleteRange",
                request_serializer=pb.DeleteRangeRequest.SerializeToString,
                response_deserializer=pb.DeleteRangeResponse.FromString,
            )
            await delete(pb.DeleteRangeRequest(key=b"\0", range_end=b"\0"), timeout=10)


def _range(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[pb.RangeRequest, pb.RangeResponse]:
    return channel.unary_unary(
        "/etcdserverpb.KV/Range",
        request_serializer=pb.RangeRequest.SerializeToString,
        response_deserializer=pb.RangeResponse.FromString,
    )
