"""What becomes of a file that is open: moved, replaced, restored, locked, forked."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync.errors import Disconnected, Forked, HistoryLost, WatchClosed
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite import store as _sqlite_store
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
    take_away,
    until,
)

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_symbolic_links_lead_to_the_same_store(
    make: Make, run: Run, path: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        link = tmp_path / "link.db"
        link.symlink_to(path)
        source, linked = make(), make(path=str(link))
        made, direct = await copy(linked, ""), await copy(source, "")
        await put(source, k=b"v")
        await made.reach(1)
        assert linked._file is source._file
        # the link goes elsewhere: its sessions end, others do not
        other = make(path=str(tmp_path / "other.db"))
        await put(other, elsewhere=b"1")
        link.unlink()
        link.symlink_to(tmp_path / "other.db")
        with pytest.raises(Disconnected, match=r"link\.db was replaced"):
            await made.reach(2)
        await put(source, k=b"w")
        await direct.reach(2)
        with pytest.raises(HistoryLost) as lost:
            await linked.open([""], made.position)
        assert lost.value.changed
        assert await linked.get("elsewhere") == (b"1", 1)
        for session in (made.session, direct.session):
            await session.aclose()
        for each in (source, linked, other):
            await each.aclose()

    run(main())


LOCK = """
import contextlib, sqlite3
with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
    holder.execute("BEGIN IMMEDIATE")
    say("locked")
    sys.stdin.read(1)
    holder.execute("ROLLBACK")
"""


def test_a_locked_file(make: Make, run: Run, path: Path, library: str) -> None:
    async def main() -> None:
        source = make(lock_timeout=0.2)
        await put(source, k=b"1")
        made = await copy(source, "")
        holder = process(path, library, LOCK, stdin=subprocess.PIPE)
        assert await line(holder) == "locked"
        outcomes = await asyncio.gather(
            *(source.commit([Put("k", b"2")]) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(outcome, Disconnected) for outcome in outcomes)
        assert "locked by another process" in str(outcomes[0])
        assert await source.get("k") == (b"1", 1)
        await asyncio.to_thread(holder.communicate, "\n", 30)
        assert await put(source, k=b"3") == 2
        await made.reach(2)
        await made.session.aclose()
        await source.aclose()

    run(main())


def begun(source: SqliteSource) -> Callable[[], bool]:
    """Tells whether the writer has asked for the lock since."""
    file = source._file
    assert file is not None
    assert file.writer is not None
    connection: Any = file.writer._committer._connection
    asked: list[str] = []
    run = connection.run

    def noting(sql: str, args: Any = ()) -> Any:
        asked.append(sql)
        return run(sql, args)

    connection.run = noting
    return lambda: "BEGIN IMMEDIATE" in asked


def test_a_writer_waits_for_a_lock(make: Make, run: Run, path: Path, library: str) -> None:
    async def main() -> None:
        source = make(lock_timeout=60)
        await put(source, k=b"1")
        holder = process(path, library, LOCK, stdin=subprocess.PIPE)
        assert await line(holder) == "locked"
        asked = begun(source)
        writing = asyncio.create_task(put(source, k=b"2"))
        await until(asked)
        assert not writing.done()
        await asyncio.to_thread(holder.communicate, "\n", DEADLINE)
        async with asyncio.timeout(DEADLINE):
            assert await writing == 2
        await source.aclose()

    run(main())


def test_closing_does_not_wait_for_a_lock(make: Make, run: Run, path: Path, library: str) -> None:
    async def main() -> None:
        source = make(lock_timeout=600)
        await put(source, k=b"1")
        holder = process(path, library, LOCK, stdin=subprocess.PIPE)
        assert await line(holder) == "locked"
        asked = begun(source)
        writing = asyncio.create_task(source.commit([Put("k", b"2")]))
        await until(asked)
        async with asyncio.timeout(DEADLINE):
            await source.aclose()
            with pytest.raises(WatchClosed):
                await writing
        end(holder)

    run(main())


def test_an_unlinked_file_takes_no_writes(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"1")
        made = await copy(source, "")
        take_away(path)
        with pytest.raises(Disconnected, match="gone"):
            await source.commit([Put("k", b"2")])
        with pytest.raises(Disconnected, match="gone"):
            await made.reach(2)
        with pytest.raises(Disconnected, match="gone"):
            await made.session.ping()
        with pytest.raises(Disconnected, match="gone"):
            await source.open([""], made.position)
        with pytest.raises(Disconnected, match="gone"):
            await source.get("k")
        assert not path.exists()
        await made.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize("inotify", [True, False])
def test_a_session_notices_by_itself_that_its_file_is_gone(
    make: Make, run: Run, path: Path, inotify: bool
) -> None:
    async def main() -> None:
        source = make(inotify=inotify)
        made = await copy(source, "")
        moved = path.with_name("moved.db")
        path.rename(moved)
        with pytest.raises(Disconnected, match="gone"):
            await made.reach(1)
        await made.session.aclose()
        # put back, it is the same history
        moved.rename(path)
        again = await copy(source, "", resume=made.position)
        await put(source, k=b"1")
        await again.reach(1)
        await again.session.aclose()
        await source.aclose()

    run(main())


def test_a_replaced_file_is_a_new_history(make: Make, run: Run, path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        other = make(path=str(tmp_path / "other.db"))
        for _ in range(3):
            await put(other, new=b"1")
        await other.aclose()
        source = make()
        await put(source, old=b"1")
        made = await copy(source, "")
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink()
        os.replace(tmp_path / "other.db", path)
        with pytest.raises(Disconnected, match="replaced"):
            await made.reach(2)
        with pytest.raises(HistoryLost) as lost:
            await source.open([""], made.position)
        assert lost.value.changed
        again = await copy(source, "")
        assert set(again.data) == {"new"}
        assert again.history != made.history
        # closing what is left of the old file must not take away the new one's files
        await put(source, newer=b"2")
        await made.session.aclose()
        await put(source, newest=b"3")
        await again.reach(5)
        await again.session.aclose()
        await source.aclose()
        source = make()
        assert set(await stored(source)) == {"new", "newer", "newest"}
        await source.aclose()

    run(main())


def test_a_file_replaced_while_it_is_opened(
    make: Make, run: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is acknowledged is in the file that the path leads to,
    not in the one that it led to before.
    """
    prepare = _sqlite_store.prepare

    def slow(connection: Any, name: str, *, write: bool) -> None:
        prepare(connection, name, write=write)
        if name == str(path) and (tmp_path / "other.db").exists():
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink()
            os.replace(tmp_path / "other.db", path)

    monkeypatch.setattr("datasync.kvdbsync.sqlite.opened.prepare", slow)

    async def main() -> None:
        other = make(path=str(tmp_path / "other.db"))
        await put(other, new=b"1")
        await other.aclose()
        source = make()
        with pytest.raises(Disconnected, match="replaced"):
            await put(source, k=b"1")
        await put(source, k=b"2")
        await source.aclose()

    run(main())
    with contextlib.closing(sqlite3.connect(path)) as found:
        assert found.execute("SELECT key, revision FROM kv ORDER BY key").fetchall() == [
            ("k", 2),
            ("new", 1),
        ]


