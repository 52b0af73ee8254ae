"""A directory that is followed as a source: hostile files come and go in it, and the state is
always that which each of them gave when it was last good."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import random
import tempfile
from collections.abc import AsyncIterator

from datasync.checks import check_key
from datasync.documents import BadFile, checked, entries, format_of
from datasync.kvdbsync.files.contents import Contents, Look
from datasync.kvdbsync.files.place import Place
from datasync.testing.fuzz.door import Door, Finding, mutated, told

__all__ = ["door"]

_DOCUMENTS = {
    ".yaml": b"mtu: 1500\nname: &a eth0\nmore: [*a, {b: 0x1F}]\n",
    ".json": b'{"mtu": 1.50, "name": "eth0", "raw": {"$base64": "AAE="}}\n',
    ".jsonl": b'{"key": "mtu", "value": 1}\n{"key": "name", "value": "a"}\n',
    ".toml": b'mtu = 1_500\n[name]\nof = "eth0"\n',
    ".env": b"export MTU=1500\nNAME='eth0' # a comment\n",
}
_NAMES = ["net", "dns", "a.b", "n\u00e4", "\udcff", "sub/net", "x\ny", ".hidden", ""]
_SETTLE = 0.001


@contextlib.asynccontextmanager
async def door() -> AsyncIterator[Door]:
    """Needs nothing."""

    async def case(rng: random.Random) -> str:
        with tempfile.TemporaryDirectory() as directory:
            attack = _Attack(rng, pathlib.Path(directory))
            for _ in range(rng.randint(1, 6)):
                attack.strike()
                attack.judge(await _at_rest(attack.contents))
            return attack.outcome

    async def works() -> None:
        with tempfile.TemporaryDirectory() as directory:
            pathlib.Path(directory, "net.yaml").write_text("mtu: 1500\n")
            contents = Contents(Place(directory), "", None, _SETTLE)
            if (await _at_rest(contents)).state != {"net/mtu": b"1500"}:
                raise Finding("a good file is not read")

    yield Door(case, works)


async def _at_rest(contents: Contents) -> Look:
    while True:
        look = contents.look()
        if not look.settling:
            return look
        await asyncio.sleep(look.again or 0)


class _Attack:
    """A directory, what is done to it, and what it has to give."""

    def __init__(self, rng: random.Random, directory: pathlib.Path) -> None:
        self.contents = Contents(Place(str(directory)), "", None, _SETTLE)
        self.outcome = "nothing"
        self._rng = rng
        self._directory = directory
        self._good: dict[pathlib.Path, dict[str, bytes]] = {}
        self._bad: set[pathlib.Path] = set()
        self._state: dict[str, bytes] | None = None

    def strike(self) -> None:
        """Write, delete or replace one file."""
        rng = self._rng
        ending = rng.choice(list(_DOCUMENTS))
        path = self._directory / (rng.choice(_NAMES) + ending)
        path.parent.mkdir(exist_ok=True)
        if path.is_symlink() or path.exists():
            path.unlink()
        match rng.randrange(10):
            case 0:
                self._note(path, None)
            case 1:
                os.mkfifo(path)
                self._note(path, b"\xff")  # as what never parses
            case 2:
                path.symlink_to("nothing")
                self._note(path, b"\xff")
            case _:
                data = _DOCUMENTS[ending]
                data = mutated(rng, data) if rng.random() < 0.6 else data
                path.write_bytes(data)
                self._note(path, data)

    def _note(self, path: pathlib.Path, data: bytes | None) -> None:
        if path.name.startswith(".") and path.name != ".env":
            return
        self._bad.discard(path)
        if data is None:
            self._good.pop(path, None)
            return
        kind = format_of(path.name)
        below = str(path.relative_to(self._directory))
        prefix = "" if path.name == ".env" else below[: below.rindex(".")] + "/"
        try:
            read = [
                entry._replace(key=prefix + entry.key) for entry in entries(str(kind), "f", data)
            ]
            self._good[path] = {
                entry.key: entry.raw
                for entry in checked("f", read, lambda key: check_key(key, rooted=True))
            }
        except BadFile:
            self._bad.add(path)

    def judge(self, look: Look) -> None:
        """Hold what a look brought against what was done. Raises `Finding`."""
        given = [item for good in self._good.values() for item in good.items()]
        conflict = len(dict(given)) < len(given)
        if not conflict and (self._state is not None or not self._bad):
            self._state = dict(given)
        if look.gone is not None:
            raise Finding(f"it is told to be gone: {look.gone}")
        if look.state != self._state:
            raise Finding(f"it gives {look.state!r}, not {self._state!r}")
        if (look.trouble is not None) != bool(self._bad or conflict):
            raise Finding(f"it says {look.trouble!r}, with {self._bad!r} broken")
        told(look.trouble or "")
        self.outcome = "trouble" if look.trouble else "good"
