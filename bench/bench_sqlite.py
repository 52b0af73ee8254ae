"""SQLite: commits, snapshot, following, the way to another process, and what an idle agent costs.

Beside each figure stands the plainest loop over the same library that does the same work on the
same tables, in the same run and on files of their own. `held ms` is the longest turn of the
event loop meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.rows import Row
from datasync.errors import MissingExtra
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite.driver import Connection, load_driver
from datasync.source import Commit, Put, SnapshotChunk, SnapshotEnd

PLAIN = "plain loop"
VALUE = b"v" * 190
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]]).decode


def key(number: int) -> str:
    return f"/agent/config/interface/{number:06}"


def run(quick: bool) -> Iterator[Row]:
    """All figures, with each library that is installed."""
    for name in ("apsw", "sqlite3"):
        try:
            load_driver(name)
        except MissingExtra:
            continue
        bench = Bench(name, quick)
        for measure in (
            bench.single,
            bench.concurrent,
            bench.hundreds,
            bench.snapshot,
            bench.follow,
            bench.seen,
        ):
            with tempfile.TemporaryDirectory() as directory:
                yield measure(Path(directory))
        with tempfile.TemporaryDirectory() as directory:
            yield bench.idle(Path(directory))


class Plain:
    """The plain loop's store: the tables that a SqliteSource makes,
    and the statements typed out.
    """

    def __init__(self, name: str, path: Path) -> None:
        async def make() -> None:
            source = SqliteSource(str(path), library=name)
            await source.commit([])
            await source.aclose()

        asyncio.run(make())
        self.connection: Connection = load_driver(name).connect(str(path), "rw")
        self.connection.run("PRAGMA synchronous=normal")
        self.revision = 0
        self.total = 0

    def group(self, transactions: Sequence[Sequence[tuple[str, bytes]]]) -> None:
        """Some transactions with one COMMIT."""
        connection = self.connection
        connection.run("BEGIN IMMEDIATE")
        for pairs in transactions:
            self.revision += 1
            if len(pairs) == 1:
                connection.run("REPLACE INTO kv VALUES(?, ?, ?, NULL)", (*pairs[0], self.revision))
            else:
                connection.many(
                    "REPLACE INTO kv VALUES(?, ?, ?, NULL)",
                    [(*pair, self.revision) for pair in pairs],
                )
            blob = _encode(pairs)
            self.total += len(blob)
            connection.run(
                "INSERT INTO log VALUES(?, ?, ?, ?)", (self.revision, 1 << 52, self.total, blob)
            )
        connection.run("COMMIT")


class Bench:
    """The measurements with one library."""

    def __init__(self, name: str, quick: bool) -> None:
        self.name = name
        self.quick = quick
        self.rounds = 1 if quick else 5

    def single(self, directory: Path) -> Row:
        count = 200 if self.quick else 4_000

        async def ours(source: SqliteSource) -> None:
            for number in range(count):
                await source.commit([Put(key(number), VALUE)])

        def plain(store: Plain) -> None:
            for number in range(count):
                store.group([[(key(number), VALUE)]])

        return self._writes(
            directory, "commits of one key, one after the other", "commits/s", count, ours, plain
        )

    def concurrent(self, directory: Path) -> Row:
        turns = 5 if self.quick else 250

        async def ours(source: SqliteSource) -> None:
            async def caller(own: int) -> None:
                for turn in range(turns):
                    await source.commit([Put(key(own * turns + turn), VALUE)])

            await asyncio.gather(*(caller(own) for own in range(64)))

        def plain(store: Plain) -> None:
            for turn in range(turns):
                store.group([[(key(own * turns + turn), VALUE)] for own in range(64)])

        return self._writes(
            directory, "commits of one key, 64 callers", "commits/s", 64 * turns, ours, plain
        )

    def hundreds(self, directory: Path) -> Row:
        count = 10 if self.quick else 300

        def pairs(number: int) -> list[tuple[str, bytes]]:
            return [(key(number * 100 + at), VALUE) for at in range(100)]

        async def ours(source: SqliteSource) -> None:
            for number in range(count):
                await source.commit([Put(*pair) for pair in pairs(number)])

        def plain(store: Plain) -> None:
            for number in range(count):
                store.group([pairs(number)])

        return self._writes(
            directory, "transactions of 100 keys", "transactions/s", count, ours, plain
        )

    def _writes(
        self,
        directory: Path,
        what: str,
        unit: str,
        count: int,
        ours: Callable[[SqliteSource], Any],
        plain: Callable[[Plain], None],
    ) -> Row:
        mine, theirs = [], []
        for turn in range(self.rounds):
            mine.append(count / asyncio.run(self._timed(directory / f"ours{turn}.db", ours)))
            store = Plain(self.name, directory / f"plain{turn}.db")
            start = time.perf_counter()
            plain(store)
            theirs.append(count / (time.perf_counter() - start))
            store.connection.close()
        held = asyncio.run(self._held(directory / "held.db", ours))
        return self._row(what, unit, mine, theirs, {"held ms": 1e3 * held})

    async def _held(self, path: Path, work: Callable[[SqliteSource], Any]) -> float:
        """The longest turn of the loop during that work, in a run of its own."""
        source = SqliteSource(str(path), library=self.name)
        await source.commit([])
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            before = time.perf_counter()
            while True:
                await asyncio.sleep(0)
                now = time.perf_counter()
                longest, before = max(longest, now - before), now

        watching = asyncio.create_task(watch())
        await work(source)
        watching.cancel()
        await source.aclose()
        return longest

    async def _timed(self, path: Path, work: Callable[[SqliteSource], Any]) -> float:
        source = SqliteSource(str(path), library=self.name)
        await source.commit([])
        start = time.perf_counter()
        await work(source)
        took = time.perf_counter() - start
        await source.aclose()
        return took

    def snapshot(self, directory: Path) -> Row:
        count = 2_000 if self.quick else 200_000
        path = directory / "store.db"
        asyncio.run(self._fill(path, count))

        async def ours() -> float:
            source = SqliteSource(str(path), library=self.name)
            await source.get("nothing")
            start = time.perf_counter()
            session = await source.open(["/agent/"])
            found = 0
            async for frames in session:
                found += sum(
                    len(frame.items) for frame in frames if isinstance(frame, SnapshotChunk)
                )
                if isinstance(frames[-1], SnapshotEnd):
                    break
            took = time.perf_counter() - start
            assert found == count
            await session.aclose()
            await source.aclose()
            return took

        def plain() -> float:
            connection = load_driver(self.name).connect(str(path), "rw")
            start = time.perf_counter()
            query = (
                "SELECT key, value, revision FROM kv WHERE key >= '/agent/' AND key < '/agent0' "
                "ORDER BY key"
            )
            found = sum(len(rows) for rows in connection.chunks(query, (), 2_000))
            took = time.perf_counter() - start
            assert found == count
            connection.close()
            return took

        return self._reads("snapshot", "keys/s", count, ours, plain)

    def follow(self, directory: Path) -> Row:
        count = 500 if self.quick else 50_000
        path = directory / "store.db"
        position = asyncio.run(self._fill(path, count, one_by_one=True))

        async def ours() -> float:
            source = SqliteSource(str(path), library=self.name)
            await source.get("nothing")
            start = time.perf_counter()
            session = await source.open([""], position)
            found = 0
            async for frames in session:
                found += sum(len(frame.changes) for frame in frames if isinstance(frame, Commit))
                if found >= count:
                    break
            took = time.perf_counter() - start
            await session.aclose()
            await source.aclose()
            return took

        def plain() -> float:
            connection = load_driver(self.name).connect(str(path), "rw")
            start = time.perf_counter()
            found = 0
            for rows in connection.chunks(
                "SELECT revision, changes FROM log WHERE revision > ?", (position[1],), 512
            ):
                for _, blob in rows:
                    found += len(_decode(blob))
            took = time.perf_counter() - start
            assert found == count
            connection.close()
            return took

        return self._reads(
            "follow a log of transactions of one key", "changes/s", count, ours, plain
        )

    async def _fill(self, path: Path, count: int, *, one_by_one: bool = False) -> Any:
        source = SqliteSource(str(path), library=self.name)
        session = await source.open([""])
        frames = await anext(aiter(session))
        while not isinstance(frames[-1], SnapshotEnd):
            frames = await anext(aiter(session))
        await session.aclose()
        for first in range(0, count, 1_000):
            puts = [Put(key(number), VALUE) for number in range(first, min(first + 1_000, count))]
            if one_by_one:
                await asyncio.gather(*(source.commit([put]) for put in puts))
            else:
                await source.commit(puts)
        await source.aclose()
        return frames[-1].position

    def _reads(
        self, what: str, unit: str, count: int, ours: Callable[[], Any], plain: Callable[[], float]
    ) -> Row:
        mine, theirs = [], []
        for _ in range(self.rounds):
            mine.append(count / asyncio.run(ours()))
            theirs.append(count / plain())
        return self._row(what, unit, mine, theirs)

    def seen(self, directory: Path) -> Row:
        """From the call of commit to the frame in another process; plain:
        a loop there that polls each millisecond.
        """
        count = 50 if self.quick else 2_000
        figures: dict[str, list[float]] = {}
        for kind in ("ours", "plain"):
            path = directory / f"{kind}.db"
            plain = Plain(self.name, path) if kind == "plain" else None
            reader = subprocess.Popen(
                [sys.executable, "-c", READERS[kind], str(path), self.name, str(count)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert reader.stdout is not None
            if plain is None:
                sent = asyncio.run(self._paced(path, count, reader))
            else:
                assert reader.stdout.readline().strip() == "ready"
                sent = []
                for number in range(count):
                    sent.append(time.monotonic_ns())
                    plain.group([[(key(number % 500), VALUE)]])
                    time.sleep(0.001)
                plain.connection.close()
            arrived = json.loads(reader.stdout.readline())
            reader.communicate()
            figures[kind] = sorted(
                (after - before) / 1e6 for before, after in zip(sent, arrived, strict=True)
            )
        mine, theirs = figures["ours"], figures["plain"]
        percentile_99 = {
            "p99, ms": mine[int(len(mine) * 0.99)],
            "its p99, ms": theirs[int(len(theirs) * 0.99)],
        }
        row = self._row("commit to seen by another process", "ms", mine, theirs)
        return msgspec.structs.replace(row, also=percentile_99)

    async def _paced(self, path: Path, count: int, reader: subprocess.Popen[str]) -> list[int]:
        source = SqliteSource(str(path), library=self.name)
        await source.commit([])
        assert reader.stdout is not None
        assert (await asyncio.to_thread(reader.stdout.readline)).strip() == "ready"
        sent = []
        for number in range(count):
            sent.append(time.monotonic_ns())
            await source.commit([Put(key(number % 500), VALUE)])
            await asyncio.sleep(0.001)
        await source.aclose()
        return sent

    def idle(self, directory: Path) -> Row:
        """The processor time of a process that follows a file on which nothing happens."""

        async def main() -> float:
            source = SqliteSource(str(directory / "store.db"), library=self.name)
            session = await source.open([""])
            reading = asyncio.ensure_future(anext(aiter(session)))
            await asyncio.sleep(0.5)
            busy, start = time.process_time(), time.perf_counter()
            await asyncio.sleep(1 if self.quick else 10)
            share = (time.process_time() - busy) / (time.perf_counter() - start)
            reading.cancel()
            await session.aclose()
            await source.aclose()
            return share

        return Row(
            what="idle, with a session", unit="% of a core", ours=100 * asyncio.run(main()),
            case={"library": self.name},
        )  # fmt: skip

    def _row(
        self,
        what: str,
        unit: str,
        mine: list[float],
        theirs: list[float],
        also: dict[str, float] | None = None,
    ) -> Row:
        return Row(
            what=what, unit=unit, ours=statistics.median(mine),
            beside={PLAIN: statistics.median(theirs)}, case={"library": self.name},
            also=also or {},
        )  # fmt: skip


READERS = {
    "ours": """
import asyncio, json, os, sys, time
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.source import Commit
async def main():
    source = SqliteSource(sys.argv[1], library=sys.argv[2])
    session = await source.open([""])
    count, seen = int(sys.argv[3]), []
    print("ready", flush=True)
    async for frames in session:
        now = time.monotonic_ns()
        seen += [now for frame in frames if isinstance(frame, Commit)]
        if len(seen) >= count:
            break
    print(json.dumps(seen), flush=True)
    await session.aclose()
    await source.aclose()
asyncio.run(main())
""",
    "plain": """
import json, sys, time
from datasync.kvdbsync.sqlite.driver import load_driver
connection = load_driver(sys.argv[2]).connect(sys.argv[1], "rw")
count, seen, at, version = int(sys.argv[3]), [], 0, None
print("ready", flush=True)
while len(seen) < count:
    found = connection.all("PRAGMA data_version")
    if found != version:
        version = found
        for (at,) in connection.all("SELECT revision FROM log WHERE revision > ?", (at,)):
            seen.append(time.monotonic_ns())
    else:
        time.sleep(0.001)
print(json.dumps(seen), flush=True)
connection.close()
""",
}
