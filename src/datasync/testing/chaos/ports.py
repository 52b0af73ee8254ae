"""Loopback ports for servers: each is given to one process only, though many may
look for some at the same time."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import random
import socket
from collections.abc import Iterator

__all__ = ["free_ports"]

_PORTS = range(10_000, 32_000)
"""Below those that the system gives to outgoing connections, which could
take one away in between."""
_BLOCK = 200


def free_ports(count: int) -> list[int]:
    """Different loopback ports that nobody listens on now, and that no other process is given.

    Nor does this one give them again soon: a server may not listen yet, or be down for a while.
    """
    ports: list[int] = []
    for port in itertools.islice(_block(), _BLOCK):
        with contextlib.suppress(OSError), socket.socket() as candidate:
            # what its last server has left behind keeps no new one from it
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError(
        f"no {count} free ports in a block of {_BLOCK}; end the servers of earlier runs"
    )


@functools.cache
def _block() -> Iterator[int]:
    """The ports of this process, round and round. The first one of a block is its
    lock: bound as long as it lives."""
    firsts = _PORTS[::_BLOCK]
    for first in random.sample(firsts, len(firsts)):
        lock = socket.socket()
        try:
            lock.bind(("127.0.0.1", first))
        except OSError:
            lock.close()
            continue
        atexit.register(lock.close)
        return itertools.cycle(range(first + 1, first + _BLOCK))
    raise RuntimeError(
        f"all ports from {_PORTS.start} to {_PORTS.stop} are in use; end the servers of "
        "earlier runs"
    )
