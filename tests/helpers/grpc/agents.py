"""An agent for tests, with watches that answer in every way there is,
and clients made by the plain protobuf tools.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc.aio

from datasync import Backoff, ChangeEvent, DataSync, Refused, ResyncEvent
from tests.helpers.grpc.plain import msg_pb2 as msg
from tests.helpers.grpc.plain import msg_pb2_grpc as stubs
from tests.helpers.servers import Announce, built, free_ports, quietly

__all__ = ["Agent", "agent", "change", "changes", "client", "go_client", "resync"]


class Agent:
    """Watches config/: what is under bad/ is refused, under broken/ fails,
    and under slow/ is never answered.
    """

    def __init__(self, query: str = "", scheme: str = "grpc") -> None:
        [self.port] = free_ports(1)
        self.url = f"{scheme}://127.0.0.1:{self.port}{query}"
        self.address = f"127.0.0.1:{self.port}"
        self.state: dict[str, bytes] = {}
        self.events: list[ResyncEvent[bytes] | ChangeEvent[bytes]] = []
        self.sync = DataSync(self.url, ack_timeout=0.3, retry=Backoff(initial=60, maximum=60))
        for kind in ("config/", "broken/", "slow/"):
            self.sync.watcher(kind, name=kind)(self._handle)

    async def _handle(self, event: ResyncEvent[bytes] | ChangeEvent[bytes]) -> None:
        if any(change.key.startswith("slow/") for change in event.changes):
            event.defer()
            return
        if any(change.key.startswith("broken/") for change in event.changes):
            raise RuntimeError("it broke")
        self.events.append(event)
        refused = {}
        for one in event.changes:
            assert (one.prev.raw if one.prev else None) == self.state.get(one.key)
            if one.raw is None:
                self.state.pop(one.key, None)
            elif "/bad/" in one.key:
                refused[one.key] = f"no such bridge: {one.key}"
            else:
                self.state[one.key] = one.raw
        if refused:
            raise Refused(refused)


@contextlib.asynccontextmanager
async def agent(query: str = "", scheme: str = "grpc") -> AsyncIterator[Agent]:
    """An agent that listens within the block."""
    one = Agent(query, scheme)
    async with one.sync:
        yield one


@contextlib.asynccontextmanager
async def client(address: str, **options: Any) -> AsyncIterator[Any]:
    """The generated stub of the Go package's service."""
    async with grpc.aio.insecure_channel(address, **options) as channel:
        yield stubs.DataMsgServiceStub(channel)  # type: ignore[no-untyped-call]


def change(key: str, content: bytes | None) -> msg.DataChangeRequest:
    """One change; None deletes."""
    if content is None:
        return msg.DataChangeRequest(key=key, operationType=msg.DEL)
    return msg.DataChangeRequest(key=key, content=content)


async def changes(
    stub: Any, requests: Sequence[msg.DataChangeRequest]
) -> list[msg.DataChangeReply]:
    """Send all of them at once, and read all answers."""

    async def send() -> AsyncIterator[msg.DataChangeRequest]:
        for request in requests:
            yield request

    async with asyncio.timeout(60):
        return [reply async for reply in stub.dataChanges(send())]


async def resync(
    stub: Any, items: Iterable[tuple[str, bytes]], number: int = 1
) -> msg.DataResyncReplies:
    """Send a whole state."""
    reply: msg.DataResyncReplies = await stub.dataResyncs(
        msg.DataResyncRequests(
            msgId=msg.Seq(originator="test", seqCreatedSec=1, seq=number),
            dataResyncs=[msg.DataResyncRequest(key=key, content=raw) for key, raw in items],
        ),
        timeout=20,
    )
    return reply


def go_client(announce: Announce = quietly) -> str:
    """The path of the Go package's own client; skips or fails the test where it cannot be built."""
    return built(Path(__file__).parent / "go", "grpc/go-client", announce)
