"""Agents that report to a store other than the one that they follow."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync import DataSync, Event, NotReady, Refused, Reports, UsageError
from datasync.kvdbsync.memory import named
from datasync.reports.form import Place, Ticket, decode_answer, digest_of, encode
from datasync.testing.contract import eventually
from tests.helpers.reports.fleet import CONFIG, STATUS, agent_of, as_long_as, leaves_nothing

Run = Callable[[Coroutine[Any, Any, None]], None]

PLACE = Place("status/")


def ticket(keys: dict[str, bytes | None], **fields: Any) -> bytes:
    """One as any program may leave it."""
    digests = {key: digest_of(raw) for key, raw in keys.items()}
    return encode(Ticket(digests, 60.0, time.time() + 60, **fields))


async def answered(reports: DataSync, number: str, agent: str = "vpp1") -> dict[str, str]:
    """What an agent answers to a ticket, once it does."""
    key = PLACE.answers(number) + agent

    async def unanswered() -> bool:
        return await reports.get(key) is None

    await as_long_as(unanswered)
    found = await reports.get(key)
    assert found is not None
    return {name: said.verdict for name, said in decode_answer(found.raw).keys.items()}


def test_an_agent_on_files_is_asked_in_a_store(run: Run, tmp_path: Path) -> None:
    """Who edits a file leaves the ticket by itself: nothing is written to files by datasync."""
    store, folder = f"sqlite:///{tmp_path}/reports.db", tmp_path / "net"
    folder.mkdir()
    (folder / "mtu.yaml").write_text("eth0: 1500\n")
    agent = DataSync(f"file://{folder}/", agent="vpp1", report_to=store)

    @agent.watcher("mtu/", type=int)
    async def mtu(event: Event[int]) -> None:
        small = {
            c.key: "is too small" for c in event.changes if c.value is not None and c.value < 68
        }
        if small:
            raise Refused(small)

    async def main() -> None:
        async with agent, DataSync(store) as reports:
            await reports.put(PLACE.ticket("me/1"), ticket({"mtu/eth0": b"1500", "other": b"1"}))
            said = await answered(reports, "me/1")
            assert said == {"mtu/eth0": "accepted", "other": "unwatched"}

            (folder / "mtu.yaml").write_text("eth0: 7\n")
            await reports.put(PLACE.ticket("me/2"), ticket({"mtu/eth0": b"7"}))
            assert await answered(reports, "me/2") == {"mtu/eth0": "refused"}

    run(main())


def test_a_value_that_stands_there_already_is_not_taken_for_the_one_that_is_to_come(
    run: Run, memory_url: str
) -> None:
    """Nothing orders the two stores: revisions tell that a write has not been shown yet."""

    async def main() -> None:
        at = f"{memory_url}-reports"
        agent = agent_of(memory_url, label=None, agent="vpp1", report_to=at)
        async with agent, DataSync(memory_url) as ctl, DataSync(at) as reports:
            revision = await ctl.put("config/a", b"1")
            assert revision is not None
            for number, least in (("me/1", revision + 1), ("me/2", revision)):
                raw = ticket({"config/a": b"1"}, revisions={"config/a": least})
                await reports.put(PLACE.ticket(number), raw)
            assert await answered(reports, "me/2") == {"config/a": "accepted"}
            assert await reports.get(PLACE.answers("me/1") + "vpp1") is None

            await ctl.put("config/a", b"1")
            assert await answered(reports, "me/1") == {"config/a": "accepted"}

    run(main())


def test_where_no_agent_can_be_known_nothing_is_written_and_no_store_is_made(
    run: Run, tmp_path: Path, memory_url: str
) -> None:
    async def main() -> None:
        ask = Reports(STATUS, at=f"sqlite:///{tmp_path}/none.db", timeout=0.1)
        async with DataSync(memory_url) as ctl:
            with pytest.raises(NotReady, match="nothing was written"):
                await ctl.put(CONFIG + "a", b"1", confirm=ask)
            [store] = ctl._stores
            await eventually(lambda: store.status().sources[0].error is not None)
            with pytest.raises(NotReady, match=r"none\.db, which is .*: there is no file"):
                await ctl.put(CONFIG + "a", b"1", confirm=ask)
            assert await ctl.get(CONFIG + "a") is None
        assert not [*tmp_path.iterdir()]

    run(main())


def test_where_to_ask_is_checked_and_its_password_is_not_shown() -> None:
    with pytest.raises(UsageError, match="at='sqlite"):
        Reports("etcd://127.0.0.1/status/")
    with pytest.raises(UsageError, match="a URL or a Source"):
        Reports("status/", at=3)  # type: ignore[arg-type]
    assert "hunter2" not in repr(Reports("status/", at="redis://:hunter2@127.0.0.1/"))


def test_a_source_of_its_own_that_the_agent_follows_is_asked_there(
    run: Run, memory_url: str
) -> None:
    """Of several sources, none of which takes the writes by default."""

    async def main() -> None:
        reports = named(f"{memory_url}-reports")
        agent = DataSync(memory_url, reports, agent="vpp1", report_to=reports)

        @agent.watcher("config/")
        async def config(event: object) -> None:
            pass

        async with agent, DataSync(reports) as ctl:
            await agent.ready(60)
            await as_long_as(lambda: _unknown(ctl))
            await ctl.put("config/a", b"1", confirm=Reports("status/", timeout=60))

    run(main())


async def _unknown(ctl: DataSync) -> bool:
    return await ctl.get(PLACE.progress("vpp1")) is None


def reports_of(agent: DataSync) -> float:
    """How many it has written."""
    (count,) = (
        value
        for measure in agent.panels["reports"].measures()
        if measure.name == "datasync_reports_total"
        for _, value in measure.samples
    )
    assert isinstance(count, int | float)
    return count


def test_g9_g12_the_store_elsewhere_ends_with_who_uses_it(run: Run) -> None:
    url = f"memory://{uuid.uuid4().hex}"  # it stays as long as the process
    ask = Reports(STATUS, at=f"{url}-reports", timeout=60)

    @contextlib.asynccontextmanager
    async def meeting() -> AsyncIterator[DataSync]:
        async with agent_of(url, report_to=f"{url}-reports") as agent, DataSync(url) as ctl:
            await eventually(lambda: reports_of(agent) > 0)
            yield ctl

    async def session() -> None:
        async with meeting() as ctl:
            await ctl.put(CONFIG + "a", b"1", confirm=ask)

    async def main() -> None:
        await leaves_nothing(session)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
