"""Reading over HTTP: values, pages, the stream of events, status, health and metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families as text_families

from datasync import DataSync, Refused
from datasync.restsync._limits import Limits
from datasync.testing.contract import eventually
from tests.helpers.rest.agents import Agent, agent

Run = Callable[[Any], None]
JSON = {"Content_Type": "application/json"}


async def fill(it: Agent, items: dict[str, str]) -> None:
    """Give the agent its whole state."""
    state = [{"key": key, "value": value} for key, value in items.items()]
    assert (
        await it.ask("PUT", "/v1/keys", json.dumps({"items": state}).encode(), **JSON)
    ).status in (200, 202, 422)


def test_values_come_back_as_the_bytes_that_they_are(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            for raw, kind in (
                (b'{"mtu": 1500}', "application/json"),
                (b"hello", "text/plain; charset=utf-8"),
                (bytes(range(256)), "application/octet-stream"),
                (b"", "text/plain; charset=utf-8"),
            ):
                await it.ask("PUT", "/v1/keys/config/v", raw)
                answer = await it.ask("GET", "/v1/keys/config/v")
                assert (answer.body, answer.headers["Content-Type"]) == (raw, kind)
                assert answer.headers.get("X-Content-Type-Options", "nosniff") == "nosniff"
                head = await it.ask("HEAD", "/v1/keys/config/v")
                assert (head.status, head.body, head.headers["ETag"]) == (
                    200,
                    b"",
                    answer.headers["ETag"],
                )
            message = await it.ask("GET", "/v1/keys/config/v", Accept="application/x-protobuf")
            assert message.headers["Content-Type"] == "application/x-protobuf"
            missing = await it.ask("GET", "/v1/keys/config/none")
            assert (missing.status, missing.json["title"]) == (404, "NoSuchKey")

    run(main())


def test_unusual_keys_are_the_path(run: Run) -> None:
    async def main() -> None:
        async with agent("") as it:
            for path, key in (
                ("a%20b", "a b"),
                ("a/../b", "a/../b"),
                ("%D0%BA%D0%BB", "кл"),
                ("a%2Fb", "a/b"),
                ("/a//b/", "/a//b/"),
                ("100%25", "100%"),
                ("q%3Fx%23y", "q?x#y"),
            ):
                assert (await it.ask("PUT", f"/v1/keys/{path}", b"1")).status == 200
                assert key in it.probe.state
                assert (await it.ask("GET", f"/v1/keys/{path}")).body == b"1"
            assert (await it.ask("PUT", "/v1/keys/%FF", b"1")).status == 400
            assert (await it.ask("PUT", "/v1/keys/", b"1")).status == 400

    run(main())


def test_pages_stand_at_one_revision(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            await fill(
                it, {f"config/{number:03}": str(number) for number in range(250)} | {"other": "x"}
            )
            first = (await it.ask("GET", "/v1/keys?prefix=config/&limit=100")).json
            await it.ask("DELETE", "/v1/keys?prefix=config/")
            second = (
                await it.ask("GET", f"/v1/keys?prefix=config/&limit=100&cursor={first['next']}")
            ).json
            third = (
                await it.ask("GET", f"/v1/keys?prefix=config/&limit=100&cursor={second['next']}")
            ).json
            items = first["items"] + second["items"] + third["items"]
            assert [item["key"] for item in items] == [
                f"config/{number:03}" for number in range(250)
            ]
            assert items[7]["value"] == "7"
            assert third["next"] is None
            gone = await it.ask("GET", f"/v1/keys?prefix=config/&limit=100&cursor={first['next']}")
            assert gone.status == 410
            assert [
                item["key"] for item in (await it.ask("GET", "/v1/keys?values=false")).json["items"]
            ] == ["other"]
            for wrong in (
                "prefix=a",
                "limit=0",
                "limit=x",
                "values=2",
                "what=1",
                "prefix=&prefix=",
            ):
                assert (await it.ask("GET", f"/v1/keys?{wrong}")).status == 400
            assert (await it.ask("DELETE", "/v1/keys")).status == 400

    run(main())


def test_a_page_holds_so_many_bytes_at_most(run: Run) -> None:
    async def main() -> None:
        async with agent(limits=Limits(page_bytes=1000)) as it:
            await fill(it, {f"config/{number}": "x" * 400 for number in range(5)})
            found, cursor, pages = [], "", 0
            while cursor is not None:
                path = "/v1/keys?prefix=config/" + (f"&cursor={cursor}" if cursor else "")
                page = (await it.ask("GET", path)).json
                found += [item["key"] for item in page["items"]]
                cursor, pages = page["next"], pages + 1
            assert (found, pages) == ([f"config/{number}" for number in range(5)], 3)

    run(main())


async def events(it: Agent, path: str, **headers: str) -> AsyncGenerator[tuple[str, str, Any]]:
    """Name, id and data of each event."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with it.client.get(it.url + path, headers=named) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        block: dict[str, str] = {}
        async for line in answer.content:
            name, _, text = line.decode().rstrip("\n").partition(": ")
            if name:
                block[name] = text
            elif "data" in block:
                yield block["event"], block.get("id", ""), json.loads(block["data"])
                block = {}


