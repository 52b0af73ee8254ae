"""What a feed says of a session that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from datasync import Backoff, DataSync
from datasync.kvdbsync.memory import MemorySource
from datasync.source import Session
from datasync.testing.contract import eventually


class Mistaken(MemorySource):
    """A transport with a mistake in it."""

    tries = 0

    async def open(self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()) -> Session:
        self.tries += 1
        if self.tries <= 5:
            raise RuntimeError("a mistake")
        return await super().open(scopes, resume, added)


def test_an_unexpected_error_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        source = Mistaken()
        async with DataSync(source, reconnect=Backoff(initial=0.001, maximum=0.001)) as sync:
            await eventually(lambda: sync.status().sources[0].state == "following")
            assert source.tries == 6
            assert sync.status().sources[0].error is None

    with caplog.at_level(logging.INFO, "datasync.feed"):
        asyncio.run(main())
    said = [(record.levelname, record.exc_info is not None) for record in caplog.records]
    assert said == [("WARNING", False), ("ERROR", True), ("INFO", False)]
