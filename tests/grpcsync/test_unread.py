"""Clients that read nothing, though they answer pings: what is kept for them is let go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import Message

from datasync import DataSync, Disconnected
from datasync.endpoints import TlsFiles
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync import unsent
from datasync.grpcsync.server import Server
from datasync.grpcsync.wire import PIECE
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.source import Item, Put
from datasync.testing.contract import eventually
from tests.helpers.certificates import Authority
from tests.helpers.grpc.agents import agent, change
from tests.helpers.grpc.plain import msg_pb2_grpc as stubs
from tests.helpers.servers import free_ports, require

Run = Callable[[Coroutine[Any, Any, None]], None]
KEYS, VALUE = 30, b"x" * 300_000


@contextlib.asynccontextmanager
async def serving(
    host: str = "127.0.0.1", files: TlsFiles | None = None
) -> AsyncIterator[tuple[Hub, str]]:
    """A store that is larger than what waits on the way to a client, and where it is served."""
    [port] = free_ports(1)
    source = MemorySource("large")
    await source.commit([Put(f"large/{number:02}", VALUE) for number in range(KEYS)])
    access = Access("server", host, port, files)
    async with Hub(source) as hub, Server(access, hub):
        yield hub, access.authority


def narrow(address: str) -> grpc.aio.Channel:
    """A channel that takes little ahead of its reader; else that grows, up to all there is."""
    return grpc.aio.insecure_channel(address, options=[("grpc.http2.bdp_probe", 0)])


async def begun(channel: grpc.aio.Channel, method: str, request: Message) -> Any:
    """A call of which one message has been read."""
    start: Any = channel.unary_stream(f"/datasync.v1.DataSync/{method}")
    call = start(request.SerializeToString())
    assert await call.read()
    return call


async def end_of(call: Any) -> grpc.StatusCode:
    """How it ends, once all is read."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_watcher_that_reads_nothing_is_let_go(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsent, "STALLED", 0.3)

    async def main() -> None:
        async with serving() as (hub, address), narrow(address) as channel:
            call = await begun(channel, "Watch", pb.WatchRequest(scopes=[""]))
            await eventually(lambda: not hub.watchers, 60)
            assert await end_of(call) is grpc.StatusCode.UNAVAILABLE

    run(main())


def test_a_list_that_nobody_reads_is_let_go(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsent, "STALLED", 0.3)

    async def main() -> None:
        async with serving() as (_, address), narrow(address) as channel:
            # on a busy machine the server may not have come to wait before
            for pause in (0.5, 2, 8, 32):
                call = await begun(channel, "List", pb.ListRequest(prefix=""))
                await asyncio.sleep(pause)
                if (code := await end_of(call)) is not grpc.StatusCode.OK:
                    break
            assert code is grpc.StatusCode.UNAVAILABLE

    run(main())


def test_who_reads_gets_all_of_it(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, address), DataSync(f"grpc+watch://{address}") as client:
            view = client.view("large/")
            await client.ready(60)
            assert dict(view) == {f"large/{number:02}": VALUE for number in range(KEYS)}

    run(main())


