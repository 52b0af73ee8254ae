"""Mounted in an application of somebody else, as docs/rest.md has it,
on a server that is not ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from datasync import BadUrl, DataSync, Refused
from datasync.restsync.agent import RestSource
from tests.helpers.rest.curl import DOCUMENT
from tests.helpers.servers import Process, free_ports, until


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    assert uvicorn
    [port] = free_ports(1)
    command = [
        "-m",
        "uvicorn",
        "mounting:app",
        "--port",
        str(port),
        "--app-dir",
        str(mounting(tmp_path)),
    ]
    command += ["--log-level", "error"]

    async def main() -> None:
        server = Process([sys.executable, *command], port, tmp_path)
        await server.start()
        try:
            base = f"http://127.0.0.1:{port}/sync"
            page = await asyncio.to_thread(ask, "GET", f"{base}/")
            assert b"<title>datasync</title>" in page[1]
            assert (await asyncio.to_thread(ask, "GET", f"{base}/page/main.js"))[0] == 200
            written = await asyncio.to_thread(ask, "PUT", f"{base}/v1/keys/config/mtu", b"1500")
            assert json.loads(written[1]) == {"revision": 1, "verdict": "accepted"}
            assert (await asyncio.to_thread(ask, "GET", f"{base}/v1/keys/config/mtu"))[1] == b"1500"
            assert (await asyncio.to_thread(ask, "GET", f"{base}/nothing"))[0] == 404
            assert json.loads((await asyncio.to_thread(ask, "GET", f"{base}/v1/status"))[1])[
                "watches"
            ]
            await as_a_source(f"{base}/")
            command_of_status = ["-m", "datasync", "status", base, "--check"]
            status = await asyncio.create_subprocess_exec(sys.executable, *command_of_status)
            assert await status.wait() == 0
        finally:
            await server.stop()

    asyncio.run(main())


async def as_a_source(url: str) -> None:
    async with DataSync(url) as sync:
        view = sync.view("config/")
        await sync.ready(60)
        assert dict(view) == {"config/mtu": b"1500"}
        revision = await sync.put("config/mtu", b"9000", confirm=60)
        assert revision is not None
        await view.at_least(revision, timeout=60)
        found = await sync.get("config/mtu")
        assert found is not None
        assert found.raw == view["config/mtu"] == b"9000"


@pytest.mark.parametrize("path", ["/v1/keys", "/sync/v1/keys/config/mtu"])
def test_the_path_of_a_request_is_not_where_a_server_is_mounted(path: str) -> None:
    with pytest.raises(BadUrl, match=r"write what stands before /v1$"):
        DataSync(f"http://127.0.0.1:9191{path}")


def mounting(directory: Path) -> Path:
    """The example of the docs as a module, with a watch."""
    program = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[-1]
    (directory / "mounting.py").write_text(
        program + '\n\n@sync.watcher("config/")\nasync def config(event): pass\n'
    )
    return directory


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_example_ends_while_streams_are_open(tmp_path: Path, number: int) -> None:
    [port] = free_ports(1)
    command = [
        "-m",
        "uvicorn",
        "mounting:app",
        "--port",
        str(port),
        "--app-dir",
        str(mounting(tmp_path)),
    ]

    async def main() -> None:
        server = Process([sys.executable, *command], port, tmp_path)
        await server.start()
        url = f"http://127.0.0.1:{port}/sync/v1/events"
        try:
            async with aiohttp.ClientSession() as client:
                streams = [await client.get(url) for _ in range(3)]
                posted = await client.post(url, json={"scopes": ["config/"]})
                for stream in (*streams, posted):
                    assert b"datasync" in await stream.content.readany()
                server._send(number)
                for stream in (*streams, posted):
                    await asyncio.wait_for(stream.read(), 60)
                await until(server_ended(server), "uvicorn ends", 10)
                assert "Application shutdown complete" in server.tail()
        finally:
            server.end()

    asyncio.run(main())


def server_ended(server: Process) -> Callable[[], Awaitable[bool]]:
    async def ended() -> bool:
        return not server.running

    return ended


@pytest.mark.skipif(
    sys.platform != "linux", reason="found out by names of sockets that only Linux has"
)
def test_a_second_worker_is_refused(tmp_path: Path) -> None:
    [port] = free_ports(1)
    command = [
        "-m",
        "uvicorn",
        "mounting:app",
        "--port",
        str(port),
        "--app-dir",
        str(mounting(tmp_path)),
    ]

    async def main() -> None:
        server = Process([sys.executable, *command, "--workers", "2"], port, tmp_path)
        await server.start()

        async def refused() -> bool:
            return "run a single worker" in server.log.read_text()

        try:
            await until(refused, "the second worker is refused", 30)
        finally:
            await server.stop()

    asyncio.run(main())


def test_agents_of_one_process_may_be_several() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)):
            async with DataSync(RestSource(empty=True)), DataSync(RestSource(empty=True)):
                pass
            async with DataSync(RestSource(empty=True)):
                pass

    asyncio.run(main())


def test_signals_of_the_server_are_its_own_again() -> None:
    heard: list[int] = []

    def handler(number: int, frame: Any) -> None:
        heard.append(number)

    async def main() -> None:
        source = RestSource(empty=True)
        async with DataSync(source):
            assert signal.getsignal(signal.SIGTERM) is not handler
            os.kill(os.getpid(), signal.SIGTERM)
            await until(
                lambda: was_heard(source), "the handler of the server runs, and streams end"
            )
        assert signal.getsignal(signal.SIGTERM) is handler
        async with DataSync(source):
            assert not source.app._events._ending

    async def was_heard(source: RestSource) -> bool:
        return heard == [signal.SIGTERM] and source.app._events._ending

    before = signal.signal(signal.SIGTERM, handler)
    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, before)


def ask(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request with what Python has."""
    request = urllib.request.Request(url, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_an_object_serves_several(memory_url: str) -> None:
    """The source ends with the last DataSync that uses it, and may begin again."""
    from tests.helpers.rest.served import access_of

    async def main() -> None:
        [port] = free_ports(1)
        source = RestSource(access_of(f"rest://127.0.0.1:{port}"), empty=True)

        async def accept(event: Any) -> None:
            pass

        async def refuse(event: Any) -> None:
            if event.changes:
                raise Refused({change.key: "no" for change in event.changes})

        for _ in range(2):
            one, two = DataSync(source), DataSync(source)
            one.watcher("a/", name="accept")(accept)
            two.watcher("a/refused/", name="refuse")(refuse)
            async with one:
                async with two:
                    await asyncio.gather(one.ready(60), two.ready(60))
                    answer = await asyncio.to_thread(
                        ask, "PUT", f"http://127.0.0.1:{port}/v1/keys/a/refused/1", b"1"
                    )
                    assert answer[0] == 422
                    status = json.loads(
                        (await asyncio.to_thread(ask, "GET", f"http://127.0.0.1:{port}/v1/status"))[
                            1
                        ]
                    )
                    assert [watch["name"] for watch in status["watches"]] == ["accept", "refuse"]
                answer = await asyncio.to_thread(
                    ask, "PUT", f"http://127.0.0.1:{port}/v1/keys/a/1", b"1"
                )
                assert answer[0] == 200
                await asyncio.to_thread(ask, "DELETE", f"http://127.0.0.1:{port}/v1/keys?prefix=")

    asyncio.run(main())
