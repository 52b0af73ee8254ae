"""Real servers for tests: on free loopback ports, with a data directory of their own, and ended with the test."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from datasync.testing.chaos.process import Process, StoredProcess, answers, free_ports, until

__all__ = ["Process", "StoredProcess", "answers", "built", "free_ports", "missing", "require", "started", "until"]

_CACHE = Path(__file__).parents[1] / ".cache"


def missing(what: str, install: str) -> NoReturn:
    """Skip the test because `what` is not there; where DATASYNC_REQUIRE_SERVERS is set, fail it."""
    text = f"{what} is missing; install it with: {install}"
    if os.environ.get("DATASYNC_REQUIRE_SERVERS", "") not in ("", "0"):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def require(program: str, install: str) -> str:
    """The path of a program; see `missing`."""
    return shutil.which(program) or missing(program, install)


def built(source: Path, name: str) -> str:
    """A Go program, built once for all tests on this machine; skips the test where there is no Go toolchain."""
    if shutil.which("go") is None:
        pytest.skip(f"there is no Go toolchain to build {name} with; see go.dev/doc/install")
    binary = _CACHE / name
    binary.parent.mkdir(parents=True, exist_ok=True)
    wanted = "".join(file.read_text() for file in sorted(source.glob("*.*")))
    stamp = binary.with_name(f"{binary.name}.source")
    with binary.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other workers wait for the one that builds
        if not (stamp.exists() and binary.exists() and stamp.read_text() == wanted):
            env = os.environ | {"CGO_ENABLED": "0"}
            command = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(binary), "."]
            done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True)
            if done.returncode:
                missing(name, f"cd {source} && go build  ({done.stderr.strip()[-300:]})")
            stamp.write_text(wanted)
    return str(binary)


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
