"""G3: a backup that was put back while its server was down is a new history,
for remote watchers too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from datasync import Disconnected, HistoryChanged, HistoryLost, open_url
from datasync.serving.followed import Followed
from datasync.source import Progress, Source
from datasync.syncbase.delivery import NEW_HISTORY
from datasync.testing.chaos.sqlite import SqliteFile
from datasync.testing.contract import eventually
from datasync.testing.contract.following import Following
from tests.helpers.etcd.etcd_server import NEW, etcd_server
from tests.helpers.serving.restarts import following, free_address, put, serving, shows

Run = Callable[[Any], None]
schemes = pytest.mark.parametrize("scheme", ["grpc+watch", "http"])


@schemes
@pytest.mark.parametrize("later", [(), ("c", "d", "e", "f")], ids=["older", "grown since"])
def test_a_backup_put_back_while_the_server_is_down(
    run: Run, scheme: str, later: Sequence[str], tmp_path: Path
) -> None:
    async def main() -> None:
        file, address = SqliteFile(tmp_path / "file.db"), free_address()
        url = f"sqlite:///{file.path}"
        await put(url, "a")
        file.back_up()
        await put(url, "b", "lost")
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(serving(scheme, address, open_url(url)))
            async with following(scheme, address) as (sync, probe):
                waiting = asyncio.ensure_future(sync.view("").at_least(1_000))
                await put(url, "seen")
                await shows(probe, "a", "b", "lost", "seen")

                await first.aclose()
                file.restore()
                await put(url, *later)
                async with serving(scheme, address, open_url(url)):
                    await shows(probe, "a", *later)
                    assert probe.resyncs[-1].reason == NEW_HISTORY
                    with pytest.raises(HistoryChanged):
                        await waiting
                    await put(url, "next")
                    await shows(probe, "a", *later, "next")
                    probe.check()

    run(main())


@schemes
def test_a_restart_alone_is_not_a_new_history(run: Run, scheme: str, tmp_path: Path) -> None:
    async def main() -> None:
        url, address = f"sqlite:///{tmp_path}/file.db", free_address()
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(serving(scheme, address, open_url(url)))
            async with following(scheme, address) as (sync, probe):
                await put(url, "a", "b")
                await shows(probe, "a", "b")
                waiting = asyncio.ensure_future(sync.view("").at_least(4))

                await first.aclose()
                await put(url, "meanwhile")
                async with serving(scheme, address, open_url(url)):
                    await shows(probe, "a", "b", "meanwhile")
                    assert "another run" in probe.resyncs[-1].reason
                    await put(url, "next")
                    await waiting
                    probe.check()

    run(main())


def test_an_emptied_etcd_that_has_outgrown_the_old_one(run: Run) -> None:
    async def main() -> None:
        address = free_address()
        async with etcd_server(NEW) as server, contextlib.AsyncExitStack() as first:
            await put(server.url, "a", "b")
            await first.enter_async_context(serving("grpc+watch", address, open_url(server.url)))
            async with following("grpc+watch", address) as (_, probe):
                await shows(probe, "a", "b")

                await first.aclose()
                await server.empty()
                await put(server.url, "a", "other", "more")
                async with serving("grpc+watch", address, open_url(server.url)):
                    await shows(probe, "a", "other", "more")
                    assert probe.resyncs[-1].reason == NEW_HISTORY
                    probe.check()

    run(main())


def test_servers_one_behind_the_other_tell_it_on(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        file, upper, lower = SqliteFile(tmp_path / "file.db"), free_address(), free_address()
        url = f"sqlite:///{file.path}"
        await put(url, "a")
        file.back_up()
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(serving("http", upper, open_url(url)))
            await first.enter_async_context(
                serving("grpc+watch", lower, open_url(f"http://{upper}"))
            )
            async with following("grpc+watch", lower) as (_, probe):
                await put(url, "b", "lost")
                await shows(probe, "a", "b", "lost")

                await first.aclose()
                file.restore()
                await put(url, "c", "d", "e")
                async with (
                    serving("http", upper, open_url(url)),
                    serving("grpc+watch", lower, open_url(f"http://{upper}")),
                ):
                    await shows(probe, "a", "c", "d", "e")
                    assert probe.resyncs[-1].reason == NEW_HISTORY
                    probe.check()

    run(main())


@schemes
@pytest.mark.parametrize("position", ["", "{", '{"a":1}', "[1,2]", '["",-1,0]', "[" * 100_000])
def test_a_position_of_nobody_is_followed_by_a_snapshot(
    run: Run, scheme: str, position: str, tmp_path: Path
) -> None:
    async def main() -> None:
        url, address = f"sqlite:///{tmp_path}/file.db", free_address()
        await put(url, "a")
        async with serving(scheme, address, open_url(url)):
            source = open_url(f"{scheme}://{address}")
            with pytest.raises(HistoryLost):
                await source.open([""], f"other.1.{position}")
            await source.aclose()

    run(main())


@schemes
@pytest.mark.parametrize(
    "form",
    ["", "{log}", "{log}.", "{log}.x", "{log}.-1", "{log}.99999", "{log}.\u0661", "{log}.1e0"],
)
def test_a_position_of_another_form_is_followed_by_a_snapshot(
    run: Run, scheme: str, form: str, tmp_path: Path
) -> None:
    """As another version may have told it, of this very log."""

    async def main() -> None:
        url, address = f"sqlite:///{tmp_path}/file.db", free_address()
        await put(url, "a")
        async with serving(scheme, address, open_url(url)):
            source = open_url(f"{scheme}://{address}")
            log = str((await position_of(source)).partition(".")[0])
            with pytest.raises(HistoryLost):
                await source.open([""], form.format(log=log))
            await source.aclose()

    run(main())


@schemes
@pytest.mark.parametrize("later", ["", ".", '.["of","another","version"]', ".1.2.3"])
def test_what_another_version_says_beside_the_place_in_the_log_does_not_matter(
    run: Run, scheme: str, later: str, tmp_path: Path
) -> None:
    """Positions of the servers before had no position of the source;
    those of later ones may have more.
    """

    async def main() -> None:
        url, address = f"sqlite:///{tmp_path}/file.db", free_address()
        await put(url, "a")
        async with serving(scheme, address, open_url(url)):
            source = open_url(f"{scheme}://{address}")
            log, number, _ = (await position_of(source)).split(".", 2)
            session = Following(await source.open([""], f"{log}.{number}{later}"))
            await put(url, "b")
            [commit] = await session.brings(1)
            assert [key for key, _ in commit.changes] == ["b"]
            await session.aclose()
            await source.aclose()

    run(main())


@pytest.mark.parametrize("position", ["", "log", "log.", "log.x", "log.1e0"])
def test_a_server_that_tells_positions_of_another_form_is_named(run: Run, position: str) -> None:
    async def main() -> None:
        followed = Followed("http://server")
        followed.took([Progress(position)])
        with pytest.raises(
            Disconnected, match=r"^http://server .*check the versions of both sides"
        ):
            await followed.reach(position)
        followed.took([Progress("log.3")])
        await followed.reach("log.2.anything")

    run(main())


async def position_of(source: Source) -> str:
    """Where a session stands once its snapshot is complete."""
    session = Following(await source.open([""]))
    await eventually(lambda: session.position is not None, 60)
    await session.aclose()
    return str(session.position)
