"""What serves reports is nobody's watch: users see theirs alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from datasync import DataSync, Reports
from datasync.errors import UnsupportedOption
from datasync.testing.contract import eventually
from datasync.testing.contract.reporting import Readers
from tests.helpers.reports.fleet import CONFIG, STATUS, agent_of, reading

Run = Callable[[Coroutine[Any, Any, None]], None]

ASK = Reports(STATUS, timeout=60)


def test_neither_status_nor_watches_nor_spans_show_it(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def main() -> None:
        agent = agent_of(url)
        agent.trace(provider)
        async with reading(url, agent) as (ctl, readers):
            await eventually(lambda: readers.of().well)
            ctl.trace(provider)
            await ctl.put(CONFIG + "a", b"good", confirm=ASK)
            assert [watch.name for watch in agent.status().watches] == ["config"]
            assert [*agent.watches] == ["config"]
            assert (ctl.status().watches, [*ctl.watches]) == ([], [])

            # nobody here looks at the key
            with pytest.raises(UnsupportedOption, match="no watch here to ask"):
                await ctl.put(CONFIG + "a", b"good", confirm=True)

    run(main())
    kinds = {span.name for span in exporter.get_finished_spans()}
    assert kinds == {"datasync put", "config RESYNC", "config CHANGE"}


def test_nobody_waits_for_it(run: Run, memory_url: str) -> None:
    async def main() -> None:
        async with DataSync(memory_url) as ctl, contextlib.aclosing(ctl.reports(STATUS)) as reports:
            reading = asyncio.ensure_future(anext(reports))
            await ctl.ready(60)
            reading.cancel()

    run(main())


def test_agents_ask_each_other_where_they_report(run: Run, memory_url: str) -> None:
    async def main() -> None:
        one = DataSync(memory_url, report_to="status/", agent="one")
        two = DataSync(memory_url, report_to="status/", agent="two")

        @two.watcher("config/")
        async def config(event: object) -> None:
            pass

        async with one, two, Readers(one, "status/").reading() as readers:
            await eventually(lambda: readers.of("two").alive)
            await one.put("config/a", b"1", confirm=Reports("status/", agents=["two"], timeout=60))

    run(main())


def test_agents_that_read_the_reports_of_each_other_come_to_rest(run: Run, memory_url: str) -> None:
    async def main() -> None:
        one = DataSync(memory_url, report_to="one/", agent="one")
        two = DataSync(memory_url, report_to="two/", agent="two")
        async with one, two:
            of_two, of_one = Readers(one, "two/"), Readers(two, "one/")
            async with of_two.reading(), of_one.reading():
                await eventually(lambda: of_one.of("one").alive and of_two.of("two").alive)
                for _ in range(20):
                    before = len(of_one.all) + len(of_two.all)
                    await asyncio.sleep(0.5)  # twice the time between two reports, and more
                    if len(of_one.all) + len(of_two.all) == before:
                        return
        raise AssertionError("they go on reporting")

    run(main())
