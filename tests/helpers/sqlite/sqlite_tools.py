"""What the tests of the SQLite transport share: a follower that checks as it goes,
and processes that write.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasync.source import (
    Commit,
    Frame,
    Put,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Source,
)

DEADLINE = 30.0


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Return once the condition holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what or "the condition did not come true"
        await asyncio.sleep(0.002)


def take_away(path: Path) -> None:
    """Remove the files of a store in use.

    A process that finds it gone closes it, and may remove the WAL first.
    """
    for suffix in ("", "-wal", "-shm", "-bell"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


class Copy:
    """Follows a session into a dict and checks the order of its frames: nothing lost,
    nothing twice.
    """

    def __init__(self, session: Session, *, resumed: Any = None) -> None:
        self.session = session
        self.data: dict[str, tuple[bytes, int]] = {}
        self.frames: list[Frame] = []
        self.commits: list[Commit] = []
        self.position: Any = resumed
        self.revision: int | None = None if resumed is None else resumed[1]
        self.history = ""
        self._iterator = aiter(session)
        self._staged: dict[str, tuple[bytes, int]] | None = None
        self._scopes: Sequence[str] = ()

    async def step(self) -> None:
        async with asyncio.timeout(DEADLINE):
            for frame in await anext(self._iterator):
                self.frames.append(frame)
                self._apply(frame)

    def _apply(self, frame: Frame) -> None:
        if isinstance(frame, SnapshotBegin):
            assert self._staged is None
            self._staged, self._scopes = {}, frame.scopes
        elif isinstance(frame, SnapshotChunk):
            assert self._staged is not None
            for key, value, revision in frame.items:
                assert key not in self._staged, f"{key} twice in a snapshot"
                self._staged[key] = value, revision
        elif isinstance(frame, SnapshotEnd):
            assert self._staged is not None
            covered = [s for s in self._scopes if not s or s.endswith("/")]
            for key in list(self.data):
                if key in self._scopes or any(key.startswith(scope) for scope in covered):
                    del self.data[key]
            self.data.update(self._staged)
            assert self.revision is None or frame.revision == self.revision
            self._staged, self.revision, self.history = None, frame.revision, frame.history
            self.position = frame.position
        else:
            assert self._staged is None
            assert self.revision is not None
            assert frame.revision > self.revision, "a revision twice, or back"
            self.revision, self.position = frame.revision, frame.position
            if isinstance(frame, Commit):
                self.commits.append(frame)
                assert frame.changes
                for key, raw in frame.changes:
                    if raw is None:
                        self.data.pop(key, None)
                    else:
                        self.data[key] = raw, frame.revision

    async def reach(self, revision: int) -> None:
        """Follow until that revision has been seen; never beyond its list of frames."""
        while self.revision is None or self.revision < revision or self._staged is not None:
            await self.step()

    async def see_end_of(self, key: str) -> None:
        """Follow until a commit has deleted the key; one step may show it come and go."""
        while not any((key, None) in commit.changes for commit in self.commits):
            await self.step()


async def copy(source: Source, *scopes: str, resume: Any = None, added: Sequence[str] = ()) -> Copy:
    """A Copy that has its snapshot, or stands at `resume`."""
    made = Copy(await source.open(scopes or [""], resume, added), resumed=resume)
    if resume is None or added:
        while not any(isinstance(frame, SnapshotEnd) for frame in made.frames):
            await made.step()
    return made


async def put(source: Source, **values: bytes) -> int:
    """Put values in one transaction; a double underscore in a name stands for a slash."""
    done = await source.commit([Put(name.replace("__", "/"), raw) for name, raw in values.items()])
    assert done.revision is not None
    return done.revision


async def within_loop(source: Any) -> Any:
    """Commit until that is quick enough to be done within the loop; gives the source back."""
    async with asyncio.timeout(DEADLINE):
        while True:
            await source.commit([Put("warm", b"up")])
            if source._file.writer._pace.place.value == "loop":
                return source


async def stored(source: Source, prefix: str = "") -> dict[str, tuple[bytes, int]]:
    """All that the store holds, read page by page."""
    found: dict[str, tuple[bytes, int]] = {}
    token = None
    while True:
        items, token = await source.page(prefix, token, 1000)
        found.update({key: (raw, revision) for key, raw, revision in items})
        if token is None:
            return found


_PRELUDE = """
import asyncio, os, sys
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.source import *
path, library = sys.argv[1:3]
def say(*words): print(*words, flush=True)
async def main(source):
"""


def process(
    path: Path, library: str, body: str, *args: object, **options: Any
) -> subprocess.Popen[str]:
    """A process that runs `body` as an async function with a `source` on `path`;
    its arguments are sys.argv[3:].
    """
    code = _PRELUDE + "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    code += "\nasync def outer():\n    source = SqliteSource(path, library=library)\n    await main(source)\n"
    code += "    await source.aclose()\nasyncio.run(outer())\n"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, str(path), library, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **options.pop("env", {}),
        },
        **options,
    )


def finish(running: subprocess.Popen[str]) -> str:
    """What the process printed; it must end by itself, without an error."""
    out, err = running.communicate(timeout=DEADLINE)
    assert running.returncode == 0, err
    return out


async def line(running: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert running.stdout is not None
    text = await asyncio.wait_for(asyncio.to_thread(running.stdout.readline), DEADLINE)
    assert text, running.stderr.read() if running.stderr else ""
    return text.strip()


def end(running: subprocess.Popen[str]) -> None:
    """Kill a process that is still there, and close its pipes."""
    running.kill()
    running.communicate()
