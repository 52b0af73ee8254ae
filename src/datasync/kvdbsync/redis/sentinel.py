"""The primary that sentinels name, looked up again for each connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from datasync.endpoints import Endpoint
from datasync.errors import BadStore, DataSyncError, Disconnected
from datasync.kvdbsync.redis.link import Access, Link, ReplyError, refuse_mode
from datasync.kvdbsync.redis.replies import shaped
from datasync.kvdbsync.redis.store import Single, refuse_replica
from datasync.shared import closed_on_error
from datasync.texts import logger

__all__ = ["Sentinels", "WatchedOver"]

_PATIENCE = 0.15
"""Seconds to wait for the other sentinels when one has answered."""
_LOOK = 0.3
"""Seconds that looking for a newer primary may add to a ping; one that
takes longer goes on after it."""

log = logger("datasync.redis")


class Sentinels:
    """Several sentinels that watch over the primary `name`."""

    def __init__(self, endpoints: Sequence[Endpoint], access: Access, name: str) -> None:
        self._endpoints = list(endpoints)
        self._access = access
        self._name = name
        self._silent = False

    async def have_replaced(self, primary: Endpoint) -> Endpoint | None:
        """The primary they name instead of this one; None where they do not, or
        cannot be asked (logged once)."""
        try:
            now = await self.primary()
        except DataSyncError as error:
            if not self._silent:
                log.warning(
                    "the sentinels of %s cannot be asked whether %s is still the primary: %s",
                    self._name,
                    primary,
                    error,
                )
            self._silent = True
            return None
        if self._silent:
            log.info("the sentinels of %s can be asked again", self._name)
        self._silent = False
        return now if now != primary else None

    async def primary(self) -> Endpoint:
        """Where the primary is, as that sentinel has it which knows of the latest
        fail-over: the others hear of one some seconds later. Raises what a sentinel's
        try raised, where none knows."""
        asked = {asyncio.ensure_future(self._ask(endpoint)) for endpoint in self._endpoints}
        try:
            done, late = await asyncio.wait(asked, timeout=_PATIENCE)
            while late and all(task.exception() for task in done):
                more, late = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            outcomes = [task.exception() or task.result() for task in done]
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        known = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
        if known:
            return max(known)[1]
        raise min((error for error in outcomes if isinstance(error, Exception)), key=_is_passing)

    async def _ask(self, endpoint: Endpoint) -> tuple[int, Endpoint]:
        """The number of the last fail-over that this sentinel knows of, and
        where the primary is since."""
        link = await Link.connect(endpoint, self._access)
        try:
            refuse_mode(link, "sentinel")
            [said] = await link.answered(link.send(("SENTINEL", "MASTER", self._name)))
            if isinstance(said, ReplyError) and "No such master" in str(said):
                raise BadStore(
                    f"{endpoint}: it knows no primary {self._name!r}; check the name in the URL"
                )
            [primary] = link.good([said])
        finally:
            await link.aclose()
        return _place(shaped(primary, dict[bytes, bytes], str(endpoint)), endpoint)


def _place(primary: Mapping[bytes, bytes], sentinel: Endpoint) -> tuple[int, Endpoint]:
    try:
        host, port, epoch = (
            primary[b"ip"].decode(),
            int(primary[b"port"]),
            int(primary[b"config-epoch"]),
        )
    except (KeyError, ValueError):
        raise Disconnected(
            f"{sentinel}: it does not say where the primary is; check that it is a sentinel"
        ) from None
    return epoch, Endpoint.of(host, port)


def _is_passing(error: Exception) -> bool:
    return isinstance(error, Disconnected)


class WatchedOver(Single):
    """The primary that sentinels watch over."""

    def __init__(self, link: Link, sentinels: Sentinels) -> None:
        super().__init__(link)
        self._sentinels = sentinels
        self._looking: asyncio.Task[None] | None = None

    @classmethod
    async def look_up(cls, sentinels: Sentinels, access: Access) -> WatchedOver:
        """Connect to the primary they name. Raises `Disconnected`, `Unauthorized`, `BadStore`."""
        link = await Link.connect(await sentinels.primary(), access)
        async with closed_on_error(link.aclose):
            refuse_mode(link, "standalone")
            # one that lost its office, and does not know it yet, is known by the sentinels
            refuse_replica(link)
        return cls(link, sentinels)

    async def ping(self) -> None:
        await super().ping()
        # a primary that is cut off from its sentinels goes on answering: its writes will be lost
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        await asyncio.wait((self._looking,), timeout=_LOOK)
        if self._link.error is not None:
            raise self._link.error

    async def _look(self) -> None:
        primary = await self._sentinels.have_replaced(self._link.endpoint)
        if primary is not None:
            self._link.fail(f"the primary is {primary} now")

    async def aclose(self) -> None:
        try:
            if self._looking is not None:
                self._looking.cancel()
                await asyncio.wait((self._looking,))
        finally:  # G12: if this is cancelled meanwhile, too
            await super().aclose()
