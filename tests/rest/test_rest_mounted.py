"""Mounted in an application of somebody else, as docs/rest.md has it, on a server that is not ours."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import uvicorn

from datasync import DataSync, Refused
from tests.rest.curl import DOCUMENT
from tests.servers import Process, free_ports


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    assert uvicorn
    program = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[-1]
    handler = '\n\n@sync.watcher("config/")\nasync def config(event): pass\n'
    (tmp_path / "mounting.py").write_text(program + handler)
    [port] = free_ports(1)
    command = ["-m", "uvicorn", "mounting:app", "--port", str(port), "--app-dir", str(tmp_path), "--log-level", "error"]

    async def main() -> None:
        import sys

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
            assert json.loads((await asyncio.to_thread(ask, "GET", f"{base}/v1/status"))[1])["watches"]
        finally:
            await server.stop()

    asyncio.run(main())


def ask(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request with what Python has."""
    request = urllib.request.Request(url, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_an_object_serves_several(memory_url: str) -> None:
    """The source ends with the last DataSync that uses it, and may begin again."""
    from datasync.restsync.agent import RestSource
    from tests.rest.served import access_of

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
                    await asyncio.gather(one.ready(10), two.ready(10))
                    answer = await asyncio.to_thread(ask, "PUT", f"http://127.0.0.1:{port}/v1/keys/a/refused/1", b"1")
                    assert answer[0] == 422
                    status = json.loads((await asyncio.to_thread(ask, "GET", f"http://127.0.0.1:{port}/v1/status"))[1])
                    assert [watch["name"] for watch in status["watches"]] == ["accept", "refuse"]
                answer = await asyncio.to_thread(ask, "PUT", f"http://127.0.0.1:{port}/v1/keys/a/1", b"1")
                assert answer[0] == 200
                await asyncio.to_thread(ask, "DELETE", f"http://127.0.0.1:{port}/v1/keys?prefix=")

    asyncio.run(main())
