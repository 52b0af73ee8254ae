"""The status page of any DataSync: `serve_status` and `status_app`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from datasync import (
    BadStore,
    BadUrl,
    DataSync,
    Layer,
    Refused,
    ResyncEvent,
    UsageError,
    WatchClosed,
)
from datasync.kvdbsync.memory import MemorySource
from datasync.restsync.listener import Listener
from datasync.testing.contract.waiting import eventually
from datasync.testing.faults.source import FaultySource

Run = Callable[[Coroutine[Any, Any, None]], None]


async def ask(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """The status of an answer, and its body, decoded where it is JSON."""
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, url, data=body, headers=headers) as answer,
    ):
        if "json" in answer.content_type:
            return answer.status, await answer.json()
        return answer.status, await answer.read()


async def ignore(_: object) -> None:
    """A handler."""


@pytest.mark.parametrize("prefix", [None, "net/"])
def test_the_page_of_a_store_in_a_file(run: Run, tmp_path: Path, prefix: str | None) -> None:
    async def main() -> None:
        async with DataSync(f"sqlite:///{tmp_path}/net.db", prefix=prefix) as sync:
            sync.watcher("config/", name="config")(ignore)
            await sync.put("config/mtu", b"1500")
            await sync.put("elsewhere", b"nobody watches it")
            await sync.ready(60)
            url = (await sync.serve_status("127.0.0.1:0")).url
            assert not url.endswith(":0")

            _, status = await ask("GET", f"{url}/v1/status")
            assert (status["ready"], status["keys"]) == (True, 1)
            assert status["name"] == sync.status().sources[0].name
            assert [watch["name"] for watch in status["watches"]] == ["config"]
            assert [source["state"] for source in status["sources"]] == ["following"]

            # the keys that this agent knows, by the names that they have here
            _, page = await ask("GET", f"{url}/v1/keys")
            assert [(item["key"], item["value"]) for item in page["items"]] == [
                ("config/mtu", "1500")
            ]
            assert (await ask("GET", f"{url}/v1/keys/config/mtu"))[1] == 1500
            assert b"<title>datasync</title>" in (await ask("GET", f"{url}/"))[1]
            metrics = (await ask("GET", f"{url}/metrics"))[1].decode()
            assert 'datasync_watch_changes_total{watch="config"} 1.0' in metrics
            assert (await ask("GET", f"{url}/health"))[0] == 200

            # and as they change
            await sync.put("config/mtu", b"9000")
            await eventually(lambda: sync.status().watches[0].changes == 2)
            _, page = await ask("GET", f"{url}/v1/keys")
            assert [item["value"] for item in page["items"]] == ["9000"]

            # nothing is written unless it was asked for
            code, problem = await ask("PUT", f"{url}/v1/keys/config/mtu", b"1")
            assert (code, problem["title"]) == (400, "UnsupportedOption")
            assert (await sync.get("config/mtu")).value == b"9000"  # type: ignore[union-attr]
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask("GET", url)

    run(main())


def test_what_is_watched_later_is_shown_and_what_is_not_watched_any_more_is_not(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            await sync.txn().put("a/1", b"1").put("b/1", b"1").commit()
            sync.watcher("a/", name="a")(ignore)
            url = (await sync.serve_status("127.0.0.1:0")).url
            await sync.ready(60)

            async def keys() -> list[str]:
                _, page = await ask("GET", f"{url}/v1/keys")
                status = (await ask("GET", f"{url}/v1/status"))[1]
                assert status["keys"] == len(page["items"])
                return [item["key"] for item in page["items"]]

            assert await keys() == ["a/1"]
            sync.watcher("b/", name="b")(ignore)
            await sync.ready(60)
            assert await keys() == ["a/1", "b/1"]
            view = sync.view("")
            assert view.keys() == {"a/1", "b/1"}
            view.close()
            sync.watches["a"].close()
            known = sync._engine._core.mirror
            await eventually(lambda: "a/1" not in known.records)
            await asyncio.sleep(0)
            assert await keys() == ["b/1"]

    run(main())


def test_a_follower_of_the_page_sees_what_the_agent_sees(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            sync.watcher("", name="all")(ignore)
            await sync.put("a/1", b"1")
            await sync.ready(60)
            url = (await sync.serve_status("127.0.0.1:0")).url
            async with DataSync(url) as other:
                watch = other.watch("there", "")
                events = aiter(watch)
                first = await anext(events)
                assert isinstance(first, ResyncEvent)
                assert [kv.key for kv in first.values[""]] == ["a/1"]
                await sync.txn().put("a/2", b"2").delete("a/1").commit()
                second = await anext(events)
                assert [(one.key, one.value) for one in second.changes] == [
                    ("a/2", b"2"),
                    ("a/1", None),
                ]

    run(main())


def test_a_write_to_what_only_reads_is_told_where_to_go(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text("mtu: 1500\n")

    async def main() -> None:
        for source, writable, instead in (
            ("memory://", False, "this page only reads: write to the source, or make the page "),
            (f"file://{tmp_path}", True, "edit the files"),
        ):
            async with DataSync(source) as sync:
                url = (await sync.serve_status("127.0.0.1:0", writable=writable)).url
                code, answer = await ask("PUT", f"{url}/v1/keys/a", b"1")
                assert code == 400
                assert f"{source} takes no writes; {instead}" in answer["detail"]

    run(main())


def test_layers_are_shown_merged(run: Run) -> None:
    async def main() -> None:
        low, high = MemorySource("low"), MemorySource("high")
        async with DataSync(Layer(low), Layer(high), write_to="memory://high") as sync:
            sync.watcher("a/", name="a")(ignore)
            url = (await sync.serve_status("127.0.0.1:0", writable=True)).url
            await sync.ready(60)
            async with DataSync(low) as other:
                await other.txn().put("a/1", b"low").put("a/2", b"low").commit()
            await eventually(lambda: sync.status().watches[0].changes == 2)
            code, answer = await ask("PUT", f"{url}/v1/keys/a/1", b"high")
            assert (code, answer["verdict"]) == (200, "accepted")
            _, page = await ask("GET", f"{url}/v1/keys")
            values = {item["key"]: item["value"] for item in page["items"]}
            assert values == {"a/1": "high", "a/2": "low"}
            _, status = await ask("GET", f"{url}/v1/status")
            assert status["name"] == "memory://low, memory://high"
            assert len(status["sources"]) == 2

    run(main())


def test_writes_bring_the_verdict_of_the_watches_where_they_are_asked_for(
    run: Run, tmp_path: Path
) -> None:
    async def main() -> None:
        async with DataSync(f"sqlite:///{tmp_path}/a.db") as sync:

            @sync.watcher("a/")
            async def picky(event: Any) -> None:
                for change in event.changes:
                    if change.value == b"bad":
                        raise Refused({change.key: "no"})

            url = (await sync.serve_status("127.0.0.1:0", writable=True)).url
            await sync.ready(60)
            code, answer = await ask("PUT", f"{url}/v1/keys/a/1", b"good")
            assert (code, answer["verdict"], answer["revision"]) == (200, "accepted", 1)
            code, answer = await ask("PUT", f"{url}/v1/keys/a/1", b"bad")
            assert (code, answer["verdict"], answer["reasons"]) == (422, "refused", {"a/1": "no"})
            code, answer = await ask("PUT", f"{url}/v1/keys/a/1?confirm=false", b"again")
            assert (code, answer) == (200, {"revision": 3})

    run(main())


def test_before_the_start_it_says_so(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        sync.watcher("a/", name="a")(ignore)
        served = await sync.serve_status("127.0.0.1:0", health="127.0.0.1:0")
        _, status = await ask("GET", f"{served.url}/v1/status")
        assert status["ready"] is False
        assert [source["state"] for source in status["sources"]] == ["not started"]
        assert (await ask("GET", f"{served.url}/v1/keys"))[0] == 503
        assert (await ask("GET", f"{served.health}/readyz"))[0] == 503
        assert (await ask("GET", f"{served.health}/healthz"))[0] == 200
        async with sync:
            await sync.ready(60)
            assert (await ask("GET", f"{served.health}/readyz"))[0] == 200
            assert (await ask("GET", f"{served.url}/v1/status"))[1]["ready"] is True

    run(main())


def test_one_that_is_never_started_is_closed_with_its_page(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        served = await sync.serve_status("127.0.0.1:0", health="127.0.0.1:0")
        assert served.health is not None
        await sync.aclose()
        assert [source.state for source in sync.status().sources] == ["closed"]
        for url in (served.url, served.health):
            with pytest.raises(aiohttp.ClientConnectorError):
                await ask("GET", url)
        with pytest.raises(WatchClosed):
            await sync.serve_status("127.0.0.1:0")
        with pytest.raises(WatchClosed):
            sync.status_app()

    run(main())


def test_probes_answer_while_a_handler_has_not_accepted_and_say_nothing_else(run: Run) -> None:
    async def main() -> None:
        go = asyncio.Event()
        async with DataSync("memory://") as sync:

            @sync.watcher("a/")
            async def slow(event: Any) -> None:
                await go.wait()

            served = await sync.serve_status("127.0.0.1:0", health="0.0.0.0:0")
            assert served.health is not None
            health = served.health.replace("0.0.0.0", "127.0.0.1")
            assert await ask("GET", f"{health}/readyz") == (503, b"not ready\n")
            assert await ask("GET", f"{health}/healthz") == (200, b"alive\n")
            go.set()
            await sync.ready(60)
            assert await ask("GET", f"{health}/readyz") == (200, b"ready\n")
            # G11: no name, key or number is behind it, under whatever name it is asked
            for path in ("/", "/v1/status", "/v1/keys", "/metrics", "/health", "/readyz/"):
                code, body = await ask("GET", health + path, host="evil.example")
                assert (code, body) == (404, b"there is nothing at this path\n")
            assert (await ask("POST", f"{health}/readyz", b"x"))[0] == 405
            assert (await ask("HEAD", f"{health}/readyz")) == (200, b"")

    run(main())


def test_who_may_come(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASYNC_TOKEN", raising=False)

    async def main() -> None:
        async with DataSync("memory://") as sync:
            with pytest.raises(BadUrl, match="beyond this machine needs a token"):
                await sync.serve_status("0.0.0.0:0")
            url = (await sync.serve_status("http://0.0.0.0:0?token=secret")).url
            assert "secret" not in url
            url = url.replace("0.0.0.0", "127.0.0.1")
            assert (await ask("GET", f"{url}/v1/status"))[0] == 401
            assert (await ask("GET", f"{url}/metrics"))[0] == 401
            good = await ask("GET", f"{url}/v1/status", authorization="Bearer secret")
            assert good[0] == 200
            local = (await sync.serve_status("127.0.0.1:0")).url
            assert (await ask("GET", f"{local}/v1/status", host="evil.example"))[0] == 421

    run(main())


def test_what_is_not_an_address_is_told(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            with pytest.raises(UsageError, match="serve_status takes host:port, http:// or https"):
                await sync.serve_status("grpc://127.0.0.1:1")
            with pytest.raises(UsageError, match="serve_status takes host:port, not int"):
                await sync.serve_status(9191)  # type: ignore[arg-type]
            with pytest.raises(BadUrl, match="is not an address"):
                await sync.serve_status("127.0.0.1")
            with pytest.raises(BadUrl, match="health"):
                await sync.serve_status("127.0.0.1:0", health="http://127.0.0.1:0/health")

    run(main())


def test_a_port_that_is_taken_leaves_nothing_behind(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            async with DataSync("memory://") as sync:
                before = asyncio.all_tasks()
                with pytest.raises(BadStore, match="cannot listen there"):
                    await sync.serve_status(f"127.0.0.1:{port}", health="127.0.0.1:0")
                with pytest.raises(BadStore, match="cannot listen there"):
                    await sync.serve_status("127.0.0.1:0", health=f"127.0.0.1:{port}")
                assert asyncio.all_tasks() <= before
                await sync.serve_status("127.0.0.1:0")

    run(main())


def test_a_lost_source_is_shown_with_what_it_brought_before(run: Run) -> None:
    async def main() -> None:
        faulty = FaultySource()
        async with DataSync(faulty) as sync:
            sync.watcher("a/", name="a")(ignore)
            await sync.put("a/1", b"1")
            await sync.ready(60)
            served = await sync.serve_status("127.0.0.1:0", health="127.0.0.1:0")
            faulty.down()
            await eventually(lambda: sync.status().sources[0].state == "lost")
            _, status = await ask("GET", f"{served.url}/v1/status")
            assert status["sources"][0]["state"] == "lost"
            assert status["keys"] == 1
            assert (await ask("GET", f"{served.health}/readyz"))[0] == 200

    run(main())


def test_closing_ends_open_streams_at_once(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        await sync.start()
        url = (await sync.serve_status("127.0.0.1:0")).url
        async with aiohttp.ClientSession() as client, client.get(f"{url}/v1/events") as stream:
            await stream.content.readany()
            began = asyncio.get_running_loop().time()
            await sync.aclose()
            assert asyncio.get_running_loop().time() - began < 1.5

    run(main())


def test_mounted_in_an_application_of_somebody_else(run: Run) -> None:
    async def main() -> None:
        sync = DataSync("memory://")
        sync.watcher("", name="all")(ignore)
        app = sync.status_app()
        listener = Listener(app)
        await listener.start("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.port}"
        _, status = await ask("GET", f"{url}/v1/status")
        assert [source["state"] for source in status["sources"]] == ["not started"]
        async with sync:
            await sync.ready(60)
            await sync.put("a/1", b"1")
            _, page = await ask("GET", f"{url}/v1/keys")
            assert [item["key"] for item in page["items"]] == ["a/1"]
        _, status = await ask("GET", f"{url}/v1/status")
        assert [source["state"] for source in status["sources"]] == ["closed"]
        await listener.aclose()

    run(main())


def test_in_another_event_loop_it_says_where_it_belongs(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            app = sync.status_app()

            async def elsewhere() -> None:
                listener = Listener(app)
                await listener.start("127.0.0.1", 0)
                code, problem = await ask("GET", f"http://127.0.0.1:{listener.port}/v1/status")
                assert (code, problem["title"]) == (400, "WrongLoop")
                await listener.aclose()

            await asyncio.to_thread(asyncio.run, elsewhere())

    run(main())
