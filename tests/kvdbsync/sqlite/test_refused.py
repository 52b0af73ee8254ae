"""URLs and files: what is accepted, what is made, and what is refused with a way out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from datasync.errors import BadStore, BadUrl, Disconnected, UnsupportedOption
from datasync.kvdbsync.sqlite import SqliteSource
from datasync.mounts import remote_kind
from datasync.source import Put
from datasync.transports import open_url
from tests.helpers.sqlite.sqlite_tools import DEADLINE, copy, finish, line, process, put

Make = Callable[..., SqliteSource]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def refused(source: SqliteSource, words: str, error: type[Exception] = BadStore) -> None:
    """Opening fails with one line that has the words."""
    with pytest.raises(error, match=words) as raised:
        await source.open([""])
    assert "\n" not in str(raised.value)
    with pytest.raises(error, match=words):
        await source.commit([Put("k", b"v")])
    await source.aclose()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///file.db", "{cwd}/file.db"),
        ("sqlite:///sub/file.db", "{cwd}/sub/file.db"),
        ("sqlite:////abs/file.db", "/abs/file.db"),
        ("sqlite:///a%20b%3F.db?keep=5&sync=full", "{cwd}/a b?.db"),
    ],
)
def test_urls(url: str, path: str) -> None:
    source = open_url(url)
    assert isinstance(source, SqliteSource)
    assert source._path == path.format(cwd=os.getcwd())
    assert source.name == url.split("?")[0].replace("%20", " ").replace("%3F", "?")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite://file.db",
        "sqlite://host/file.db",
        "sqlite:///:memory:",
        "sqlite:///dir/",
        "sqlite:///a%00b",
        "sqlite:///f.db?keep=0",
        "sqlite:///f.db?keep=many",
        "sqlite:///f.db?sync=off",
        "sqlite:///f.db?immutable=maybe",
        "sqlite:///f.db?unknown=1",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(BadUrl) as raised:
        open_url(url)
    assert "\n" not in str(raised.value)


def test_capabilities_say_what_can_be_written() -> None:
    assert open_url("sqlite:///f.db").capabilities.writable
    assert not open_url("sqlite:///f.db?immutable=1").capabilities.writable


def test_what_is_no_store_is_refused_and_left_alone(make: Make, run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        await refused(make(path=str(tmp_path / "missing" / "store.db")), "mkdir -p")
        await refused(make(path=str(tmp_path)), "is a directory")
        await refused(make(path="/dev/null"), "is a device")
        text = tmp_path / "text.db"
        text.write_bytes(b"this is a text, and a long one at that\n" * 100)
        await refused(make(path=str(text)), "not an SQLite file")
        assert text.read_bytes().startswith(b"this is a text")
        foreign = tmp_path / "foreign.db"
        with contextlib.closing(sqlite3.connect(foreign)) as other:
            other.execute("CREATE TABLE kv(key)")
        before = foreign.read_bytes()
        await refused(make(path=str(foreign)), "another program")
        assert foreign.read_bytes() == before

    run(main())


def test_a_newer_format_is_refused(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"v")
        await source.aclose()
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA user_version=2")
        await refused(make(), "format 2.*pip install -U datasync")

    run(main())


def test_an_empty_file_becomes_a_store(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        path.touch()
        source = make()
        assert await put(source, k=b"v") == 1
        await source.aclose()

    run(main())


def test_an_empty_file_is_no_store_to_read(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        path.touch()
        source = make()
        source.create = False
        await refused(source, "is empty, so it is not a store")
        assert path.stat().st_size == 0

    run(main())


def test_a_store_that_is_being_put_back_is_not_begun_anew(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"v")
        path.rename(path.with_suffix(".away"))
        path.touch()  # copying it back has just begun
        for _ in range(2):
            with pytest.raises(
                Disconnected, match=r"is empty now; put its content back|is gone|other file"
            ):
                await source.get("k")
        assert path.stat().st_size == 0
        path.unlink()
        path.with_suffix(".away").rename(path)
        found = await source.get("k")
        assert found is not None
        assert found[0] == b"v"
        await source.aclose()

    run(main())


def test_who_only_reads_makes_no_store(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        source = make()
        source.create = False
        with pytest.raises(BadStore, match="there is no file"):
            await source.get("k")
        assert not path.exists()
        await source.aclose()

    run(main())


def test_network_file_systems_are_known() -> None:
    mounts = "\n".join(
        [
            "rootfs / rootfs rw 0 0",
            "/dev/sda1 / ext4 rw 0 0",
            "server:/export /mnt/nfs nfs4 rw 0 0",
            "u@h:/ /mnt/with\\040space fuse.sshfs rw 0 0",
            "/dev/sdb /mnt/nfs/local ext4 rw 0 0",
            "//h/s /mnt/smb cifs rw 0 0",
            "x /mnt/fuse fuse.bindfs rw 0 0",
            "garbage",
        ]
    )
    assert remote_kind("/home/f.db", mounts) is None
    assert remote_kind("/mnt/nfs/f.db", mounts) == "nfs4"
    assert remote_kind("/mnt/nfsx/f.db", mounts) is None
    assert remote_kind("/mnt/nfs/local/f.db", mounts) is None
    assert remote_kind("/mnt/with space/f.db", mounts) == "fuse.sshfs"
    assert remote_kind("/mnt/smb/a/f.db", mounts) == "cifs"
    assert remote_kind("/mnt/fuse/f.db", mounts) is None
    assert remote_kind("/f.db", "") is None


def test_a_network_file_system_is_refused(
    make: Make, run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        await refused(make(), "nfs.*local disk")
        assert not path.exists()

    monkeypatch.setattr("datasync.kvdbsync.sqlite.opened._mounts", lambda: "s:/ / nfs rw 0 0")
    run(main())


def test_one_library_and_one_set_of_options_on_a_file(make: Make, run: Run) -> None:
    pytest.importorskip("apsw")

    async def main() -> None:
        source = make()
        await put(source, k=b"v")
        other = {"apsw": "sqlite3", "sqlite3": "apsw"}[source._library.name]
        for options in ({"library": other}, {"keep": 5}, {"sync": "full"}):
            second = make(**options)
            with pytest.raises(UnsupportedOption, match=f"{next(iter(options))}|driver"):
                await second.get("k")
            await second.aclose()
        second = make()
        assert await second.get("k") == (b"v", 1)
        await source.aclose()
        assert await second.get("k") == (b"v", 1)
        await second.aclose()
        # once it is closed, the other library may have it
        third = make(library=other)
        assert await third.get("k") == (b"v", 1)
        await third.aclose()

    run(main())


def test_a_hard_link_is_no_second_file(make: Make, run: Run, path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"v")
        os.link(path, tmp_path / "link.db")
        await refused(make(path=str(tmp_path / "link.db")), "hard link")
        await source.aclose()

    run(main())


def test_immutable_reads_and_never_writes(make: Make, run: Run, path: Path) -> None:
    async def main() -> None:
        source = make()
        await put(source, k=b"1")
        wal = make(immutable=True)
        with pytest.raises(UnsupportedOption, match="immutable"):
            await wal.get("k")
        await source.aclose()
        before = sorted(path.parent.iterdir())
        source = make(immutable=True)
        made = await copy(source, "")
        assert made.data == {"k": (b"1", 1)}
        assert await source.get("k") == (b"1", 1)
        with pytest.raises(UnsupportedOption, match="immutable"):
            await source.commit([Put("k", b"2")])
        assert sorted(path.parent.iterdir()) == before
        await made.session.aclose()
        await source.aclose()
        await refused(
            make(immutable=True, path=str(path) + ".none"), "there is no file|immutable", Exception
        )
        # commits that are in the WAL only would be missed
        Path(f"{path}-wal").write_bytes(b"x" * 100)
        with pytest.raises(BadStore, match="-wal holds commits"):
            await make(immutable=True).get("k")

    run(main())


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users can reach, as that of pytest is not."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


READ_ONLY = """
from datasync.errors import DataSyncError
os.setgid(65534); os.setuid(65534)
try:
    say(await source.get("k"))
    session = await source.open([""])
    say("open")
    await session.aclose()
    await source.commit([Put("k", b"2")])
