"""Several processes on one file: the bell, the net below it, TTLs, kills,
start-ups under load, the WAL.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite.driver import Connection, load_driver
from datasync.kvdbsync.sqlite.store import prepare
from datasync.source import Commit, Put
from tests.helpers.sqlite.sqlite_tools import copy, end, finish, line, process, put, stored, until

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_two_that_make_the_store_at_a_time(path: Path, library: str) -> None:
    """Whatever one has read when the other makes the store,
    it never takes it for a foreign file.
    """
    used = load_driver(library)

    class Overtaken:
        """A connection behind whose back the store is made, between two of its questions."""

        def __init__(self, connection: Connection, after: str) -> None:
            self.connection = connection
            self.after = after

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def all(self, sql: str, args: Sequence[Any] = ()) -> list[Any]:
            found = self.connection.all(sql, args)
            if sql == self.after:
                # it may have to wait, as it does in a process of its own
                with (
                    contextlib.closing(used.connect(str(path), "rwc")) as other,
                    contextlib.suppress(used.error),
                ):
                    prepare(other, str(path), write=True)
            return found

    for question in ("PRAGMA application_id", "PRAGMA user_version", "PRAGMA journal_mode"):
        for file in path.parent.iterdir():
            file.unlink()
        with contextlib.closing(used.connect(str(path), "rwc")) as connection:
            prepare(Overtaken(connection, question), str(path), write=True)
            assert connection.all("SELECT count(*) FROM meta") == [(1,)]


WRITE_THEN_END = """
for number in range(int(sys.argv[3])):
    await source.commit([Put("other/%d" % number, b"v")])
"""


@pytest.mark.parametrize("inotify", [True, False])
def test_commits_of_another_process_are_seen(
    make: Make, run: Run, path: Path, library: str, inotify: bool
) -> None:
    async def main() -> None:
        source = make(inotify=inotify)
        made = await copy(source, "")
        other = process(path, library, WRITE_THEN_END, 50)
        await made.reach(50)
        assert made.data == {f"other/{n}": (b"v", n + 1) for n in range(50)}
        assert await put(source, mine=b"1") == 51
        await made.reach(51)
        await asyncio.to_thread(finish, other)
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_the_bell_wakes_at_once(
    make: Make, run: Run, path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the net below it out of reach, only the bell can bring the commits."""
    monkeypatch.setattr("datasync.kvdbsync.sqlite.follower._WITH_BELL", 3600.0)

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        await until(lambda: source._file is not None and source._file.follower.hears)
        for _ in range(3):
            before = made.revision or 0
            other = process(path, library, WRITE_THEN_END, 20)
            await made.reach(before + 20)
            await asyncio.to_thread(finish, other)
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_a_bell_that_somebody_deleted_is_hung_again(
    make: Make, run: Run, path: Path, library: str
) -> None:
    async def main() -> None:
        source = make()
        made = await copy(source, "")
        bell = Path(f"{path}-bell")
        await until(bell.exists)
        bell.unlink()
        await asyncio.to_thread(finish, process(path, library, WRITE_THEN_END, 5))
        await made.reach(5)
        await until(bell.exists)
        await until(lambda: source._file is not None and source._file.follower.hears)
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_the_net_holds_without_a_bell(make: Make, run: Run, path: Path) -> None:
    """A writer that does not know of the bell at all: the sqlite3 module of another process."""
    code = """
import sqlite3, msgspec
c = sqlite3.connect(path, isolation_level=None)
c.execute("BEGIN IMMEDIATE")
c.execute("INSERT INTO kv VALUES('k', x'31', 1, NULL)")
c.execute("INSERT INTO log VALUES(1, 5, 10, ?)", (msgspec.msgpack.encode([("k", b"1")]),))
c.execute("COMMIT")
c.close()
"""

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        await asyncio.to_thread(finish, process(path, "sqlite3", code))
        await made.reach(1)
        assert made.data == {"k": (b"1", 1)}
        await made.session.aclose()
        await source.aclose()

    run(main())


TTL = """
await source.commit([Put("ttl/%s/%d" % (sys.argv[3], n), b"v", ttl=0.5 + n / 50) for n in range(50)])
say("written")
if sys.argv[4] == "stay":
    sys.stdin.read(1)
else:
    os._exit(0)
"""


