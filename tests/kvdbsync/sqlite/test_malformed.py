"""Rows that cannot be shown, by another program or a flipped bit: skipped, said once,
and deleted with the prefix.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync import DataSync
from datasync.errors import HistoryLost
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.source import Delete, Put
from tests.helpers.sqlite.sqlite_tools import DEADLINE, copy, put, stored, until

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        for statement in statements:
            other.execute(statement)
        other.commit()


def flip_the_type(path: Path) -> None:
    """One bit: the row stays where it is, though its key sorts behind all texts by now."""
    data = bytearray(path.read_bytes())
    header = bytes([5, 13 + 2 * len("cfg/b")])
    at = [
        n
        for n in range(len(data))
        if data[n : n + 2] == header and data[n + 5 :].startswith(b"cfg/b")
    ]
    assert len(at) == 1
    data[at[0] + 1] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "type": lambda path: execute(path, "UPDATE kv SET key = CAST(key AS BLOB) WHERE key = 'cfg/b'"),
    "bit": flip_the_type,
    "utf8": lambda path: execute(
        path, "UPDATE kv SET key = CAST(x'6366672f62ff' AS TEXT) WHERE key = 'cfg/b'"
    ),
    "value": lambda path: execute(path, "UPDATE kv SET value = 'a text' WHERE key = 'cfg/b'"),
    "bytes": lambda path: execute(
        path, "UPDATE kv SET value = CAST(x'ff' AS TEXT) WHERE key = 'cfg/b'"
    ),
}


async def prepared(make: Make, path: Path, damage: str) -> SqliteSource:
    source = make()
    await put(source, cfg__a=b"1", cfg__b=b"2", cfg__c=b"3", other__x=b"4")
    await source.aclose()
    DAMAGES[damage](path)
    return make()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_row_that_cannot_be_shown_is_skipped_and_said_once(
    make: Make, run: Run, path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        source = await prepared(make, path, damage)
        for _ in range(2):
            for scopes, keys in (
                ([""], {"cfg/a", "cfg/c", "other/x"}),
                (["cfg/"], {"cfg/a", "cfg/c"}),
                (["cfg/a", "cfg/b", "cfg/c", "other/"], {"cfg/a", "cfg/c", "other/x"}),
            ):
                made = await copy(source, *scopes)
                assert set(made.data) == keys
                await made.session.aclose()
            assert set(await stored(source)) == {"cfg/a", "cfg/c", "other/x"}
            assert list(await stored(source, "cfg/")) == ["cfg/a", "cfg/c"]
            names, _ = await source.page("cfg/", None, 1, keys_only=True)
            assert [name for name, _, _ in names] == ["cfg/a"]
            assert await source.get("cfg/a") == (b"1", 1)
            assert await source.get("cfg/b") is None
            assert await source.get("cfg/c") == (b"3", 1)
        # following goes on beside it
        made = await copy(source, "cfg/")
        await put(source, cfg__a=b"5")
        await made.reach(2)
        await made.session.aclose()
        await source.aclose()

    run(main())
    said = [record.getMessage() for record in caplog.records if "is skipped" in record.getMessage()]
    assert len(said) == 1, said
    assert "cfg/b" in said[0]
    assert "datasync del --raw" in said[0]


@pytest.mark.parametrize("prefix", ["cfg/", ""])
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_prefix_above_takes_it_along(
    make: Make, run: Run, path: Path, damage: str, prefix: str
) -> None:
    async def main() -> None:
        source = await prepared(make, path, damage)
        made = await copy(source, "")
        assert (await source.commit([Delete(prefix, prefix=True)])).existed == [True]
        await made.reach(2)
        assert set(made.data) == ({"other/x"} if prefix else set())
        await put(source, last=b"1")
        await made.reach(3)
        await made.session.aclose()
        await source.aclose()

    run(main())
    with contextlib.closing(sqlite3.connect(path)) as other:
        keys = [key for (key,) in other.execute("SELECT CAST(key AS BLOB) FROM kv")]
    assert sorted(keys) == ([b"last", b"other/x"] if prefix else [b"last"])


@pytest.mark.parametrize("damage", ["type", "utf8"])
def test_one_that_stands_alone_is_deleted_with_its_prefix(
    make: Make, run: Run, path: Path, damage: str
) -> None:
    """No watch has ever seen it, so none sees it go."""

    async def main() -> None:
        source = await prepared(make, path, damage)
        await source.commit([Delete("cfg/a"), Delete("cfg/c")])
        made = await copy(source, "")
        assert (await source.commit([Delete("cfg/", prefix=True)])).existed == [True]
        await put(source, last=b"1")
        await made.reach(4)
        assert [commit.revision for commit in made.commits] == [4]
        assert (await source.commit([Delete("cfg/", prefix=True)])).existed == [False]
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_it_expires_too(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        source = make()
        await source.commit([Put("cfg/b", b"2", ttl=0.01), Put("cfg/c", b"3", ttl=600)])
        await source.aclose()
        execute(
            path,
            "UPDATE kv SET key = CAST(key AS BLOB) WHERE key = 'cfg/b'",
            "INSERT INTO kv VALUES('cfg/d', x'00', 1, 'no number')",
        )
        source = make()
        made = await copy(source, "")
        await put(source, short=b"1")
        await source.commit([Put("short", b"1", ttl=0.01)])
        await made.see_end_of("short")
        assert set(made.data) == {"cfg/c", "cfg/d"}
        await made.session.aclose()
        await source.aclose()

    run(main())
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM kv WHERE typeof(key) = 'blob'").fetchone() == (
            0,
        )


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE log SET nonce = 'x' WHERE revision = 2",
        "UPDATE log SET changes = 'a text' WHERE revision = 2",
        "UPDATE log SET changes = NULL WHERE revision = 2",
    ],
)
def test_a_malformed_log_costs_a_snapshot(make: Make, run: Run, path: Path, damage: str) -> None:
    """What the store holds now is whole; only the way to it is not."""

    async def main() -> None:
        source = make()
        made = await copy(source, "")
        await made.session.aclose()
        for value in (b"1", b"2", b"3"):
            await put(source, k=value)
        await source.aclose()
        execute(path, damage)
        source = make()
        again = await copy(source, "", resume=made.position)
        with pytest.raises(HistoryLost, match="revision 2 of the log is malformed"):
            await again.reach(3)
        await again.session.aclose()
        made = await copy(source, "")
        await put(source, k=b"4")
        await made.reach(4)
        await made.session.aclose()
        await source.aclose()

    run(main())


def test_damage_is_shown(path: Path, run: Run) -> None:
    """While it is open: whatever a watch stands at, it does not look as if it followed."""

    async def main() -> None:
        source = SqliteSource(str(path))
        sync = DataSync(source)

        @sync.watcher("")
        async def everything(event: Any) -> None:
            del event

        async with sync:
            await sync.ready(DEADLINE)
            await sync.put("k", b"1")
            file = source._file
            assert file is not None
            assert file.writer is not None
            writer: Any = file.writer
            writer._committer._connection.run("UPDATE log SET nonce = 'x'")
            file.follower.wake()

            def is_shown() -> bool:
                shown = sync.status().sources[0]
                return shown.state == "lost" and "datasync restore" in str(shown.error)

            # at first the session may only miss its position, and who asks whether it is up to date
            # may find the damage a moment before the session does
            await until(is_shown)

    run(main())
