"""Bytes of servers and files that do not decode: not JSON, not UTF-8, too deeply nested,
of another form.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from datasync import open_url
from datasync.codec.shared import UNDECODABLE
from datasync.errors import DataSyncError, Disconnected
from datasync.grpcsync.wire import capabilities_of
from datasync.restsync._events import BEGIN, CHUNK, COMMIT
from datasync.restsync._problems import MARK, STREAMED, error_of
from datasync.skipped_keys import MARK as KEY
from datasync.skipped_keys import SkippedKeys
from tests.helpers.logs import logged
from tests.helpers.servers import listening

Run = Callable[[Any], None]
TEXTS = [
    b"{",
    b'{"detail": "\xff"}',
    b'{"scopes": ["\xff"]}',
    b'{"\xff": 1}',
    b"[" * 100_000,
    b"5",
    b"",
]


@pytest.mark.parametrize("text", TEXTS)
def test_an_answer(text: bytes) -> None:
    assert isinstance(error_of(500, text, "server"), DataSyncError)
    assert capabilities_of(text) is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((BEGIN, text) for text in TEXTS),
        (CHUNK, b'{"items": [{"key": "k", "value_base64": "A", "revision": 1}]}'),
        (COMMIT, b'{"revision": 1, "changes": [{"op": "put", "key": "k", "value_base64": "A"}]}'),
        (COMMIT, b'{"revision": 1, "changes": [{"op": "put", "key": "\xff", "value": ""}]}'),
    ],
)
def test_an_event_of_a_server(run: Run, kind: str, text: bytes) -> None:
    mark = MARK.encode(), STREAMED.encode()
    body = b"id: 1\nevent: %b\ndata: %b\n\n" % (kind.encode(), text)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%b: %b\r\n\r\n" % mark + body
        )
        await writer.drain()
        await reader.read()

    async def main() -> None:
        async with listening(serve) as port:
            source = open_url(f"http://127.0.0.1:{port}")
            try:
                session = await source.open([""])
                with pytest.raises(Disconnected, match="not an event of datasync"):
                    await anext(aiter(session))
                await session.aclose()
            finally:
                await source.aclose()

    run(main())


def test_what_msgspec_raises_is_known() -> None:
    for text in TEXTS:
        with pytest.raises(UNDECODABLE):
            msgspec.json.decode(text, type=list[str])


def test_a_skipped_key_is_not_said_at_its_full_length(caplog: pytest.LogCaptureFixture) -> None:
    skipped = SkippedKeys(logging.getLogger("datasync.test"))
    for _ in range(2):
        skipped.report(b"\xff" * 3_000_000, "SQLite", "it is not UTF-8")
    [record] = logged(caplog)
    assert len(record.getMessage()) < 1000
    assert "2,999,800 bytes more" in getattr(record, KEY)
