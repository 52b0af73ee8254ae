"""Real edits by real tools: each is one event, no half of a file is taken for the whole, and the
trace of it all holds."""

from __future__ import annotations

import asyncio
import functools
import os
import pathlib
import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from datasync.testing.contract.waiting import eventually
from tests.helpers.files import SECONDS, Followed, in_loop, swapped
from tests.helpers.servers import require

NET, DNS = "mtu: 1500\nname: eth0\n", 'server = "::1"\n'
START = {"net/mtu": b"1500", "net/name": b"eth0", "dns/server": b"::1"}


@pytest.fixture
def etc(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "net.yaml").write_text(NET)
    (directory / "dns.toml").write_text(DNS)
    return directory


def followed(etc: pathlib.Path) -> Followed:
    return Followed(
        f"file://{etc}/?settle=0.5"
    )  # longer than a tool is kept waiting between two files


def tool(*command: str | pathlib.Path, stdin: str = "") -> Callable[[], object]:
    environment = {**os.environ, "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null"}
    return lambda: subprocess.run(
        command, input=stdin, text=True, check=True, capture_output=True, env=environment
    )


@pytest.mark.parametrize("copy", ["auto", "no", "yes"])
@in_loop
async def test_vim(etc: pathlib.Path, copy: str) -> None:
    """It writes in place, or renames the old file to the backup and writes another one."""
    require("vim", "apt-get install vim")
    options = (
        f"set nocompatible swapfile backup writebackup backupdir=. backupskip= backupcopy={copy}"
    )
    async with followed(etc).running(START) as files:
        for mtu in ("9000", "1400"):
            edit = tool(
                "vim", "-u", "NONE", "-es", "-c", options,
                "-c", f"%s/mtu: .*/mtu: {mtu}/", "-c", "wq", etc / "net.yaml",
            )  # fmt: skip
            await files.edit({"net/mtu": mtu.encode()}, edit)
    assert (etc / "net.yaml~").exists()


@in_loop
async def test_ed(etc: pathlib.Path) -> None:
    require("ed", "apt-get install ed")
    async with followed(etc).running(START) as files:
        edit = tool("ed", "-s", etc / "net.yaml", stdin=",s/1500/9000/\nw\nq\n")
        await files.edit({"net/mtu": b"9000"}, edit)


@in_loop
async def test_sed(etc: pathlib.Path) -> None:
    """It replaces one file after the other: together they are one event."""
    async with followed(etc).running(START) as files:
        edit = tool(
            "sed", "-i", "-e", "s/1500/9000/;s/::1/::2/", etc / "net.yaml", etc / "dns.toml"
        )
        await files.edit({"net/mtu": b"9000", "dns/server": b"::2"}, edit)
        await files.edit({"net/mtu": b"1400"}, tool("sed", "-i", "s/9000/1400/", etc / "net.yaml"))


@in_loop
async def test_git_checkout(etc: pathlib.Path) -> None:
    require("git", "apt-get install git")

    def git(*words: str) -> Callable[[], object]:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        return tool("git", "-C", etc, *who, *words)

    for words in (["init", "-q", "-b", "one"], ["add", "."], ["commit", "-qm", "one"]):
        git(*words)()
    git("checkout", "-qb", "two")()
    (etc / "net.yaml").write_text("mtu: 9000\nname: eth0\n")
    (etc / "dns.toml").unlink()
    (etc / "log.env").write_text("LEVEL=debug\n")
    for words in (["add", "."], ["commit", "-qam", "two"], ["checkout", "-q", "one"]):
        git(*words)()

    async with followed(etc).running(START) as files:
        two = {"net/mtu": b"9000", "dns/server": None, "log/LEVEL": b"debug"}
        one = {"net/mtu": b"1500", "dns/server": b"::1", "log/LEVEL": None}
        for _ in range(2):
            await files.edit(two, git("checkout", "-q", "two"))
            await files.edit(one, git("checkout", "-q", "one"))


