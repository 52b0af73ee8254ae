"""What a feed says of a session that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from datasync import Backoff, DataSync, Unauthorized
from datasync.kvdbsync.memory import MemorySource
from datasync.source import Session
from datasync.syncbase.core import Core, Layer
from datasync.testing import FaultySource
from datasync.testing.contract import eventually
from tests.helpers.logs import logged


class Mistaken(MemorySource):
    """A transport with a mistake in it."""

    tries = 0

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        self.tries += 1
        if self.tries <= 5:
            raise RuntimeError("a mistake")
        return await super().open(scopes, resume, added)


def test_an_unexpected_error_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        source = Mistaken()
        async with DataSync(source, reconnect=Backoff(initial=0.001, maximum=0.001)) as sync:
            await eventually(lambda: sync.status().sources[0].state == "following")
            assert source.tries == 6
            assert sync.status().sources[0].error is None

    with caplog.at_level(logging.INFO, "datasync.feed"):
        asyncio.run(main())
    said = [(record.levelname, record.exc_info is not None) for record in logged(caplog)]
    assert said == [("WARNING", False), ("ERROR", True), ("INFO", False)]


def test_a_source_that_lets_nobody_in_fails_the_start() -> None:
    async def main() -> None:
        source = FaultySource()
        source.fail_open(Unauthorized("wrong password"))
        with pytest.raises(Unauthorized, match="wrong password"):
            async with DataSync(source):
                pass

    asyncio.run(main())


def test_g8_an_unexpected_error_in_noting_the_loss_keeps_no_source_from_being_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost = Core.lost
    errors = iter([RuntimeError("of the engine")])

    def broken(self: Core, layer: Layer, error: Exception) -> None:
        lost(self, layer, error)
        for unexpected in errors:
            raise unexpected

    async def main() -> None:
        monkeypatch.setattr(Core, "lost", broken)
        source = FaultySource({"a/1": b"1"})
        async with DataSync(source, reconnect=Backoff(initial=0.001, maximum=0.001)) as sync:
            view = sync.view("a/")
            await sync.ready()
            source.disconnect()
            source.write({"a/1": b"2"})
            await eventually(lambda: view.get("a/1") == b"2")

    with caplog.at_level(logging.ERROR, "datasync"):
        asyncio.run(main())
    said = [str(record.exc_info[1]) for record in logged(caplog) if record.exc_info is not None]
    assert said == ["of the engine"]
