"""Clients that do not read: what is sent to them comes in parts, is bounded, and has an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from datasync import DataSync
from datasync.kvdbsync.memory import MemorySource
from datasync.source import Put
from tests.rest.served import served

Run = Callable[[Any], None]
KEYS, VALUE = 40, b"x" * 100_000


def test_a_snapshot_is_cut_by_bytes(run: Run) -> None:
    """One event holds everybody up while it is made, however few its keys are."""

    async def main() -> None:
        source = MemorySource("large")
        await source.commit([Put(f"large/{number:02}", VALUE) for number in range(KEYS)])
        async with served(source) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.access.port, limit=64 << 20)
            writer.write(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            told = await asyncio.wait_for(reader.readuntil(b"event: snapshot-end"), 60)
            writer.close()
            events = told.split(b"event: ")
            assert sum(event.startswith(b"snapshot-chunk\n") for event in events) >= KEYS // 3
            assert max(map(len, events)) < 600_000
            async with DataSync(server.url) as client:
                view = client.view("large/")
                await client.ready(60)
                assert len(view) == KEYS

    run(main())
