"""The metrics of a DataSync, read by the libraries that applications read them with."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from datasync import (
    Backoff,
    ChangeEvent,
    DataSync,
    Failed,
    MissingExtra,
    Outcomes,
    Pending,
    Refused,
)
from datasync.metrics import FAMILIES, Family
from datasync.metrics.otel import observe
from datasync.metrics.prometheus import StatusCollector
from datasync.status import (
    LATENCIES,
    LastResync,
    Latency,
    SourceStatus,
    Status,
    WatchState,
    WatchStatus,
)
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
            assert f'datasync_watch_failures_total{{watch="bad{number}"}} 1.0' in lines
            assert f'datasync_watch_failures_total{{watch="good{number}"}} 0.0' in lines

    run(main())


def test_the_document_has_all_of_them() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(datasync_\w+)` \| (\w+) \|.*\| ([^|]*) \|$", text, flags=re.M)
    watch, source = (
        LastResync("start", 0.1, 1, 0.0),
        SourceStatus("memory://", "following", 0.0, 0, None, 0),
    )
    latency = Latency(0.1, [1] * (len(LATENCIES) + 1))
    now = Status(
        [source],
        [
            WatchStatus(
                "name", [""], "following", 0, 0, 0, watch, None, accepted=1.0, latency=latency
            )
        ],
    )
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
        assert len(metrics) == len(FAMILIES) + 2  # the histogram is three
        assert values["datasync.watch.failures", "bad"] == 1
        assert values["datasync.watch.handler_seconds.count", "bad"] == 2
        assert values["datasync.watch.changes", "good"] == 2
        assert values["datasync.watch.backlog_changes", "bad"] == 2
        assert values["datasync.watch.failing", "bad"] == 1
        assert values["datasync.source.up", "None"] == 1

    run(main())


def parsed(sync: DataSync) -> dict[str, float]:
    """What the Prometheus client tells of the one watch, by name and bound."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(sync.status))
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("kind", ["async", "thread", "stream"])
def test_how_long_events_took_is_counted_by_steps(run: Run, kind: str) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            go = threading.Event()

            async def waits(event: Any) -> None:
                await asyncio.to_thread(go.wait)

            if kind == "stream":
                watch = sync.watch("it", "")

                async def read() -> None:
                    async for event in watch:
                        await waits(event)

                reader = asyncio.ensure_future(read())
            elif kind == "async":
                sync.watcher("", name="it")(waits)
            else:

                def blocks(event: Any) -> None:
                    go.wait()

                sync.watcher("", name="it")(blocks)

            began = asyncio.get_running_loop().time()
            await eventually(lambda: sync.watches["it"].state is WatchState.RESYNCING)
            assert "datasync_watch_handler_seconds_count" not in parsed(sync)
            assert "datasync_watch_last_accepted_age_seconds" not in parsed(sync)
            await asyncio.sleep(0.06)
            go.set()
            await sync.ready(60)
            took = asyncio.get_running_loop().time() - began

            found = parsed(sync)
            assert 0.06 <= found["datasync_watch_handler_seconds_sum"] <= took
            assert found["datasync_watch_handler_seconds_bucket0.05"] == 0
            assert found["datasync_watch_handler_seconds_bucket+Inf"] == 1
            assert found["datasync_watch_handler_seconds_count"] == 1
            assert 0 <= found["datasync_watch_last_accepted_age_seconds"] < 60

            await sync.put("a", b"1")
            await eventually(lambda: parsed(sync)["datasync_watch_handler_seconds_count"] == 2)
            if kind == "stream":
                reader.cancel()

    run(main())


def test_open_keys_are_counted(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:

            @sync.watcher("")
            async def waits(event: Any) -> None:
                if event.changes:
                    raise Outcomes({"a": Pending(), "b": Failed()})

            await sync.ready(60)
            assert parsed(sync)["datasync_watch_open_keys"] == 0
            await sync.txn().put("a", b"1").put("b", b"1").put("c", b"1").commit()
            await eventually(lambda: parsed(sync)["datasync_watch_open_keys"] == 2)

    run(main())


def test_refused_keys_and_failures_are_counted(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://", retry=Backoff(initial=0.001, maximum=0.001)) as sync:
            tries = 0

            @sync.watcher("")
            async def picky(event: Any) -> None:
                nonlocal tries
                if isinstance(event, ChangeEvent):
                    tries += 1
                    if tries < 3:
                        raise RuntimeError("not yet")
                    raise Refused({change.key: "no" for change in event.changes})

            await sync.ready(60)
            before = parsed(sync)
            await sync.txn().put("a", b"1").put("b", b"1").commit()
            # the third try has ended, not only begun
            await eventually(lambda: parsed(sync)["datasync_watch_refused_keys"] == 2)
            after = parsed(sync)
            assert tries == 3
            assert before["datasync_watch_refused_keys"] == 0
            assert after["datasync_watch_failures_total"] == 2
            # a refusal is an acceptance of all else
            assert after["datasync_watch_handler_seconds_count"] == 4

    run(main())