def test_events_from_the_snapshot_on_and_behind_an_id(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            await fill(it, {"config/a": "1", "config/b": "1", "other": "1"})
            stream = events(it, "/v1/events?prefix=config/")
            names = [await anext(stream) for _ in range(3)]
            assert [name for name, _, _ in names] == [
                "snapshot-begin",
                "snapshot-chunk",
                "snapshot-end",
            ]
            assert [item["key"] for item in names[1][2]["items"]] == ["config/a", "config/b"]
            position = names[2][1]
            assert position
            await it.ask("PUT", "/v1/keys/config/a", b"2")
            await it.ask("PUT", "/v1/keys/config/bin", b"\xff")
            await it.ask("DELETE", "/v1/keys/config/b")
            commits = [
                data["changes"] for _, data in [await until_commit(stream) for _ in range(3)]
            ]
            assert commits == [
                [{"op": "put", "key": "config/a", "value": "2", "prev": "1"}],
                [{"op": "put", "key": "config/bin", "value_base64": "/w=="}],
                [{"op": "delete", "key": "config/b", "prev": "1"}],
            ]
            await it.ask("PUT", "/v1/keys/other", b"2")
            name, _, data = await anext(stream)
            assert (name, data) == ("progress", {"revision": 5})
            await stream.aclose()
            again = events(it, "/v1/events?prefix=config/", Last_Event_ID=position)
            assert [(await until_commit(again))[1]["changes"] for _ in range(3)] == commits
            await again.aclose()
            later = events(it, "/v1/events?prefix=config/&from=now")
            assert (await anext(later))[0] == "progress"
            await it.ask("PUT", "/v1/keys/config/a", b"3")
            assert (await until_commit(later))[1]["revision"] == 6
            await later.aclose()
            unknown = events(it, "/v1/events?key=config/a", Last_Event_ID="another.7")
            assert (await anext(unknown))[0] == "snapshot-begin"
            await unknown.aclose()
            for wrong in ("prefix=a", "key=a/", "from=then", "heartbeat=0", "what=1"):
                assert (await it.ask("GET", f"/v1/events?{wrong}")).status == 400

    run(main())


async def until_commit(stream: AsyncIterator[tuple[str, str, Any]]) -> tuple[str, Any]:
    """The next commit."""
    async for name, mark, data in stream:
        if name == "commit":
            return mark, data
    raise AssertionError("the stream ended")


def test_signs_of_life(run: Run) -> None:
    async def main() -> None:
        async with (
            agent() as it,
            it.client.get(it.url + "/v1/events?heartbeat=0.1&from=now") as answer,
        ):
            beats = 0
            async for line in answer.content:
                beats += line == b":\n"
                if beats == 3:
                    break

    run(main())


def test_status_health_and_metrics(run: Run) -> None:
    async def main() -> None:
        async with agent(answers=[None, ValueError("no space left")]) as it:
            await it.sync.ready(60)
            it.sync.watch('a "quoted"\nname', "nobody/")
            await it.ask("PUT", "/v1/keys/config/a", b"1")
            await eventually(lambda: it.probe.state == {"config/a": b"1"})
            stream = events(it, "/v1/events")
            await anext(stream)
            status = (await it.ask("GET", "/v1/status")).json
            assert (status["keys"], status["revision"], status["ready"], status["watchers"]) == (
                1,
                1,
                True,
                1,
            )
            [remote] = status["remote"]
            assert remote.pop("peer").startswith("127.0.0.1:")
            assert remote == {"scopes": [""], "behind": 0}
            assert [source["state"] for source in status["sources"]] == ["following"]
            assert [watch["name"] for watch in status["watches"]] == ["probe", 'a "quoted"\\nname']
            assert status["watches"][0]["events"] == 3
            assert len(status["rate"]["values"]) == 299
            text = (await it.ask("GET", "/metrics")).body.decode()
            lines = [line for line in text.splitlines() if not line.startswith("#")]
            assert all(line.startswith("datasync_") for line in lines)
            assert "config/a" not in text
            assert "datasync_keys 1.0" in lines
            assert 'datasync_watch_backlog_changes{watch="probe"} 0.0' in lines
            assert [
                line
                for line in lines
                if line.endswith('watch="a \\"quoted\\"\\\\nname"} 1.0') and "_state{" in line
            ]
            assert (
                'datasync_http_requests_total{method="PUT",route="/v1/keys/{key}",status="500"} 1.0'
                in lines
            )
            assert (await it.ask("GET", "/health")).json == {"ready": True}
            await stream.aclose()
            await eventually(lambda: it.sync.status().sources[0].state == "following")

    run(main())


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1",
            "application/openmetrics-text",
        ),
        ("text/html", "text/plain"),
        ("", "text/plain"),
    ],
)
def test_the_metrics_come_in_the_format_that_is_asked_for(run: Run, accept: str, kind: str) -> None:
    async def main() -> None:
        async with agent() as it:
            answer = await it.ask("GET", "/metrics", Accept=accept)
            assert answer.status == 200
            assert answer.headers["content-type"].partition(";")[0] == kind
            assert answer.headers["vary"] == "accept"
            text = answer.body.decode()
            parse = openmetrics_families if kind.startswith("application") else text_families
            assert {"datasync_keys", "datasync_watch_state"} <= {
                family.name for family in parse(text)
            }

    run(main())


