"""A recorded watch of etcd, and the judgement of what it made of the server's log."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from datasync import DataSync
from datasync.events import ResyncEvent
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.testing.contract import Probe, eventually
from tests.helpers import load
from tests.helpers.etcd.etcd_server import EtcdServer
from tests.helpers.load import Watched, hold

__all__ = ["Judged", "begun_anew", "cluster_of", "judge", "judge_anew", "settled", "watched"]

Log = list[tuple[int, dict[str, bytes | None]]]
"""What `EtcdServer.history` tells."""


@contextlib.asynccontextmanager
async def watched(
    url: str, *prefixes: str, **options: Any
) -> AsyncIterator[tuple[DataSync, Watched]]:
    """See `load.watched`."""
    async with load.watched(
        url, *prefixes, history=await cluster_of(url), revision=1, **options
    ) as both:
        yield both


async def cluster_of(url: str) -> str:
    """What the source calls the history of the first member; "" where nobody answers."""
    address = url.split("://")[1].split("@")[-1].split(",")[0].split("?")[0]
    if not url.startswith("etcd://"):
        return ""
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.enable_http_proxy", 0)]
    ) as channel:
        status = channel.unary_unary(
            "/etcdserverpb.Maintenance/Status",
            request_serializer=pb.StatusRequest.SerializeToString,
            response_deserializer=pb.StatusResponse.FromString,
        )
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer: pb.StatusResponse = await status(pb.StatusRequest(), timeout=2)
            return f"{answer.header.cluster_id:x}"
    return ""


def judge(probe: Watched, log: Log) -> None:
    """Hold what a watch of everything saw against the server's own log: all of it, once,
    whole, in order.
    """
    probe.check()
    states: dict[int, dict[str, bytes]] = {}
    state: dict[str, bytes] = {}
    net: dict[int, dict[str, bytes | None]] = {}
    for revision, changes in log:
        net[revision] = {key: raw for key, raw in changes.items() if state.get(key) != raw}
        for key, raw in changes.items():
            if raw is None:
                state.pop(key, None)
            else:
                state[key] = raw
        states[revision] = dict(state)
    position = 0
    for event in probe.events:
        if isinstance(event, ResyncEvent):
            shown = {kv.key: kv.raw for values in event.values.values() for kv in values}
            known = max((revision for revision in states if revision <= event.revision), default=0)
            assert shown == states.get(known, {}), (
                f"the RESYNC at {event.revision} is not the state at {known}"
            )
        else:
            due = [
                revision
                for revision in net
                if position < revision <= event.revision and net[revision]
            ]
            assert due == [event.revision], (
                f"behind {position} came {event.revision}, due were {due[:5]}"
            )
            assert {change.key: change.raw for change in event.changes} == net[event.revision]
        position = event.revision
    late = [revision for revision in net if revision > position and net[revision]]
    assert not late, f"behind {position} {late[:5]} did not come"
    assert probe.state == state
    hold(probe, log, state, max(states, default=1))


async def settled(probe: Probe, server: EtcdServer) -> None:
    """Wait until the watch has seen all that the server has."""
    wanted = await server.everything()
    await eventually(lambda: probe.state == wanted, 60)


async def judge_anew(probe: Watched, server: EtcdServer, start: int) -> None:
    """Hold what a watch of everything saw since `begun_anew` against the log
    since revision `start`.
    """
    await settled(probe, server)
    state = await server.everything()
    hold(probe, await server.history(start), state, await server.head())


def begun_anew(probe: Watched, history: str, log: Log, kept: int = 1) -> None:
    """The store with that log is about to lose all behind revision `kept`,
    and goes on from there.
    """
    items: dict[str, tuple[str, bytes, int]] = {}
    for revision, changes in log:
        probe.recorder.committed(probe.source, changes, revision)
        for key, raw in changes.items() if revision <= kept else ():
            if raw is None:
                items.pop(key, None)
            else:
                items[key] = (key, raw, revision)
    probe.recorder.history_started(probe.source, history, kept, list(items.values()))


class Judged:
    """What the faults of `tests.helpers.faults` need of etcd."""

    def __init__(self, server: EtcdServer) -> None:
        self._server = server

    def watched(self, url: str) -> contextlib.AbstractAsyncContextManager[tuple[DataSync, Watched]]:
        """A watch of everything."""
        return watched(url)

    async def judge(self, probe: Watched) -> None:
        """See `judge`; it resumed each time."""
        await settled(probe, self._server)
        assert len(probe.resyncs) == 1
        judge(probe, await self._server.history())
