"""The REST server: raw bytes, nearly HTTP, on its socket; it answers or hangs up,
never with a 500, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator

from datasync.restsync.agent import RestSource
from datasync.serving.access import Access
from datasync.sync import DataSync
from datasync.testing.chaos.ports import free_ports
from datasync.testing.fuzz.door import Door, Finding, mutated
from datasync.transports import Url

__all__ = ["door"]

_TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"%2F", b"%00", b"%ff", b"%", b"..", b"//", b"?", b"#",
    b"/v1/keys/", b"\xff", b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Length: -1\r\n", b"0\r\n",
    b"Host: a\r\n", b"Host: b\r\n", b"Expect: 100-continue\r\n", b"Connection: upgrade\r\n",
    b"Upgrade: websocket\r\n", b"If-Match: *\r\n", b'If-Match: "1"\r\n', b"If-None-Match: *\r\n",
    b"Range: bytes=0-\r\n", b"X: " + b"y" * 9000, b"[" * 3000, b'{"a":' * 300, b"1e999",
    b'"\\ud800"', b"null", b"-1", b"99999999999999999999", b"ttl=nan", b"ttl=-1", b"HTTP/0.9",
    b"HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET ", b"POST ", b"OPTIONS ", b"TRACE ",
    b"limit=0",
]  # fmt: skip
_PATHS = [
    "/v1/keys/config/a", "/v1/keys/config/b", "/v1/keys?prefix=config/&limit=2",
    "/v1/keys?cursor=x", "/v1/status", "/v1/keys/config/?prefix=1", "/v1/keys/config/a?ttl=5",
    "/metrics", "/healthz", "/openapi.json", "/", "/v1/keys", "/v1/transactions", "/v1/events",
    "/v1/events?prefix=config/", "/v1/pings?stream=x", "/v1/catch-ups?stream=x",
    "/v1%2Fkeys/public/v1/keys/secret", "*", "http://127.0.0.1/v1/keys/a",
]  # fmt: skip
_BODIES = [
    b"", b"value", b"\xff\xfe", b'{"scopes": [""]}', b"[]", b"{}", b'{"keys": {"config/c": "1"}}',
    b'{"operations": [{"op": "put", "key": "config/b", "value": "1"}]}',
    b'{"operations": [{"op": "delete", "key": "config/", "prefix": true}]}',
    b'{"scopes": ["config/"], "resume": "x", "added": []}',
    b'{"items": [{"key": "config/d", "value_base64": "AA=="}]}',
]  # fmt: skip
_TYPES = [
    "application/json",
    "application/octet-stream",
    "text/plain; charset=x",
    "",
    "multipart/form-data; boundary=x",
]
_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_PATIENCE = 0.05
"""Seconds without a word, after which a stream of events or a server that
waits for more is left."""


@contextlib.asynccontextmanager
async def door() -> AsyncIterator[Door]:
    """An agent in this process."""
    [port] = free_ports(1)
    source = RestSource(Access.of_url(Url(f"rest://127.0.0.1:{port}"), tls=False), empty=True)
    sync = DataSync(source)

    @sync.watcher("config/")
    async def everything(event: object) -> None:
        del event

    async def case(rng: random.Random) -> str:
        said = await _send(port, _drawn(rng), rng.random() < 0.8)
        codes = [int(code) for code in _ANSWER.findall(said)]
        if bad := [code for code in codes if code >= 500 and code not in (501, 503, 505)]:
            raise Finding(f"it answers {bad}: {said[:1000]!r}")
        if said and not codes:
            raise Finding(f"this is not an answer: {said[:1000]!r}")
        return str(codes[0] if codes else "nothing")

    async def works() -> None:
        value = b"%d" % random.getrandbits(64)
        put = (
            b"PUT /v1/keys/config/works HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b"
            % (
                len(value),
                value,
            )
        )
        get = b"GET /v1/keys/config/works HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        said = await _send(port, put + get, end=True, patience=60.0)
        if not said.endswith(value):
            raise Finding(f"it does not answer as it should: {said!r}")

    async with sync:
        yield Door(case, works)


async def _send(port: int, data: bytes, end: bool, patience: float = _PATIENCE) -> bytes:
    """What comes back until the other side closes, or says nothing for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(patience):
                    new = await reader.read(1 << 16)
                if not new:
                    break
                said += new
    except OSError:
        pass  # a reset is an answer too
    finally:
        writer.transport.abort()
    return said


def _drawn(rng: random.Random) -> bytes:
    requests = b"".join(_request(rng) for _ in range(rng.choice([1, 1, 1, 2, 3])))
    return mutated(rng, requests, _TOKENS) if rng.random() < 0.7 else requests


def _request(rng: random.Random) -> bytes:
    method = rng.choice(
        ["GET", "GET", "PUT", "PUT", "POST", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS", "X" * 50]
    )
    body = rng.choice(_BODIES)
    lines = [
        f"{method} {rng.choice(_PATHS)} HTTP/1.1",
        f"Host: {rng.choice(['127.0.0.1', '127.0.0.1', 'localhost', 'evil'])}",
    ]
    lines.append(f"Content-Type: {rng.choice(_TYPES)}")
    if rng.random() < 0.3:
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
