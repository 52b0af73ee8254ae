"""What a reconciler shows on the status page, and among the metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from datasync import Backoff, BadValue, DataSync, NotApplied, open_url
from datasync.metrics.prometheus import StatusCollector
from datasync.panels import Block, Drawing, Table, Timeline, UnknownQuestion
from datasync.reconcile import Preview, Reconciler, State
from datasync.reconcile.preview import PlanRequest
from datasync.source import Source
from tests.helpers.reconcile.things import Thing, Things
from tests.helpers.servers import free_ports


@contextlib.asynccontextmanager
async def agent(stored: dict[str, Thing]) -> AsyncIterator[tuple[DataSync, Reconciler]]:
    async with DataSync("memory://") as sync:
        rec = Reconciler(sync, ack_timeout=20.0, retry=Backoff(600, 600))
        rec.add("x/", Things(), type=Thing)
        rec.add("y/", Things(), type=Thing)
        async with rec:
            await sync.ready(60)
            txn = sync.txn()
            for key, value in stored.items():
                txn.put(key, value)
            with contextlib.suppress(NotApplied):
                await txn.commit(confirm=60)
            yield sync, rec


@contextlib.asynccontextmanager
async def reconciled(source: Source, prefix: str) -> AsyncIterator[Reconciler]:
    async with DataSync(source) as sync:
        rec = Reconciler(sync)
        rec.add(prefix, Things(), type=Thing)
        async with rec:
            await sync.ready(60)
            yield rec


def shown(sync: DataSync, about: str = "") -> list[Block]:
    return list(sync.panels["reconcile"].blocks(about))


STORED = {
    "x/a": Thing(),
    "x/b": Thing(["x/a"]),
    "x/waits": Thing(["x/b", "x/gone"]),
    "y/fails": Thing(fails=True),
}


def test_metrics_tell_objects_plans_and_operations() -> None:
    async def main() -> None:
        async with agent(STORED) as (sync, _):
            registry = CollectorRegistry()
            registry.register(StatusCollector(sync.status))
            lines = generate_latest(registry).decode().splitlines()
        labels = 'kind="x/",panel="reconcile",state'
        assert f'datasync_reconcile_objects{{{labels}="applied"}} 2.0' in lines
        assert f'datasync_reconcile_objects{{{labels}="pending"}} 1.0' in lines
        assert f'datasync_reconcile_objects{{{labels}="failed"}} 0.0' in lines
        labels = 'operation="create",outcome="{}",panel="reconcile"'
        for kind, outcome, number in (("x/", "done", 2), ("y/", "failed", 1)):
            named = f'kind="{kind}",{labels.format(outcome)}'
            assert f"datasync_reconcile_operations_total{{{named}}} {number}.0" in lines
        assert 'datasync_reconcile_plan_seconds_count{panel="reconcile"} 1.0' in lines

    asyncio.run(main())


def test_the_page_shows_objects_what_waits_and_the_last_plans() -> None:
    async def main() -> None:
        async with agent(STORED) as (sync, _):
            kinds, open_, drawing, plan = shown(sync)
            assert isinstance(kinds, Table)
            rows = [dict(zip(kinds.head, row.cells, strict=True)) for row in kinds.rows]
            assert [(row["kind"], row["applied"], row["failed"]) for row in rows] == [
                ("x/", "2", "0"), ("y/", "0", "1")
            ]  # fmt: skip
            assert [row.tone for row in kinds.rows] == ["good", "bad"]
            assert isinstance(open_, Table)
            assert [row.cells for row in open_.rows] == [
                ["y/fails", "failed", "create: OSError: no such device"],
                ["x/waits", "pending", "waits for x/gone"],
            ]
            assert isinstance(drawing, Drawing)
            assert drawing.title == "Around y/fails"  # the gravest, as nothing was chosen
            assert isinstance(plan, Timeline)
            assert [bar.label for bar in plan.bars] == [
                "create x/a", "create y/fails", "create x/b"
            ]  # fmt: skip
            assert plan.bars[1].note == "OSError: no such device"
            assert all(bar.begin + bar.length <= plan.length for bar in plan.bars)

            [chosen] = [one for one in shown(sync, "x/waits") if isinstance(one, Drawing)]
            assert {(box.name, box.column) for box in chosen.boxes} == {
                ("x/waits", 0), ("x/b", 2), ("x/gone", 2), ("x/a", 4)
            }  # fmt: skip
            names = [box.name for box in chosen.boxes]
            dashed = [(names[a.begin], names[a.end]) for a in chosen.arrows if a.dashed]
            assert dashed == [("x/waits", "x/gone")]
            # to ask for one that has gone is not a fault
            assert not any(isinstance(one, Drawing) for one in shown(sync, "x/nowhere"))

    asyncio.run(main())


def test_what_is_shown_is_bounded() -> None:
    async def main() -> None:
        stored = {f"x/{number:03}": Thing(["y/gone"]) for number in range(100)}
        long = {"y/long": Thing(["y/" + "l" * 1000])}
        async with agent(stored | long) as (sync, rec):
            _, open_, drawing = shown(sync, "y/gone")
            assert isinstance(open_, Table)
            assert (len(open_.rows), open_.more) == (50, 51)
            assert isinstance(drawing, Drawing)
            assert (len(drawing.boxes), drawing.more) == (40, 61)
            assert max(len(row.cells[2]) for row in shown(sync)[1].rows) <= 301  # type: ignore[union-attr]
            await sync.put("y/gone", Thing())
            await rec.wait("x/099", State.APPLIED, 60)
            *_, plan = shown(sync)
            assert isinstance(plan, Timeline)
            assert (len(plan.bars), plan.more) == (30, 71)

    asyncio.run(main())


def test_it_is_there_while_the_reconciler_runs_and_each_has_a_name_of_its_own() -> None:
    async def main() -> None:
        async with agent(STORED) as (sync, rec):
            other = Reconciler(sync)
            other.add("z/", Things(), type=Thing)
            async with other:
                assert list(sync.panels) == ["reconcile", "reconcile-2"]
                url = (await sync.serve_status("127.0.0.1:0")).url
                async with aiohttp.ClientSession() as client:
                    answer = await client.get(f"{url}/v1/panels/reconcile?about=x/a")
                    told: Any = await answer.json()
                kinds = [block["type"] for block in told["blocks"]]
                assert kinds == ["table", "table", "drawing", "timeline"]
            assert list(sync.panels) == ["reconcile"]
            await rec.aclose()
            assert list(sync.panels) == []

    asyncio.run(main())


def test_it_answers_what_values_would_change() -> None:
    async def main() -> None:
        async with agent(STORED) as (sync, _):
            panel = sync.panels["reconcile"]
            asked = PlanRequest({"x/a": b'{"fails": true}', "x/gone": b"{}"})
            answer = await panel.answer("plan", msgspec.json.encode(asked))
            told = msgspec.json.decode(msgspec.json.encode(answer), type=Preview)
            assert [f"{one.verb.value} {one.key}" for one in told.operations] == [
                "delete x/b", "create x/gone", "delete x/a", "create x/a", "create x/b",
                "create x/waits",
            ]  # fmt: skip
            with pytest.raises(UnknownQuestion):
                await panel.answer("colour", b"{}")
            for body in (b"", b"{}", b'{"put": {"a": 1}}', b'{"put": {}, "more": 1}'):
                with pytest.raises(BadValue, match="not what plan takes"):
                    await panel.answer("plan", body)

    asyncio.run(main())


def test_an_agent_that_clients_push_to_shows_the_reconcilers_of_all_its_users() -> None:
    async def main() -> None:
        [port] = free_ports(1)
        source = open_url(f"rest://127.0.0.1:{port}?initial=empty")
        url = f"http://127.0.0.1:{port}/v1"
        async with aiohttp.ClientSession() as client, reconciled(source, "x/") as first:

            async def asked(path: str) -> Any:
                async with client.get(f"{url}/{path}") as answer:
                    return await answer.json()

            await client.put(f"{url}/keys/x/a", json={})
            await first.wait("x/a", State.APPLIED, 60)
            async with reconciled(source, "y/"):
                assert (await asked("status"))["panels"] == ["reconcile", "reconcile-2"]
                for name, prefix in (("reconcile", "x/"), ("reconcile-2", "y/")):
                    [kinds, *_] = (await asked(f"panels/{name}"))["blocks"]
                    assert [row["cells"][0] for row in kinds["rows"]] == [prefix]
            assert (await asked("status"))["panels"] == ["reconcile"]
            assert (await asked("panels/reconcile-2"))["title"] == "NoSuchPanel"

    asyncio.run(main())
