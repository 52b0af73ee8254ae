"""What lies in the store was lost, put back, left by an earlier life, or is another agent's. On the
clock of a simulation, where minutes take no time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine

import msgspec
import pytest

from datasync import ChangeEvent, Event, ResyncEvent
from datasync.reports.agent import LEASE
from datasync.reports.form import (
    Progress,
    Ticket,
    decode_progress,
    decode_record,
    digest_of,
    encode,
)
from datasync.testing import EXACT, FaultySource, run_simulated
from datasync.testing.simulation.sync import SimulatedSync

_WITHOUT = msgspec.structs.replace(EXACT, cas=False, ttl=False)
"""As Kafka: no conditions, and nothing expires."""

Handler = Callable[[Event[bytes]], Coroutine[object, object, None]]


async def accept(event: Event[bytes]) -> None:
    """What agents here do with what they watch."""


@contextlib.asynccontextmanager
async def agent_on(store: FaultySource, handler: Handler = accept) -> AsyncIterator[None]:
    """Within the block an agent lives there, and has settled what there was."""
    rng = random.Random(store.opened)
    async with SimulatedSync(store, rng=rng, agent="vpp1", report_to="status/") as sync:
        sync.watcher("config/", name="config")(handler)
        await sync.ready()
        await asyncio.sleep(1)
        yield


class _Far(FaultySource):
    """Its answers take a while."""

    async def get(self, key: str) -> tuple[bytes, int] | None:
        found = await super().get(key)
        await asyncio.sleep(0.02)
        return found


def reported(store: FaultySource) -> Progress:
    """What lies there."""
    return decode_progress(store.values["status/progress/vpp1"])


@pytest.mark.parametrize("capabilities", [EXACT, _WITHOUT], ids=["conditions", "none"])
def test_two_agents_of_one_name_say_so_until_one_is_gone(
    capabilities: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        store = FaultySource(capabilities=capabilities)  # type: ignore[arg-type]
        async with agent_on(store):
            one = reported(store)
            assert one.rival is None
            async with agent_on(store):
                await asyncio.sleep(2 * LEASE)
                found = reported(store)
                assert found.rival is not None
                assert found.rival != found.instance
            await asyncio.sleep(2 * LEASE)
            assert (reported(store).instance, reported(store).rival) == (one.instance, None)

    with caplog.at_level(logging.WARNING, "datasync.reports"):
        run_simulated(main())
    assert "another agent named 'vpp1' reports there as well" in caplog.text


def test_two_agents_of_one_name_that_keep_step_find_each_other() -> None:
    """Else the second one would look before the first has written, and find its own, for ever."""

    async def main() -> None:
        store = _Far(capabilities=_WITHOUT)

        async def live(number: int) -> None:
            await asyncio.sleep(0.005 * number)
            rng = random.Random(number)
            async with SimulatedSync(store, rng=rng, agent="vpp1", report_to="status/") as sync:
                sync.watcher("config/", name="config")(accept)
                await asyncio.sleep(10 * LEASE)

        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(live(number))
            await asyncio.sleep(2 * LEASE)
            for _ in range(int(6 * LEASE)):
                await asyncio.sleep(1)
                assert reported(store).rival is not None

    run_simulated(main())


@pytest.mark.parametrize("capabilities", [EXACT, _WITHOUT], ids=["conditions", "none"])
def test_what_an_earlier_life_reported_is_no_rival_where_a_backup_is_put_back(
    capabilities: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        store = FaultySource(capabilities=capabilities)  # type: ignore[arg-type]
        async with agent_on(store):
            revision, backup = store.revision, store.values
        async with agent_on(store):
            store.new_history(backup, revision)
            await asyncio.sleep(2 * LEASE)
            progress = reported(store)
            assert progress.instance != decode_progress(backup["status/progress/vpp1"]).instance
            assert progress.rival is None

    with caplog.at_level(logging.WARNING, "datasync.reports"):
        run_simulated(main())
    assert "another agent" not in caplog.text


@pytest.mark.parametrize("capabilities", [EXACT, _WITHOUT], ids=["conditions", "none"])
def test_an_agent_reports_again_to_a_store_that_was_emptied(capabilities: object) -> None:
    async def main() -> None:
        store = FaultySource(capabilities=capabilities)  # type: ignore[arg-type]
        async with agent_on(store):
            store.new_history({"status/open/vpp1/config/gone": b"{}"})
            await asyncio.sleep(2)
            assert [key for key in store.values if key.startswith("status/")] == [
                "status/progress/vpp1"
            ]

    run_simulated(main())


def test_a_settled_revision_is_told_with_the_history_that_it_belongs_to() -> None:
    async def main() -> None:
        going_on = asyncio.Event()
        going_on.set()

        async def wait(event: Event[bytes]) -> None:
            await going_on.wait()

        store = FaultySource({"config/a": b"1"})
        async with agent_on(store, wait):
            before = reported(store).layers
            assert before[0].history == "h1"
            going_on.clear()
            store.new_history({"config/a": b"2"}, 100)
            await asyncio.sleep(LEASE)
            assert reported(store).layers == before
            going_on.set()
            await asyncio.sleep(LEASE)
            assert [(one.history, one.revision) for one in reported(store).layers] == [("h2", 100)]

    run_simulated(main())


def test_why_a_resync_failed_is_not_told_of_the_value_that_failed_before() -> None:
    async def main() -> None:
        async def fail(event: Event[bytes]) -> None:
            if isinstance(event, ChangeEvent):
                raise RuntimeError("of the change")
            assert isinstance(event, ResyncEvent)
            if [kv.raw for values in event.values.values() for kv in values] == [b"3"]:
                raise RuntimeError("of the resync")

        store, key = FaultySource({"config/a": b"1"}), "status/open/vpp1/config/a"
        async with agent_on(store, fail):
            store.write({"config/a": b"2"})
            await asyncio.sleep(1)
            report = decode_record(store.values[key])
            assert (report.reason, report.digest) == (
                "RuntimeError: of the change",
                digest_of(b"2"),
            )
            store.new_history({"config/a": b"3"}, 100)
            for _ in range(100):
                await asyncio.sleep(0.1)
                assert key not in store.values
            assert [watch.reason for watch in reported(store).watches] == [
                "RuntimeError: of the resync"
            ]

    run_simulated(main())


def test_an_answer_is_swept_that_came_when_its_ticket_was_gone() -> None:
    async def main() -> None:
        store = FaultySource(capabilities=_WITHOUT)
        async with agent_on(store):
            store.lag = 1.0  # of what an agent sees
            asked = Ticket({"config/a": None}, timeout=10, deadline=60)
            store.write({"status/tickets/writer/1": encode(asked)})
            await asyncio.sleep(0.9)
            store.write({"status/tickets/writer/1": None})
            answer = "status/answers/writer/1/vpp1"
            await asyncio.sleep(0.3)
            assert answer in store.values
            await asyncio.sleep(3)
            assert answer not in store.values

    run_simulated(main())


def test_an_answer_is_swept_whose_ticket_was_gone_when_its_agent_came_back() -> None:
    async def main() -> None:
        left, others = "status/answers/writer/1/vpp1", "status/answers/writer/1/vpp2"
        store = FaultySource({left: b"{}", others: b"{}"}, capabilities=_WITHOUT)
        async with agent_on(store):
            assert left not in store.values
            assert others in store.values

    run_simulated(main())
