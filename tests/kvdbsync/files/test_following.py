"""What follows files makes of those that are broken, gone, open or too much."""

from __future__ import annotations

import logging
import os
import pathlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from datasync import (
    BadStore,
    BadUrl,
    DataSync,
    Disconnected,
    Layer,
    NotReady,
    UnsupportedOption,
    open_url,
)
from datasync.kvdbsync.files import FilesSource
from datasync.kvdbsync.files.place import Place, Scan
from datasync.status import SourceStatus
from datasync.testing.contract.waiting import eventually
from tests.helpers.files import SECONDS, Followed, in_loop, replace, swapped

SETTLE = 0.05


@pytest.fixture
def etc(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "net.yaml").write_text("mtu: 1500\n")
    return directory


def url(path: pathlib.Path, query: str = "") -> str:
    return f"file://{path}?settle={SETTLE}{query}"


def source(files: Followed) -> SourceStatus:
    return files.sync.status().sources[0]


@asynccontextmanager
async def following(*urls: Any, **options: Any) -> AsyncIterator[tuple[DataSync, dict[str, bytes]]]:
    """A DataSync on these, and the state that a watch of all of it has."""
    state: dict[str, bytes] = {}
    async with DataSync(*urls, **options) as sync:

        @sync.watcher("", name="all")
        async def follow(event: Any) -> None:
            for change in event.changes:
                state.pop(change.key, None)
                if change.raw is not None:
                    state[change.key] = change.raw

        yield sync, state


@in_loop
async def test_a_file_that_does_not_parse_leaves_its_last_good_state(
    etc: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "datasync.files")
    async with Followed(url(etc)).running({"net/mtu": b"1500"}) as files:
        replace(etc / "net.yaml", "mtu: 9000\nname: [\n")
        await eventually(lambda: source(files).error, SECONDS)
        place = f"{etc}/net.yaml, line 3, column 1: "
        assert place in str(source(files).error)
        assert source(files).state == "following"
        assert [place in record.getMessage() for record in caplog.records] == [True]

        # all other files are followed meanwhile
        await files.edit(
            {"log/level": b"debug"}, lambda: replace(etc / "log.toml", "level='debug'")
        )
        mended = {"net/mtu": b"9000", "net/name": b"eth0"}
        await files.edit(mended, lambda: replace(etc / "net.yaml", "mtu: 9000\nname: eth0\n"))
        await eventually(lambda: source(files).error is None, SECONDS)
        assert caplog.records[-1].getMessage().endswith("all files are good again")


@in_loop
async def test_what_is_broken_at_the_start_is_not_ready(etc: pathlib.Path) -> None:
    (etc / "log.json").write_text("{")
    async with following(url(etc)) as (sync, state):
        await eventually(lambda: sync.status().sources[0].error, SECONDS)
        (status,) = sync.status().sources
        assert f"{etc}/log.json, line 1, column 2: " in str(status.error)
        assert str(status.error).endswith("not ready until that is mended")
        assert status.state == "loading"
        with pytest.raises(NotReady, match=r"log\.json, line 1"):
            await sync.get("net/mtu")
        assert sync.watches["all"].state.value == "waiting"
        assert not state

        replace(etc / "log.json", '{"level": "debug"}')
        await sync.ready(SECONDS)
        assert state == {"net/mtu": b"1500", "log/level": b"debug"}
        assert sync.status().watches[0].events == 1


@in_loop
async def test_two_files_that_give_one_key_are_an_error_that_names_both(etc: pathlib.Path) -> None:
    async with Followed(url(etc)).running({"net/mtu": b"1500"}) as files:
        replace(etc / "net.json", '{"mtu": 9000, "name": "eth0"}')
        await eventually(lambda: source(files).error, SECONDS)
        assert f"the key 'net/mtu' is given by both {etc}/net.json and {etc}/net.yaml" in str(
            source(files).error
        )
        assert files.state == {"net/mtu": b"1500"}
        await files.edit(
            {"net/mtu": b"9000", "net/name": b"eth0"}, lambda: (etc / "net.yaml").unlink()
        )
        assert source(files).error is None


@in_loop
async def test_a_directory_that_is_gone_is_a_lost_source(etc: pathlib.Path) -> None:
    async with Followed(url(etc)).running({"net/mtu": b"1500"}) as files:
        etc.rename(etc.parent / "away")
        await eventually(lambda: source(files).state == "lost", SECONDS)
        assert source(files).error == f"{etc}: No such file or directory"
        assert files.state == {"net/mtu": b"1500"}
        with pytest.raises(Disconnected, match="No such file"):
            await files.sync.get("net/mtu")

        new = etc.parent / "new"
        new.mkdir()
        (new / "net.yaml").write_text("name: eth0\n")
        new.rename(etc)
        files.recorder.committed(files.name, {"net/mtu": None, "net/name": b"eth0"})
        files.wanted = {"net/name": b"eth0"}
        await eventually(lambda: files.state == files.wanted, SECONDS)
        assert len(files.events) == 2  # a RESYNC whose changes are what differs
        await eventually(lambda: source(files).state == "following", SECONDS)