except DataSyncError as error:
    say(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not write")
@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "open_elsewhere", "expected"),
    [
        (0o644, 0o755, False, ["BadStore", "immutable=1"]),
        (0o644, 0o755, True, ["(b'1', 1)", "open", "BadStore", "read-only for this process"]),
        (0o644, 0o777, False, ["(b'1', 1)", "open", "BadStore", "read-only for this process"]),
        (0o666, 0o755, False, ["BadStore", "read-only"]),
        (0o600, 0o755, False, ["BadStore", "access"]),
    ],
)
def test_what_may_not_be_written(
    make: Make,
    run: Run,
    open_directory: Path,
    library: str,
    file_mode: int,
    directory_mode: int,
    open_elsewhere: bool,
    expected: list[str],
) -> None:
    path = open_directory / "store.db"

    async def main() -> None:
        source = make(path=str(path))
        await put(source, k=b"1")
        if not open_elsewhere:
            await source.aclose()
        # those beside it are made with its mode, and keep theirs
        for each in path.parent.glob("store.db*"):
            each.chmod(file_mode)
        path.parent.chmod(directory_mode)
        out = await asyncio.to_thread(finish, process(path, library, READ_ONLY))
        position = -1
        for words in expected:
            position = out.find(words, position + 1)
            assert position >= 0, (words, out)
        await source.aclose()

    run(main())


BECOMES_WRITABLE = """
from datasync.errors import DataSyncError
os.setgid(65534); os.setuid(65534)
session = await source.open([""])
try:
    await source.commit([Put("k", b"2")])
except DataSyncError as error:
    say(type(error).__name__)
sys.stdin.readline()
say((await source.commit([Put("k", b"2")])).revision)
await session.aclose()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not write")
def test_a_store_becomes_writable_when_its_file_does(
    make: Make, run: Run, open_directory: Path, library: str
) -> None:
    path = open_directory / "store.db"

    async def main() -> None:
        source = make(path=str(path))
        await put(source, k=b"1")
        for each in path.parent.glob("store.db*"):
            each.chmod(0o644)
        path.parent.chmod(0o755)
        reader = process(path, library, BECOMES_WRITABLE, stdin=subprocess.PIPE)
        assert await line(reader) == "BadStore"
        for name in open_directory.iterdir():
            name.chmod(0o666)
        path.parent.chmod(0o777)
        out, err = await asyncio.to_thread(reader.communicate, "\n", DEADLINE)
        assert (out, reader.returncode) == ("2\n", 0), err
        await source.aclose()

    run(main())


def test_the_defect_is_said_once(path: Path) -> None:
    pytest.importorskip("apsw")
    body = """
import logging
logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
import datasync.kvdbsync.sqlite.driver as d
d._Standard.version = (3, 40, 1)
for name in ("a", "b"):
    other = SqliteSource(path + name, library="sqlite3")
    await other.get("k")
    await other.aclose()
"""
    out = finish(process(path, "sqlite3", body))
    assert out.count("has a rare defect") == 1
    assert "3.40.1" in out
    assert "pip install 'datasync[sqlite]'" in out