@in_loop
async def test_swaps_as_kubernetes_makes_them(tmp_path: pathlib.Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    swapped(etc, {"net.yaml": NET, "dns.toml": DNS})
    async with followed(etc).running(START) as files:
        for mtu in ("9000", "1400"):
            new = {"net.yaml": NET.replace("1500", mtu), "dns.toml": DNS.replace("1", mtu[0])}
            changes: dict[str, bytes | None] = {"net/mtu": mtu.encode()}
            changes["dns/server"] = f"::{mtu[0]}".encode()
            await files.edit(changes, functools.partial(swapped, etc, new))
        gone = {"net.yaml": "mtu: 1400\n", "log.env": "LEVEL=debug\n"}
        changes = {"net/name": None, "dns/server": None, "log/LEVEL": b"debug"}
        await files.edit(changes, lambda: swapped(etc, gone))


@pytest.mark.parametrize("how", [[], ["--inplace"], ["--delay-updates"]])
@in_loop
async def test_rsync(etc: pathlib.Path, how: list[str]) -> None:
    require("rsync", "apt-get install rsync")
    other = etc.parent / "other"
    other.mkdir()
    (other / "net.yaml").write_text("mtu: 9000\nname: eth0\n")
    (other / "log.env").write_text("LEVEL=debug\n")
    os.utime(other / "net.yaml", (1, 1))  # it brings the times of files along
    async with followed(etc).running(START) as files:
        edit = tool("rsync", "-a", "--delete", *how, f"{other}/", f"{etc}/")
        changes = {"net/mtu": b"9000", "dns/server": None, "log/LEVEL": b"debug"}
        await files.edit(changes, edit)


@in_loop
async def test_a_file_that_is_written_slowly_is_not_read_before_its_end(etc: pathlib.Path) -> None:
    """Truncated first, then written line by line with pauses that are longer than `settle`: each
    half would parse."""
    program = """
import sys, time
with open(sys.argv[1], "w") as file:
    for line in ("", "mtu: 9000\\n", "name: eth1\\n", "up: true\\n"):
        file.write(line)
        file.flush()
        time.sleep(1.0)
"""
    async with followed(etc).running(START) as files:
        edit = tool(sys.executable, "-c", program, etc / "net.yaml")
        await files.edit({"net/mtu": b"9000", "net/name": b"eth1", "net/up": b"true"}, edit)


@in_loop
async def test_files_that_one_edit_touches_come_together(etc: pathlib.Path) -> None:
    """With pauses shorter than `settle`, whatever is written first."""
    program = """
import os, sys, time
for number in range(20):
    open(f"{sys.argv[1]}/part{number}.yaml", "w").write(f"number: {number}\\n")
    time.sleep(0.02)
"""
    async with followed(etc).running(START) as files:
        added: dict[str, bytes | None] = {f"part{n}/number": b"%d" % n for n in range(20)}
        await files.edit(added, tool(sys.executable, "-c", program, etc))


@in_loop
async def test_a_link_to_another_version_of_the_whole_is_one_event(tmp_path: pathlib.Path) -> None:
    for name, mtu in (("1", "1500"), ("2", "9000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.yaml").write_text(f"mtu: {mtu}\nname: eth0\n")
        (tmp_path / name / "dns.toml").write_text(f'server = "::{name}"\n')

    def lead(name: str) -> None:
        (tmp_path / "new").symlink_to(name)
        (tmp_path / "new").replace(tmp_path / "etc")

    lead("1")
    async with followed(tmp_path / "etc").running(START) as files:
        two = {"net/mtu": b"9000", "dns/server": b"::2"}
        await files.edit(two, lambda: lead("2"))
        await files.edit({"net/mtu": b"1500", "dns/server": b"::1"}, lambda: lead("1"))


@in_loop
async def test_no_swap_is_ever_seen_in_halves(tmp_path: pathlib.Path) -> None:
    """While versions are swapped as fast as can be, what is seen is always of one version."""
    names = [f"part{number}.yaml" for number in range(8)]

    def version(number: int) -> dict[str, str]:
        return dict.fromkeys(names, f"version: {number}\n")

    swapped(tmp_path, version(0))
    start = {f"{name.removesuffix('.yaml')}/version": b"0" for name in names}
    files = Followed(f"file://{tmp_path}/?settle=0.005&poll=0.003")
    rng = random.Random(1)
    async with files.running(start):
        for number in range(1, 120):
            files.wanted = dict.fromkeys(start, b"%d" % number)
            files.recorder.committed(files.name, files.wanted)
            await asyncio.to_thread(swapped, tmp_path, version(number))
            await asyncio.sleep(rng.random() * 0.04)
            assert len(set(files.state.values())) == 1
        await eventually(lambda: files.state == files.wanted, SECONDS)
    assert len(files.events) > 3
    for event in files.events:
        assert {change.key for change in event.changes} == set(start)
        assert len({change.raw for change in event.changes}) == 1