def test_ttls_end_once_whoever_has_the_file_open(
    make: Make, run: Run, path: Path, library: str
) -> None:
    async def main() -> None:
        source = make()
        made = await copy(source, "")
        stays = process(path, library, TTL, "a", "stay", stdin=subprocess.PIPE)
        leaves = process(path, library, TTL, "b", "leave")
        await asyncio.gather(line(stays), line(leaves))
        await source.commit([Put(f"ttl/c/{n}", b"v", ttl=0.5) for n in range(50)])
        deleted: list[str] = []
        while len(deleted) < 150:
            await made.step()
            deleted = [key for commit in made.commits for key, raw in commit.changes if raw is None]
        assert len(deleted) == len(set(deleted)) == 150
        assert not made.data
        await asyncio.to_thread(stays.communicate, "\n", 30)
        end(leaves)
        await made.session.aclose()
        await source.aclose()

    run(main())


KILLED = """
turn = int(sys.argv[3])
say("ready")
while True:
    turn += 1
    await source.commit([Put("k/%03d" % n, b"%d" % turn) for n in range(200)] + [Put("turn", b"%d" % turn)])
"""


def test_kills_leave_no_half_transaction(make: Make, run: Run, path: Path, library: str) -> None:
    async def main() -> None:
        source = make()
        made = await copy(source, "")
        chance = random.Random(1)
        for kill in range(10):
            victim = process(path, library, KILLED, kill * 1_000_000)
            await line(victim)
            target = (made.revision or 0) + chance.randrange(1, 12)
            await made.reach(target)
            for _ in range(chance.randrange(2000)):
                await asyncio.sleep(0)
            await asyncio.to_thread(end, victim)
            await put(source, after=b"%d" % kill)
            found = await stored(source)
            whole = {(raw, revision) for key, (raw, revision) in found.items() if key != "after"}
            assert len(whole) == 1, f"half a transaction after kill {kill}: {whole}"
            assert len(found) == 202
            await made.reach(found["after"][1])
            assert made.data == found
        for commit in made.commits:
            assert len(commit.changes) in (1, 201)
        assert [commit.revision for commit in made.commits] == list(
            range(1, (made.revision or 0) + 1)
        )
        await made.session.aclose()
        await source.aclose()

    run(main())
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


PAUSELESS = """
import random
chance = random.Random(7)
say("ready")
async def one(n):
    key = "k/%d" % chance.randrange(300)
    await source.commit([Put(key, b"%d" % chance.randrange(10**9)) if chance.random() < 0.7 else Delete(key)])
while not os.path.exists(path + ".stop"):
    await asyncio.gather(*(one(n) for n in range(chance.randrange(1, 20))))
"""


def test_twenty_starts_under_a_writer_without_pause(
    make: Make, run: Run, path: Path, library: str
) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put(f"k/{n}", b"first") for n in range(0, 300, 2)])
        await source.aclose()
        writer = process(path, library, PAUSELESS)
        await line(writer)
        copies = []
        sources = []
        for start in range(20):
            own = make() if start % 2 else source
            sources.append(own)
            copies.append(await copy(own, *([""] if start % 3 else ["k/"])))
            await copies[-1].reach((copies[-1].revision or 0) + 100)
            # some come back to where they were
            if start % 4 == 3:
                left = copies.pop()
                await left.session.aclose()
                again = await copy(own, "", resume=json.loads(json.dumps(left.position)))
                again.data = dict(left.data)
                copies.append(again)
        Path(f"{path}.stop").touch()
        await asyncio.to_thread(finish, writer)
        expected = await stored(source)
        last = (await put(source, **{"k/end": b"x"})) - 1
        for made in copies:
            await made.reach(last + 1)
            made.data.pop("k/end")
            assert made.data == expected
            revisions = [frame.revision for frame in made.frames if isinstance(frame, Commit)]
            assert revisions == list(range(revisions[0], last + 2))
        for made in copies:
            await made.session.aclose()
        for own in sources:
            await own.aclose()

    run(main())


def test_the_wal_stays_bounded_under_readers(
    make: Make, run: Run, path: Path, library: str
) -> None:
    """200 MB are written while sessions start, follow, and one is never read."""

    async def main() -> None:
        source = make()
        stuck, made = await copy(source, ""), await copy(source, "")
        largest = 0
        for turn in range(100):
            await source.commit([Put(f"k/{n}", os.urandom(100_000)) for n in range(20)])
            if turn % 10 == 0:
                brief = await copy(source, "")
                await brief.session.aclose()
            largest = max(largest, os.stat(f"{path}-wal").st_size)
            await made.reach(turn + 1)
        assert largest < 80 << 20
        await stuck.session.aclose()
        await made.session.aclose()
        await source.aclose()

    run(main())
