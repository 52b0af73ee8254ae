"""One etcd server as a process, and what a plain client does with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import Message

from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.source import Item
from datasync.testing.chaos.ports import free_ports
from datasync.testing.chaos.process import StoredProcess, program

__all__ = ["EtcdServer"]

M = TypeVar("M", bound=Message)

# quick elections, and no waiting for the disk: a killed process leaves its writes in the page cache
_QUICK = ["--unsafe-no-fsync", "--heartbeat-interval", "25", "--election-timeout", "250"]


class EtcdServer(StoredProcess):
    """One etcd member. `port` is that of its clients."""

    def __init__(
        self, binary: str, directory: Path, *, tls: Sequence[str] = (), extra: Sequence[str] = ()
    ) -> None:
        port, self.peer_port = free_ports(2)
        self.scheme = "https" if tls else "http"
        data = directory / f"data-{port}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        url = f"{self.scheme}://127.0.0.1:{port}"
        self.password: str | None = None
        """Of root, once it asks for passwords."""
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
        with contextlib.suppress(grpc.aio.AioRpcError):
            return await self._ask(
                "Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, timeout=2
            )
        return pb.StatusResponse()

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """A plain channel, for what datasync does not do."""
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{self.port}",
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)],
        ) as channel:
            yield channel

    async def _ask(
        self, method: str, request: Message, response: type[M], timeout: float = 10
    ) -> M:
        """One call over a connection of its own."""
        async with self.channel() as channel:
            call = channel.unary_unary(
                f"/etcdserverpb.{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
            answer: M = await call(request, timeout=timeout, metadata=await self._login(channel))
            return answer

    async def _login(self, channel: grpc.aio.Channel) -> Sequence[tuple[str, str]]:
        """What a call says of who it is, where passwords are asked for."""
        if self.password is None:
            return ()
        authenticate = channel.unary_unary(
            "/etcdserverpb.Auth/Authenticate",
            request_serializer=pb.AuthenticateRequest.SerializeToString,
            response_deserializer=pb.AuthenticateResponse.FromString,
        )
        answer = await authenticate(
            pb.AuthenticateRequest(name="root", password=self.password), timeout=10
        )
        return (("token", answer.token),)

    async def _range(
        self, key: bytes, end: bytes = b"", *, count_only: bool = False
    ) -> pb.RangeResponse:
        request = pb.RangeRequest(key=key, range_end=end, count_only=count_only)
        return await self._ask("KV/Range", request, pb.RangeResponse)

    async def head(self) -> int:
        """The revision of the store."""
        return (await self._range(b"x")).header.revision

    async def everything(self) -> dict[str, bytes]:
        """All keys and values."""
        return {kv.key.decode(): kv.value for kv in (await self._range(b"\0", b"\0")).kvs}

    async def version(self) -> str:
        """What it runs."""
        return (await self._status()).version

    async def rows(self) -> tuple[list[Item], int, str]:
        """All keys with their values and revisions, the revision of the
        store, and the id of the cluster."""
        found = await self._range(b"\0", b"\0")
        items = [(kv.key.decode(), kv.value, kv.mod_revision) for kv in found.kvs]
        return items, found.header.revision, f"{found.header.cluster_id:x}"

    async def history(self, start: int = 1) -> list[tuple[int, dict[str, bytes | None]]]:
        """What the server says that happened since revision `start`: revision, and the
        keys with their new values."""
        head = await self.head()
        log: dict[int, dict[str, bytes | None]] = {}
        async with self.channel() as channel:
            watch = channel.stream_stream(
                "/etcdserverpb.Watch/Watch",
                request_serializer=pb.WatchRequest.SerializeToString,
                response_deserializer=pb.WatchResponse.FromString,
            )(metadata=await self._login(channel))
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
        try:
            await self._ask(
                "KV/Compact",
                pb.CompactionRequest(revision=at, physical=True),
                pb.CompactionResponse,
            )
        except grpc.aio.AioRpcError as error:
            if "has been compacted" not in (error.details() or ""):
                raise

    async def put_raw(self, key: bytes, value: bytes) -> None:
        """Store what may be no text."""
        await self._ask("KV/Put", pb.PutRequest(key=key, value=value), pb.PutResponse)

    async def has_raw(self, key: bytes) -> bool:
        """Whether there is a key that may be no text."""
        return bool((await self._range(key, count_only=True)).count)

    async def alarm(self, alarm: int, *, on: bool = True) -> None:
        """Have the server itself say that it is full (1), or that its data is
        corrupt (2); or not any more."""
        action, member = (1 if on else 2), 1
        async with self.channel() as channel:
            call: Any = channel.unary_unary("/etcdserverpb.Maintenance/Alarm")
            request = bytes([0x08, action, 0x10, member, 0x18, alarm])
            await call(request, timeout=10, metadata=await self._login(channel))

    async def ctl(self, *args: str, user: str | None = None, said: str = "") -> str:
        """What `etcdctl` answers to `said`."""
        command = [
            program("etcdctl", "apt-get install -y etcd-client"), "--endpoints",
            f"127.0.0.1:{self.port}",
            *(["--user", user] if user else []), *args,
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | {"ETCDCTL_API": "3"},
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
        self.password = "root"  # noqa: S105 - of a server that this process starts and ends

    async def clear(self) -> None:
        """Delete all keys."""
        await self._ask(
            "KV/DeleteRange",
            pb.DeleteRangeRequest(key=b"\0", range_end=b"\0"),
            pb.DeleteRangeResponse,
        )
