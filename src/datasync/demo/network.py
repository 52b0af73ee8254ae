"""The network of this machine as the Linux kernel describes it under /proc
and /sys, as protobuf messages.

A line that is not understood is left out, a file that cannot be read counts as empty. The same code
reads a recorded description, for machines that have none or next to nothing of their own.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal, TypeVar

from datasync.demo.network_pb2 import Interface, Route

__all__ = ["INTERFACES", "ROUTES", "Network", "interface_key", "of_kernel", "recorded", "route_key"]

INTERFACES = "config/interface/"
ROUTES = "config/route/"

T = TypeVar("T")
Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Lines = Callable[[str], Sequence[str]]
"""The lines of a file, named as seen from the root: "proc/net/dev"."""

# characters of one file: a router on the internet has a million routes, a demo need not
_MUCH = 1 << 20
_UP, _REJECT, _LOCAL = 0x1, 0x200, 0x80000000  # flags of a route
_STATES = {"up": Interface.UP, "down": Interface.DOWN, "lowerlayerdown": Interface.DOWN}


@dataclass
class Network:
    """Interfaces and routes by the keys that they are stored under."""

    interfaces: dict[str, Interface] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)

    @property
    def is_small(self) -> bool:
        """There is nothing to see: no route by any interface but the loopback."""
        return not any(route.interface != "lo" for route in self.routes.values())

    def add(self, other: Network) -> None:
        """Take in another network; what is here already stays as it is."""
        self.interfaces = other.interfaces | self.interfaces
        self.routes = other.routes | self.routes


def interface_key(name: str) -> str:
    """The key of an interface."""
    return f"{INTERFACES}{name}"


def route_key(route: Route) -> str:
    """The key of a route: what the kernel tells two routes apart by."""
    return f"{ROUTES}{route.interface}/{route.destination}/{route.metric}"


def of_kernel(root: Path = Path("/")) -> Network:
    """The network of this machine; empty where its kernel does not tell."""

    def lines(path: str) -> Sequence[str]:
        try:
            with open(root / path, encoding="utf-8", errors="replace") as file:
                return file.readlines(_MUCH)
        except OSError:
            return ()

    return _network(lines, sys.byteorder)


def recorded() -> Network:
    """A small router, recorded from the same files: two uplinks, a bridge with a
    port, a tunnel, a spare port."""
    files = json.loads(
        resources.files("datasync.demo").joinpath("recorded.json").read_text("utf-8")
    )
    return _network(lambda path: files.get(path, ()), "little")


def _network(lines: Lines, order: Literal["little", "big"]) -> Network:
    names = list(_parsed(lines("proc/net/dev"), _name))
    routes = [
        *_parsed(lines("proc/net/route"), lambda line: _route4(line, order)),
        *_parsed(lines("proc/net/ipv6_route"), _route6),
    ]
    addresses = _addresses(lines, routes)
    network = Network()
    for name in names:
        network.interfaces[interface_key(name)] = _interface(lines, name, addresses.get(name, []))
    for route in routes:
        if interface_key(route.interface) in network.interfaces:
            network.routes[route_key(route)] = route
    return network


def _parsed(lines: Sequence[str], parse: Callable[[str], T | None]) -> Iterator[T]:
    """What `parse` makes of each line, but for those that it makes nothing of."""
    for line in lines:
        try:
            found = parse(line)
        except (ValueError, IndexError):
            continue
        if found is not None:
            yield found


def _name(line: str) -> str | None:
    """A line of /proc/net/dev: `  eth0: 852135493 25838 ...`."""
    name, colon, counters = line.partition(":")
    return name.strip() if colon and counters.split()[0].isdecimal() else None


def _interface(lines: Lines, name: str, addresses: Sequence[Address]) -> Interface:
    def of(attribute: str) -> str:
        found = lines(f"sys/class/net/{name}/{attribute}")
        return found[0].strip() if found else ""

    mtu = of("mtu")
    return Interface(
        name=name,
        state=_STATES.get(of("operstate"), Interface.UNKNOWN),
        mtu=int(mtu) if mtu.isdecimal() else 0,
        mac=of("address"),
        addresses=[
            str(address) for address in sorted(addresses, key=lambda one: (one.version, one))
        ],
    )


def _route4(line: str, order: Literal["little", "big"]) -> Route | None:
    """A line of /proc/net/route: `eth0 000200C0 00000000 0001 0 0 0 00FFFFFF ...`,
    addresses as the CPU has them."""
    interface, destination, gateway, flags, _, _, metric, mask = line.split()[:8]
    if not int(flags, 16) & _UP or int(flags, 16) & _REJECT:
        return None

    def address(text: str) -> ipaddress.IPv4Address:
        return ipaddress.IPv4Address(int(text, 16).to_bytes(4, order))

    return Route(
        destination=str(ipaddress.IPv4Network(f"{address(destination)}/{address(mask)}")),
        interface=interface,
        gateway=str(address(gateway)) if int(gateway, 16) else "",
        metric=int(metric),
    )


def _route6(line: str) -> Route | None:
    """A line of /proc/net/ipv6_route: destination, length, source, length, gateway,
    metric, 2 counters, flags, name."""
    destination, length, _, _, gateway, metric, _, _, flags, interface = line.split()
    to = ipaddress.IPv6Network((int(destination, 16), int(length, 16)))
    if to.is_multicast or not int(flags, 16) & _UP or int(flags, 16) & (_REJECT | _LOCAL):
        return None
    return Route(
        destination=str(to),
        interface=interface,
        gateway=str(ipaddress.IPv6Address(int(gateway, 16))) if int(gateway, 16) else "",
        metric=int(metric, 16),
    )


def _addresses(lines: Lines, routes: Sequence[Route]) -> dict[str, list[Address]]:
    """The addresses of each interface. Those of IPv4 come without it: it is the
    one whose link they lie on."""
    links = [
        (ipaddress.ip_network(route.destination), route.interface)
        for route in routes
        if not route.gateway
    ]
    links.append((ipaddress.IPv4Network("127.0.0.0/8"), "lo"))
    found: dict[str, list[Address]] = {}
    for own in _local4(lines("proc/net/fib_trie")):
        around = [(link.prefixlen, name) for link, name in links if own in link]
        if around:
            length, name = max(around)
            found.setdefault(name, []).append(ipaddress.IPv4Interface((own, length)))
    for name, address in _parsed(lines("proc/net/if_inet6"), _address6):
        found.setdefault(name, []).append(address)
    return found


def _local4(lines: Sequence[str]) -> list[ipaddress.IPv4Address]:
    """The addresses of this machine in /proc/net/fib_trie: `|-- 192.0.2.2`,
    and below it `/32 host LOCAL`."""
    found: dict[ipaddress.IPv4Address, None] = {}
    last = ""
    for line in lines:
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[-1]
        elif words == ["/32", "host", "LOCAL"]:
            found.update(dict.fromkeys(_parsed([last], ipaddress.IPv4Address)))
    return list(found)


def _address6(line: str) -> tuple[str, Address]:
    """A line of /proc/net/if_inet6: `fd000000000000000000000000000002 04 40 00 82
    eth0`; the third is the length."""
    address, _, length, _, _, name = line.split()
    return name, ipaddress.IPv6Interface((int(address, 16), int(length, 16)))
