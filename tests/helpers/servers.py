"""Real servers for tests: on free loopback ports, with a data directory of their own,
and ended with the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from datasync.testing.chaos.ports import free_ports
from datasync.testing.chaos.process import PATIENCE, Process, StoredProcess, answers, until

__all__ = [
    "PATIENCE", "Announce", "Process", "StoredProcess", "answers", "built", "child", "children",
    "commands_with", "connections_to", "drip", "free_ports", "impossible", "listening", "missing", "quietly",
    "require", "started", "until",
]  # fmt: skip

_CACHE = Path(__file__).parents[2] / ".cache"


Announce = Callable[[str], object]
"""Hears the line that brings something to this machine, before it is run."""


def quietly(line: str) -> None:
    """Announce to nobody."""


def missing(what: str, install: str) -> NoReturn:
    """Skip the test because `what` is not there; see `impossible`."""
    impossible(f"{what} is missing; install it with: {install}")


def impossible(text: str) -> NoReturn:
    """Skip the test for that reason; where DATASYNC_REQUIRE_SERVERS is set, fail it."""
    if os.environ.get("DATASYNC_REQUIRE_SERVERS", "") not in ("", "0"):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def require(program: str, install: str) -> str:
    """The path of a program; see `missing`."""
    return shutil.which(program) or missing(program, install)


def built(source: Path, name: str, announce: Announce = quietly) -> str:
    """A Go program, built once for all tests on this machine, with the modules that it needs.

    Skips the test where there is no Go toolchain. `announce` hears the line that is run where it is
    to be built.
    """
    if shutil.which("go") is None:
        pytest.skip(
            f"there is no Go toolchain to build {name} with; install it as go.dev/doc/install says"
        )
    binary = _CACHE / name
    binary.parent.mkdir(parents=True, exist_ok=True)
    wanted = "".join(
        file.read_text()
        for file in sorted(source.rglob("*"))
        if file.suffix in {".go", ".mod", ".sum"}
    )
    stamp = binary.with_name(f"{binary.name}.source")

    with binary.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other workers wait for the one that builds
        if not (stamp.exists() and binary.exists() and stamp.read_text() == wanted):
            line = f"cd {source} && go build -o {binary}"
            announce(line)
            env = os.environ | {"CGO_ENABLED": "0"}
            command = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(binary), "."]
            done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True)
            if done.returncode:
                missing(name, f"{line}  ({done.stderr.strip()[-300:]})")
            stamp.write_text(wanted)

    return str(binary)


@contextlib.contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that runs within the block, and has ended after it whatever happened there;
    its output is text.
    """
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def children() -> dict[int, str]:
    """The programs in the session of this process that it has started and that run:
    their commands, by number.
    """
    found: dict[int, str] = {}
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # that thread has ended
            for pid in map(int, listed.read_text().split()):
                with contextlib.suppress(OSError):
                    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                    if state != "Z" and os.getsid(pid) == os.getsid(0):
                        command = Path(f"/proc/{pid}/cmdline").read_bytes()
                        found[pid] = (
                            command.decode(errors="replace").replace("\0", " ").strip()[:200]
                        )
    return found


def commands_with(path: Path) -> list[str]:
    """The commands of this machine's processes that name that path."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # that process has ended
            command = (
                (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            if str(path) in command:
                found.append(command)
    return found


def connections_to(port: int) -> list[str]:
    """The sockets of this process that are connected to that loopback port."""
    mine = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            mine.add(str(link.readlink()))
    found = []
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) == port and f"socket:[{fields[9]}]" in mine:
            found.append(line)
    return found


P = TypeVar("P", bound=Process)


@contextlib.contextmanager
def started(make: Callable[[Path], P]) -> Iterator[P]:
    """A server in a directory that is gone afterwards, for code outside of an event loop."""
    with tempfile.TemporaryDirectory(prefix="datasync-") as directory:
        server = make(Path(directory))
        try:
            asyncio.run(server.start())
            yield server
        finally:
            server.end()


@contextlib.asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """A directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="datasync-") as directory:
        yield Path(directory)


async def drip(
    writer: asyncio.StreamWriter, head: bytes, drop: bytes = b"x", pause: float = 0.02
) -> None:
    """Begin an answer with `head`, and go on with a drop now and then, without an end."""
    writer.write(head)
    while True:
        writer.write(drop)
        await writer.drain()
        await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[int]:
    """A server of a few lines, whose port it yields.

    `serve` has each connection until it returns or the block ends.
    """
    serving: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(reader, writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(one(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)
        # also where it was cancelled before its first step
        task.add_done_callback(lambda _: writer.close())

    server = await asyncio.start_server(accept, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _ in range(4):  # who was just accepted has a task by then
            await asyncio.sleep(0)
        for task in serving:
            task.cancel()
        if serving:
            await asyncio.wait(serving)
        await server.wait_closed()
