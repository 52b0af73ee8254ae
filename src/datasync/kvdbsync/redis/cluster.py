"""All primaries of a Redis cluster: which key is where, and following it when it moves."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from datasync.endpoints import Endpoint
from datasync.errors import (
    BadStore,
    DataSyncError,
    Disconnected,
    OutcomeUnknown,
    Unauthorized,
    UnsupportedOption,
)
from datasync.kvdbsync.redis.errors import SLOTS, Moved, TopologyChanged, moved, of_reply
from datasync.kvdbsync.redis.keys import pattern_of
from datasync.kvdbsync.redis.link import Access, Command, Link, ReplyError, refuse_mode
from datasync.kvdbsync.redis.plan import Plan
from datasync.kvdbsync.redis.replies import shaped
from datasync.kvdbsync.redis.store import Store, refuse_replica, report_type, scan
from datasync.source import Committed, Delete, Operation

__all__ = ["Cluster", "Clustered", "slot_of"]

_NODES = 1_000
"""Primaries that a cluster has at most, as its specification has it."""
_HOPS = 8
"""Times that a command is sent on; while a slot moves, a key may be on its way."""
_PAUSE = 0.05
_PASSES = 10
_ASKING: Command = ("ASKING",)


def slot_of(key: str | bytes) -> int:
    """The slot of a key: of what is in its first braces, where there is something."""
    raw = key.encode() if isinstance(key, str) else key
    start = raw.find(b"{")
    if start >= 0:
        end = raw.find(b"}", start + 1)
        if end > start + 1:
            raw = raw[start + 1 : end]
    return binascii.crc_hqx(raw, 0) % SLOTS


class Primary(NamedTuple):
    """One line of CLUSTER NODES: where a primary is, by all its names, and
    the slots that it serves."""

    endpoint: Endpoint
    names: Sequence[str]
    slots: Sequence[range]


def primaries(nodes: str, *, by_name: bool = False) -> list[Primary]:
    """Those that CLUSTER NODES tells of and that have not failed, also those without a slot: they
    may get some. `by_name`: to be reached by the host name that they announce, if they do."""
    found: list[Primary] = []
    for line in nodes.splitlines():
        _, address, flags, _, _, _, _, _, *slots = line.split()
        if "master" not in flags.split(",") or {"fail", "noaddr", "handshake"} & set(
            flags.split(",")
        ):
            continue
        where, hostname, *_ = [*address.split(","), ""]
        host, _, port = where.partition("@")[0].rpartition(":")
        endpoints = [Endpoint.of(host, int(port))]
        if hostname:
            endpoints.insert(0 if by_name else 1, Endpoint(hostname, int(port)))
        # in brackets: on its way
        ranges = [_range(slot) for slot in slots if not slot.startswith("[")]
        found.append(Primary(endpoints[0], [str(endpoint) for endpoint in endpoints], ranges))
    return found


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    found = range(int(first), int(last or first) + 1)
    if not found or found.stop > SLOTS:
        raise ValueError(f"no slots: {text[:40]}")
    return found


class Cluster:
    """Where to ask for the primaries: the hosts of the URL, and those that
    were primaries the last time."""

    def __init__(self, endpoints: Sequence[Endpoint], access: Access) -> None:
        self.access = access
        self._named = list(endpoints)
        self._known: list[Endpoint] = []
        self._last: Endpoint | None = None

    async def primaries(self) -> list[Primary]:
        """As the first that answers has them. Raises the error of one, rather one
        that does not pass by itself."""
        error: DataSyncError = Disconnected("no host is named; name one in the URL")
        hosts = list(dict.fromkeys([*self._named, *self._known]))

        # after the last one that was asked: it may hang for as long as a try takes,
        # or be cut off from the others
        behind = hosts.index(self._last) + 1 if self._last in hosts else 0

        for endpoint in [*hosts[behind:], *hosts[:behind]]:
            self._last = endpoint
            try:
                link = await Link.connect(endpoint, self.access)
                try:
                    refuse_mode(link, "cluster")
                    found = await nodes_of(link)
                finally:
                    await link.aclose()
            except DataSyncError as raised:
                if isinstance(error, Disconnected):
                    error = raised
                continue

            if sum(len(slots) for primary in found for slots in primary.slots) == SLOTS:
                self._known = [primary.endpoint for primary in found]
                return found
            error = Disconnected(
                f"{endpoint}: not all slots of the cluster are served; check CLUSTER INFO"
            )

        raise error


async def nodes_of(link: Link) -> list[Primary]:
    """The primaries that this member knows of. Raises `Disconnected`."""
    [answer] = await link.ask(("CLUSTER", "NODES"))
    # a member leaves its own host out until others have told it
    host = link.endpoint.bare
    try:
        text = answer if isinstance(answer, str) else shaped(answer, bytes, link.address).decode()
        lines = "\n".join(line.replace(" :", f" {host}:", 1) for line in text.splitlines())
        # that is what certificates are made out to
        found = primaries(lines, by_name=link.access.tls is not None)
    except ValueError as error:
        raise _nonsense(link, str(error)) from None
    if (
        len(found) > _NODES
        or sum(len(slots) for primary in found for slots in primary.slots) > SLOTS
    ):
        raise _nonsense(link, "more than there can be")
    return found


def _nonsense(link: Link, why: str) -> Disconnected:
    return Disconnected(
        f"{link.address}: CLUSTER NODES does not tell of a cluster ({why[:100]}); check the server"
    )


def _give_up(connecting: asyncio.Task[Link]) -> None:
    """Close what was connected for nothing."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().fail("another primary cannot be reached")