@pytest.mark.parametrize("path", ["config/", "slow/"])
def test_changes_whose_answers_nobody_reads_end(
    run: Run, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Answers that come at once are sent by the call itself,
    those behind a verdict by a task of it.
    """
    monkeypatch.setattr(unsent, "STALLED", 0.3)

    async def flood(call: Any, enough: asyncio.Event) -> None:
        for number in itertools.takewhile(lambda _: not enough.is_set(), itertools.count()):
            await call.write(change(f"{path}{'long/' * 500}{number}", b""))
        await call.done_writing()

    async def main() -> None:
        async with agent("?initial=empty") as one, narrow(one.address) as channel:
            # on a busy machine the server may not have come to wait before
            for pause in (1, 4, 16, 32):
                call = stubs.DataMsgServiceStub(channel).dataChanges()  # type: ignore[no-untyped-call]
                enough = asyncio.Event()
                flooding = asyncio.create_task(flood(call, enough))
                await asyncio.wait([flooding], timeout=pause)
                enough.set()
                code = await end_of(call)
                await asyncio.wait([flooding])
                if code is not grpc.StatusCode.OK:
                    break
            assert code is grpc.StatusCode.UNAVAILABLE

    run(main())


class Deaf:
    """A connection that answers pings, but takes nothing of any answer. closed:
    the server has ended it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.closed = False
        self._writer = writer
        self._number = -1
        self._living = asyncio.create_task(self._live(reader))

    @classmethod
    async def connect(cls, address: str, tls: ssl.SSLContext | None = None) -> Deaf:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=tls)
        window = b"\0\4" + bytes(4)  # SETTINGS_INITIAL_WINDOW_SIZE: 0
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, window))
        return cls(reader, writer)

    def ask(self, method: str, request: Message) -> None:
        """Begin a call."""
        self._number += 2
        names = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/datasync.v1.DataSync/{method}"),
        ]
        names += [
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        head = b"".join(b"\0" + text(name) + text(value) for name, value in names)
        body = request.SerializeToString()
        self._writer.write(frame(1, 4, self._number, head))
        self._writer.write(frame(0, 1, self._number, b"\0" + len(body).to_bytes(4, "big") + body))

    async def aclose(self) -> None:
        self._living.cancel()
        await asyncio.wait([self._living])
        self._writer.close()

    async def _live(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(9)
                body = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] in (4, 6) and not head[4] & 1:  # SETTINGS, PING: acknowledged
                    self._writer.write(frame(head[3], 1, 0, body if head[3] == 6 else b""))
        self.closed = True


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def text(words: str) -> bytes:
    """A string in a header, as it is."""
    return bytes([len(words)]) + words.encode()


def resident() -> int:
    """Bytes of memory that this process has, those of grpc too."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


REQUESTS = {
    "Get": pb.GetRequest(key="large/00"),
    "Watch": pb.WatchRequest(scopes=[""]),
    "List": pb.ListRequest(prefix=""),
}


@pytest.mark.parametrize("method", REQUESTS)
def test_a_connection_that_takes_nothing_is_cut(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """Though it answers pings: a call that was ended would keep what waits for it."""
    monkeypatch.setattr(unsent, "STALLED", 0.3)
    monkeypatch.setattr(unsent, "_ENDED", 0.3)

    async def main() -> None:
        async with serving() as (hub, address), DataSync(f"grpc+watch://{address}") as other:
            other.view("large/")
            client = await Deaf.connect(address)
            client.ask(method, REQUESTS[method])
            await eventually(lambda: client.closed, 60)
            await client.aclose()
            await other.ready(60)
            found = await other.get("large/00")
            assert found is not None
            assert found.raw == VALUE
            await eventually(lambda: len(hub.watchers) == 1, 60)

    run(main())
    # any client could fill it
    assert not [record for record in caplog.records if record.name.startswith("grpc")]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_connection_that_is_cut_is_found_by_any_address(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, tls: bool
) -> None:
    monkeypatch.setattr(unsent, "STALLED", 0.3)
    monkeypatch.setattr(unsent, "_ENDED", 0.3)
    try:
        socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ).close()
    except OSError as error:
        pytest.skip(f"{host} is not an address of this machine ({error})")
    files, shown, context = None, "", None
    if tls:
        authority = Authority(require("openssl", "apt-get install -y openssl"), tmp_path / "ca")
        authority.issue("server", subject=f"IP:{host}")
        files = TlsFiles(None, authority.cert("server"), authority.key("server"))
        context = TlsFiles(authority.ca, None, None).context("h2")
        shown = f"?ca={authority.ca}"

    async def main() -> None:
        async with (
            serving(host, files) as (_, address),
            DataSync(f"grpc{'s' * tls}+watch://{address}{shown}") as other,
        ):
            client = await Deaf.connect(address, context)
            client.ask("List", REQUESTS["List"])
            await eventually(lambda: client.closed, 60)
            await client.aclose()
            assert await other.get("large/00") is not None

    run(main())


class Paged(MemorySource):
    """Knows what it was asked for, page by page: the keys at most, and the bytes that it gave."""

    def __init__(self) -> None:
        super().__init__("paged")
        self.pages: list[tuple[int, int]] = []

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        page, following = await super().page(prefix, token, limit, keys_only=keys_only)
        self.pages.append((limit, sum(len(item[1]) for item in page)))
        return page, following


def test_pages_of_a_list_are_bounded_in_bytes(run: Run) -> None:
    """What a store has handed over stays here as long as the client does not read."""

    async def main() -> None:
        [port] = free_ports(1)
        source = Paged()
        large = {f"large/{number:02}": b"x" * 100_000 for number in range(60)}
        small = {f"small/{number:04}": b"x" for number in range(3_000)}
        await source.commit([Put(key, raw) for key, raw in (large | small).items()])
        async with (
            Hub(source) as hub,
            Server(Access("server", "127.0.0.1", port), hub),
            DataSync(f"grpc+watch://127.0.0.1:{port}") as client,
        ):
            assert {kv.key: kv.raw async for kv in client.list("large/")} == large
            first, *others = source.pages
            assert first[1] <= 3_200_000
            assert max(size for _, size in others) <= PIECE

            source.pages.clear()
            assert {kv.key: kv.raw async for kv in client.list("")} == large | small
            assert source.pages[-1][0] == 1_000  # as soon as they are small
            source.pages.clear()
            assert [key.key async for key in client.list("large/", keys_only=True)] == list(large)
            assert len(source.pages) == 1

    run(main())


@pytest.mark.parametrize("method", ["Get", "List"])
def test_what_waits_unread_is_bounded_in_sum(
    run: Run, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Those that have taken nothing for longest go; who reads gets all of it."""
    monkeypatch.setattr(unsent, "_MOST", 8_000_000)
    monkeypatch.setattr(unsent, "_SLOW", 0.1)
    monkeypatch.setattr(unsent, "STALLED", 2)

    async def main() -> None:
        async with serving() as (_, address):
            before = resident()
            clients = []
            for _ in range(10):
                client = await Deaf.connect(address)
                clients.append(client)
                for _ in range(100):  # 300 MB for all of them
                    request = (
                        pb.GetRequest(key="large/00")
                        if method == "Get"
                        else pb.ListRequest(prefix="large/")
                    )
                    client.ask(method, request)
            async with DataSync(f"grpc://{address}") as other:
                found = None
                while found is None:  # there may be no room in the first moment
                    with contextlib.suppress(Disconnected):
                        found = await other.get("large/00")
                assert found.raw == VALUE
            peak = before

            def all_closed() -> bool:
                nonlocal peak
                peak = max(peak, resident())
                return all(client.closed for client in clients)

            await eventually(all_closed, 60)
            assert peak - before < 120_000_000
            for client in clients:
                await client.aclose()

    run(main())
