"""`datasync serve` as a process of its own, for tests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.servers import Process, free_ports

__all__ = ["ServeProcess"]


class ServeProcess(Process):
    """Serves `source` on a free loopback port. protocol: the name of the option, grpc or http."""

    def __init__(self, source: str, directory: Path, protocol: str = "grpc", extra: Sequence[str] = ()) -> None:
        [port] = free_ports(1)
        command = [sys.executable, "-m", "datasync", "serve", source, f"--{protocol}", f"127.0.0.1:{port}", *extra]
        super().__init__(command, port, directory)

    async def restart(self) -> None:
        """kill -9, and start it again."""
        if self.running:
            await self.kill()
        await self.start()
