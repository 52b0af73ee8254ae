"""One Redis server as a process, and what a plain client does with it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hiredis
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from datasync.testing.chaos.ports import free_ports
from datasync.testing.chaos.process import StoredProcess

__all__ = ["RedisServer", "client_of"]

# each write is in the file before it is answered: a killed process leaves it in the page cache
_KEPT = [
    "--appendonly",
    "yes",
    "--appendfsync",
    "no",
    "--auto-aof-rewrite-percentage",
    "0",
    "--save",
    "",
]
Change = dict[str, bytes | None]


@contextlib.asynccontextmanager
async def client_of(port: int, **options: Any) -> AsyncIterator[redis.asyncio.Redis]:
    """A plain client, which trusts any server."""
    client = redis.asyncio.Redis(
        port=port, retry=Retry(NoBackoff(), 0), socket_timeout=20, **options
    )
    try:
        yield client
    finally:
        await client.aclose()


class RedisServer(StoredProcess):
    """One server. `ports`: what it listens on, in place of the plain port."""

    def __init__(
        self,
        binary: str,
        directory: Path,
        *,
        port: int = 0,
        ports: Sequence[str] = (),
        extra: Sequence[str] = (),
        kept: bool = True,
    ) -> None:
        port = port or free_ports(1)[0]
        data = directory / f"data-{port}"
        data.mkdir()
        listening = ports or ["--port", str(port)]
        keeping = _KEPT if kept else ["--save", ""]
        command = [binary, "--bind", "127.0.0.1", *listening, "--dir", str(data), *keeping, *extra]
        super().__init__(command, port, directory, data)

    @property
    def url(self) -> str:
        """For a DataSync."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it has loaded what it kept."""
        await super().start()
        await self.comes_to(self._loaded, "it has loaded what it kept")

    async def _loaded(self) -> bool:
        try:
            await self.do("PING")
        except redis.exceptions.AuthenticationError:
            pass
        except redis.exceptions.ConnectionError:
            return False
        return True

    @contextlib.asynccontextmanager
    async def client(
        self, database: int = 0, password: str | None = None
    ) -> AsyncIterator[redis.asyncio.Redis]:
        """A plain client."""
        async with client_of(self.port, db=database, password=password) as client:
            yield client

    async def do(
        self, *command: str | bytes | int, database: int = 0, password: str | None = None
    ) -> Any:
        """What the server answers to one command."""
        async with self.client(database, password) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def info(self, section: str) -> Mapping[str, Any]:
        """What it says of itself."""
        async with self.client() as client:
            return await client.info(section)

    async def everything(self, database: int = 0) -> dict[str, bytes]:
        """All keys and values."""
        async with self.client(database) as client:
            keys = [key async for key in client.scan_iter(count=1000)]
            values: list[Any] = await client.mget(keys) if keys else []
        return {
            key.decode(): value
            for key, value in zip(keys, values, strict=True)
            if value is not None
        }

    def history(self) -> list[tuple[int, Change]]:
        """What the server itself wrote down, transaction by transaction: the keys of database 0 and
        their new values. Redis has no revisions: all are 0."""
        log: list[Change] = []
        state: set[str] = set()
        database, together = 0, False
        for command in self._commands():
            name, args = command[0].upper(), command[1:]
            if name == b"SELECT":
                database = int(args[0])
            elif name in (b"MULTI", b"EXEC"):
                together = name == b"MULTI"
                if together:
                    log.append({})
            elif database == 0:
                changes = _changes(name, args, state)
                state.update(changes)
                if together:
                    log[-1].update(changes)
                else:
                    log.append(changes)
        return [(0, changes) for changes in log if changes]

    def _commands(self) -> Iterator[list[bytes]]:
        incomplete = object()
        files = self.data.glob("appendonlydir/*.incr.aof")
        for file in sorted(files, key=lambda file: int(re.findall(r"\.(\d+)\.incr", file.name)[0])):
            reader = hiredis.Reader(notEnoughData=incomplete)
            reader.feed(file.read_bytes())
            while (command := reader.gets()) is not incomplete:
                assert isinstance(command, list)
                yield command

    async def fill(self, items: Mapping[str, bytes]) -> None:
        """Store many keys at once."""
        async with self.client() as client:
            await client.mset(dict(items))

    async def clear(self) -> None:
        """Delete all keys of all databases."""
        await self.do("FLUSHALL")


def _changes(name: bytes, args: Sequence[bytes], known: Iterable[str]) -> Change:
    if name == b"SET":
        return {args[0].decode(): args[1]}
    if name == b"MSET":
        return {key.decode(): value for key, value in zip(args[::2], args[1::2], strict=True)}
    if name in (b"DEL", b"UNLINK"):
        return {key.decode(): None for key in args}
    if name in (b"FLUSHALL", b"FLUSHDB"):
        return dict.fromkeys(known)
    raise AssertionError(f"nobody taught this test {name!r}")
