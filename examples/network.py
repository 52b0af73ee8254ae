"""An agent that keeps the network of a machine as it is stored: interfaces, addresses, routes.

    pip install 'datasync[sqlite]' pyroute2
    unshare --net python examples/network.py sqlite:///network.db      # as root

It works in the network namespace that it is started in; `unshare` makes one of its own. From
another terminal, with the route before the interface that it leaves by:

    datasync put --label net1 sqlite:///network.db config/route/10.78.0.0/16 \\
        '{"interface": "br0", "gateway": "10.77.0.2"}'
    datasync put --label net1 sqlite:///network.db config/interface/br0 \\
        '{"type": "bridge", "addresses": ["10.77.0.1/24"]}'

What is changed by hand with `ip` is put right. What the agent has made carries the alias "datasync"
(routes the protocol 213), so that another start knows it again; all else is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar

import msgspec
from pyroute2 import AsyncIPRoute, NetlinkError
from pyroute2.netlink import rtnl

from datasync import DataSync, Refused
from datasync.reconcile import Found, Kind, Needs, Reconciler

LABEL = "net1"
INTERFACES, ROUTES = "config/interface/", "config/route/"
ADDRESSES = "address/"
"""What interfaces derive; nothing is stored there."""
ALIAS, PEER_ALIAS, PROTOCOL = "datasync", "datasync peer", 213
"""How what the agent has made is known again."""

HEARD = (
    rtnl.RTMGRP_LINK | rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV4_ROUTE
    | rtnl.RTMGRP_IPV6_IFADDR | rtnl.RTMGRP_IPV6_ROUTE
)  # fmt: skip
UP = 1  # the flag IFF_UP
MAIN, UNICAST, UNIVERSE = 254, 1, 0
GONE = {errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL}
INVALID = {errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP}

T = TypeVar("T")


class Interface(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is stored, as JSON, under config/interface/NAME.

    type: bridge, veth, peer (the other end of a veth), macvlan, vxlan or tap; what was found may be
        of others.
    peer: of a veth, the name of its other end.
    over: the veth of a peer; the interface that a macvlan or a vxlan stands on.
    vni: the network of a vxlan.
    bridge: the bridge that it is a port of.
    """

    type: str
    mtu: int = 1500
    up: bool = True
    addresses: tuple[str, ...] = ()
    peer: str | None = None
    over: str | None = None
    vni: int | None = None
    bridge: str | None = None


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored, as JSON, under config/route/DESTINATION, such as 10.78.0.0/16."""

    interface: str
    gateway: str | None = None


REQUIRED = {
    "bridge": (), "veth": ("peer",), "peer": ("over",), "macvlan": ("over",), "vxlan": ("vni",),
    "tap": (),
}  # fmt: skip
"""The types that can be made, and what each must say."""


def is_up(value: Interface) -> bool:
    """What a route, or a macvlan that is up, asks of its interface."""
    return value.up


def is_bridge(value: Interface) -> bool:
    """What a port asks of its bridge."""
    return value.type == "bridge"


class EndsIn(msgspec.Struct, frozen=True):
    """What a peer asks of its veth."""

    name: str

    def __call__(self, value: Interface) -> bool:
        return value.peer == self.name


class Reaches(msgspec.Struct, frozen=True):
    """What a gateway asks of an address: equal ones are one need, of however many routes."""

    gateway: str

    def __call__(self, address: str) -> bool:
        return ip_address(self.gateway) in ip_interface(address).network


async def told(asked: Awaitable[T], *, invalid: Collection[int] = INVALID) -> T:
    """What the kernel answers. What it will not take, whenever it is asked, is refused in its own
    words; anything else may be different the next time."""
    try:
        return await asked
    except NetlinkError as error:
        words = str(error.args[1])
        if error.code in invalid:
            raise Refused(words) from None
        raise OSError(error.code, words) from None


async def removed(asked: Awaitable[object]) -> None:
    """The same for what is to go; it may have gone already."""
    try:
        await told(asked, invalid=())
    except OSError as error:
        if error.errno not in GONE:
            raise


class Links:
    """The interfaces of the kernel as they are now: numbers, names, addresses."""

    def __init__(self, links: list[Any], addresses: list[Any]) -> None:
        self.links = links
        self.names: dict[int, str] = {link["index"]: link.get("ifname") for link in links}
        self.ours = {link["index"] for link in links if link.get("ifalias") in (ALIAS, PEER_ALIAS)}
        self.addresses: dict[int, list[str]] = {}
        for one in addresses:
            if one["scope"] == UNIVERSE:  # the kernel makes those of a link by itself
                address = one.get("local") or one.get("address")
                text = str(ip_interface(f"{address}/{one['prefixlen']}"))
                self.addresses.setdefault(one["index"], []).append(text)


class Kernel:
    """The connection to the kernel, which says all that it has of something only to one at a
    time."""

    def __init__(self, netlink: AsyncIPRoute) -> None:
        self.link, self.addr, self.route = netlink.link, netlink.addr, netlink.route
        self._dumping = asyncio.Lock()

    async def all(self, ask: Callable[..., Awaitable[AsyncIterator[Any]]]) -> list[Any]:
        """All links, addresses or routes."""
        async with self._dumping:
            return [one async for one in await ask("dump")]

    async def links(self) -> Links:
        """The interfaces with their addresses."""
        return Links(await self.all(self.link), await self.all(self.addr))


class Interfaces(Kind[Interface, int]):
    """The handle is the number of the interface.

    number: gives that of another one, which is there.
    """

    def __init__(self, kernel: Kernel, number: Callable[[str], int]) -> None:
        self.kernel = kernel
        self.number = number

    async def create(self, key: str, value: Interface) -> int:
        name = key.removeprefix(INTERFACES)
        if value.type != "peer":  # it has come with its veth
            await told(self.kernel.link("add", ifname=name, **self._options(value)))
        (link,) = await told(self.kernel.link("get", ifname=name))
        index = link["index"]
        try:
            await self._set(index, value)
        except BaseException:
            if value.type != "peer":
                await removed(self.kernel.link("del", index=index))
            raise
        print("create", key, flush=True)
        return int(index)

    def _options(self, value: Interface) -> dict[str, Any]:
        over = None if value.over is None else self.number(INTERFACES + value.over)
        match value.type:
            case "veth":
                return {"kind": "veth", "peer": {"ifname": value.peer}}
            case "macvlan":
                return {"kind": "macvlan", "macvlan_mode": "bridge", "link": over}
            case "vxlan":
                vxlan = {"kind": "vxlan", "vxlan_id": value.vni, "vxlan_port": 4789}
                return vxlan if over is None else vxlan | {"vxlan_link": over}
            case "tap":
                return {"kind": "tuntap", "mode": "tap"}
        return {"kind": value.type}

    async def _set(self, index: int, value: Interface) -> None:
        bridge = 0 if value.bridge is None else self.number(INTERFACES + value.bridge)
        state = "up" if value.up else "down"
        alias = PEER_ALIAS if value.type == "peer" else ALIAS
        setting = {"mtu": value.mtu, "master": bridge, "state": state, "ifalias": alias}
        await told(self.kernel.link("set", index=index, **setting))

    async def update(self, key: str, old: Interface, new: Interface, handle: int) -> int:
        await self._set(handle, new)
        print("update", key, flush=True)
        return handle

    async def delete(self, key: str, value: Interface, handle: int) -> None:
        if value.type == "peer":  # it goes with its veth, and stays as long
            bare = {"state": "down", "master": 0, "ifalias": ""}
            await removed(self.kernel.link("set", index=handle, **bare))
        else:
            await removed(self.kernel.link("del", index=handle))
        print("delete", key, flush=True)

    async def retrieve(
        self, expected: Mapping[str, Interface], keys: Collection[str] | None
    ) -> list[Found[Interface, int]]:
        now = await self.kernel.links()
        found = []
        for link in now.links:
            key = INTERFACES + link.get("ifname")
            index = link["index"]
            wanted = key in expected and expected[key].type == "peer" and index not in now.ours
            is_peer = link.get("ifalias") == PEER_ALIAS or wanted
            value = _value_of(link, now, is_peer=is_peer)
            found.append(Found(key, value, index, ours=index in now.ours))
        return found

    def validate(self, key: str, value: Interface) -> None:
        if value.type not in REQUIRED:
            raise ValueError(f"type is {value.type!r}; known are {', '.join(REQUIRED)}")
        for field in REQUIRED[value.type]:
            if getattr(value, field) is None:
                raise ValueError(f"a {value.type} needs {field}")
        for address in value.addresses:
            ip_interface(address)

    def needs(self, key: str, value: Interface) -> Iterator[Needs]:
        if value.over is not None:
            ends = EndsIn(key.removeprefix(INTERFACES)) if value.type == "peer" else None
            yield Needs.key(INTERFACES + value.over, satisfies=ends, goes_with=True)
            if value.type == "macvlan" and value.up:
                yield Needs.key(INTERFACES + value.over, satisfies=is_up)
        if value.bridge is not None:
            yield Needs.key(INTERFACES + value.bridge, satisfies=is_bridge)

    def derive(self, key: str, value: Interface) -> dict[str, str]:
        name = key.removeprefix(INTERFACES)
        addresses = [str(ip_interface(one)) for one in value.addresses]
        return {f"{ADDRESSES}{name}/{one}": one for one in addresses}

    def equal(self, key: str, old: Interface, new: Interface) -> bool:
        """Its addresses are objects of their own."""
        replace = msgspec.structs.replace
        return replace(old, addresses=()) == replace(new, addresses=())

    def needs_recreate(self, key: str, old: Interface, new: Interface) -> bool:
        return any(getattr(old, f) != getattr(new, f) for f in ("type", "peer", "over", "vni"))


def _value_of(link: Any, now: Links, *, is_peer: bool) -> Interface:
    """is_peer: whether this end of a veth is the one that comes with the other."""
    kind = link.get(("linkinfo", "kind"))
    other = now.names.get(link.get("link"))
    vni = over = None
    if kind == "vxlan":
        vni = link.get(("linkinfo", "data", "vxlan_id"))
        over = now.names.get(link.get(("linkinfo", "data", "vxlan_link")))
    elif is_peer or kind == "macvlan":
        over = other
    return Interface(
        type="peer" if is_peer else {"tun": "tap", None: "device"}.get(kind, kind),
        mtu=link.get("mtu"),
        up=bool(link["flags"] & UP),
        addresses=tuple(now.addresses.get(link["index"], ())),
        peer=other if kind == "veth" and not is_peer else None,
        over=over,
        vni=vni,
        bridge=now.names.get(link.get("master")),
    )


class Addresses(Kind[str, None]):
    """Derived from interfaces, so each goes before its interface does."""

    def __init__(self, kernel: Kernel, number: Callable[[str], int]) -> None:
        self.kernel = kernel
        self.number = number

    async def create(self, key: str, value: str) -> None:
        await told(self.kernel.addr("add", **self._named(key, value)))
        print("create", key, flush=True)

    async def delete(self, key: str, value: str, handle: None) -> None:
        await removed(self.kernel.addr("del", **self._named(key, value)))
        print("delete", key, flush=True)

    def _named(self, key: str, value: str) -> dict[str, Any]:
        address = ip_interface(value)
        name = key.removeprefix(ADDRESSES).partition("/")[0]
        return {
            "index": self.number(INTERFACES + name),
            "address": str(address.ip),
            "prefixlen": address.network.prefixlen,
        }

    async def retrieve(
        self, expected: Mapping[str, str], keys: Collection[str] | None
    ) -> list[Found[str, None]]:
        now = await self.kernel.links()
        return [
            Found(f"{ADDRESSES}{now.names[index]}/{address}", address, None, index in now.ours)
            for index, addresses in now.addresses.items()
            if index in now.names  # else it came a moment ago
            for address in addresses
        ]


class Routes(Kind[Route, None]):
    """Those of the main table that the agent has made; whose the others are, others know."""

    def __init__(self, kernel: Kernel, number: Callable[[str], int]) -> None:
        self.kernel = kernel
        self.number = number

    async def create(self, key: str, value: Route) -> None:
        await told(self.kernel.route("add", **self._named(key, value)))
        print("create", key, flush=True)

    async def update(self, key: str, old: Route, new: Route, handle: None) -> None:
        await told(self.kernel.route("replace", **self._named(key, new)))
        print("update", key, flush=True)

    async def delete(self, key: str, value: Route, handle: None) -> None:
        await removed(self.kernel.route("del", **self._named(key, value)))
        print("delete", key, flush=True)

    def _named(self, key: str, value: Route) -> dict[str, Any]:
        named: dict[str, Any] = {
            "dst": key.removeprefix(ROUTES),
            "oif": self.number(INTERFACES + value.interface),
            "proto": PROTOCOL,
        }
        return named if value.gateway is None else named | {"gateway": value.gateway}

    async def retrieve(
        self, expected: Mapping[str, Route], keys: Collection[str] | None
    ) -> list[Found[Route, None]]:
        now = await self.kernel.links()
        found: list[Found[Route, None]] = []
        for route in await self.kernel.all(self.kernel.route):
            ours = route["proto"] == PROTOCOL and route["type"] == UNICAST
            if ours and route.get("table") == MAIN and route.get("oif") in now.names:
                destination = f"{route.get('dst')}/{route['dst_len']}"
                value = Route(now.names[route.get("oif")], route.get("gateway"))
                found.append(Found(ROUTES + destination, value, None, ours=True))
        return found

    def validate(self, key: str, value: Route) -> None:
        ip_network(key.removeprefix(ROUTES))
        if value.gateway is not None:
            ip_address(value.gateway)

    def needs(self, key: str, value: Route) -> Iterator[Needs]:
        # the kernel takes the routes of an interface away that goes, or goes down
        yield Needs.key(INTERFACES + value.interface, satisfies=is_up, goes_with=True)
        if value.gateway is not None:
            near = f"{ADDRESSES}{value.interface}/"
            yield Needs.under(near, satisfies=Reaches(value.gateway))


def reconciler(sync: DataSync, kernel: Kernel) -> Reconciler:
    """The three kinds, on one connection to the kernel."""
    rec = Reconciler(sync, refresh_interval=60)  # the kernel may have had too much to tell
    rec.add(INTERFACES, Interfaces(kernel, rec.handle), type=Interface)
    rec.add(ADDRESSES, Addresses(kernel, rec.handle), type=str, derived=True)
    rec.add(ROUTES, Routes(kernel, rec.handle), type=Route)
    return rec


async def repair(rec: Reconciler) -> None:
    """Read what is there when the kernel says that something has changed: a moment later, so that
    one look is enough for many changes. What the agent did itself is heard of as well."""
    changed = asyncio.Event()

    async def hear(monitor: AsyncIPRoute) -> None:
        while True:
            async for _ in monitor.get():
                changed.set()

    async with AsyncIPRoute() as monitor, asyncio.TaskGroup() as tasks:
        await monitor.bind(HEARD)
        tasks.create_task(hear(monitor))
        while True:
            await changed.wait()
            await asyncio.sleep(0.1)
            changed.clear()
            await rec.refresh()


async def main(url: str) -> None:
    async with (
        AsyncIPRoute(ext_ack=True) as netlink,
        DataSync(url, label=LABEL) as sync,
        reconciler(sync, Kernel(netlink)) as rec,
    ):
        await repair(rec)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1]))