@in_loop
async def test_what_is_removed_and_made_again_at_once_was_never_gone(etc: pathlib.Path) -> None:
    def remake() -> None:
        (etc / "net.yaml").unlink()
        etc.rmdir()
        etc.mkdir()
        (etc / "net.yaml").write_text("mtu: 9000\n")

    async with Followed(f"file://{etc}?settle=1").running({"net/mtu": b"1500"}) as files:
        await files.edit({"net/mtu": b"9000"}, remake)
        # the new directory is followed like the old one
        await files.edit({"net/mtu": b"1400"}, lambda: replace(etc / "net.yaml", "mtu: 1400\n"))
        assert source(files).reconnects == 0


@in_loop
async def test_one_file_that_is_deleted_is_a_lost_source(etc: pathlib.Path) -> None:
    async with Followed(url(etc / "net.yaml")).running({"mtu": b"1500"}) as files:
        await files.edit({"mtu": b"9000"}, lambda: replace(etc / "net.yaml", "mtu: 9000\n"))
        (etc / "net.yaml").unlink()
        await eventually(lambda: source(files).state == "lost", SECONDS)
        assert files.state == {"mtu": b"9000"}
        replace(etc / "net.yaml", "mtu: 9000\n")
        await eventually(lambda: source(files).state == "following", SECONDS)


