"""What agents report in a store, gathered: for `status --agents`."""

from __future__ import annotations

import asyncio
import contextlib

from datasync import DataSync, Report
from datasync.cli.sources import existing

__all__ = ["gather"]

_WAIT = 5.0
"""Seconds to wait for whole reports, where agents are just writing them."""


async def gather(url: str) -> list[tuple[str, str, Report | None]]:
    """All agents that report anywhere in the store: below which prefix, their names, and what they
    report; None where that is not whole. Raises what reading raises.
    """
    async with DataSync(existing(url)) as sync:
        places: dict[str, list[str]] = {}
        async for found in sync.list(keys_only=True):
            folder, _, agent = found.key.rpartition("/")
            prefix = folder.removesuffix("progress")
            if (
                prefix != folder
                and prefix[-1:] in ("", "/")
                and await _is_progress(sync, found.key)
            ):
                places.setdefault(prefix, []).append(agent)

        gathered: list[tuple[str, str, Report | None]] = []
        for prefix, names in places.items():
            reports = await _reports(sync, prefix, names)
            gathered += [(prefix, name, reports.get(name)) for name in sorted(names)]
        return gathered


async def _is_progress(sync: DataSync, key: str) -> bool:
    """Whether an agent of any version reports there: other programs have such keys too."""
    found = await sync.get(key)
    return found is not None and found.raw.startswith(b'{"format":"datasync.progress/')


async def _reports(sync: DataSync, prefix: str, names: list[str]) -> dict[str, Report]:
    seen: dict[str, Report] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_WAIT), contextlib.aclosing(sync.reports(prefix)) as reports:
            async for report in reports:
                seen[report.agent] = report
                if seen.keys() >= set(names):
                    break
    return seen
