"""Servers that speak etcd's protocol in bad faith: bounded, told by typed errors,
and tried again like any lost one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from datasync import AnswerTooLarge, BadUrl, DataSync, Disconnected, OutcomeUnknown, open_url
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.source import Check, Delete, Operation, Put, Source
from datasync.testing.contract import eventually
from tests.helpers.etcd.etcd_server import DEBIAN, etcd_server
from tests.helpers.load import QUICK, lost_because, state_of, watched
from tests.helpers.logs import logged
from tests.helpers.memory import memory_below
from tests.helpers.raw_grpc import answering

_MIB = 1 << 20
_LIMIT = f"max_answer={_MIB}"
_KV, _WATCH = "/etcdserverpb.KV/", "/etcdserverpb.Watch/Watch"
_GARBAGE = b"\xff" * 9
_HEADER = pb.ResponseHeader(cluster_id=1, member_id=1, revision=5)
_STATUS = pb.StatusResponse(
    header=_HEADER, version="3.5.21", leader=1, raft_applied_index=9
).SerializeToString()


def _range(_: bytes) -> bytes:
    return pb.RangeResponse(header=_HEADER).SerializeToString()


def _ranges(request: bytes) -> bytes:
    asked = pb.TxnRequest.FromString(request)
    answer = pb.TxnResponse(header=_HEADER, succeeded=True)
    for _ in asked.success:
        answer.responses.add().response_range.header.CopyFrom(_HEADER)
    return answer.SerializeToString()


async def _created(request: bytes) -> AsyncIterator[bytes]:
    asked = pb.WatchRequest.FromString(request)
    if asked.HasField("create_request"):
        number = asked.create_request.watch_id
        yield pb.WatchResponse(header=_HEADER, watch_id=number, created=True).SerializeToString()


@contextlib.asynccontextmanager
async def fake(**answers: Callable[[bytes], Any]) -> AsyncIterator[str]:
    """The URL of a server that has nothing, and gives these answers instead of its own (Range,
    Txn, Watch…).
    """
    all_answers: dict[str, Callable[[bytes], Any]] = {
        "/etcdserverpb.Maintenance/Status": answers.pop("Status", lambda _: _STATUS),
        _WATCH: answers.pop("Watch", _created),
        _KV + "Range": _range,
        _KV + "Txn": _ranges,
        "/etcdserverpb.Auth/Authenticate": answers.pop("Authenticate", lambda _: b""),
        "/etcdserverpb.Lease/LeaseGrant": answers.pop("LeaseGrant", lambda _: b""),
    }
    all_answers |= {_KV + name: answer for name, answer in answers.items()}
    async with answering(all_answers) as port:
        yield f"etcd://127.0.0.1:{port}?{_LIMIT}"


def test_a_watch_that_the_server_never_begins() -> None:
    async def silence(_: bytes) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async def main() -> None:
        async with fake(Watch=silence) as url, asyncio.timeout(60):
            source = open_url(f"{url}&timeout=0.5")
            with pytest.raises(Disconnected, match="no answer in time"):
                await source.open(["a/"])
            await source.aclose()

    asyncio.run(main())


_TXNS = {
    "garbage": _GARBAGE,
    "nothing": b"",
    "no responses": pb.TxnResponse(header=_HEADER, succeeded=True).SerializeToString(),
    "refused for nothing": pb.TxnResponse(header=_HEADER).SerializeToString(),
    "too much": b"\x1a\x00" * _MIB,
}
_PUTS = {
    "garbage": _GARBAGE,
    "nothing": b"",
    "without a revision": pb.PutResponse(
        header=pb.ResponseHeader(cluster_id=1)
    ).SerializeToString(),
    "too much": b"\x0a\x00" * _MIB,
}


@pytest.mark.parametrize("answer", _PUTS)
def test_a_put_whose_answer_is_not_understood_is_unknown(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with fake(Put=lambda _: _PUTS[answer]) as url, asyncio.timeout(60):
            source = open_url(url)
            with pytest.raises(OutcomeUnknown, match="read the key"):
                await source.commit([Put("a", b"1")])
            await source.aclose()

    asyncio.run(main())
    assert not logged(caplog)  # who answers in bad faith does not fill the log


@pytest.mark.parametrize("answer", _TXNS)
def test_a_transaction_whose_answer_is_not_understood_is_unknown(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with fake(Txn=lambda _: _TXNS[answer]) as url, asyncio.timeout(60):
            source = open_url(url)
            writes: list[list[Operation]] = [
                [Delete("a")], [Put("a", b"1"), Delete("b")], [Check("a", 1), Put("a", b"1")],
            ]  # fmt: skip
            for operations in writes:
                with pytest.raises(OutcomeUnknown, match="read the key"):
                    await source.commit(operations)
            await source.aclose()

    asyncio.run(main())
    assert not logged(caplog)  # who answers in bad faith does not fill the log


@pytest.mark.parametrize("token", ["a\nb", "\x00", "\u00fc", "\x7f"])
def test_a_token_that_cannot_be_sent(token: str) -> None:
    async def main() -> None:
        answer = pb.AuthenticateResponse(header=_HEADER, token=token).SerializeToString()
        async with fake(Authenticate=lambda _: answer) as url, asyncio.timeout(60):
            source = open_url(url.replace("://", "://user:once@"))
            with pytest.raises(Disconnected, match="does not answer as etcd"):
                await source.get("a")
            with pytest.raises(Disconnected, match="does not answer as etcd"):
                await source.commit([Put("a", b"1")])
            await source.aclose()

    asyncio.run(main())


def test_a_lease_that_is_none() -> None:
    """With it the key would stay for ever."""

    async def main() -> None:
        async with fake() as url, asyncio.timeout(60):
            source = open_url(url)
            with pytest.raises(Disconnected, match="does not answer as etcd"):
                await source.commit([Put("a", b"1", ttl=5)])
            await source.aclose()

    asyncio.run(main())


_KEY = pb.KeyValue(key=b"a/1", value=b"1", mod_revision=3, create_revision=3, version=1)
_RANGES = {
    "garbage": _GARBAGE,
    "more without keys": pb.RangeResponse(header=_HEADER, more=True).SerializeToString(),
    "the same key for ever": pb.RangeResponse(
        header=_HEADER, more=True, kvs=[_KEY]
    ).SerializeToString(),
}


@pytest.mark.parametrize("answer", _RANGES)
def test_pages_come_to_an_end(answer: str) -> None:
    def together(request: bytes) -> bytes:
        reply = pb.TxnResponse(header=_HEADER, succeeded=True)
        with contextlib.suppress(Exception):
            reply.responses.add().response_range.MergeFromString(_RANGES[answer])
            return reply.SerializeToString()
        return _GARBAGE

    async def main() -> None:
        async with fake(Range=lambda _: _RANGES[answer], Txn=together) as url, asyncio.timeout(60):
            source = open_url(url)
            with pytest.raises(Disconnected, match="does not answer as etcd"):
                await _all_pages(source)
            await source.aclose()
            async with watched(url, "a/", "b/") as (sync, _):
                await eventually(
                    lambda: "does not answer as etcd" in (sync.status().sources[0].error or "")
                )

    asyncio.run(main())


async def _all_pages(source: Source) -> None:
    _, token = await source.page("a/", None, 10)
    while token is not None:
        _, token = await source.page("a/", token, 10)


def _fragment(number: int, *, fragment: bool = True, watch_id: int = 1) -> bytes:
    events = [
        pb.Event(kv=pb.KeyValue(key=b"a/%09d" % number, value=b"x" * 1_000, mod_revision=6))
        for _ in range(50)
    ]
    return pb.WatchResponse(
        header=_HEADER, watch_id=watch_id, fragment=fragment, events=events
    ).SerializeToString()


def test_fragments_without_an_end_are_bounded() -> None:
    async def endless(request: bytes) -> AsyncIterator[bytes]:
        async for reply in _created(request):
            yield reply
            for number in range(4_000):  # 200 MB
                yield _fragment(number)

    async def main() -> None:
        async with fake(Watch=endless) as url, DataSync(url, **QUICK) as sync:
            sync.watch("all", "a/")
            with memory_below(16 * _MIB):
                await eventually(lambda: lost_because(sync, "max_answer="))

    asyncio.run(main())


@pytest.mark.parametrize("watch_id", [0, 2, -5, 2**62])
def test_events_for_a_watch_that_nobody_asked_for(watch_id: int) -> None:
    async def foreign(request: bytes) -> AsyncIterator[bytes]:
        async for reply in _created(request):
            yield reply
            yield _fragment(1, fragment=False, watch_id=watch_id)

    async def main() -> None:
        async with fake(Watch=foreign) as url, watched(url, "a/") as (sync, probe):
            await eventually(
                lambda: "does not answer as etcd" in (sync.status().sources[0].error or "")
            )
            assert not probe.changes

    asyncio.run(main())


@pytest.mark.parametrize("created", [True, False])
def test_what_is_no_message_of_a_watch_is_named(created: bool) -> None:
    """It does not look like the end of the watch, which is nothing out of the ordinary."""

    async def noise(request: bytes) -> AsyncIterator[bytes]:
        async for reply in _created(request):
            if created:
                yield reply
            yield _GARBAGE

    async def main() -> None:
        async with fake(Watch=noise) as url, DataSync(url, **QUICK) as sync:
            sync.watch("all", "a/")
            await eventually(
                lambda: "does not answer as etcd" in (sync.status().sources[0].error or ""), 60
            )

    asyncio.run(main())


@pytest.mark.parametrize(
    "status", [_GARBAGE, b"", pb.StatusResponse(version="9" * 9_999).SerializeToString()]
)
def test_a_status_that_is_none(status: bytes) -> None:
    """Whatever it makes of the rest, it is no unexpected error."""

    async def main() -> None:
        async with (
            fake(Status=lambda _: status, Range=lambda _: _GARBAGE) as url,
            asyncio.timeout(60),
        ):
            source = open_url(url)
            with pytest.raises(Disconnected):
                await source.get("a")
            await source.aclose()

    asyncio.run(main())


def test_a_value_that_is_too_large_is_read_once_it_is_allowed() -> None:
    """With a real server: many that are too large together are read in smaller pages."""

    async def main() -> None:
        async with etcd_server(DEBIAN) as server:
            source = open_url(server.url)
            await source.commit([Put("a/huge", b"x" * (_MIB + 100_000))])
            async with watched(f"{server.url}?{_LIMIT}", "a/") as (sync, _):
                await eventually(lambda: "max_answer=" in (sync.status().sources[0].error or ""))
                with pytest.raises(AnswerTooLarge, match="max_answer="):
                    await sync.get("a/huge")
                await source.commit([Delete("a/huge")])
                for number in range(8):
                    await source.commit([Put(f"a/{number}", b"x" * 500_000)])
                await eventually(lambda: state_of(sync) == "following")
                await sync.ready(60)
            await source.aclose()

    asyncio.run(main())


def test_a_bound_that_is_none() -> None:
    with pytest.raises(BadUrl, match="max_answer= takes a number of bytes >= 65536"):
        open_url("etcd://127.0.0.1:1?max_answer=1")
