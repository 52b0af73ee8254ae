"""The metrics of a DataSync, read by the libraries that applications read them with."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from datasync import Backoff, ChangeEvent, DataSync, MissingExtra
from datasync.metrics import FAMILIES, Family
from datasync.metrics.otel import observe
from datasync.metrics.prometheus import StatusCollector
from datasync.status import LastResync, SourceStatus, Status, WatchStatus
from datasync.testing.contract.waiting import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]


@contextlib.asynccontextmanager
async def agent() -> AsyncIterator[DataSync]:
    """One whose watch `good` has accepted two changes,
    while `bad` failed with the first and is to get both again.
    """
    async with DataSync("memory://", retry=Backoff(initial=60, maximum=60)) as sync:

        async def good(event: Any) -> None: ...

        async def bad(event: Any) -> None:
            if isinstance(event, ChangeEvent):
                raise RuntimeError("it broke")

        sync.watcher("a/", name="good")(good)
        sync.watcher("a/", name="bad")(bad)
        await sync.ready(60)
        await sync.put("a/1", b"1")
        await sync.put("a/2", b"2")
        await eventually(lambda: [watch.backlog for watch in sync.status().watches] == [0, 2])
        await eventually(lambda: sync.status().watches[0].changes == 2)
        yield sync


def test_the_prometheus_client_reads_all_data_syncs_of_the_process(run: Run) -> None:
    async def main() -> None:
        async with agent() as one, agent() as two:
            registry = CollectorRegistry()
            registry.register(StatusCollector(one.status, two.status))
            lines = generate_latest(registry).decode().splitlines()
        types = [line.split()[2:] for line in lines if line.startswith("# TYPE")]
        assert types == [[family.name, family.kind] for family in FAMILIES]
        for number in ("", " (2)"):
            assert f'datasync_watch_changes_total{{watch="good{number}"}} 2.0' in lines
            assert f'datasync_watch_backlog_changes{{watch="bad{number}"}} 2.0' in lines
            assert f'datasync_watch_failing{{watch="bad{number}"}} 1.0' in lines
            assert f'datasync_watch_failing{{watch="good{number}"}} 0.0' in lines

    run(main())


def test_the_document_has_all_of_them() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(datasync_\w+)` \| (\w+) \|.*\| ([^|]*) \|$", text, flags=re.M)
    watch, source = (
        LastResync("start", 0.1, 1, 0.0),
        SourceStatus("memory://", "following", 0.0, 0, None, 0),
    )
    now = Status([source], [WatchStatus("name", [""], "following", 0, 0, 0, watch, None)])
    known = [
        (one.name, one.kind, ", ".join(f"`{label}`" for label in _labels(one, now)))
        for one in FAMILIES
    ]
    assert rows == known


def _labels(family: Family, now: Status) -> list[str]:
    [(labels, _)] = family.samples(now)
    return list(labels)


@pytest.mark.parametrize(
    ("module", "extra"), [("prometheus_client", "prometheus"), ("opentelemetry.metrics", "otel")]
)
def test_a_missing_library_is_named_with_its_extra(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"datasync.metrics.{extra}")
    with pytest.raises(MissingExtra, match=rf"datasync\[{extra}\]"):
        importlib.import_module(f"datasync.metrics.{extra}")


def test_open_telemetry_collects_them_as_observable_instruments(run: Run) -> None:
    async def main() -> None:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        async with agent() as one:
            observe(one.status, meter=provider.get_meter("test"))
            found = reader.get_metrics_data()
        provider.shutdown()
        assert found is not None
        metrics = found.resource_metrics[0].scope_metrics[0].metrics
        values = {
            (metric.name, str((point.attributes or {}).get("watch"))): getattr(point, "value", None)
            for metric in metrics
            for point in metric.data.data_points
        }
        assert len(metrics) == len(FAMILIES)
        assert values["datasync.watch.changes", "good"] == 2
        assert values["datasync.watch.backlog_changes", "bad"] == 2
        assert values["datasync.watch.failing", "bad"] == 1
        assert values["datasync.source.up", "None"] == 1

    run(main())
