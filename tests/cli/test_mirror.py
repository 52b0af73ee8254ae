"""mirror: DST stays equal to SRC, whatever happens to either."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import sqlite3

from datasync import ChangeEvent, DataSync
from tests.helpers.command_line import Command, Shell, eventually
from tests.helpers.sqlite.sqlite_tools import take_away

SRC, DST = "sqlite:///src.db", "sqlite:///dst.db"

# Writes the same number under 50 keys, transaction after transaction, until it is killed.
WRITER = """
import asyncio, datasync
async def main():
    async with datasync.DataSync("sqlite:///src.db") as sync:
        for number in range(1_000_000):
            txn = sync.txn()
            for key in range(50):
                txn.put(f"all/{key}", b"%d" % number)
            await txn.commit()
            if number == 20:
                print("writing", flush=True)
asyncio.run(main())
"""


def equal(shell: Shell, *under: str) -> bool:
    result = shell.run("diff", SRC, DST, *under)
    return result.code == 0


def test_once(cli: Command, tmp_path: pathlib.Path) -> None:
    cli("put", SRC, "config/a", "1")
    cli("put", SRC, "config/b", "2")
    cli("put", SRC, "other", "3")
    cli("put", DST, "config/b", "old")
    cli("put", DST, "config/extra", "x")
    cli("put", DST, "own", "x")
    result = cli("mirror", SRC, DST, "config/", "--once")
    assert (result.code, result.err) == (0, "")
    assert result.out == "copied: 2 keys, 2 written, 1 deleted\n"
    assert cli("dump", DST).out == (
        '{"key":"config/a","value":"1"}\n{"key":"config/b","value":"2"}\n{"key":"own","value":"x"}\n'
    )
    assert (
        cli("mirror", SRC, DST, "config/", "--once").out == "copied: 2 keys, 0 written, 0 deleted\n"
    )
    assert cli("mirror", SRC, DST, "--once").out == "copied: 3 keys, 1 written, 1 deleted\n"
    assert cli("diff", SRC, DST).code == 0


PROGRESS = '{"agent": "%s", "format": "datasync.progress/1"}'


def test_reports_are_left_where_they_are_unless_asked_for(cli: Command) -> None:
    cli("put", SRC, "config/a", "1")
    cli("put", SRC, "like", '{"datasync.progress/1": "format"}')
    cli("put", SRC, "status/progress/src", PROGRESS % "src")
    cli("put", DST, "status/progress/dst", PROGRESS % "dst")
    assert cli("mirror", SRC, DST, "--once").out == "copied: 2 keys, 2 written, 0 deleted\n"
    assert cli("ls", DST).out == "config/a\nlike\nstatus/progress/dst\n"
    result = cli("mirror", SRC, DST, "--once", "--reports")
    assert result.out == "copied: 3 keys, 1 written, 1 deleted\n"
    assert cli("diff", SRC, DST).code == 0


def test_reports_that_come_later_are_left_where_they_are(shell: Shell) -> None:
    shell.run("put", SRC, "config/a", "1")
    shell.run("put", SRC, "becomes", "1")
    mirror = shell.start("mirror", SRC, DST)
    mirror.wait_for("in step: 2 keys, 2 written, 0 deleted")
    shell.run("put", SRC, "status/progress/src", PROGRESS % "src")
    shell.run("put", DST, "status/progress/dst", PROGRESS % "dst")
    shell.run("put", SRC, "becomes", PROGRESS % "src")
    shell.run("del", SRC, "status/progress/src")
    shell.run("put", SRC, "config/last", "1")
    eventually(lambda: shell.run("get", DST, "config/last").code == 0, "the last key")
    assert shell.run("ls", DST).out == "config/a\nconfig/last\nstatus/progress/dst\n"
    assert mirror.end() == 128 + signal.SIGINT
    assert mirror.out == b"in step: 2 keys, 2 written, 0 deleted\n"


def test_a_source_that_does_not_exist_empties_nothing(cli: Command, tmp_path: pathlib.Path) -> None:
    cli("put", DST, "k", "v")
    for words in (["mirror", SRC, DST, "--once"], ["mirror", SRC, DST]):
        assert "there is no file" in cli(*words).error
    assert cli("get", DST, "k").out == "v\n"
    assert not (tmp_path / "src.db").exists()


def test_a_target_without_transactions(cli: Command, plugin: None) -> None:
    cli("put", SRC, "k", "v")
    result = cli("mirror", SRC, "plain://", "--once")
    assert result.out == "copied: 1 key, 1 written, 0 deleted\n"
    assert result.error == "plain:// has no transactions: the keys are written one by one"


def test_transactions_arrive_whole(shell: Shell, tmp_path: pathlib.Path) -> None:
    (tmp_path / "three.json").write_text(
        '{"config/a": 1, "config/b": 2, "config/c": 3, "other": 4}'
    )
    shell.run("put", SRC, "config/a", "0")
    shell.run("put", DST, "config/old", "0")
    mirror = shell.start("mirror", SRC, DST, "config/")
    mirror.wait_for("in step: 1 key, 1 written, 1 deleted")
    target = shell.start("watch", DST, "--count", "4")
    target.wait_for("PUT config/a  0")
    shell.run("load", SRC, "three.json")
    target.wait_for("config/c")
    shell.run("del", SRC, "-r", "config/")
    target.wait_for("DELETE config/c")
    shell.run("put", SRC, "config/last", "1")
    assert target.wait() == 0
    assert target.out.decode().splitlines()[2:] == [
        "@3 PUT config/a  0 -> 1",
        "   PUT config/b  2",
        "   PUT config/c  3",
        "@4 DELETE config/a  1",
        "   DELETE config/b  2",
        "   DELETE config/c  3",
        "@5 PUT config/last  1",
    ]
    assert mirror.end() == 128 + signal.SIGINT
    assert mirror.err == b""
    assert mirror.out == b"in step: 1 key, 1 written, 1 deleted\n"
    assert not (tmp_path / "dst.db-wal").exists()  # closed


def test_a_writer_killed_in_mid_transaction(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", SRC, "start", "1")
    mirror = shell.start("mirror", SRC, DST)
    mirror.wait_for("in step")

    async def main() -> int:
        seen = 0
        async with DataSync(f"sqlite:///{tmp_path}/dst.db") as sync:
            async for event in sync.watch("whole", "all/"):
                values = (
                    {kv.raw for kv in event.values["all/"]}
                    if not isinstance(event, ChangeEvent)
                    else set()
                )
                if isinstance(event, ChangeEvent):
                    values = {change.raw or b"" for change in event.changes}
                    assert len(event.changes) == 50
                    seen += event.commits
                assert len(values) <= 1  # never half of one
                if seen and writer.process.poll() is None:
                    writer.process.kill()
                    writer.process.wait()
                if seen and await settled(values):
                    return seen
        raise AssertionError

    async def settled(values: set[bytes]) -> bool:
        """Whether that was the last transaction of the writer."""
        async with DataSync(f"sqlite:///{tmp_path}/src.db") as source:
            last = await source.get("all/49")
        assert last is not None
        return values == {last.raw}

    writer = shell.start(python=("-c", WRITER))
    writer.wait_for("writing")

    async def limited() -> int:
        async with asyncio.timeout(100):
            return await main()

    assert asyncio.run(limited()) > 0
    eventually(lambda: equal(shell), "DST equals SRC")
    assert mirror.end() == 130
    assert mirror.err == b""


def test_the_target_lost_and_back(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", SRC, "k", "1")
    shell.run("put", "sqlite:///backup.db", "foreign", "x")
    mirror = shell.start("mirror", SRC, DST)
    mirror.wait_for("in step: 1 key, 1 written, 0 deleted")
    take_away(tmp_path / "dst.db")
    mirror.wait_for("dst.db is gone", err=True)
    shell.run("put", SRC, "meanwhile", "2")
    for path in tmp_path.glob("backup.db*"):
        path.rename(tmp_path / path.name.replace("backup", "dst"))
    mirror.wait_for("in step: 2 keys, 2 written, 1 deleted")
    mirror.wait_for("dst.db: connected again")
    assert equal(shell)
    shell.run("put", SRC, "k", "2")
    eventually(lambda: equal(shell), "DST equals SRC")
    assert mirror.end() == 130


def test_for_scripts(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", SRC, "k", "1")
    shell.run("put", "sqlite:///backup.db", "foreign", "x")
    once = shell.run("mirror", SRC, DST, "--once", "--json")
    assert once.out == '{"op":"copied","keys":1,"written":1,"deleted":0}\n'
    mirror = shell.start("mirror", SRC, DST, "--json")
    mirror.wait_for('{"op":"in_step","keys":1,"written":0,"deleted":0}\n')
    shell.run("put", DST, "other", "1")
    mirror.wait_for('{"op":"put_right","keys":["other"]}\n')
    take_away(tmp_path / "dst.db")
    mirror.wait_for("dst.db is gone", err=True)
    for path in tmp_path.glob("backup.db*"):
        path.rename(tmp_path / path.name.replace("backup", "dst"))
    mirror.wait_for('{"op":"in_step","keys":1,"written":1,"deleted":1}\n')
    mirror.wait_for('{"op":"connected","source":"sqlite:///dst.db"}\n')
    assert mirror.end() == 130


def test_the_source_lost_and_back(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", SRC, "k", "1")
    shell.run("put", "sqlite:///backup.db", "restored", "x")
    mirror = shell.start("mirror", SRC, DST)
    mirror.wait_for("in step: 1 key")
    take_away(tmp_path / "src.db")
    mirror.wait_for("src.db is gone", err=True)
    assert shell.run("get", DST, "k").out == "1\n"  # nothing is emptied while SRC is away
    for path in tmp_path.glob("backup.db*"):
        path.rename(tmp_path / path.name.replace("backup", "src"))
    mirror.wait_for("in step: 1 key, 1 written, 1 deleted")
    mirror.wait_for("src.db: connected again")
    assert equal(shell)
    assert mirror.end(signal.SIGTERM) == 128 + signal.SIGTERM


def test_what_others_write_to_the_target_is_put_right(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", SRC, "config/k", "1")
    mirror = shell.start("mirror", SRC, DST, "config/")
    mirror.wait_for("in step")
    shell.run("put", DST, "config/k", "other")
    mirror.wait_for("put right in DST: config/k\n", times=1)
    shell.run("put", DST, "config/extra", "other")
    mirror.wait_for("put right in DST: config/extra\n")
    shell.run("del", DST, "config/k")
    mirror.wait_for("put right in DST: config/k\n", times=2)
    (tmp_path / "many.json").write_text(
        "{" + ", ".join(f'"config/{number}": 1' for number in range(300)) + "}"
    )
    shell.run("load", DST, "many.json")
    mirror.wait_for("in step: 1 key, 0 written, 300 deleted")
    shell.run("put", DST, "own", "x")
    assert equal(shell, "config/")
    assert shell.run("get", DST, "own").out == "x\n"
    assert mirror.end() == 130


def test_a_target_that_takes_no_writes_for_a_while(shell: Shell, tmp_path: pathlib.Path) -> None:
    shell.run("put", SRC, "k", "1")
    mirror = shell.start("mirror", SRC, DST)
    mirror.wait_for("in step")
    other = sqlite3.connect(tmp_path / "dst.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    shell.run("put", SRC, "k", "2")
    shell.run("put", SRC, "j", "3")
    mirror.wait_for("not in step: ", err=True)
    other.execute("ROLLBACK")
    other.close()
    mirror.wait_for("in step: ", times=2)
    # the second write may have come too late for the try before
    eventually(lambda: equal(shell), "DST equals SRC")
    assert mirror.end() == 130
    assert mirror.err.count(b"\n") == 1
