"""The second process of the demo: it writes to the store that the agent follows,
and knows nothing of the agent.

    python -m datasync.demo.writer change sqlite:///FILE INTERFACE  # one transaction, both parts
    python -m datasync.demo.writer forever sqlite:///FILE           # large ones, until it is killed

It prints one line a step, so that its parent process knows where it is; when nobody reads the
lines, it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
from ipaddress import IPv4Address

from datasync import DataSync, Txn
from datasync.demo.agent import LABEL
from datasync.demo.network import interface_key, route_key
from datasync.demo.network_pb2 import Interface, Route

__all__ = ["BULK", "MANY", "gateway"]

BULK = "bulk0"
"""The interface of the large transactions, each of which moves all of its
routes to another gateway."""
MANY = 2000
"""How many routes that is."""


def gateway(number: int) -> str:
    """The gateway that transaction `number` moves the routes to."""
    return str(IPv4Address("198.18.0.0") + number)


async def change(sync: DataSync, name: str) -> None:
    """Give an interface a smaller MTU and one more route, together, unless somebody else has
    changed it meanwhile."""
    key = interface_key(name)
    found = await sync.get(key, Interface)
    if found is None:
        sys.exit(f"there is no interface {name}; name one that is stored")
    interface = found.value
    interface.mtu -= 100
    route = Route(destination=f"10.{interface.mtu % 256}.0.0/16", interface=name, metric=7)
    txn = (
        sync.txn().if_revision(key, found.revision).put(key, interface).put(route_key(route), route)
    )
    say("done", await txn.commit())


async def forever(sync: DataSync) -> None:
    """Move many routes from gateway to gateway, each time in one transaction, until killed."""
    # made before, so that it does nothing but commit
    txns = [move(sync.txn(), number) for number in range(1, 5)]
    for number, txn in itertools.cycle(enumerate(txns, 1)):
        say("begin", number)
        await txn.commit()
        say("done", number)


def move(txn: Txn, number: int) -> Txn:
    """Transaction `number`: the interface, and all routes by it."""
    txn.put(interface_key(BULK), Interface(name=BULK, mtu=1000 + number))
    for one in range(MANY):
        destination = f"{IPv4Address('100.64.0.0') + one}/32"
        route = Route(destination=destination, interface=BULK, gateway=gateway(number))
        txn.put(route_key(route), route)
    return txn


def say(word: str, number: int | None) -> None:
    """Tell the parent process where this one is."""
    sys.stdout.write(f"{word} {number}\n")
    sys.stdout.flush()


async def main(work: str, url: str, *names: str) -> None:
    """Do one of the two."""
    async with DataSync(url, label=LABEL) as sync:
        await (change(sync, *names) if work == "change" else forever(sync))


if __name__ == "__main__":
    logging.getLogger("datasync").setLevel(logging.ERROR)  # the demo has given the warnings already
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(main(*sys.argv[1:]))
