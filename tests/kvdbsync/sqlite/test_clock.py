"""TTLs end when their time is over, whatever becomes of the wall clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync.kvdbsync.sqlite import SqliteSource
from datasync.kvdbsync.sqlite import clock as _sqlite_clock
from datasync.source import Put
from tests.helpers.sqlite.sqlite_tools import copy, finish, process, put, stored, until

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Machine:
    """The clocks of this machine, of which the one on the wall can be set,
    and which can be started again.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.running = 0.0
        self.boot = "first"
        wall, running = time.time, _sqlite_clock._running
        monkeypatch.setattr(time, "time", lambda: wall() + self.wall)
        monkeypatch.setattr(_sqlite_clock, "_running", lambda: running() + self.running)
        monkeypatch.setattr(_sqlite_clock, "_boot", lambda: self.boot)

    def restart(self, down: float) -> None:
        """Be off for that many seconds."""
        self.boot += "+"
        self.running -= 100_000.0
        self.wall += down


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


async def known(source: SqliteSource, step: float) -> None:
    """Return once the store knows that the wall clock was set."""
    file = source._file
    assert file is not None
    query = "SELECT value FROM meta WHERE name = 'clock'"
    while True:
        found = await file.follower.call(lambda connection: connection.all(query))
        if found and abs(float(found[0][0].split()[2]) - step) < 1:
            return
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_step_of_the_wall_clock_ends_nothing_early_or_late(
    make: Make, run: Run, machine: Machine, step: float
) -> None:
    async def main() -> None:
        source = make()
        made = await copy(source, "")
        began = time.monotonic()
        await source.commit([Put("short", b"v", ttl=1.0), Put("long", b"v", ttl=1800)])
        machine.wall += step
        await source.commit([Put("later", b"v", ttl=0.5), Put("long too", b"v", ttl=1800)])
        while not {"short", "later"} <= {
            key for commit in made.commits for key, raw in commit.changes if raw is None
        }:
            await made.step()
        assert time.monotonic() - began > 0.95
        assert set(made.data) == {"long", "long too"}
        await made.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_step_while_nobody_has_it_open(
    make: Make, run: Run, machine: Machine, step: float
) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put("short", b"v", ttl=0.1), Put("long", b"v", ttl=1800)])
        await source.aclose()
        machine.wall += step
        source = make()
        made = await copy(source, "")
        while "short" in made.data:
            await made.step()
        assert set(await stored(source)) == {"long"}
        await made.session.aclose()
        await source.aclose()

    run(main())


TTL = """
import time
wall = time.time
time.time = lambda: wall() + float(sys.argv[3])
await source.commit([Put("short", b"v", ttl=0.3), Put("long", b"v", ttl=1800)])
"""


@pytest.mark.parametrize("step", [-3600, 3600])
def test_processes_whose_wall_clocks_differ(
    make: Make, run: Run, path: Path, library: str, step: int
) -> None:
    """One has seen the clock before it was set, and another behind it:
    they mean the same time all the same.
    """

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        await put(source, first=b"1")
        await asyncio.to_thread(finish, process(path, library, TTL, step))
        await made.reach(2)
        while "short" in made.data:
            await made.step()
        assert set(await stored(source)) == {"first", "long"}
        await made.session.aclose()
        await source.aclose()

    run(main())


@pytest.mark.parametrize("step", [0.0, -3600.0, 3600.0])
def test_the_time_that_the_machine_was_off_counts(
    make: Make, run: Run, machine: Machine, step: float
) -> None:
    """Also where the wall clock had been set before."""

    async def main() -> None:
        source = make()
        await source.commit([Put("over", b"v", ttl=100), Put("lasts", b"v", ttl=1000)])
        machine.wall += step
        await known(source, -step)
        await source.aclose()
        machine.restart(down=500)
        source = make()
        made = await copy(source, "")
        while "over" in made.data:
            await made.step()
        assert set(await stored(source)) == {"lasts"}
        await made.session.aclose()
        await source.aclose()
        machine.restart(down=600)
        source = make()
        made = await copy(source, "")
        while made.data:
            await made.step()
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_a_store_from_before_this_clock_existed(make: Make, run: Run, path: Path) -> None:
    """What is stored there is meant by the wall clock."""

    async def main() -> None:
        source = make()
        await put(source, over=b"v", lasts=b"v")
        file = source._file
        assert file is not None
        assert file.writer is not None
        writer: Any = file.writer
        await until(lambda: writer._committer.clock._anchor)
        await source.aclose()
        source = make()
        await source.get("k")
        file = source._file
        assert file is not None
        connection = file.connect(write=True)
        # the writer may be noting its clock just then
        connection.run("PRAGMA busy_timeout = 60000")
        connection.run("DELETE FROM meta WHERE name = 'clock'")
        connection.run("UPDATE kv SET expires = ? WHERE key = 'over'", (time.time() - 10,))
        connection.run("UPDATE kv SET expires = ? WHERE key = 'lasts'", (time.time() + 1000,))
        file.disconnect(connection)
        await source.aclose()
        source = make()
        made = await copy(source, "")
        while "over" in made.data:
            await made.step()
        assert set(made.data) == {"lasts"}
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_a_restored_backup_keeps_what_is_left(
    make: Make, run: Run, machine: Machine, tmp_path: Path
) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put("lasts", b"v", ttl=1000)])
        await source.backup(str(tmp_path / "backup.db"), lambda *_: None)
        machine.wall -= 3600
        await known(source, 3600)
        await source.restore(str(tmp_path / "backup.db"), lambda *_: None)
        other = make(path=str(tmp_path / "other.db"))
        await put(other, a=b"1")
        await other.restore(str(tmp_path / "backup.db"), lambda *_: None)
        for each in (source, other):
            file = each._file
            assert file is not None
            assert file.writer is not None
            writer: Any = file.writer
            expires = await file.follower.call(
                lambda connection: connection.all("SELECT expires FROM kv")[0][0]
            )
            assert 900 < expires - writer._committer.clock.now() <= 1000
            await each.aclose()

    run(main())
