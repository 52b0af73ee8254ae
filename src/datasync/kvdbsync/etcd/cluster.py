"""The members of a cluster: names and their addresses, fail-over, and the requests of
all who share a connection."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from datasync.certificates import BadCertificate
from datasync.connecting import unknown_name
from datasync.endpoints import Endpoint
from datasync.errors import DataSyncError, Disconnected, OutcomeUnknown, WatchClosed
from datasync.kvdbsync.etcd.channel import Access, Call, Link, Member
from datasync.shared import SharedConnection, closed_on_error

__all__ = ["Cluster", "Turn"]

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
T = TypeVar("T")

_PATIENCE = 3.0
"""Seconds that a member has to answer at first where there is another one, so
that its turn comes in time."""
_KNOWN_FOR = 1.0
"""Seconds for which the addresses of a name are not asked for again."""
_IN_FLIGHT = 200
"""Requests that may be sent and not answered. More would not be done any sooner: they share the
time in which each has to be answered, and beyond some thousand a server rejects everybody's."""


class _Slots:
    """A number of slots; one that is given back goes to the task that has waited longest.

    Like `asyncio.Semaphore`, but that looks through all that it has woken in this turn of the loop
    each time that it wakes another one.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take one, if there is a free one."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Take the next one that is free."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was its turn already
                self.give_back()
            raise

    def give_back(self) -> None:
        """It is free again."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else it was given up
                turn.set_result(None)
                return
        self._free += 1


class Turn:
    """One request over the shared link; closing ends it at once, sent or not."""

    def __init__(self) -> None:
        self.scope = asyncio.timeout(None)
        self.closing: asyncio.Future[None] | None = None
        self._link: Link | None = None
        self._sent = False

    @property
    def endpoint(self) -> str:
        """The member that it goes to."""
        return "" if self._link is None else self._link.endpoint

    def over(self, link: Link) -> Turn:
        """Itself, with the link that it goes over now."""
        self._link = link
        return self

    async def ask(self, call: Call[Q, A], request: Q) -> A:
        """See `Link.ask`."""
        assert self._link is not None
        return await self._link.ask(call, request)

    async def tell(self, call: Call[Q, A], request: Q) -> A:
        """See `Link.tell`; raises `WatchClosed` as well."""
        assert self._link is not None
        if self.closing is not None:  # G12: what was not yet sent never is
            raise self.ended()
        self._sent = True
        try:
            return await self._link.tell(call, request)
        except DataSyncError:
            self._sent = False  # there is a verdict
            raise

    def close(self) -> asyncio.Future[None]:
        """Have it end at once; done once it has."""
        if self.closing is None:
            loop = asyncio.get_running_loop()
            self.closing = loop.create_future()
            self.scope.reschedule(loop.time())
        return self.closing

    def ended(self) -> DataSyncError:
        """The error for an owner who waited while this was closed."""
        if self._sent:
            return OutcomeUnknown(
                f"{self.endpoint}: closed before the answer came; read the key to see what it holds"
            )
        return WatchClosed("it was closed before the request was sent; nothing was done")


