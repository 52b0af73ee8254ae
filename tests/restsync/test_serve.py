"""`datasync serve SOURCE --http`, as a process of its own: many watchers, kill -9,
and the lines of the docs.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasync import BadStore, BadUrl, DataSync, Unauthorized, UnsupportedOption, open_url
from datasync.cli.serve import allow_many_connections
from datasync.restsync.agent import from_url
from datasync.testing.contract import eventually
from datasync.transports import Url
from tests.helpers.etcd.load import judge
from tests.helpers.load import watched, writing
from tests.helpers.rest.curl import DOCUMENT, README, check
from tests.helpers.rest.served import served
from tests.helpers.servers import free_ports, scratch
from tests.helpers.serving.serve_process import ServeProcess

Run = Callable[[Any], None]
WATCHERS, CHANGES = 1000, 60

_COMMIT = re.compile(
    rb'data: \{"revision":(\d+),"changes":\[\{"op":"put","key":"k/(\d+)","value":"(\d+)"'
)


class Watcher(asyncio.Protocol):
    """A stream of events; keeps the numbers of the changes that it brings."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.began = False
        self.lost = False
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        transport.write(b"GET /v1/events?prefix=k/ HTTP/1.1\r\nhost: localhost\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        self.began = True
        events, _, self._rest = (self._rest + data).rpartition(b"\n\n")
        self.seen += [int(value) for _, _, value in _COMMIT.findall(events)]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


async def began(connections: list[tuple[Any, Watcher]], count: int) -> None:
    """Wait until so many streams have brought something."""
    await eventually(lambda: sum(watcher.began for _, watcher in connections) == count, 60)


@pytest.mark.once
@pytest.mark.timeout(420)
@pytest.mark.alone("crowd")
def test_a_thousand_watchers_get_every_change() -> None:
    """Complete and in order; and beside them one that never reads."""
    allow_many_connections()

    async def main() -> None:
        async with scratch() as directory:
            server = ServeProcess("memory://", directory, "http")
            await server.start()
            loop = asyncio.get_running_loop()
            try:
                deaf = socket.create_connection(("127.0.0.1", server.port))
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                deaf.sendall(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
                connections: list[tuple[Any, Watcher]] = []
                for start in range(0, WATCHERS, 100):
                    made = (
                        loop.create_connection(Watcher, "127.0.0.1", server.port)
                        for _ in range(100)
                    )
                    connections += await asyncio.gather(*made)
                    await began(connections, start + 100)
                watchers = [watcher for _, watcher in connections]
                async with DataSync(f"http://127.0.0.1:{server.port}") as writer:
                    for number in range(CHANGES):
                        await writer.put(f"k/{number % 10}", b"%d" % number)
                await eventually(
                    lambda: all(len(watcher.seen) >= CHANGES for watcher in watchers), 300
                )
                assert all(watcher.seen == list(range(CHANGES)) for watcher in watchers)
                assert not any(watcher.lost for watcher in watchers)
                for transport, _ in connections:
                    transport.abort()
                deaf.close()
            finally:
                server.end()

    asyncio.run(main())


def test_killed_and_started_again_in_mid_stream() -> None:
    """Whatever each remote watch saw of it, the trace checker finds nothing, and all end equal."""

    async def main() -> None:
        async with scratch() as directory:
            store = f"sqlite:///{directory}/store.db"
            async with DataSync(store):
                pass
            server = ServeProcess(store, directory, "http")
            await server.start()
            url = f"http://127.0.0.1:{server.port}"
            try:
                async with watched(url) as (one, first), watched(url) as (two, second):
                    await asyncio.gather(one.ready(60), two.ready(60))
                    async with writing(store) as load:
                        await load.more(50)
                        for _ in range(4):
                            await server.restart()
                            await load.more(50)
                            await eventually(lambda: first.state and second.state, 60)
                    log = [
                        (revision, {key: raw})
                        for revision, (key, raw) in sorted(load.acknowledged.items())
                    ]
                    state: dict[str, bytes] = {}
                    for _, changes in log:
                        for key, raw in changes.items():
                            if raw is None:
                                state.pop(key, None)
                            else:
                                state[key] = raw
                    await eventually(lambda: first.state == state and second.state == state, 60)
                    assert load.refused == load.unknown == 0
                    for probe in (first, second):
                        assert len(probe.resyncs) > 1
                        judge(probe, log)
            finally:
                server.end()

    asyncio.run(main())


def test_where_it_may_listen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASYNC_TOKEN", raising=False)
    with pytest.raises(BadUrl, match="initial= takes empty"):
        open_url("rest://127.0.0.1:9191?initial=full")
    with pytest.raises(BadUrl, match="unknown query key"):
        open_url("http://127.0.0.1:9191?initial=empty")
    assert "s3cret" not in repr(open_url("rest://0.0.0.0:9191?token=s3cret").name)

    async def main() -> None:
        for url in ("rest://0.0.0.0:9191", "rest://[::]:9191", "rest://192.0.2.1:9191"):
            with pytest.raises(BadUrl, match="listening beyond this machine needs a token"):
                await DataSync(url).start()
        with pytest.raises(BadUrl, match="shows a certificate"):
            await DataSync("rests://127.0.0.1:9191").start()
        [port] = free_ports(1)
        with socket.create_server(("127.0.0.1", port)):
            sync = DataSync(from_url(Url(f"rest://127.0.0.1:{port}")))
            with pytest.raises(BadStore, match="cannot listen there"):
                await sync.start()

    run(main())


def test_a_wrong_token_ends_the_start(run: Run) -> None:
    async def main() -> None:
        [port] = free_ports(1)
        agent = DataSync(f"rest://127.0.0.1:{port}?initial=empty&token=s3cret")
        async with agent:
            with pytest.raises(Unauthorized) as caught:
                await DataSync(f"http://127.0.0.1:{port}?token=wr0ng").start()
            assert "wr0ng" not in str(caught.value)
            async with DataSync(f"http://127.0.0.1:{port}?token=s3cret") as client:
                await client.put("a", b"1")
            assert "s3cret" not in repr(client.status())

    run(main())


def test_curl_works_as_the_docs_show(tmp_path: Path) -> None:
    """Each `$ curl` prints what stands below it."""
    assert check(DOCUMENT, tmp_path) == 10
    assert check(README, tmp_path) == 2


def test_the_server_tells_what_its_source_promises(run: Run) -> None:
    async def main() -> None:
        async with (
            scratch() as directory,
            served(open_url(f"sqlite:///{directory}/a.db")) as server,
        ):
            source = open_url(server.url)
            async with DataSync(source) as sync:
                sync.view("")
                await eventually(lambda: sync.status().sources[0].state == "following")
                assert source.capabilities.durable
                assert not source.capabilities.reply
                assert source.capabilities.resume
                with pytest.raises(UnsupportedOption, match="carries no verdicts"):
                    await sync.put("a", b"1", confirm=True)
                assert await sync.get("a") is None

    run(main())
