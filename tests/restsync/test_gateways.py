"""G10: what stands between a client and its server may answer in its place, cut answers short,
and pack them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from datasync import (
    DataSync,
    DataSyncError,
    Disconnected,
    NotReady,
    OutcomeUnknown,
    Unauthorized,
    open_url,
)
from datasync.restsync._problems import MARK
from datasync.restsync.client import HttpSource
from datasync.source import Delete, Put
from datasync.testing.contract import eventually
from tests.helpers.load import QUICK
from tests.helpers.rest.agents import agent
from tests.helpers.rest.gateways import answering, packing
from tests.helpers.rest.served import served

Run = Callable[[Any], None]

JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html"}
PROBLEM = {"content-type": "application/problem+json"}
LOGIN = b"<html><form>Who are you?</form></html>"

ANSWERS: list[tuple[int, bytes, Mapping[str, str]]] = [
    (200, LOGIN, HTML),
    (200, b"{}", JSON),
    (200, b'{"revision": 7, "existed": [true], "items": []}', JSON),
    (200, b"[]", JSON),
    (200, b"", {}),
    (200, b"1", {"content-type": "application/octet-stream", "etag": '"v1-abc"'}),
    (202, b"{}", JSON),
    (204, b"", {}),
    (302, LOGIN, HTML | {"location": "/login"}),
    (304, b"", {}),
    (307, b'{"message": "elsewhere"}', JSON | {"location": "http://127.0.0.1:1/"}),
    (
        502,
        b'{"title": "Conflict", "detail": "", "status": 409, "key": "a", "expected": 1}',
        PROBLEM,
    ),
    (404, b'{"title": "NoSuchKey", "detail": "no", "status": 404}', PROBLEM),
    *(
        (status, b'{"message": "no"}', JSON)
        for status in (400, 401, 403, 404, 407, 409, 413, 422, 429, 500, 502, 503, 504, 511)
    ),
]


async def error_of(call: Any) -> DataSyncError:
    """The error that a call ends with."""
    with pytest.raises(DataSyncError) as caught:
        await asyncio.wait_for(call, 60)
    return caught.value


@pytest.mark.parametrize(("status", "body", "headers"), ANSWERS)
def test_an_answer_of_something_else_is_not_taken_for_one_of_the_server(
    run: Run, status: int, body: bytes, headers: Mapping[str, str]
) -> None:
    async def main() -> None:
        async with answering(status, body, headers) as url:
            source = open_url(url)
            assert isinstance(source, HttpSource)
            wants_credentials = status in (401, 403, 407, 511)
            writes: list[Any] = [
                source.commit([Put("a", b"1")]),
                source.commit([Put("a", b"1")], reply=True),
                source.commit([Delete("a/", prefix=True)]),
                source.replace([("a", b"1")]),
            ]
            for call in writes:
                assert type(await error_of(call)) is (
                    Unauthorized if wants_credentials else OutcomeUnknown
                )
            reads: list[Any] = [
                source.get("a"),
                source.page("", None, 10),
                source.open([""]),
                source.status(),
            ]
            for call in reads:
                error = await error_of(call)
                assert type(error) is (Unauthorized if wants_credentials else Disconnected)
                assert url in str(error)
                assert "older" in str(error)
            await source.aclose()

    run(main())


@pytest.mark.parametrize("body", [b"{}", b'{"revision":7}', b'{"items":[],"next":null}'])
def test_an_answer_that_was_cut_or_changed_does_not_count(run: Run, body: bytes) -> None:
    """Also where what passes it on says that this is all of it."""

    async def main() -> None:
        changed = JSON | {MARK: str(len(body) + 1)}
        cut = {
            **JSON,
            MARK: str(len(body)),
            "transfer-encoding": "identity",
            "content-length": str(len(body)),
        }
        for headers, missing in ((changed, 0), (cut, 1)):
            async with answering(200, body, headers, cut=missing) as url:
                source = open_url(url)
                assert type(await error_of(source.commit([Put("a", b"1")]))) is OutcomeUnknown
                assert isinstance(await error_of(source.get("a")), Disconnected)
                assert isinstance(await error_of(source.page("", None, 10)), Disconnected)
                await source.aclose()

    run(main())


def test_a_stream_that_is_not_ours_is_tried_again(run: Run) -> None:
    """A login page that looks like a stream of events and never ends, then the server itself."""

    async def main() -> None:
        events = {"content-type": "text/event-stream", "content-length": "1000000"}
        body = b"data: hello\n\n".ljust(1_000_000)
        async with answering(200, body, events, cut=999_000) as url, DataSync(url, **QUICK) as sync:
            sync.watch("all", "")
            await eventually(lambda: "datasync" in (sync.status().sources[0].error or ""))
            await eventually(lambda: sync.status().sources[0].state == "lost")

    run(main())


def test_our_own_problems_keep_their_errors(run: Run) -> None:
    async def main() -> None:
        async with agent(empty=False) as it:
            source = open_url(it.url)
            assert isinstance(await error_of(source.get("a")), NotReady)
            assert isinstance(await error_of(source.commit([Put("a", b"1")])), NotReady)
            for method, path in (
                ("GET", "/v1/keys/a"),
                ("GET", "/v1/status"),
                ("PUT", "/v1/nothing"),
                ("GET", "/"),
            ):
                answer = await it.ask(method, path)
                assert answer.headers[MARK] == str(len(answer.body))
            await source.aclose()

    run(main())


@pytest.mark.parametrize("always", [False, True], ids=["if asked", "always"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_through_a_gateway_that_packs(run: Run, encoding: str, always: bool) -> None:
    async def main() -> None:
        async with (
            served() as server,
            packing(server.url, encoding, always=always) as url,
            DataSync(url, **QUICK) as sync,
        ):
            view = sync.view()
            value = b"text " * 2000
            txn = sync.txn()
            for number in range(50):
                txn.put(f"a/{number}", value)
            revision = await txn.commit()
            assert revision == 1
            assert [kv.raw async for kv in sync.list("a/")] == [value] * 50
            found = await sync.get("a/1")
            assert found is not None
            assert (found.raw, found.revision) == (value, 1)
            await view.at_least(revision, timeout=60)
            revision = await sync.put("b", b"1")
            assert revision is not None
            await view.at_least(revision, timeout=60)
            assert view["b"] == b"1"

    run(main())


def test_what_cannot_be_unpacked_is_refused(run: Run) -> None:
    async def main() -> None:
        async with served() as server, packing(server.url, "x-own", always=True) as url:
            source = open_url(url)
            assert type(await error_of(source.commit([Put("a", b"1")]))) is OutcomeUnknown
            reads: list[Any] = [source.get("a"), source.page("", None, 10), source.open([""])]
            for call in reads:
                error = await error_of(call)
                assert isinstance(error, Disconnected)
                assert "x-own" in str(error)
            await source.aclose()

    run(main())
