"""Servers as processes: on free loopback ports, with a data directory of their own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from datasync.testing.commands import Missing

__all__ = ["PATIENCE", "Process", "StoredProcess", "answers", "program", "until"]

PATIENCE = 120.0
"""Seconds within which a server does what it is asked for, also on a machine whose cores are all
kept busy, where three brokers take a minute to start. It bounds what hangs; a server that has
ended is noticed at once."""


def program(name: str, install: str) -> str:
    """The path of a program. Raises `Missing`."""
    path = shutil.which(name)
    if path is None:
        raise Missing(f"{name} is missing; install it with: {install}")
    return path


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, seconds: float = PATIENCE
) -> None:
    """Wait until `condition` is true. Raises AssertionError that names `what`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await condition():
        assert loop.time() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.01)


async def answers(port: int) -> bool:
    """Whether something accepts connections on that loopback port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


class Process:
    """One server process that can be stopped, killed and started again;
    what it says is in `log`."""

    def __init__(self, command: Sequence[str], port: int, directory: Path) -> None:
        self.command = list(command)
        self.port = port
        self.log = directory / f"{port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start it, and do not wait for anything."""
        assert not self.running
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self.spawn()
        await self.comes_to(partial(answers, self.port), f"{self.command[0]} listens")

    async def comes_to(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for a part of its start. Raises AssertionError with the end of its log."""

        async def met() -> bool:
            assert self.running, "it has ended"
            return await condition()

        try:
            await until(met, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; its log ends with: {self.tail()}") from None

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it as an administrator would."""
        await self._end(signal.SIGTERM)

    async def pause(self) -> None:
        """SIGSTOP: its connections stand, but nothing answers."""
        self._send(signal.SIGSTOP)
        process = self._process
        assert process is not None

        async def stopped() -> bool:
            states = set()
            for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
                with contextlib.suppress(OSError):  # that thread has ended meanwhile
                    states.add(stat.read_text().rpartition(")")[2].split()[0])
            return states <= {"T", "t"}

        await until(stopped, f"{self.command[0]} stops")

    def resume(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def end(self) -> None:
        """Kill it at once if it still runs; for the end of a test."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)

    def _send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def _end(self, number: int) -> None:
        process = self._process
        assert process is not None
        process.send_signal(number)

        async def ended() -> bool:
            return process.poll() is not None

        await until(ended, f"{self.command[0]} ends")


class StoredProcess(Process):
    """A server that keeps its store in the directory `data`."""

    def __init__(self, command: Sequence[str], port: int, directory: Path, data: Path) -> None:
        super().__init__(command, port, directory)
        self.data = data
        self._backup = directory / f"backup-{port}"

    async def empty(self) -> None:
        """Kill it, empty its data directory, and start it again."""
        await self._replace(None)

    async def back_up(self) -> Path:
        """A copy of the data directory, made while the server is down for a moment."""
        await self.kill()
        shutil.rmtree(self._backup, ignore_errors=True)
        shutil.copytree(self.data, self._backup)
        await self.start()
        return self._backup

    async def restore(self, backup: Path) -> None:
        """Kill it, put the backup in place, and start it again."""
        await self._replace(backup)

    async def _replace(self, backup: Path | None) -> None:
        await self.kill()
        shutil.rmtree(self.data)
        if backup is None:
            self.data.mkdir(mode=0o700)
        else:
            shutil.copytree(backup, self.data)
        await self.start()
