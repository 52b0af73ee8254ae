"""A status names remote watchers over gRPC by where they come from, as it does those over HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest

from datasync import DataSync
from datasync.grpcsync.connections import name_of
from datasync.grpcsync.server import Server
from datasync.kvdbsync.memory import MemorySource
from datasync.testing.contract import eventually
from tests.helpers.rest.served import access_of, served
from tests.helpers.servers import free_ports

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_status_of_a_served_source(run: Run, host: str) -> None:
    async def main() -> None:
        [port] = free_ports(1)
        async with (
            served(MemorySource()) as http,
            Server(access_of(f"grpc://{host}:{port}"), http.hub),
            DataSync(f"grpc+watch://{host}:{port}") as over_grpc,
            DataSync(http.url) as over_http,
            aiohttp.ClientSession() as session,
        ):
            over_grpc.watcher("grpc/")(lambda event: None)
            over_http.watcher("http/")(lambda event: None)

            def watched() -> list[list[str]]:
                return sorted(one.scopes for one in http.hub.remote_watchers)

            await eventually(lambda: watched() == [["grpc/"], ["http/"]], 60)
            async with session.get(f"{http.url}/v1/status") as answer:
                shown = await answer.json()

        peers = {one["scopes"][0]: one["peer"] for one in shown["remote"]}
        assert set(peers) == {"grpc/", "http/"}
        assert re.fullmatch(rf"{re.escape(host)}:[0-9]+", peers["grpc/"])
        assert re.fullmatch(r"127\.0\.0\.1:[0-9]+", peers["http/"])

    run(main())


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("ipv4:10.0.0.1:80", "10.0.0.1:80"),
        ("ipv6:%5B2001:db8::1%5D:80", "[2001:db8::1]:80"),
        ("ipv6:[fe80::1%25eth0]:80", "[fe80::1]:80"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:80", "10.0.0.1:80"),
        ("unix:/run/agent.sock", ""),
        ("", ""),
    ],
)
def test_the_names_of_grpc(peer: str, name: str) -> None:
    assert name_of(peer) == name
