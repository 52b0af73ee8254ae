"""A process that is an agent which reports: `python -m datasync.testing.chaos.agent URL NAME
TRACE`. What it says of values goes to the end of the file TRACE before anybody hears it, so that
this is known however the process ends. `singly`: it writes key by key. `good`: it does not fail.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from datasync.capabilities import Capabilities
from datasync.forwarding import ForwardingSource
from datasync.source import Source
from datasync.testing.simulation.agents import Agent
from datasync.testing.trace.recorder import Recorder
from datasync.testing.trace.records import Record, dump
from datasync.transports import open_url

__all__ = ["main", "opened"]


class _Singly(ForwardingSource):
    """The same source, which takes no transactions."""

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return msgspec.structs.replace(super().capabilities, transactions=False)


def opened(url: str, *, singly: bool) -> Source:
    """The source at a URL, which is written to key by key if `singly`."""
    source = open_url(url)
    return _Singly(source) if singly else source


class _Writing(Recorder):
    """Keeps nothing: each record is in the file at once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _note(self, make: Callable[..., Record], /, **fields: Any) -> None:
        super()._note(make, **fields)
        os.write(self._file, dump([self.trace.pop()]))


async def live(source: Source, name: str, path: Path, *, good: bool) -> None:
    """Live without an end."""
    agent = Agent(name, source, _Writing(path), random.Random())
    agent.good = good
    await agent.live()
    while True:
        await asyncio.sleep(0.3)
        if not good:
            agent.report_later()


def main() -> None:
    """Run it; its parent process ends it with a signal."""
    url, name, path, *how = sys.argv[1:]
    source = opened(url, singly="singly" in how)
    asyncio.run(live(source, name, Path(path), good="good" in how))


if __name__ == "__main__":
    main()
