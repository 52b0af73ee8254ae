"""The judgement of what a watch made of the log of a Redis server."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from datasync import DataSync
from datasync.testing.contract import eventually
from tests.helpers.load import Watched, hold, watched
from tests.helpers.redis.redis_server import RedisServer

__all__ = ["Judged", "judge", "settled"]


async def settled(probe: Watched, server: RedisServer) -> None:
    """Wait until the watch has seen all that the server has."""
    wanted = await server.everything()
    await eventually(lambda: probe.state == wanted, 60)


async def judge(probe: Watched, server: RedisServer) -> None:
    """Hold what a watch of everything saw against what the server wrote down;
    the watch has seen all of it.
    """
    await settled(probe, server)
    hold(probe, server.history(), await server.everything())


class Judged:
    """What the faults of `tests.helpers.faults` need of Redis."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def watched(self, url: str) -> AbstractAsyncContextManager[tuple[DataSync, Watched]]:
        """A watch of everything."""
        return watched(url)

    async def judge(self, probe: Watched) -> None:
        """See `judge`."""
        await judge(probe, self._server)
