"""Connections of grpc's: who is at the other end, and cutting one, which it has no way to, for what
its clients do not read."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
from urllib.parse import unquote

from datasync.endpoints import Endpoint

__all__ = ["cut", "name_of"]

_DESCRIPTORS = "/dev/fd"


def cut(peer: str, port: int) -> bool:
    """Shut the connection down that a server on `port` has with `peer`, named as grpc
    does; False: it was not found.

    grpc finds its end as if the network had, and lets go all that it keeps for its calls.
    """
    wanted = _address(peer)
    if wanted is None:
        return False
    with contextlib.suppress(OSError):
        for name in os.listdir(_DESCRIPTORS):
            if _shut(int(name), wanted, port):
                return True
    return False


def name_of(peer: str) -> str:
    """The address of a client as a status shows it, from the name that grpc has for it; empty where
    that is none of the network."""
    found = _address(peer)
    return "" if found is None else str(Endpoint.of(*found))


def _shut(descriptor: int, wanted: tuple[str, int], port: int) -> bool:
    """Whether it was the one; it is looked at through a copy, which stays the same
    whatever grpc does meanwhile."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            if copy.family not in (socket.AF_INET, socket.AF_INET6):
                return False
            if copy.getsockname()[1] != port or _plain(*copy.getpeername()[:2]) != wanted:
                return False
            copy.shutdown(socket.SHUT_RDWR)
            return True
    except OSError:  # closed meanwhile, or not connected
        return False


def _address(peer: str) -> tuple[str, int] | None:
    """The host and port in ipv4:127.0.0.1:80 or ipv6:%5B::1%5D:80; None where it has none."""
    family, _, rest = peer.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    if family not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return _plain(host.strip("[]"), int(port))


def _plain(host: str, port: int) -> tuple[str, int]:
    """The same for all ways of writing an address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), port
