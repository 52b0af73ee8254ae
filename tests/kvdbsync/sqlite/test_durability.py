"""Whatever becomes of the three files: what was acknowledged is in the one that is there,
or its writer hears of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync import ChangeEvent, DataSync, ResyncEvent
from datasync.errors import BadStore, Disconnected, HistoryLost, OutcomeUnknown
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite.driver import load_driver
from datasync.kvdbsync.sqlite.pace import Place
from datasync.source import Put
from tests.helpers.sqlite.sqlite_tools import (
    DEADLINE,
    copy,
    end,
    finish,
    line,
    process,
    put,
    stored,
    until,
)

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def until_put(source: SqliteSource, **values: bytes) -> int:
    """Put, again for as long as nothing was done."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(Disconnected):
                return await put(source, **values)
            await asyncio.sleep(0.01)


def snapshot_of(path: Path, target: Path, library: str) -> None:
    """A copy with the pages of the store as they are now, made by another process."""
    code = """
import sqlite3
with sqlite3.connect(path) as store, sqlite3.connect(sys.argv[3]) as copied:
    store.backup(copied)
store.close(); copied.close()
"""
    finish(process(path, library, code, target))


def whole(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_backup_moved_over_an_open_store(
    make: Make, run: Run, path: Path, tmp_path: Path, library: str
) -> None:
    """The backup is what is there from then on: no page of the old WAL gets into it."""

    async def main() -> None:
        source = make()
        await put(source, a=b"old", b=b"old")
        await asyncio.to_thread(snapshot_of, path, tmp_path / "backup.db", library)
        backup = (tmp_path / "backup.db").read_bytes()
        await put(source, a=b"new")
        await source.commit([Put(f"k/{n}", b"x" * 500) for n in range(500)])
        made = await copy(source, "")
        os.replace(tmp_path / "backup.db", path)
        with pytest.raises(Disconnected, match="replaced"):
            await made.reach(4)
        with pytest.raises(HistoryLost) as lost:
            await source.open([""], made.position)
        assert lost.value.changed
        assert path.read_bytes() == backup
        assert await stored(source) == {"a": (b"old", 1), "b": (b"old", 1)}
        assert await put(source, c=b"1") == 2
        await made.session.aclose()
        await source.aclose()
        source = make()
        assert set(await stored(source)) == {"a", "b", "c"}
        await source.aclose()
        whole(path)

    run(main())


def test_a_store_moved_away_is_complete(make: Make, run: Run, path: Path, tmp_path: Path) -> None:
    """What was acknowledged goes with it, though its WAL stayed behind; and put back,
    it is the same.
    """

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        await source.commit([Put(f"k/{n}", b"x" * 500) for n in range(500)])
        path.rename(tmp_path / "moved.db")
        with pytest.raises(Disconnected, match="gone"):
            await made.reach(2)
        with pytest.raises(Disconnected, match="gone"):
            await put(source, k=b"never")
        await made.session.aclose()
        await source.aclose()
        moved = make(path=str(tmp_path / "moved.db"))
        assert len(await stored(moved)) == 500
        await moved.aclose()
        (tmp_path / "moved.db").rename(path)
        source = make()
        again = await copy(source, "", resume=made.position)
        assert await put(source, k=b"1") == 2
        await again.reach(2)
        await again.session.aclose()
        await source.aclose()
        whole(path)

    run(main())


WRITES = """
from datasync.errors import Disconnected
for number in range(20):
    while True:
        try:
            done = await source.commit([Put("other/%d" % number, b"v")])
        except Disconnected:
            continue
        break
    say(done.revision)
"""


@pytest.mark.parametrize("taken", [("-wal", "-shm"), ("-wal",), ("-shm",)])
def test_files_taken_away_under_two_processes(
    make: Make, run: Run, path: Path, library: str, taken: tuple[str, ...]
) -> None:
    """No revision is told twice, and all that was acknowledged is there."""

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        told = [await put(source, **{f"mine/{n}": b"v"}) for n in range(10)]
        for suffix in taken:
            os.unlink(f"{path}{suffix}")
        other = process(path, library, WRITES)
        told += [await until_put(source, **{f"mine/{n}": b"v"}) for n in range(10, 30)]
        told += map(int, (await asyncio.to_thread(finish, other)).split())
        assert sorted(told) == list(range(1, 51))
        expected = {f"mine/{n}" for n in range(30)} | {f"other/{n}" for n in range(20)}
        assert set(await stored(source)) == expected
        again = await copy(source, "", resume=made.position)
        await again.reach(50)
        for session in (made.session, again.session):
            await session.aclose()
        await source.aclose()
        source = make()
        assert set(await stored(source)) == expected
        await source.aclose()
        whole(path)

    run(main())


def test_another_library_of_this_process_closes_the_file(
    make: Make, run: Run, path: Path, library: str
) -> None:
    """It does not see our locks: it takes the WAL away, and all our locks with it."""
    if library == "sqlite3":
        pytest.skip("the same library shares its locks")

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        told = [await put(source, **{f"mine/{n}": b"v"}) for n in range(10)]
        # as it opens the file it cuts -shm off while others read it, which ends a process with
        # SIGBUS
        await made.reach(10)
        with contextlib.closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT count(*) FROM kv").fetchone() == (10,)
        assert not Path(f"{path}-wal").exists()
        writer = process(path, library, WRITES)
        with pytest.raises(Disconnected):
            await made.reach(50)
        told += [await until_put(source, **{f"mine/{n}": b"v"}) for n in range(10, 30)]
        told += map(int, (await asyncio.to_thread(finish, writer)).split())
        assert sorted(told) == list(range(1, 51))
        assert len(await stored(source)) == 50
        await made.session.aclose()
        await source.aclose()
        whole(path)

    run(main())


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("change", ["removed", "replaced"])
@pytest.mark.parametrize("moment", ["BEGIN IMMEDIATE", "COMMIT"])
@pytest.mark.parametrize("place", ["thread", "loop"])
def test_a_file_that_changes_during_a_commit(
    make: Make,
    run: Run,
    path: Path,
    tmp_path: Path,
    suffix: str,
    change: str,
    moment: str,
    place: str,
) -> None:
    """Its writer hears of it: surely not written, or perhaps."""

    async def main() -> None:
        source = make()
        before = await put(source, k=b"1")
        file = source._file
        assert file is not None
        writer: Any = file.writer
        if place == "loop":
            writer._pace.place = Place.LOOP
        statement = writer._committer._connection.run

        def run_then_change(sql: str, args: Any = ()) -> Any:
            done = statement(sql, args)
            if sql == moment:
                shutil.copy(f"{path}{suffix}", tmp_path / "other")
                os.unlink(f"{path}{suffix}")
                if change == "replaced":
                    os.rename(tmp_path / "other", f"{path}{suffix}")
            return done

        writer._committer._connection.run = run_then_change
        with pytest.raises(
            OutcomeUnknown if moment == "COMMIT" else Disconnected, match=f"{change}|gone"
        ):
            await put(source, k=b"2")
        if suffix or change == "replaced":
            async with asyncio.timeout(DEADLINE):
                while True:
                    with contextlib.suppress(Disconnected):
                        found = await source.get("k")
                        break
                    await asyncio.sleep(0.01)
            if suffix:
                assert found is not None
                assert found[1] == (before + 1 if moment == "COMMIT" else before)
        await source.aclose()

    run(main())


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("change", ["removed", "replaced", "moved with its directory"])
def test_a_file_that_changes_in_a_quiet_directory(
    make: Make, run: Run, tmp_path: Path, suffix: str, change: str
) -> None:
    """There one look at the directory stands for one at each of the files."""

    async def main() -> None:
        directory = tmp_path / "quiet"
        directory.mkdir()
        path = directory / "store.db"
        source = make(path=str(path))
        await put(source, k=b"1")
        file: Any = source._file
        async with asyncio.timeout(DEADLINE):
            while True:
                await put(source, k=b"2")
                if file._names is not None:
                    break
                await asyncio.sleep(0.01)
        if change == "moved with its directory":
            directory.rename(tmp_path / "moved")
        else:
            shutil.copy(f"{path}{suffix}", tmp_path / "other")
            os.unlink(f"{path}{suffix}")
            if change == "replaced":
                os.rename(tmp_path / "other", f"{path}{suffix}")
        file.writer._pace.place = Place.LOOP
        with pytest.raises(Disconnected):
            await put(source, k=b"3")
        await source.aclose()

    run(main())


CRASH = """
await source.commit([Put("k/%d" % n, b"x" * 500) for n in range(500)])
say("written")
sys.stdin.read(1)
"""


async def crashed(path: Path, library: str) -> None:
    """Leave a store whose last commits are in its WAL only."""
    victim = process(path, library, CRASH, stdin=subprocess.PIPE)
    await line(victim)
    await asyncio.to_thread(end, victim)
    assert Path(f"{path}-wal").stat().st_size


def test_what_a_crash_leaves_is_not_applied_to_a_backup(
    make: Make, run: Run, path: Path, tmp_path: Path, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        source = make()
        await put(source, a=b"old")
        await source.aclose()
        shutil.copy(path, tmp_path / "backup.db")
        await crashed(path, library)
        os.replace(tmp_path / "backup.db", path)
        source = make()
        assert await stored(source) == {"a": (b"old", 1)}
        assert await put(source, b=b"new") == 2
        await source.aclose()
        whole(path)

    run(main())
    assert "store.db-wal is not applied to the store" in caplog.text
    assert Path(f"{path}-wal-aside").exists()


@pytest.mark.parametrize("known", [True, False])
def test_the_wal_of_another_store_is_not_applied(
    make: Make, run: Run, path: Path, tmp_path: Path, library: str, known: bool
) -> None:
    async def main() -> None:
        source = make()
        await put(source, a=b"1")
        await source.aclose()
        await crashed(tmp_path / "other.db", library)
        shutil.copy(tmp_path / "other.db-wal", f"{path}-wal")
        if not known:
            Path(f"{path}-bell").unlink(missing_ok=True)
        source = make()
        assert await stored(source) == {"a": (b"1", 1)}
        await source.aclose()
        whole(path)

    run(main())


@pytest.mark.parametrize("copied", [False, True])
def test_what_a_crash_leaves_is_recovered(
    make: Make, run: Run, path: Path, tmp_path: Path, library: str, copied: bool
) -> None:
    """Also from a copy of the files, which are others by then."""

    async def main() -> None:
        source = make()
        await put(source, a=b"1")
        await source.aclose()
        await crashed(path, library)
        target = tmp_path / "copied.db" if copied else path
        if copied:
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{target}{suffix}")
        source = make(path=str(target))
        assert len(await stored(source)) == 501
        await source.aclose()
        whole(target)

    run(main())


def test_a_side_file_that_was_deleted_is_claimed_again(
    make: Make, run: Run, path: Path, library: str
) -> None:
    async def main() -> None:
        source = make()
        made = await copy(source, "")
        await put(source, a=b"1")
        bell = Path(f"{path}-bell")
        bell.unlink()
        await until(lambda: bell.exists() and bell.read_bytes()[1:].strip())
        for suffix in ("-wal", "-shm"):
            os.unlink(f"{path}{suffix}")
        told = list(
            map(int, (await asyncio.to_thread(finish, process(path, library, WRITES))).split())
        )
        assert told == list(range(2, 22))
        assert len(await stored(source)) == 21
        await made.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM log", "DELETE FROM meta", "UPDATE log SET nonce = 'x'", "DROP TABLE kv"],
)
def test_a_store_that_lost_its_head_is_a_bad_store(
    make: Make, run: Run, path: Path, library: str, damage: str
) -> None:
    async def main() -> None:
        source = make()
        await put(source, a=b"1")
        await source.aclose()
        connection = load_driver(library).connect(str(path), "rw")
        connection.run(damage)
        connection.close()
        source = make()
        with pytest.raises(BadStore) as raised:
            await source.open([""])
        assert "\n" not in str(raised.value)
        with pytest.raises(BadStore):
            await put(source, a=b"2")
        await source.aclose()

    run(main())


def test_what_is_overwritten_in_place_is_a_bad_store_until_it_is_restored(
    make: Make, run: Run, path: Path, tmp_path: Path
) -> None:
    """Nobody can tell that it happens; but what finds the damage ends all sessions,
    and the way out works.
    """

    async def main() -> None:
        source = make()
        await source.commit([Put(f"k/{n}", b"x" * 1000) for n in range(1000)])
        await source.backup(str(tmp_path / "backup.db"), lambda *_: None)
        await source.aclose()
        sync = DataSync(source)
        reasons: list[str] = []

        @sync.watcher("")
        async def everything(event: ResyncEvent[bytes] | ChangeEvent[bytes]) -> None:
            if isinstance(event, ResyncEvent):
                reasons.append(event.reason)

        async with sync:
            await sync.ready(DEADLINE)
            await asyncio.to_thread(subprocess.check_call, ["truncate", "-s", "16384", path])
            with pytest.raises(BadStore, match="datasync restore"):
                await sync.get("k/500")
            await until(lambda: sync.status().sources[0].state == "lost")
            await until(lambda: "damaged" in str(sync.status().sources[0].error))
            with pytest.raises(BadStore):
                await sync.put("k/500", b"never")
            path.rename(tmp_path / "damaged.db")
            other = make()
            await other.restore(str(tmp_path / "backup.db"), lambda *_: None)
            await other.aclose()
            await until(lambda: sync.status().sources[0].state == "following" and len(reasons) > 1)
            assert "history" in reasons[-1]
            assert await sync.get("k/500") is not None
            await sync.put("k/500", b"again")
        whole(path)

    run(main())