class Clustered(Store):
    """Connections to all primaries of a cluster."""

    def __init__(self, links: Sequence[Link], found: Sequence[Primary]) -> None:
        self.links = links
        self._by_name: dict[str, Link] = {}
        self._owners: list[Link] = [links[0]] * SLOTS
        for link, primary in zip(links, found, strict=True):
            self._by_name.update(dict.fromkeys(primary.names, link))
        self._take_over(found)
        self._pings = 0

    @classmethod
    async def open(cls, cluster: Cluster) -> Clustered:
        """Connect to all primaries. Raises `Disconnected`, `Unauthorized`, `BadStore`."""
        found = await cluster.primaries()
        connecting = [
            asyncio.ensure_future(Link.connect(primary.endpoint, cluster.access))
            for primary in found
        ]
        try:
            links = await asyncio.gather(*connecting)
            for link in links:
                refuse_replica(link)
        except BaseException:
            for task in connecting:
                task.cancel()
                task.add_done_callback(_give_up)  # G12: also if this is cancelled once more
            await asyncio.wait(connecting)
            raise
        return cls(links, found)

    def owner(self, key: bytes) -> Link:
        return self._owners[slot_of(key)]

    async def fetch(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        by_owner: dict[Link, list[int]] = {}
        for index, key in enumerate(keys):
            by_owner.setdefault(self.owner(key), []).append(index)
        asked = [
            (link, indices, link.send(*(("GET", keys[index]) for index in indices)))
            for link, indices in by_owner.items()
        ]
        values: list[bytes | None] = [None] * len(keys)
        for link, indices, answer in asked:
            for index, reply in zip(indices, await link.answered(answer), strict=True):
                if isinstance(reply, ReplyError):
                    reply = await self._follow(reply, ("GET", keys[index]), link)
                if isinstance(reply, ReplyError):
                    if not str(reply).startswith("WRONGTYPE"):
                        raise of_reply(reply, link.address)
                    report_type(keys[index], "value of another type than string")
                    reply = None
                values[index] = shaped(reply, bytes | None, link.address)
        return values

    async def write(self, operations: Sequence[Operation]) -> Committed:
        if any(isinstance(operation, Delete) and operation.prefix for operation in operations):
            if len(operations) > 1:
                raise UnsupportedOption(
                    "a cluster deletes a prefix key by key, which cannot be part of a transaction; "
                    "delete it by itself"
                )
            return Committed(None, [await self._delete_prefix(operations[0].key)])

        slots = {slot_of(operation.key): operation.key for operation in operations}
        if len(slots) > 1:
            one, other, *_ = slots.values()
            raise UnsupportedOption(
                f"{one!r} and {other!r} lie in different slots of the cluster, which no "
                "transaction spans: put what"
                " their names share in braces, as in {config}/one and {config}/other, or write "
                "them one by one"
            )

        plan = Plan(operations)
        [slot] = slots
        link = self._owners[slot]
        replies = await plan.tell(link)

        for hop in range(_HOPS):
            refusal = plan.refusal(replies)
            elsewhere = None if refusal is None else moved(refusal)
            if elsewhere is not None:
                link = self._link_to(elsewhere, link)
            elif refusal is None or not str(refusal).startswith("TRYAGAIN"):
                break

            if hop:
                await asyncio.sleep(_PAUSE)
            asking = elsewhere is not None and elsewhere.asking
            replies = await plan.tell(link, *([_ASKING] if asking else []))

        return plan.committed(replies, link.address)

    async def ping(self) -> None:
        outcomes = await asyncio.gather(
            *(link.ping() for link in self.links), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        self._pings += 1
        found = await nodes_of(self.links[self._pings % len(self.links)])
        for primary in found:
            if not any(name in self._by_name for name in primary.names):
                raise TopologyChanged(f"{primary.endpoint} is a primary of the cluster now")
        self._take_over(found)

    def _take_over(self, found: Iterable[Primary]) -> None:
        """Note who serves which slots."""
        for primary in found:
            link = next(self._by_name[name] for name in primary.names if name in self._by_name)
            for slots in primary.slots:
                self._owners[slots.start : slots.stop] = [link] * len(slots)

    def _link_to(self, elsewhere: Moved, here: Link) -> Link:
        """The connection that a redirection names. Raises `TopologyChanged`."""
        name = str(Endpoint.of(elsewhere.host or here.endpoint.bare, elsewhere.port))
        link = self._by_name.get(name)
        if link is None:
            raise TopologyChanged(
                f"{name} is a primary of the cluster now; nothing was done, try again"
            )
        if not elsewhere.asking:
            self._owners[elsewhere.slot] = link
        return link

    async def _follow(self, error: Exception, command: Command, link: Link) -> Any:
        """The reply of the server that has the key, when `link` said `error`."""
        reply: Any = error
        for hop in range(_HOPS):
            elsewhere = moved(reply) if isinstance(reply, ReplyError) else None
            if elsewhere is None:
                return reply
            if hop:
                await asyncio.sleep(_PAUSE)
            link = self._link_to(elsewhere, link)
            asking = [_ASKING] if elsewhere.asking else []
            *_, reply = await link.answered(link.send(*asking, command))
        return reply

    async def _delete_prefix(self, prefix: str) -> bool:
        """Delete key by key, until no key is left; what others write
        meanwhile may be deleted or not."""
        existed = begun = False
        try:
            for _ in range(_PASSES):
                found = False
                for link in self.links:
                    async for keys in scan(link, pattern_of(prefix)):
                        if keys:
                            found = begun = True
                            existed |= await self.unlink(keys)
                if not found:
                    break
        except (Disconnected, Unauthorized, BadStore) as error:
            if not begun:
                raise
            raise OutcomeUnknown(
                f"{error}; {prefix!r} may be deleted in part: delete it again"
            ) from None
        return existed

    async def unlink(self, keys: Sequence[bytes]) -> bool:
        by_owner: dict[Link, list[bytes]] = {}
        for key in keys:
            by_owner.setdefault(self.owner(key), []).append(key)
        deleted = False
        for link, mine in by_owner.items():
            for key, reply in zip(
                mine, await link.tell(*(("UNLINK", key) for key in mine)), strict=True
            ):
                if isinstance(reply, ReplyError):
                    reply = await self._follow(reply, ("UNLINK", key), link)
                if isinstance(reply, ReplyError):
                    raise of_reply(reply, link.address)
                deleted |= shaped(reply, int, link.address) > 0
        return deleted