class Cluster:
    """The members in turn, from the one that answered last."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._known = [Member(endpoint) for endpoint in access.endpoints if _is_address(endpoint)]
        self._resolved = -_KNOWN_FOR
        self._resolving = asyncio.Lock()
        self._next: Member | None = None
        self._shared: SharedConnection[Link] = SharedConnection()
        self._connecting = asyncio.Lock()
        self._in_flight = _Slots(_IN_FLIGHT)
        self._turns: set[Turn] = set()

    async def dedicated(self, use: Callable[[Link], Awaitable[T]]) -> T:
        """The result of `use` with a link of its own, which it keeps. Raises what
        the last member's try raised."""

        async def attempt(member: Member, patience: float) -> T:
            link = await self._connect(member, patience)
            async with closed_on_error(link.aclose):
                return await use(link)

        return await self._in_turn(attempt)

    async def shared(self, use: Callable[[Turn], Awaitable[T]]) -> T:
        """The result of `use` over the link that all requests share.

        `use` is called again with another member after it raised `Disconnected`. Where this is
        closed meanwhile, raises `OutcomeUnknown` if something was told to the server that has no
        answer yet, else `WatchClosed`.
        """
        turn = Turn()

        async def attempt(member: Member, patience: float) -> T:
            return await self._over(await self._reuse(member, patience), turn, use)

        self._turns.add(turn)
        has_slot = self._in_flight.take()
        try:
            async with turn.scope:
                if not has_slot:
                    await self._in_flight.wait()  # each of those before has a time limit
                    has_slot = True
                if (link := self._shared.ready) is not None:
                    with contextlib.suppress(Disconnected):
                        return await self._over(link, turn, use)
                return await self._in_turn(attempt)
        except TimeoutError:
            if turn.closing is None:
                raise
            raise turn.ended() from None
        finally:
            if has_slot:
                self._in_flight.give_back()
            self._turns.discard(turn)
            if turn.closing is not None:
                turn.closing.set_result(None)

    async def members(self) -> list[Member]:
        """All there are, as the names of the URL have it now. Raises `Disconnected`."""
        return await self._members()

    async def connect(self, member: Member) -> Link:
        """A link of one's own to that member. Raises as `Link.connect` does."""
        return await self._connect(member, self.access.timeout)

    async def aclose(self) -> None:
        """End all requests at once, and release the shared link; a later request opens another."""
        try:
            if endings := [turn.close() for turn in self._turns]:
                await asyncio.wait(endings)
        finally:  # G12: if this is cancelled meanwhile, too
            await self._shared.release()

    async def _over(self, link: Link, turn: Turn, use: Callable[[Turn], Awaitable[T]]) -> T:
        try:
            return await self._shared.use(link, lambda link: use(turn.over(link)))
        except (Disconnected, OutcomeUnknown):
            self._move_on(link.member)
            raise

    async def _connect(self, member: Member, patience: float) -> Link:
        link = Link(self.access, member)
        async with closed_on_error(link.aclose):
            await link.connect(patience)
        return link

    async def _reuse(self, member: Member, patience: float) -> Link:
        try:
            async with asyncio.timeout(self.access.timeout):
                await self._connecting.acquire()
        except TimeoutError:
            raise Disconnected(
                f"{member}: still no answer; check that the cluster is healthy"
            ) from None
        try:
            if (link := self._shared.ready) is not None:  # somebody connected meanwhile
                return link
            return await self._shared.reopen(lambda: self._connect(member, patience))
        finally:
            self._connecting.release()

    # -- fail-over ---------------------------------------------------------------------------------

    async def _in_turn(self, attempt: Callable[[Member, float], Awaitable[T]]) -> T:
        """The result of the first try that reaches a member; each gets the seconds
        that it has to answer at first."""
        members = await self._members()
        first = members.index(self._next) if self._next in members else 0
        timeout = self.access.timeout
        for number, member in enumerate([*members[first:], *members[:first]], 1):
            is_last = number == len(members)
            try:
                return await attempt(member, timeout if is_last else min(_PATIENCE, timeout))
            except (Disconnected, BadCertificate):
                self._move_on(member)
                if is_last:
                    raise
            except (OutcomeUnknown, asyncio.CancelledError):
                self._move_on(member)  # it may have been too slow: the next request goes elsewhere
                raise
        raise AssertionError("a cluster has at least one member")

    def _move_on(self, member: Member) -> None:
        """The next request goes elsewhere first, unless another one saw to that."""
        if self._next in (None, member) and member in self._known:
            self._next = self._known[(self._known.index(member) + 1) % len(self._known)]

    async def _members(self) -> list[Member]:
        """All members at all addresses of their names, as these are now. Raises `Disconnected`."""
        endpoints = self.access.endpoints
        if all(_is_address(endpoint) for endpoint in endpoints):
            return self._known
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.access.timeout), self._resolving:
                if loop.time() - self._resolved > _KNOWN_FOR:
                    found = await asyncio.gather(*map(_resolve, endpoints))
                    self._known = [member for members in found for member in members]
                    self._resolved = loop.time()
        except TimeoutError:
            raise Disconnected(
                f"{endpoints[0]}: the name was not resolved in time; check its DNS"
            ) from None
        if not self._known:
            raise unknown_name(str(endpoints[0]))
        return self._known


def _is_address(endpoint: Endpoint) -> bool:
    try:
        ipaddress.ip_address(endpoint.bare)
    except ValueError:
        return False
    return True


async def _resolve(endpoint: Endpoint) -> list[Member]:
    """The member at each address of its name; none where that cannot be resolved."""
    if _is_address(endpoint):
        return [Member(endpoint)]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        return []
    return [
        Member(endpoint, str(address[0]))
        for address in dict.fromkeys(address for *_, address in found)
    ]
