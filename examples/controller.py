"""A controller: configures the agent of examples/agent.py from another process,
and waits for what became of it.

    python examples/controller.py sqlite:///agent.db

The interface and both routes are one transaction, so the agent sees all of them or none. The second
route refers to an interface that does not exist; the agent refuses it, and the controller takes it
back.
"""

from __future__ import annotations

import asyncio
import sys

import datasync
from agent import Interface, Route

ROUTES = {"10.0.0.0": "eth0", "10.9.0.0": "eth9"}


async def main(url: str) -> None:
    async with datasync.DataSync(url, label="vpp1") as sync:
        state = sync.watch("state", "status/route/")
        txn = sync.txn().put("config/interface/eth0", Interface(mtu=9000))
        for destination, interface in ROUTES.items():
            txn.put(f"config/route/{destination}", Route(interface))
        print("configured at revision", await txn.commit(), flush=True)

        known: dict[str, str] = {}
        async with asyncio.timeout(30):
            async for event in state:
                for change in event.changes:
                    known[change.key.removeprefix("status/route/")] = (change.value or b"").decode()
                if known.keys() >= ROUTES.keys():
                    break
        for destination, what in sorted(known.items()):
            print("route", destination, what, flush=True)
            if what != "in force":
                await sync.delete(f"config/route/{destination}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
