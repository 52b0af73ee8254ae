"""A small disk of its own for what a server keeps, which can be full: a tmpfs, where
this process may mount one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

from datasync.testing.chaos.process import Process
from datasync.testing.chaos.store import Fault

__all__ = ["Disk"]

_SIZE = "size=192m"
_BLOCK = bytes(1 << 20)
_RETRIED = 1.5
"""Seconds within which a server has written what it could not, such as
Redis the rest of its log."""


class Disk:
    """A directory that is gone after `aclose`. `small`: whether it is a disk of its own."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="datasync-chaos-"))
        mount = ["mount", "-t", "tmpfs", "-o", _SIZE, "tmpfs", str(self.path)]
        self.small = (
            shutil.which("mount") is not None
            and not subprocess.run(mount, capture_output=True).returncode
        )

    def remove(self) -> None:
        """Unmount and remove it."""
        if self.small:
            # what still has a file open there, such as a thread that is about to end,
            # keeps it no longer than itself
            subprocess.run(["umount", "-l", str(self.path)], capture_output=True)  # noqa: S607
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def left_out(self) -> dict[str, str]:
        """That it cannot be full, where it cannot."""
        return {} if self.small else {"full disk": "needs the right to mount a tmpfs"}

    def faults(self, process: Process | None = None, lane: str = "server") -> dict[str, Fault]:
        """That it is full for a while. `process`: what keeps its data here, and may end with it."""

        async def full(rng: random.Random, seconds: float) -> None:
            filler = self.path / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(_BLOCK)
            try:
                await asyncio.sleep(seconds)
            finally:
                filler.unlink()
                if process is not None and not process.running:
                    await process.start()
            await asyncio.sleep(_RETRIED)

        return {"full disk": Fault(lane, 2, full)} if self.small else {}
