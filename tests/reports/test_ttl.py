"""Tickets that nobody deletes have a TTL, though most do not need one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from datasync import DataSync, Reports
from datasync.kvdbsync.memory import MemorySource
from datasync.reports import asking
from datasync.reports.answering import KEPT
from datasync.reports.form import Place
from datasync.source import Committed, Operation, Put
from datasync.testing.contract import eventually
from tests.helpers.reports.fleet import as_long_as

Run = Callable[[Coroutine[Any, Any, None]], None]

PLACE = Place("status/")


class Noting(MemorySource):
    """Notes the TTL of each key that is put."""

    def __init__(self) -> None:
        super().__init__("noting")
        self.ttls: list[tuple[str, float | None]] = []

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        puts = [operation for operation in operations if isinstance(operation, Put)]
        self.ttls += [(put.key, put.ttl) for put in puts]
        return await super().commit(operations, reply=reply)

    def of(self, prefix: str) -> list[float | None]:
        return [ttl for key, ttl in self.ttls if key.startswith(prefix)]


def holding(store: MemorySource, until: asyncio.Event) -> DataSync:
    """An agent that holds b"holds"."""
    sync = DataSync(store, report_to="status/", agent="vpp1", ack_timeout=100)

    @sync.watcher("config/")
    async def config(event: Any) -> None:
        if any(change.raw == b"holds" for change in event.changes):
            await until.wait()

    return sync


async def absent(sync: DataSync, key: str) -> bool:
    return await sync.get(key) is None


def test_a_ticket_that_is_not_answered_at_once_is_given_a_ttl(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_SOON", 0.05)
    going_on = asyncio.Event()

    async def main() -> None:
        store = Noting()
        async with holding(store, going_on), DataSync(store) as ctl:
            await as_long_as(lambda: absent(ctl, PLACE.progress("vpp1")))
            ask = Reports("status/", agents=["vpp1"], timeout=60)
            write = asyncio.create_task(ctl.put("config/a", b"holds", confirm=ask))
            await eventually(lambda: len(store.of("status/tickets/")) == 2)
            going_on.set()
            await write

        at_once, later = store.of("status/tickets/")
        assert at_once is None
        assert later is not None
        assert 60 < later < 60 + KEPT
        assert len(store.of("status/answers/")) == 1, "it is answered once"

    run(main())


def test_an_answer_costs_no_lease_and_is_deleted_once_its_ticket_is_gone(run: Run) -> None:
    """Also one that came behind the deletion of the ticket and its answers."""

    async def main() -> None:
        store = Noting()
        async with holding(store, asyncio.Event()), DataSync(store) as ctl:
            await as_long_as(lambda: absent(ctl, PLACE.progress("vpp1")))
            await ctl.put("config/a", b"1", confirm=Reports("status/", timeout=60))
            [answer] = [key for key, _ in store.ttls if key.startswith("status/answers/")]
            assert store.of("status/answers/") == [None]

            number = answer.removeprefix(PLACE.all_answers).rpartition("/")[0]
            await ctl.delete(PLACE.ticket(number))
            await as_long_as(lambda: present(ctl, answer))

    run(main())


async def present(sync: DataSync, key: str) -> bool:
    return not await absent(sync, key)
