"""The command line in a folder of the test's own, and transports of somebody else."""

from __future__ import annotations

import pathlib
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from datasync.cli import main
from tests.helpers.command_line import Command, Result, Shell


@pytest.fixture
def shell(tmp_path: pathlib.Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    for process in shell.started:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def cli(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Command:
    """Runs a command in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATASYNC_URL", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*words: str) -> Result:
        capfdbinary.readouterr()
        code = main(words)
        out, err = capfdbinary.readouterr()
        return Result(code, out.decode(), err.decode())

    return run


_PLUGIN = """
import msgspec
from datasync import Disconnected
from datasync.kvdbsync.memory import MemorySource

class Plain(MemorySource):
    capabilities = msgspec.structs.replace(MemorySource.capabilities, transactions=False, durable=True)

    def __init__(self, url):
        super().__init__()
        self.name = str(url)

class Twice(MemorySource):
    written = 0

    def __init__(self, url):
        super().__init__()
        self.name = str(url)

    async def commit(self, operations, *, reply=False):
        Twice.written += 1
        if Twice.written > 2:
            raise Disconnected("twice:// is gone; try later")
        return await super().commit(operations, reply=reply)

class Gone(Plain):
    capabilities = MemorySource.capabilities

    async def open(self, *_):
        raise Disconnected(f"{self.name} does not answer; see whether it runs")

    async def get(self, key):
        await self.open()

    async def commit(self, operations, *, reply=False):
        await self.open()

    async def page(self, prefix, token, limit, *, keys_only=False):
        await self.open()

def broken(url):
    raise RuntimeError(f"cannot\\nopen {url}")
"""


@pytest.fixture
def plugin(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Transports of somebody else: plain:// without transactions, twice:// for two commits,
    gone:// and broken://.
    """
    name = f"plugin_{uuid.uuid4().hex}"
    folder = tmp_path / "site"
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(_PLUGIN)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    points = (
        f"plain = {name}:Plain\ntwice = {name}:Twice\ngone = {name}:Gone\nbroken = {name}:broken\n"
    )
    (info / "entry_points.txt").write_text(f"[datasync.transports]\n{points}")
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop(name, None)
