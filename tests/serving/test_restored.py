"""G3: a backup that was put back while its server was down is a new history, for those who follow from afar too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from datasync import DataSync, HistoryChanged, HistoryLost, open_url
from datasync.grpcsync.server import Server
from datasync.options import Backoff, Options
from datasync.serving.hub import Hub
from datasync.source import Source
from datasync.syncbase.delivery import NEW_HISTORY
from datasync.testing.chaos.sqlite import SqliteFile
from datasync.testing.contract import Probe, eventually
from tests.etcd.etcd_server import NEW, etcd_server
from tests.load import QUICK
from tests.rest.served import Served, access_of
from tests.servers import free_ports

Run = Callable[[Any], None]
schemes = pytest.mark.parametrize("scheme", ["grpc+watch", "http"])


@contextlib.asynccontextmanager
async def serving(scheme: str, address: str, source: Source) -> AsyncIterator[None]:
    """A run of a server, at this address."""
    if scheme == "http":
        server = Served(source, access_of(f"http://{address}"))
        await server.start()
        try:
            yield
        finally:
            await server.stop()
    else:
        options = Options(reconnect=Backoff(initial=0.01, maximum=0.1))
        async with Hub(source, options) as hub, Server(access_of(f"grpc://{address}"), hub):
            yield


@contextlib.asynccontextmanager
async def following(scheme: str, address: str) -> AsyncIterator[tuple[DataSync, Probe]]:
    """A watcher of all that is shown at this address, through all runs of the server."""
    sync = DataSync(f"{scheme}://{address}", **QUICK)
    probe = Probe()
    sync.watcher("", name="probe", ack_timeout=60, resync_timeout=60)(probe)
    async with sync:
        await sync.ready(60)
        yield sync, probe


async def put(url: str, *keys: str) -> None:
    async with DataSync(url, **QUICK) as writer:
        for key in keys:
            await writer.put(key, key.encode())


async def shows(probe: Probe, *keys: str) -> None:
    await eventually(lambda: probe.state == {key: key.encode() for key in keys})


def free_address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@schemes
@pytest.mark.parametrize("later", [(), ("c", "d", "e", "f")], ids=["older", "grown since"])
def test_a_backup_put_back_while_the_server_is_down(
    run: Run, scheme: str, later: Sequence[str], tmp_path: Path
) -> None:
    async def main() -> None:
        file, address = SqliteFile(tmp_path / "file.db"), free_address()
        url = f"sqlite:///{file.path}"
        await put(url, "a")
        file.back_up()
        await put(url, "b", "lost")
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(serving(scheme, address, open_url(url)))
            async with following(scheme, address) as (sync, probe):
                waiting = asyncio.ensure_future(sync.view("").at_least(1_000))
                await put(url, "seen")
                await shows(probe, "a", "b", "lost", "seen")

                await first.aclose()
                file.restore()
                await put(url, *later)
                async with serving(scheme, address, open_url(url)):
                    await shows(probe, "a", *later)
                    assert probe.resyncs[-1].reason == NEW_HISTORY
                    with pytest.raises(HistoryChanged):
                        await waiting
                    await put(url, "next")
                    await shows(probe, "a", *later, "next")
                    probe.check()

    run(main())


@schemes
def test_a_restart_alone_is_not_a_new_history(run: Run, scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        url, address = f"sqlite:///{tmp_path}/file.db", free_address()
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(serving(scheme, address, open_url(url)))
            async with following(scheme, address) as (sync, probe):
                await put(url, "a", "b")
                await shows(probe, "a", "b")
                waiting = asyncio.ensure_future(sync.view("").at_least(4))

                await first.aclose()
                await put(url, "meanwhile")
                async with serving(scheme, address, open_url(url)):
                    await shows(probe, "a", "b", "meanwhile")
                    assert "another run" in probe.resyncs[-1].reason
                    await put(url, "next")
                    await waiting
                    probe.check()

    run(main())


def test_an_emptied_etcd_that_has_outgrown_the_old_one(run: Run) -> None:
    async def main() -> None:
        address = free_address()
        async with etcd_server(NEW) as server, contextlib.AsyncExitStack() as first:
            await put(server.url, "a", "b")
            await first.enter_async_context(serving("grpc+watch", address, open_url(server.url)))
            async with following("grpc+watch", address) as (_, probe):
                await shows(probe, "a", "b")

                await first.aclose()
                await server.empty()
                await put(server.url, "a", "other", "more")
                async with serving("grpc+watch", address, open_url(server.url)):
                    await shows(probe, "a", "other", "more")
                    assert probe.resyncs[-1].reason == NEW_HISTORY
                    probe.check()

    run(main())


def test_servers_one_behind_the_other_tell_it_on(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        file, upper, lower = SqliteFile(tmp_path / "file.db"), free_address(), free_address()
        url = f"sqlite:///{file.path}"
        await put(url, "a")
        file.back_up()
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(serving("http", upper, open_url(url)))
            await first.enter_async_context(serving("grpc+watch", lower, open_url(f"http://{upper}")))
            async with following("grpc+watch", lower) as (_, probe):
                await put(url, "b", "lost")
                await shows(probe, "a", "b", "lost")

                await first.aclose()
                file.restore()
                await put(url, "c", "d", "e")
                async with (
                    serving("http", upper, open_url(url)),
                    serving("grpc+watch", lower, open_url(f"http://{upper}")),
                ):
                    await shows(probe, "a", "c", "d", "e")
                    assert probe.resyncs[-1].reason == NEW_HISTORY
                    probe.check()

    run(main())


@schemes
@pytest.mark.parametrize("place", ["", "{", '{"a":1}', "[1,2]", '["",-1,0]', "[" * 100_000])
def test_a_position_of_nobody_is_followed_by_a_snapshot(run: Run, scheme: str, place: str, tmp_path: Path) -> None:
    async def main() -> None:
        url, address = f"sqlite:///{tmp_path}/file.db", free_address()
        await put(url, "a")
        async with serving(scheme, address, open_url(url)):
            source = open_url(f"{scheme}://{address}")
            with pytest.raises(HistoryLost):
                await source.open([""], f"other.1.{place}")
            await source.aclose()

    run(main())
