"""An agent: two parts of an application, each kept in step with its configuration. Ctrl-C ends it.

    python examples/agent.py sqlite:///agent.db

A route refers to an interface, so `routes` is registered behind `interfaces`: it is resynced after
it, and with `after=` it also gets its share of each transaction after it. What is in force is
published under status/.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import msgspec

import datasync


class Interface(msgspec.Struct):
    """What is stored, as JSON, under config/interface/NAME."""

    mtu: int = 1500


class Route(msgspec.Struct):
    """What is stored, as JSON, under config/route/DESTINATION."""

    interface: str


async def main(url: str) -> None:
    sync = datasync.DataSync(url, label="vpp1")
    up: dict[str, Interface] = {}

    @sync.watcher("config/interface/", type=Interface)
    async def interfaces(
        event: datasync.Event[Interface],
    ) -> None:
        # a RESYNC has changes too: what differs from what this watch has accepted so far
        for change in event.changes:
            name = change.key.removeprefix("config/interface/")
            if change.value is None:
                del up[name]
            else:
                up[name] = change.value
            print(
                "interface",
                change.op.value,
                name,
                change.prev and change.prev.value,
                "->",
                change.value,
                flush=True,
            )

    routes = sync.watch("routes", "config/route/", type=Route, after=["interfaces"])

    async with sync:
        async for event in routes:
            match event:
                case datasync.ResyncEvent():
                    print(
                        "routes",
                        [kv.key for values in event.values.values() for kv in values],
                        flush=True,
                    )
                case datasync.ChangeEvent():
                    print(
                        "routes",
                        [(change.op.value, change.key) for change in event.changes],
                        flush=True,
                    )
            refused = {
                change.key: f"no interface {change.value.interface}"
                for change in event.changes
                if change.value is not None and change.value.interface not in up
            }
            for change in event.changes:
                state = refused.get(change.key, "in force" if change.value else "gone")
                await sync.put(change.key.replace("config/", "status/", 1), state)
            event.done(datasync.Refused(refused) if refused else None)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1]))
