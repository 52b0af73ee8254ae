"""What a part of an application shows of itself with its DataSync."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import aiohttp
import msgspec
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from datasync import AlreadyRegistered, BadValue, DataSync, UsageError
from datasync.metrics.otel import observe
from datasync.metrics.prometheus import StatusCollector
from datasync.panels import Block, Measure, Panel, Row, Table, UnknownQuestion
from datasync.status import LATENCIES, Latency

Run = Callable[[Coroutine[Any, Any, None]], None]


class Cache(Panel):
    def __init__(self, name: str = "cache", entries: float = 3) -> None:
        self.name = name
        self.entries = entries

    def measures(self) -> Iterable[Measure]:
        yield Measure("cache_entries", "gauge", "Entries.", [({"kind": "x"}, self.entries)])
        yield Measure("cache_hits_total", "counter", "Hits.", [({}, 7)])
        seconds = Latency(0.5, [1] + [0] * len(LATENCIES))
        yield Measure("cache_seconds", "histogram", "Times.", [({}, seconds)])

    def blocks(self, about: str) -> Iterable[Block]:
        yield Table(f"Entries {about}", ["entry"], [Row(["<b>"], "good", "one")])

    async def answer(self, question: str, body: bytes) -> Any:
        if question != "size":
            raise UnknownQuestion(question)
        if body == b"{}":
            raise BadValue("say of what")
        return {"size": len(body)}


async def ask(
    method: str,
    url: str,
    body: bytes | None = None,
    kind: str = "application/json",
    token: str = "",
) -> tuple[int, Any]:
    headers = {"content-type": kind} | ({"authorization": f"Bearer {token}"} if token else {})
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, url, data=body, headers=headers) as answer,
    ):
        return answer.status, msgspec.json.decode(await answer.read())


async def text(url: str) -> str:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return await answer.text()


def test_its_measures_are_among_the_metrics_wherever_these_are_read(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync, DataSync("memory://") as other:
            sync.show(Cache())
            other.show(Cache(entries=4))
            registry = CollectorRegistry()
            registry.register(StatusCollector(sync.status, other.status))
            lines = generate_latest(registry).decode().splitlines()
            assert 'cache_entries{kind="x",panel="cache"} 3.0' in lines
            assert 'cache_entries{kind="x",panel="cache (2)"} 4.0' in lines
            assert 'cache_hits_total{panel="cache"} 7.0' in lines
            assert 'cache_seconds_bucket{le="0.001",panel="cache"} 1.0' in lines
            assert lines.count("# TYPE cache_entries gauge") == 1

            url = (await sync.serve_status("127.0.0.1:0")).url
            shown = await text(f"{url}/metrics")
            assert 'cache_entries{kind="x",panel="cache"} 3.0' in shown.splitlines()

            reader = InMemoryMetricReader()
            provider = MeterProvider([reader])
            observe(sync.status, meter=provider.get_meter("test"))
            found = reader.get_metrics_data()
            provider.shutdown()
        assert found is not None
        values = {
            metric.name: [getattr(point, "value", None) for point in metric.data.data_points]
            for metric in found.resource_metrics[0].scope_metrics[0].metrics
        }
        assert values["cache.entries"] == [3]
        assert values["cache.hits"] == [7]
        assert values["cache.seconds.count"] == [1]

    run(main())


def test_it_is_shown_and_asked_at_the_status_address(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            panel = Cache()
            sync.show(panel)
            url = (await sync.serve_status("127.0.0.1:0")).url
            assert (await ask("GET", f"{url}/v1/status"))[1]["panels"] == ["cache"]
            code, answer = await ask("GET", f"{url}/v1/panels/cache?about=x%2Fy")
            assert (code, answer) == (
                200,
                {
                    "blocks": [
                        {
                            "type": "table",
                            "title": "Entries x/y",
                            "head": ["entry"],
                            "rows": [{"cells": ["<b>"], "tone": "good", "about": "one"}],
                        }
                    ]
                },
            )
            assert await ask("POST", f"{url}/v1/panels/cache/size", b"[1]") == (200, {"size": 3})

            wrong = [
                ("GET", "nowhere", None, 404, "NoSuchPanel"),
                ("POST", "cache", b"1", 405, "NoSuchMethod"),
                ("GET", "cache/size", None, 405, "NoSuchMethod"),
                ("POST", "cache/colour", b"1", 404, "NoSuchQuestion"),
                ("POST", "cache/size", b"{}", 400, "BadValue"),
                ("GET", "cache?colour=x", None, 400, "BadQuery"),
            ]
            for method, path, body, code, title in wrong:
                got = await ask(method, f"{url}/v1/panels/{path}", body)
                assert (got[0], got[1]["title"]) == (code, title), path
            # a page of a foreign origin cannot send JSON unasked
            got = await ask("POST", f"{url}/v1/panels/cache/size", b"1", "text/plain")
            assert got[0] == 415
            assert "/v1/panels/{name}" in (await ask("GET", f"{url}/openapi.json"))[1]["paths"]
            # the number of names that somebody makes up has no bound
            metrics = await text(f"{url}/metrics")
            assert 'route="/v1/panels/{name}",status="404"' in metrics
            assert "nowhere" not in metrics

            sync.hide(panel)
            assert "panels" not in (await ask("GET", f"{url}/v1/status"))[1]
            assert (await ask("GET", f"{url}/v1/panels/cache"))[0] == 404

    run(main())


def test_it_is_behind_the_token(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            sync.show(Cache())
            url = (await sync.serve_status("http://127.0.0.1:0?token=secret")).url
            path = f"{url}/v1/panels/cache"
            assert (await ask("GET", path))[0] == 401
            assert (await ask("POST", f"{path}/size", b"1"))[0] == 401
            assert (await ask("POST", f"{path}/size", b"1", token="secret"))[0] == 200

    run(main())


def test_a_fault_in_it_is_its_own(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Panel):
        name = "broken"

        def measures(self) -> Iterable[Measure]:
            raise RuntimeError("it broke")

        def blocks(self, about: str) -> Iterable[Block]:
            raise RuntimeError("it broke, too")

    async def main() -> None:
        async with DataSync("memory://") as sync:
            sync.show(Broken())
            sync.show(Cache())
            with caplog.at_level(logging.ERROR, "datasync"):
                assert [len(panel.measures) for panel in sync.status().panels] == [0, 3]
                url = (await sync.serve_status("127.0.0.1:0")).url
                assert (await ask("GET", f"{url}/v1/panels/broken"))[0] == 500
            assert "the panel broken cannot be measured" in caplog.text
            assert (await ask("GET", f"{url}/v1/panels/cache"))[0] == 200

    run(main())


def test_names_are_names_and_each_is_there_once(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            cache = Cache()
            sync.show(cache)
            sync.show(cache)  # it is there already
            with pytest.raises(AlreadyRegistered, match="a panel named 'cache' already"):
                sync.show(Cache())
            for name in ("", "a/b", "ä", None):
                with pytest.raises(UsageError, match="a panel has a name like"):
                    sync.show(Cache(name))  # type: ignore[arg-type]
            sync.hide(Cache())  # another one of that name
            assert sync.panels == {"cache": cache}
            sync.hide(cache)
            sync.hide(cache)
            assert sync.status().panels == []

    run(main())


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("has space", "gauge", {}),
        ("hits", "counter", {}),
        ("hits_total", "gauge", {}),
        ("hits", "gauge", {"a-b": "x"}),
        ("hits", "gauge", {"panel": "x"}),
    ],
)
def test_a_measure_that_would_spoil_all_others_is_not_made(
    name: str, kind: Any, labels: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"names like|end in _total|are taken"):
        Measure(name, kind, "About.", [(labels, 1)])


def test_a_measure_named_as_one_of_ours_is_left_out(run: Run) -> None:
    class Liar(Panel):
        name = "liar"

        def measures(self) -> Iterable[Measure]:
            yield Measure("datasync_source_up", "gauge", "A lie.", [({"source": "x"}, 1)])

    async def main() -> None:
        async with DataSync("memory://") as sync:
            sync.show(Liar())
            registry = CollectorRegistry()
            registry.register(StatusCollector(sync.status))
            assert "liar" not in generate_latest(registry).decode()

    run(main())