def test_a_format_of_no_version_that_there_is_spoils_no_scrape(run: Run) -> None:
    """The library of some versions cannot read it; others take it for OpenMetrics."""

    async def main() -> None:
        async with agent() as it:
            for accept in ("application/openmetrics-text;version=1.x", "text/plain;version=x"):
                answer = await it.ask("GET", "/metrics", Accept=accept)
                assert answer.status == 200
                assert b"datasync_keys" in answer.body

    run(main())


def test_the_status_lists_so_many_refused_keys_at_most(run: Run) -> None:
    async def main() -> None:
        refused = {f"config/{number:03}": "no" for number in range(250)}
        async with agent(answers=[None, Refused(refused)]) as it:
            await it.sync.ready(60)
            await fill(it, refused)
            [watch] = (await it.ask("GET", "/v1/status")).json["watches"]
            assert watch["failing"]["why"] == "refused; 250 keys in all, of which 100 are listed"
            assert len(watch["failing"]["keys"]) == 100

    run(main())


def test_the_status_lists_so_many_watches_and_scopes_at_most_and_those_that_fail_first(
    run: Run,
) -> None:
    async def main() -> None:
        async with agent() as it:
            await it.sync.ready(60)

            async def fails(event: Any) -> None:
                raise ValueError("x" * 5000)

            async def accepts(event: Any) -> None:
                pass

            for number in range(1100):
                it.sync.watcher(f"{number}/", name=f"watch {number}")(accepts)
            it.sync.watcher(*(f"{number:03}/" for number in range(300)), name="last")(fails)
            far = DataSync(it.url)
            far.watcher(*(f"{number:03}/" for number in range(300)), name="far")(accepts)
            async with far:
                await far.ready(60)
                await eventually(lambda: it.sync.status().watches[-1].failing is not None)
                status = (await it.ask("GET", "/v1/status")).json
                assert len(it.sync.status().watches[-1].scopes) == 300
                metrics = (await it.ask("GET", "/metrics")).body.decode()

            names = [watch["name"] for watch in status["watches"]]
            assert len(names) == 1000
            assert status["more_watches"] == 102
            assert names == ["probe", *(f"watch {number}" for number in range(998)), "last"]
            [remote], last = status["remote"], status["watches"][-1]
            for shown in remote, last:
                assert (shown["scopes"], shown["more_scopes"]) == (
                    [f"{number:03}/" for number in range(20)],
                    280,
                )
            assert len(last["failing"]["why"]) < 1010
            assert metrics.count("\ndatasync_watch_failing{") == 1102

    run(main())


def test_what_there_is_not(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            assert (await it.ask("GET", "/nothing")).status == 404
            assert (await it.ask("GET", "/page/../app.py")).status == 404
            for method, path, allowed in (
                ("PATCH", "/v1/keys/a", "GET, HEAD, PUT, DELETE"),
                ("POST", "/v1/keys", "GET, HEAD, PUT, DELETE"),
                ("GET", "/v1/transactions", "POST"),
                ("DELETE", "/v1/events", "GET, POST"),
                ("POST", "/v1/status", "GET, HEAD"),
                ("POST", "/", "GET, HEAD"),
            ):
                answer = await it.ask(method, path)
                assert (answer.status, answer.headers["Allow"]) == (405, allowed)
                assert answer.headers["Content-Type"] == "application/problem+json"

    run(main())


def test_a_server_that_is_not_ready_keeps_its_watchers_waiting(run: Run) -> None:
    async def main() -> None:
        async with agent(empty=False) as it:
            stream = events(it, "/v1/events?prefix=config/")
            first = asyncio.ensure_future(anext(stream))
            assert (await it.ask("GET", "/v1/status")).json["ready"] is False
            assert not first.done()
            await fill(it, {"config/a": "1"})
            assert (await first)[0] == "snapshot-begin"
            await stream.aclose()

    run(main())
