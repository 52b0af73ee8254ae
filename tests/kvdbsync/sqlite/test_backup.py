"""Backup and restore, while others read and write."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import datasync
from datasync import DataSync
from datasync.errors import BadStore, Conflict, Disconnected, HistoryLost, UsageError
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite import backup as _sqlite_backup
from datasync.source import Check, Put
from tests.helpers.sqlite.sqlite_tools import (
    DEADLINE,
    copy,
    finish,
    line,
    process,
    put,
    stored,
    until,
)

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

TOGETHER = """
from datasync.errors import Disconnected
say("ready")
turn = 0
while not os.path.exists(path + ".stop"):
    turn += 1
    try:
        await source.commit([Put("k/%d" % n, b"%d" % turn) for n in range(100)])
    except Disconnected:
        pass
"""


def ignore(done: int, total: int) -> None:
    del done, total


def leftovers(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if ".part" in name]


def test_a_backup_is_the_state_of_one_moment(
    make: Make, run: Run, path: Path, tmp_path: Path, library: str
) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put(f"fixed/{n}", b"x" * 1000) for n in range(5000)])
        writer = process(path, library, TOGETHER)
        await line(writer)
        made = await copy(source, "k/")
        reports: list[tuple[int, int]] = []
        for turn in range(5):
            await made.reach((made.revision or 0) + 5)
            target = tmp_path / f"backup{turn}.db"
            size = await source.backup(str(target), lambda *report: reports.append(report))
            assert size == target.stat().st_size
            assert reports
            assert stat.S_IMODE(target.stat().st_mode) == 0o600
            kept = make(path=str(target), immutable=True)
            found = await stored(kept)
            await kept.aclose()
            assert len(found) == 5100
            assert len({value for key, value in found.items() if key.startswith("k/")}) == 1
        Path(f"{path}.stop").touch()
        await asyncio.to_thread(finish, writer)
        assert not leftovers(tmp_path)
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_a_restore_is_a_new_history_for_all(
    make: Make, run: Run, path: Path, tmp_path: Path, library: str
) -> None:
    """While another process writes without pause, whose transactions are seen
    whole or not at all.
    """

    async def main() -> None:
        source = make()
        await source.commit([Put(f"k/{n}", b"backed up") for n in range(100)])
        await put(source, only__before=b"1")
        await source.backup(str(tmp_path / "backup.db"), ignore)
        writer = process(path, library, TOGETHER)
        await line(writer)
        made = await copy(source, "")
        await made.reach(20)
        keys, revision = await source.restore(str(tmp_path / "backup.db"), ignore)
        assert keys == 101
        assert revision > 20
        with pytest.raises(HistoryLost) as lost:
            await made.reach(revision)
        assert lost.value.changed
        assert made.revision is not None
        assert made.revision < revision
        again = await copy(source, "")
        assert again.history != made.history
        assert (again.revision or 0) >= revision
        assert len({raw for key, (raw, _) in again.data.items() if key.startswith("k/")}) == 1
        await again.reach(revision + 5)
        Path(f"{path}.stop").touch()
        await asyncio.to_thread(finish, writer)
        for each in (made, again):
            await each.session.aclose()
        await source.aclose()

    run(main())


def test_a_revision_of_before_is_never_that_of_something_else(
    make: Make, run: Run, path: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        source = make()
        await put(source, a=b"1", b=b"1")
        await source.backup(str(tmp_path / "backup.db"), ignore)
        later = await put(source, a=b"2")
        _, revision = await source.restore(str(tmp_path / "backup.db"), ignore)
        assert revision == later + 1
        assert await stored(source) == {"a": (b"1", 1), "b": (b"1", 1)}
        with pytest.raises(Conflict):
            await source.commit([Check("a", later), Put("a", b"3")])
        assert (await source.commit([Check("b", 1), Put("b", b"3")])).revision == revision + 1
        await source.aclose()

    run(main())


def test_watches_get_a_resync_that_says_so(path: Path, tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        events: list[Any] = []
        sync = DataSync(f"sqlite:///{path}")

        @sync.watcher("")
        async def everything(event: Any) -> None:
            events.append(event)

        async with sync:
            await sync.ready(DEADLINE)
            await sync.put("a", b"1")
            other = SqliteSource(str(path))
            await other.backup(str(tmp_path / "backup.db"), ignore)
            await sync.put("a", b"2")
            await sync.put("b", b"2", confirm=True)
            await other.restore(str(tmp_path / "backup.db"), ignore)
            await until(lambda: isinstance(events[-1], datasync.ResyncEvent) and len(events) > 1)
            assert "history" in events[-1].reason
            assert {(change.op, change.key) for change in events[-1].changes} == {
                (datasync.Op.PUT, "a"),
                (datasync.Op.DELETE, "b"),
            }
            await other.aclose()

    run(main())


@pytest.mark.parametrize("exists", [True, False])
def test_a_restore_makes_a_store(
    make: Make, run: Run, path: Path, tmp_path: Path, exists: bool
) -> None:
    async def main() -> None:
        other = make(path=str(tmp_path / "other.db"))
        await put(other, a=b"1")
        await other.backup(str(tmp_path / "backup.db"), ignore)
        made = await copy(other, "")
        await made.session.aclose()
        await other.aclose()
        source = make()
        if exists:
            await put(source, b=b"1")
        assert await source.restore(str(tmp_path / "backup.db"), ignore) == (1, 2)
        assert await stored(source) == {"a": (b"1", 1)}
        assert exists or stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(HistoryLost) as lost:
            await source.open([""], made.position)
        assert lost.value.changed
        await source.aclose()
        assert not leftovers(tmp_path)

    run(main())


def test_what_is_cancelled_leaves_nothing(
    make: Make, run: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite_backup, "_REPORT_EVERY", 0.001)

    async def main() -> None:
        source = make()
        await source.commit([Put(f"k/{n}", b"x" * 100) for n in range(20_000)])
        await source.backup(str(tmp_path / "backup.db"), ignore)
        revision = await put(source, after=b"1")
        before = set(os.listdir(tmp_path))
        for work, name in ((source.backup, "second.db"), (source.restore, "backup.db")):
            began = asyncio.Event()
            begun = asyncio.create_task(work(str(tmp_path / name), lambda *_: began.set()))  # noqa: B023
            await began.wait()
            begun.cancel()
            with pytest.raises(asyncio.CancelledError):
                await begun
            assert set(os.listdir(tmp_path)) == before
            assert await source.get("after") == (b"1", revision)
        await source.aclose()

    run(main())


def test_what_is_no_backup_is_refused(make: Make, run: Run, path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put(f"k/{n}", b"x" * 100) for n in range(1000)])
        good = tmp_path / "backup.db"
        await source.backup(str(good), ignore)
        await put(source, k=b"1")
        before = await stored(source)

        damaged = bytearray(good.read_bytes())
        damaged[8192:12288] = b"\xff" * 4096
        (tmp_path / "damaged.db").write_bytes(damaged)
        (tmp_path / "text.db").write_text("no backup at all\n" * 1000)
        with sqlite3.connect(tmp_path / "foreign.db") as foreign:
            foreign.execute("CREATE TABLE kv(key)")
        foreign.close()
        (tmp_path / "empty.db").touch()
        for name in ("damaged.db", "text.db", "foreign.db", "empty.db", "missing.db"):
            with pytest.raises(BadStore) as raised:
                await source.restore(str(tmp_path / name), ignore)
            assert name in str(raised.value)
            assert "\n" not in str(raised.value)
        in_use = make(path=str(tmp_path / "used.db"))
        await put(in_use, k=b"1")
        with pytest.raises(BadStore, match="in use"):
            await source.restore(str(tmp_path / "used.db"), ignore)
        await in_use.aclose()
        for call in (source.restore, source.backup):
            with pytest.raises(UsageError, match="the store itself"):
                await call(str(path), ignore)
        with pytest.raises(UsageError, match="is not a file"):
            await source.backup(str(tmp_path), ignore)
        assert await stored(source) == before
        await source.aclose()

    run(main())


LOCK = """
import contextlib, sqlite3
with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
    holder.execute("BEGIN IMMEDIATE")
    say("locked")
    sys.stdin.read(1)
"""


def test_a_restore_waits_for_a_lock_no_longer_than_a_write(
    make: Make, run: Run, path: Path, tmp_path: Path, library: str
) -> None:
    async def main() -> None:
        source = make(lock_timeout=0.1)
        await put(source, k=b"1")
        await source.backup(str(tmp_path / "backup.db"), ignore)
        holder = process(path, library, LOCK, stdin=asyncio.subprocess.PIPE)
        assert await line(holder) == "locked"
        with pytest.raises(Disconnected, match="locked by another process"):
            await source.restore(str(tmp_path / "backup.db"), ignore)
        await asyncio.to_thread(holder.communicate, "\n", DEADLINE)
        await source.aclose()

    run(main())
