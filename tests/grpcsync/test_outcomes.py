"""Outcomes by key over gRPC: our own service has them, the Go package's knows them as refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from datasync import (
    DataSync,
    Failed,
    NotApplied,
    Outcomes,
    OutcomeUnknown,
    Pending,
    Refused,
    Verdict,
)
from datasync.errors import Said
from datasync.grpcsync import datasync_pb2 as pb
from datasync.grpcsync import service, wire
from datasync.outcome import KeyOutcome, Result
from datasync.source import Committed
from tests.helpers.grpc.agents import change, changes, client, resync
from tests.helpers.servers import free_ports

Run = Callable[[Coroutine[Any, Any, None]], None]

SAID: Mapping[str, Said] = {
    "config/a": Pending("no eth0"),
    "config/b": Failed("busy"),
    "config/c": Refused("no"),
}
OUTCOMES = {
    "config/a": KeyOutcome(Verdict.PENDING, "no eth0"),
    "config/b": KeyOutcome(Verdict.FAILED, "busy"),
    "config/c": KeyOutcome(Verdict.REFUSED, "no"),
}
APPLIED, REFUSED, FAILED = 0, 1, 2


def listening(port: int, seconds: float = 0.0) -> DataSync:
    """An agent whose watch takes so long, and says of each key what `SAID` has of it."""
    sync = DataSync(f"grpc://127.0.0.1:{port}?initial=empty")

    @sync.watcher("config/")
    async def handle(event: Any) -> None:
        await asyncio.sleep(seconds)
        written = [one.key for one in event.changes if one.raw is not None]
        raise Outcomes({key: SAID[key] for key in written if key in SAID})

    return sync


def test_a_client_hears_of_each_key_and_a_rooted_one_by_its_own_names(run: Run) -> None:
    async def main() -> None:
        [port] = free_ports(1)
        url = f"grpc://127.0.0.1:{port}?timeout=60"
        async with listening(port), DataSync(url) as sync, DataSync(url, prefix="config/") as below:
            txn = sync.txn()
            for name in "abcd":
                txn.put(f"config/{name}", b"1")
            with pytest.raises(NotApplied) as caught:
                await txn.commit(confirm=True)
            assert (caught.value.verdict, caught.value.outcomes) == (Verdict.FAILED, OUTCOMES)
            assert caught.value.reasons == {"config/c": "no"}
            with pytest.raises(NotApplied) as caught:
                await below.put("a", b"2", confirm=True)
            assert caught.value.verdict is Verdict.PENDING
            assert caught.value.outcomes == {"a": OUTCOMES["config/a"]}

    run(main())


def test_the_service_of_the_go_package_knows_pending_as_refused(run: Run) -> None:
    async def main() -> None:
        [port] = free_ports(1)
        async with listening(port), client(f"127.0.0.1:{port}") as stub:
            keys = [*SAID, "config/d"]
            replies = await changes(stub, [change(key, b"1") for key in keys])
            assert [(reply.result, reply.error.message) for reply in replies] == [
                (REFUSED, "no eth0"), (FAILED, "busy"), (REFUSED, "no"), (APPLIED, ""),
            ]  # fmt: skip
            whole = await resync(stub, [("config/a", b"2"), ("config/c", b"2"), ("config/d", b"2")])
            assert whole.error.message == "config/a: no eth0; config/c: no"
            assert [(item.result, item.error.message) for item in whole.dataResyncs.replies] == [
                (REFUSED, "no eth0"),
                (REFUSED, "no"),
                (APPLIED, ""),
            ]
            whole = await resync(stub, [("config/b", b"3"), ("config/d", b"3")])
            assert whole.dataResyncs.replies[0].error.message == "busy"
            assert {item.result for item in whole.dataResyncs.replies} == {FAILED}

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_a_verdict_that_is_not_known_here_is_an_unknown_outcome(
    run: Run, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    def newer(number: int, committed: Committed, result: Result | None) -> pb.CommitReply:
        reply = wire.reply_of(number, committed, result)
        if result is None:
            return reply
        reply.ClearField("outcomes")
        reply.verdict = 99  # type: ignore[assignment]
        return reply

    async def main() -> None:
        [port] = free_ports(1)
        monkeypatch.setattr(service, "reply_of", newer)
        url = f"grpc://127.0.0.1:{port}?timeout=60"
        async with listening(port, 0.2 if late else 0.0), DataSync(url) as sync:
            with pytest.raises(
                OutcomeUnknown, match="verdict of the watches, 99, is not known here"
            ):
                await sync.put("config/a", b"1", confirm=True)
            await sync.txn().put("config/d", b"1").commit()  # the stream goes on
            kept = await sync.get("config/a")
            assert kept is not None

    run(main())


def test_an_outcome_of_a_key_that_is_not_known_here_is_one_too() -> None:
    reply = pb.CommitReply(verdict="PENDING")
    reply.outcomes["a"].verdict = 99  # type: ignore[assignment]
    with pytest.raises(OutcomeUnknown, match="99, is not known here; update datasync"):
        wire.result_of(reply)
