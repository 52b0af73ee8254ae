"""Files of configuration, written as programs write them: each edit replaces the file."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import os
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from datasync import Backoff, DataSync, open_url
from datasync.testing.contract.waiting import eventually
from datasync.testing.trace.checker import check
from datasync.testing.trace.recorder import Recorder

SECONDS = 60.0  # the machine may be busy with other tests


Test = Callable[..., Awaitable[None]]


def in_loop(test: Test) -> Callable[..., None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(120):
                await test(**fixtures)

        asyncio.run(limited())

    return run


def replace(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write a file under another name, and put it in place."""
    path = pathlib.Path(path)
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_bytes(text.encode() if isinstance(text, str) else text)
    hidden.replace(path)


class JsonFile:
    """One JSON file whose names are the keys: `put`, `delete` and `txn` as a DataSync has them.

    rest: seconds for which it is left alone after each edit.
    """

    def __init__(self, path: pathlib.Path, rest: float = 0.015) -> None:
        self.path = path
        self.rest = rest
        replace(path, "{}")

    @contextlib.asynccontextmanager
    async def writer(self) -> AsyncIterator[JsonFile]:
        yield self

    async def put(self, key: str, value: bytes, /) -> None:
        await self.txn().put(key, value).commit()

    async def delete(self, key: str, /, *, prefix: bool = False) -> bool:
        txn = self.txn().delete(key, prefix=prefix)
        await txn.commit()
        return txn.existed

    def txn(self) -> Edit:
        return Edit(self)


class Edit:
    """Several changes that replace the file once."""

    def __init__(self, file: JsonFile) -> None:
        self._file = file
        self._changes: list[tuple[str, Any, bool]] = []
        self.existed = False

    def put(self, key: str, value: bytes) -> Edit:
        try:
            shown: Any = value.decode()
        except UnicodeDecodeError:
            shown = {"$base64": base64.b64encode(value).decode()}
        self._changes.append((key, shown, False))
        return self

    def delete(self, key: str, *, prefix: bool = False) -> Edit:
        self._changes.append((key, None, prefix))
        return self

    async def commit(self) -> None:
        content = json.loads(self._file.path.read_text())
        for key, value, prefix in self._changes:
            if value is not None:
                content[key] = value
                continue
            gone = [
                known for known in content if known == key or (prefix and known.startswith(key))
            ]
            self.existed = bool(gone)
            for known in gone:
                del content[known]
        replace(self._file.path, json.dumps(content))
        # an edit is done once the file is at rest: one that never is, is never read
        await asyncio.sleep(self._file.rest)


def swapped(directory: pathlib.Path, files: dict[str, str]) -> None:
    """A new version of a ConfigMap, as the kubelet brings it: beside the old one, then the link
    `..data` is led to it, and what is not a member any more loses its link."""
    before = (
        directory / os.readlink(directory / "..data") if (directory / "..data").exists() else None
    )
    number = len(list(directory.glob("..v*")))
    version = directory / f"..v{number}-{os.urandom(3).hex()}"
    version.mkdir()
    for name, text in files.items():
        (version / name).write_text(text)
    (directory / "..data_tmp").symlink_to(version.name)
    (directory / "..data_tmp").replace(directory / "..data")
    for name in files:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for link in directory.iterdir():
        if link.is_symlink() and link.name != "..data" and link.name not in files:
            link.unlink()
    if before is not None:
        for old in before.iterdir():
            old.unlink()
        before.rmdir()


class Followed:
    """A DataSync that follows a place, whose trace is recorded; `events` are those that came."""

    def __init__(self, url: str, **options: Any) -> None:
        self.recorder = Recorder()
        self._source = self.recorder.source(open_url(url))
        self.name = self._source.name
        self.sync = DataSync(self._source, reconnect=Backoff(initial=0.01, maximum=0.1), **options)
        self.events: list[Any] = []
        self.state: dict[str, bytes] = {}

        async def handler(event: Any) -> None:
            self.events.append(event)
            for change in event.changes:
                if change.raw is None:
                    self.state.pop(change.key, None)
                else:
                    self.state[change.key] = change.raw

        recorded = self.recorder.wrap(handler, "", name="all")
        self.sync.watcher("", name="all")(recorded)

    @contextlib.asynccontextmanager
    async def running(self, at_start: dict[str, bytes]) -> AsyncIterator[Followed]:
        """Follow within the block; then the trace is held against the guarantees."""
        items = [(key, raw, 0) for key, raw in at_start.items()]
        self.recorder.history_started(self.name, "", 0, items)
        self.wanted = dict(at_start)
        async with self.sync:
            await self.sync.ready(SECONDS)
            assert self.state == at_start
            yield self
            self.recorder.stored(self.name, self.wanted)
            self.recorder.quiet()
        violations = check(self.recorder.trace, latency=SECONDS)
        assert not violations, "; ".join(map(str, violations[:5]))

    async def edit(self, changes: Mapping[str, bytes | None], edit: Callable[[], object]) -> None:
        """Let somebody edit the files, and wait until what that changes is there: as one event."""
        self.recorder.committed(self.name, changes)
        for key, raw in changes.items():
            if raw is None:
                self.wanted.pop(key)
            else:
                self.wanted[key] = raw
        number = len(self.events)
        await asyncio.to_thread(edit)
        await eventually(lambda: self.state == self.wanted, SECONDS)
        (event,) = self.events[number:]
        assert {change.key: change.raw for change in event.changes} == changes
