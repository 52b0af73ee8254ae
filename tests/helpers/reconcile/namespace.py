"""A network namespace for one test, which vanishes with it."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from tests.helpers.servers import impossible, require

__all__ = ["in_namespace", "ip", "links", "require_namespace"]

_CLONE_NEWNET = 0x4000_0000
_LIMIT = 120.0


def in_namespace(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it in a thread that is in a network namespace of its own, with what it starts there.

    Skips the test where that is not allowed; see `impossible`.
    """
    require("ip", "apt-get install iproute2")
    problem: list[OSError] = []
    failed: list[BaseException] = []

    async def limited() -> None:
        async with asyncio.timeout(_LIMIT):
            await main()

    def work() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            problem.append(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
            return
        try:
            asyncio.run(limited())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="in a namespace")
    thread.start()
    thread.join()
    if problem:
        impossible(f"no network namespace can be made here: {problem[0]}; run the tests as root")
    if failed:
        raise failed[0]


def require_namespace() -> None:
    """Skip the test where nobody may make a network namespace with `unshare`; see `impossible`."""
    program = require("unshare", "apt-get install util-linux")
    require("ip", "apt-get install iproute2")
    done = subprocess.run(
        [program, "--map-root-user", "--net", "true"], capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        impossible(f"no network namespace can be made here: {done.stderr.strip()}")


def ip(line: str) -> str:
    """What `ip` says, in the namespace of this thread."""
    done = subprocess.run(["ip", *line.split()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"ip {line}: {done.stderr}"
    return done.stdout


def links() -> dict[str, Any]:
    """The interfaces in the namespace of this thread, by name."""
    return {link["ifname"]: link for link in json.loads(ip("-j -d address"))}