def test_a_restored_backup_is_told_apart(make: Make, run: Run, path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"1")
        await source.aclose()
        shutil.copy(path, tmp_path / "backup.db")
        source = make()
        made = await copy(source, "")
        await put(source, k=b"2")
        await put(source, k=b"3")
        await made.reach(3)
        early, late = made.commits[0].position, made.position
        await made.session.aclose()
        await source.aclose()

        shutil.copy(tmp_path / "backup.db", path)
        source._was_open = True
        with pytest.raises(HistoryLost) as lost:
            await source.open([""], late)
        assert lost.value.changed
        # it takes other writes, up to the same revision and beyond
        for value in (b"a", b"b", b"c"):
            await put(source, k=value)
        for position in (early, late):
            with pytest.raises(HistoryLost) as lost:
                await source.open([""], position)
            assert lost.value.changed
        again = await copy(source, "")
        assert again.history != made.history
        third = await copy(source, "")
        assert third.history == again.history
        await again.session.aclose()
        await third.session.aclose()
        await source.aclose()

    run(main())


def test_a_backup_through_the_library_under_a_session(
    make: Make, run: Run, path: Path, tmp_path: Path
) -> None:
    """`sqlite3 .restore` writes the old pages into the file that is open: same inode,
    older history.
    """

    async def main() -> None:
        source = make()
        await put(source, k=b"1")
        await source.aclose()
        shutil.copy(path, tmp_path / "backup.db")
        source = make()
        await put(source, k=b"2")
        made = await copy(source, "")
        code = (
            "import "
            "sqlite3,sys;a=sqlite3.connect(sys.argv[1]);b=sqlite3.connect(sys.argv[2]);a.backup(b);b.close()"
        )
        await asyncio.to_thread(
            subprocess.check_call, [sys.executable, "-c", code, tmp_path / "backup.db", path]
        )
        await put(source, k=b"other")
        with pytest.raises(HistoryLost) as lost:
            await made.reach(3)
        assert lost.value.changed
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_a_vacuumed_backup_works(make: Make, run: Run, path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"1")
        made = await copy(source, "")
        await made.session.aclose()
        await source.aclose()
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute(f"VACUUM INTO '{tmp_path / 'backup.db'}'")
        os.replace(tmp_path / "backup.db", path)
        source = make()
        again = await copy(source, "", resume=made.position)
        await put(source, k=b"2")
        await again.reach(2)
        await again.session.aclose()
        await source.aclose()

    run(main())


def _in_a_fork(source: SqliteSource, path: str, library: str, results: Any) -> None:
    async def main() -> None:
        for attempt in (source, SqliteSource(path, library=library)):
            try:
                await attempt.get("k")
                results.put("worked")
            except Forked as error:
                results.put(str(error))

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_after_a_fork(make: Make, run: Run, path: Path, library: str) -> None:
    context = multiprocessing.get_context("fork")

    async def main() -> None:
        source = make()
        await put(source, k=b"1")
        made = await copy(source, "")
        results = context.Queue()
        child = context.Process(target=_in_a_fork, args=(source, str(path), library, results))
        child.start()
        said = [await asyncio.to_thread(results.get, True, 30) for _ in range(2)]
        await asyncio.to_thread(child.join)
        assert child.exitcode == 0
        assert all("fork" in text for text in said)
        await put(source, k=b"2")
        await made.reach(2)
        await made.session.aclose()
        await source.aclose()

    run(main())
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_interpreter_ends_with_an_open_source(path: Path, library: str) -> None:
    body = """
session = await source.open([""])
await source.commit([Put("k", b"1")])
asyncio.ensure_future(source.commit([Put("k", b"2")]))
await asyncio.sleep(0)
sys.exit(0)
"""
    finish(process(path, library, body))
