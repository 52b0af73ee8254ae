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
        before = {kv.key: kv.value async for kv in sync.list("config/route/", Route)}
        wanted = {f"config/route/{name}": Route(interface) for name, interface in ROUTES.items()}
        state = sync.watch("state", "status/route/", type=str)

        txn = sync.txn().put("config/interface/eth0", Interface(mtu=9000))
        for key, route in wanted.items():
            txn.put(key, route)
        committed = await txn.commit()
        assert committed is not None  # every store that two processes share counts revisions
        print("configured at revision", committed, flush=True)

        # The agent speaks of what this has changed. A status from before is about another value.
        awaited = {key for key, route in wanted.items() if before.get(key) != route}
        known: dict[str, str] = {}
        async with asyncio.timeout(30):
            async for event in state:
                for change in event.changes:
                    key = change.key.replace("status/", "config/", 1)
                    if change.value is not None:
                        known[key] = change.value
                    if change.revision > committed:
                        awaited.discard(key)
                if not awaited:
                    break

        for key in sorted(wanted):
            print("route", key.removeprefix("config/route/"), known.get(key), flush=True)
            if known.get(key) != "in force":
                await sync.delete(key)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
