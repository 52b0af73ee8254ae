"""Clients that do what they should not: the agent goes on working, and says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

from datasync.restsync import _requests, listener
from datasync.restsync._limits import Limits
from datasync.testing.contract import eventually
from tests.helpers.rest.agents import Agent, agent, raw_request
from tests.helpers.rest.served import served

Run = Callable[[Any], None]
JSON = {"Content_Type": "application/json"}
_CLOSE = {"Connection": "close"}


async def works(it: Agent) -> None:
    """The agent still does what it is for."""
    assert (await it.ask("PUT", "/v1/keys/config/works", b"1")).status == 200
    assert it.probe.state["config/works"] == b"1"
    await it.ask("DELETE", "/v1/keys/config/works")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/keys/config/a", 413), ("/v1/keys", 413), ("/v1/nothing", 404)],
    ids=str,
)
def test_an_answer_reaches_a_client_that_sends_all_before_it_reads(
    run: Run, path: str, status: int, chunked: bool
) -> None:
    body = b"x" * (8 << 20)

    def ask(port: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            parts = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
            connection.request(
                "PUT", path, parts if chunked else body,
                {**_CLOSE, "Content-Type": "application/json"},
                encode_chunked=chunked,
            )  # fmt: skip
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    async def main() -> None:
        async with agent(limits=Limits(value=1000, state=20_000)) as it:
            found, text = await asyncio.to_thread(ask, it.port)
            assert found == status
            assert json.loads(text)["status"] == status
            await works(it)

    run(main())


def test_what_is_not_wanted_is_read_only_so_far(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_requests, "_DISCARDED", 100_000)

    async def main() -> None:
        async with agent(limits=Limits(value=1000)) as it:
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            head = b"PUT /v1/keys/config/a HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000000000\r\n\r\n"
            writer.write(head)
            assert b" 413 " in await reader.readline()  # before anything of the body is sent
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"x" * 10_000)
                    await writer.drain()
                    await asyncio.sleep(0)
            writer.transport.abort()
            await works(it)

    run(main())


def test_bodies_that_are_too_large_or_no_good(run: Run) -> None:
    async def main() -> None:
        async with agent(
            limits=Limits(value=1000, state=20_000, operations=3, keys=3, key=100)
        ) as it:
            url = "/v1/keys/config/a"
            assert (await it.ask("PUT", url, b"x" * 1001)).status == 413

            async def parts() -> Any:
                for _ in range(100):
                    yield b"x" * 100

            async with it.client.put(it.url + url, data=parts()) as answer:
                assert answer.status == 413
            assert (await it.ask("PUT", "/v1/keys/" + "k" * 101, b"1")).status == 414
            assert (await it.ask("PUT", url, b"{no json", **JSON)).status == 400
            assert (
                await it.ask("PUT", url, b'{"a":' * 120 + b"1" + b"}" * 120, **JSON)
            ).status == 200
            put = {"op": "put", "key": "config/a", "value": "1"}
            for operations, status in (
                ([put, {"op": "put", "key": "config/b", "value": "1"}], 200),
                ([{**put, "key": f"config/{n}"} for n in range(4)], 413),
                ([{**put, "value": "x" * 1001}], 413),
                ([put, put], 409),
                ([put, {"op": "delete", "key": "config/", "prefix": True}], 409),
                ([{"op": "delete", "key": "config", "prefix": True}], 400),
                ([{**put, "value_base64": "AA=="}], 400),
                ([{"op": "put", "key": "config/a"}], 400),
                ([{"op": "put", "key": "config/a", "value_base64": "?"}], 400),
                ([{**put, "ttl": -1}], 400),
                ([{**put, "what": 1}], 400),
                ([{"op": "what"}], 400),
                ([{**put, "key": ""}], 400),
                ("none", 400),
            ):
                body = json.dumps({"operations": operations}).encode()
                answer2 = await it.ask("POST", "/v1/transactions", body, **JSON)
                assert answer2.status == status, (operations, answer2.body)
            for body in (
                b"",
                b"{",
                b"[]",
                b"\xff",
                b'{"operations":[{"op":"put","key":"\\ud800","value":"1"}]}',
            ):
                assert (await it.ask("POST", "/v1/transactions", body, **JSON)).status == 400
            assert (
                await it.ask("POST", "/v1/transactions", b"{}", Content_Type="text/plain")
            ).status == 415
            items = [{"key": f"config/{n}", "value": "1"} for n in range(4)]
            assert (
                await it.ask("PUT", "/v1/keys", json.dumps({"items": items}).encode(), **JSON)
            ).status == 413
            assert (await it.ask("PUT", "/v1/keys", b"x" * 20_001, **JSON)).status == 413
            for wrong in (
                "confirm=maybe",
                "confirm=-1",
                "confirm=1&confirm=2",
                "ttl=0",
                "ttl=nan",
                "x=1",
            ):
                assert (await it.ask("PUT", f"{url}?{wrong}", b"1")).status == 400
            await works(it)

    run(main())


def test_no_http_at_all(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            for data in (
                b"\x16\x03\x01\x02\x00",
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
                b"PUT /v1/keys/a HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
                (
                    b"PUT /v1/keys/a HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: "
                    b"chunked\r\n\r\n"
                ),
                b"PUT /v1/keys/a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n",
            ):
                answer = await raw_request(it.port, data + b"\r\n" * 4)
                assert not answer or answer.split(b" ", 2)[1].startswith(b"4"), answer
            await works(it)

    run(main())


def test_a_head_without_an_end_is_cut(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            with contextlib.suppress(ConnectionError):
                endless = b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x-header: y\r\n" * 20_000
                assert await raw_request(it.port, endless) == b""
            await works(it)

    run(main())


def test_requests_that_do_not_come_are_cut(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_HEAD_TIME", 0.2)
    monkeypatch.setattr(listener, "_BODY_TIME", 0.2)

    async def main() -> None:
        async with agent() as it:
            for part in (
                b"",
                b"GET / HT",
                (
                    b"PUT /v1/keys/config/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n"
                    b"\r\n12345"
                ),
                b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HT",
            ):
                with contextlib.suppress(ConnectionError):
                    assert not (await raw_request(it.port, part)).partition(b'{"ready":true}')[2]
            assert "config/a" not in it.probe.state
            await works(it)

    run(main())


def test_clients_that_go_away(run: Run) -> None:
    """While they send, while they wait for a verdict, and while they follow."""

    async def main() -> None:
        async with agent(ack_timeout=60) as it:
            await it.sync.ready(60)
            it.probe.gate.clear()
            head = (
                b"PUT /v1/keys/config/%d HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n"
            )
            writers = []
            for number in range(100):
                _, writer = await asyncio.open_connection("127.0.0.1", it.port)
                writer.write(head % number + (b"12345" if number % 2 else b"12"))
                writers.append(writer)
                _, writer = await asyncio.open_connection("127.0.0.1", it.port)
                writer.write(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
                writers.append(writer)
            await eventually(lambda: len(it.source._hub.watchers) == 100)
            await eventually(lambda: it.source._inbox._revision == 50)
            for writer in writers:
                writer.transport.abort()
            await eventually(lambda: not it.source._hub.watchers)
            it.probe.gate.set()
            await eventually(lambda: len(it.probe.state) == 50)
            await works(it)

    run(main())


def test_a_flood_of_requests(run: Run) -> None:
    async def main() -> None:
        async with agent(limits=Limits(writes=20, streams=5), ack_timeout=60) as it:
            await it.sync.ready(60)
            it.probe.gate.clear()
            puts = [
                asyncio.ensure_future(it.ask("PUT", f"/v1/keys/config/{n}", b"1"))
                for n in range(300)
            ]
            await eventually(lambda: sum(put.done() for put in puts) == 280)
            assert {put.result().status for put in puts if put.done()} == {429}
            assert (await it.ask("GET", "/v1/status")).status == 200
            it.probe.gate.set()
            answers = await asyncio.gather(*puts)
            assert sorted({answer.status for answer in answers}) == [200, 429]
            refused = next(answer for answer in answers if answer.status == 429)
            assert refused.headers["Retry-After"] == "1"
            async with contextlib.AsyncExitStack() as stack:
                statuses = []
                for _ in range(6):
                    answer = await stack.enter_async_context(it.client.get(it.url + "/v1/events"))
                    statuses.append(answer.status)
                assert statuses == [200] * 5 + [429]
            await works(it)

    run(main())


def test_a_watcher_that_reads_nothing_is_let_go(run: Run) -> None:
    async def main() -> None:
        limits = Limits(stalled=0.3)
        async with agent(limits=limits) as it:
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=1024)
            writer.write(b"GET /v1/events?heartbeat=0.1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await eventually(lambda: it.source._hub.watchers)
            for number in range(20):
                await it.ask("PUT", f"/v1/keys/config/{number}", b"x" * 1_000_000)
            await eventually(lambda: not it.source._hub.watchers)
            writer.close()
            assert reader is not None
            await works(it)

    run(main())


def test_tokens(run: Run) -> None:
    async def main() -> None:
        async with agent(query="?token=s3cret") as it:
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Basic s3cret"},
            ):
                for method, path in (
                    ("GET", "/v1/keys"), ("PUT", "/v1/keys/config/a"), ("GET", "/v1/events"),
                    ("GET", "/v1/status"), ("GET", "/metrics"), ("POST", "/v1/transactions"),
                ):  # fmt: skip
                    answer = await it.ask(method, path, None, **headers)
                    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
                    assert b"s3cret" not in answer.body
            for path in ("/", "/page/main.js", "/health", "/openapi.json"):
                assert (await it.ask("GET", path)).status == 200
            allowed = await it.ask("PUT", "/v1/keys/config/a", b"1", Authorization="bearer s3cret")
            assert allowed.status == 200
            # any name will do, for a foreign page has no token
            named = await it.ask(
                "GET", "/v1/keys", Authorization="Bearer s3cret", Host="agent.example"
            )
            assert named.status == 200
            assert "s3cret" not in json.dumps(
                (await it.ask("GET", "/v1/status", Authorization="Bearer s3cret")).json
            )

    run(main())


def test_no_page_of_another_site_reaches_it(run: Run) -> None:
    """No CORS, JSON only where a form could post, and no name but localhost
    where there is no token.
    """

    async def main() -> None:
        async with agent() as it:
            for path in ("/v1/keys/config/a", "/v1/transactions"):
                preflight = await it.ask(
                    "OPTIONS",
                    path,
                    Origin="http://evil.example",
                    Access_Control_Request_Method="PUT",
                )
                assert preflight.status == 405
            answer = await it.ask("GET", "/v1/keys", Origin="http://evil.example")
            assert not [
                name for name in answer.headers if name.lower().startswith("access-control")
            ]
            for host, status in (
                ("evil.example", 421), (f"evil.example:{it.port}", 421),
                ("localhost.evil.example", 421), ("localhost", 200), (f"127.0.0.1:{it.port}", 200),
                ("[::1]:80", 200),
            ):  # fmt: skip
                for path in ("/v1/keys", "/health", "/"):
                    assert (await it.ask("GET", path, Host=host)).status == status

    run(main())


def test_a_slow_reader_of_a_snapshot_delays_nobody(run: Run) -> None:
    async def main() -> None:
        async with served() as server:
            from datasync import DataSync

            async with DataSync(server.source) as writer:
                for number in range(50):
                    await writer.put(f"big/{number}", b"x" * 200_000)
                await eventually(lambda: server.hub.keys == 50)
                lazy = [
                    await asyncio.open_connection("127.0.0.1", server.access.port, limit=1024)
                    for _ in range(20)
                ]
                for _, stream in lazy:
                    stream.write(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
                await eventually(lambda: len(server.hub.watchers) == 20)
                async with DataSync(server.url) as client:
                    view = client.view("small/")
                    loop = asyncio.get_running_loop()
                    began = loop.time()
                    for number in range(50):
                        revision = await writer.put("small/a", b"%d" % number)
                        assert revision is not None
                        await view.at_least(revision, timeout=60)
                    assert loop.time() - began < 10
                for _, stream in lazy:
                    stream.transport.abort()

    run(main())


def test_bodies_are_bounded_in_sum(run: Run) -> None:
    """Those that are not complete, or not answered; a small one is taken in any case."""

    async def main() -> None:
        async with agent(limits=Limits(bodies=2_500_000)) as it:

            async def begin(key: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
                head = (
                    f"PUT /v1/keys/config/{key} HTTP/1.1\r\nhost: localhost\r\n"
                    "content-length: 1000000\r\n\r\n"
                )
                writer.write(head.encode() + b"x" * 900_000)
                await writer.drain()
                return reader, writer

            async def put(status: int) -> Any:
                """Once the server has seen what was sent before, this is its answer."""
                while True:
                    answer = await it.ask("PUT", "/v1/keys/config/other", b"x" * 1_000_000)
                    if answer.status == status:
                        return answer

            (reader, first), (_, second) = await begin("a"), await begin("b")
            refused = await put(429)
            assert refused.json["title"] == "TooManyWrites"
            assert refused.headers["Retry-After"] == "1"
            assert (await it.ask("PUT", "/v1/keys/config/small", b"x" * 60_000)).status == 200

            first.write(b"x" * 100_000)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            await put(200)  # what is answered is counted no more
            third = (await begin("c"))[1]
            await put(429)
            second.transport.abort()
            await put(200)  # nor is what a client has left
            third.transport.abort()
            first.close()
            await eventually(lambda: it.probe.state.keys() >= {"config/a", "config/other"}, 60)
            assert not it.probe.state.keys() & {"config/b", "config/c"}

            streams = []
            for _ in range(3):  # which have read what they were asked for
                reader, stream = await asyncio.open_connection("127.0.0.1", it.port)
                body = json.dumps({"scopes": [f"config/{n}" for n in range(100_000)]}).encode()
                head = (
                    "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: "
                    f"application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                )
                stream.write(head.encode() + body)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
                streams.append(stream)
            await put(200)
            for stream in streams:
                stream.transport.abort()

    run(main())
