"""The service of the Go package, spoken by a client of the plain protobuf tools,
and by the Go package's own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datasync import DataSync, OutcomeUnknown, ResyncEvent, Unauthorized, Verdict, open_url
from datasync.grpcsync.server import Server
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.serving.inbox import Inbox
from datasync.source import Committed, Operation, Result
from datasync.testing.contract import eventually
from tests.helpers.grpc.agents import agent, change, changes, client, go_client, resync
from tests.helpers.grpc.plain import msg_pb2 as msg
from tests.helpers.servers import free_ports

Run = Callable[[Coroutine[Any, Any, None]], None]
APPLIED, REFUSED, FAILED, OVERDUE, UNWATCHED, NOT_READY, INVALID, NOT_WRITTEN, UNKNOWN = range(9)


def test_ping(run: Run) -> None:
    async def main() -> None:
        async with agent() as one, client(one.address) as stub:
            assert (await stub.ping(msg.PingRequest(message="hello"))).message == "it works"

    run(main())


def test_one_timer_watches_over_all_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one, client(one.address) as stub:
            loop, timers = asyncio.get_running_loop(), 0
            call_at = loop.call_at

            def counted(*args: Any, **more: Any) -> asyncio.TimerHandle:
                nonlocal timers
                timers += 1
                return call_at(*args, **more)

            monkeypatch.setattr(loop, "call_at", counted)
            replies = await changes(stub, [change(f"other/{n}", b"1") for n in range(300)])
            assert len(replies) == 300
            assert timers < 30  # that of a call, and one for its answers: none for each

    run(main())


def test_each_change_is_answered_in_order_with_its_result(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one, client(one.address) as stub:
            requests = [
                change("config/a", b"1"), change("config/bad/b", b"2"), change("broken/c", b"3"),
                change("other/d", b"4"), change("", b"5"), change("slow/e", b"6"),
                change("config/a", None),
                change("config/a", b"7"), msg.DataChangeRequest(key="config/x", operationType=9),  # type: ignore[arg-type]
            ]  # fmt: skip
            replies = await changes(stub, requests)
            assert [reply.key for reply in replies] == [request.key for request in requests]
            assert [reply.operationType for reply in replies] == [
                request.operationType for request in requests
            ]
            assert [reply.result for reply in replies] == [
                APPLIED, REFUSED, FAILED, UNWATCHED, INVALID, OVERDUE, APPLIED, APPLIED, INVALID,
            ]  # fmt: skip
            assert [reply.HasField("error") for reply in replies] == [
                reply.result != APPLIED for reply in replies
            ]
            assert replies[1].error.message == "no such bridge: config/bad/b"
            assert "nobody watches" in replies[3].error.message
            assert [reply.changeId.seq for reply in replies] == list(range(1, 10))
            assert (
                len(
                    {(reply.changeId.originator, reply.changeId.seqCreatedSec) for reply in replies}
                )
                == 1
            )
            assert one.state == {"config/a": b"7"}  # `prev` was held against it at each step
            revisions = [
                event.revision for event in one.events if not isinstance(event, ResyncEvent)
            ]
            assert revisions == sorted(set(revisions))

    run(main())


def test_a_change_before_the_first_resync_is_not_taken(run: Run) -> None:
    async def main() -> None:
        async with agent() as one, client(one.address) as stub:
            [reply] = await changes(stub, [change("config/a", b"1")])
            assert reply.result == NOT_READY
            assert "initial=empty" in reply.error.message
            assert not one.events
            assert (await resync(stub, [("config/b", b"2")])).dataResyncs.replies[
                0
            ].result == APPLIED
            assert one.state == {"config/b": b"2"}

    run(main())


def test_a_resync_replaces_everything_and_is_answered_key_by_key(run: Run) -> None:
    async def main() -> None:
        async with agent() as one, client(one.address) as stub:
            reply = await resync(stub, [("config/a", b"1"), ("config/bad/b", b"2")], number=7)
            assert (reply.msgId.originator, reply.msgId.seqCreatedSec, reply.msgId.seq) == (
                "test",
                1,
                7,
            )
            assert [
                (item.key, item.result, item.error.message) for item in reply.dataResyncs.replies
            ] == [
                ("config/a", APPLIED, ""),
                ("config/bad/b", REFUSED, "no such bridge: config/bad/b"),
            ]
            assert all(item.resyncId.seq == 7 for item in reply.dataResyncs.replies)
            assert "no such bridge" in reply.error.message
            assert one.state == {"config/a": b"1"}
            reply = await resync(stub, [("config/c", b"3")])
            assert not reply.HasField("error")
            assert one.state == {"config/c": b"3"}
            assert [reply.result for reply in await changes(stub, [change("config/c", b"4")])] == [
                APPLIED
            ]
            reply = await resync(stub, [])  # everything is gone
            assert not reply.HasField("error")
            assert one.state == {}
            assert (await resync(stub, [("", b"")])).dataResyncs.replies[0].result == INVALID

    run(main())


def test_a_client_that_breaks_off_leaves_what_was_acknowledged_and_perhaps_more(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one:
            async with client(one.address) as stub:

                async def endless() -> AsyncIterator[msg.DataChangeRequest]:
                    for number in range(1_000_000):
                        yield change("config/n", b"%d" % number)
                        await asyncio.sleep(0)

                answered = 0
                async for _ in stub.dataChanges(endless()):
                    answered += 1
                    if answered == 50:
                        break
            revision = one.events[-1].revision
            assert int(one.state["config/n"]) >= 49
            async with client(one.address) as stub:
                [reply] = await changes(stub, [change("config/m", b"1")])
                assert reply.result == APPLIED
            written = [event.changes for event in one.events if not isinstance(event, ResyncEvent)]
            values = [int(changed.raw or b"") for [changed] in written if changed.key == "config/n"]
            assert values == list(range(len(values)))  # each once, and nothing beyond
            assert one.events[-1].revision > revision

    run(main())


def test_a_client_that_does_not_read_is_made_to_wait_and_others_are_not(run: Run) -> None:
    async def main() -> None:
        async with (
            agent("?initial=empty") as one,
            client(one.address) as stub,
            client(one.address) as other,
        ):
            sent = 0
            content = bytes(10_000)

            async def flood() -> None:
                nonlocal sent
                call = stub.dataChanges()
                while True:
                    await call.write(change(f"config/{sent}", content))
                    sent += 1

            flooding = asyncio.create_task(flood())
            await eventually(lambda: sent > 500)
            for number in range(20):
                [reply] = await changes(other, [change("config/x", b"%d" % number)])
                assert reply.result == APPLIED
            flooding.cancel()
            await asyncio.wait([flooding])

    run(main())


@pytest.mark.once
def test_the_client_that_the_go_package_brings(run: Run) -> None:
    program = go_client()

    async def go(address: str, *words: str) -> list[Any]:
        process = await asyncio.create_subprocess_exec(
            program, address, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return [json.loads(line) for line in out.splitlines()]

    async def main() -> None:
        async with agent() as one:
            assert await go(one.address, "ping", "hello") == [{"message": "it works"}]
            [reply] = await go(one.address, "resync", "config/a=1", "config/bad/b=2")
            assert reply["msgId"] == {"originator": "go", "seqCreatedSec": 7, "seq": 42}
            results = [
                (item["key"], item.get("result", 0)) for item in reply["dataResyncs"]["replies"]
            ]
            assert results == [("config/a", APPLIED), ("config/bad/b", REFUSED)]
            words = [
                "put:config/a=2",
                "put:config/bad/c=3",
                "put:other=4",
                "del:config/a",
                "put:config/d=5",
            ]
            replies = await go(one.address, "change", *words)
            assert [reply.get("result", 0) for reply in replies] == [
                APPLIED,
                REFUSED,
                UNWATCHED,
                APPLIED,
                APPLIED,
            ]
            assert [reply["changeId"]["seq"] for reply in replies] == [1, 2, 3, 4, 5]
            assert replies[1]["error"]["message"] == "no such bridge: config/bad/c"
            assert one.state == {"config/d": b"5"}

    run(main())


def test_served_stores_take_changes_but_no_resync(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        [port] = free_ports(1)
        store = f"sqlite:///{tmp_path}/net.db"
        hub = Hub(open_url(store))
        async with (
            hub,
            Server(Access("server", "127.0.0.1", port), hub),
            client(f"127.0.0.1:{port}") as stub,
        ):
            replies = await changes(stub, [change("a", b"1"), change("b", b"2"), change("a", None)])
            assert [reply.result for reply in replies] == [APPLIED] * 3
            reply = await resync(stub, [("c", b"3")])
            assert "takes no RESYNC" in reply.error.message
            async with DataSync(store) as sync:
                assert [kv.key async for kv in sync.list()] == ["b"]

    run(main())


def test_a_source_that_fails_in_odd_ways_is_an_answer_too(run: Run) -> None:
    class Odd(Inbox):
        async def commit(
            self, operations: Sequence[Operation], *, reply: bool = False
        ) -> Committed:
            [operation] = operations
            if operation.key == "mistake":
                raise RuntimeError("a mistake")
            if operation.key == "unauthorized":
                raise Unauthorized("the store has changed its password")
            committed = await super().commit(operations)
            verdict: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            if operation.key == "lost":
                verdict.set_exception(OutcomeUnknown("lost before the watches reported"))
            else:
                verdict.set_result(Result(Verdict.ACCEPTED))
            return msgspec.structs.replace(committed, result=verdict)

    async def main() -> None:
        [port] = free_ports(1)
        hub = Hub(Odd("odd", empty=True))
        async with (
            hub,
            Server(Access("server", "127.0.0.1", port), hub),
            client(f"127.0.0.1:{port}") as stub,
        ):
            keys = ["a", "mistake", "unauthorized", "lost", "b"]
            replies = await changes(stub, [change(key, b"1") for key in keys])
            assert [reply.result for reply in replies] == [
                APPLIED,
                UNKNOWN,
                NOT_WRITTEN,
                UNKNOWN,
                APPLIED,
            ]
            async with DataSync(f"grpc://127.0.0.1:{port}") as sync:
                assert await sync.put("a", b"2", confirm=True)
                for key in ("mistake", "lost"):
                    with pytest.raises(OutcomeUnknown):
                        await sync.put(key, b"2", confirm=True)
                with pytest.raises(Unauthorized):
                    await sync.put("unauthorized", b"2", confirm=True)

    run(main())
