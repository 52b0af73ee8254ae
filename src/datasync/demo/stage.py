"""What the steps of the story share: the store, the agent, and what the
agent has applied so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from datasync import DataSync
from datasync.demo.agent import LABEL, Agent, Applied
from datasync.demo.network import INTERFACES, ROUTES
from datasync.demo.network_pb2 import Interface, Route
from datasync.demo.screen import Screen
from datasync.status import SourceStatus

__all__ = ["PATIENCE", "Stage", "State", "save", "stored", "until", "url_of"]

PATIENCE = 60.0
"""Seconds within which things happen that should happen at once: a machine may
be busy with something else."""
State = dict[str, Interface | Route]
"""Interfaces and routes by their keys."""


class Stage:
    """One agent on the store in the directory `home`; `applied` is what its parts did, in order."""

    def __init__(self, directory: Path, screen: Screen) -> None:
        self.screen = screen
        self.directory = directory
        self.home = directory / "store"
        self.url = url_of(self.home)
        self.applied: list[Applied] = []
        self.agent = Agent(self.url, self.applied.append)
        self.interface = Interface()
        """The interface of this machine that is changed, as it is stored now."""
        self.saved: State = {}
        """What is in the backup."""

    @property
    def source(self) -> SourceStatus:
        """What `status()` says of the store."""
        return self.agent.sync.status().sources[0]

    def show(self, mark: int = 0) -> None:
        """Show what was applied since there were `mark` events."""
        for one in self.applied[mark:]:
            self.screen.show(one)

    async def arrival(self, revision: int, mark: int) -> bool:
        """Wait until the routes, which come last, have got `revision`; whether they did in time."""
        return await until(
            lambda: any(
                one.part == "routes" and one.event.revision >= revision
                for one in self.applied[mark:]
            )
        )

    def caught_up(self, revision: int) -> bool:
        """Whether nothing up to `revision` waits for a part. There need not have been an event for
        each revision: of changes that wait together, a part is given what differs in the end,
        which may be nothing."""
        status = self.agent.sync.status()
        return status.sources[0].revision >= revision and not any(
            watch.backlog for watch in status.watches
        )


async def until(condition: Callable[[], bool]) -> bool:
    """Wait until `condition` is true; whether it became so in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not condition() and loop.time() < deadline:  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0.005)
    return condition()


def url_of(directory: Path) -> str:
    """The URL of the store in a directory."""
    return f"sqlite:///{quote(str(directory / 'network.db'))}"


async def save(url: str, values: State) -> int | None:
    """Store all of it in one transaction, as somebody who is not part of the
    agent; returns the revision."""
    async with DataSync(url, label=LABEL) as sync:
        txn = sync.txn()
        for key, value in values.items():
            txn.put(key, value)
        return await txn.commit()


async def stored(url: str) -> State:
    """All that a store holds, as a DataSync of its own reads it."""
    found: State = {}
    async with DataSync(url, label=LABEL) as sync:
        async for interface in sync.list(INTERFACES, Interface):
            found[interface.key] = interface.value
        async for route in sync.list(ROUTES, Route):
            found[route.key] = route.value
    return found