@in_loop
async def test_a_file_that_stays_open_for_writing_holds_up_nobody_for_long(
    etc: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasync.kvdbsync.files.contents._PATIENCE", 0.3)
    monkeypatch.setattr("datasync.kvdbsync.files.contents._LONG", 0.6)
    async with Followed(url(etc)).running({"net/mtu": b"1500"}) as files:
        with (etc / "net.yaml").open("w") as file:
            file.write("mtu: 9")
            file.flush()
            await files.edit({"log/level": b"1"}, lambda: replace(etc / "log.yaml", "level: 1\n"))
            await eventually(lambda: source(files).error, SECONDS)
            assert f"{etc}/net.yaml is being written all the time" in str(source(files).error)
            assert files.state["net/mtu"] == b"1500"
            file.write("000\n")
            await files.edit({"net/mtu": b"9000"}, file.close)
        await eventually(lambda: source(files).error is None, SECONDS)


@in_loop
async def test_where_files_are_polled_they_are_followed_too(tmp_path: pathlib.Path) -> None:
    swapped(tmp_path, {"net.yaml": "mtu: 1500\n"})
    async with Followed(url(tmp_path, "&poll=0.02")).running({"net/mtu": b"1500"}) as files:
        await files.edit(
            {"net/mtu": b"9000"}, lambda: swapped(tmp_path, {"net.yaml": "mtu: 9000\n"})
        )


@in_loop
async def test_on_a_network_file_system_it_looks_every_second_and_says_so(
    etc: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "datasync.files")
    monkeypatch.setattr("datasync.kvdbsync.files.place.mounts", lambda: f"s:/ {etc} nfs4 rw 0 0")
    async with following(url(etc)) as (sync, state):
        await sync.ready(SECONDS)
        assert [record.getMessage() for record in caplog.records] == [
            f"file://{etc}: lies on nfs4, which does not tell of all changes; looking every 1 s"
        ]
        assert state == {"net/mtu": b"1500"}


@in_loop
async def test_a_file_system_that_hangs_is_a_lost_source(
    etc: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    answers.set()
    scan = Place.scan

    def slowly(place: Place) -> Scan:
        answers.wait()
        return scan(place)

    monkeypatch.setattr(Place, "scan", slowly)
    pings = {"ping_interval": 0.05, "ping_timeout": 0.2, "connect_timeout": 0.2}
    async with Followed(url(etc, "&poll=0.02"), **pings).running({"net/mtu": b"1500"}) as files:
        answers.clear()
        await eventually(lambda: source(files).state == "lost", SECONDS)
        assert "no answer" in str(source(files).error)
        answers.set()
        await eventually(lambda: source(files).state == "following", SECONDS)


@in_loop
async def test_keys_are_below_the_root_of_the_datasync_and_at_is_put_before_them(
    etc: pathlib.Path,
) -> None:
    (etc / "dns.yaml").write_text("server: {name: a, ports: [53]}\n")
    query = "&at=config/&flatten=/"
    async with following(url(etc, query), label="vpp1") as (sync, state):
        await sync.ready(SECONDS)
        wanted = {
            "config/net/mtu": b"1500",
            "config/dns/server/name": b"a",
            "config/dns/server/ports": b"[53]",
        }
        assert state == wanted
        assert {kv.key: kv.raw async for kv in sync.list("config/")} == wanted
        kept = await sync.get("config/net/mtu")
        assert kept is not None
        assert kept.raw == b"1500"
        for write in (sync.put("a", b"1"), sync.delete("a"), sync.txn().put("a", b"1").commit()):
            with pytest.raises(UnsupportedOption, match=r"takes no writes; edit the files$"):
                await write


@in_loop
async def test_a_file_overrides_a_store_and_the_store_shows_again(
    etc: pathlib.Path, memory_url: str
) -> None:
    layers = (Layer(memory_url, name="fleet"), Layer(url(etc), name="machine"))
    async with following(*layers, label="vpp1", write_to="fleet") as (sync, state):
        await sync.ready(SECONDS)
        await sync.put("net/mtu", b"9000")
        await sync.put("net/name", b"eth0")
        await eventually(lambda: state == {"net/mtu": b"1500", "net/name": b"eth0"}, SECONDS)
        (etc / "net.yaml").unlink()
        await eventually(lambda: state == {"net/mtu": b"9000", "net/name": b"eth0"}, SECONDS)


@in_loop
async def test_a_file_is_bounded_as_in_load(
    etc: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasync.kvdbsync.files.whole.LARGEST", 1 << 20)
    monkeypatch.setattr("datasync.documents.yamlfile._MOST_NODES", 1000)
    bombs = {
        "deep.json": '{"a": ' + "[" * 100_000 + "}",
        "bomb.yaml": "a: &a [1,2,3,4,5,6,7,8,9,0]\n"
        + "".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n"
            for a, b in zip("abcdef", "bcdefg", strict=True)
        ),
        "large.env": "A=" + "b" * (1 << 20),
    }
    async with Followed(url(etc)).running({"net/mtu": b"1500"}) as files:
        for name, text in bombs.items():
            replace(etc / name, text)
            says = {"deep.json": "nested too deeply", "bomb.yaml": "more than 1,000 parts",
                    "large.env": "is larger than 1 MiB"}[name]  # fmt: skip
            await eventually(lambda says=says: says in str(source(files).error), SECONDS)  # type: ignore[misc]
            (etc / name).unlink()
        os.mkfifo(etc / "pipe.yaml")
        await eventually(lambda: "is not a regular file" in str(source(files).error), SECONDS)
        (etc / "pipe.yaml").unlink()
        await eventually(lambda: source(files).error is None, SECONDS)


@in_loop
async def test_keys_that_have_no_name_are_an_error_of_their_file(etc: pathlib.Path) -> None:
    (etc / ".env").write_text("/A=1\n")
    async with following(url(etc)) as (sync, _):
        await eventually(lambda: sync.status().sources[0].error, SECONDS)
        error = str(sync.status().sources[0].error)
        assert f"{etc}/.env, line 1, column 1: the key '/A' starts with '/'" in error


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file://etc/agent/", "three slashes"),
        ("file://", "names nothing"),
        ("file:///", "names nothing"),
        ("file:///etc?flatten=", "flatten= takes what stands between two names"),
        ("file:///etc?at=config", "write 'config/'"),
        ("file:///etc?settle=0", "settle= takes a positive number of seconds"),
        ("file:///etc?poll=no", "poll="),
        ("file:///etc?patience=1", "knows: at, flatten, settle, poll"),
    ],
)
def test_a_url_that_means_nothing_names_the_way_out(text: str, says: str) -> None:
    with pytest.raises(BadUrl) as caught:
        open_url(text)
    assert says in str(caught.value)


@in_loop
@pytest.mark.parametrize("here", ["file://.", "file://./"])
async def test_the_directory_one_is_in_can_be_followed(
    etc: pathlib.Path, monkeypatch: pytest.MonkeyPatch, here: str
) -> None:
    (etc / "net.yaml").write_text("mtu: 1500\n")
    monkeypatch.chdir(etc)
    async with following(here) as (_, state):
        await eventually(lambda: state == {"net/mtu": b"1500"}, SECONDS)


@in_loop
async def test_a_name_that_tells_no_format_ends_the_start(tmp_path: pathlib.Path) -> None:
    (tmp_path / "agent.conf").write_text("mtu=1500\n")
    sync = DataSync(url(tmp_path / "agent.conf"))
    with pytest.raises(BadStore, match=r"agent\.conf does not tell its format; end it in one of"):
        await sync.start()


@in_loop
async def test_one_source_is_used_again_after_it_was_closed(etc: pathlib.Path) -> None:
    files = FilesSource(etc, settle=SETTLE)
    for mtu in (b"1500", b"9000"):
        async with following(files) as (sync, state):
            await sync.ready(SECONDS)
            assert state == {"net/mtu": mtu}
        replace(etc / "net.yaml", "mtu: 9000\n")
