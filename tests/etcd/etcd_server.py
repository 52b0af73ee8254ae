"""etcd servers for tests: Debian's, and a newer one built from the Go module proxy."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import grpc.aio
import pytest

from datasync.kvdbsync._etcd_pb import etcd_pb2 as pb
from tests.certificates import Authority
from tests.servers import StoredProcess, built, free_ports, require, scratch, until

__all__ = ["DEBIAN", "NEW", "EtcdServer", "cluster_of_three", "etcd_server", "program", "tls_flags", "versions"]

DEBIAN, NEW = "3.4", "3.6"
versions = pytest.mark.parametrize("version", [DEBIAN, NEW])

# quick elections, and no waiting for the disk: a killed process leaves its writes in the page cache
_QUICK = ["--unsafe-no-fsync", "--heartbeat-interval", "25", "--election-timeout", "250"]


def program(version: str) -> str:
    """The path of the server of that version; skips or fails the test where there is none."""
    if version == DEBIAN:
        return require("etcd", "apt-get install -y etcd-server")
    return built(Path(__file__).parent / "server36", "etcd/etcd-3.6")


class EtcdServer(StoredProcess):
    """One etcd member. `port` is that of its clients."""

    def __init__(self, version: str, directory: Path, *, tls: Sequence[str] = (), extra: Sequence[str] = ()) -> None:
        port, self.peer_port = free_ports(2)
        self.scheme = "https" if tls else "http"
        data = directory / f"data-{port}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        url = f"{self.scheme}://127.0.0.1:{port}"
        super().__init__(
            [
                program(version), "--name", f"m{port}", "--data-dir", str(data),
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
            await until(self._answers, f"a leader: {self.tail()}")

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

    async def clear(self) -> None:
        """Delete all keys."""
        async with self.channel() as channel:
            delete = channel.unary_unary(
                "/etcdserverpb.KV/DeleteRange",
                request_serializer=pb.DeleteRangeRequest.SerializeToString,
                response_deserializer=pb.DeleteRangeResponse.FromString,
            )
            await delete(pb.DeleteRangeRequest(key=b"\0", range_end=b"\0"), timeout=10)

    async def ctl(self, *args: str, user: str | None = None, said: str = "") -> str:
        """What `etcdctl` answers to `said`."""
        etcdctl = require("etcdctl", "apt-get install -y etcd-client")
        command = [etcdctl, "--endpoints", f"127.0.0.1:{self.port}", *(["--user", user] if user else []), *args]
        env = os.environ | {"ETCDCTL_API": "3"}
        process = await asyncio.create_subprocess_exec(
            *command,
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        answer, _ = await process.communicate(said.encode())
        assert process.returncode == 0, f"{' '.join(args)}: {answer.decode()}"
        return answer.decode()

    async def ask_for_passwords(self, users: Mapping[str, str]) -> None:
        """Switch authentication on: root (password "root"), and users that may use all keys."""
        await self.ctl("user", "add", "root:root")
        await self.ctl("user", "grant-role", "root", "root")
        for name, password in users.items():
            await self.ctl("user", "add", f"{name}:{password}")
            await self.ctl("user", "grant-role", name, "root")
        await self.ctl("auth", "enable")


def _range(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[pb.RangeRequest, pb.RangeResponse]:
    return channel.unary_unary(
        "/etcdserverpb.KV/Range",
        request_serializer=pb.RangeRequest.SerializeToString,
        response_deserializer=pb.RangeResponse.FromString,
    )


def tls_flags(authority: Authority, name: str) -> list[str]:
    """What makes a server show this certificate, and ask its clients for one of the same authority."""
    return [
        "--cert-file", str(authority.cert(name)), "--key-file", str(authority.key(name)),
        "--client-cert-auth", "--trusted-ca-file", str(authority.ca),
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def etcd_server(version: str, *, extra: Sequence[str] = (), start: bool = True) -> AsyncIterator[EtcdServer]:
    """A server of its own, ended with the block."""
    async with scratch() as directory:
        server = EtcdServer(version, directory, extra=extra)
        try:
            if start:
                await server.start()
            yield server
        finally:
            server.end()


@contextlib.asynccontextmanager
async def cluster_of_three(version: str) -> AsyncIterator[list[EtcdServer]]:
    """Three members of one cluster."""
    async with scratch() as directory:
        members = [EtcdServer(version, directory) for _ in range(3)]
        peers = ",".join(f"m{member.port}=http://127.0.0.1:{member.peer_port}" for member in members)
        for member in members:
            member.command[member.command.index("--initial-cluster") + 1] = peers
        try:
            await asyncio.gather(*(member.start() for member in members))
            yield members
        finally:
            for member in members:
                member.end()
