"""The agent behind the tests of the status page:
`python -m tests.helpers.rest.page_agent PORT KEYS [token]`.

One of its watches fails, one refuses a key, and one is a stream that nobody reads, once
`config/break` is written.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from datasync import DataSync, Refused
from datasync.restsync.agent import RestSource, from_url
from datasync.transports import Url

VALUE = b'{"name":"eth%d","mtu":1500,"enabled":true,"addresses":["10.0.0.%d/24"]}'


async def main(port: str, keys: str, token: str = "") -> None:
    """Run until killed."""
    secret = f"?token={token}" if token else ""
    source: RestSource = from_url(Url(f"rest://127.0.0.1:{port}{secret}"))
    sync = DataSync(source)
    broken = False

    @sync.watcher("config/interface/")
    async def interfaces(event: Any) -> None:
        pass

    @sync.watcher("config/route/", "config/neighbour/")
    async def routes(event: Any) -> None:
        if broken:
            raise RuntimeError("netlink: no buffer space available (ENOBUFS)")

    @sync.watcher("config/acl/", name="access-lists")
    async def access_lists(event: Any) -> None:
        if broken:
            raise Refused(
                {change.key: "port 443 is used by the management plane" for change in event.changes}
            )

    @sync.watcher(keys=["config/break"])
    async def breaker(event: Any) -> None:
        nonlocal broken
        broken = broken or bool(event.changes)

    items = [
        (f"config/interface/eth{number}", VALUE % (number, number % 256))
        for number in range(int(keys))
    ]
    items += [
        (f"config/route/10.{number}.0.0-16", b'{"via":"10.0.0.%d"}' % number)
        for number in range(40)
    ]
    items += [("config/acl/web", b"permit tcp any any eq 443"), ("config/logo", bytes(range(80)))]
    async with sync:
        await source.replace(items)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
